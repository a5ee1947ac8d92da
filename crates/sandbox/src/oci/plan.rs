//! What the process that becomes the container needs to know, worked out before it is born: it gets a copy of
//! this memory, and descriptors of everything on the host it may touch.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};

use nix::sched::CloneFlags;
use oci_spec::runtime::{LinuxIdMapping, LinuxNamespaceType as Kind, Mount, Spec};
use rustix::fs::{Mode, OFlags};

use super::error::{Context, Error, Result};
use super::filter::{self, Filter};
use super::groups::Groups;
use super::lifecycle::Creation;
use super::options::{self, Options};
use crate::inside::masks;
use crate::inside::tree::clone_tree;
use crate::sys::{self, MountChange, propagation};
use crate::users;

/// A namespace to be joined.
#[derive(Debug)]
pub struct Join {
    /// Its `CLONE_NEW*` bit.
    pub kind: CloneFlags,
    /// The namespace.
    pub fd: OwnedFd,
}

/// One mount, its options taken apart.
#[derive(Debug)]
pub struct Planned {
    /// As configured.
    pub mount: Mount,
    /// Its options.
    pub options: Options,
    /// What it is.
    pub what: What,
}

/// What a mount is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// Something of the host's tree.
    Bind,
    /// The container's own control groups.
    Groups,
    /// The file system of nodes.
    Dev,
    /// A new file system.
    Fs,
}

/// See the module.
#[derive(Debug)]
pub struct Plan {
    /// The configuration.
    pub spec: Spec,
    /// Namespaces it is born in.
    pub born: CloneFlags,
    /// Namespaces it makes later, when it is where their roots are to be.
    pub later: CloneFlags,
    /// Namespaces it joins.
    pub joins: Vec<Join>,
    /// The root's folder.
    pub rootfs: PathBuf,
    /// The root, as a tree attached nowhere; none if another mount namespace is joined.
    pub root: Option<OwnedFd>,
    /// The host's `/proc`.
    pub proc: OwnedFd,
    /// Mounts in their order.
    pub mounts: Vec<Planned>,
    /// Its control groups.
    pub groups: Groups,
    /// Its filter.
    pub filter: Option<Filter>,
    /// Descriptors that it keeps besides its standard streams.
    pub preserve: Vec<RawFd>,
    /// Whether the host's tree may stay below its root where it has to.
    pub no_pivot: bool,
}

impl Plan {
    /// Works it out for the bundle's root at `rootfs`.
    pub fn new(spec: Spec, rootfs: PathBuf, groups: Groups, wanted: &Creation) -> Result<Plan> {
        let (mut born, mut later, mut joins) = (CloneFlags::empty(), CloneFlags::empty(), Vec::new());
        let namespaces = spec.linux().as_ref().and_then(|linux| linux.namespaces().clone());
        for one in namespaces.unwrap_or_default() {
            let kind = flag(one.typ());
            match one.path() {
                Some(path) => joins.push(join(kind, path)?),
                None if matches!(one.typ(), Kind::Cgroup | Kind::Time) => later |= kind,
                None => born |= kind,
            }
        }
        let elsewhere = joins.iter().any(|join| join.kind == CloneFlags::CLONE_NEWNS);
        let profile = spec.linux().as_ref().and_then(|linux| linux.seccomp().clone());
        let filter = profile.map(|profile| filter::compile(&profile)).transpose();
        let filter = filter.map_err(|what| Error::Unsupported { what })?;
        let root = if elsewhere {
            None
        } else {
            Some(open_root(&spec, &rootfs)?)
        };
        let mounts = spec.mounts().iter().flatten().map(planned).collect::<Result<_>>()?;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let proc = rustix::fs::open("/proc", flags, Mode::empty()).at("open", "/proc")?;
        // Users last: who joins them is not the host's root any more.
        joins.sort_by_key(|join| join.kind == CloneFlags::CLONE_NEWUSER);
        Ok(Plan {
            spec,
            born,
            later,
            joins,
            rootfs,
            root,
            proc,
            mounts,
            groups,
            filter,
            preserve: wanted.preserve_fds.clone(),
            no_pivot: wanted.no_pivot,
        })
    }

    /// Whether the container has a user namespace that is not the host's.
    pub fn has_users(&self) -> bool {
        self.is_new(CloneFlags::CLONE_NEWUSER) || self.joined(CloneFlags::CLONE_NEWUSER)
    }

    /// Whether a namespace of this kind is made.
    pub fn is_new(&self, kind: CloneFlags) -> bool {
        (self.born | self.later).contains(kind)
    }

    /// Whether one is joined.
    pub fn joined(&self, kind: CloneFlags) -> bool {
        self.joins.iter().any(|join| join.kind == kind)
    }

    /// Descriptors that the container needs after its birth.
    pub fn kept(&self) -> Vec<RawFd> {
        let mut all = self.preserve.clone();
        all.push(self.proc.as_raw_fd());
        all.extend(self.root.as_ref().map(AsRawFd::as_raw_fd));
        all
    }

    /// The host's ids of the container's root: (user, group).
    pub fn owner(&self) -> (u32, u32) {
        self.host_ids(0, 0)
    }

    /// The host's ids of an owner inside; as they are where nothing is mapped.
    pub fn host_ids(&self, uid: u32, gid: u32) -> (u32, u32) {
        let linux = self.spec.linux().as_ref();
        let find = |list: Option<&Vec<LinuxIdMapping>>, id: u32| {
            let mut all = list.into_iter().flatten();
            let one = all.find(|one| (one.container_id()..one.container_id() + one.size()).contains(&id));
            one.map_or(id, |one| one.host_id() + (id - one.container_id()))
        };
        let uids = linux.and_then(|linux| linux.uid_mappings().as_ref());
        let gids = linux.and_then(|linux| linux.gid_mappings().as_ref());
        (find(uids, uid), find(gids, gid))
    }
}

/// Mappings as lines of `uid_map` or `gid_map`.
pub fn map(list: &[LinuxIdMapping]) -> String {
    list.iter()
        .map(|one| format!("{} {} {}\n", one.container_id(), one.host_id(), one.size()))
        .collect()
}

fn flag(kind: Kind) -> CloneFlags {
    const NEWTIME: i32 = 0x80;
    match kind {
        Kind::Mount => CloneFlags::CLONE_NEWNS,
        Kind::Cgroup => CloneFlags::CLONE_NEWCGROUP,
        Kind::Uts => CloneFlags::CLONE_NEWUTS,
        Kind::Ipc => CloneFlags::CLONE_NEWIPC,
        Kind::User => CloneFlags::CLONE_NEWUSER,
        Kind::Pid => CloneFlags::CLONE_NEWPID,
        Kind::Network => CloneFlags::CLONE_NEWNET,
        Kind::Time => CloneFlags::from_bits_retain(NEWTIME),
    }
}

fn join(kind: CloneFlags, path: &Path) -> Result<Join> {
    let fd: OwnedFd = File::open(path).at("open namespace", path)?.into();
    let found = sys::namespace_kind(fd.as_fd()).at("look at namespace", path)?;
    if found != kind.bits() {
        let what = format!(
            "{} is not a namespace of the kind it is to be joined as",
            path.display()
        );
        return Err(Error::Unsupported { what });
    }
    Ok(Join { kind, fd })
}

/// Nothing mounted inside is ever seen on the host; what the host mounts below is seen inside only if asked for.
fn open_root(spec: &Spec, rootfs: &Path) -> Result<OwnedFd> {
    let tree = clone_tree(rootfs, true).at("open root", rootfs)?;
    let word = spec
        .linux()
        .as_ref()
        .and_then(|linux| linux.rootfs_propagation().as_deref());
    let follows = matches!(word.and_then(options::propagation), Some((propagation::SLAVE, _)));
    let propagation = if follows {
        propagation::SLAVE
    } else {
        propagation::PRIVATE
    };
    let change = MountChange {
        propagation,
        ..MountChange::default()
    };
    sys::mount_change(tree.as_fd(), change, None, true).at("separate root", rootfs)?;
    Ok(tree)
}

fn planned(mount: &Mount) -> Result<Planned> {
    let options = options::parse(mount.options().as_deref().unwrap_or_default());
    let mut options = options.map_err(|what| Error::Unsupported { what })?;
    let kind = mount.typ().as_deref().unwrap_or_default();
    if kind == "bind" {
        options.bind = Some(options.bind.unwrap_or(false));
    }
    let what = match kind {
        _ if options.bind.is_some() => What::Bind,
        "cgroup" | "cgroup2" => What::Groups,
        "tmpfs" if mount.destination() == Path::new("/dev") => What::Dev,
        _ => What::Fs,
    };
    Ok(Planned {
        mount: mount.clone(),
        options,
        what,
    })
}

/// What is bound, as a tree attached nowhere, changed as its options say.
pub fn bound(plan: &Plan, planned: &Planned, bundle: &Path) -> std::io::Result<OwnedFd> {
    let source = planned.mount.source().clone().unwrap_or_default();
    let recursive = planned.options.bind == Some(true);
    let tree = clone_tree(&bundle.join(source), recursive)?;
    let options = &planned.options;
    if options.propagation.is_none() {
        let change = MountChange {
            propagation: propagation::PRIVATE,
            ..MountChange::default()
        };
        sys::mount_change(tree.as_fd(), change, None, true)?;
    }
    if let Some((uids, gids)) = shifted(plan, planned) {
        let users = users::make(&map(&uids), &map(&gids), None)?;
        let below = options.idmap == Some(true);
        sys::mount_change(tree.as_fd(), MountChange::default(), Some(users.as_fd()), below)?;
    }
    Ok(tree)
}

/// The mappings by which a bind shifts owners, if it does.
fn shifted(plan: &Plan, planned: &Planned) -> Option<(Vec<LinuxIdMapping>, Vec<LinuxIdMapping>)> {
    let mount = &planned.mount;
    if let (Some(uids), Some(gids)) = (mount.uid_mappings(), mount.gid_mappings()) {
        return Some((uids.clone(), gids.clone()));
    }
    planned.options.idmap?;
    let linux = plan.spec.linux().as_ref()?;
    Some((linux.uid_mappings().clone()?, linux.gid_mappings().clone()?))
}

/// The `part`th of the container's control groups to be shown.
pub fn group_view(plan: &Plan, part: usize) -> std::io::Result<OwnedFd> {
    let group = plan.groups.all.get(part).ok_or(std::io::ErrorKind::NotFound)?;
    let place = rustix::fs::open(
        &group.dir,
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    let tree = masks::copy(place.as_fd(), false)?;
    let change = MountChange {
        propagation: propagation::PRIVATE,
        ..MountChange::default()
    };
    sys::mount_change(tree.as_fd(), change, None, false)?;
    Ok(tree)
}
