//! User namespaces: their maps of ids, and namespaces that belong to no process.
//!
//! An agent that is the host's root gives each sandbox a range of ids of its own, which begins at a *base*. One that is
//! root of a user namespace only has none to give: all its sandboxes have its own ids, told by the base 0.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::OnceLock;

use nix::sched::CloneFlags;
use rustix::thread::{CapabilitiesSecureBits, Gid, Uid};

use crate::sys::{self, Forked};
use crate::wire;

/// Largest group that can be named in settings of the network.
const LAST_GID: u32 = i32::MAX.cast_unsigned();

/// Whether this process is root only within a user namespace, not on the host.
#[must_use]
pub fn confined() -> bool {
    std::fs::read_to_string("/proc/self/uid_map").is_ok_and(|map| !covers_all(&map))
}

fn covers_all(map: &str) -> bool {
    map.split_whitespace().eq(["0", "0", "4294967295"])
}

/// Whether the user namespace that this program (or the one that it was forked from) asked first in has one id alone.
pub fn single() -> bool {
    static SINGLE: OnceLock<bool> = OnceLock::new();
    *SINGLE.get_or_init(|| std::fs::read_to_string("/proc/self/uid_map").is_ok_and(|map| ids(&map) == 1))
}

/// How many ids a map has.
fn ids(map: &str) -> u64 {
    let counts = map.lines().filter_map(|line| line.split_whitespace().nth(2));
    counts.filter_map(|count| count.parse::<u64>().ok()).sum()
}

/// Which id of the agent's stands for `inside` in a sandbox whose base is `base`.
pub fn outer(base: u32, inside: u32) -> u32 {
    if base == 0 && single() { 0 } else { base + inside }
}

/// The map of a sandbox whose base is `base` and whose app is `uid`.
pub fn map(base: u32, uid: u32) -> String {
    match base {
        0 if single() => format!("{uid} 0 1\n"),
        // The agent has the ids from 1 on by another line of its own map than 0, and no line may span two of those.
        0 => "0 0 1\n1 1 65535\n".to_owned(),
        base => format!("0 {base} 65536\n"),
    }
}

/// The last group that this process can name.
pub fn last_gid() -> u32 {
    let map = std::fs::read_to_string("/proc/self/gid_map").unwrap_or_default();
    map.lines().filter_map(last_of).max().unwrap_or(LAST_GID).min(LAST_GID)
}

fn last_of(line: &str) -> Option<u32> {
    let mut numbers = line.split_whitespace().map(|number| number.parse::<u32>().ok());
    let (first, _, count) = (numbers.next()??, numbers.next()??, numbers.next()??);
    first.checked_add(count.checked_sub(1)?)
}

/// Writes the maps of the process `pid`.
pub fn write(pid: i32, uids: &str, gids: &str) -> io::Result<()> {
    std::fs::write(format!("/proc/{pid}/uid_map"), uids)?;
    std::fs::write(format!("/proc/{pid}/gid_map"), gids)
}

/// A user namespace with these maps. It belongs to a child that only exists while it is made. The process must have
/// one thread, as the spawner and the runtime have.
///
/// What the kernel counts per user (instances and watches of inotify, namespaces) it counts for the namespace's owner
/// too. With an `owner` of its own, what is done in it takes nothing from others.
pub fn make(uids: &str, gids: &str, owner: Option<u32>) -> io::Result<OwnedFd> {
    let (ours, theirs) = wire::pair()?;
    // SAFETY: the callers are programs with one thread.
    match unsafe { sys::clone_process(0, None) }? {
        Forked::Child => {
            drop(ours);
            if own(owner).is_ok() {
                let _ = rustix::io::write(&theirs, b"1");
            }
            let _ = rustix::io::read(&theirs, &mut [0u8; 1][..]);
            sys::exit_now(0)
        }
        Forked::Parent(pid, pidfd) => {
            drop(theirs);
            let made = match rustix::io::read(&ours, &mut [0u8; 1][..]) {
                Ok(1) => write(pid, uids, gids).and_then(|()| std::fs::File::open(format!("/proc/{pid}/ns/user"))),
                Ok(_) => Err(io::ErrorKind::PermissionDenied.into()),
                Err(e) => Err(e.into()),
            };
            drop(ours);
            let wait = rustix::process::WaitIdOptions::EXITED;
            if let Some(pidfd) = pidfd {
                let _ = rustix::process::waitid(rustix::process::WaitId::PidFd(pidfd.as_fd()), wait);
            }
            Ok(made?.into())
        }
    }
}

/// In the child: a new user namespace, as `owner`, with the privileges that hosts may want for it.
fn own(owner: Option<u32>) -> io::Result<()> {
    if let Some(owner) = owner {
        rustix::thread::set_capabilities_secure_bits(CapabilitiesSecureBits::NO_SETUID_FIXUP)?;
        let root = (Uid::ROOT, Gid::ROOT);
        rustix::thread::set_thread_res_gid(root.1, Gid::from_raw(owner), root.1)?;
        rustix::thread::set_thread_res_uid(root.0, Uid::from_raw(owner), root.0)?;
    }
    Ok(nix::sched::unshare(CloneFlags::CLONE_NEWUSER)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hosts_own_namespace_is_told_from_others() {
        let (host, many) = ("         0          0 4294967295\n", "0 1000 1\n1 100000 65535\n");
        assert!(covers_all(host) && !covers_all(many));
        assert_eq!((ids(many), ids("0 1000 1\n")), (65_536, 1));
        assert_eq!(many.lines().filter_map(last_of).max(), Some(65_535));
        assert!(last_of(host) > Some(LAST_GID) && last_of("0 0 0").is_none() && last_of("x").is_none());
    }

    #[test]
    fn the_hosts_root_gives_ranges() {
        assert!(!confined() && !single());
        assert_eq!(outer(65_536, 2000), 67_536);
        assert_eq!(map(65_536, 2000), "0 65536 65536\n");
        assert_eq!(map(0, 2000).lines().count(), 2);
        assert_eq!(last_gid(), LAST_GID);
    }
}
