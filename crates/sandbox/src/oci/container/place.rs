//! Places in the container's root while it is being furnished. Whatever stands in the root is content that an enemy
//! may have arranged: it is reached from the root's descriptor only, links lead nowhere out of it, and places of the
//! kernel's file systems are not reached through links at all.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Gid, Mode, OFlags, ResolveFlags, Uid};

use crate::inside::tree::make_dirs;

/// Below these, no component of a path may be a link.
const KERNELS: [&str; 3] = ["/proc", "/sys", "/dev"];

/// A path from the root, without dots.
pub fn plain(path: &Path) -> PathBuf {
    let mut all = PathBuf::from("/");
    for component in path.components() {
        match component {
            std::path::Component::Normal(name) => all.push(name),
            std::path::Component::ParentDir => {
                all.pop();
            }
            _ => {}
        }
    }
    all
}

/// Opens what is at `path`, as a place only.
pub fn existing(root: &OwnedFd, path: &Path, flags: OFlags) -> io::Result<OwnedFd> {
    let mut resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    if KERNELS.iter().any(|kernel| path.starts_with(kernel)) {
        resolve |= ResolveFlags::NO_SYMLINKS;
    }
    let flags = flags | OFlags::PATH | OFlags::CLOEXEC;
    Ok(rustix::fs::openat2(root, path, flags, Mode::empty(), resolve)?)
}

/// The place for a mount: a folder or, for a file, a file; made if missing.
pub fn target(root: &OwnedFd, path: &Path, is_dir: bool) -> io::Result<OwnedFd> {
    let path = plain(path);
    let flags = if is_dir { OFlags::DIRECTORY } else { OFlags::empty() };
    match existing(root, &path, flags) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            make(root, &path, is_dir)?;
            existing(root, &path, flags)
        }
        other => other,
    }
}

/// The folder at `path`; made if missing.
pub fn folder(root: &OwnedFd, path: &Path) -> io::Result<OwnedFd> {
    target(root, path, true)
}

fn make(root: &OwnedFd, path: &Path, is_dir: bool) -> io::Result<()> {
    if is_dir {
        return make_dirs(root.as_fd(), path, (Uid::ROOT, Gid::ROOT)).map(drop);
    }
    let (folder, name) = parent(root, path)?;
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(&folder, name, flags, Mode::from_raw_mode(0o644))?;
    Ok(())
}

/// The folder of `path`, made if missing, and its name therein.
pub fn parent<'a>(root: &OwnedFd, path: &'a Path) -> io::Result<(OwnedFd, &'a std::ffi::OsStr)> {
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let above = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    Ok((make_dirs(root.as_fd(), above, (Uid::ROOT, Gid::ROOT))?, name))
}

/// Whether what is open is a folder.
pub fn is_dir(fd: &OwnedFd) -> io::Result<bool> {
    Ok(FileType::from_raw_mode(rustix::fs::fstat(fd)?.st_mode).is_dir())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_plain() {
        assert_eq!(plain(Path::new("a/./b/../c")), Path::new("/a/c"));
        assert_eq!(plain(Path::new("/../../etc")), Path::new("/etc"));
    }

    #[test]
    fn links_stay_within_and_never_lead_to_the_kernels_places() {
        let dir = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("/etc", dir.path().join("out")).unwrap();
        std::os::unix::fs::symlink("/tmp", dir.path().join("dev")).unwrap();
        let root: OwnedFd = std::fs::File::open(dir.path()).unwrap().into();
        let made = target(&root, Path::new("/out/new"), true);
        assert!(made.is_err() || dir.path().join("etc/new").is_dir());
        assert!(!Path::new("/etc/new").exists());
        let error = target(&root, Path::new("/dev"), true).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ELOOP));
        target(&root, Path::new("/a/b/file"), false).unwrap();
        assert!(dir.path().join("a/b/file").is_file());
    }
}
