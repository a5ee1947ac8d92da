//! Test kit: a real platform on this machine, started for one test and gone with it.
//!
//! It runs what is shipped (`cargo xtask dist` makes it), with its own state directory, ports, bridge and control
//! groups, so that tests run side by side. Dropping a [`Platform`] takes everything down and fails the test where
//! something is left.
#![allow(clippy::missing_panics_doc, reason = "a test kit panics where a test fails")]

pub mod cf;
pub mod cluster;
mod debian;
pub mod leftovers;
pub mod load;
mod machine;
mod residue;
mod slot;
pub mod user;
pub mod weed;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use slot::Slot;
use std::ffi::OsStr;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;
use tempfile::TempDir;
use user::User;

/// Longest wait for a platform to be ready, and for a command line to end.
pub const DEADLINE: Duration = Duration::from_secs(300);

/// The checkout's root.
#[must_use]
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("tests/ lies in the root")
}

/// A program that is shipped.
#[must_use]
pub fn program(name: &str) -> PathBuf {
    let path = root().join("dist/bin").join(name);
    assert!(
        path.exists(),
        "{} is missing: run `cargo xtask dist` first",
        path.display()
    );
    path
}

/// A `paas` command line that is logged in by the login in `folder`, and keeps its own files there; not yet started.
fn client<S: AsRef<OsStr>>(folder: &Path, arguments: impl IntoIterator<Item = S>) -> Command {
    let mut paas = Command::new(program("paas"));
    paas.args(arguments)
        .env("PAAS_DEV_LOGIN", folder.join("login.json"))
        .env("XDG_CONFIG_HOME", folder.join("client"))
        .env("XDG_CACHE_HOME", folder.join("client"))
        .env("NO_COLOR", "1")
        .stdin(Stdio::null());
    paas
}

/// A sample app of `tests/apps`, copied so that a test may change it.
#[must_use]
pub fn app(name: &str) -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    copy(&root().join("tests/apps").join(name), folder.path());
    folder
}

fn copy(from: &Path, to: &Path) {
    for entry in walkdir::WalkDir::new(from) {
        let entry = entry.expect("readable");
        let target = to.join(entry.path().strip_prefix(from).expect("below"));
        if entry.file_type().is_dir() {
            std::fs::create_dir_all(&target).expect("made");
        } else {
            std::fs::copy(entry.path(), &target).expect("copied");
        }
    }
}

/// How a command line ended.
#[derive(Debug)]
pub struct Ended {
    /// Exit code.
    pub code: i32,
    /// What it wrote to standard output.
    pub stdout: String,
    /// What it wrote to standard error.
    pub stderr: String,
}

impl Ended {
    /// Fails the test unless the exit code is 0.
    #[must_use]
    pub fn ok(self) -> Self {
        self.code(0)
    }

    /// Fails the test unless the exit code is `code`.
    #[must_use]
    pub fn code(self, code: i32) -> Self {
        assert_eq!(self.code, code, "stdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        self
    }

    /// Standard output as one JSON document.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error} in {}", self.stdout))
    }
}

impl From<Output> for Ended {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

/// A platform on this machine: `paasd dev` and what it needs.
pub struct Platform {
    slot: Slot,
    state: TempDir,
    daemon: Option<Child>,
    settings: Vec<String>,
    variables: Vec<(String, String)>,
    /// Who runs it, if that is not root.
    user: Option<User>,
    /// What it said when it was ready.
    pub ready: Value,
    /// Base address of the API.
    pub api: String,
    /// Address of the router, host and port.
    pub router: String,
}

impl Platform {
    /// Starts one and waits until it is ready.
    #[must_use]
    pub fn start() -> Self {
        Self::with(&[], &[])
    }

    /// The same by an ordinary user.
    #[must_use]
    pub fn start_as(user: User) -> Self {
        Self::start_by(Some(user), &[], &[])
    }

    /// Starts one with these settings, and variables of the daemon, and waits until it is ready.
    #[must_use]
    pub fn with(settings: &[String], variables: &[(&str, &str)]) -> Self {
        Self::start_by(None, settings, variables)
    }

    fn start_by(user: Option<User>, settings: &[String], variables: &[(&str, &str)]) -> Self {
        let state = tempfile::Builder::new()
            .prefix("paas-test-")
            .tempdir()
            .expect("a folder");
        let mut platform = Self {
            slot: Slot::take(),
            state,
            daemon: None,
            settings: settings.to_vec(),
            variables: variables
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect(),
            user,
            ready: Value::Null,
            api: "127.0.0.1:0".into(),
            router: "127.0.0.1:0".into(),
        };
        if let Some(user) = &platform.user {
            user.own(platform.state.path());
        }
        platform.up();
        platform
    }

    /// Starts the daemon on the state that is there.
    pub fn up(&mut self) {
        assert!(self.daemon.is_none(), "it runs already");
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(self.path("paasd.log"))
            .expect("a log");
        let mut daemon = self
            .paasd("dev")
            .arg("--json")
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .expect("paasd starts");
        let stdout = daemon.stdout.take().expect("piped");
        self.daemon = Some(daemon);
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line).expect("readable");
        let ready: Value =
            serde_json::from_str(&line).unwrap_or_else(|_| panic!("paasd is not ready:\n{}", self.daemon_log()));
        self.api = ready["api"].as_str().expect("an address").to_owned();
        self.router = ready["router"].as_str().expect("an address").to_owned();
        self.ready = ready;
    }

    /// Ends the daemon as a crash does. Apps go on.
    pub fn kill(&mut self) {
        self.signal(Signal::SIGKILL);
    }

    /// Ends the daemon as an operator does. Apps go on.
    pub fn stop(&mut self) {
        self.signal(Signal::SIGTERM);
    }

    fn signal(&mut self, signal: Signal) {
        let Some(mut daemon) = self.daemon.take() else { return };
        kill(Pid::from_raw(daemon.id().cast_signed()), signal).expect("ours");
        daemon.wait().expect("ours");
    }

    /// Who runs it.
    #[must_use]
    pub fn user(&self) -> &User {
        self.user.as_ref().expect("an ordinary user")
    }

    /// Process id of the daemon.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.daemon.as_ref().map(Child::id)
    }

    /// A path below the state directory.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.state.path().join(name)
    }

    /// What the daemon logged.
    #[must_use]
    pub fn daemon_log(&self) -> String {
        std::fs::read_to_string(self.path("paasd.log")).unwrap_or_default()
    }

    fn paasd(&self, command: &str) -> Command {
        let mut paasd = match &self.user {
            Some(user) => user.paasd(),
            None => Command::new(program("paasd")),
        };
        let (name, subnet) = (self.slot.name(), self.slot.subnet());
        // Addresses stay the same after a restart, so that clients find it again.
        let (api, router) = (self.api.trim_start_matches("http://"), &self.router);
        paasd
            .arg(command)
            .arg("--state")
            .arg(self.state.path())
            .args(["--set", &format!("controller.listen={api}")]);
        paasd.args([
            "--set",
            "ssh.listen=127.0.0.1:0",
            "--set",
            &format!("router.listen={router}"),
            "--set",
            &format!("cell.network.name={name}"),
        ]);
        paasd.args(["--set", &format!("cell.network.bridge={name}"), "--set"]);
        paasd.arg(format!("cell.network.subnet={subnet}")).stdin(Stdio::null());
        for setting in &self.settings {
            paasd.args(["--set", setting]);
        }
        paasd.envs(self.variables.iter().map(|(name, value)| (name, value)));
        paasd
    }

    /// A `paas` command line that is logged in here, not yet started.
    pub fn command<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Command {
        client(self.state.path(), arguments)
    }

    /// Runs a `paas` command line to its end.
    pub fn paas<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Ended {
        self.command(arguments).output().expect("paas starts").into()
    }

    /// `GET` of a path of a host through the router: status and body.
    #[must_use]
    pub fn get(&self, host: &str, path: &str) -> (u16, String) {
        let client = reqwest::blocking::Client::builder()
            .timeout(DEADLINE)
            .build()
            .expect("a client");
        let response = client
            .get(format!("http://{}{path}", self.router))
            .header("host", host)
            .send();
        let response = response.expect("the router answers");
        (response.status().as_u16(), response.text().unwrap_or_default())
    }
}

/// The API without a client of ours in between.
pub struct Api {
    http: reqwest::blocking::Client,
    base: String,
    token: String,
}

impl Api {
    /// As the administrator of a platform.
    #[must_use]
    pub fn of(platform: &Platform) -> Self {
        let login = std::fs::read(platform.path("login.json")).expect("a login is ready");
        let login: Value = serde_json::from_slice(&login).expect("JSON");
        let http = reqwest::blocking::Client::builder()
            .timeout(DEADLINE)
            .build()
            .expect("a client");
        let form = [
            ("grant_type", "password"),
            ("username", text(&login["username"])),
            ("password", text(&login["password"])),
        ];
        let url = format!("{}/oauth/token", platform.api);
        let answer = http
            .post(url)
            .basic_auth("cf", Some(""))
            .form(&form)
            .send()
            .expect("answered");
        let token: Value = answer.json().expect("JSON");
        Self {
            http,
            base: platform.api.clone(),
            token: text(&token["access_token"]).to_owned(),
        }
    }

    /// A request to a path, to be completed and sent.
    pub fn request(&self, method: &str, path: &str) -> reqwest::blocking::RequestBuilder {
        let method = method.parse().expect("a method");
        self.http
            .request(method, format!("{}{path}", self.base))
            .bearer_auth(&self.token)
    }

    /// Sends a JSON body, or none where it is null: status and answer.
    #[must_use]
    pub fn call(&self, method: &str, path: &str, body: &Value) -> (u16, Value) {
        let request = self.request(method, path);
        let request = if body.is_null() { request } else { request.json(body) };
        let answer = request.send().expect("answered");
        (answer.status().as_u16(), answer.json().unwrap_or_default())
    }
}

/// A JSON text.
#[must_use]
pub fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("not a text: {value}"))
}

impl Drop for Platform {
    fn drop(&mut self) {
        self.stop();
        let torn: Ended = self.paasd("teardown").output().expect("paasd starts").into();
        let failing = std::thread::panicking();
        if failing {
            let log = self.daemon_log();
            let from = log.len().saturating_sub(8_000);
            #[allow(clippy::print_stderr, reason = "tells why the test failed")]
            {
                eprintln!("end of the daemon's log:\n{}", log.get(from..).unwrap_or(&log));
            }
        }
        let left = leftovers::of(&self.slot.name(), self.state.path());
        if !failing {
            let _ = torn.ok();
            assert!(left.is_empty(), "left behind: {left:#?}");
        }
    }
}
