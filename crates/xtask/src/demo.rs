//! `cargo xtask demo`: the first five minutes. Builds, starts a platform in the background, pushes a sample app, says
//! what to try next.

use crate::needs::{self, Purpose};
use crate::workspace::root;
use crate::{dist, shell};
use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;
use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// The sample that is pushed.
const SAMPLE: &str = "tests/apps/node-express";
/// Longest time for the daemon to end.
const STOP: Duration = Duration::from_secs(60);

/// What to do.
pub struct Demo {
    /// State directory of the platform.
    pub state: PathBuf,
    /// Cargo profile to build with.
    pub profile: String,
}

impl Demo {
    /// Builds, starts, pushes.
    pub fn start(&self) -> Result<()> {
        ensure!(
            shell::is_root(),
            "the demonstration is a platform of root's: run `sudo env \"PATH=$PATH\" cargo xtask demo`, or without root \
             `cargo xtask dist`, then `dist/bin/paasd dev`"
        );
        let began = Instant::now();
        needs::ensure(Purpose::Run)?;
        println!("building (some minutes the first time)");
        dist::dist(&self.profile)?;
        println!("built in {} s", began.elapsed().as_secs());
        let ready = match self.running() {
            Some(ready) => ready,
            None => self.daemon()?,
        };
        let (api, edge) = (text(&ready, "api")?, text(&ready, "router")?);
        println!(
            "the platform is up: API {api}, apps at http://<app>.localhost:{}",
            port(edge)
        );
        self.push()?;
        let url = format!("http://hello.localhost:{}/", port(edge));
        println!("\nAll in all {} s. Your first app: {url}\n", began.elapsed().as_secs());
        println!("Try next:\n  curl {url}");
        println!("  export PATH={}:$PATH", root().join("dist/bin").display());
        println!("  paas apps                    paas scale hello -i 3      paas logs hello -f");
        println!("  paas push ./your-app         paas why hello             paas exec hello");
        println!("\nIt goes on in the background; its log is {}.", self.log().display());
        println!("`cargo xtask demo --stop` ends it and its apps; with --purge its state goes too.");
        Ok(())
    }

    /// Ends the daemon and all apps; with `purge` the state goes too.
    pub fn stop(&self, purge: bool) -> Result<()> {
        if let Some(ready) = self.running() {
            let pid = ready["pid"]
                .as_u64()
                .context("the daemon's pid is not known")?
                .to_string();
            shell::run(Command::new("kill").arg(&pid))?;
            let until = Instant::now() + STOP;
            while Path::new("/proc").join(&pid).exists() {
                ensure!(
                    Instant::now() < until,
                    "the daemon, process {pid}, did not end within {} s",
                    STOP.as_secs()
                );
                std::thread::sleep(Duration::from_millis(20));
            }
        }
        if self.state.exists() {
            shell::run(
                Command::new(program("paasd"))
                    .args(["teardown", "--state"])
                    .arg(&self.state),
            )?;
        }
        if purge && self.state.exists() {
            std::fs::remove_dir_all(&self.state)
                .with_context(|| format!("failed to remove {}", self.state.display()))?;
        }
        println!("stopped");
        Ok(())
    }

    /// What a daemon that is still running said when it was ready.
    fn running(&self) -> Option<Value> {
        let ready: Value = serde_json::from_slice(&std::fs::read(self.ready()).ok()?).ok()?;
        let line = std::fs::read(format!("/proc/{}/cmdline", ready["pid"].as_u64()?)).ok()?;
        String::from_utf8_lossy(&line).contains("paasd").then_some(ready)
    }

    fn daemon(&self) -> Result<Value> {
        std::fs::create_dir_all(&self.state).with_context(|| format!("failed to make {}", self.state.display()))?;
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.log())
            .context("failed to open the log")?;
        let mut daemon = Command::new(program("paasd"))
            .args(["dev", "--json", "--state"])
            .arg(&self.state)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            // Its own group: an interrupt of this command does not end it.
            .process_group(0)
            .spawn()
            .context("failed to start paasd")?;
        let mut line = String::new();
        let stdout = daemon.stdout.take().context("its output is piped")?;
        BufReader::new(stdout)
            .read_line(&mut line)
            .context("failed to read what paasd says")?;
        if line.is_empty() {
            let log = std::fs::read_to_string(self.log()).unwrap_or_default();
            let last: Vec<_> = log.lines().rev().take(5).collect();
            bail!(
                "paasd did not start:\n{}",
                last.into_iter().rev().collect::<Vec<_>>().join("\n")
            );
        }
        std::fs::write(self.ready(), &line).context("failed to keep what paasd said")?;
        serde_json::from_str(&line).with_context(|| format!("paasd said {line:?}"))
    }

    fn push(&self) -> Result<()> {
        let mut push = Command::new(program("paas"));
        push.arg("push").arg(root().join(SAMPLE)).args(["-n", "hello"]);
        shell::run(push.env("PAAS_DEV_LOGIN", self.state.join("login.json")))
    }

    fn ready(&self) -> PathBuf {
        self.state.join("ready.json")
    }

    fn log(&self) -> PathBuf {
        self.state.join("paasd.log")
    }
}

fn program(name: &str) -> PathBuf {
    root().join("dist/bin").join(name)
}

fn text<'a>(ready: &'a Value, key: &str) -> Result<&'a str> {
    ready[key]
        .as_str()
        .with_context(|| format!("paasd named no {key} address"))
}

fn port(address: &str) -> &str {
    address.rsplit_once(':').map_or(address, |(_, port)| port)
}
