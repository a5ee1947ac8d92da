//! Which crate may use which: the table of `ARCHITECTURE.md`, and the libraries that only one crate may link.

use super::Finding;
use crate::workspace::{Package, Workspace};
use std::path::Path;

/// Every crate with the crates it may use. A crate that is not here has no place yet.
const EDGES: [(&str, &[&str]); 18] = [
    ("model", &[]),
    ("scheduler", &["model"]),
    ("api", &["model"]),
    ("identity", &["api", "model"]),
    ("image", &["model"]),
    ("store", &["model"]),
    ("blobstore", &["model"]),
    ("telemetry", &[]),
    ("ssh", &["model"]),
    (
        "controller",
        &[
            "api",
            "identity",
            "image",
            "model",
            "store",
            "scheduler",
            "blobstore",
            "telemetry",
            "ssh",
        ],
    ),
    (
        "cell",
        &["api", "identity", "model", "sandbox", "blobstore", "telemetry"],
    ),
    ("sandbox", &[]),
    ("lifecycle", &["image", "model", "buildpack-kit"]),
    ("router", &["api", "identity", "model", "telemetry"]),
    ("cli", &["api", "image", "model"]),
    (
        "paasd",
        &[
            "controller",
            "cell",
            "router",
            "identity",
            "model",
            "blobstore",
            "sandbox",
            "telemetry",
        ],
    ),
    ("xtask", &[]),
    ("buildpack-kit", &[]),
];

/// Libraries that only one crate may link, and those that pure crates may not.
const OWNED: [(&str, &str); 4] = [
    ("sqlx", "store"),
    ("tracing-subscriber", "telemetry"),
    ("object_store", "blobstore"),
    ("russh", "ssh"),
];
const PURE: [&str; 2] = ["model", "scheduler"];
const IMPURE: [&str; 7] = ["tokio", "axum", "hyper", "reqwest", "rand", "nix", "rustix"];

pub(super) fn check(workspace: &Workspace) -> Vec<Finding> {
    workspace
        .packages
        .iter()
        .flat_map(|package| check_package(workspace, package))
        .collect()
}

fn check_package(workspace: &Workspace, package: &Package) -> Vec<Finding> {
    let path = package
        .manifest_path
        .strip_prefix(&workspace.root)
        .unwrap_or(&package.manifest_path);
    let name = package.name.as_str();
    let mut findings = Vec::new();
    let mut found = |message| findings.push(Finding::new(path, 0, "edges", message));
    if path.starts_with("crates") && package.folder().file_name() != Some(name.as_ref()) {
        found(format!("the folder of crate {name} is not named like it"));
    }
    let Some(allowed) = allowed(name, path) else {
        found(format!("crate {name} is not in the table of edges"));
        return findings;
    };
    let shipped = package
        .dependencies
        .iter()
        .filter(|dependency| dependency.kind.as_deref() != Some("dev"));
    for dependency in shipped {
        let target = dependency.name.as_str();
        if dependency.path.is_some() && !allowed.is_none_or(|allowed| allowed.contains(&target)) {
            found(format!("{name} may not use {target}"));
        }
        if let Some((_, owner)) = OWNED
            .iter()
            .find(|(library, owner)| *library == target && *owner != name)
        {
            found(format!("only {owner} may use {target}"));
        }
        if PURE.contains(&name) && IMPURE.contains(&target) {
            found(format!("{name} is pure and may not use {target}"));
        }
    }
    findings
}

/// What a crate may use: `Some(None)` is everything, `None` an unknown crate.
fn allowed(name: &str, manifest: &Path) -> Option<Option<&'static [&'static str]>> {
    // Suites may look at everything.
    if name == "tests" || name == "fuzz" {
        return Some(None);
    }
    let listed = EDGES
        .iter()
        .find(|(listed, _)| *listed == name)
        .map(|(_, allowed)| Some(*allowed));
    // Buildpacks have no private door: nothing of ours but what they share among themselves.
    listed.or_else(|| manifest.starts_with("buildpacks").then_some(Some(&["buildpack-kit"])))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace::Dependency;

    fn findings(name: &str, folder: &str, dependencies: &[(&str, bool, Option<&str>)]) -> Vec<String> {
        let dependencies = dependencies.iter().map(|(name, ours, kind)| Dependency {
            name: (*name).to_owned(),
            kind: kind.map(str::to_owned),
            path: ours.then(|| format!("/x/crates/{name}").into()),
        });
        let package = Package {
            name: name.to_owned(),
            manifest_path: format!("/x/{folder}/Cargo.toml").into(),
            dependencies: dependencies.collect(),
            metadata: serde_json::Value::Null,
            targets: Vec::new(),
        };
        let workspace = Workspace {
            root: "/x".into(),
            packages: vec![package],
        };
        check(&workspace).into_iter().map(|finding| finding.message).collect()
    }

    #[test]
    fn edges_are_those_of_the_table() {
        assert!(
            findings(
                "cell",
                "crates/cell",
                &[("sandbox", true, None), ("tokio", false, None)]
            )
            .is_empty()
        );
        assert_eq!(
            findings("cell", "crates/cell", &[("store", true, None)]),
            ["cell may not use store"]
        );
        assert!(findings("cell", "crates/cell", &[("store", true, Some("dev"))]).is_empty());
        assert_eq!(
            findings("cell", "crates/cell", &[("sqlx", false, None)]),
            ["only store may use sqlx"]
        );
        assert_eq!(findings("model", "crates/model", &[("tokio", false, None)]).len(), 1);
        assert_eq!(
            findings("extra", "crates/extra", &[]),
            ["crate extra is not in the table of edges"]
        );
        assert_eq!(findings("cell", "crates/agent", &[]).len(), 1);
        assert!(findings("buildpack-x", "buildpacks/x", &[("buildpack-kit", true, None)]).is_empty());
        assert_eq!(
            findings("buildpack-x", "buildpacks/x", &[("model", true, None)]).len(),
            1
        );
    }
}
