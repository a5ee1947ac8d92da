//! The life of an init, from its birth as a fork of the spawner to its end as PID 1.
//!
//! ```text
//! host's root, new namespaces     join groups, build the tree, pivot          (tree, dev)
//!   └▶ root of its user namespace  give up capabilities, filter system calls   (seal)
//!        └▶ PID 1                  start the app, log, obey, reap, record      (init)
//! ```
//! Runs without a second exec: the binary is never visible inside, and what is on the heap
//! is the spawner's, which holds no secrets.

mod control;
mod dev;
mod init;
mod launch;
pub(crate) mod layout;
pub(crate) mod masks;
mod meters;
mod seal;
pub(crate) mod seccomp;
mod tree;

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::panic::AssertUnwindSafe;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::cgroup::GroupPlan;
use crate::disk::DiskPlan;
use crate::wire::{self, Report};
use crate::{Spec, sys};

/// Descriptors an init is born with.
pub struct Birth {
    /// The [`Plan`].
    pub plan: OwnedFd,
    /// Where it reports until the app runs.
    pub report: OwnedFd,
    /// Where it listens afterwards.
    pub control: OwnedFd,
    /// Its user namespace.
    pub userns: OwnedFd,
}

/// What an init is to do; host paths are trusted, everything in layers is not.
#[derive(Debug, Serialize, Deserialize)]
pub struct Plan {
    /// What was asked for.
    pub spec: Spec,
    /// The sandbox's folder on the host.
    pub dir: PathBuf,
    /// First uid of its range.
    pub uid_base: u32,
    /// Its private layer.
    pub disk: DiskPlan,
    /// Its groups.
    pub groups: GroupPlan,
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
trait Stage<T> {
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
    seccomp::program();
}

/// The whole life of an init. Never returns into the spawner's code.
pub fn live(birth: Birth) -> ! {
    let keep = [&birth.plan, &birth.report, &birth.control, &birth.userns].map(AsRawFd::as_raw_fd);
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
    let Birth {
        plan,
        report,
        control,
        userns,
    } = birth;
    let mut report = Some(report);
    if let Err(failure) = prepare_and_run(plan, &mut report, control, userns)
        && let Some(report) = report
    {
        let errno = failure.errno();
        let failed = Report::Failed {
            stage: failure.stage,
            errno,
            program: failure.program,
        };
        let _ = wire::send(report.as_fd(), &failed, &[]);
    }
}

fn prepare_and_run(
    plan: OwnedFd,
    report: &mut Option<OwnedFd>,
    control: OwnedFd,
    userns: OwnedFd,
) -> Result<(), Failure> {
    let _ = rustix::thread::set_name(c"paas-init");
    let plan: Plan = wire::from_memfd(plan).stage("read plan")?;
    for tasks in &plan.groups.tasks {
        // Writing 0 moves the writer itself, which spares the kernel a grace period.
        std::fs::write(tasks, "0").stage("join group")?;
    }
    let meters = meters::Meters::open(&plan.groups, &plan.spec.limits).stage("watch groups")?;
    let tree = tree::build(&plan, &userns)?;
    if let Some(report) = report.as_ref() {
        wire::send(report.as_fd(), &Report::Built, &[tree.upper.as_fd()]).stage("report")?;
    }
    let log = tree.log;
    drop(tree.upper);
    seal::standard_streams().stage("close the spawner's streams")?;
    seal::namespaces(&plan).stage("set up namespaces")?;
    seal::give_up_root(userns).stage("leave the host's root")?;
    seal::restrict()?;
    init::run(
        plan.spec,
        init::Hands {
            log,
            control,
            report,
            meters,
        },
    )
}
