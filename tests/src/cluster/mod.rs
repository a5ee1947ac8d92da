//! A platform on many hosts, on this machine: controllers on a real PostgreSQL and a real S3-compatible server, routers
//! and cells, each in a network of its own. For tests of what happens when any of them dies.

mod database;
mod part;
mod switch;

pub use database::Database;
pub use part::Part;
pub use switch::{Host, Switch};

use crate::weed::{self, Weed};
use crate::{Ended, leftovers, program};
use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use tempfile::TempDir;

/// Ports, the same on every host.
const API: u16 = 8181;
const MACHINES: u16 = 8182;
const EDGE: u16 = 8080;
/// First host user id of the first cell's sandboxes, and from one cell to the next.
const USERS: (u32, u32) = (1 << 28, 1 << 28);
/// Memory that each cell offers, in MiB.
const MEMORY: u32 = 4096;
/// Numbers of the hosts.
const CONTROLLERS: u8 = 11;
const ROUTERS: u8 = 21;
const CELLS: u8 = 31;
const DATABASE: u8 = 41;

/// How many of each.
#[derive(Debug, Clone, Copy)]
pub struct Size {
    /// Controllers.
    pub controllers: u8,
    /// Routers.
    pub routers: u8,
    /// Cells.
    pub cells: u8,
}

/// The whole of it. What it made is gone when it is dropped.
pub struct Cluster {
    /// The controllers.
    pub controllers: Vec<Part>,
    /// The routers.
    pub routers: Vec<Part>,
    /// The cells.
    pub cells: Vec<Part>,
    /// The database.
    pub database: Database,
    /// The object store.
    pub blobs: Weed,
    /// The hosts and what connects them.
    pub switch: Switch,
    state: TempDir,
}

impl Cluster {
    /// Starts all, one after the other.
    #[must_use]
    pub fn start(size: Size) -> Self {
        let mut switch = Switch::new();
        let state = tempfile::Builder::new().prefix("paas-cluster-").tempdir();
        let state = state.expect("a folder");
        let database = Database::start(&switch.host(DATABASE), &switch.block());
        let weed = weed::install(&crate::root().join("target/tools")).expect("the object store is installed");
        let address = switch.address(1).parse().expect("an address");
        let blobs = Weed::on(&weed, address).expect("the object store starts");
        // One secret of controllers; machines join.
        let secrets = Command::new(program("paasd")).arg("secrets").arg(state.path()).status();
        assert!(secrets.expect("paasd starts").success());
        let mut cluster = Self {
            controllers: Vec::new(),
            routers: Vec::new(),
            cells: Vec::new(),
            database,
            blobs,
            switch,
            state,
        };
        cluster.add_controllers(size.controllers);
        cluster.log_in(0);
        let cells: Vec<Host> = (0..size.cells).map(|n| cluster.switch.host(CELLS + n)).collect();
        for n in 0..size.routers {
            let host = cluster.switch.host(ROUTERS + n);
            for (k, cell) in (1..).zip(&cells) {
                cluster.switch.route(&host, k, cell);
            }
            let settings = vec![format!("router.listen={}:{EDGE}", host.address)];
            let part = cluster.joined("router", &host, settings);
            cluster.routers.push(part);
        }
        for (k, host) in (1..).zip(&cells) {
            let settings = cluster.cell_settings(k);
            let part = cluster.joined("cell", host, settings);
            cluster.cells.push(part);
        }
        cluster
    }

    fn add_controllers(&mut self, count: u8) {
        for n in 0..count {
            let host = self.switch.host(CONTROLLERS + n);
            let url = self.blobs.url();
            let (key, _) = url.trim_start_matches("http://").split_once('@').expect("a key");
            let (id, key) = key.split_once(':').expect("an id and a key");
            let settings = vec![
                format!("controller.listen={}:{API}", host.address),
                format!("cluster.listen={}:{MACHINES}", host.address),
                format!("cluster.secrets={}", self.path("controller.json").display()),
                format!("database.url={}", self.database.url()),
                "blobs.bucket=paas".to_owned(),
                format!("blobs.endpoint=http://{}", self.blobs.endpoint()),
                format!("blobs.access_key={id}"),
                format!("blobs.secret_key={key}"),
                "controller.domain=apps.test".to_owned(),
            ];
            let part = self.part("controller", &host, settings);
            self.controllers.push(part);
        }
    }

    fn cell_settings(&self, k: u8) -> Vec<String> {
        vec![
            format!("cell.name=cell{k}"),
            format!("cell.network.name={}-{k}", self.switch.name()),
            format!("cell.network.bridge=paasc{k}"),
            format!("cell.network.subnet={}", self.switch.sandboxes(k)),
            format!("cell.network.callers={}", self.switch.block()),
            format!("cell.network.resolvers={}", self.switch.address(1)),
            format!("cell.uid_base={}", USERS.0 + USERS.1 * u32::from(k - 1)),
            format!("cell.memory_mb={MEMORY}"),
            "cell.network.uplink=eth0".to_owned(),
        ]
    }

    /// Starts a role on a host that has joined, or needs not.
    fn part(&self, role: &str, host: &Host, settings: Vec<String>) -> Part {
        let name = format!("{role}-{}", host.address);
        let mut arguments = vec![
            program("paasd").display().to_string(),
            role.to_owned(),
            "--json".to_owned(),
        ];
        arguments.extend(self.given(&name, settings));
        Part::start(host, &name, self.state.path(), arguments)
    }

    /// The state directory and the settings of a role, as arguments.
    fn given(&self, name: &str, settings: Vec<String>) -> Vec<String> {
        let state = ["--state".to_owned(), self.path(name).display().to_string()];
        let settings = settings.into_iter().flat_map(|setting| ["--set".to_owned(), setting]);
        state.into_iter().chain(settings).collect()
    }

    /// Joins a host with a token of its own, and starts the role there: of controllers, certificates and blobs it knows
    /// what the token and the joining tell.
    fn joined(&self, role: &str, host: &Host, settings: Vec<String>) -> Part {
        let token = self.token(role);
        let ended = self.join(role, host, &token, settings.clone()).ok();
        drop(ended);
        self.part(role, host, settings)
    }

    /// A token that one host joins with.
    #[must_use]
    pub fn token(&self, role: &str) -> String {
        let made = self.paas(["admin", "token", "create", "--role", role, "--json"]).ok();
        made.json()["token"].as_str().expect("a token").to_owned()
    }

    /// `paasd <role> join` on a host, to its end.
    pub fn join(&self, role: &str, host: &Host, token: &str, settings: Vec<String>) -> Ended {
        let name = format!("{role}-{}", host.address);
        let mut paasd = host.command(program("paasd").to_str().expect("UTF-8"));
        paasd
            .args([role, "join", token, "--only"])
            .args(self.given(&name, settings));
        paasd.stdin(Stdio::null()).output().expect("nsenter starts").into()
    }

    /// A path below the folder of this cluster.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.state.path().join(name)
    }

    /// Address of a controller's API.
    #[must_use]
    pub fn api(&self, controller: usize) -> String {
        format!("http://{}:{API}", self.controllers[controller].host.address)
    }

    /// Host and port of a router.
    #[must_use]
    pub fn edge(&self, router: usize) -> String {
        format!("{}:{EDGE}", self.routers[router].host.address)
    }

    /// Logs the `paas` of this cluster in as the administrator at a controller, in a space of its own.
    pub fn log_in(&self, controller: usize) {
        let secrets = std::fs::read(self.path("controller.json")).expect("made");
        let secrets: serde_json::Value = serde_json::from_slice(&secrets).expect("JSON");
        let login = serde_json::json!({
            "api": self.api(controller),
            "username": "admin",
            "password": secrets["admin_password"],
            "org": "tests",
            "space": "tests",
        });
        std::fs::write(self.path("login.json"), login.to_string()).expect("written");
    }

    /// Logs in at the first controller and makes the organisation and the space that [`Self::log_in`] names.
    pub fn make_space(&self) {
        self.log_in(0);
        let _ = self.paas(["create-org", "tests"]).ok();
        let _ = self.paas(["create-space", "tests", "-o", "tests"]).ok();
    }

    /// Running instances of an app, as the API tells them; `None` where it does not answer.
    #[must_use]
    pub fn running(&self, app: &str) -> Option<usize> {
        let told = self.paas(["app", app, "--json"]);
        (told.code == 0).then(|| told.json().to_string().matches("\"RUNNING\"").count())
    }

    /// Runs a `paas` command line to its end.
    pub fn paas<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Ended {
        let output = crate::client(self.state.path(), arguments).output();
        output.expect("paas starts").into()
    }

    fn tear_down(&mut self) -> Vec<String> {
        for part in self
            .cells
            .iter_mut()
            .chain(&mut self.routers)
            .chain(&mut self.controllers)
        {
            part.stop();
        }
        for k in 1..=u8::try_from(self.cells.len()).expect("few") {
            let cell = &self.cells[usize::from(k - 1)];
            let mut paasd = cell.host.command(program("paasd").to_str().expect("UTF-8"));
            paasd.arg("teardown").arg("--state").arg(self.path(&cell.name));
            for setting in self.cell_settings(k) {
                paasd.args(["--set", &setting]);
            }
            let _ = paasd.stdin(Stdio::null()).output();
        }
        leftovers::of(&self.switch.name(), self.state.path())
            .into_iter()
            .filter(|line| !belongs_to_the_switch(line))
            .collect()
    }
}

/// What the switch removes when it is dropped, after all else.
fn belongs_to_the_switch(line: &str) -> bool {
    ["interface", "network namespace", "mount"]
        .iter()
        .any(|kind| line.starts_with(kind))
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let left = self.tear_down();
        if std::thread::panicking() {
            #[allow(clippy::print_stderr, reason = "tells why the test failed")]
            for part in self.controllers.iter().chain(&self.cells).chain(&self.routers) {
                let log = part.log();
                let from = log.len().saturating_sub(3_000);
                eprintln!("end of the log of {}:\n{}", part.name, log.get(from..).unwrap_or(&log));
            }
        } else {
            assert!(left.is_empty(), "left behind: {left:#?}");
        }
    }
}
