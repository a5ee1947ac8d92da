//! Dependencies by uv into a virtual environment, in a layer keyed by everything that decides what gets installed. With the
//! same key nothing is run, read or copied, and uv itself is not needed.

use crate::interpreter::{self, Interpreter};
use crate::lock::Tool;
use crate::project::{Dependencies, Wanted};
use crate::{read_text, uv};
use buildpack_kit::{BuildContext, Failure, Layer, Result, Types, command, key, output};
use std::collections::BTreeSet;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use walkdir::WalkDir;

/// Changes whenever what is put into the layers does.
const LAYOUT: &str = "1";
/// Variables of the user that say where packages come from, which uv is given.
const SOURCES: &[&str] = &[
    "UV_INDEX_",
    "UV_EXTRA_INDEX_URL",
    "UV_FIND_LINKS",
    "UV_KEYRING_PROVIDER",
];
/// Sets what depends on the memory of the instance, when it starts.
const EXEC_D: &str = include_str!("memory.sh");

/// Everything an installation works with.
pub struct Installer<'a> {
    /// The build.
    pub context: &'a BuildContext,
    /// Short-lived files.
    pub tmp: &'a Path,
}

impl Installer<'_> {
    /// A Python that the stack lacks, from the mirror that the operator configured; `None` where there is none.
    ///
    /// # Errors
    /// Where it cannot be had from there.
    pub fn python(&self, wanted: &Wanted) -> Result<Option<Interpreter>> {
        if self.context.variables.get("UV_PYTHON_INSTALL_MIRROR").is_none() {
            return Ok(None);
        }
        let mut layer = self.context.layer("python");
        let key = format!("{}-{LAYOUT}", wanted.text);
        if !layer.is(&key) {
            layer.reset()?;
            let program = uv::provide(self.context)?;
            output::headline(&format!("Python {}: downloading", wanted.text));
            let mut command = self.command(&program);
            command
                .args(["python", "install", "--no-bin", "--install-dir"])
                .arg(&layer.dir)
                .arg(&wanted.text);
            self.run(&mut command, "uv python install")?;
        }
        layer.keep(Types::ALL, &key, &[])?;
        let programs = WalkDir::new(&layer.dir)
            .min_depth(3)
            .max_depth(3)
            .sort_by_file_name()
            .into_iter();
        let mut programs = programs
            .filter_map(|entry| entry.ok())
            .filter(|entry| entry.file_name() == "python3");
        Ok(programs.find_map(|entry| interpreter::ask(entry.path())))
    }

    /// Fills the layer `deps` unless it holds the same already.
    ///
    /// # Errors
    /// Where the dependencies cannot be installed, with the cause that uv's output tells.
    pub fn install(&self, dependencies: Dependencies, interpreter: &Interpreter) -> Result<Layer> {
        let key = self.key(dependencies, interpreter)?;
        let mut layer = self.context.layer("deps");
        if layer.is(&key) {
            output::headline("Dependencies: unchanged, reused");
        } else if dependencies == Dependencies::None {
            layer.reset()?;
            output::headline("Dependencies: none");
            common(&layer)?;
        } else {
            let program = uv::provide(self.context)?;
            layer.reset()?;
            let venv = layer.dir.join("venv");
            let mut create = self.command(&program);
            create
                .args(["venv", "--quiet", "--no-project", "--python"])
                .arg(&interpreter.program)
                .arg(&venv);
            self.run(&mut create, "uv venv")?;
            self.fill(dependencies, &program, &venv)?;
            environment(&layer, &venv)?;
            common(&layer)?;
        }
        layer.keep(Types::ALL, &key, &[])?;
        uv::keep(self.context)?;
        Ok(layer)
    }

    fn fill(&self, dependencies: Dependencies, program: &Path, venv: &Path) -> Result<()> {
        if dependencies == Dependencies::UvLock && uv::is_mirrored(&self.context.variables) {
            return self.fill_from_mirror(program, venv);
        }
        let mut command = self.command(program);
        let shown = match dependencies {
            Dependencies::UvLock => {
                command
                    .args(["sync", "--locked", "--no-default-groups"])
                    .env("UV_PROJECT_ENVIRONMENT", venv);
                "uv sync --locked --no-default-groups"
            }
            Dependencies::Locked(tool) => return self.fill_from_lock(tool, program, venv),
            Dependencies::Requirements => {
                command
                    .args(["pip", "install", "-r", "requirements.txt", "--python"])
                    .arg(venv.join("bin/python"));
                "uv pip install -r requirements.txt"
            }
            Dependencies::Pyproject => {
                output::alert("No lock file: every build may install other versions than the one before.");
                output::alert("Run `uv lock` and push uv.lock with the app.");
                command
                    .args(["pip", "install", "-r", "pyproject.toml", "--python"])
                    .arg(venv.join("bin/python"));
                "uv pip install -r pyproject.toml"
            }
            Dependencies::None => return Ok(()),
        };
        output::headline(&format!("Dependencies: {shown}"));
        self.run(command.arg("--compile-bytecode"), shown)
    }

    /// Installs exactly what the lock of another tool names: those versions, those files.
    fn fill_from_lock(&self, tool: Tool, program: &Path, venv: &Path) -> Result<()> {
        let locked = self.tmp.join("locked.txt");
        let text = tool.requirements(&self.context.app)?;
        std::fs::write(&locked, text).map_err(Failure::file("write", &locked))?;
        let shown = format!("uv pip install --require-hashes, as {} has them", tool.file());
        output::headline(&format!("Dependencies: {shown}"));
        let mut command = self.command(program);
        command
            .args(["pip", "install", "--require-hashes", "--no-deps", "--compile-bytecode"])
            .arg("--python")
            .arg(venv.join("bin/python"))
            .arg("-r")
            .arg(&locked);
        self.run(&mut command, "uv pip install --require-hashes")
    }

    /// A lock file names the index that it was made with, and uv takes another for a change of the lock: so what is locked is
    /// written out with its hashes, and those very files are taken from the mirror.
    fn fill_from_mirror(&self, program: &Path, venv: &Path) -> Result<()> {
        let locked = self.tmp.join("locked.txt");
        let mut export = self.command(program);
        export
            .args([
                "export",
                "--quiet",
                "--frozen",
                "--no-default-groups",
                "--no-emit-project",
                "-o",
            ])
            .arg(&locked);
        self.run(&mut export, "uv export --frozen")?;
        output::headline(
            "Dependencies: uv pip install --require-hashes, as uv.lock has them, from the configured index",
        );
        let python = venv.join("bin/python");
        let mut command = self.command(program);
        command.args([
            "pip",
            "install",
            "--require-hashes",
            "--no-deps",
            "--compile-bytecode",
            "--python",
        ]);
        self.run(
            command.arg(&python).arg("-r").arg(&locked),
            "uv pip install --require-hashes",
        )?;
        let is_package =
            read_text(&self.context.app, "pyproject.toml")?.is_some_and(|text| text.contains("[build-system]"));
        if !is_package {
            return Ok(());
        }
        let mut own = self.command(program);
        own.args(["pip", "install", "--no-deps", "--python"])
            .arg(&python)
            .args(["--editable", "."]);
        self.run(&mut own, "uv pip install --editable .")
    }

    fn key(&self, dependencies: Dependencies, interpreter: &Interpreter) -> Result<String> {
        let app = &self.context.app;
        let mut parts: Vec<Vec<u8>> = vec![
            LAYOUT.into(),
            EXEC_D.into(),
            format!("{dependencies:?}").into(),
            interpreter.version.to_string().into(),
            interpreter.abi.clone().into(),
            interpreter.program.as_os_str().as_encoded_bytes().to_vec(),
            app.as_os_str().as_encoded_bytes().to_vec(),
        ];
        let mut files: BTreeSet<String> = ["uv.toml", "pyproject.toml", "uv.lock"].map(str::to_owned).into();
        let mut local = false;
        if dependencies == Dependencies::Requirements {
            local = requirements(app, "requirements.txt", &mut files)?;
        } else if let Dependencies::Locked(tool) = dependencies {
            files.extend([tool.file().to_owned(), tool.manifest().to_owned()]);
        } else if dependencies == Dependencies::UvLock {
            let lock = read_text(app, "uv.lock")?.unwrap_or_default();
            // Packages of the app itself, other than the app, that are built into the environment.
            local = lock.contains("{ directory = ") || lock.contains("{ path = ");
        }
        for file in files {
            parts.push(std::fs::read(app.join(&file)).unwrap_or_default());
            parts.push(file.into());
        }
        if local {
            source(app, &mut parts)?;
        }
        let parts: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
        Ok(key(&parts))
    }

    /// uv with nothing of the user's but where packages come from: some of its variables would have it install elsewhere.
    fn command(&self, program: &Path) -> Command {
        let variables = &self.context.variables;
        let mut command = Command::new(program);
        for name in variables.0.keys() {
            let text = name.to_string_lossy();
            let foreign = ["UV_", "PIP_", "VIRTUAL_ENV", "PYTHON", "CONDA"]
                .iter()
                .any(|prefix| text.starts_with(prefix));
            if foreign && !SOURCES.iter().any(|prefix| text.starts_with(prefix)) {
                command.env_remove(name);
            }
        }
        if let Some(extra) = variables.get("PIP_EXTRA_INDEX_URL") {
            command.env("UV_EXTRA_INDEX_URL", extra);
        }
        match variables.get("UV_PYTHON_INSTALL_MIRROR") {
            Some(mirror) => command.env("UV_PYTHON_INSTALL_MIRROR", mirror),
            None => command.env("UV_PYTHON_DOWNLOADS", "never"),
        };
        command
            .current_dir(&self.context.app)
            .env("UV_DEFAULT_INDEX", uv::index(variables))
            .env("UV_CACHE_DIR", uv::cache(self.tmp))
            .env("UV_NO_PROGRESS", "1")
            // All files of a droplet bear the same time, so compiled code is matched by content, and needs no check.
            .env("PYC_INVALIDATION_MODE", "UNCHECKED_HASH");
        command
    }

    fn run(&self, command: &mut Command, shown: &str) -> Result<()> {
        let outcome = command::run(command).map_err(|error| {
            Failure::new(
                format!("uv could not be started: {error}"),
                "Report this to the operator.",
            )
        })?;
        if outcome.status.success() {
            return Ok(());
        }
        Err(explain(shown, &outcome.tail, outcome.status.signal() == Some(9)))
    }
}

/// Puts the virtual environment before everything else.
fn environment(layer: &Layer, venv: &Path) -> Result<()> {
    for folder in ["env.launch", "env.build"] {
        layer.write(folder, "PATH.prepend", &venv.join("bin").display().to_string())?;
        layer.write(folder, "PATH.delim", ":")?;
        layer.write(folder, "VIRTUAL_ENV.override", &venv.display().to_string())?;
    }
    Ok(())
}

/// What every Python gets.
fn common(layer: &Layer) -> Result<()> {
    layer.write("env.launch", "PYTHONUNBUFFERED.default", "1")?;
    layer.write_program("exec.d", "python-memory", EXEC_D)
}

/// Adds `file` and those it refers to; whether any line refers to packages in the app itself.
fn requirements(app: &Path, file: &str, files: &mut BTreeSet<String>) -> Result<bool> {
    if !files.insert(file.to_owned()) {
        return Ok(false);
    }
    let text = read_text(app, file)?.unwrap_or_default();
    let mut local = false;
    for line in text.lines().map(str::trim) {
        let reference = ["-r", "-c", "--requirement", "--constraint"].iter().find_map(|option| {
            let rest = line.strip_prefix(option)?;
            rest.starts_with([' ', '=', '\t'])
                .then(|| rest.trim_start_matches(['=', ' ', '\t']))
        });
        match reference {
            Some(reference) => {
                let folder = Path::new(file).parent().unwrap_or(Path::new(""));
                let path = folder.join(reference);
                local |= requirements(app, &path.to_string_lossy(), files)?;
            }
            None => {
                let editable = line.starts_with("-e") || line.starts_with("--editable");
                local |= editable || line.starts_with('.') || line.starts_with('/') || line.contains("file:");
            }
        }
    }
    Ok(local)
}

fn source(app: &Path, parts: &mut Vec<Vec<u8>>) -> Result<()> {
    let unwanted = |entry: &walkdir::DirEntry| {
        [".git", ".venv", "__pycache__"]
            .iter()
            .any(|name| entry.file_name() == *name)
    };
    let walk = WalkDir::new(app)
        .sort_by_file_name()
        .into_iter()
        .filter_entry(|entry| !unwanted(entry));
    for entry in walk
        .filter_map(|entry| entry.ok())
        .filter(|entry| entry.file_type().is_file())
    {
        let content = std::fs::read(entry.path()).map_err(Failure::file("read", entry.path()))?;
        parts.push(entry.path().as_os_str().as_encoded_bytes().to_vec());
        parts.push(key(&[&content]).into());
    }
    Ok(())
}

/// What the end of uv's output means.
fn explain(shown: &str, tail: &str, killed: bool) -> Failure {
    let has = |words: &[&str]| words.iter().any(|word| tail.contains(word));
    if killed {
        return Failure::new(
            format!("{shown} was killed, most likely for its memory"),
            "Raise the staging memory, or install less.",
        );
    }
    if has(&["needs to be updated", "lockfile is outdated", "--locked"]) {
        return Failure::new(
            "pyproject.toml and uv.lock disagree",
            "Run `uv lock`, see that the app still works, and push the new uv.lock.",
        );
    }
    if has(&[
        "dns error",
        "error sending request",
        "Connection refused",
        "timed out",
        "Could not connect",
        "Failed to fetch",
    ]) {
        return Failure::new(
            "the package index could not be reached (see above)",
            "Try again; if it persists, the operator checks the egress policy, the proxy and the mirror settings of staging.",
        );
    }
    if has(&[
        "No solution found",
        "was not found in the package registry",
        "there are no versions",
    ]) {
        return Failure::new(
            "the packages asked for exclude each other, or do not exist (see above)",
            "Repair the name or the version that the output names; for another Python see .python-version.",
        );
    }
    if has(&["Hash mismatch", "hashes"]) {
        return Failure::new(
            "a package is not the one that the app's files describe (see above)",
            "Update the hashes, after finding out why the package changed.",
        );
    }
    if has(&["Failed to build", "Build backend failed", "error: command", "gcc"]) {
        return Failure::new(
            "a package could not be built from source (see above)",
            "Use a version with a ready-made wheel for this Python, or a stack with a compiler and the needed libraries.",
        );
    }
    Failure::new(
        format!("{shown} failed (see above)"),
        "Run the same command in a fresh copy of the app: it should fail in the same way.",
    )
}

/// The program `name` of the environment, if it is installed.
#[must_use]
pub fn program(layer: &Layer, name: &str) -> Option<PathBuf> {
    Some(layer.dir.join("venv/bin").join(name)).filter(|path| path.exists())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_that_requirements_refer_to_count() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        write("requirements.txt", "flask\n-r more/base.txt\n-c=limits.txt\n");
        write("more/base.txt", "-r ../requirements.txt\n-r deep.txt\n");
        write("more/deep.txt", "-e .\n");
        let mut files = BTreeSet::new();
        assert!(requirements(folder.path(), "requirements.txt", &mut files).unwrap());
        assert!(files.contains("more/base.txt") && files.contains("limits.txt") && files.contains("more/deep.txt"));
        write("more/deep.txt", "ms\n");
        assert!(!requirements(folder.path(), "requirements.txt", &mut BTreeSet::new()).unwrap());
    }

    #[test]
    fn uv_s_last_words_become_a_cause() {
        for (tail, part) in [
            ("error: The lockfile at `uv.lock` needs to be updated", "disagree"),
            ("x No solution found when resolving dependencies", "exclude each other"),
            ("error sending request for url", "could not be reached"),
            ("Failed to build `x==1`", "from source"),
            ("anything", "see above"),
        ] {
            assert!(explain("uv", tail, false).cause.contains(part), "{tail}");
        }
    }
}
