//! The root's file system: read-only layers and the private layer in one overlay. Mounted by init within its own mount
//! namespace, by names; or by the agent meanwhile, by descriptors alone and attached nowhere, where the kernel can.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, fsmount, fsopen, mount};

use super::tree::{attach, clone_tree, open_dir};
use super::{Failure, Stage};
use crate::sys::{self, attr};

/// The layer at `path` attached nowhere, read-only and with its owners shifted by `shift`.
fn layer(path: &Path, shift: Option<BorrowedFd<'_>>) -> Result<OwnedFd, Failure> {
    let stage = |what: &str| format!("{what} layer {}", path.display());
    let tree = clone_tree(path, false).stage(stage("open"))?;
    let set = attr::RDONLY | attr::NOSUID | attr::NODEV;
    sys::mount_setattr(tree.as_fd(), set, shift, false).stage(stage("shift owners of"))?;
    Ok(tree)
}

/// A root that is attached nowhere.
pub struct Assembled {
    pub mount: OwnedFd,
    /// To let go of them takes a grace period of the kernel, for which there is time later.
    _layers: Vec<OwnedFd>,
}

/// Mounts `layers` (uppermost first) with the private layer `disk`, attached nowhere. `shift` is the user namespace of
/// the sandbox. Fails where the kernel takes no detached mounts for layers (before Linux 6.15).
pub fn assemble(layers: &[PathBuf], shift: BorrowedFd<'_>, disk: BorrowedFd<'_>) -> Result<Assembled, Failure> {
    use rustix::fs::{Mode, OFlags, openat};
    let fs = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC).stage("open overlay")?;
    let set =
        |key: &std::ffi::CStr, fd: BorrowedFd<'_>| sys::fsconfig_set_fd(fs.as_fd(), key, fd).stage("mount layers");
    // A mount that is attached nowhere is gone with its last descriptor.
    let lower: Vec<OwnedFd> = layers
        .iter()
        .map(|path| layer(path, Some(shift)))
        .collect::<Result<_, _>>()?;
    for layer in &lower {
        set(c"lowerdir+", layer.as_fd())?;
    }
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    for (key, name) in [(c"upperdir", "upper"), (c"workdir", "work")] {
        let folder = openat(disk, name, flags, Mode::empty()).stage("open private layer")?;
        set(key, folder.as_fd())?;
    }
    rustix::mount::fsconfig_set_string(&fs, "source", "overlay").stage("mount layers")?;
    // As below.
    rustix::mount::fsconfig_set_flag(&fs, "volatile").stage("mount layers")?;
    let created = rustix::mount::fsconfig_create(&fs);
    created.inspect_err(|_| forget(disk)).stage("mount layers")?;
    let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
    let mount = fsmount(&fs, FsMountFlags::FSMOUNT_CLOEXEC, attributes).stage("mount layers")?;
    Ok(Assembled { mount, _layers: lower })
}

/// Removes the marks of an attempt, with which a second one would be refused.
fn forget(disk: BorrowedFd<'_>) {
    for name in ["work/incompat/volatile", "work/incompat", "work/work"] {
        let _ = rustix::fs::unlinkat(disk, name, rustix::fs::AtFlags::REMOVEDIR);
    }
}

/// Attaches each layer at `l0`, `l1`… of the working folder.
pub fn attach_layers(layers: &[PathBuf], shift: Option<BorrowedFd<'_>>) -> Result<(), Failure> {
    for (at, path) in layers.iter().enumerate() {
        let tree = layer(path, shift)?;
        let point = format!("l{at}");
        std::fs::create_dir(&point).stage("make folder")?;
        let point = open_dir(&point).stage("open folder")?;
        attach(tree.as_fd(), point.as_fd()).stage(format!("attach layer {}", path.display()))?;
    }
    Ok(())
}

/// Mounts layers and private layer together at `root`. Names are relative, so that the
/// sandbox's own mount table tells nothing about the host.
pub fn mount_attached(layers: usize, as_user: bool) -> io::Result<()> {
    let lower: Vec<String> = (0..layers).map(|at| format!("l{at}")).collect();
    // Volatile: no fsync inside waits for the host's disk. The layer ends with the sandbox, or
    // before it with the host, so there is nothing it could promise.
    let options = format!(
        "lowerdir={},upperdir=disk/upper,workdir=disk/work,volatile{}",
        lower.join(":"),
        // Whoever is not the host's root may not write the attributes that are for it alone.
        if as_user { ",userxattr" } else { "" }
    );
    let options = std::ffi::CString::new(options)?;
    Ok(mount(
        "overlay",
        "root",
        "overlay",
        MountFlags::NOSUID | MountFlags::NODEV,
        options.as_c_str(),
    )?)
}
