//! A staging and an app sandbox without the sandbox, for tests of this crate and of buildpacks: builds run below a temporary
//! root, layers are kept as a cell keeps them, and the next build and the launch get them back unpacked.
//!
//! Not part of the product: only built with the feature `testing`.

#![expect(
    clippy::expect_used,
    clippy::missing_panics_doc,
    reason = "a test that cannot be set up has failed"
)]

use crate::cnb::environment::Environment;
use crate::{Error, Paths, build, launch};
use model::secret::SecretEnv;
use model::staging::{
    BuildFailure, BuildInput, BuildResult, BuildpackMount, BuildpackSource, CachedLayer, DropletLayer,
};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// An app with its buildpacks, from push to push.
pub struct Stage {
    folder: tempfile::TempDir,
    buildpacks: Vec<BuildpackMount>,
    /// Whether the buildpacks are candidates rather than chosen.
    pub detect: bool,
    /// Variables of the app.
    pub env: SecretEnv,
    /// Variables of the platform, beside `PATH` and the certificates of this machine.
    pub platform: Vec<(String, String)>,
    /// Arguments that replace those of the process.
    pub args: Vec<String>,
    cache: Vec<CachedLayer>,
    store: BTreeMap<String, serde_json::Value>,
}

impl Default for Stage {
    fn default() -> Self {
        Self::new()
    }
}

impl Stage {
    /// An empty app without buildpacks.
    #[must_use]
    pub fn new() -> Self {
        let folder = match memory() {
            Some(memory) => tempfile::tempdir_in(memory),
            None => tempfile::tempdir(),
        };
        let folder = folder.expect("a temporary folder");
        for name in ["source", "blobs", "buildpacks"] {
            fs::create_dir(folder.path().join(name)).expect("a folder");
        }
        Self {
            folder,
            buildpacks: Vec::new(),
            detect: true,
            env: SecretEnv::default(),
            platform: Vec::new(),
            args: Vec::new(),
            cache: Vec::new(),
            store: BTreeMap::new(),
        }
    }

    /// Paths of the sandboxes.
    #[must_use]
    pub fn paths(&self) -> Paths {
        Paths::below(&self.folder.path().join("root"))
    }

    /// Writes a file of the source.
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        let path = self.source().join(name);
        fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
        fs::write(path, content).expect("a file");
    }

    /// The source as pushed.
    #[must_use]
    pub fn source(&self) -> PathBuf {
        self.folder.path().join("source")
    }

    /// Replaces the source by a copy of `from`.
    pub fn copy(&self, from: &Path) {
        copy(from, &self.source());
    }

    /// One with the buildpack `name` of the package in `folder`, whose program was built.
    #[must_use]
    pub fn of(name: &str, folder: &str, program: &str) -> Self {
        let mut stage = Self::new();
        stage.add_program(name, &Path::new(folder).join("buildpack.toml"), program.as_ref());
        stage
    }

    /// Adds a buildpack of one program under both names.
    pub fn add_program(&mut self, name: &str, toml: &Path, program: &Path) {
        let dir = self.folder.path().join("buildpacks").join(name);
        fs::create_dir_all(dir.join("bin")).expect("a folder");
        fs::copy(toml, dir.join("buildpack.toml")).expect("a buildpack.toml");
        for link in ["detect", "build"] {
            std::os::unix::fs::symlink(program, dir.join("bin").join(link)).expect("a link");
        }
        self.mount(name, &dir);
    }

    /// Adds a buildpack of shell scripts; without `detect` it has no such program.
    pub fn add_scripts(&mut self, id: &str, further_toml: &str, detect: Option<&str>, build: &str) {
        let dir = self.folder.path().join("buildpacks").join(id.replace('/', "_"));
        fs::create_dir_all(dir.join("bin")).expect("a folder");
        // A line of its own may name another version of the contract.
        let (api, further) = match further_toml
            .strip_prefix("api = ")
            .and_then(|rest| rest.split_once('\n'))
        {
            Some((api, further)) => (api, further),
            None => ("'0.10'", further_toml),
        };
        let toml = format!("api = {api}\n[buildpack]\nid = '{id}'\nversion = '1.2.3'\n{further}");
        fs::write(dir.join("buildpack.toml"), toml).expect("a file");
        for (name, script) in [("detect", detect), ("build", Some(build))] {
            if let Some(script) = script {
                write_script(&dir.join("bin").join(name), script);
            }
        }
        self.mount(id, &dir);
    }

    /// Adds a buildpack that has nothing but what `toml` says after its identity.
    pub fn add_descriptor(&mut self, id: &str, toml: &str) {
        let dir = self.folder.path().join("buildpacks").join(id.replace('/', "_"));
        fs::create_dir_all(&dir).expect("a folder");
        let toml = format!("api = '0.10'\n[buildpack]\nid = '{id}'\nversion = '1.2.3'\n{toml}");
        fs::write(dir.join("buildpack.toml"), toml).expect("a file");
        self.mount(id, &dir);
    }

    /// Adds a classic buildpack of shell scripts, by their names.
    pub fn add_classic(&mut self, name: &str, scripts: &[(&str, &str)]) {
        let dir = self.folder.path().join("buildpacks").join(name);
        fs::create_dir_all(dir.join("bin")).expect("a folder");
        for (script, text) in scripts {
            write_script(&dir.join("bin").join(script), text);
        }
        self.mount(name, &dir);
    }

    fn mount(&mut self, name: &str, dir: &Path) {
        self.buildpacks.push(BuildpackMount {
            name: name.to_owned(),
            path: dir.display().to_string(),
            source: None,
        });
    }

    /// Adds a buildpack that the build has to get from `source`.
    pub fn add_source(&mut self, name: &str, source: BuildpackSource) {
        self.buildpacks.push(BuildpackMount {
            name: name.to_owned(),
            path: String::new(),
            source: Some(source),
        });
    }

    /// A new folder beside the sandboxes, for what a test makes by itself.
    #[must_use]
    pub fn beside(&self, name: &str) -> PathBuf {
        let folder = self.folder.path().join("beside").join(name);
        fs::create_dir_all(&folder).expect("a folder");
        folder
    }

    /// Pushes the source as it is now: a fresh sandbox, the cached layers restored, one build.
    ///
    /// # Errors
    /// Why there is no droplet.
    pub fn push(&mut self) -> Result<BuildResult, Error> {
        let paths = self.fresh();
        copy(&self.source(), &paths.app);
        for layer in self.cache.iter().filter(|layer| layer.contents) {
            self.unpack(&layer.digest.hex());
        }
        let input = BuildInput {
            app_name: "app".to_owned(),
            stack: "host".to_owned(),
            buildpacks: self.buildpacks.clone(),
            detect: self.detect,
            env: self.env.clone(),
            memory_mb: 1024,
            restored: self.cache.clone(),
            store: self.store.clone(),
            image: None,
        };
        let result = build::build(&paths, &input, self.environment())?;
        for layer in result.layers.iter().chain(&result.cache_files) {
            self.keep(&paths, layer);
        }
        self.cache = result.cache.clone();
        self.store = result.store.clone();
        Ok(result)
    }

    fn keep(&self, paths: &Paths, layer: &DropletLayer) {
        let blob = self.folder.path().join("blobs").join(layer.digest.hex());
        match &layer.file {
            Some(file) => {
                fs::rename(paths.out.join(file), &blob).expect("a written layer");
            }
            None => assert!(blob.exists(), "{} was reported as known and is not", layer.name),
        }
    }

    /// A command for `process` of the droplet in a fresh sandbox that holds nothing but its layers.
    ///
    /// # Errors
    /// Why it cannot be started.
    pub fn launch(&self, result: &BuildResult, process: &str, env: &[(&str, &str)]) -> Result<Command, Error> {
        self.unpack_droplet(result);
        self.launch_command(process, &[], env)
    }

    /// Fills a fresh sandbox with the droplet.
    pub fn unpack_droplet(&self, result: &BuildResult) {
        self.fresh();
        for layer in result.layers.iter().rev() {
            self.unpack(&layer.digest.hex());
        }
    }

    /// Starts the `web` process of a build with this much memory, at a port of its own.
    ///
    /// # Panics
    /// Where it can't be launched.
    #[must_use]
    pub fn web(&self, result: &BuildResult, memory: &str) -> Running {
        let port = free_port();
        let port_text = port.to_string();
        let env = [
            ("PORT", port_text.as_str()),
            ("MEMORY_LIMIT", memory),
            ("CF_INSTANCE_INDEX", "0"),
        ];
        Running::start(
            self.launch(result, "web", &env)
                .expect("a build that succeeded can be launched"),
            port,
        )
    }

    /// A command in the sandbox as it is.
    ///
    /// # Errors
    /// Why it cannot be started.
    pub fn launch_command(&self, process: &str, command: &[&str], env: &[(&str, &str)]) -> Result<Command, Error> {
        let paths = self.paths();
        let mut environment = Environment::default();
        environment.set("PATH", "/usr/local/bin:/usr/bin:/bin");
        environment.set("HOME", paths.app.as_os_str());
        for (name, value) in env {
            environment.set(*name, *value);
        }
        let request = launch::Request {
            process: process.to_owned(),
            command: command.iter().map(|word| (*word).to_owned()).collect(),
            args: self.args.clone(),
        };
        launch::prepare(&paths, &request, environment)
    }

    fn environment(&self) -> Environment {
        let passed = ["SSL_CERT_FILE", "NODE_EXTRA_CA_CERTS", "PIP_CERT", "REQUESTS_CA_BUNDLE"];
        let mut environment = Environment::default();
        for name in passed {
            if let Some(value) = std::env::var_os(name) {
                environment.set(name, value);
            }
        }
        environment.set("PATH", "/usr/local/bin:/usr/bin:/bin");
        environment.set("HOME", self.paths().app.as_os_str());
        for (name, value) in &self.platform {
            environment.set(OsString::from(name), OsString::from(value));
        }
        environment
    }

    fn fresh(&self) -> Paths {
        let paths = self.paths();
        let root = self.folder.path().join("root");
        if root.exists() {
            fs::remove_dir_all(&root).expect("the last sandbox removed");
        }
        for folder in [&paths.app, &paths.layers, &paths.deps, &paths.out, &paths.tmp] {
            fs::create_dir_all(folder).expect("a folder");
        }
        paths
    }

    fn unpack(&self, digest: &str) {
        let file = fs::File::open(self.folder.path().join("blobs").join(digest)).expect("a kept layer");
        let mut archive = tar::Archive::new(zstd::Decoder::new(file).expect("a layer"));
        archive
            .unpack(self.folder.path().join("root"))
            .expect("a layer unpacked");
    }
}

/// A file system in memory with room for a few runtimes: some of those on disk take long to make files anew after others
/// were removed, which is what these tests do most. `None` where `TMPDIR` says where to work, or there is no such thing.
fn memory() -> Option<PathBuf> {
    const PLACE: &str = "/dev/shm";
    const KILOBYTES: u64 = 6 * 1024 * 1024;
    if std::env::var_os("TMPDIR").is_some() {
        return None;
    }
    let mounts = fs::read_to_string("/proc/mounts").ok()?;
    let mount = mounts.lines().find(|line| line.split(' ').nth(1) == Some(PLACE))?;
    let output = Command::new("df").args(["--output=avail", "-k", PLACE]).output().ok()?;
    let free: u64 = String::from_utf8(output.stdout)
        .ok()?
        .lines()
        .nth(1)?
        .trim()
        .parse()
        .ok()?;
    let meminfo = fs::read_to_string("/proc/meminfo").ok()?;
    let available = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let available: u64 = available.split_whitespace().next()?.parse().ok()?;
    let fits = free.min(available) > KILOBYTES && !mount.contains("noexec");
    fits.then(|| PLACE.into())
}

fn write_script(path: &Path, text: &str) {
    fs::write(path, format!("#!/bin/sh\nset -eu\n{text}\n")).expect("a file");
    fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("a mode");
}

/// A process of an app, killed when dropped.
pub struct Running {
    child: std::process::Child,
    /// Where it was told to listen.
    pub port: u16,
}

impl Running {
    /// Starts `command` with a port of its own, which it must have been given by [`free_port`].
    #[must_use]
    pub fn start(mut command: Command, port: u16) -> Self {
        use std::os::unix::process::CommandExt as _;
        let child = command.process_group(0).spawn().expect("the process starts");
        Self { child, port }
    }

    /// The whole answer to `GET path` as soon as it answers at all; an empty text where it ended or took too long.
    #[must_use]
    pub fn get(&mut self, path: &str) -> String {
        use std::io::{Read as _, Write as _};
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
        let mut answer = String::new();
        while std::time::Instant::now() < deadline && self.child.try_wait().is_ok_and(|ended| ended.is_none()) {
            if let Ok(mut stream) = std::net::TcpStream::connect(("127.0.0.1", self.port)) {
                let _ = write!(
                    stream,
                    "GET {path} HTTP/1.1\r\nhost: app.test\r\nconnection: close\r\n\r\n"
                );
                let _ = stream.read_to_string(&mut answer);
                break;
            }
            // sleeps: only the app knows when it listens, and tells nobody.
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        answer
    }

    /// Sends SIGTERM and says how it ended.
    #[must_use]
    pub fn stop(&mut self) -> std::process::ExitStatus {
        let _ = Command::new("kill").arg(self.child.id().to_string()).status();
        self.child.wait().expect("the process ends")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // The group: an app may have started others.
        let group = format!("-{}", self.child.id());
        let _ = Command::new("kill")
            .args(["-9", "--", &group])
            .stderr(std::process::Stdio::null())
            .status();
        let _ = self.child.wait();
    }
}

/// A port that nobody listens on.
#[must_use]
pub fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("its address").port()
}

fn copy(from: &Path, to: &Path) {
    let status = Command::new("cp").arg("-a").arg(from.join(".")).arg(to).status();
    assert!(status.expect("cp").success(), "{} could not be copied", from.display());
}

/// A failure as a snapshot has it, its cause up to the first of `ends`: what follows changes from day to day.
#[must_use]
pub fn told(failure: &BuildFailure, ends: &[&str]) -> String {
    let end = ends.iter().filter_map(|end| failure.cause.find(end)).min();
    let cause = &failure.cause[..end.unwrap_or(failure.cause.len())];
    format!("{}\n  {cause}\n  -> {}\n\n", failure.title, failure.remedy)
}

/// Names of the layers and cached layers that a build wrote anew.
#[must_use]
pub fn written(result: &BuildResult) -> Vec<&str> {
    let all = result.layers.iter().chain(&result.cache_files);
    let mut names: Vec<&str> = all
        .filter(|layer| layer.file.is_some())
        .map(|layer| layer.name.as_str())
        .collect();
    names.sort_unstable();
    names
}
