//! The app's first process before it is the app: forked early, it gives up everything and gets
//! its output pipes, then waits for its program. A start has nothing left to do but to execute.

use std::convert::Infallible;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use rustix::fs::{Mode, OFlags};

use super::launch::{self, Image, Launch};
use super::{Failure, Plan, Stage, Steps, seal, step};
use crate::log::Source;
use crate::sys::{self, Forked};
use crate::wire::{self, Order, Report};
use crate::{Process, users};

/// Pipes of the app hold this much, so that a burst does not stall it.
pub const PIPE_BYTES: usize = 256 << 10;

/// What init has of it.
pub struct Bud {
    pub pid: i32,
    /// Its output.
    pub sources: Vec<Source>,
    /// To let it go, as the agent could.
    release: OwnedFd,
}

impl Bud {
    /// Gives its output to the host's user `uid`, which may open it again as `/dev/stdout`.
    pub fn belong_to(&self, uid: u32) -> std::io::Result<()> {
        for source in &self.sources {
            rustix::fs::fchown(source.as_fd(), Some(rustix::fs::Uid::from_raw(uid)), None)?;
        }
        Ok(())
    }

    /// Its process and its output, once it was let go.
    pub fn into_parts(self) -> (i32, Vec<Source>) {
        (self.pid, self.sources)
    }

    /// Lets it go, if the agent that told it what to be has not done so itself, with its terminal if it has one.
    pub fn let_go(&self, terminal: Option<&OwnedFd>) -> std::io::Result<()> {
        let mut sent = Ok(());
        if let Some(terminal) = terminal {
            sent = wire::send(self.release.as_fd(), &Order::Take, &[terminal.as_fd()]);
        }
        match sent.and_then(|()| wire::send(self.release.as_fd(), &Order::Go, &[])) {
            // It has told the agent why.
            Err(e)
                if matches!(
                    e.kind(),
                    std::io::ErrorKind::BrokenPipe | std::io::ErrorKind::ConnectionReset
                ) =>
            {
                Ok(())
            }
            other => other,
        }
    }
}

/// Forks it; while this process is the host's root and before it has a tree of its own. It is
/// told what to be on `orders`, whose other end is `release`.
pub fn grow(plan: &Plan, (orders, release): (OwnedFd, OwnedFd), userns: &OwnedFd) -> Result<Bud, Failure> {
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
            let keep = [orders.as_fd(), userns.as_fd(), streams[0].as_fd(), streams[1].as_fd()];
            // SAFETY: this process never returns to the owners of the others, init's, so nothing uses or closes them
            // again. Among them are folders, which its working folder could be, and the other end of its orders.
            if unsafe { sys::close_all_except(3, &keep.map(|fd| fd.as_raw_fd())) }.is_err() {
                sys::exit_now(125);
            }
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
        Forked::Parent(pid, _) => Ok(Bud { pid, sources, release }),
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
    super::ordered(orders, &Order::Go)?.ok_or(None::<Failure>)?;
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
