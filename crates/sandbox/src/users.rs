//! User namespaces: their maps of ids, and namespaces that belong to no process.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use crate::sys::{self, Forked};
use crate::wire;

/// Writes the maps of the process `pid`.
pub fn write(pid: i32, uids: &str, gids: &str) -> io::Result<()> {
    std::fs::write(format!("/proc/{pid}/uid_map"), uids)?;
    std::fs::write(format!("/proc/{pid}/gid_map"), gids)
}

/// A user namespace with these maps. It belongs to a child that only exists while it is made. The process must have
/// one thread, as the spawner and the runtime have.
pub fn make(uids: &str, gids: &str) -> io::Result<OwnedFd> {
    let (ours, theirs) = wire::pair()?;
    // SAFETY: the callers are programs with one thread.
    match unsafe { sys::clone_process(libc::CLONE_NEWUSER as u64, None) }? {
        Forked::Child => {
            drop(ours);
            let _ = rustix::io::read(&theirs, &mut [0u8; 1][..]);
            sys::exit_now(0)
        }
        Forked::Parent(pid, pidfd) => {
            drop(theirs);
            let made = write(pid, uids, gids).and_then(|()| std::fs::File::open(format!("/proc/{pid}/ns/user")));
            drop(ours);
            let wait = rustix::process::WaitIdOptions::EXITED;
            if let Some(pidfd) = pidfd {
                let _ = rustix::process::waitid(rustix::process::WaitId::PidFd(pidfd.as_fd()), wait);
            }
            Ok(made?.into())
        }
    }
}
