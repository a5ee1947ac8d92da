//! The app's first process before it is the app: forked early, it gives up everything and gets
//! its output pipes, then waits for its program. A start has nothing left to do but to execute.

use std::convert::Infallible;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{Mode, OFlags};

use super::launch::{self, Image, Launch};
use super::{Failure, Plan, Stage, Steps, seal, step};
use crate::log::Source;
use crate::sys::{self, Forked};
use crate::wire::{self, Report};
use crate::{Process, users};

/// Pipes of the app hold this much, so that a burst does not stall it.
pub const PIPE_BYTES: usize = 256 << 10;

/// What init has of it.
pub struct Bud {
    pub pid: i32,
    /// Its output.
    pub sources: Vec<Source>,
}

impl Bud {
    /// Gives its output to the host's user `uid`, which may open it again as `/dev/stdout`.
    pub fn belong_to(&self, uid: u32) -> std::io::Result<()> {
        for source in &self.sources {
            rustix::fs::fchown(source.as_fd(), Some(rustix::fs::Uid::from_raw(uid)), None)?;
        }
        Ok(())
    }
}

/// Forks it; while this process is the host's root and before it has a tree of its own. It is
/// told what to be on `orders`.
pub fn grow(plan: &Plan, orders: OwnedFd, userns: &OwnedFd) -> Result<Bud, Failure> {
    let mut sources = Vec::new();
    let mut streams = Vec::new();
    for tag in *b"OE" {
        let (ours, theirs) = launch::pipe(users::outer(plan.uid_base, plan.uid), PIPE_BYTES).stage("make pipe")?;
        sources.push(Source::new(ours, tag));
        streams.push(theirs);
    }
    // SAFETY: init has one thread.
    match unsafe { sys::fork() }.stage("start a process")? {
        Forked::Child => {
            drop(sources);
            let Err(failure) = live(&orders, &streams, userns);
            if let Some(failure) = failure {
                let errno = failure.errno();
                let report = Report::Failed {
                    stage: failure.stage,
                    errno,
                    program: failure.program,
                };
                let _ = wire::send(orders.as_fd(), &report, &[]);
            }
            sys::exit_now(127)
        }
        Forked::Parent(pid, _) => Ok(Bud { pid, sources }),
    }
}

/// In the child; ends with nothing to tell if the agent is gone.
fn live(orders: &OwnedFd, streams: &[OwnedFd], userns: &OwnedFd) -> Result<Infallible, Option<Failure>> {
    wait(streams, userns)?;
    let Some(process) = super::told::<Process>(orders)? else {
        return Err(None);
    };
    let mut steps = Steps::new();
    step(&mut steps, "app told");
    let terminal = if process.terminal {
        // Opened by init in the sandbox's own root.
        Some(super::given(orders)?.ok_or(None::<Failure>)?)
    } else {
        None
    };
    // It is awake by now, while the agent does the rest.
    super::allowed(orders)?.ok_or(None::<Failure>)?;
    let null = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()).stage("open null")?;
    let command = Launch {
        argv: &process.argv,
        env: &process.env,
        cwd: &process.cwd,
        uid: process.uid,
        gid: process.gid,
        rlimits: &process.rlimits,
        stdio: match &terminal {
            Some(terminal) => [terminal.as_fd(); 3],
            None => [null.as_fd(), streams[0].as_fd(), streams[1].as_fd()],
        },
        terminal: process.terminal,
        group: None,
    };
    let image = Image::new(&command)?;
    launch::narrow(&command)?;
    step(&mut steps, "app executes");
    let _ = wire::send(orders.as_fd(), &Report::Steps { steps }, &[]);
    Err(Some(Failure {
        stage: "execute".to_owned(),
        error: image.exec(),
        program: true,
    }))
}

/// Gives up everything that its program must not have.
fn wait(streams: &[OwnedFd], userns: &OwnedFd) -> Result<(), Failure> {
    rustix::process::setsid().stage("start a session")?;
    rustix::stdio::dup2_stdout(&streams[0]).stage("redirect standard streams")?;
    rustix::stdio::dup2_stderr(&streams[1]).stage("redirect standard streams")?;
    launch::score_for_oom().stage("raise OOM score")?;
    sys::reset_signals().stage("reset signals")?;
    seal::give_up_root(userns).stage("leave the host's root")?;
    seal::restrict()?;
    // A third of its execution would be the end of its own memory. Without that it only takes longer.
    let _ = sys::forget_code();
    Ok(())
}
