//! Builds the file tree of a sandbox and makes it the root. Runs as the host's root in a
//! mount namespace of its own.
//!
//! Everything below the new root may have been arranged by an enemy (layers are content):
//! it is only ever reached through descriptors, resolved within that root, and mount points
//! of the platform are never reached through a symbolic link.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{Gid, Mode, OFlags, ResolveFlags, Uid};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags,
    UnmountFlags, fsconfig_create, fsconfig_set_string, fsmount, fsopen, mount, mount_change, move_mount, open_tree,
    unmount,
};

use super::layout::{KernelMount, PROC, SYS};
use super::{Failure, Plan, Stage, dev, masks, overlay};
use crate::record::{LOG, SCRATCH};
use crate::sys::{self, attr};
use crate::{Bind, Limits, Spec, users};

const SYSFS_MAGIC: libc::__fsword_t = 0x6265_6572;

/// The new root while it is being furnished.
pub struct Root {
    pub fd: OwnedFd,
    pub uid_base: u32,
}

/// The tree on its way from nothing to a root: first what every app needs, at a place of its
/// own, then the root with the app's layers, which takes that over.
pub struct Bed<'a> {
    plan: &'a Plan,
    userns: BorrowedFd<'a>,
    log: OwnedFd,
    /// Has `/proc`, `/sys` and `/dev` until there is a root.
    stage: Root,
    root: Option<Root>,
}

impl<'a> Bed<'a> {
    /// Builds what needs no knowledge of the app, in a scratch file system that becomes the
    /// working folder. `sys` is its `/sys`, if that was made with its network namespace, `dev` the parts of its `/dev`
    /// if the agent makes them.
    pub fn lay(
        plan: &'a Plan,
        userns: &'a OwnedFd,
        sys: Option<OwnedFd>,
        dev: impl FnOnce() -> io::Result<dev::Parts>,
    ) -> Result<Bed<'a>, Failure> {
        mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC).stage("separate mounts")?;
        let log = clone_tree(&plan.dir.join(LOG), false).stage("open log folder")?;
        let scratch = plan.dir.join(SCRATCH);
        mount(
            "tmpfs",
            &scratch,
            "tmpfs",
            MountFlags::NOSUID | MountFlags::NODEV,
            c"mode=700",
        )
        .stage("mount scratch")?;
        std::env::set_current_dir(&scratch).stage("enter scratch")?;
        std::fs::create_dir("stage").stage("make folder")?;
        let stage = Root {
            fd: open_dir("stage").stage("open folder")?,
            uid_base: plan.uid_base,
        };
        let dev_null = open_null().stage("open /dev/null")?;
        stage.kernel_fs(&PROC).stage("mount /proc")?;
        let masked = sys.is_some();
        stage.place_sys(sys).stage("mount /sys")?;
        show_groups(plan, &stage).stage("show control groups")?;
        masks::apply(stage.fd.as_fd(), dev_null.as_fd(), masked)?;
        dev().and_then(|parts| parts.place(&stage)).stage("build /dev")?;
        Ok(Bed {
            plan,
            userns: userns.as_fd(),
            log,
            stage,
            root: None,
        })
    }

    /// Takes over the private layer.
    pub fn attach_disk(&mut self, disk: OwnedFd) -> Result<(), Failure> {
        std::fs::create_dir("disk").stage("make folder")?;
        let point = open_dir("disk").stage("open folder")?;
        attach(disk.as_fd(), point.as_fd()).stage("attach private layer")
    }

    /// Mounts the root (or takes over `mounted`), moves what was staged into it, and makes it the only thing there is.
    pub fn raise(&mut self, layers: &[PathBuf], binds: &[Bind], mounted: Option<OwnedFd>) -> Result<(), Failure> {
        std::fs::create_dir("root").stage("make folder")?;
        if let Some(mounted) = mounted {
            let point = open_dir("root").stage("open folder")?;
            attach(mounted.as_fd(), point.as_fd()).stage("attach root")?;
        } else {
            overlay::attach_layers(layers, self.stage.shift(self.userns))?;
            overlay::mount_attached(layers.len(), self.plan.uid_base == 0).stage("mount layers")?;
        }
        let root = Root {
            fd: open_dir("root").stage("open root")?,
            uid_base: self.plan.uid_base,
        };
        for bind in binds {
            root.bind(bind, self.userns).stage(format!(
                "bind {} at {}",
                bind.source.display(),
                bind.target.display()
            ))?;
        }
        root.make_tmp().stage("make /tmp")?;
        for name in ["/proc", "/sys", "/dev"] {
            let stage = || format!("mount {name}");
            let built = self.stage.existing(Path::new(name), true).stage(stage())?;
            let point = root.mount_point(Path::new(name)).stage(stage())?;
            attach(built.as_fd(), point.as_fd()).stage(stage())?;
        }
        rustix::process::fchdir(&root.fd).stage("enter root")?;
        rustix::process::pivot_root(c".", c".").stage("pivot")?;
        unmount(c".", UnmountFlags::DETACH).stage("leave the host's tree")?;
        std::env::set_current_dir("/").stage("enter root")?;
        self.root = Some(root);
        Ok(())
    }

    /// Fits a raised root to `spec`.
    pub fn fit(&self, spec: &Spec) -> Result<(), Failure> {
        let root = self
            .root
            .as_ref()
            .ok_or(io::ErrorKind::NotFound)
            .stage("find the root")?;
        root.fit(spec, &self.plan.limits)
    }

    /// The root, once it is raised.
    pub fn root(&self) -> io::Result<BorrowedFd<'_>> {
        self.root
            .as_ref()
            .map(|root| root.fd.as_fd())
            .ok_or(io::ErrorKind::NotFound.into())
    }

    /// The log folder, as a mount of its own: there is no way up from it.
    pub fn finish(self) -> OwnedFd {
        self.log
    }
}

fn show_groups(plan: &Plan, root: &Root) -> io::Result<()> {
    let views = &plan.groups.views;
    if views.iter().any(|(_, name)| !name.is_empty()) {
        let tmpfs = new_fs("tmpfs", &[("mode", "755"), ("size", "64k")], 0)?;
        for (_, name) in views {
            rustix::fs::mkdirat(&tmpfs, name.as_str(), Mode::from_raw_mode(0o755))?;
        }
        sys::mount_setattr(
            tmpfs.as_fd(),
            attr::RDONLY | attr::NOSUID | attr::NODEV | attr::NOEXEC,
            None,
            false,
        )?;
        attach(tmpfs.as_fd(), root.existing(Path::new("/sys/fs/cgroup"), true)?.as_fd())?;
    }
    for (source, name) in views {
        let tree = clone_tree(source, false)?;
        sys::mount_setattr(
            tree.as_fd(),
            attr::RDONLY | attr::NOSUID | attr::NODEV | attr::NOEXEC,
            None,
            false,
        )?;
        let target = Path::new("/sys/fs/cgroup").join(name);
        attach(tree.as_fd(), root.existing(&target, true)?.as_fd())?;
    }
    Ok(())
}

impl Root {
    /// Writes the files of `spec` and makes its shared memory as large as it may be, if that was
    /// built for the limits `before`.
    pub fn fit(&self, spec: &Spec, before: &Limits) -> Result<(), Failure> {
        let owner = (spec.process.uid, spec.process.gid);
        for (path, content, mode) in &spec.files {
            self.write_file(path, content, *mode, owner)
                .stage(format!("write {}", path.display()))?;
        }
        if spec.limits.memory_bytes != before.memory_bytes {
            dev::resize_shm(self, spec.limits.memory_bytes).stage("size /dev/shm")?;
        }
        Ok(())
    }

    /// What owners are shifted by; nothing where the sandbox's ids are the agent's own.
    fn shift<'a>(&self, userns: BorrowedFd<'a>) -> Option<BorrowedFd<'a>> {
        (self.uid_base != 0).then_some(userns)
    }

    /// Opens what exists at `path` (as a place only), through no symbolic link at all.
    pub fn existing(&self, path: &Path, dir: bool) -> io::Result<OwnedFd> {
        let flags = OFlags::PATH | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let flags = if dir { flags | OFlags::DIRECTORY } else { flags };
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        Ok(rustix::fs::openat2(&self.fd, path, flags, Mode::empty(), resolve)?)
    }

    /// The folder at `path` as a mount point of the platform; made if missing.
    pub fn mount_point(&self, path: &Path) -> io::Result<OwnedFd> {
        match self.existing(path, true) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                self.make_dirs(path, (0, 0))?;
                self.existing(path, true)
            }
            other => other,
        }
    }

    /// Mounts a new file system of the kernel's in its place.
    pub fn kernel_fs(&self, mount: &KernelMount) -> io::Result<()> {
        let fs = new_fs(mount.kind, mount.options, mount.attributes)?;
        attach(fs.as_fd(), self.mount_point(Path::new(mount.target))?.as_fd())
    }

    fn place_sys(&self, made: Option<OwnedFd>) -> io::Result<()> {
        match made {
            Some(made) => attach(made.as_fd(), self.mount_point(Path::new(SYS.target))?.as_fd()),
            None => self.kernel_fs(&SYS),
        }
    }

    fn bind(&self, bind: &Bind, userns: BorrowedFd<'_>) -> io::Result<()> {
        let (source, target, readonly) = (&bind.source, &bind.target, bind.readonly);
        let tree = clone_tree(source, true)?;
        let set = attr::NOSUID | attr::NODEV | if readonly { attr::RDONLY } else { 0 };
        match sys::mount_setattr(tree.as_fd(), set, self.shift(userns), true) {
            // Some file systems cannot shift owners; what is only read is fine without.
            Err(e) if readonly && e.raw_os_error() == Some(libc::EINVAL) => {
                sys::mount_setattr(tree.as_fd(), set, None, true)?;
            }
            other => other?,
        }
        let is_dir = rustix::fs::FileType::from_raw_mode(rustix::fs::fstat(&tree)?.st_mode).is_dir();
        let point = match self.existing(target, is_dir) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                if is_dir {
                    self.make_dirs(target, (0, 0))?;
                } else {
                    self.create_file(target, 0o644, (0, 0))?;
                }
                self.existing(target, is_dir)?
            }
            other => other?,
        };
        attach(tree.as_fd(), point.as_fd())
    }

    fn write_file(&self, path: &Path, content: &[u8], mode: u32, owner: (u32, u32)) -> io::Result<()> {
        let file = self.create_file(path, mode, owner)?;
        io::Write::write_all(&mut std::fs::File::from(file), content)
    }

    /// Creates (or empties) the plain file `path` with its folders.
    fn create_file(&self, path: &Path, mode: u32, owner: (u32, u32)) -> io::Result<OwnedFd> {
        let parent = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
        let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
        let folder = self.make_dirs(parent, owner)?;
        refuse_kernel_fs(&folder)?;
        // A layer may hold a link or a device of that name: replaced, never followed.
        if let Err(e) = rustix::fs::unlinkat(&folder, name, rustix::fs::AtFlags::empty())
            && e != rustix::io::Errno::NOENT
        {
            return Err(e.into());
        }
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&folder, name, flags, Mode::from_raw_mode(0o600))?;
        rustix::fs::fchown(&file, Some(self.uid(owner.0)), Some(self.gid(owner.1)))?;
        rustix::fs::fchmod(&file, Mode::from_raw_mode(mode & 0o777))?;
        Ok(file)
    }

    /// Opens the folder `path`, making what is missing. Links are followed within the root.
    fn make_dirs(&self, path: &Path, owner: (u32, u32)) -> io::Result<OwnedFd> {
        make_dirs(self.fd.as_fd(), path, (self.uid(owner.0), self.gid(owner.1)))
    }

    fn make_tmp(&self) -> io::Result<()> {
        for path in ["/tmp", "/var/tmp"] {
            if self.existing(Path::new(path), false).is_ok() {
                continue;
            }
            let folder = self.make_dirs(Path::new(path), (0, 0))?;
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let folder = rustix::fs::openat(&folder, c".", flags, Mode::empty())?;
            rustix::fs::fchmod(&folder, Mode::from_raw_mode(0o1777))?;
        }
        Ok(())
    }

    fn uid(&self, inside: u32) -> Uid {
        Uid::from_raw(users::outer(self.uid_base, inside))
    }

    fn gid(&self, inside: u32) -> Gid {
        Gid::from_raw(users::outer(self.uid_base, inside))
    }
}

/// Opens the folder `path` below `root`, making what is missing for `owner`. Links are followed within the root.
pub fn make_dirs(root: BorrowedFd<'_>, path: &Path, owner: (Uid, Gid)) -> io::Result<OwnedFd> {
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let mut walked = std::path::PathBuf::from("/");
    let mut folder = rustix::fs::openat2(root, &walked, flags, Mode::empty(), resolve)?;
    for component in path.components() {
        let name = match component {
            Component::RootDir | Component::CurDir => continue,
            Component::Normal(name) => name,
            _ => return Err(io::ErrorKind::InvalidInput.into()),
        };
        walked.push(name);
        let next = rustix::fs::openat2(root, &walked, flags, Mode::empty(), resolve);
        folder = match next {
            Err(rustix::io::Errno::NOENT) => {
                rustix::fs::mkdirat(&folder, name, Mode::from_raw_mode(0o755))?;
                // An agent may have a stricter mask than init.
                rustix::fs::chmodat(&folder, name, Mode::from_raw_mode(0o755), rustix::fs::AtFlags::empty())?;
                let new = rustix::fs::openat(&folder, name, flags | OFlags::NOFOLLOW, Mode::empty())?;
                let empty = rustix::fs::AtFlags::EMPTY_PATH;
                rustix::fs::chownat(&new, c"", Some(owner.0), Some(owner.1), empty)?;
                new
            }
            other => other?,
        };
    }
    Ok(folder)
}

/// A new file system, attached nowhere; always nosuid, and nodev except `tmpfs` for `/dev`.
pub fn new_fs(kind: &str, options: &[(&str, &str)], attributes: u64) -> io::Result<OwnedFd> {
    let fs = fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)?;
    for (key, value) in options {
        fsconfig_set_string(&fs, *key, *value)?;
    }
    fsconfig_create(&fs)?;
    let attributes = MountAttrFlags::from_bits_retain((attributes | attr::NOSUID) as u32);
    Ok(fsmount(&fs, FsMountFlags::FSMOUNT_CLOEXEC, attributes)?)
}

/// The `/sys` of this process's network namespace with everything hidden in it that is hidden in sandboxes, attached
/// nowhere; `None` where the kernel cannot mount anything in it before it is attached.
pub fn masked_sys() -> Option<OwnedFd> {
    let null = open_null().ok()?;
    let sys = new_fs(SYS.kind, SYS.options, SYS.attributes).ok()?;
    masks::apply_to_sys(sys.as_fd(), null.as_fd()).ok()?;
    Some(sys)
}

/// A copy of the mount at `path`, attached nowhere.
pub fn clone_tree(path: &Path, recursive: bool) -> io::Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let flags = if recursive {
        flags | OpenTreeFlags::AT_RECURSIVE
    } else {
        flags
    };
    Ok(open_tree(rustix::fs::CWD, path, flags)?)
}

/// Attaches a mount at the place `at`.
pub fn attach(mount: BorrowedFd<'_>, at: BorrowedFd<'_>) -> io::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    Ok(move_mount(mount, c"", at, c"", flags)?)
}

/// The kernel's own file systems are there before files are written: a link in a layer must not
/// lead the host's root into them.
fn refuse_kernel_fs(folder: &OwnedFd) -> io::Result<()> {
    let kind = rustix::fs::fstatfs(folder)?.f_type;
    if kind == libc::PROC_SUPER_MAGIC
        || kind == SYSFS_MAGIC
        || kind == libc::CGROUP_SUPER_MAGIC
        || kind == libc::CGROUP2_SUPER_MAGIC
    {
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    Ok(())
}

/// Opens the folder `path` as a place only.
pub fn open_dir(path: &str) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(rustix::fs::open(path, flags, Mode::empty())?)
}

/// The host's `/dev/null`, made sure to be just that.
pub fn open_null() -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let null = rustix::fs::open("/dev/null", flags, Mode::empty())?;
    let stat = rustix::fs::fstat(&null)?;
    let is_char = rustix::fs::FileType::from_raw_mode(stat.st_mode) == rustix::fs::FileType::CharacterDevice;
    if is_char && stat.st_rdev == rustix::fs::makedev(1, 3) {
        Ok(null)
    } else {
        Err(io::ErrorKind::InvalidData.into())
    }
}
