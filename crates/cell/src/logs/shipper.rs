//! The one task that ships all logs of a cell, and the handle by which work tells it about its log.

use super::follower::{Follower, Mark, Marks, Portion, Source};
use super::watch::Watch;
use crate::agent::client::Client;
use crate::error::{Error, blocking, chain, file};
use api::cell::LogBatch;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use model::Timestamp;
use model::id::WorkId;
use sandbox::log::Position;
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Bytes of text in one batch, about.
const BATCH_BYTES: usize = 1 << 20;
/// Commands that wait for the shipper.
const COMMANDS: usize = 1024;
/// Time to the second try of a batch; it doubles up to [`LAST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// Longest time between two tries.
const LAST_PAUSE: Duration = Duration::from_secs(3);

/// Tells the shipper about logs. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Logs {
    commands: mpsc::Sender<Command>,
    marks: Marks,
}

#[derive(Debug)]
enum Command {
    Follow { source: Source, dir: PathBuf },
    Note { work: WorkId, ts_ns: i64, text: String },
    Ended { work: WorkId },
}

impl Logs {
    /// Ships the log in `dir` from now on, from where it was left.
    pub(crate) async fn follow(&self, source: Source, dir: PathBuf) {
        let _ = self.commands.send(Command::Follow { source, dir }).await;
    }

    /// Adds a line of the platform to the log of `work`. Dropped where too many wait.
    pub(crate) fn note(&self, work: WorkId, text: String) {
        let now = Timestamp::now_utc().unix_timestamp_nanos();
        let ts_ns = i64::try_from(now).unwrap_or(i64::MAX);
        let _ = self.commands.try_send(Command::Note { work, ts_ns, text });
    }

    /// Takes the log folder out of a sandbox that is about to be destroyed; what is left of it is shipped from there.
    pub(crate) async fn ended(&self, work: WorkId, dir: &Path) -> Result<(), Error> {
        let (from, to) = (dir.to_owned(), self.marks.tail(work));
        blocking(move || match fs::rename(&from, &to) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(file("take the log from", &from)(error)),
            _ => Ok(()),
        })
        .await?;
        let _ = self.commands.send(Command::Ended { work }).await;
        Ok(())
    }
}

/// Follows all logs and sends what is new.
#[derive(Debug)]
pub(crate) struct Shipper {
    commands: mpsc::Receiver<Command>,
    client: Client,
    marks: Marks,
    watch: Watch,
    followers: HashMap<WorkId, Follower>,
    /// Logs with something new, taken in turn.
    dirty: VecDeque<WorkId>,
    /// Logs of ended work, oldest first, with their size.
    tails: VecDeque<(WorkId, u64)>,
    tails_bytes: u64,
}

/// A batch on its way; yields what it was made of once it is taken.
type Sending = BoxFuture<'static, Vec<Portion>>;

impl Shipper {
    /// A shipper that keeps its marks in `dir` and at most `tails_bytes` of logs of ended work. Takes up the logs of
    /// work that ended under an earlier agent. Blocking, briefly; within a runtime.
    pub(crate) fn open(dir: &Path, client: Client, tails_bytes: u64) -> Result<(Self, Logs), Error> {
        let marks = Marks::open(dir)?;
        let (sender, commands) = mpsc::channel(COMMANDS);
        let mut shipper = Self {
            commands,
            client,
            marks: marks.clone(),
            watch: Watch::open()?,
            followers: HashMap::new(),
            dirty: VecDeque::new(),
            tails: VecDeque::new(),
            tails_bytes,
        };
        for mark in marks.all() {
            let (work, tail) = (mark.source.work, marks.tail(mark.source.work));
            if tail.is_dir() {
                shipper.tails.push_back((work, size(&tail)));
                shipper.followers.insert(work, Follower::new(mark, tail, true));
                shipper.dirty.push_back(work);
            }
        }
        Ok((
            shipper,
            Logs {
                commands: sender,
                marks,
            },
        ))
    }

    /// Removes marks of logs that are neither in `alive` nor waiting to be shipped.
    pub(crate) fn forget_others(&self, alive: &BTreeSet<WorkId>) {
        for mark in self.marks.all() {
            let work = mark.source.work;
            if !alive.contains(&work) && !self.followers.contains_key(&work) {
                log_failure(self.marks.remove(work), work);
            }
        }
    }

    /// Ships until `shutdown`. What is not shipped then, the next agent ships.
    pub(crate) async fn run(mut self, shutdown: CancellationToken) {
        let mut sending: Option<Sending> = None;
        loop {
            if sending.is_none() {
                match self.gather().await {
                    Ok(next) => sending = next,
                    Err(_) => return,
                }
            }
            tokio::select! {
                () = shutdown.cancelled() => return,
                command = self.commands.recv() => match command {
                    Some(command) => self.apply(command),
                    None => return,
                },
                works = self.watch.changed() => works.into_iter().for_each(|work| mark_dirty(&mut self.dirty, work)),
                portions = wait(&mut sending) => {
                    sending = None;
                    self.taken(portions).await;
                }
            }
        }
    }

    fn apply(&mut self, command: Command) {
        match command {
            Command::Follow { source, dir } => self.follow(source, dir),
            Command::Note { work, ts_ns, text } => {
                if let Some(follower) = self.followers.get_mut(&work) {
                    follower.note(ts_ns, text);
                    mark_dirty(&mut self.dirty, work);
                }
            }
            Command::Ended { work } => {
                let tail = self.marks.tail(work);
                if let Some(follower) = self.followers.get_mut(&work) {
                    self.tails.retain(|(other, _)| *other != work);
                    self.tails.push_back((work, size(&tail)));
                    follower.moved(tail);
                    mark_dirty(&mut self.dirty, work);
                    self.bound_tails();
                } else {
                    log_failure(self.marks.remove(work), work);
                }
            }
        }
    }

    fn follow(&mut self, source: Source, dir: PathBuf) {
        let work = source.work;
        let mark = self.marks.read(work).unwrap_or(Mark {
            source,
            position: Position::default(),
            last_ns: 0,
        });
        log_failure(self.marks.write(&mark), work);
        log_failure(self.watch.add(work, &dir), work);
        self.followers.insert(work, Follower::new(mark, dir, false));
        mark_dirty(&mut self.dirty, work);
    }

    /// Gives up the oldest logs of ended work beyond the bound, and says so.
    fn bound_tails(&mut self) {
        let mut total: u64 = self.tails.iter().map(|(_, bytes)| bytes).sum();
        while total > self.tails_bytes {
            let Some((work, bytes)) = self.tails.pop_front() else {
                break;
            };
            tracing::warn!(work.id = %work, bytes, "dropped a log that no controller took in time");
            total -= bytes;
            self.finish(work);
        }
    }

    fn finish(&mut self, work: WorkId) {
        self.followers.remove(&work);
        self.watch.remove(work);
        self.tails.retain(|(other, _)| *other != work);
        log_failure(self.marks.remove(work), work);
    }

    /// Reads the next batch, from each log in turn; `None` where there is nothing to send.
    async fn gather(&mut self) -> Result<Option<Sending>, Error> {
        if self.dirty.is_empty() {
            return Ok(None);
        }
        let followers = std::mem::take(&mut self.followers);
        let works = std::mem::take(&mut self.dirty);
        let (followers, read, rest) = blocking(move || {
            let (read, rest) = read_all(&followers, works);
            Ok((followers, read, rest))
        })
        .await?;
        self.followers = followers;
        self.dirty = rest;
        let mut portions = Vec::new();
        for (work, portion) in read {
            match portion {
                Ok(portion) if !portion.lines.is_empty() => {
                    mark_dirty(&mut self.dirty, work);
                    portions.push(portion);
                }
                Ok(_) if self.followers.get(&work).is_some_and(|follower| follower.ended) => self.finish(work),
                Ok(_) => {}
                Err(error) => tracing::warn!(work.id = %work, error = %chain(&error), "failed to read a log"),
            }
        }
        let client = self.client.clone();
        Ok((!portions.is_empty()).then(|| send(client, portions).boxed()))
    }

    async fn taken(&mut self, portions: Vec<Portion>) {
        let mut marks = Vec::new();
        for portion in &portions {
            if let Some(follower) = self.followers.get_mut(&portion.mark.source.work) {
                follower.taken(portion);
                marks.push(portion.mark.clone());
            }
        }
        let kept = self.marks.clone();
        let written = blocking(move || {
            for mark in marks {
                log_failure(kept.write(&mark), mark.source.work);
            }
            Ok(())
        });
        let _ = written.await;
    }
}

type Read = Vec<(WorkId, Result<Portion, Error>)>;

/// Reads logs in turn until a batch is full. Says what was read and which logs did not get their turn.
fn read_all(followers: &HashMap<WorkId, Follower>, mut works: VecDeque<WorkId>) -> (Read, VecDeque<WorkId>) {
    let (mut read, mut bytes) = (Vec::new(), 0);
    while bytes < BATCH_BYTES
        && let Some(work) = works.pop_front()
    {
        let Some(follower) = followers.get(&work) else { continue };
        let portion = follower.read();
        if let Ok(portion) = &portion {
            bytes += portion.lines.iter().map(|line| line.text.len() + 64).sum::<usize>();
        }
        read.push((work, portion));
    }
    (read, works)
}

async fn wait(sending: &mut Option<Sending>) -> Vec<Portion> {
    match sending {
        Some(sending) => sending.await,
        None => std::future::pending().await,
    }
}

/// Sends a batch until it is taken. One that the controller refuses for good is given up, and that is said.
async fn send(client: Client, portions: Vec<Portion>) -> Vec<Portion> {
    let lines = portions
        .iter()
        .flat_map(|portion| portion.lines.iter().cloned())
        .collect();
    let batch = LogBatch { lines };
    let mut pause = FIRST_PAUSE;
    loop {
        match client.logs(&batch).await {
            Ok(()) => return portions,
            Err(failure) if failure.is_refusal() => {
                let lines = batch.lines.len();
                tracing::error!(lines, error = %chain(&failure), "the controller refused log lines, dropped them");
                return portions;
            }
            Err(failure) => {
                tracing::debug!(error = %chain(&failure), "failed to ship log lines, trying again");
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LAST_PAUSE);
            }
        }
    }
}

fn mark_dirty(dirty: &mut VecDeque<WorkId>, work: WorkId) {
    if !dirty.contains(&work) {
        dirty.push_back(work);
    }
}

fn log_failure(result: Result<(), Error>, work: WorkId) {
    if let Err(error) = result {
        tracing::warn!(work.id = %work, error = %chain(&error), "failed to keep track of a log");
    }
}

fn size(dir: &Path) -> u64 {
    let entries = fs::read_dir(dir).into_iter().flatten().filter_map(Result::ok);
    entries.filter_map(|entry| Some(entry.metadata().ok()?.len())).sum()
}
