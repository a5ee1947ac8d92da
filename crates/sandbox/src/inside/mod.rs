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
pub(crate) mod dev;
mod init;
mod launch;
pub(crate) mod layout;
pub(crate) mod masks;
mod meters;
pub(crate) mod overlay;
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
    /// The other end of that, which the agent has too: to let the app go.
    pub release: OwnedFd,
    /// Its user namespace.
    pub userns: OwnedFd,
    /// Its `/sys`, masks and all, if there is one already.
    pub sys: Option<OwnedFd>,
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
    /// Whether nobody knows yet what it will be.
    pub waits: bool,
}

impl Plan {
    /// Whether the agent makes the parts of `/dev`. Root of a user namespace makes no nodes that could be sent.
    pub(crate) fn brings_dev(&self) -> bool {
        !self.waits && self.uid_base != 0
    }
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

pub(crate) use tree::masked_sys;

/// Prepares in the spawner what every init needs, so that it is done once.
pub fn warm_up() {
    // Before there is a sandbox whose own map would answer.
    crate::users::single();
    seccomp::program();
    sys::code();
}

/// The whole life of an init. Never returns into the spawner's code.
pub fn live(birth: Birth) -> ! {
    let born_with = [
        &birth.plan,
        &birth.report,
        &birth.control,
        &birth.program,
        &birth.release,
        &birth.userns,
    ];
    let keep: Vec<_> = born_with
        .into_iter()
        .chain(&birth.sys)
        .map(AsRawFd::as_raw_fd)
        .collect();
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
        release,
        userns,
        sys,
    } = birth;
    let _ = rustix::thread::set_name(c"paas-init");
    let mut steps = Steps::new();
    step(&mut steps, "born");
    let plan: Plan = wire::from_memfd(plan).stage("read plan")?;
    if !settle(&plan, &report)? {
        return Ok(());
    }
    step(&mut steps, "in its groups");
    // It has the same.
    let bud = bud::grow(&plan, (program, release), &userns)?;
    step(&mut steps, "app forked");
    let meters = meters::Meters::open(&plan.groups).stage("watch groups")?;
    let mut bed = tree::Bed::lay(&plan, &userns, sys, || dev_parts(&plan, &report))?;
    step(&mut steps, "bed laid");
    if plan.waits && plan.root.is_none() {
        wire::send(report.as_fd(), &Report::Parked, &[]).stage("report")?;
    }
    let known = if plan.waits { None } else { told::<Spec>(&report)? };
    let Some(fds) = ordered(&report, &Order::Take)? else {
        return Ok(());
    };
    step(&mut steps, "disk given");
    let mounted = take(&mut bed, fds)?;
    let (spec, log) = if let Some(root) = &plan.root {
        bed.raise(&root.layers, &root.binds, mounted)?;
        seal_all(&userns)?;
        let root = bed.root().stage("find the root")?;
        wire::send(report.as_fd(), &Report::Parked, &[root]).stage("report")?;
        // The agent does the rest from outside, and does not wait for this process.
        let Some(spec) = told::<Spec>(&report)? else {
            return Ok(());
        };
        (spec, bed.finish())
    } else {
        let spec = match known {
            Some(spec) => Some(spec),
            None => told::<Spec>(&report)?,
        };
        let Some(spec) = spec else {
            return Ok(());
        };
        step(&mut steps, "told");
        bud.belong_to(users::outer(plan.uid_base, spec.process.uid))
            .stage("own the app's streams")?;
        fit_and_seal(&mut bed, &bud, &spec, mounted, &userns, &mut steps)?;
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

/// Has the root of `spec` and nothing else, and gives up what that took.
fn fit_and_seal(
    bed: &mut tree::Bed<'_>,
    bud: &bud::Bud,
    spec: &Spec,
    mounted: Option<OwnedFd>,
    userns: &OwnedFd,
    steps: &mut Steps,
) -> Result<(), Failure> {
    bed.raise(&spec.layers, &spec.binds, mounted)?;
    step(steps, "root raised");
    bed.fit(spec)?;
    bud.rooted().stage("tell the app's process")?;
    nix::unistd::sethostname(&spec.hostname).stage("set host name")?;
    seal_all(userns)?;
    step(steps, "sealed");
    Ok(())
}

/// What this process and all that come from it have in common, and their groups as soon as they are there; false if the
/// agent is gone before.
fn settle(plan: &Plan, report: &OwnedFd) -> Result<bool, Failure> {
    seal::standard_streams().stage("close the spawner's streams")?;
    seal::own(plan).stage("set up namespaces")?;
    if ordered(report, &Order::Join)?.is_none() {
        return Ok(false);
    }
    for tasks in &plan.groups.tasks {
        // Writing 0 moves the writer itself, which spares the kernel a grace period.
        std::fs::write(tasks, "0").stage("join group")?;
    }
    seal::groups().stage("set up namespaces")?;
    Ok(true)
}

/// The parts of `/dev`: from the agent, where it knows from the beginning what this will be.
fn dev_parts(plan: &Plan, report: &OwnedFd) -> io::Result<dev::Parts> {
    if !plan.brings_dev() {
        return dev::Parts::make(plan.uid_base, plan.limits.memory_bytes);
    }
    match ordered(report, &Order::Dev).map_err(|failure| failure.error)? {
        Some(fds) => dev::Parts::from_fds(fds),
        None => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

/// Attaches the private layer, unless it comes with the root around it: that root.
fn take(bed: &mut tree::Bed<'_>, fds: Vec<OwnedFd>) -> Result<Option<OwnedFd>, Failure> {
    let mut fds = fds.into_iter();
    let disk = fds
        .next()
        .ok_or(io::ErrorKind::InvalidInput)
        .stage("take a descriptor")?;
    let mounted = fds.next();
    if mounted.is_none() {
        bed.attach_disk(disk)?;
    }
    Ok(mounted)
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
    let Some(mut fds) = ordered(socket, &Order::Take)? else {
        return Ok(None);
    };
    let given = fds.pop().ok_or(io::ErrorKind::InvalidInput);
    given.stage("take a descriptor").map(Some)
}

/// Waits for this order, which may have descriptors with it; `None` as above.
fn ordered(socket: &OwnedFd, wanted: &Order) -> Result<Option<Vec<OwnedFd>>, Failure> {
    match order(socket)? {
        None => Ok(None),
        Some((order, fds)) if order == *wanted => Ok(Some(fds)),
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
