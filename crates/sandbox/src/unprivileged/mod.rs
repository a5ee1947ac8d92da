//! Sandboxes without root: the whole agent moves into namespaces of its own, in which it is root, and everything else
//! in this crate works there as it does on a host.
//!
//! ```text
//! caller ─ waits, passes signals on, keeps the way out (slirp4netns)
//!   └─ PID 1 of the namespaces ─ reaps; when it ends, all below it end
//!        ├─ the agent: root of a user namespace (the caller on the host), own mounts, own network
//!        └─ spawner ─ inits ─ apps: further ids of the caller, from /etc/subuid, or his own id where there are none
//! ```
//! What is weaker than on a host where the agent is root is told in words: [`Place::lacks`], and
//! [`crate::Isolation::missing`]. Nothing outlives the caller: apps end with the agent.
//! Not here: how sandboxes are limited there (`cgroup/absent.rs`, `disk`), or which sockets lead in: those that the
//! caller opened before still belong to the host.

mod check;
mod ids;
mod lack;
mod outbound;
mod reaper;

use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::OnceLock;

use rustix::mount::{MountFlags, MountPropagationFlags};
use serde::{Deserialize, Serialize};

use crate::net::{self, Cidr};
use crate::sys::{self, Forked};
use crate::{Error, Limits, Process, Result, Rlimit, RlimitKind, users, wire};

pub use crate::users::confined;
pub use lack::{Lack, Subject};

/// Namespaces of the agent: of every kind that something in this crate changes or enters.
const NAMESPACES: libc::c_int = libc::CLONE_NEWUSER
    | libc::CLONE_NEWNS
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUTS;

/// Where this process is, once it has entered.
static PLACE: OnceLock<Place> = OnceLock::new();

/// Where a process is after [`enter`].
#[derive(Debug)]
pub enum Entered<T> {
    /// In the new namespaces, with what it brought along; goes on as the agent.
    Inside(&'static Place, T),
    /// Outside, after the agent has ended with this status (128 and the signal's number if one killed it).
    Ended(u8),
}

/// What the agent finds in its namespaces.
#[derive(Debug)]
pub struct Place {
    /// What is missing here.
    pub lacks: Vec<Lack>,
    /// The process on the host that stands for the agent: who ends it ends everything.
    pub caller: u32,
    /// Blocks that the host is attached to: sandboxes are kept from them as if they were next to it.
    near: Vec<Cidr>,
}

/// What the caller found while it prepared the namespaces.
#[derive(Debug, Serialize, Deserialize)]
struct Found {
    /// Why there is one id only; `None` where there are many.
    one_id: Option<String>,
    /// Why there is no way out, and what would help; `None` where there is one.
    cut_off: Option<(String, String)>,
}

/// Moves this process's continuation into namespaces of its own. Call it first of all: the process may have one thread
/// only. What is `brought` along (sockets that the host is to reach, say) goes inside and is closed outside.
///
/// # Errors
/// The host does not permit it; the text says which setting or package would.
pub fn enter<T>(brought: T) -> Result<Entered<T>> {
    check::single_thread()?;
    let near = net::attached().unwrap_or_default();
    let caller = std::process::id();
    let (ours, theirs) = wire::pair().map_err(failed("make a socket"))?;
    // SAFETY: checked above: there is one thread.
    match unsafe { sys::clone_process(NAMESPACES as u64, None) }.map_err(check::explain)? {
        Forked::Child => {
            drop(ours);
            let lacks = inside(&theirs)?;
            let place = PLACE.get_or_init(|| Place { lacks, caller, near });
            Ok(Entered::Inside(place, brought))
        }
        Forked::Parent(pid, pidfd) => {
            drop((theirs, brought));
            let pidfd = pidfd.ok_or_else(|| failed("hold the new process")(io::ErrorKind::NotFound.into()))?;
            outside(pid, &pidfd, ours).map(Entered::Ended)
        }
    }
}

/// The caller's side: gives the new process its ids and its way out, then waits for it.
fn outside(pid: i32, pidfd: &OwnedFd, socket: OwnedFd) -> Result<u8> {
    // If anything fails the socket closes, and the new process ends by that.
    let one_id = ids::Ids::find().and_then(|ids| ids.map(pid)).err();
    if one_id.is_some() {
        ids::map_own(pid).map_err(check::explain)?;
    }
    let outbound = outbound::Outbound::open(pid);
    let found = Found {
        one_id,
        cut_off: outbound.as_ref().err().cloned(),
    };
    wire::send(socket.as_fd(), &found, &[]).map_err(failed("begin"))?;
    let ended = reaper::wait(pidfd.as_fd());
    drop(outbound);
    drop(socket);
    ended.map_err(failed("wait for the agent"))
}

/// The new process: waits until it is somebody, then makes the place habitable. What is missing there.
fn inside(socket: &OwnedFd) -> Result<Vec<Lack>> {
    reaper::die_with_parent();
    let Ok(Some((found, _))) = wire::receive::<Found>(socket.as_fd()) else {
        // The other side says why.
        sys::exit_now(1)
    };
    // Signals of the terminal come through the caller, once.
    let _ = rustix::process::setsid();
    settle().map_err(check::explain)?;
    if found.cut_off.is_some() {
        net::dead_end(outbound::INTERFACE).map_err(|source| Error::Network {
            operation: "make an interface that leads nowhere".to_owned(),
            source: Box::new(source),
        })?;
    }
    reaper::become_first()?;
    Ok(lack::all(found.one_id.as_deref(), found.cut_off))
}

/// Own mounts that nobody else sees, the processes of this namespace only, and loopback.
fn settle() -> io::Result<()> {
    // What the host unmounts goes from here too.
    rustix::mount::mount_change("/", MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC)?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    rustix::mount::mount("proc", "/proc", "proc", flags, None)?;
    sys::loopback_up()
}

/// What is missing where this process is; nothing where it is the host's root.
#[must_use]
pub fn lacks() -> Vec<Lack> {
    match PLACE.get() {
        Some(place) => place.lacks.clone(),
        None if confined() => lack::all(users::single().then_some("its agent has no other"), None),
        None => Vec::new(),
    }
}

/// Who owns a file on the host that is to be `inside`'s in sandboxes.
#[must_use]
pub fn owner(inside: u32) -> u32 {
    users::outer(0, inside)
}

/// Blocks that the host is attached to, as far as they cannot be seen from here.
pub(crate) fn near() -> &'static [Cidr] {
    PLACE.get().map_or(&[], |place| &place.near)
}

/// Name servers that are only there where this process has its way out by [`enter`].
pub(crate) fn resolvers() -> Vec<Ipv4Addr> {
    PLACE.get().map_or_else(Vec::new, |_| vec![outbound::RESOLVER])
}

/// The limit of processes by other means than groups, which are not there: each sandbox has its own user namespace, in
/// which the kernel counts.
pub(crate) fn bound(process: &mut Process, limits: &Limits) {
    let most = u64::from(limits.pids);
    process.rlimits.push(Rlimit {
        resource: RlimitKind::Nproc,
        soft: most,
        hard: most,
    });
}

fn failed(what: &'static str) -> impl FnOnce(io::Error) -> Error {
    move |source| Error::Unprivileged { what, source }
}
