//! The operations on containers: create, start, state, kill, delete.

use std::io;
use std::os::fd::{AsFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use oci_spec::runtime::{ContainerState as Status, Spec, State};

use super::birth::{self, Midwife};
use super::error::{Context, Error, Result};
use super::groups::{self, Groups};
use super::hooks::{self, Kind};
use super::link::{Ask, Tell};
use super::plan::Plan;
use super::state::{Folder, Record, SOCKET};
use super::{capabilities, config, console, limits, listener, state};
use crate::{record, sys, wire};

/// How long a killed process may take to be gone.
const END: Duration = Duration::from_secs(10);
/// How long a start may take, its hooks included.
const START: Duration = Duration::from_secs(3700);

/// What a container is made from and with.
#[derive(Clone, Debug, Default)]
pub struct Creation {
    /// Its name.
    pub id: String,
    /// The bundle's folder.
    pub bundle: PathBuf,
    /// Where its process's number is written, if anywhere.
    pub pid_file: Option<PathBuf>,
    /// The socket to which its terminal is sent.
    pub console_socket: Option<PathBuf>,
    /// Descriptors that it keeps besides its standard streams.
    pub preserve_fds: Vec<RawFd>,
    /// Whether it may have the host's tree below its root, where that cannot be left behind (a root on a ramdisk).
    pub no_pivot: bool,
}

/// All containers below one root folder.
#[derive(Clone, Debug)]
pub struct Containers {
    root: PathBuf,
}

/// Who is there while a container is made.
struct Attendant<'a> {
    spec: &'a Spec,
    record: &'a mut Record,
    folder: &'a Folder,
    console_socket: Option<&'a Path>,
    terminal: Option<OwnedFd>,
}

impl Midwife for Attendant<'_> {
    fn furnished(&mut self, pid: i32) -> Result<Vec<u8>> {
        self.record.pid = Some(pid);
        self.record.start_ticks = record::start_ticks(pid).unwrap_or(0);
        self.folder.write(self.record)?;
        let state = self.record.state_json(Status::Creating);
        for kind in [Kind::Prestart, Kind::CreateRuntime] {
            hooks::run(self.spec.hooks().as_ref(), kind, &state, &self.record.bundle)?;
        }
        Ok(self.record.state_json(Status::Created))
    }

    fn console(&mut self, terminal: OwnedFd) -> Result<()> {
        match self.console_socket {
            Some(path) => console::send(path, &terminal).at("send the terminal to", path),
            None => {
                self.terminal = Some(terminal);
                Ok(())
            }
        }
    }
}

impl Containers {
    /// Those below `root`.
    pub fn at(root: PathBuf) -> Containers {
        Containers { root }
    }

    /// The folder of all.
    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// Makes a container whose process waits for its start. Returns its terminal if it has one and no socket was
    /// named to send that to. On failure nothing is left.
    pub fn create(&self, wanted: &Creation) -> Result<Option<OwnedFd>> {
        birth::check_host()?;
        let bundle = std::fs::canonicalize(&wanted.bundle).at("find bundle", &wanted.bundle)?;
        let (spec, unknown) = config::load(&bundle)?;
        warn(unknown.into_iter().chain(beyond(&spec)));
        let has_terminal = spec
            .process()
            .as_ref()
            .is_some_and(|process| process.terminal() == Some(true));
        if wanted.console_socket.is_some() && !has_terminal {
            let what = "a console socket is of no use without process.terminal".to_owned();
            return Err(Error::Unsupported { what });
        }
        let rootfs = bundle.join(spec.root().as_ref().map_or(Path::new(""), |root| root.path()));
        let rootfs = std::fs::canonicalize(&rootfs).at("find root", rootfs)?;
        let folder = Folder::create(&self.root, &wanted.id)?;
        let mut record = Record {
            id: wanted.id.clone(),
            status: Status::Creating,
            pid: None,
            start_ticks: 0,
            boot: record::boot_id(),
            bundle,
            rootfs,
            groups: Vec::new(),
            made: Vec::new(),
            created_ns: sys::now_ns(),
            annotations: spec.annotations().clone().unwrap_or_default(),
        };
        match make(wanted, &spec, &folder, &mut record) {
            Ok(terminal) => Ok(terminal),
            Err(error) => {
                let hooked = record.pid.is_some();
                undo(folder, &record);
                if hooked {
                    let state = record.state_json(Status::Stopped);
                    complain(&hooks::run_all(
                        spec.hooks().as_ref(),
                        Kind::Poststop,
                        &state,
                        &record.bundle,
                    ));
                }
                Err(error)
            }
        }
    }

    /// Has the process of a created container execute its program.
    pub fn start(&self, id: &str) -> Result<()> {
        let folder = Folder::open(&self.root, id)?;
        let mut record = folder.known()?;
        let spec = folder.spec()?;
        expect(&record, "start", Status::Created)?;
        if spec.process().is_none() {
            let what = format!("start container {id}: it was created without a process");
            return Err(Error::Unsupported { what });
        }
        let socket = wire::connect(folder.path(), SOCKET).step(id, "reach its process")?;
        wire::send(socket.as_fd(), &Tell::Start, &[]).step(id, "speak to its process")?;
        let deadline = Instant::now() + START;
        loop {
            let heard = wire::receive_until::<Ask>(socket.as_fd(), deadline);
            match heard.step(id, "listen to its process")? {
                Some((Ask::Failed { stage, errno }, _)) => {
                    return Err(io::Error::from_raw_os_error(errno)).step(id, stage);
                }
                Some((Ask::Listener, fds)) => {
                    let pid = record.pid.unwrap_or(0);
                    listener::hand_over(&spec, &record, pid, fds).inspect_err(|_| end(&record))?;
                }
                // Closed by the execution of the program.
                _ => break,
            }
        }
        record.status = Status::Running;
        folder.write(&record)?;
        let state = record.state_json(Status::Running);
        complain(&hooks::run_all(
            spec.hooks().as_ref(),
            Kind::Poststart,
            &state,
            &record.bundle,
        ));
        Ok(())
    }

    /// What is known of a container.
    pub fn state(&self, id: &str) -> Result<State> {
        let record = state::look(&self.root, id)?;
        Ok(record.state(record.status()))
    }

    /// The record of a container.
    pub fn look(&self, id: &str) -> Result<Record> {
        state::look(&self.root, id)
    }

    /// All of them.
    pub fn list(&self) -> Result<Vec<Record>> {
        state::list(&self.root)
    }

    /// Signals the process of a container, or all that is in it.
    pub fn kill(&self, id: &str, signal: i32, all: bool) -> Result<()> {
        let record = state::look(&self.root, id)?;
        let process = record.process();
        let status = record.status();
        match process.filter(|_| matches!(status, Status::Created | Status::Running)) {
            Some(process) => sys::pidfd_signal(process.as_fd(), signal).step(id, "signal its process")?,
            None if all => {}
            None => {
                return Err(Error::Status {
                    operation: "kill",
                    id: id.to_owned(),
                    status,
                });
            }
        }
        if all {
            groups::signal_all(&record.groups, signal).step(id, "signal its processes")?;
        }
        Ok(())
    }

    /// Removes what is left of a stopped container; with `force`, kills it before. A container that is not there is
    /// none the worse for force.
    pub fn delete(&self, id: &str, force: bool) -> Result<()> {
        let folder = match Folder::open(&self.root, id) {
            Err(Error::Missing { .. }) if force => return Ok(()),
            other => other?,
        };
        let Some(record) = folder.record()? else {
            // Its making was cut short before it was anything.
            return folder.remove();
        };
        let status = record.status();
        // The lock is free, so nobody is making it any more.
        if !force && !matches!(status, Status::Stopped | Status::Creating) {
            return Err(Error::Status {
                operation: "delete",
                id: id.to_owned(),
                status,
            });
        }
        if let Some(process) = record.process() {
            sys::pidfd_signal(process.as_fd(), libc::SIGKILL).step(id, "kill its process")?;
            if !wire::wait_readable(process.as_fd(), Instant::now() + END).step(id, "wait for its end")? {
                return Err(io::ErrorKind::TimedOut).step(id, "wait for its end");
            }
        }
        groups::remove(&record.made, &record.groups)?;
        let spec = folder.spec().ok();
        let hooks = spec.as_ref().and_then(|spec| spec.hooks().clone());
        folder.remove()?;
        let state = record.state_json(Status::Stopped);
        complain(&hooks::run_all(hooks.as_ref(), Kind::Poststop, &state, &record.bundle));
        Ok(())
    }
}

/// Of a process that waits for somebody who never comes.
fn end(record: &Record) {
    if let Some(process) = record.process() {
        let _ = sys::pidfd_signal(process.as_fd(), libc::SIGKILL);
    }
}

fn expect(record: &Record, operation: &'static str, wanted: Status) -> Result<()> {
    let status = record.status();
    if status == wanted {
        return Ok(());
    }
    Err(Error::Status {
        operation,
        id: record.id.clone(),
        status,
    })
}

fn make(wanted: &Creation, spec: &Spec, folder: &Folder, record: &mut Record) -> Result<Option<OwnedFd>> {
    folder.keep(spec)?;
    folder.write(record)?;
    let groups = Groups::create(&group_path(spec, &wanted.id))?;
    record.groups = groups.all.iter().map(|group| group.dir.clone()).collect();
    record.made = groups.made.clone();
    folder.write(record)?;
    let linux = spec.linux().as_ref();
    if let Some(resources) = linux.and_then(|linux| linux.resources().as_ref()) {
        let devices = linux.and_then(|linux| linux.devices().as_deref()).unwrap_or_default();
        limits::apply(&groups, resources, devices)?;
    }
    let listener = wire::listen(folder.path(), SOCKET).at("listen in", folder.path())?;
    let plan = Plan::new(spec.clone(), record.rootfs.clone(), groups, wanted)?;
    let birth = birth::begin(&wanted.id, &plan, &listener)?;
    let bundle = record.bundle.clone();
    let mut attendant = Attendant {
        spec,
        record,
        folder,
        console_socket: wanted.console_socket.as_deref(),
        terminal: None,
    };
    let made = birth.complete(&plan, &bundle, &mut attendant);
    let terminal = attendant.terminal.take();
    made.and_then(|()| settle(wanted, folder, record, birth.pid))
        .inspect_err(|_| birth::abandon(birth.pid))?;
    Ok(terminal)
}

fn settle(wanted: &Creation, folder: &Folder, record: &mut Record, pid: i32) -> Result<()> {
    record.pid = Some(pid);
    record.start_ticks = record::start_ticks(pid).unwrap_or(0);
    record.status = Status::Created;
    if let Some(path) = &wanted.pid_file {
        let draft = path.with_extension("new");
        std::fs::write(&draft, pid.to_string()).at("write", &draft)?;
        std::fs::rename(&draft, path).at("write", path)?;
    }
    folder.write(record)
}

/// Where its groups are, below each hierarchy's root; a relative path is one below the platform's own.
fn group_path(spec: &Spec, id: &str) -> PathBuf {
    let configured = spec.linux().as_ref().and_then(|linux| linux.cgroups_path().clone());
    let path = match configured.filter(|path| !path.as_os_str().is_empty()) {
        None => Path::new(groups::PARENT).join(id),
        Some(path) if path.is_absolute() => path,
        Some(path) => Path::new(groups::PARENT).join(path),
    };
    super::container::place::plain(&path)
}

/// Removes what a failed making left.
fn undo(folder: Folder, record: &Record) {
    let _ = groups::remove(&record.made, &record.groups);
    let _ = folder.remove();
}

/// Hooks at these points change nothing by failing, but somebody should know.
fn complain(errors: &[Error]) {
    warn(errors.iter().map(ToString::to_string));
}

fn warn(all: impl Iterator<Item = String>) {
    use std::io::Write;
    for text in all {
        let _ = writeln!(io::stderr(), "paas-init: warning: {text}");
    }
}

/// What cannot be granted, because this process has not got it itself.
fn beyond(spec: &Spec) -> Option<String> {
    let process = spec.process().as_ref()?;
    let wanted = capabilities::sets(process.capabilities().as_ref()?);
    let own = rustix::thread::capabilities(None).ok()?.permitted.bits();
    let lacking = capabilities::named((wanted.bounding | wanted.permitted) & !own);
    (!lacking.is_empty()).then(|| format!("{} cannot be granted here", lacking.join(", ")))
}
