//! The process that becomes the container: from its birth in new namespaces to the execution of its program.
//!
//! ```text
//! born in new namespaces    wait for maps and groups, leave the host's    (here)
//!   └▶ furnished            mounts, nodes, masks; hooks look at it        (mounts, nodes)
//!        └▶ in its root     nothing of the host in sight, waits           (here)
//!             └▶ started    gives up privileges, executes                 (enter)
//! ```
//! It is a copy of the runtime, with one thread, and executes nothing of the host inside: a program in the
//! container never has a process with the host's binary before it, nor a descriptor of it.

pub mod enter;
pub mod mounts;
pub mod nodes;
pub mod place;

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::panic::AssertUnwindSafe;
use std::path::Path;

use nix::sched::CloneFlags;
use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::mount::{MountPropagationFlags, UnmountFlags, mount_change, unmount};
use rustix::thread::{Gid, Uid};

use super::hooks::{self, Kind};
use super::link::{Ask, Tell};
use super::options;
use super::plan::Plan;
use crate::inside::tree::{attach, clone_tree, open_null};
use crate::inside::{Failure, Stage, masks};
use crate::sys::{self, MountChange, attr, propagation};
use crate::wire;

/// The runtime's ear.
pub struct Runtime {
    socket: OwnedFd,
}

impl Runtime {
    /// Who is at the other end of `socket`.
    pub fn at(socket: OwnedFd) -> Runtime {
        Runtime { socket }
    }

    /// Tells something and waits for the answer, with the descriptors that come with it.
    fn ask(&self, ask: &Ask, fds: &[BorrowedFd<'_>]) -> Result<Vec<OwnedFd>, Failure> {
        wire::send(self.socket.as_fd(), ask, fds).stage("speak to the runtime")?;
        self.listen()
    }

    /// Waits until it may go on.
    pub fn listen(&self) -> Result<Vec<OwnedFd>, Failure> {
        match wire::receive::<Tell>(self.socket.as_fd()).stage("listen to the runtime")? {
            Some((Tell::Go, fds)) => Ok(fds),
            Some((Tell::Refused { stage, errno }, _)) => Err(io::Error::from_raw_os_error(errno)).stage(stage),
            Some((Tell::Start, _)) | None => Err(io::ErrorKind::UnexpectedEof).stage("listen to the runtime"),
        }
    }

    /// Tells something that needs no answer.
    pub fn tell(&self, ask: &Ask) {
        let _ = wire::send(self.socket.as_fd(), ask, &[]);
    }

    /// Tells what failed.
    pub fn complain(&self, failure: Failure) {
        let errno = failure.error.raw_os_error().unwrap_or(libc::EIO);
        let stage = failure.stage;
        let _ = wire::send(self.socket.as_fd(), &Ask::Failed { stage, errno }, &[]);
    }

    fn one(&self, ask: &Ask) -> Result<OwnedFd, Failure> {
        self.ask(ask, &[])?
            .pop()
            .ok_or(io::ErrorKind::InvalidData)
            .stage("take a descriptor")
    }
}

impl AsFd for Runtime {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl AsRawFd for Runtime {
    fn as_raw_fd(&self) -> std::os::fd::RawFd {
        self.socket.as_raw_fd()
    }
}

/// The whole life until the program is executed. Never returns into the runtime's code.
pub fn live(plan: &Plan, socket: OwnedFd, listener: OwnedFd) -> ! {
    let mut keep = plan.kept();
    keep.extend([socket.as_raw_fd(), listener.as_raw_fd()]);
    // SAFETY: this process never returns to the owners of the other descriptors (locks and
    // folders of the runtime), so nothing uses or closes them again.
    if unsafe { sys::close_all_except(3, &keep) }.is_err() {
        sys::exit_now(125);
    }
    let runtime = Runtime { socket };
    let lived = std::panic::catch_unwind(AssertUnwindSafe(|| make(plan, &runtime)));
    let state = match lived {
        Ok(Ok(state)) => state,
        Ok(Err(failure)) => {
            runtime.complain(failure);
            sys::exit_now(1)
        }
        Err(_) => sys::exit_now(125),
    };
    drop(runtime);
    let _ = std::panic::catch_unwind(AssertUnwindSafe(|| enter::wait_and_execute(plan, &listener, &state)));
    sys::exit_now(1)
}

/// Becomes the container but for its program; returns its state as hooks get it.
fn make(plan: &Plan, runtime: &Runtime) -> Result<Vec<u8>, Failure> {
    hide_memory().stage("hide memory")?;
    runtime.listen()?;
    if plan.has_users() {
        become_root().stage("become the container's root")?;
    }
    if !plan.later.is_empty() {
        nix::sched::unshare(plan.later).stage("make namespaces")?;
    }
    runtime.ask(&Ask::Apart, &[])?;
    let _ = rustix::process::setsid();
    sys::new_session_keyring().or_else(absent).stage("make a keyring")?;
    if plan.is_new(CloneFlags::CLONE_NEWNET) {
        sys::loopback_up().stage("bring the loopback interface up")?;
    }
    names(plan)?;
    let root = Root::take(plan)?;
    let unfinished = mounts::mount_all(plan, &root.fd, runtime)?;
    nodes::make_all(plan, &root.fd, runtime)?;
    let process = plan.spec.process().as_ref();
    if let Some(process) = process.filter(|process| process.terminal() == Some(true)) {
        nodes::terminal(process, &root.fd, runtime)?;
    }
    if let Some(process) = plan.spec.process() {
        place::folder(&root.fd, process.cwd()).stage(format!("make {}", process.cwd().display()))?;
    }
    hide(plan, &root.fd)?;
    sysctls(plan)?;
    for (path, mount) in unfinished {
        root.make_read_only(&path, &mount)?;
    }
    let state = runtime.one(&Ask::Furnished)?;
    let state: Vec<u8> = wire::from_memfd(state).stage("read state")?;
    run_hooks(plan, Kind::CreateContainer, &state)?;
    root.enter(plan)?;
    runtime.ask(&Ask::Ready, &[])?;
    Ok(state)
}

/// Nobody may look into this process before it has executed what it is for.
pub fn hide_memory() -> io::Result<()> {
    Ok(rustix::process::set_dumpable_behavior(
        rustix::process::DumpableBehavior::NotDumpable,
    )?)
}

/// Root of a new user namespace, if its root is mapped.
pub fn become_root() -> io::Result<()> {
    // Refused where the map says so.
    let _ = rustix::thread::set_thread_groups(&[]);
    rustix::thread::set_thread_res_gid(Gid::ROOT, Gid::ROOT, Gid::ROOT)?;
    rustix::thread::set_thread_res_uid(Uid::ROOT, Uid::ROOT, Uid::ROOT)?;
    hide_memory()
}

/// Kernels without the call are no error.
fn absent(error: io::Error) -> io::Result<()> {
    match error.raw_os_error() {
        Some(libc::ENOSYS) => Ok(()),
        _ => Err(error),
    }
}

fn names(plan: &Plan) -> Result<(), Failure> {
    if let Some(name) = plan.spec.hostname().as_ref().filter(|name| !name.is_empty()) {
        nix::unistd::sethostname(name).stage("set host name")?;
    }
    if let Some(name) = plan.spec.domainname().as_ref().filter(|name| !name.is_empty()) {
        rustix::system::setdomainname(name.as_bytes()).stage("set domain name")?;
    }
    Ok(())
}

/// Through the host's own `/proc`, whatever is mounted where.
fn sysctls(plan: &Plan) -> Result<(), Failure> {
    let all = plan.spec.linux().as_ref().and_then(|linux| linux.sysctl().as_ref());
    for (key, value) in all.into_iter().flatten() {
        let path = format!("sys/{}", key.replace('.', "/"));
        let resolve = ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV | ResolveFlags::BENEATH;
        let flags = OFlags::WRONLY | OFlags::CLOEXEC;
        let file = rustix::fs::openat2(&plan.proc, &path, flags, Mode::empty(), resolve);
        file.and_then(|file| rustix::io::write(&file, value.as_bytes()))
            .stage(format!("set sysctl {key}"))?;
    }
    Ok(())
}

fn hide(plan: &Plan, root: &OwnedFd) -> Result<(), Failure> {
    let Some(linux) = plan.spec.linux() else { return Ok(()) };
    masks::protect(
        root.as_fd(),
        linux.readonly_paths().as_deref().unwrap_or_default(),
        attr::RDONLY,
    )?;
    let paths = linux.masked_paths().as_deref().unwrap_or_default();
    if paths.is_empty() {
        return Ok(());
    }
    let dev_null = open_null().stage("open /dev/null")?;
    masks::hide(root.as_fd(), paths, dev_null.as_fd())
}

fn run_hooks(plan: &Plan, kind: Kind, state: &[u8]) -> Result<(), Failure> {
    let mut all = plan.spec.hooks().clone();
    let own = all.as_mut().filter(|_| kind == Kind::StartContainer);
    if let (Some(all), Some(process)) = (own, plan.spec.process()) {
        // Those inside that have no environment of their own have the program's.
        let mut list = all.start_container().clone().unwrap_or_default();
        for hook in list.iter_mut().filter(|hook| hook.env().is_none()) {
            hook.set_env(process.env().clone());
        }
        all.set_start_container(Some(list));
    }
    hooks::run(all.as_ref(), kind, state, Path::new("/")).map_err(|error| Failure {
        stage: error.to_string(),
        error: io::Error::from_raw_os_error(libc::ECANCELED),
        program: false,
    })
}

/// The container's root while it is being furnished.
struct Root {
    fd: OwnedFd,
    /// Whether it is part of a mount namespace that is the container's alone.
    own: bool,
}

impl Root {
    /// In a new mount namespace it is attached over the host's root, where only its descriptor leads to it; otherwise
    /// it stays attached nowhere, and goes with the last process that has it as its root.
    fn take(plan: &Plan) -> Result<Root, Failure> {
        let fd = match &plan.root {
            Some(fd) => fd.try_clone().stage("open root")?,
            None => clone_tree(&plan.rootfs, true).stage("open root")?,
        };
        let own = plan.is_new(CloneFlags::CLONE_NEWNS);
        if own {
            let all = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
            mount_change("/", all).stage("separate mounts")?;
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let host = rustix::fs::open("/", flags, Mode::empty()).stage("open /")?;
            attach(fd.as_fd(), host.as_fd()).stage("attach root")?;
        }
        Ok(Root { fd, own })
    }

    /// Where the root is attached nowhere, neither can mounts in it be changed, but one can lie over another.
    fn make_read_only(&self, path: &Path, mount: &OwnedFd) -> Result<(), Failure> {
        if self.own {
            let stage = || format!("make {} read-only", path.display());
            return sys::mount_setattr(mount.as_fd(), attr::RDONLY, None, false).stage(stage());
        }
        masks::protect(self.fd.as_fd(), &[path.to_string_lossy()], attr::RDONLY)
    }

    fn enter(&self, plan: &Plan) -> Result<(), Failure> {
        rustix::process::fchdir(&self.fd).stage("enter root")?;
        let pivoted = self.own.then(|| rustix::process::pivot_root(c".", c"."));
        match pivoted {
            Some(Ok(())) => unmount(c".", UnmountFlags::DETACH).stage("leave the host's tree")?,
            // A ramdisk cannot be left.
            Some(Err(rustix::io::Errno::INVAL)) if plan.no_pivot => {
                rustix::process::chroot(c".").stage("change root")?;
            }
            Some(Err(error)) => return Err(error).stage("pivot"),
            None => rustix::process::chroot(c".").stage("change root")?,
        }
        std::env::set_current_dir("/").stage("enter root")?;
        self.settle(plan)
    }

    /// What can only be set once everything is in place.
    fn settle(&self, plan: &Plan) -> Result<(), Failure> {
        let word = plan
            .spec
            .linux()
            .as_ref()
            .and_then(|linux| linux.rootfs_propagation().as_deref());
        if let Some((kind, below)) = word
            .and_then(options::propagation)
            .filter(|(kind, _)| *kind != propagation::SLAVE)
        {
            let change = MountChange {
                propagation: kind,
                ..MountChange::default()
            };
            sys::mount_change(self.fd.as_fd(), change, None, below).stage("set propagation of root")?;
        }
        if plan
            .spec
            .root()
            .as_ref()
            .is_some_and(|root| root.readonly() == Some(true))
        {
            sys::mount_setattr(self.fd.as_fd(), attr::RDONLY, None, false).stage("make root read-only")?;
        }
        Ok(())
    }
}
