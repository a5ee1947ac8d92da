//! The life of an init, from its birth as a fork of the spawner to its end as PID 1.
//!
//! ```text
//! host's root, new namespaces     join groups, build what every app needs     (tree, dev)
//!   ┆ parked: waits to be told what to be, or for its agent's end
//!   ├▶ host's root still           mount the root, pivot, write files          (tree)
//!   └▶ root of its user namespace  give up capabilities, filter system calls   (seal)
//!        └▶ PID 1                  start the app, log, obey, reap, record      (init)
//! ```
//! Runs without a second exec: the binary is never visible inside, and what is on the heap
//! is the spawner's, which holds no secrets.

mod beside;
mod bud;
mod control;
mod copy;
mod dev;
mod init;
mod launch;
pub(crate) mod layout;
pub(crate) mod masks;
mod meters;
pub(crate) mod seal;
pub(crate) mod seccomp;
mod shares;
pub(crate) mod tree;

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::panic::AssertUnwindSafe;
use std::path::PathBuf;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::cgroup::GroupPlan;
use crate::wire::{self, Order, Report};
use crate::{Limits, ParkedRoot, Spec, sys, users};

/// Descriptors an init is born with.
pub struct Birth {
    /// The [`Plan`].
    pub plan: OwnedFd,
    /// Where it reports until the app runs.
    pub report: OwnedFd,
    /// Where it listens afterwards.
    pub control: OwnedFd,
    /// Where the app's first process is told what to be.
    pub program: OwnedFd,
    /// Its user namespace.
    pub userns: OwnedFd,
}

/// Where an init is to wait, and what is known of what it will be; host paths are trusted,
/// everything in layers is not.
#[derive(Debug, Serialize, Deserialize)]
pub struct Plan {
    /// The sandbox's folder on the host.
    pub dir: PathBuf,
    /// First uid of its range.
    pub uid_base: u32,
    /// The app's user inside.
    pub uid: u32,
    /// Its groups.
    pub groups: GroupPlan,
    /// Its limits until it is told others.
    pub limits: Limits,
    /// Whether it was born in a network namespace with an address.
    pub networked: bool,
    /// Its root, if that is known.
    pub root: Option<ParkedRoot>,
}

/// A step that failed.
#[derive(Debug)]
pub struct Failure {
    /// What was attempted.
    pub stage: String,
    /// The kernel's answer.
    pub error: io::Error,
    /// Whether it was the app's own program that could not be executed.
    pub program: bool,
}

impl Failure {
    fn errno(&self) -> i32 {
        self.error.raw_os_error().unwrap_or(libc::EIO)
    }
}

/// Names the step of an error.
pub(crate) trait Stage<T> {
    fn stage(self, stage: impl Into<String>) -> Result<T, Failure>;
}

impl<T, E: Into<io::Error>> Stage<T> for Result<T, E> {
    fn stage(self, stage: impl Into<String>) -> Result<T, Failure> {
        self.map_err(|error| Failure {
            stage: stage.into(),
            error: error.into(),
            program: false,
        })
    }
}

/// Prepares in the spawner what every init needs, so that it is done once.
pub fn warm_up() {
    // Before there is a sandbox whose own map would answer.
    crate::users::single();
    seccomp::program();
}

/// The whole life of an init. Never returns into the spawner's code.
pub fn live(birth: Birth) -> ! {
    let keep = [
        &birth.plan,
        &birth.report,
        &birth.control,
        &birth.program,
        &birth.userns,
    ]
    .map(AsRawFd::as_raw_fd);
    // SAFETY: this process never returns to the owners of the other descriptors (connections
    // and pidfds of the spawner), so nothing uses or closes them again.
    if unsafe { sys::close_all_except(3, &keep) }.is_err() {
        sys::exit_now(125);
    }
    // A panic must not unwind into the spawner's loop.
    let lived = std::panic::catch_unwind(AssertUnwindSafe(|| run(birth)));
    sys::exit_now(if lived.is_ok() { 0 } else { 125 })
}

fn run(birth: Birth) {
    let Ok(report) = birth.report.try_clone() else { return };
    if let Err(failure) = prepare_and_run(birth) {
        let errno = failure.errno();
        let failed = Report::Failed {
            stage: failure.stage,
            errno,
            program: failure.program,
        };
        let _ = wire::send(report.as_fd(), &failed, &[]);
    }
}

/// When each step was done, monotonic nanoseconds.
type Steps = Vec<(String, u64)>;

fn step(steps: &mut Steps, name: &str) {
    steps.push((name.to_owned(), sys::monotonic_ns()));
}

fn prepare_and_run(birth: Birth) -> Result<(), Failure> {
    let Birth {
        plan,
        report,
        control,
        program,
        userns,
    } = birth;
    let _ = rustix::thread::set_name(c"paas-init");
    let mut steps = Steps::new();
    step(&mut steps, "born");
    let plan: Plan = wire::from_memfd(plan).stage("read plan")?;
    for tasks in &plan.groups.tasks {
        // Writing 0 moves the writer itself, which spares the kernel a grace period.
        std::fs::write(tasks, "0").stage("join group")?;
    }
    step(&mut steps, "in its groups");
    seal::standard_streams().stage("close the spawner's streams")?;
    // Before the app's process is there: it has the same.
    seal::namespaces(&plan).stage("set up namespaces")?;
    let bud = bud::grow(&plan, program, &userns)?;
    step(&mut steps, "app forked");
    let meters = meters::Meters::open(&plan.groups).stage("watch groups")?;
    let mut bed = tree::Bed::lay(&plan, &userns)?;
    step(&mut steps, "bed laid");
    if plan.root.is_none() {
        wire::send(report.as_fd(), &Report::Parked, &[]).stage("report")?;
    }
    let Some(disk) = given(&report)? else { return Ok(()) };
    step(&mut steps, "disk given");
    bed.attach_disk(disk)?;
    let (spec, log) = if let Some(root) = &plan.root {
        bed.raise(&root.layers, &root.binds)?;
        seal_all(&userns)?;
        let root = bed.root().stage("find the root")?;
        wire::send(report.as_fd(), &Report::Parked, &[root]).stage("report")?;
        // The agent does the rest from outside, and does not wait for this process.
        let Some(spec) = told::<Spec>(&report)? else {
            return Ok(());
        };
        (spec, bed.finish())
    } else {
        let Some(spec) = told::<Spec>(&report)? else {
            return Ok(());
        };
        step(&mut steps, "told");
        bud.belong_to(users::outer(plan.uid_base, spec.process.uid))
            .stage("own the app's streams")?;
        bed.raise(&spec.layers, &spec.binds)?;
        step(&mut steps, "root raised");
        bed.fit(&spec)?;
        nix::unistd::sethostname(&spec.hostname).stage("set host name")?;
        seal_all(&userns)?;
        step(&mut steps, "sealed");
        (spec, bed.finish())
    };
    drop(userns);
    init::run(
        spec,
        init::Hands {
            log,
            control,
            agent: report,
            steps: plan.root.is_none().then_some(steps),
            meters,
            bud,
        },
    )
}

/// Gives everything up, in a tree of its own.
fn seal_all(userns: &OwnedFd) -> Result<(), Failure> {
    seal::standard_streams().stage("close the host's streams")?;
    seal::give_up_root(userns).stage("leave the host's root")?;
    seal::restrict()
}

/// A descriptor that was ordered to be taken; `None` if the agent is gone, and with it the
/// reason to live.
fn given(socket: &OwnedFd) -> Result<Option<OwnedFd>, Failure> {
    match order(socket)? {
        None => Ok(None),
        Some((Order::Take, mut fds)) => fds
            .pop()
            .ok_or(io::ErrorKind::InvalidInput)
            .stage("take a descriptor")
            .map(Some),
        Some(_) => Err(io::ErrorKind::InvalidInput).stage("take a descriptor"),
    }
}

/// Waits until it may execute; `None` as above.
fn allowed(socket: &OwnedFd) -> Result<Option<()>, Failure> {
    match order(socket)? {
        None => Ok(None),
        Some((Order::Go, _)) => Ok(Some(())),
        Some(_) => Err(io::ErrorKind::InvalidInput).stage("wait for orders"),
    }
}

fn order(socket: &OwnedFd) -> Result<Option<(Order, Vec<OwnedFd>)>, Failure> {
    match wire::receive::<Order>(socket.as_fd()) {
        Err(e) if e.kind() == io::ErrorKind::ConnectionReset => Ok(None),
        other => other.stage("wait for orders"),
    }
}

/// What to be (or what to execute); `None` as above.
fn told<T: DeserializeOwned>(socket: &OwnedFd) -> Result<Option<T>, Failure> {
    match wire::receive_large(socket.as_fd()) {
        Err(e) if e.kind() == io::ErrorKind::ConnectionReset => Ok(None),
        other => other.stage("wait for orders"),
    }
}

/// What an agent does inside a parked sandbox whose init has given everything up: `spec`'s files,
/// its shared memory, its host name. `root` and `uts` were taken from it before.
pub fn fit_from_outside(outside: &Outside<'_>, spec: &Spec, before: &Limits) -> Result<(), Failure> {
    let root = tree::Root {
        fd: outside.root.try_clone_to_owned().stage("find the root")?,
        uid_base: outside.uid_base,
    };
    root.fit(spec, before)?;
    sys::set_host_name(outside.uts, outside.home_uts, &spec.hostname).stage("set host name")
}

/// Descriptors for [`fit_from_outside`].
pub struct Outside<'a> {
    /// The sandbox's root.
    pub root: BorrowedFd<'a>,
    /// First uid of its range.
    pub uid_base: u32,
    /// Its host name's namespace.
    pub uts: BorrowedFd<'a>,
    /// That of this process.
    pub home_uts: BorrowedFd<'a>,
}
