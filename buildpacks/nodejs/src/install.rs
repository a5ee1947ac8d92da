//! Dependencies as the lock file has them, in layers keyed by everything that decides what gets installed. With the same key
//! nothing is run, read or copied.

use crate::layout;
use crate::manager::Manager;
use crate::package::Package;
use crate::runtime::Runtime;
use buildpack_kit::{BuildContext, Failure, Layer, Result, Types, command, key, output};
use std::collections::HashSet;
use std::ffi::OsString;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use walkdir::WalkDir;

/// Changes whenever what is put into the layers does.
const LAYOUT: &str = "1";
/// Variables that change what managers install.
const SETTINGS: &[&str] = &["npm_config_", "NPM_CONFIG_", "YARN_", "PNPM_"];
/// Such variables that only say where things come from.
const SOURCES: &[&str] = &["npm_config_registry", "npm_config_cafile", "NPM_CONFIG_REGISTRY"];

/// Everything an installation works with.
pub struct Installer<'a> {
    /// The build.
    pub context: &'a BuildContext,
    /// The app's package.json.
    pub package: &'a Package,
    /// Node.js.
    pub runtime: &'a Runtime,
    /// The package manager.
    pub manager: &'a Manager,
    /// Its version.
    pub manager_version: &'a str,
    /// Short-lived files.
    pub tmp: &'a Path,
}

impl Installer<'_> {
    /// Fills the layer `name` with the app's dependencies, unless it has them, and links them into the app.
    ///
    /// # Errors
    /// Where they cannot be installed, with the cause that the manager's output tells.
    pub fn install(&self, name: &str, development: bool, types: Types) -> Result<Layer> {
        let key = self.key(development)?;
        let mut layer = self.context.layer(name);
        let app = &self.context.app;
        if layer.is(&key) {
            output::headline("Dependencies: unchanged, reused");
        } else {
            layout::clear(app, self.links())?;
            self.run(development)?;
            layer.reset()?;
            layout::move_out(app, &layer.dir, self.links())?;
        }
        layout::clear(app, self.links())?;
        layout::link(app, &layer.dir, self.links())?;
        layer.keep(types, &key, &[])?;
        Ok(layer)
    }

    /// Whether packages of the app itself are linked among its dependencies.
    #[must_use]
    pub fn links(&self) -> bool {
        self.package.has_workspaces || self.context.app.join("pnpm-workspace.yaml").is_file()
    }

    /// The key of what [`Installer::install`] makes.
    ///
    /// # Errors
    /// Where a file that goes into it cannot be read.
    pub fn key(&self, development: bool) -> Result<String> {
        let app = &self.context.app;
        let mut parts: Vec<Vec<u8>> = vec![
            LAYOUT.into(),
            self.package.dependency_fields().into(),
            self.runtime.version.clone().into(),
            self.manager.program().into(),
            self.manager_version.into(),
            self.manager.install_arguments(development).join(" ").into(),
            app.as_os_str().as_encoded_bytes().to_vec(),
        ];
        let files = [
            self.manager.lock().unwrap_or_default(),
            ".npmrc",
            ".yarnrc",
            ".yarnrc.yml",
            "pnpm-workspace.yaml",
            ".pnpmfile.cjs",
        ];
        for file in files.into_iter().filter(|file| !file.is_empty()) {
            parts.push(file.into());
            parts.push(std::fs::read(app.join(file)).unwrap_or_default());
        }
        for (name, value) in &self.context.variables.0 {
            let text = name.to_string_lossy();
            if SETTINGS.iter().any(|prefix| text.starts_with(prefix)) && !SOURCES.contains(&text.as_ref()) {
                parts.push(name.as_encoded_bytes().to_vec());
                parts.push(value.as_encoded_bytes().to_vec());
            }
        }
        let scripts = self.package.install_scripts();
        for (name, script) in &scripts {
            parts.push(format!("{name}={script}").into());
        }
        if matches!(self.manager, Manager::Berry { .. }) {
            // Patches of packages, and plugins.
            source_files(&app.join(".yarn"), false, &mut parts)?;
        }
        // Scripts that run while installing may read any file; links may lead to any package.json of the app.
        if !scripts.is_empty() || self.links() {
            source_files(app, scripts.is_empty(), &mut parts)?;
        }
        let parts: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
        Ok(key(&parts))
    }

    fn run(&self, development: bool) -> Result<()> {
        let program = self.manager.program();
        let arguments = self.manager.install_arguments(development);
        if self.manager.lock().is_none() && self.package.has_dependencies {
            output::alert("No lock file: every build may install other versions than the one before.");
            output::alert("Run `npm install` and push package-lock.json with the app.");
        }
        output::headline(&format!("Dependencies: {program} {}", arguments.join(" ")));
        let outcome = command::run(self.command(program).args(&arguments)).map_err(|error| {
            Failure::new(
                format!("{program} could not be started: {error}"),
                "Report this to the operator.",
            )
        })?;
        if outcome.status.success() {
            return Ok(());
        }
        let killed = outcome.status.signal() == Some(9) || outcome.status.code() == Some(137);
        Err(explain(program, &outcome.tail, killed))
    }

    /// A command with Node.js, the manager and the app's own programs on its path, and the manager's habits set.
    pub fn command(&self, program: &str) -> Command {
        let variables = &self.context.variables;
        let mut path = OsString::new();
        for folder in [
            self.context.app.join("node_modules/.bin"),
            self.runtime.dir.join("bin"),
            self.context.layers.join("manager/bin"),
        ] {
            path.push(folder);
            path.push(":");
        }
        path.push(variables.get("PATH").unwrap_or("/usr/local/bin:/usr/bin:/bin"));
        let mut command = Command::new("/usr/bin/env");
        command
            .arg(program)
            .current_dir(&self.context.app)
            .env("PATH", path)
            .env("CI", "true")
            // Development dependencies are asked for by argument; this would contradict it.
            .env_remove("NODE_ENV")
            .env("npm_config_cache", self.tmp.join("npm"))
            .env("npm_config_devdir", self.tmp.join("gyp"))
            .env("npm_config_nodedir", &self.runtime.dir)
            .env("npm_config_store_dir", self.tmp.join("pnpm"))
            .env("YARN_CACHE_FOLDER", self.tmp.join("yarn"))
            .env("COREPACK_ENABLE_STRICT", "0")
            .envs(self.berry())
            .env("npm_config_manage_package_manager_versions", "false");
        for (name, value) in [
            ("audit", "false"),
            ("fund", "false"),
            ("update_notifier", "false"),
            ("progress", "false"),
        ] {
            command.env(format!("npm_config_{name}"), value);
        }
        command
    }

    /// Settings of Yarn 2 and later, which look like none of the others'.
    fn berry(&self) -> Vec<(&'static str, OsString)> {
        let Manager::Berry { .. } = self.manager else {
            return Vec::new();
        };
        let mut settings: Vec<(&str, OsString)> = vec![
            // Whatever else the app says: a layer of `node_modules` is what the app gets.
            ("YARN_NODE_LINKER", "node-modules".into()),
            ("YARN_IGNORE_PATH", "1".into()),
            ("YARN_ENABLE_TELEMETRY", "0".into()),
            ("YARN_ENABLE_PROGRESS_BARS", "0".into()),
            ("YARN_ENABLE_COLORS", "0".into()),
            ("YARN_ENABLE_INLINE_BUILDS", "1".into()),
            ("YARN_ENABLE_GLOBAL_CACHE", "1".into()),
            ("YARN_GLOBAL_FOLDER", self.tmp.join("yarn-global").into()),
            ("YARN_INSTALL_STATE_PATH", self.tmp.join("install-state.gz").into()),
        ];
        let variables = &self.context.variables;
        let registry = ["npm_config_registry", "NPM_CONFIG_REGISTRY"]
            .iter()
            .find_map(|name| variables.get(name));
        settings.extend(registry.map(|url| ("YARN_NPM_REGISTRY_SERVER", url.into())));
        settings.extend(
            variables
                .get("SSL_CERT_FILE")
                .map(|file| ("YARN_HTTPS_CA_FILE_PATH", file.into())),
        );
        settings
    }

    /// Relative paths in the layer that are for development only, as npm noted them when it installed.
    #[must_use]
    pub fn development_paths(layer: &Path) -> HashSet<PathBuf> {
        let text = std::fs::read_to_string(layer.join("node_modules/.package-lock.json")).unwrap_or_default();
        let lock: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
        let packages = lock.get("packages").and_then(serde_json::Value::as_object);
        let is_on = |value: &serde_json::Value, name: &str| value.get(name) == Some(&serde_json::Value::Bool(true));
        let mut paths: HashSet<PathBuf> = packages
            .into_iter()
            .flatten()
            .filter(|(_, value)| is_on(value, "dev") || is_on(value, "extraneous"))
            .map(|(path, _)| PathBuf::from(path))
            .collect();
        paths.insert(layout::TOOL_CACHE.into());
        // It names what is no longer there.
        paths.insert("node_modules/.package-lock.json".into());
        paths
    }
}

/// Names and contents of the app's files, or only of each package.json.
fn source_files(app: &Path, only_packages: bool, parts: &mut Vec<Vec<u8>>) -> Result<()> {
    let unwanted = |entry: &walkdir::DirEntry| entry.file_name() == "node_modules" || entry.file_name() == ".git";
    let walk = WalkDir::new(app)
        .sort_by_file_name()
        .into_iter()
        .filter_entry(|entry| !unwanted(entry));
    for entry in walk.filter_map(|entry| entry.ok()) {
        if entry.file_type().is_file() && (!only_packages || entry.file_name() == "package.json") {
            parts.push(entry.path().as_os_str().as_encoded_bytes().to_vec());
            let content = std::fs::read(entry.path()).map_err(Failure::file("read", entry.path()))?;
            parts.push(key(&[&content]).into());
        }
    }
    Ok(())
}

/// What the end of a manager's output means.
fn explain(program: &str, tail: &str, killed: bool) -> Failure {
    let has = |words: &[&str]| words.iter().any(|word| tail.contains(word));
    if killed {
        return Failure::new(
            format!("{program} was killed, most likely for its memory"),
            "Raise the staging memory, or install less.",
        );
    }
    if has(&[
        "code EUSAGE",
        "ERR_PNPM_OUTDATED_LOCKFILE",
        "lockfile needs to be updated",
        "YN0028",
    ]) {
        return Failure::new(
            "package.json and the lock file disagree",
            format!("Run `{program} install`, see that the app still works, and push the new lock file."),
        );
    }
    if has(&["code ERESOLVE"]) {
        return Failure::new(
            "two packages need versions of a third that exclude each other (see above)",
            "Change one of them; or add `legacy-peer-deps=true` to .npmrc, as it may have been where you installed.",
        );
    }
    if has(&[
        "ENOTFOUND",
        "EAI_AGAIN",
        "ETIMEDOUT",
        "ECONNREFUSED",
        "ECONNRESET",
        "SELF_SIGNED",
        "UNABLE_TO_",
    ]) {
        return Failure::new(
            "a package registry could not be reached (see above)",
            "Try again; if it persists, the operator checks the egress policy, the proxy and the mirror settings of staging. \
             A lock file that names a private host needs that host to be reachable.",
        );
    }
    if has(&["code E404", "ERR_PNPM_FETCH_404", "YN0035"]) {
        return Failure::new(
            "a package or a version does not exist in the registry (see above)",
            "Repair its name or version; a private package needs its registry in .npmrc.",
        );
    }
    if has(&["code E401", "code E403"]) {
        return Failure::new(
            "a registry refuses access to a package (see above)",
            "Set the token as a variable of the app, and refer to it in .npmrc as ${NAME}.",
        );
    }
    if has(&["gyp ERR!", "node-gyp"]) {
        return Failure::new(
            "a native module could not be compiled (see above)",
            "Use a stack with a compiler, make and Python, or a version of the module with ready-made programs.",
        );
    }
    Failure::new(
        format!("{program} could not install the dependencies (see above)"),
        format!("Run the same `{program}` command in a fresh copy of the app: it should fail in the same way."),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_manager_s_last_words_become_a_cause() {
        for (tail, part) in [
            ("npm error code EUSAGE\nnpm error `npm ci` can only install", "disagree"),
            ("npm error code ERESOLVE", "exclude each other"),
            ("npm error code ENOTFOUND", "could not be reached"),
            ("npm error code E404", "does not exist"),
            (
                "YN0028: The lockfile would have been modified by this install",
                "disagree",
            ),
            ("gyp ERR! stack", "native module"),
            ("anything", "see above"),
        ] {
            assert!(explain("npm", tail, false).cause.contains(part), "{tail}");
        }
        assert!(explain("npm", "", true).cause.contains("killed"));
    }

    #[test]
    fn what_is_for_development_is_known_from_npm() {
        let folder = tempfile::tempdir().unwrap();
        let modules = folder.path().join("node_modules");
        std::fs::create_dir(&modules).unwrap();
        let lock =
            r#"{"packages":{"node_modules/a":{},"node_modules/b":{"dev":true},"node_modules/c":{"devOptional":true}}}"#;
        std::fs::write(modules.join(".package-lock.json"), lock).unwrap();
        let paths = Installer::development_paths(folder.path());
        assert!(paths.contains(Path::new("node_modules/b")) && !paths.contains(Path::new("node_modules/a")));
        assert!(
            !paths.contains(Path::new("node_modules/c")),
            "an optional peer may be needed at run time"
        );
    }
}
