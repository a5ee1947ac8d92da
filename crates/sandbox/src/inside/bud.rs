//! The app's first process before it is the app: forked early, it gives up everything and gets
//! its output pipes, then waits for its program. A start has nothing left to do but to execute.

use std::convert::Infallible;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags};

use super::launch::{self, Image};
use super::{Failure, Plan, Stage, Steps, seal, step};
use crate::log::Source;
use crate::sys::{self, Forked};
use crate::wire::{self, Order, Report};
use crate::{Process, Rlimit, RlimitKind, users};

/// Pipes of the app hold this much, so that a burst does not stall it.
pub const PIPE_BYTES: usize = 256 << 10;

/// From the word that its root is up to the one that lets it go: what init has to give up in between takes less.
const AWAKE: Duration = Duration::from_micros(400);

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

    /// Tells it that its root is up.
    pub fn rooted(&self) -> std::io::Result<()> {
        unless_gone(wire::send(self.release.as_fd(), &Order::Rooted, &[]))
    }

    /// Lets it go, if the agent that told it what to be has not done so itself, with its terminal if it has one.
    pub fn let_go(&self, terminal: Option<&OwnedFd>) -> std::io::Result<()> {
        let mut sent = Ok(());
        if let Some(terminal) = terminal {
            sent = wire::send(self.release.as_fd(), &Order::Take, &[terminal.as_fd()]);
        }
        unless_gone(sent.and_then(|()| wire::send(self.release.as_fd(), &Order::Go, &[])))
    }
}

/// If it has ended, it has told the agent why.
fn unless_gone(sent: std::io::Result<()>) -> std::io::Result<()> {
    match sent {
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
            let Err(failure) = live(&orders, &streams, userns, (plan.waits, plan.root.is_some()));
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

/// In the child; ends with nothing to tell if the agent is gone. Whatever needs no word from anybody is done before
/// the word is waited for: with `waits` there is time before anybody knows what it will be, and with `rooted` it has its
/// root by then.
fn live(
    orders: &OwnedFd,
    streams: &[OwnedFd],
    userns: &OwnedFd,
    (waits, rooted): (bool, bool),
) -> Result<Infallible, Option<Failure>> {
    wait(streams, userns)?;
    if waits {
        prepare();
    }
    let Some(process) = super::told::<Process>(orders)? else {
        return Err(None);
    };
    let mut steps = Steps::new();
    step(&mut steps, "app told");
    let image = Image::new(&process.argv, &process.env)?;
    launch::become_user(process.uid, process.gid)?;
    if !rooted {
        // Init says so a little before it lets go.
        super::ordered(orders, &Order::Rooted)?.ok_or(None::<Failure>)?;
    }
    let terminal = if process.terminal {
        // Opened by init in the sandbox's own root.
        Some(super::given(orders)?.ok_or(None::<Failure>)?)
    } else {
        None
    };
    // Where the agent fits the root meanwhile, its folder may be made only now.
    let settled = settle(&process, terminal.as_ref(), streams).is_ok();
    step(&mut steps, "app waits");
    if !rooted {
        stay_awake(orders)?;
    }
    super::ordered(orders, &Order::Go)?.ok_or(None::<Failure>)?;
    if !settled {
        settle(&process, terminal.as_ref(), streams)?;
    }
    step(&mut steps, "app executes");
    let _ = wire::send(orders.as_fd(), &Report::Steps { steps }, &[]);
    Err(Some(Failure {
        stage: "execute".to_owned(),
        error: image.exec(),
        program: true,
    }))
}

/// Waits for the next word without sleep, for as long as it takes if nothing is in the way: to be woken would take about
/// as long.
fn stay_awake(orders: &OwnedFd) -> Result<(), Failure> {
    let until = Instant::now() + AWAKE;
    while Instant::now() < until {
        if wire::wait_readable(orders.as_fd(), Instant::now()).stage("wait for orders")? {
            break;
        }
        // To whoever has something to do.
        std::thread::yield_now();
    }
    Ok(())
}

/// Takes its place in the root: its folder first, as that alone can be missing.
fn settle(process: &Process, terminal: Option<&OwnedFd>, streams: &[OwnedFd]) -> Result<(), Failure> {
    launch::enter(&process.cwd)?;
    let null = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()).stage("open null")?;
    let stdio = match terminal {
        Some(terminal) => [terminal.as_fd(); 3],
        None => [null.as_fd(), streams[0].as_fd(), streams[1].as_fd()],
    };
    launch::take_streams(stdio, terminal.is_some())?;
    launch::set_limits(&process.rlimits)
}

/// Gives up everything that its program must not have.
fn wait(streams: &[OwnedFd], userns: &OwnedFd) -> Result<(), Failure> {
    rustix::process::setsid().stage("start a session")?;
    rustix::stdio::dup2_stdout(&streams[0]).stage("redirect standard streams")?;
    rustix::stdio::dup2_stderr(&streams[1]).stage("redirect standard streams")?;
    launch::score_for_oom().stage("raise OOM score")?;
    // Actions are the default ones since the spawner began.
    nix::sys::signal::SigSet::empty()
        .thread_set_mask()
        .stage("reset signals")?;
    seal::give_up_root(userns).stage("leave the host's root")?;
    seal::restrict()
}

/// Makes its execution quick. Nothing depends on it.
fn prepare() {
    // A third of its execution would be the end of its own memory.
    let _ = sys::forget_code();
    // What it takes from here on comes back now rather than while somebody waits.
    let _ = rehearse();
}

/// Takes orders that lead to nothing.
fn rehearse() -> Option<()> {
    let (ours, theirs) = wire::pair().ok()?;
    let nothing = Process {
        argv: vec!["/".to_owned()],
        env: vec![("PATH".to_owned(), "/".to_owned())],
        cwd: "/".into(),
        uid: 0,
        gid: 0,
        terminal: false,
        rlimits: vec![Rlimit {
            resource: RlimitKind::Core,
            soft: 0,
            hard: 0,
        }],
    };
    wire::send_large(ours.as_fd(), &nothing).ok()?;
    let process = super::told::<Process>(&theirs).ok()??;
    Image::new(&process.argv, &process.env).ok()?;
    wire::send(ours.as_fd(), &Order::Go, &[]).ok()?;
    super::ordered(&theirs, &Order::Go).ok()??;
    let mut steps = Steps::new();
    step(&mut steps, "rehearsed");
    wire::send(theirs.as_fd(), &Report::Steps { steps }, &[]).ok()
}
