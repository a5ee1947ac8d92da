//! Mounts images, attached nowhere: nobody's list of mounts has them, and they end with their last descriptor and the
//! last overlay that is made of them.

use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen,
};
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

/// The root of the image at `path`, read-only. The file may be removed while it is mounted.
///
/// # Errors
/// The kernel mounts no files as EROFS (before Linux 6.12, or without root), or this is no image.
pub fn mount(path: &Path) -> io::Result<OwnedFd> {
    let fs = fsopen("erofs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_string(&fs, "source", path)?;
    fsconfig_set_flag(&fs, "ro")?;
    fsconfig_create(&fs)?;
    let attributes =
        MountAttrFlags::MOUNT_ATTR_RDONLY | MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
    Ok(fsmount(&fs, FsMountFlags::FSMOUNT_CLOEXEC, attributes)?)
}
