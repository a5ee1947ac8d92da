//! Device nodes and links that every container has, those it is configured to have, and its terminal.
//!
//! A file system of nodes that is mounted for the container is filled by the runtime before it gets here: only the
//! host's root can make nodes.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use oci_spec::runtime::{LinuxDevice, LinuxDeviceType, Process};
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Uid, makedev};
use rustix::pty::OpenptFlags;

use super::{Runtime, place};
use crate::inside::layout::{LINKS, NODES};
use crate::inside::masks;
use crate::inside::tree::attach;
use crate::inside::{Failure, Stage};
use crate::oci::link::Ask;
use crate::oci::plan::{Plan, What};

/// Nodes that a container has besides those it is configured to have, then those.
pub fn wanted(plan: &Plan) -> Vec<LinuxDevice> {
    let configured = plan.spec.linux().as_ref().and_then(|linux| linux.devices().clone());
    let mut all: Vec<LinuxDevice> = NODES
        .iter()
        .map(|(name, major, minor)| {
            let mut device = LinuxDevice::default();
            device
                .set_path(Path::new("/dev").join(name))
                .set_typ(LinuxDeviceType::C)
                .set_major(i64::from(*major))
                .set_minor(i64::from(*minor));
            device
        })
        .collect();
    for device in configured.unwrap_or_default() {
        all.retain(|known| known.path() != device.path());
        all.push(device);
    }
    all
}

/// Whether `path` is in a file system of nodes that the runtime fills.
pub fn is_filled(plan: &Plan, path: &Path) -> bool {
    let filled = plan.mounts.iter().any(|planned| planned.what == What::Dev);
    filled && path.starts_with("/dev") && path != Path::new("/dev")
}

/// Makes one node in `folder`, with the owner `owner`.
pub fn make(folder: &OwnedFd, name: &Path, device: &LinuxDevice, owner: (u32, u32)) -> io::Result<()> {
    let kind = match device.typ() {
        LinuxDeviceType::B => FileType::BlockDevice,
        LinuxDeviceType::P => FileType::Fifo,
        _ => FileType::CharacterDevice,
    };
    let number = |number: i64| u32::try_from(number).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput));
    let device_number = if kind == FileType::Fifo {
        0
    } else {
        makedev(number(device.major())?, number(device.minor())?)
    };
    let mode = Mode::from_raw_mode(device.file_mode().unwrap_or(0o666) & 0o7777);
    rustix::fs::mknodat(folder, name, kind, mode, device_number)?;
    // The node's mode is subject to the umask.
    rustix::fs::chmodat(folder, name, mode, AtFlags::empty())?;
    let owner = (Uid::from_raw(owner.0), Gid::from_raw(owner.1));
    Ok(rustix::fs::chownat(
        folder,
        name,
        Some(owner.0),
        Some(owner.1),
        AtFlags::SYMLINK_NOFOLLOW,
    )?)
}

/// Makes what the runtime did not: nodes outside a file system of nodes, and the links.
pub fn make_all(plan: &Plan, root: &OwnedFd, runtime: &Runtime) -> Result<(), Failure> {
    let dev_is_bound = plan
        .mounts
        .iter()
        .any(|planned| planned.what == What::Bind && planned.mount.destination() == Path::new("/dev"));
    if dev_is_bound {
        return Ok(());
    }
    for (at, device) in wanted(plan)
        .iter()
        .enumerate()
        .filter(|(_, device)| !is_filled(plan, device.path()))
    {
        let stage = format!("make node {}", device.path().display());
        let path = place::plain(device.path());
        if plan.has_users() && device.typ() != LinuxDeviceType::P {
            let node = runtime.one(&Ask::Node { device: at })?;
            let point = place::target(root, &path, false).stage(&stage)?;
            attach(node.as_fd(), point.as_fd()).stage(&stage)?;
            continue;
        }
        let (folder, name) = place::parent(root, &path).stage(&stage)?;
        // What the root brings along under that name is not to be trusted to be the same.
        match rustix::fs::unlinkat(&folder, name, AtFlags::empty()) {
            Ok(()) | Err(rustix::io::Errno::NOENT) => {}
            Err(e) => return Err(e).stage(stage),
        }
        let owner = (device.uid().unwrap_or(0), device.gid().unwrap_or(0));
        make(&folder, Path::new(name), device, owner).stage(stage)?;
    }
    if !is_filled(plan, Path::new("/dev/fd")) {
        links(root).stage("make links in /dev")?;
    }
    Ok(())
}

fn links(root: &OwnedFd) -> io::Result<()> {
    let dev = place::folder(root, Path::new("/dev"))?;
    for (name, target) in LINKS {
        match rustix::fs::symlinkat(target, &dev, name) {
            Ok(()) | Err(rustix::io::Errno::EXIST) => {}
            Err(e) => return Err(e.into()),
        }
    }
    Ok(())
}

/// A terminal of the container's own as its standard streams and `/dev/console`; the runtime gets the other end.
pub fn terminal(process: &Process, root: &OwnedFd, runtime: &Runtime) -> Result<(), Failure> {
    let (ours, theirs) = new_terminal(process, root)?;
    let point = place::target(root, Path::new("/dev/console"), false).stage("make /dev/console")?;
    let console = masks::copy(theirs.as_fd(), false).stage("show the terminal")?;
    attach(console.as_fd(), point.as_fd()).stage("show the terminal")?;
    take_terminal(&ours, &theirs, runtime)
}

/// The same for a further process, which the container's own console is not.
pub fn another_terminal(process: &Process, root: &OwnedFd, runtime: &Runtime) -> Result<(), Failure> {
    let (ours, theirs) = new_terminal(process, root)?;
    take_terminal(&ours, &theirs, runtime)
}

fn new_terminal(process: &Process, root: &OwnedFd) -> Result<(OwnedFd, OwnedFd), Failure> {
    let (ours, theirs) = open_terminal(root).stage("open a terminal")?;
    if let Some(size) = process.console_size() {
        let cut = |size: u64| u16::try_from(size).unwrap_or(u16::MAX);
        let size = rustix::termios::Winsize {
            ws_row: cut(size.height()),
            ws_col: cut(size.width()),
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        rustix::termios::tcsetwinsize(&ours, size).stage("size the terminal")?;
    }
    let uid = Uid::from_raw(process.user().uid());
    rustix::fs::fchown(&theirs, Some(uid), None).stage("own the terminal")?;
    Ok((ours, theirs))
}

fn take_terminal(ours: &OwnedFd, theirs: &OwnedFd, runtime: &Runtime) -> Result<(), Failure> {
    runtime.ask(&Ask::Console, &[ours.as_fd()])?;
    for at in 0..3 {
        super::enter::redirect(theirs.as_fd(), at).stage("take the terminal")?;
    }
    rustix::process::ioctl_tiocsctty(rustix::stdio::stdin()).stage("take the terminal")
}

/// Of the container's own terminals: both ends, the second by the first and not by its name.
fn open_terminal(root: &OwnedFd) -> io::Result<(OwnedFd, OwnedFd)> {
    const DEVPTS: i64 = 0x1cd1;
    let place = place::existing(root, Path::new("/dev/pts/ptmx"), OFlags::empty())?;
    if rustix::fs::fstatfs(&place)?.f_type as i64 != DEVPTS {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let resolve = rustix::fs::ResolveFlags::IN_ROOT | rustix::fs::ResolveFlags::NO_SYMLINKS;
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let ours = rustix::fs::openat2(root, "/dev/pts/ptmx", flags, Mode::empty(), resolve)?;
    rustix::pty::unlockpt(&ours)?;
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let theirs = rustix::pty::ioctl_tiocgptpeer(&ours, flags)?;
    Ok((ours, theirs))
}

/// Fills the file system of nodes `dev`, on the host's side.
pub fn fill(plan: &Plan, dev: &OwnedFd) -> io::Result<()> {
    for device in wanted(plan).iter().filter(|device| is_filled(plan, device.path())) {
        let path: PathBuf = place::plain(device.path())
            .strip_prefix("/dev")
            .unwrap_or(Path::new(""))
            .to_owned();
        let owner = plan.host_ids(device.uid().unwrap_or(0), device.gid().unwrap_or(0));
        let inside = Path::new("/").join(&path);
        let (folder, name) = place::parent(dev, &inside)?;
        make(&folder, Path::new(name), device, owner)?;
    }
    for (name, target) in LINKS {
        rustix::fs::symlinkat(target, dev, name)?;
    }
    Ok(())
}

/// The host's own node for `device`, made sure to be that.
pub fn of_host(device: &LinuxDevice) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let node = rustix::fs::open(device.path(), flags, Mode::empty())?;
    let stat = rustix::fs::fstat(&node)?;
    let kind = match device.typ() {
        LinuxDeviceType::B => FileType::BlockDevice,
        _ => FileType::CharacterDevice,
    };
    let number = |number: i64| u32::try_from(number).unwrap_or(u32::MAX);
    let same = FileType::from_raw_mode(stat.st_mode) == kind
        && stat.st_rdev == makedev(number(device.major()), number(device.minor()));
    debug_assert!(node.as_raw_fd() > 2);
    if same {
        masks::copy(node.as_fd(), false)
    } else {
        Err(io::ErrorKind::NotFound.into())
    }
}
