//! Descriptors that the caller has for the container: from 3 on, as many as it says. What is not open among them must
//! not become one of this runtime's own, which would then be the container's.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, RawFd};

use crate::sys;

/// The first that is not a standard stream.
const FIRST: RawFd = 3;

/// Those of `count` that are open. The numbers of the others are taken, so that nothing of this process gets them.
pub fn given(count: u32) -> io::Result<Vec<RawFd>> {
    let all = FIRST..FIRST + RawFd::try_from(count).map_err(|_| io::ErrorKind::InvalidInput)?;
    let (open, closed): (Vec<RawFd>, Vec<RawFd>) = all.partition(|fd| is_open(*fd));
    if closed.is_empty() {
        return Ok(open);
    }
    let nothing = File::open("/dev/null")?;
    for fd in closed.iter().filter(|fd| **fd != nothing.as_raw_fd()) {
        // SAFETY: the number is not open, so no owner of it exists; nobody is made one.
        if unsafe { libc::dup3(nothing.as_raw_fd(), *fd, libc::O_CLOEXEC) } < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    if closed.contains(&nothing.as_raw_fd()) {
        // It takes its own number for good.
        let _ = std::os::fd::IntoRawFd::into_raw_fd(nothing);
    }
    Ok(open)
}

fn is_open(fd: RawFd) -> bool {
    // SAFETY: asks about a number only.
    unsafe { libc::fcntl(fd, libc::F_GETFD) >= 0 }
}

/// Marks every descriptor from the first on to be closed by the next execve, but `kept`.
pub fn keep_only(kept: &[RawFd]) -> io::Result<()> {
    sys::cloexec_from(FIRST)?;
    for fd in kept {
        // SAFETY: changes a flag of a number that the caller of this program opened for the next one.
        if unsafe { libc::fcntl(*fd, libc::F_SETFD, 0) } < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_open_is_not_given() {
        // Far above what the tests beside this one use.
        assert!(!is_open(19_000));
        let file = File::open("/dev/null").unwrap();
        assert!(is_open(file.as_raw_fd()));
        assert_eq!(given(0).unwrap(), Vec::<RawFd>::new());
    }
}
