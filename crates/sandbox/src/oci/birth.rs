//! The host's side of a container's making: has its process born, gives it what it asks for, and does what only the
//! host's root can do for it.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use nix::sched::CloneFlags;
use oci_spec::runtime::{PosixRlimit, PosixRlimitType, Process};
use rustix::process::{Pid, Resource, Rlimit};

use super::container::{self, mounts, nodes};
use super::error::{Context, Error, Result};
use super::link::{Ask, Tell};
use super::plan::{self, Plan, What};
use crate::sys::{self, Forked};
use crate::users;
use crate::wire;

/// How long the process may take for one step (its hooks have limits of their own).
const STEP: Duration = Duration::from_secs(3700);

/// What happens while the container is made that is not about its process.
pub trait Midwife {
    /// It is furnished; returns its state for its own hooks.
    fn furnished(&mut self, pid: i32) -> Result<Vec<u8>>;
    /// Its terminal's other end.
    fn console(&mut self, terminal: OwnedFd) -> Result<()>;
}

/// A container in the making.
#[derive(Debug)]
pub struct Birth {
    id: String,
    /// Its process.
    pub pid: i32,
    socket: OwnedFd,
}

/// Has the process born, into its control groups.
pub fn begin(id: &str, plan: &Plan, listener: &OwnedFd) -> Result<Birth> {
    let (ours, theirs) = wire::pair().step(id, "make a socket")?;
    let entry = plan.groups.entry()?;
    let pid = if plan.joins.is_empty() {
        born(plan, entry.as_ref(), 0, &theirs, listener).step(id, "start a process")?
    } else {
        // SAFETY: the runtime has one thread.
        match unsafe { sys::fork() }.step(id, "start a process")? {
            Forked::Child => between(plan, entry.as_ref(), &theirs, listener),
            Forked::Parent(between, _) => {
                drop(theirs);
                return adopted(id, between, ours);
            }
        }
    };
    drop(theirs);
    Ok(Birth {
        id: id.to_owned(),
        pid,
        socket: ours,
    })
}

/// The process of a container that the process `between` has started.
fn adopted(id: &str, between: i32, socket: OwnedFd) -> Result<Birth> {
    let answer = wire::receive_until::<Ask>(socket.as_fd(), Instant::now() + STEP);
    if let Some(between) = Pid::from_raw(between) {
        let _ = rustix::process::waitpid(Some(between), rustix::process::WaitOptions::empty());
    }
    match answer.step(id, "start a process")? {
        Some((Ask::Born { pid }, _)) => Ok(Birth {
            id: id.to_owned(),
            pid,
            socket,
        }),
        Some((Ask::Failed { stage, errno }, _)) => Err(io::Error::from_raw_os_error(errno)).step(id, stage),
        _ => Err(io::ErrorKind::UnexpectedEof).step(id, "join namespaces"),
    }
}

fn born(plan: &Plan, entry: Option<&OwnedFd>, more: i32, theirs: &OwnedFd, listener: &OwnedFd) -> io::Result<i32> {
    let flags = (plan.born.bits() | more) as u32;
    let (link, ear) = (theirs.try_clone()?, listener.try_clone()?);
    // SAFETY: the runtime has one thread.
    match unsafe { sys::clone_process(u64::from(flags), entry.map(AsFd::as_fd)) }? {
        Forked::Child => container::live(plan, link, ear),
        Forked::Parent(pid, _) => Ok(pid),
    }
}

/// Joins what is to be joined, has the container's process born as a sibling, and ends.
fn between(plan: &Plan, entry: Option<&OwnedFd>, theirs: &OwnedFd, listener: &OwnedFd) -> ! {
    let made = (|| {
        for join in &plan.joins {
            nix::sched::setns(&join.fd, join.kind)
                .map_err(|e| (format!("join namespace {:?}", join.kind), e.into()))?;
        }
        born(plan, entry, libc::CLONE_PARENT, theirs, listener).map_err(|e| ("start a process".to_owned(), e))
    })();
    let told = match made {
        Ok(pid) => Ask::Born { pid },
        Err((stage, error)) => {
            let error: io::Error = error;
            let errno = error.raw_os_error().unwrap_or(libc::EIO);
            Ask::Failed { stage, errno }
        }
    };
    let _ = wire::send(theirs.as_fd(), &told, &[]);
    sys::exit_now(0)
}

impl Birth {
    /// Brings it to where it waits for its start.
    pub fn complete(&self, plan: &Plan, bundle: &Path, midwife: &mut dyn Midwife) -> Result<()> {
        plan.groups.enter(self.pid)?;
        self.map_users(plan)?;
        self.tell(&Tell::Go, &[])?;
        loop {
            let heard = wire::receive_until::<Ask>(self.socket.as_fd(), Instant::now() + STEP);
            match heard.step(&self.id, "listen to its process")? {
                None => return Err(io::ErrorKind::UnexpectedEof).step(&self.id, "its process died while it was made"),
                Some((Ask::Failed { stage, errno }, _)) => {
                    return Err(io::Error::from_raw_os_error(errno)).step(&self.id, stage);
                }
                Some((Ask::Apart, _)) => {
                    self.set_clocks(plan)?;
                    self.tell(&Tell::Go, &[])?;
                }
                Some((Ask::Tree { mount, part }, _)) => self.give(tree(plan, mount, part, bundle))?,
                Some((Ask::Node { device }, _)) => {
                    let node = nodes::wanted(plan)
                        .get(device)
                        .map_or(Err(io::ErrorKind::NotFound.into()), nodes::of_host);
                    self.give(node)?;
                }
                Some((Ask::Console, mut fds)) => {
                    let terminal = fds
                        .pop()
                        .ok_or(io::ErrorKind::InvalidData)
                        .step(&self.id, "take its terminal")?;
                    midwife.console(terminal)?;
                    self.tell(&Tell::Go, &[])?;
                }
                Some((Ask::Furnished, _)) => {
                    let state = midwife.furnished(self.pid)?;
                    self.give(wire::to_memfd(&state))?;
                }
                Some((Ask::Ready, _)) => {
                    self.limit(plan)?;
                    return self.tell(&Tell::Go, &[]);
                }
                Some((Ask::Born { .. } | Ask::Listener, _)) => {
                    return Err(io::ErrorKind::InvalidData).step(&self.id, "listen to its process");
                }
            }
        }
    }

    fn tell(&self, what: &Tell, fds: &[BorrowedFd<'_>]) -> Result<()> {
        wire::send(self.socket.as_fd(), what, fds).step(&self.id, "speak to its process")
    }

    fn give(&self, made: io::Result<OwnedFd>) -> Result<()> {
        match made {
            Ok(fd) => self.tell(&Tell::Go, &[fd.as_fd()]),
            Err(error) => {
                let errno = error.raw_os_error().unwrap_or(libc::EINVAL);
                let stage = "take from the host".to_owned();
                self.tell(&Tell::Refused { stage, errno }, &[])
            }
        }
    }

    fn map_users(&self, plan: &Plan) -> Result<()> {
        if !plan.is_new(CloneFlags::CLONE_NEWUSER) {
            return Ok(());
        }
        let linux = plan.spec.linux().as_ref();
        let uids = linux
            .and_then(|linux| linux.uid_mappings().as_deref())
            .unwrap_or_default();
        let gids = linux
            .and_then(|linux| linux.gid_mappings().as_deref())
            .unwrap_or_default();
        users::write(self.pid, &plan::map(uids), &plan::map(gids)).step(&self.id, "map users and groups")
    }

    fn set_clocks(&self, plan: &Plan) -> Result<()> {
        let offsets = plan
            .spec
            .linux()
            .as_ref()
            .and_then(|linux| linux.time_offsets().as_ref());
        let lines: String = offsets
            .into_iter()
            .flatten()
            .map(|(clock, offset)| {
                format!(
                    "{clock} {} {}\n",
                    offset.secs().unwrap_or(0),
                    offset.nanosecs().unwrap_or(0)
                )
            })
            .collect();
        if lines.is_empty() {
            return Ok(());
        }
        std::fs::write(format!("/proc/{}/timens_offsets", self.pid), lines).step(&self.id, "set clocks")
    }

    /// What a process cannot raise for itself, as late as possible: it has to work under these limits.
    fn limit(&self, plan: &Plan) -> Result<()> {
        match plan.spec.process() {
            Some(process) => limit(&self.id, self.pid, process),
            None => Ok(()),
        }
    }
}

/// Gives the process `pid` the limits of `process`.
pub fn limit(id: &str, pid: i32, process: &Process) -> Result<()> {
    if let Some(score) = process.oom_score_adj() {
        std::fs::write(format!("/proc/{pid}/oom_score_adj"), score.to_string())
            .step(id, format!("set OOM score {score}"))?;
    }
    for limit in process.rlimits().iter().flatten() {
        set_limit(pid, limit).step(id, format!("set {} to {}", limit.typ(), limit.hard()))?;
    }
    Ok(())
}

fn set_limit(pid: i32, limit: &PosixRlimit) -> io::Result<()> {
    use PosixRlimitType as Kind;
    let resource = match limit.typ() {
        Kind::RlimitCpu => Resource::Cpu,
        Kind::RlimitFsize => Resource::Fsize,
        Kind::RlimitData => Resource::Data,
        Kind::RlimitStack => Resource::Stack,
        Kind::RlimitCore => Resource::Core,
        Kind::RlimitRss => Resource::Rss,
        Kind::RlimitNproc => Resource::Nproc,
        Kind::RlimitNofile => Resource::Nofile,
        Kind::RlimitMemlock => Resource::Memlock,
        Kind::RlimitAs => Resource::As,
        Kind::RlimitLocks => Resource::Locks,
        Kind::RlimitSigpending => Resource::Sigpending,
        Kind::RlimitMsgqueue => Resource::Msgqueue,
        Kind::RlimitNice => Resource::Nice,
        Kind::RlimitRtprio => Resource::Rtprio,
        Kind::RlimitRttime => Resource::Rttime,
    };
    let value = |value: u64| (value != u64::MAX).then_some(value);
    let wanted = Rlimit {
        current: value(limit.soft()),
        maximum: value(limit.hard()),
    };
    rustix::process::prlimit(Pid::from_raw(pid), resource, wanted)?;
    Ok(())
}

/// What is to be mounted as number `mount`, made when it is asked for: mounts are told in the order of their making.
fn tree(plan: &Plan, mount: usize, part: usize, bundle: &Path) -> io::Result<OwnedFd> {
    let planned = plan.mounts.get(mount).ok_or(io::ErrorKind::NotFound)?;
    match planned.what {
        What::Bind => plan::bound(plan, planned, bundle),
        What::Groups => plan::group_view(plan, part),
        What::Dev => {
            let mut options = planned.options.clone();
            let (uid, gid) = plan.owner();
            options.data.push(("uid".to_owned(), Some(uid.to_string())));
            options.data.push(("gid".to_owned(), Some(gid.to_string())));
            let dev = mounts::make_fs("tmpfs", planned.mount.source().as_deref(), &options)?;
            nodes::fill(plan, &dev)?;
            Ok(dev)
        }
        What::Fs => Err(io::ErrorKind::InvalidInput.into()),
    }
}

/// Kills a container that will not be.
pub fn abandon(pid: i32) {
    let Some(known) = Pid::from_raw(pid) else { return };
    // It is this process's child and not reaped yet, so the number is its.
    let _ = sys::kill(pid, libc::SIGKILL);
    let _ = rustix::process::waitpid(Some(known), rustix::process::WaitOptions::empty());
}

/// Refuses what takes more than the caller may.
pub fn check_host() -> Result<()> {
    if rustix::process::geteuid().is_root() {
        return Ok(());
    }
    let what = "containers are made by root".to_owned();
    Err(Error::Unsupported { what })
}
