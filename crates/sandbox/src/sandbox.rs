//! One sandbox as its agent holds it. Dropping the handle changes nothing: the sandbox goes
//! on and can be adopted again.

use std::fs::File;
use std::io::{self, Read};
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags, ResolveFlags};

use crate::cgroup::meter::BUFFER_BYTES;
use crate::copy::{self, Copy, CopyLimits, CopyOrder, Errand, OpenHow};
use crate::error::Context;
use crate::exec::{self, Exec};
use crate::gauge::Gauge;
use crate::net::Lease;
use crate::record::{self, CONTROL, EXIT, LOG, Record};
use crate::runtime::Inner;
use crate::spec::fill_address;
use crate::wire::{self, Answer, Ask, Command, Reply};
use crate::{Error, ExecSpec, Exit, Limits, Result, StartReport, Stats, check, log, sys};

/// Init answers within this, or is not asked any further.
const ANSWER: Duration = Duration::from_secs(10);
/// For init to write out the log before everything is killed.
const ORDERLY_END: Duration = Duration::from_secs(2);
/// For the kernel to end what was killed.
const END: Duration = Duration::from_secs(10);

/// See the module.
#[derive(Debug)]
pub struct Sandbox {
    inner: Arc<Inner>,
    record: Record,
    /// Those of the record may have been replaced.
    limits: Mutex<Limits>,
    pidfd: OwnedFd,
    gauge: Arc<Gauge>,
    /// Keeps the network namespace in being.
    lease: Option<Lease>,
    /// How it was started, if by this agent.
    report: Option<StartReport>,
}

impl Sandbox {
    pub(crate) fn new(
        inner: Arc<Inner>,
        record: Record,
        pidfd: OwnedFd,
        upper: Option<OwnedFd>,
        lease: Option<Lease>,
    ) -> Sandbox {
        let gauge = inner.gauges.add(&record, &*inner.groups, upper);
        Sandbox {
            limits: Mutex::new(record.limits),
            inner,
            record,
            pidfd,
            gauge,
            lease,
            report: None,
        }
    }

    pub(crate) fn with_report(self, report: StartReport) -> Sandbox {
        Sandbox {
            report: Some(report),
            ..self
        }
    }

    /// How its start went, if this agent started it.
    pub fn start_report(&self) -> Option<&StartReport> {
        self.report.as_ref()
    }

    /// Whether it was parked before it was started.
    pub fn was_parked(&self) -> bool {
        self.report.as_ref().is_some_and(|report| report.parked)
    }

    /// Its name.
    pub fn id(&self) -> &str {
        &self.record.id
    }

    /// Pid of its init on the host; means nothing once [`Sandbox::pidfd`] is readable.
    pub fn init_pid(&self) -> i32 {
        self.record.pid.unwrap_or(0)
    }

    /// Readable when its init is gone, and with it everything inside.
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    /// Its address, if it has a network.
    pub fn address(&self) -> Option<Ipv4Addr> {
        self.record.address
    }

    /// When it was asked for, unix nanoseconds.
    pub fn created_ns(&self) -> u64 {
        self.record.created_ns
    }

    /// Its log.
    pub fn log(&self) -> log::Reader {
        log::Reader::new(self.log_dir())
    }

    /// The folder with its log segments, for a watch.
    pub fn log_dir(&self) -> PathBuf {
        self.dir().join(LOG)
    }

    /// Name of its groups, and its name with the spawner.
    fn seat(&self) -> &str {
        self.record.seat()
    }

    fn dir(&self) -> PathBuf {
        self.inner.folders.sandbox(self.id())
    }

    fn is_gone(&self) -> bool {
        wire::wait_readable(self.pidfd.as_fd(), Instant::now()).unwrap_or(false)
    }

    /// Its present use of the host. See [`crate::Runtime::stats_all`] for many.
    pub fn stats(&self) -> Result<Stats> {
        self.gauge.read(&self.inner.spawner, &mut [0; BUFFER_BYTES])
    }

    /// Its limits.
    pub fn limits(&self) -> Limits {
        *self.limits.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts it under another policy while it runs: in force when this returns. Connections that it does not allow are
    /// ended, the others go on. Without a network there is nothing to do.
    pub fn set_policy(&self, policy: &crate::net::Egress) -> Result<()> {
        let set = |address| self.inner.set_policy(self.id(), address, policy);
        self.address().map_or(Ok(()), set)
    }

    /// Gives it other limits while it runs, all or none of them. Memory that is in use and
    /// cannot be dropped is not taken away: that is [`Error::MemoryInUse`].
    pub fn update(&self, limits: &Limits) -> Result<()> {
        check::limits(self.id(), limits)?;
        let mut present = self.limits.lock().unwrap_or_else(PoisonError::into_inner);
        if self.is_gone() {
            return Err(Error::NotRunning {
                id: self.id().to_owned(),
            });
        }
        let (groups, id) = (&self.inner.groups, self.seat());
        let devices = self.inner.devices(self.gauge.upper(&self.inner.spawner).as_deref());
        groups.update(id, &present, limits, &devices)?;
        let record = Record {
            limits: *limits,
            ..self.record.clone()
        };
        // An agent that comes back believes the record.
        record::write_in(&self.dir(), &record).inspect_err(|_| {
            if let Err(error) = groups.update(id, limits, &present, &devices) {
                tracing::warn!(sandbox = %id, %error, "limits that could not be recorded stay in force");
            }
        })?;
        *present = *limits;
        Ok(())
    }

    /// Sends `signal` to the app's process group.
    pub fn signal(&self, signal: i32) -> Result<()> {
        let socket = self.connect()?;
        match self.command(&socket, &Command::Signal { signal })? {
            Reply::Done => Ok(()),
            Reply::Failed { errno, .. } => Err(io::Error::from_raw_os_error(errno)).on("signal the app", self.id()),
            _ => Err(io::ErrorKind::InvalidData).on("signal the app", self.id()),
        }
    }

    /// Stops (or continues) everything inside; returns when it has stopped.
    pub fn freeze(&self, frozen: bool) -> Result<()> {
        self.inner.groups.freeze(self.seat(), frozen)
    }

    /// Kills everything inside and waits until it is gone. The log is written out first if
    /// init is able to; whether or not, this ends.
    pub fn kill(&self) -> Result<()> {
        if self.is_gone() {
            return Ok(());
        }
        let asked = self.reach().and_then(|socket| {
            wire::send(socket.as_fd(), &Command::Kill, &[])
                .on("kill", self.id())
                .map(|()| socket)
        });
        if self.inner.groups.is_frozen(self.seat()) {
            // The order waits for it already, so hardly anything but its end happens.
            let _ = self.inner.groups.freeze(self.seat(), false);
        }
        if let Ok(_connected) = asked
            && wire::wait_readable(self.pidfd.as_fd(), Instant::now() + ORDERLY_END).on("kill", self.id())?
        {
            return Ok(());
        }
        self.inner.groups.kill(self.seat())?;
        // Takes the whole pid namespace along, in case the group could not be killed.
        let _ = sys::pidfd_signal(self.pidfd.as_fd(), libc::SIGKILL);
        wait_end(self.id(), self.pidfd.as_fd(), END, "kill")
    }

    /// How it ended; `None` while it runs.
    pub fn exit(&self) -> Result<Option<Exit>> {
        let path = self.log_dir().join(EXIT);
        if let Some(exit) = record::read_json(&path)? {
            return Ok(Some(exit));
        }
        if !self.is_gone() {
            return Ok(None);
        }
        // Init may have written it and ended since it was looked for.
        if let Some(exit) = record::read_json(&path)? {
            return Ok(Some(exit));
        }
        let exit = self.unrecorded_exit();
        record::write_json(&self.log_dir(), EXIT, &exit)?;
        Ok(Some(exit))
    }

    /// The exit of an init that was killed itself: what the spawner and the groups know.
    fn unrecorded_exit(&self) -> Exit {
        let status = self.inner.spawner.ask_if_running(&Ask::Status {
            id: self.seat().to_owned(),
        });
        let ended = match status {
            Some((Answer::Status { ended: Some(ended), .. }, _)) => ended,
            _ => wire::Ended {
                code: None,
                signal: Some(libc::SIGKILL),
            },
        };
        Exit {
            code: ended.code,
            signal: ended.signal,
            oom: self.inner.groups.oom(self.seat()),
            started_ns: self.record.created_ns,
            ended_ns: sys::now_ns(),
            pids_refused: self.inner.groups.pids_refused(self.seat()),
            sidecar: None,
        }
    }

    /// Starts a further process with the same lack of privileges as the app.
    pub fn exec(&self, spec: &ExecSpec) -> Result<Exec> {
        check::exec(self.id(), spec)?;
        let mut spec = spec.clone();
        if let Some(address) = self.address() {
            fill_address(&mut spec.env, address);
        }
        exec::start(self.id(), self.connect()?, &spec, self.record.uid_base)
    }

    /// Opens a plain file or a folder, as `uid` inside would: links and forbidden places are for
    /// it what they are for the app. The content remains the app's doing. The private layer stays
    /// for as long as the descriptor is held.
    pub fn open_file(&self, path: impl AsRef<Path>, how: OpenHow, uid: u32) -> Result<File> {
        let none = CopyLimits {
            bytes: 0,
            entries: 0,
            depth: 0,
        };
        let copy = self.copy(Errand::Open(how), path.as_ref(), uid, none)?;
        let (_, mut fds) = copy.result(Instant::now() + ANSWER)?;
        let fd = fds.pop().ok_or(io::ErrorKind::InvalidData).at("open", path.as_ref())?;
        Ok(File::from(fd))
    }

    /// A file, or what is in a folder, as a tar stream; read by `uid` inside.
    pub fn copy_out(&self, path: impl AsRef<Path>, uid: u32, limits: CopyLimits) -> Result<Copy> {
        self.copy(Errand::Out, path.as_ref(), uid, limits)
    }

    /// Unpacks a tar stream into the folder `path`, which is made if missing; written by `uid`
    /// inside.
    pub fn copy_in(&self, path: impl AsRef<Path>, uid: u32, limits: CopyLimits) -> Result<Copy> {
        self.copy(Errand::In, path.as_ref(), uid, limits)
    }

    fn copy(&self, errand: Errand, path: &Path, uid: u32, limits: CopyLimits) -> Result<Copy> {
        let path = path.to_owned();
        let order = CopyOrder {
            errand,
            path,
            uid,
            limits,
        };
        copy::start(self.id(), self.connect()?, &order)
    }

    /// The content of a file that the sandbox wrote; `None` if there is none. Content and
    /// form are the app's doing: links, devices and folders are refused.
    pub fn upper_file(&self, path: impl AsRef<Path>, max_bytes: u64) -> Result<Option<Vec<u8>>> {
        let path = path.as_ref();
        let file = match self.open_upper(path) {
            Err(Error::File { source, .. }) if source.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other?,
        };
        let mut content = Vec::new();
        // It may grow while it is read.
        file.take(max_bytes + 1).read_to_end(&mut content).at("read", path)?;
        if content.len() as u64 > max_bytes {
            let path = path.display().to_string();
            return Err(Error::TooLarge {
                id: self.id().to_owned(),
                path,
                max_bytes,
            });
        }
        Ok(Some(content))
    }

    /// Opens a plain file that the sandbox wrote, for reading.
    pub fn open_upper(&self, path: impl AsRef<Path>) -> Result<File> {
        let path = path.as_ref();
        let upper = self.upper()?;
        let refused = || Error::NotAFile {
            id: self.id().to_owned(),
            path: path.display().to_string(),
        };
        let relative = path.strip_prefix("/").unwrap_or(path);
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let resolve =
            ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_XDEV;
        let file = match rustix::fs::openat2(&*upper, relative, flags, Mode::empty(), resolve) {
            Ok(file) => File::from(file),
            Err(rustix::io::Errno::LOOP | rustix::io::Errno::XDEV | rustix::io::Errno::NXIO) => return Err(refused()),
            Err(e) => return Err(e).at("open", path),
        };
        let is_file = file.metadata().at("look at", path)?.is_file();
        if is_file { Ok(file) } else { Err(refused()) }
    }

    /// The private layer's root: ours, or the spawner's, or (if both are gone and the
    /// sandbox has ended) the image mounted once more.
    fn upper(&self) -> Result<Arc<OwnedFd>> {
        match self.gauge.upper(&self.inner.spawner) {
            Some(upper) => Ok(upper),
            None => Ok(self.gauge.hold_upper(self.remount()?)),
        }
    }

    fn remount(&self) -> Result<OwnedFd> {
        let plan = self.record.disk.as_ref().filter(|_| self.is_gone());
        let plan = plan.ok_or_else(|| Error::NotRunning {
            id: self.id().to_owned(),
        })?;
        let deadline = Instant::now() + END;
        while !plan.can_return() {
            if Instant::now() > deadline {
                let (operation, id, seconds) = ("release of the private layer", self.id().to_owned(), END.as_secs());
                return Err(Error::Deadline {
                    operation,
                    id,
                    seconds,
                    detail: String::new(),
                });
            }
            // The kernel lets go of mounts in its own time after their last process.
            std::thread::sleep(Duration::from_millis(10));
        }
        let mount = plan.mount().on("mount the private layer", self.id())?;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::openat(&mount, "upper", flags, Mode::empty()).on("open the private layer", self.id())
    }

    /// Ends it if it runs; returns when nothing of it runs any more. What it has on this host is
    /// removed in the background: [`crate::Runtime::list`], `sweep` and `close` wait for that,
    /// and so does a start under the same name. What resists is left to `sweep`.
    pub fn destroy(self) -> Result<()> {
        // Given up first: they hold the image and the network namespace.
        self.gauge.drop_upper();
        drop(self.lease);
        self.inner.groups.kill(self.record.seat())?;
        if !wire::wait_readable(self.pidfd.as_fd(), Instant::now()).unwrap_or(false) {
            let _ = sys::pidfd_signal(self.pidfd.as_fd(), libc::SIGKILL);
            wait_end(&self.record.id, self.pidfd.as_fd(), END, "end")?;
        }
        drop(self.pidfd);
        self.inner.reap(&self.record.id)
    }

    /// A connection to an init that is able to answer.
    fn connect(&self) -> Result<OwnedFd> {
        if self.inner.groups.is_frozen(self.seat()) {
            return Err(Error::Frozen {
                id: self.id().to_owned(),
            });
        }
        self.reach()
    }

    fn reach(&self) -> Result<OwnedFd> {
        if self.is_gone() {
            return Err(Error::NotRunning {
                id: self.id().to_owned(),
            });
        }
        wire::connect(&self.dir(), CONTROL).on("reach the init", self.id())
    }

    fn command(&self, socket: &OwnedFd, command: &Command) -> Result<Reply> {
        wire::send(socket.as_fd(), command, &[]).on("ask the init", self.id())?;
        let reply =
            wire::receive_until::<Reply>(socket.as_fd(), Instant::now() + ANSWER).on("ask the init", self.id())?;
        reply.map(|(reply, _)| reply).ok_or_else(|| Error::NotRunning {
            id: self.id().to_owned(),
        })
    }
}

/// Waits for the end of an init that was killed.
pub fn wait_end(id: &str, pidfd: BorrowedFd<'_>, limit: Duration, operation: &'static str) -> Result<()> {
    if wire::wait_readable(pidfd, Instant::now() + limit).on(operation, id)? {
        return Ok(());
    }
    let detail = "; something inside is stuck in the kernel".to_owned();
    Err(Error::Deadline {
        operation,
        id: id.to_owned(),
        seconds: limit.as_secs(),
        detail,
    })
}
