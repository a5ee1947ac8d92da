//! The workspace as cargo describes it: root, packages, their edges and our own metadata keys.
//!
//! Only what the commands here need of `cargo metadata`; nothing is cached between runs.

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;
use std::path::{Path, PathBuf};
use std::process::Command;

/// `cargo metadata --no-deps` of this workspace.
#[derive(Debug, Deserialize)]
pub struct Workspace {
    /// Folder of the root manifest.
    #[serde(rename = "workspace_root")]
    pub root: PathBuf,
    /// Every member, sorted by cargo.
    pub packages: Vec<Package>,
}

/// A member of the workspace.
#[derive(Debug, Deserialize)]
pub struct Package {
    pub name: String,
    pub manifest_path: PathBuf,
    /// Direct dependencies of every kind, ours and others'.
    pub dependencies: Vec<Dependency>,
    /// `[package.metadata]`, null where absent.
    #[serde(default)]
    pub metadata: serde_json::Value,
    pub targets: Vec<Target>,
}

/// A direct dependency as the manifest declares it.
#[derive(Debug, Deserialize)]
pub struct Dependency {
    pub name: String,
    /// `None` is a normal dependency, else `dev` or `build`.
    pub kind: Option<String>,
    /// Set for our own crates, which are path dependencies.
    pub path: Option<PathBuf>,
}

/// Something that cargo builds out of a package.
#[derive(Debug, Deserialize)]
pub struct Target {
    pub kind: Vec<String>,
}

impl Workspace {
    /// Asks cargo, in the workspace that this program belongs to.
    pub fn load() -> Result<Self> {
        let output = cargo(&root())
            .args(["metadata", "--format-version=1", "--no-deps"])
            .output()
            .context("failed to run cargo metadata")?;
        if !output.status.success() {
            bail!("cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
        }
        serde_json::from_slice(&output.stdout).context("failed to read the output of cargo metadata")
    }
}

impl Package {
    /// Folder of the package's manifest.
    pub fn folder(&self) -> &Path {
        self.manifest_path.parent().unwrap_or(&self.manifest_path)
    }

    /// Whether the package declares `[package.metadata.paas] guest = true`: its programs run inside sandboxes.
    pub fn is_guest(&self) -> bool {
        self.metadata
            .pointer("/paas/guest")
            .and_then(serde_json::Value::as_bool)
            == Some(true)
    }

    /// Whether it has a program to build.
    pub fn has_program(&self) -> bool {
        self.targets
            .iter()
            .any(|target| target.kind.iter().any(|kind| kind == "bin"))
    }
}

/// The workspace's root, two folders above this package.
pub fn root() -> PathBuf {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    own.ancestors().nth(2).unwrap_or(own).to_path_buf()
}

/// A cargo command in `folder`, the same cargo that runs this program.
pub fn cargo(folder: &Path) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(folder);
    // Of the package that `cargo run` started, not of the ones to be built.
    for name in [
        "CARGO_MANIFEST_DIR",
        "CARGO_MANIFEST_PATH",
        "CARGO_PKG_NAME",
        "CARGO_PKG_VERSION",
    ] {
        command.env_remove(name);
    }
    command
}
