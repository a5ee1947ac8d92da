//! A part of a sandbox's memory that one of its processes has to itself: a group with a limit of its own below that of
//! the sandbox. Who is to join is told by a descriptor, which works from inside too.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::event::EventfdFlags;

use super::files;
use crate::error::Context;
use crate::{Error, Result};

/// Times that processes are moved before a group counts as one that cannot be emptied: each round takes all there are.
const ROUNDS: u32 = 100;
/// Beside parts that are limited: everything else of a sandbox, on v2.
const REST: &str = "rest";

/// What is known of a part, as open files.
#[derive(Debug)]
pub struct Share {
    /// Whoever writes `0` joins.
    pub join: OwnedFd,
    /// Where kills for memory are counted.
    pub kills: OwnedFd,
    /// Where it is counted how often its own limit was reached.
    pub reached: OwnedFd,
    /// Its peak memory, if the kernel keeps it.
    pub peak: Option<OwnedFd>,
    /// v1: becomes readable when memory runs out. v2 tells it at the sandbox's own group.
    pub event: Option<OwnedFd>,
}

impl Share {
    /// All that is open, in an order that the other end of a socket knows by which of the last two there are.
    pub fn fds(&self) -> Vec<BorrowedFd<'_>> {
        let mut fds = vec![self.join.as_fd(), self.kills.as_fd(), self.reached.as_fd()];
        fds.extend(self.peak.iter().chain(&self.event).map(AsFd::as_fd));
        fds
    }
}

fn folder(group: &Path, at: usize) -> PathBuf {
    group.join(format!("sidecar-{at}"))
}

/// A part of the v1 memory group `group`.
pub fn v1(group: &Path, at: usize, bytes: u64) -> Result<Share> {
    let folder = folder(group, at);
    files::make(&folder).at("make group", &folder)?;
    let limit = folder.join("memory.limit_in_bytes");
    files::write(&limit, bytes).at("set limit", limit)?;
    // The kernel does not count how often a limit of memory and swap together is reached, and would reach that first:
    // so nothing is swapped for this limit. With swap the sandbox's own limit holds as well.
    let swappiness = folder.join("memory.swappiness");
    if swappiness.exists() {
        files::write(&swappiness, 0).at("set limit", swappiness)?;
    }
    let kills = readable(&folder.join("memory.oom_control"))?;
    let event = announced(&folder, &kills).at("watch group", &folder)?;
    Ok(Share {
        join: joinable(&folder.join("tasks"))?,
        reached: readable(&folder.join("memory.failcnt"))?,
        peak: Some(readable(&folder.join("memory.max_usage_in_bytes"))?),
        event: Some(event),
        kills,
    })
}

/// A descriptor on which running out of memory is told; it stays so for whoever it is handed to.
fn announced(folder: &Path, kills: &OwnedFd) -> io::Result<OwnedFd> {
    let event = rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
    let order = format!("{} {}", event.as_raw_fd(), kills.as_raw_fd());
    files::write(&folder.join("cgroup.event_control"), order)?;
    Ok(event)
}

/// Makes the v2 group `group` one that can have limited parts, below which its own limit of `bytes` shows: what has
/// such groups holds no processes itself, so all that are in it move down.
pub fn prepare_v2(id: &str, group: &Path, bytes: u64) -> Result<()> {
    let rest = rest(group);
    files::make(&rest).at("make group", &rest)?;
    let (list, control) = (group.join("cgroup.procs"), group.join("cgroup.subtree_control"));
    for _ in 0..ROUNDS {
        let text = std::fs::read_to_string(&list).at("read", &list)?;
        for pid in text.split_whitespace() {
            // It may have ended meanwhile.
            let _ = files::write(&rest.join("cgroup.procs"), pid);
        }
        match files::write(&control, "+memory") {
            Ok(()) => {
                let limit = rest.join("memory.max");
                return files::write(&limit, bytes).at("set limit", limit);
            }
            Err(e) if e.raw_os_error() == Some(libc::EBUSY) => {}
            other => return other.at("hand controllers down in", &control),
        }
    }
    Err(Error::Host {
        reason: format!("the processes of {id} could not be moved to make room for sidecars"),
    })
}

/// Where everything but the limited parts is, on v2.
pub fn rest(group: &Path) -> PathBuf {
    group.join(REST)
}

/// A part of the v2 group `group`, which was prepared.
pub fn v2(group: &Path, at: usize, bytes: u64) -> Result<Share> {
    let folder = folder(group, at);
    files::make(&folder).at("make group", &folder)?;
    let set = |name: &str, value: String| {
        let path = folder.join(name);
        files::write(&path, value).at("set limit", path)
    };
    set("memory.max", bytes.to_string())?;
    if folder.join("memory.swap.max").exists() {
        set("memory.swap.max", "0".to_owned())?;
    }
    let peak = folder.join("memory.peak");
    Ok(Share {
        join: joinable(&folder.join("cgroup.procs"))?,
        kills: readable(&folder.join("memory.events"))?,
        reached: readable(&folder.join("memory.events.local"))?,
        peak: if peak.exists() { Some(readable(&peak)?) } else { None },
        event: None,
    })
}

fn readable(path: &Path) -> Result<OwnedFd> {
    Ok(File::open(path).at("open", path)?.into())
}

fn joinable(path: &Path) -> Result<OwnedFd> {
    let file = File::options().write(true).open(path);
    Ok(file.at("open", path)?.into())
}
