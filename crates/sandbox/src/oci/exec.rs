//! `exec`: a further process in a container, with the container's namespaces, groups, filter and, unless it is told
//! otherwise, its first process's user and privileges.
//!
//! ```text
//!  runtime ─fork▶ between: joins the namespaces ─clone▶ the process: waits, enters the root, becomes the program
//!     ◀──────────── its pid, and then nothing more: the socket closes when the program is executed ─────────┘
//! ```
//! Nobody in the container can look into either of them before the program is executed, as with a container's first.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use nix::sched::CloneFlags;
use oci_spec::runtime::{ContainerState as Status, Process, Spec};
use rustix::fs::{Mode, OFlags};
use rustix::process::{Pid, WaitOptions, waitpid};

use super::birth;
use super::container::enter::{Given, become_program};
use super::container::{Runtime, become_root, hide_memory, nodes};
use super::error::{Context, Error, Result};
use super::filter::{self, Filter};
use super::groups::Groups;
use super::lifecycle::Containers;
use super::link::{Ask, Tell};
use super::state::{Folder, Record};
use super::{console, listener, run};
use crate::inside::{Failure, Stage};
use crate::sys::{self, Forked};
use crate::wire;

/// How long one step of the new process may take.
const STEP: Duration = Duration::from_secs(30);
/// Namespaces by their names below `/proc/PID/ns`.
const NAMESPACES: [(&str, CloneFlags); 8] = [
    ("user", CloneFlags::CLONE_NEWUSER),
    ("cgroup", CloneFlags::CLONE_NEWCGROUP),
    ("ipc", CloneFlags::CLONE_NEWIPC),
    ("uts", CloneFlags::CLONE_NEWUTS),
    ("net", CloneFlags::CLONE_NEWNET),
    ("pid", CloneFlags::CLONE_NEWPID),
    ("mnt", CloneFlags::CLONE_NEWNS),
    ("time", CloneFlags::from_bits_retain(0x80)),
];

/// What is to be executed, and how.
#[derive(Debug)]
pub struct Wanted {
    /// The container.
    pub id: String,
    /// Makes the process out of the container's own.
    pub process: Change,
    /// Where its number is written, if anywhere.
    pub pid_file: Option<PathBuf>,
    /// The socket to which its terminal is sent.
    pub console_socket: Option<PathBuf>,
    /// Descriptors that it keeps besides its standard streams.
    pub preserve_fds: Vec<RawFd>,
    /// Whether it is left alone once it runs.
    pub detach: bool,
    /// Whether a container that stands still is no obstacle.
    pub ignore_paused: bool,
}

/// The process: given as a whole, or in what it differs from the container's first.
#[derive(Clone, Debug)]
pub enum Change {
    /// As it is.
    Whole(Box<Process>),
    /// Differences.
    Parts(Box<Parts>),
}

/// Differences from the container's first process.
#[derive(Clone, Debug, Default)]
pub struct Parts {
    /// Program and arguments.
    pub args: Vec<String>,
    /// `NAME=value`, in place of those of the same name.
    pub env: Vec<String>,
    /// Working folder.
    pub cwd: Option<PathBuf>,
    /// User and group.
    pub user: Option<(u32, Option<u32>)>,
    /// Further groups.
    pub groups: Vec<u32>,
    /// Capabilities besides those it has.
    pub capabilities: Vec<String>,
    /// Whether it can gain none, whatever the first may.
    pub no_new_privileges: bool,
    /// Whether it has a terminal.
    pub terminal: bool,
}

/// Executes it; returns its code, or 128 and the number of the signal that ended it; 0 if it is left alone.
pub fn exec(containers: &Containers, wanted: &Wanted) -> Result<i32> {
    birth::check_host()?;
    let id = &wanted.id;
    let record = containers.look(id)?;
    let status = record.status();
    let first = record.process();
    let first = first.filter(|_| matches!(status, Status::Created | Status::Running));
    let first = first.ok_or_else(|| Error::Status {
        operation: "exec in",
        id: id.clone(),
        status,
    })?;
    let pid = record.pid.unwrap_or(0);
    let groups = Groups::known(&record.groups)?;
    if groups.frozen() && !wanted.ignore_paused {
        let what = format!("exec in container {id}: it is paused");
        return Err(Error::Unsupported { what });
    }
    let spec = containers.spec(id)?;
    let plan = plan(wanted, &spec, pid)?;
    let signals = if wanted.detach {
        None
    } else {
        Some(run::watch_signals().step(id, "watch signals")?)
    };
    let (new, terminal) = start(wanted, &plan, &record, &first, &groups)?;
    match signals {
        None => Ok(0),
        Some(signals) => run::follow(id, new, &signals, terminal),
    }
}

/// What the new process needs to know.
struct Plan {
    process: Process,
    filter: Option<Filter>,
    spec: Spec,
    joins: CloneFlags,
    root: OwnedFd,
    preserve: Vec<RawFd>,
}

fn plan(wanted: &Wanted, spec: &Spec, pid: i32) -> Result<Plan> {
    let id = &wanted.id;
    let process = made(&wanted.process, spec)?;
    if wanted.detach && process.terminal() == Some(true) && wanted.console_socket.is_none() {
        let what = "a detached process with a terminal needs --console-socket".to_owned();
        return Err(Error::Unsupported { what });
    }
    let profile = spec.linux().as_ref().and_then(|linux| linux.seccomp().as_ref());
    let filter = profile.map(filter::compile).transpose();
    let filter = filter.map_err(|what| Error::Unsupported { what })?;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::open(format!("/proc/{pid}/root"), flags, Mode::empty()).step(id, "open its root")?;
    Ok(Plan {
        process,
        filter,
        spec: spec.clone(),
        joins: different(pid).step(id, "look at its namespaces")?,
        root,
        preserve: wanted.preserve_fds.clone(),
    })
}

/// Namespaces of `pid` that are not this process's own.
fn different(pid: i32) -> io::Result<CloneFlags> {
    let mut all = CloneFlags::empty();
    for (name, flag) in NAMESPACES {
        let own = std::fs::read_link(format!("/proc/self/ns/{name}"));
        let its = std::fs::read_link(format!("/proc/{pid}/ns/{name}"));
        match (own, its) {
            (Ok(own), Ok(its)) if own != its => all |= flag,
            (Ok(_), Err(error)) => return Err(error),
            _ => {}
        }
    }
    Ok(all)
}

fn made(change: &Change, spec: &Spec) -> Result<Process> {
    let invalid = |what: String| Error::Unsupported { what };
    let process = match change {
        Change::Whole(process) => (**process).clone(),
        Change::Parts(parts) => {
            let base = spec.process().clone();
            let base =
                base.ok_or_else(|| invalid("the container has no process to go by: use --process".to_owned()))?;
            differing(base, parts).map_err(invalid)?
        }
    };
    super::config::process(&process).map_err(invalid)?;
    Ok(process)
}

fn differing(mut process: Process, parts: &Parts) -> std::result::Result<Process, String> {
    process
        .set_args(Some(parts.args.clone()))
        .set_terminal(Some(parts.terminal));
    let name = |entry: &str| entry.split('=').next().unwrap_or_default().to_owned();
    let changed: Vec<String> = parts.env.iter().map(|entry| name(entry)).collect();
    let mut env = process.env().clone().unwrap_or_default();
    env.retain(|entry| !changed.contains(&name(entry)));
    env.extend(parts.env.iter().cloned());
    process.set_env(Some(env));
    if let Some(cwd) = &parts.cwd {
        process.set_cwd(cwd.clone());
    }
    let mut user = process.user().clone();
    if let Some((uid, gid)) = parts.user {
        user.set_uid(uid);
        user.set_gid(gid.unwrap_or(user.gid()));
    }
    if !parts.groups.is_empty() {
        let mut groups = user.additional_gids().clone().unwrap_or_default();
        groups.extend(&parts.groups);
        user.set_additional_gids(Some(groups));
    }
    process.set_user(user);
    if parts.no_new_privileges {
        process.set_no_new_privileges(Some(true));
    }
    if !parts.capabilities.is_empty() {
        process.set_capabilities(Some(more(&process, &parts.capabilities)?));
    }
    Ok(process)
}

/// Its capabilities and these.
fn more(process: &Process, names: &[String]) -> std::result::Result<oci_spec::runtime::LinuxCapabilities, String> {
    let mut sets = process.capabilities().clone().unwrap_or_default();
    let added: oci_spec::runtime::Capabilities =
        serde_json::from_value(serde_json::json!(names)).map_err(|error| format!("--cap: {error}"))?;
    let with = |set: &Option<oci_spec::runtime::Capabilities>| {
        let mut all = set.clone().unwrap_or_default();
        all.extend(added.iter().copied());
        Some(all)
    };
    // Ambient ones only pass through what is inheritable, which these are not made.
    sets.set_bounding(with(sets.bounding()));
    sets.set_effective(with(sets.effective()));
    sets.set_permitted(with(sets.permitted()));
    Ok(sets)
}

/// Has the process made, limited and let go; its number, and its terminal if nobody else gets that.
fn start(
    wanted: &Wanted,
    plan: &Plan,
    record: &Record,
    first: &OwnedFd,
    groups: &Groups,
) -> Result<(Pid, Option<OwnedFd>)> {
    let id = &wanted.id;
    let (ours, theirs) = wire::pair().step(id, "make a socket")?;
    // SAFETY: the runtime has one thread.
    let between = match unsafe { sys::fork() }.step(id, "start a process")? {
        Forked::Child => between(plan, first, theirs),
        Forked::Parent(between, _) => between,
    };
    drop(theirs);
    let answer = hear(id, &ours);
    if let Some(between) = Pid::from_raw(between) {
        let _ = waitpid(Some(between), WaitOptions::empty());
    }
    let new = match answer? {
        Some((Ask::Born { pid }, _)) => pid,
        _ => return Err(io::ErrorKind::UnexpectedEof).step(id, "join namespaces"),
    };
    let done = groups
        .join(new)
        .and_then(|()| birth::limit(id, new, &plan.process))
        .and_then(|()| let_go(wanted, plan, record, new, &ours))
        .and_then(|terminal| match &wanted.pid_file {
            Some(path) => std::fs::write(path, new.to_string())
                .at("write", path)
                .map(|()| terminal),
            None => Ok(terminal),
        });
    let terminal = done.inspect_err(|_| birth::abandon(new))?;
    let new = Pid::from_raw(new)
        .ok_or(io::ErrorKind::NotFound)
        .step(id, "find its process")?;
    Ok((new, terminal))
}

fn hear(id: &str, socket: &OwnedFd) -> Result<Option<(Ask, Vec<OwnedFd>)>> {
    let heard = wire::receive_until::<Ask>(socket.as_fd(), Instant::now() + STEP);
    match heard.step(id, "listen to its process")? {
        Some((Ask::Failed { stage, errno }, _)) => Err(io::Error::from_raw_os_error(errno)).step(id, stage),
        other => Ok(other),
    }
}

/// Until the program is executed.
fn let_go(wanted: &Wanted, plan: &Plan, record: &Record, pid: i32, socket: &OwnedFd) -> Result<Option<OwnedFd>> {
    let id = &wanted.id;
    let go = || wire::send(socket.as_fd(), &Tell::Go, &[]).step(id, "speak to its process");
    let mut kept = None;
    go()?;
    loop {
        match hear(id, socket)? {
            None => return Ok(kept),
            Some((Ask::Console, mut fds)) => {
                let terminal = fds
                    .pop()
                    .ok_or(io::ErrorKind::InvalidData)
                    .step(id, "take its terminal")?;
                match &wanted.console_socket {
                    Some(path) => console::send(path, &terminal).at("send the terminal to", path)?,
                    None => kept = Some(terminal),
                }
                go()?;
            }
            Some((Ask::Listener, fds)) => listener::hand_over(&plan.spec, record, pid, fds)?,
            Some(_) => return Err(io::ErrorKind::InvalidData).step(id, "listen to its process"),
        }
    }
}

/// Joins the namespaces and has the process born in them, as this process's sibling.
fn between(plan: &Plan, first: &OwnedFd, theirs: OwnedFd) -> ! {
    let made = (|| {
        hide_memory().stage("hide memory")?;
        if !plan.joins.is_empty() {
            nix::sched::setns(first, plan.joins).stage("join namespaces")?;
        }
        // SAFETY: a copy of the runtime, which has one thread.
        unsafe { sys::clone_process(libc::CLONE_PARENT as u64, None) }.stage("start a process")
    })();
    let runtime = Runtime::at(theirs);
    match made {
        Ok(Forked::Child) => live(plan, runtime),
        Ok(Forked::Parent(pid, _)) => runtime.tell(&Ask::Born { pid }),
        Err(failure) => runtime.complain(failure),
    }
    sys::exit_now(0)
}

fn live(plan: &Plan, runtime: Runtime) -> ! {
    let mut keep = plan.preserve.clone();
    keep.extend([runtime.as_raw_fd(), plan.root.as_raw_fd()]);
    // SAFETY: this process never returns to the owners of the other descriptors, so nothing uses or closes them again.
    if unsafe { sys::close_all_except(3, &keep) }.is_err() {
        sys::exit_now(125);
    }
    if let Ok(Err(failure)) = std::panic::catch_unwind(AssertUnwindSafe(|| execute(plan, &runtime))) {
        runtime.complain(failure);
    }
    sys::exit_now(127)
}

fn execute(plan: &Plan, runtime: &Runtime) -> std::result::Result<std::convert::Infallible, Failure> {
    runtime.listen()?;
    rustix::process::fchdir(&plan.root).stage("enter root")?;
    rustix::process::chroot(c".").stage("change root")?;
    if plan.joins.contains(CloneFlags::CLONE_NEWUSER) {
        become_root().stage("become the container's root")?;
    }
    let _ = rustix::process::setsid();
    sys::new_session_keyring().or_else(|error| match error.raw_os_error() {
        Some(libc::ENOSYS) => Ok(()),
        _ => Err(error).stage("make a keyring"),
    })?;
    if plan.process.terminal() == Some(true) {
        nodes::another_terminal(&plan.process, &plan.root, runtime)?;
    }
    let linux = plan.spec.linux().as_ref();
    become_program(&Given {
        process: &plan.process,
        filter: plan.filter.as_ref(),
        personality: linux.and_then(|linux| linux.personality().as_ref()),
        preserve: &plan.preserve,
        socket: runtime.as_fd(),
    })
}

/// The container's folder is locked only while its configuration is read.
impl Containers {
    /// The configuration that a container was made from.
    pub(super) fn spec(&self, id: &str) -> Result<Spec> {
        Folder::open(self.root(), id)?.spec()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_replace_and_add() {
        let base: Process = serde_json::from_value(serde_json::json!({
            "user": { "uid": 1, "gid": 2 }, "args": ["a"], "cwd": "/", "env": ["A=1", "B=2"],
            "capabilities": { "bounding": ["CAP_KILL"] },
        }))
        .unwrap();
        let parts = Parts {
            args: vec!["x".into(), "y".into()],
            env: vec!["B=3".into(), "C=4".into()],
            cwd: Some("/tmp".into()),
            user: Some((7, None)),
            groups: vec![9],
            capabilities: vec!["CAP_CHOWN".into()],
            no_new_privileges: true,
            terminal: false,
        };
        let made = differing(base.clone(), &parts).unwrap();
        assert_eq!(
            made.env().as_deref(),
            Some(&["A=1".to_owned(), "B=3".into(), "C=4".into()][..])
        );
        assert_eq!((made.user().uid(), made.user().gid()), (7, 2));
        assert_eq!(made.user().additional_gids().as_deref(), Some(&[9][..]));
        assert_eq!(made.no_new_privileges(), Some(true));
        let sets = made.capabilities().clone().unwrap();
        assert_eq!(sets.bounding().as_ref().map(|all| all.len()), Some(2));
        assert_eq!(sets.permitted().as_ref().map(|all| all.len()), Some(1));
        let unknown = Parts {
            capabilities: vec!["CAP_NONE".into()],
            ..Parts::default()
        };
        assert!(differing(base, &unknown).is_err());
    }

    #[test]
    fn nothing_is_joined_that_is_already_ones_own() {
        let own = std::process::id() as i32;
        assert_eq!(different(own).unwrap(), CloneFlags::empty());
    }
}
