//! The contenders that are programs: the bare app, bubblewrap, and OCI runtimes on a bundle.

use crate::contender::{Contender, Cycle, Standing, Start, now_ns, stamp};
use crate::meters::private_kib;
use crate::place::{APP_INSIDE, Place, USER};
use anyhow::{Context as _, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::io::{BufRead as _, BufReader, Read as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// For a runtime to say which process the app is.
const PATIENCE: Duration = Duration::from_secs(5);

/// Which program, and how it is told what to do.
pub enum Kind {
    /// The app itself, on the host.
    Bare,
    /// bubblewrap.
    Bubblewrap,
    /// An OCI runtime.
    Oci(Bundle),
}

/// What an OCI runtime is given.
pub struct Bundle {
    /// The program.
    pub program: PathBuf,
    /// Arguments before its subcommand.
    pub options: Vec<String>,
    /// Bundle with the app that ends.
    pub once: PathBuf,
    /// Bundle with the app that stays.
    pub stay: PathBuf,
    /// Hidden from it, because it refuses to run where it sees it.
    pub hidden: Option<&'static Path>,
}

/// A contender that is a program.
pub struct External {
    pub kind: Kind,
    pub place: Arc<Place>,
}

impl External {
    fn command(&self, id: &str, stays: bool, detached: bool) -> Result<Command> {
        let mut command = match &self.kind {
            Kind::Bare => Command::new(self.place.rootfs().join(&APP_INSIDE[1..])),
            Kind::Bubblewrap => bubblewrap(&self.place.rootfs()),
            Kind::Oci(bundle) => {
                let mut command = Command::new(&bundle.program);
                command.args(&bundle.options).arg("run");
                if detached {
                    command.arg("--detach");
                }
                command.arg("--pid-file").arg(self.pid_file(id));
                command
                    .arg("--bundle")
                    .arg(if stays { &bundle.stay } else { &bundle.once })
                    .arg(id);
                command
            }
        };
        if stays && !matches!(self.kind, Kind::Oci(_)) {
            command.arg("stay");
        }
        // Ctrl-C is for the benchmark, which then ends them one by one.
        command.process_group(0).stdin(Stdio::null()).stdout(Stdio::piped());
        command.stderr(self.place.messages()?);
        Ok(command)
    }

    fn pid_file(&self, id: &str) -> PathBuf {
        self.place.path().join(format!("{id}.pid"))
    }

    fn failed(&self, what: &str) -> anyhow::Error {
        anyhow::anyhow!("{what}; {}", self.place.last_messages())
    }
}

/// As isolated as its options make it.
fn bubblewrap(rootfs: &Path) -> Command {
    let mut command = Command::new("bwrap");
    command.args(["--unshare-all", "--new-session", "--cap-drop", "ALL", "--clearenv"]);
    command.arg("--bind").arg(rootfs).arg("/");
    command.args([
        "--proc",
        "/proc",
        "--dev",
        "/dev",
        "--tmpfs",
        "/tmp",
        "--chdir",
        "/home/vcap",
    ]);
    command.args(["--uid", &USER.to_string(), "--gid", &USER.to_string(), APP_INSIDE]);
    command
}

impl Contender for External {
    fn settle(&self) -> Result<()> {
        match &self.kind {
            Kind::Oci(Bundle { hidden: Some(path), .. }) => hide(path),
            _ => Ok(()),
        }
    }

    fn cycle(&self, id: &str) -> Result<Cycle> {
        let mut command = self.command(id, false, false)?;
        let asked_ns = now_ns();
        let mut child = command.spawn().context("failed to start")?;
        let status = child.wait().context("failed to wait")?;
        let gone_ns = now_ns();
        let mut text = Vec::new();
        if let Some(mut stdout) = child.stdout.take() {
            stdout
                .read_to_end(&mut text)
                .context("failed to read what the app said")?;
        }
        let _ = std::fs::remove_file(self.pid_file(id));
        if !status.success() {
            return Err(self.failed(&format!("{status}")));
        }
        let began_ns = stamp(&text)?;
        let start = Start { asked_ns, began_ns };
        Ok(Cycle { start, gone_ns })
    }

    fn start(&self, id: &str, many: bool) -> Result<Box<dyn Standing>> {
        let mut command = self.command(id, true, many)?;
        let asked_ns = now_ns();
        let mut child = command.spawn().context("failed to start")?;
        let stdout = child.stdout.take().context("its output is piped")?;
        let detached = match &self.kind {
            Kind::Oci(bundle) if many => Some(delete(bundle, id)),
            _ => None,
        };
        Ok(Box::new(Program {
            child,
            stdout: BufReader::new(stdout),
            asked_ns,
            kind: match self.kind {
                Kind::Bare => Inner::Itself,
                Kind::Bubblewrap => Inner::Child,
                Kind::Oci(_) => Inner::File(self.pid_file(id)),
            },
            delete: detached,
            place: Arc::clone(&self.place),
        }))
    }

    fn clear(&self) -> Result<()> {
        let Kind::Oci(bundle) = &self.kind else { return Ok(()) };
        let mut list = Command::new(&bundle.program);
        let output = list.args(&bundle.options).args(["list", "--quiet"]).output();
        let output = output.context("failed to list containers")?;
        for id in String::from_utf8_lossy(&output.stdout).lines() {
            let outcome = delete(bundle, id).output().context("failed to delete a container")?;
            if !outcome.status.success() {
                bail!("{id} is left: {}", String::from_utf8_lossy(&outcome.stderr));
            }
        }
        Ok(())
    }
}

fn delete(bundle: &Bundle, id: &str) -> Command {
    let mut command = Command::new(&bundle.program);
    command
        .args(&bundle.options)
        .args(["delete", "--force", id])
        .process_group(0)
        .stdout(Stdio::null());
    command
}

/// Unmounts `path` in a mount namespace of this thread's own, which its children and further threads get too.
fn hide(path: &Path) -> Result<()> {
    use nix::mount::{MntFlags, MsFlags, mount, umount2};
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).context("failed to make a mount namespace")?;
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(None::<&str>, "/", None::<&str>, private, None::<&str>).context("failed to make mounts private")?;
    umount2(path, MntFlags::MNT_DETACH).with_context(|| format!("failed to hide {}", path.display()))
}

/// Where the app's process is.
enum Inner {
    Itself,
    Child,
    File(PathBuf),
}

/// A running app and the program that runs it.
struct Program {
    child: Child,
    stdout: BufReader<ChildStdout>,
    asked_ns: u64,
    kind: Inner,
    /// Removes it where its runtime did not stay.
    delete: Option<Command>,
    place: Arc<Place>,
}

impl Program {
    fn inner(&self) -> Result<Pid> {
        let own = self.child.id();
        let read = || match &self.kind {
            Inner::Itself => own.to_string(),
            Inner::Child => children(own),
            Inner::File(path) => std::fs::read_to_string(path).unwrap_or_default(),
        };
        let deadline = Instant::now() + PATIENCE;
        loop {
            let first = read().split_whitespace().next().and_then(|pid| pid.parse().ok());
            match first {
                Some(pid) => return Ok(Pid::from_raw(pid)),
                None if Instant::now() > deadline => bail!("the app has no process"),
                // sleeps: runtimes write the number down some time after the app has begun, and tell nobody.
                None => std::thread::sleep(Duration::from_millis(1)),
            }
        }
    }
}

fn children(pid: u32) -> String {
    std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default()
}

impl Standing for Program {
    fn start(&mut self) -> Result<Start> {
        let mut line = Vec::new();
        self.stdout
            .read_until(b'\n', &mut line)
            .context("failed to read what the app said")?;
        let began_ns = stamp(&line).map_err(|error| error.context(self.place.last_messages()))?;
        if self.delete.is_some() {
            // The runtime itself ends a little later, which is part of having started.
            self.child.wait().context("failed to wait")?;
        }
        let asked_ns = self.asked_ns;
        Ok(Start { asked_ns, began_ns })
    }

    fn find(&mut self) -> Result<()> {
        self.inner().map(drop)
    }

    fn kill(mut self: Box<Self>) -> Result<()> {
        if let Some(mut delete) = self.delete.take() {
            let status = delete.status().context("failed to delete")?;
            if !status.success() {
                bail!("delete: {status}");
            }
        } else {
            kill(self.inner()?, Signal::SIGKILL).context("failed to kill")?;
            self.child.wait().context("failed to wait")?;
        }
        if let Inner::File(path) = &self.kind {
            let _ = std::fs::remove_file(path);
        }
        Ok(())
    }

    fn private_kib(&self) -> u64 {
        let own = private_kib(self.child.id().cast_signed());
        let mut below: Vec<i32> = Vec::new();
        match &self.kind {
            Inner::Itself => {}
            // The first process inside, and the app as its child.
            Inner::Child => {
                for pid in children(self.child.id())
                    .split_whitespace()
                    .filter_map(|pid| pid.parse().ok())
                {
                    below.push(pid);
                    let apps = children(pid.cast_unsigned());
                    below.extend(apps.split_whitespace().filter_map(|pid| pid.parse::<i32>().ok()));
                }
            }
            Inner::File(_) => below.extend(self.inner().ok().map(Pid::as_raw)),
        }
        own + below.into_iter().map(private_kib).sum::<u64>()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // Nothing where it has ended in order; else whatever it is, it goes.
        if matches!(self.child.try_wait(), Ok(None)) {
            if let Ok(pid) = self.inner() {
                let _ = kill(pid, Signal::SIGKILL);
            }
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}
