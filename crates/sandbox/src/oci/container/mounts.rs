//! A configuration's mounts, in their order, onto places in the root that are held by descriptors.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen,
};

use super::{Runtime, place};
use crate::inside::tree::attach;
use crate::inside::{Failure, Stage};
use crate::oci::link::Ask;
use crate::oci::options::{Change, Options};
use crate::oci::plan::{Plan, Planned, What};
use crate::sys::{self, MountChange, attr};

/// A mount that is yet to become read-only, because more goes into it: where it is, and itself.
pub type Unfinished = (PathBuf, OwnedFd);

/// Mounts them all.
pub fn mount_all(plan: &Plan, root: &OwnedFd, runtime: &Runtime) -> Result<Vec<Unfinished>, Failure> {
    let mut unfinished = Vec::new();
    for (at, planned) in plan.mounts.iter().enumerate() {
        let stage = format!("mount {}", planned.mount.destination().display());
        let ask = |part| runtime.one(&Ask::Tree { mount: at, part });
        let later = attr::RDONLY * u64::from(matches!(planned.what, What::Dev | What::Fs));
        let mount = match planned.what {
            What::Bind | What::Dev => ask(0)?,
            What::Fs => new_fs(planned).stage(&stage)?,
            What::Groups => groups(plan, planned, root, &ask)?,
        };
        if planned.what != What::Groups {
            // While it is attached nowhere, nobody sees it half done.
            finish(&mount, planned, later).stage(&stage)?;
            place_it(root, planned, &mount).stage(&stage)?;
        }
        if planned.options.own.set & later != 0 {
            unfinished.push((place::plain(planned.mount.destination()), mount));
        }
    }
    Ok(unfinished)
}

/// Everything its options say of it, `later` apart.
fn finish(mount: &OwnedFd, planned: &Planned, later: u64) -> io::Result<()> {
    let options = &planned.options;
    change(mount, options.own, later, false)?;
    change(mount, options.below, 0, true)?;
    let Some((propagation, below)) = options.propagation else {
        return Ok(());
    };
    let change = MountChange {
        propagation,
        ..MountChange::default()
    };
    sys::mount_change(mount.as_fd(), change, None, below)
}

fn place_it(root: &OwnedFd, planned: &Planned, tree: &OwnedFd) -> io::Result<()> {
    let point = place::target(root, planned.mount.destination(), place::is_dir(tree)?)?;
    attach(tree.as_fd(), point.as_fd())
}

fn change(mount: &OwnedFd, change: Change, without: u64, below: bool) -> io::Result<()> {
    if change.is_empty() {
        return Ok(());
    }
    let change = MountChange {
        set: change.set & !without,
        clear: change.clear,
        propagation: 0,
    };
    sys::mount_change(mount.as_fd(), change, None, below)
}

/// A new file system with what the options say of it, attached nowhere.
fn new_fs(planned: &Planned) -> io::Result<OwnedFd> {
    let kind = planned.mount.typ().as_deref().unwrap_or_default();
    let source = planned.mount.source().as_deref();
    make_fs(kind, source, &planned.options)
}

/// The same for any.
pub fn make_fs(kind: &str, source: Option<&Path>, options: &Options) -> io::Result<OwnedFd> {
    let fs = fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)?;
    if let Some(source) = source {
        fsconfig_set_string(&fs, "source", source)?;
    }
    for (key, value) in &options.data {
        match value {
            Some(value) => fsconfig_set_string(&fs, key.as_str(), value.as_str())?,
            None => fsconfig_set_flag(&fs, key.as_str())?,
        }
    }
    fsconfig_create(&fs)?;
    // Whatever it must not allow it never does, not even for a moment.
    let safe = options.own.set & (attr::NOSUID | attr::NODEV | attr::NOEXEC);
    let attributes = MountAttrFlags::from_bits_retain(safe as u32);
    Ok(fsmount(&fs, FsMountFlags::FSMOUNT_CLOEXEC, attributes)?)
}

/// The container's control groups: the v2 group alone, or a folder with one for each hierarchy.
fn groups(
    plan: &Plan,
    planned: &Planned,
    root: &OwnedFd,
    ask: &impl Fn(usize) -> Result<OwnedFd, Failure>,
) -> Result<OwnedFd, Failure> {
    let all = &plan.groups.all;
    let stage = || format!("show control groups at {}", planned.mount.destination().display());
    if let [only] = all.as_slice()
        && only.controllers.is_none()
    {
        let tree = ask(0)?;
        finish(&tree, planned, 0).stage(stage())?;
        place_it(root, planned, &tree).stage(stage())?;
        return Ok(tree);
    }
    let data = [("mode", "755"), ("size", "64k")];
    let data = data.map(|(key, value)| (key.to_owned(), Some(value.to_owned())));
    let options = Options {
        data: data.to_vec(),
        ..planned.options.clone()
    };
    let folder = make_fs("tmpfs", planned.mount.source().as_deref(), &options).stage(stage())?;
    for group in all {
        rustix::fs::mkdirat(&folder, group.name.as_str(), Mode::from_raw_mode(0o755)).stage(stage())?;
    }
    finish(&folder, planned, 0).stage(stage())?;
    place_it(root, planned, &folder).stage(stage())?;
    let above = place::plain(planned.mount.destination());
    for (part, group) in all.iter().enumerate() {
        let tree = ask(part)?;
        finish(&tree, planned, 0).stage(stage())?;
        let point = place::existing(root, &above.join(&group.name), OFlags::DIRECTORY).stage(stage())?;
        attach(tree.as_fd(), point.as_fd()).stage(stage())?;
    }
    Ok(folder)
}
