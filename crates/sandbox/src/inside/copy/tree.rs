//! Ways within a tree that may be rearranged while it is walked: every step is relative to a
//! descriptor, follows no link and leaves no mount.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::{Component, Path};

use rustix::fs::{Mode, OFlags, ResolveFlags};

use super::Refused;

/// What the kernel says, as a reason.
pub fn why(error: rustix::io::Errno) -> Refused {
    io::Error::from(error).to_string()
}

/// The sandbox's root, as a place.
pub fn root() -> Result<OwnedFd, Refused> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open("/", flags, Mode::empty()).map_err(why)
}

/// What the user names: links are followed, within the root.
pub fn named(path: &Path, flags: OFlags) -> rustix::io::Result<OwnedFd> {
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let root = rustix::fs::open("/", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    rustix::fs::openat2(&root, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve)
}

/// One name in a folder.
pub fn child(folder: BorrowedFd<'_>, name: &OsStr, flags: OFlags, mode: u32) -> rustix::io::Result<OwnedFd> {
    let flags = flags | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let resolve =
        ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_XDEV;
    rustix::fs::openat2(folder, name, flags, Mode::from_raw_mode(mode), resolve)
}

/// Whether a link with `target` in a folder `depth` levels below the top stays below the top.
pub fn stays_inside(target: &Path, depth: usize) -> bool {
    let mut level = depth;
    for component in target.components() {
        match component {
            Component::Normal(_) => level += 1,
            Component::CurDir => {}
            Component::ParentDir if level > 0 => level -= 1,
            _ => return false,
        }
    }
    !target.as_os_str().is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_that_lead_out_are_told() {
        for (target, depth, inside) in [
            ("a", 0, true),
            ("a/../b", 0, true),
            ("..", 0, false),
            ("..", 1, true),
            ("../../x", 1, false),
            ("a/../../x", 0, false),
            ("/etc", 5, false),
            ("", 1, false),
        ] {
            assert_eq!(stays_inside(Path::new(target), depth), inside, "{target} at {depth}");
        }
    }
}
