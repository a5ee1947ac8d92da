//! The build, step by step.

use crate::hints::HINTS;
use crate::project::{self, Project};
use crate::{toolchain, version};
use buildpack_kit::source::mirror::SETTING;
use buildpack_kit::tool;
use buildpack_kit::{BuildContext, Failure, Launch, Layer, Result, Types, Variables, app, http, output};
use serde::Deserialize;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

/// Most bytes of crates, and of what was compiled, that are kept for the next build.
const CRATES_BYTES: u64 = 1024 * 1024 * 1024;
const TARGET_BYTES: u64 = 2 * 1024 * 1024 * 1024;
/// Names of the program that serves, where there are several.
const WEB: &[&str] = &["web", "server", "app", "main"];
/// Tells Rocket where to listen, when the instance starts.
const ROCKET: &str = include_str!("rocket.sh");
/// Names a mirror of crates: a registry's index (`sparse+https://…`), or a folder.
const CRATES_SETTING: &str = "BP_CARGO_MIRROR";

/// Everything cargo works with.
struct Workshop<'a> {
    context: &'a BuildContext,
    project: &'a Project,
    toolchain: &'a Path,
    home: Layer,
    target: Layer,
}

/// What `cargo metadata` says, as far as it matters.
#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
    #[serde(default)]
    workspace_default_members: Vec<String>,
}

#[derive(Deserialize)]
struct Package {
    id: String,
    targets: Vec<Target>,
}

#[derive(Deserialize)]
struct Target {
    name: String,
    kind: Vec<String>,
}

/// Installs the toolchain, builds, and declares the processes.
///
/// # Errors
/// Why the app cannot be built.
pub fn run(context: &BuildContext) -> Result<()> {
    let Some(project) = Project::read(&context.app)? else {
        return Err(Failure::new(
            "there is no Cargo.toml at the top of the app",
            "Push the folder that holds it.",
        ));
    };
    let wanted = version::wanted(&context.app, &context.variables)?;
    require_linker(&context.variables)?;
    let rust = toolchain::install(context, &wanted)?;
    let mut target = context.layer("target").bounded(TARGET_BYTES)?;
    if !target.is(&rust.version) {
        target.reset()?;
    }
    let workshop = Workshop {
        context,
        project: &project,
        toolchain: &rust.layer.dir,
        home: context.layer("crates").bounded(CRATES_BYTES)?,
        target,
    };
    workshop.configure()?;
    let key = app::key_of(&context.app, |name| !name.starts_with("target/"))?;
    workshop.settle_own(&key)?;
    let programs = workshop.programs()?;
    workshop.build(&programs)?;
    let built = workshop.take(&programs)?;
    workshop.keep(&key, &rust.version)?;
    processes(context, &project, &built)
}

/// Rust links by the C compiler, which small stacks lack.
fn require_linker(variables: &Variables) -> Result<()> {
    let path = variables.get("PATH").unwrap_or("/usr/local/bin:/usr/bin:/bin");
    if variables
        .get("RUSTFLAGS")
        .is_some_and(|flags| flags.contains("linker="))
    {
        return Ok(());
    }
    if std::env::split_paths(path).any(|folder| folder.join("cc").is_file()) {
        return Ok(());
    }
    Err(Failure::new(
        "the stack has no C compiler (cc), which links the programs of Rust",
        "The operator makes a stack with the package build-essential; or push a program that is compiled already.",
    ))
}

impl Workshop<'_> {
    fn command(&self) -> Command {
        let variables = &self.context.variables;
        let mut path = OsString::from(self.toolchain.join("bin"));
        path.push(":");
        path.push(variables.get("PATH").unwrap_or("/usr/local/bin:/usr/bin:/bin"));
        let mut command = Command::new(self.toolchain.join("bin/cargo"));
        command
            .current_dir(&self.context.app)
            .env("PATH", path)
            .env("CARGO_HOME", &self.home.dir)
            .env("CARGO_TARGET_DIR", &self.target.dir)
            // What it makes is thrown away, and larger than the rest.
            .env("CARGO_INCREMENTAL", "0")
            .env("CARGO_TERM_COLOR", "never")
            .env("CARGO_TERM_PROGRESS_WHEN", "never");
        for name in ["RUSTUP_TOOLCHAIN", "RUSTC", "RUSTC_WRAPPER", "RUSTC_WORKSPACE_WRAPPER"] {
            command.env_remove(name);
        }
        if let (Some(bundle), None) = (variables.get("SSL_CERT_FILE"), variables.get("CARGO_HTTP_CAINFO")) {
            command.env("CARGO_HTTP_CAINFO", bundle);
        }
        command
    }

    /// Where crates come from where the app does not say it: the operator's mirror.
    fn configure(&self) -> Result<()> {
        let path = self.home.dir.join("config.toml");
        match mirror(&self.context.variables) {
            Some(text) => fs::write(&path, text).map_err(Failure::file("write", &path)),
            None if path.exists() => fs::remove_file(&path).map_err(Failure::file("remove", &path)),
            None => Ok(()),
        }
    }

    /// Tells cargo which of its own packages changed. It compares times, and those of a push say nothing: where sources are
    /// those of the last build, its records become newer than they; else they are removed.
    fn settle_own(&self, key: &str) -> Result<()> {
        let records = self.target.dir.join("release/.fingerprint");
        let same = self.target.restored("sources") == Some(key);
        let now = SystemTime::now();
        for folder in own_records(&records, &project::own_packages(&self.context.app)) {
            if !same {
                fs::remove_dir_all(&folder).map_err(Failure::file("remove", &folder))?;
                continue;
            }
            for entry in fs::read_dir(&folder).map_err(Failure::file("read", &folder))?.flatten() {
                let touched = fs::File::open(entry.path()).and_then(|file| file.set_modified(now));
                touched.map_err(Failure::file("set the time of", &entry.path()))?;
            }
        }
        Ok(())
    }

    /// Programs of the package, or of those members that cargo builds where nothing else is said.
    fn programs(&self) -> Result<Vec<String>> {
        if let Some(named) = self.context.variables.get("BP_RUST_PROGRAMS") {
            return Ok(named
                .split([' ', ','])
                .filter(|name| !name.is_empty())
                .map(str::to_owned)
                .collect());
        }
        let mut command = self.command();
        command.args(["metadata", "--no-deps", "--format-version=1"]);
        let output = command.output().map_err(|error| {
            Failure::new(
                format!("cargo could not be started: {error}"),
                "Report this to the operator.",
            )
        })?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            output::detail(&said);
            return Err(tool::explain("cargo metadata", &said, false, HINTS));
        }
        let metadata: Metadata = serde_json::from_slice(&output.stdout).map_err(|error| {
            Failure::new(
                format!("cargo metadata says what cannot be read: {error}"),
                "Report this to the operator.",
            )
        })?;
        let programs = programs_of(&metadata);
        if programs.is_empty() {
            return Err(Failure::new(
                "there is no program to build: neither src/main.rs nor a [[bin]]",
                "Push the folder whose package has one; or name programs of other members in BP_RUST_PROGRAMS.",
            ));
        }
        Ok(programs)
    }

    fn build(&self, programs: &[String]) -> Result<()> {
        let variables = &self.context.variables;
        let mut arguments = vec!["build".to_owned(), "--release".to_owned()];
        if self.project.locked {
            arguments.push("--locked".to_owned());
        } else {
            output::alert("There is no Cargo.lock: the newest crates that fit are taken, and may be others next time.");
            output::alert("Push the Cargo.lock that cargo writes.");
        }
        if variables.get("BP_RUST_PROGRAMS").is_some() {
            arguments.extend(programs.iter().flat_map(|name| ["--bin".to_owned(), name.clone()]));
        } else {
            arguments.push("--bins".to_owned());
        }
        let extra = variables.get("BP_CARGO_BUILD_FLAGS").unwrap_or_default();
        arguments.extend(extra.split_whitespace().map(str::to_owned));
        let shown = format!("cargo {}", arguments.join(" "));
        output::headline(&format!("Build: {shown}"));
        tool::run(self.command().args(&arguments), "cargo build", HINTS).map_err(compile_failure)?;
        Ok(())
    }

    /// Puts the programs into a layer of their own: which of them there are.
    fn take(&self, programs: &[String]) -> Result<Vec<String>> {
        let mut layer = self.context.layer("programs");
        layer.reset()?;
        let bin = layer.dir.join("bin");
        fs::create_dir_all(&bin).map_err(Failure::file("create", &bin))?;
        let mut built = Vec::new();
        for name in programs {
            // A program that needs a feature which is off is not built.
            let from = self.target.dir.join("release").join(name);
            if from.is_file() {
                fs::copy(&from, bin.join(name)).map_err(Failure::file("copy", &from))?;
                built.push(name.clone());
            }
        }
        if built.is_empty() {
            return Err(Failure::new(
                format!("none of the programs was built: {}", programs.join(", ")),
                "They may need features that are off: name these in BP_CARGO_BUILD_FLAGS, for example --features web.",
            ));
        }
        if self.project.rocket {
            layer.write_program("exec.d", "rocket", ROCKET)?;
        }
        layer.keep(Types::LAUNCH, "programs", &[])?;
        Ok(built)
    }

    fn keep(&self, key: &str, version: &str) -> Result<()> {
        // What is linked is there twice, and made again from its other place.
        let release = self.target.dir.join("release");
        for entry in fs::read_dir(&release)
            .map_err(Failure::file("read", &release))?
            .flatten()
        {
            if entry.file_type().is_ok_and(|kind| kind.is_file())
                && !entry.file_name().to_string_lossy().starts_with('.')
            {
                fs::remove_file(entry.path()).map_err(Failure::file("remove", &entry.path()))?;
            }
        }
        // What it remembers of the compiler depends on the times of files, which are others after a restore.
        let _ = fs::remove_file(self.target.dir.join(".rustc_info.json"));
        self.target.settle()?;
        self.target.keep(Types::CACHED, version, &[("sources", key)])?;
        // Times of use, and locks.
        for name in [".global-cache", ".package-cache", ".package-cache-mutate"] {
            let _ = fs::remove_file(self.home.dir.join(name));
        }
        self.home.settle()?;
        self.home.keep(Types::CACHED, "1", &[])
    }
}

/// Folders of cargo's records about `packages`: their names with a digest behind.
fn own_records(records: &Path, packages: &[String]) -> Vec<PathBuf> {
    let entries = fs::read_dir(records).into_iter().flatten().flatten();
    let is_own = |name: &str| {
        let package = name.rsplit_once('-').map_or(name, |(package, _)| package);
        packages.iter().any(|own| own == package)
    };
    entries
        .filter(|entry| entry.file_name().to_str().is_some_and(is_own))
        .map(|entry| entry.path())
        .collect()
}

fn programs_of(metadata: &Metadata) -> Vec<String> {
    let defaults = &metadata.workspace_default_members;
    let members = metadata
        .packages
        .iter()
        .filter(|package| defaults.is_empty() || defaults.contains(&package.id));
    let targets = members.flat_map(|package| &package.targets);
    targets
        .filter(|target| target.kind.iter().any(|kind| kind == "bin"))
        .map(|target| target.name.clone())
        .collect()
}

/// The configuration of cargo that names the operator's mirror, if there is one.
fn mirror(variables: &Variables) -> Option<String> {
    let base = match variables.get(CRATES_SETTING) {
        Some(base) => base.to_owned(),
        None => {
            let folder = format!("{}/crates", http::address(variables.get(SETTING)?));
            http::local(&folder)
                .filter(|folder| folder.is_dir())?
                .display()
                .to_string()
        }
    };
    let kind = if base.starts_with('/') {
        "local-registry"
    } else {
        "registry"
    };
    let base = toml::Value::String(base);
    Some(format!(
        "[source.crates-io]\nreplace-with = \"mirror\"\n\n[source.mirror]\n{kind} = {base}\n"
    ))
}

fn compile_failure(failure: Failure) -> Failure {
    if failure.cause.starts_with("cargo build failed") {
        return Failure::new(
            "the app does not compile (see above)",
            "Repair it; `cargo build --release` in a fresh copy of the app should fail in the same way.",
        );
    }
    failure
}

/// The program that serves: the only one, the one that `cargo run` starts, that of the package's name, or a usual one.
fn web<'a>(project: &Project, programs: &'a [String]) -> Option<&'a String> {
    if let [only] = programs {
        return Some(only);
    }
    let named = [project.default_run.as_deref(), project.package.as_deref()];
    let all = named.into_iter().flatten().chain(WEB.iter().copied());
    all.filter_map(|name| programs.iter().find(|program| *program == name))
        .next()
}

fn processes(context: &BuildContext, project: &Project, programs: &[String]) -> Result<()> {
    let Some(web) = web(project, programs) else {
        if !context.app.join("Procfile").is_file() {
            output::alert(&format!(
                "Nothing says which of these programs serves: {}.",
                programs.join(", ")
            ));
            output::alert(&format!("Add a Procfile, for example `web: {}`.", programs[0]));
        }
        return Launch::default().write(context);
    };
    let source = match programs.len() {
        1 => "the only program".to_owned(),
        _ if project.default_run.as_ref() == Some(web) => "default-run in Cargo.toml".to_owned(),
        _ => format!("the program {web}"),
    };
    Launch::default().direct("web", &[web], &source).write(context)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metadata(text: &str) -> Metadata {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn programs_are_those_of_the_default_members() {
        let text = r#"{"packages": [
            {"id": "a", "targets": [{"name": "a", "kind": ["lib"]}, {"name": "web", "kind": ["bin"]}]},
            {"id": "b", "targets": [{"name": "job", "kind": ["bin"]}]}], "workspace_default_members": ["a"]}"#;
        assert_eq!(programs_of(&metadata(text)), ["web"]);
        let older = text.replace("workspace_default_members", "other");
        assert_eq!(programs_of(&metadata(&older)), ["web", "job"]);
    }

    #[test]
    fn the_program_that_serves_is_found() {
        let project = |package: &str, default_run: Option<&str>| Project {
            package: Some(package.to_owned()),
            default_run: default_run.map(str::to_owned),
            ..Project::default()
        };
        let found = |project: &Project, programs: &[&str]| {
            let programs: Vec<String> = programs.iter().map(|&name| name.to_owned()).collect();
            web(project, &programs).cloned().unwrap_or_default()
        };
        assert_eq!(found(&project("x", None), &["a"]), "a");
        assert_eq!(found(&project("b", None), &["a", "b"]), "b");
        assert_eq!(found(&project("b", Some("a")), &["a", "b"]), "a");
        assert_eq!(found(&project("x", None), &["job", "server"]), "server");
        assert_eq!(found(&project("x", None), &["job", "other"]), "");
    }

    #[test]
    fn records_of_the_app_s_own_packages_are_told_from_others() {
        let folder = tempfile::tempdir().unwrap();
        for name in [
            "shop-0123456789abcdef",
            "shop-front-0123456789abcdef",
            "serde-0123456789abcdef",
        ] {
            fs::create_dir(folder.path().join(name)).unwrap();
        }
        let found = own_records(folder.path(), &["shop".to_owned()]);
        assert_eq!(found, [folder.path().join("shop-0123456789abcdef")]);
    }

    #[test]
    fn a_mirror_is_a_folder_or_a_registry() {
        let folder = tempfile::tempdir().unwrap();
        let base = folder.path().to_str().unwrap();
        let variables = |name: &str, value: &str| Variables([(name.into(), value.into())].into());
        assert_eq!(mirror(&variables(SETTING, base)), None);
        fs::create_dir(folder.path().join("crates")).unwrap();
        let text = mirror(&variables(SETTING, base)).unwrap();
        assert!(text.contains(&format!("local-registry = \"{base}/crates\"")), "{text}");
        let text = mirror(&variables(CRATES_SETTING, "sparse+https://mirror.test/")).unwrap();
        assert!(text.contains("registry = \"sparse+https://mirror.test/\""), "{text}");
        assert_eq!(mirror(&Variables::default()), None);
    }

    #[test]
    fn failures_in_words() {
        let said = [
            "error: cannot update the lock file /home/vcap/app/Cargo.lock because --locked was passed to prevent this",
            "error: failed to select a version for the requirement `nonsense = \"^9\"`",
            "error: rustc 1.85.1 is not supported by the following package:",
            "error: could not find native static library `z`, perhaps\n = note: rust-lld: error: unable to find library -lz",
            "warning: spurious network error (3 tries remaining): [6] Couldn't resolve host name",
            "process didn't exit successfully: `rustc` (signal: 9, SIGKILL: kill)",
            "error[E0425]: cannot find value `x` in this scope",
        ];
        let mut told = String::new();
        for line in said {
            let failure = compile_failure(tool::explain("cargo build", line, false, HINTS));
            told.push_str(&format!("{line}\n  {}\n  -> {}\n\n", failure.cause, failure.remedy));
        }
        insta::assert_snapshot!(told);
    }
}
