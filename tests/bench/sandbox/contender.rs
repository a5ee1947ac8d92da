//! What the benchmark asks of every runtime alike, and the thread on which each of them is asked.

use anyhow::{Context as _, Result, bail};
use std::sync::mpsc;
use std::thread::JoinHandle;

/// Something that can start the app.
pub trait Contender: Send + Sync {
    /// Called once on the thread that all else is called from.
    fn settle(&self) -> Result<()> {
        Ok(())
    }

    /// Called before each measurement: whatever has to be ready is waited for.
    fn prepare(&self, _starts: usize) -> Result<()> {
        Ok(())
    }

    /// Starts the app, lets it end by itself, and removes everything.
    fn cycle(&self, id: &str) -> Result<Cycle>;

    /// Starts the app, which stays until it is killed. `many`: beside hundreds of others, as a platform would.
    fn start(&self, id: &str, many: bool) -> Result<Box<dyn Standing>>;

    /// Ends and removes whatever is left of all that was started.
    fn clear(&self) -> Result<()>;

    /// Memory of the runtime's own processes that serve all sandboxes together, KiB.
    fn shared_kib(&self) -> u64 {
        0
    }
}

/// A running app.
pub trait Standing: Send {
    /// When it was asked for and when it began; waits for the latter.
    fn start(&mut self) -> Result<Start>;

    /// Makes sure that it can be killed, so that the way there is not measured.
    fn find(&mut self) -> Result<()> {
        Ok(())
    }

    /// Kills it; returns when nothing is left of it.
    fn kill(self: Box<Self>) -> Result<()>;

    /// Memory that only its own processes have, those of its runtime included, KiB.
    fn private_kib(&self) -> u64;
}

/// From the request to the app's first instruction, on the clock that all share.
#[derive(Clone, Copy, Debug)]
pub struct Start {
    /// Nanoseconds of the monotonic clock.
    pub asked_ns: u64,
    /// Nanoseconds of the monotonic clock.
    pub began_ns: u64,
}

impl Start {
    /// Nanoseconds between the two.
    pub fn took_ns(&self) -> u64 {
        self.began_ns.saturating_sub(self.asked_ns)
    }
}

/// One app from the request to nothing.
#[derive(Clone, Copy, Debug)]
pub struct Cycle {
    pub start: Start,
    /// When nothing was left, nanoseconds of the monotonic clock.
    pub gone_ns: u64,
}

/// The monotonic clock in nanoseconds.
pub fn now_ns() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec.cast_unsigned() * 1_000_000_000 + now.tv_nsec.cast_unsigned()
}

/// When the app began, from what it wrote.
pub fn stamp(text: &[u8]) -> Result<u64> {
    let line = text
        .split(|byte| *byte == b'\n')
        .find_map(|line| line.strip_prefix(b"stamp "));
    let Some(digits) = line.and_then(|digits| std::str::from_utf8(digits).ok()) else {
        bail!("the app said {:?} and not when it began", String::from_utf8_lossy(text));
    };
    digits.parse().context("the app's time is no number")
}

type Job = Box<dyn FnOnce(&dyn Contender) + Send>;

/// A contender on a thread of its own, so that it may have namespaces of its own.
pub struct Seat {
    pub name: String,
    jobs: Option<mpsc::SyncSender<Job>>,
    thread: Option<JoinHandle<()>>,
}

impl Seat {
    pub fn new(name: &str, contender: Box<dyn Contender>) -> Result<Self> {
        let (jobs, queue) = mpsc::sync_channel::<Job>(1);
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(move || {
            while let Ok(job) = queue.recv() {
                job(&*contender);
            }
        });
        let seat = Self {
            name: name.to_owned(),
            jobs: Some(jobs),
            thread: Some(thread.context("failed to start a thread")?),
        };
        seat.ask(|contender| contender.settle())?;
        Ok(seat)
    }

    /// Has the contender do something and waits for it.
    pub fn ask<T: Send + 'static>(&self, job: impl FnOnce(&dyn Contender) -> Result<T> + Send + 'static) -> Result<T> {
        let (answer, answered) = mpsc::sync_channel(1);
        let job: Job = Box::new(move |contender| {
            // The one who asked waits for it.
            let _ = answer.send(job(contender));
        });
        let jobs = self.jobs.as_ref().context("the seat is closed")?;
        jobs.send(job)
            .ok()
            .with_context(|| format!("{} has given up", self.name))?;
        let outcome = answered.recv().with_context(|| format!("{} has given up", self.name))?;
        outcome.with_context(|| self.name.clone())
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        if let Err(error) = self.ask(|contender| contender.clear()) {
            eprintln!("{error:#}");
        }
        drop(self.jobs.take());
        if let Some(thread) = self.thread.take() {
            // It has only contenders' code on it, whose failures were told when they happened.
            let _ = thread.join();
        }
    }
}
