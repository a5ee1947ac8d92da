//! Parked sandboxes and private layers: what is to be kept ready, what is, and the thread that
//! makes the one the other. It works only while no start is in progress.

mod blank;
mod disks;
mod wanted;

use std::collections::VecDeque;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use super::start::{Clock, Ground, Seat};
use super::{Inner, Runtime};
use crate::disk::{Layer, Stocked};
use crate::error::Context;
use crate::{Error, ParkSpec, Parking, Result, Spec, check, sys};

/// Shapes that are wished for at most; older wishes are forgotten.
const MAX_WISHES: usize = 64;
/// Sizes of private layers that are kept ready.
const MAX_SIZES: usize = 4;
/// Empty images kept for each of these sizes; each takes a few hundred KiB of disk.
const IMAGES: usize = 4;
/// After the last start, before anything is built.
const CALM: Duration = Duration::from_millis(3);
/// If starts never cease, something is built all the same after this long.
const MAX_HOLD: Duration = Duration::from_secs(2);
/// First and longest pause after a failure.
const PAUSE: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(30));
/// For the thread to finish what it builds when the runtime is closed.
const CLOSE_SECONDS: u64 = 60;

/// See the module.
#[derive(Debug)]
pub struct Pool {
    parking: Parking,
    state: Mutex<State>,
    changed: Condvar,
    count: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    wishes: Vec<(ParkSpec, usize)>,
    ready: Vec<Parked>,
    sizes: Vec<(u64, u64)>,
    disks: VecDeque<(u64, u64, Layer, PathBuf)>,
    /// Empty images for further layers.
    images: Vec<(u64, u64, Stocked)>,
    /// Whether there can be any.
    can_stock: bool,
    /// Whether blanks with an address, without one or both are wanted; the latest wish first.
    kinds: Vec<bool>,
    blanks: Vec<Blank>,
    starting: usize,
    last_start: Option<Instant>,
    /// The thread is about to build or building.
    busy: bool,
    pause: Option<(Instant, Duration)>,
    has_thread: bool,
    closed: bool,
}

/// One that waits.
#[derive(Debug)]
pub struct Parked {
    pub spec: ParkSpec,
    pub seat: Seat,
    /// Of its layers: another folder at the same path is not the same layer.
    layers: Vec<Identity>,
    /// It turned out to be of no use.
    spoiled: bool,
}

type Identity = (u64, u64, i64, i64);

/// One that waits for anything.
#[derive(Debug)]
pub struct Blank {
    pub networked: bool,
    pub seat: Seat,
}

/// What the thread does next.
enum Task {
    Park(ParkSpec),
    Disk(u64, u64),
    Image(u64, u64),
    Blank(bool),
    Clear(Box<Seat>),
    DropDisk(Layer, PathBuf),
    DropImage(Stocked),
}

/// While it lives a start is in progress.
pub struct Starting<'a>(&'a Pool);

impl Drop for Starting<'_> {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.starting -= 1;
        state.last_start = Some(Instant::now());
        self.0.changed.notify_all();
    }
}

impl Runtime {
    /// Keeps `count` sandboxes of this shape ready from now on (0: none any more), within what
    /// [`crate::Parking`] permits; the latest wish comes first. They are built in the background,
    /// and again after each use.
    pub fn park(&self, spec: &ParkSpec, count: usize) -> Result<()> {
        check::park(spec)?;
        let pool = &self.inner.pool;
        let mut state = pool.lock();
        state.wishes.retain(|(known, _)| known != spec);
        if count > 0 {
            state.wishes.insert(0, (spec.clone(), count));
            state.wishes.truncate(MAX_WISHES);
        }
        state.pause = None;
        self.inner.ensure_thread(&mut state)
    }

    /// How many parked sandboxes wait now.
    pub fn parked(&self) -> usize {
        self.inner.pool.lock().ready.len()
    }

    /// Waits until everything wished for (and permitted), and whatever is kept ready for starts that
    /// find nothing parked, is ready; false at the deadline.
    pub fn await_parked(&self, deadline: Instant) -> bool {
        let pool = &self.inner.pool;
        let mut state = pool.lock();
        loop {
            if !state.busy && state.is_complete(&pool.parking) {
                return true;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            state = pool.wait(state, left);
        }
    }

    /// Gives up everything parked whose root has `layer`, and the wishes for it: the layer is
    /// about to be removed. Returns when nothing parked uses it.
    pub fn unpark(&self, layer: &Path) -> Result<()> {
        let has = |spec: &ParkSpec| {
            spec.root
                .as_ref()
                .is_some_and(|root| root.layers.iter().any(|l| l == layer))
        };
        let pool = &self.inner.pool;
        let mut state = pool.lock();
        state.wishes.retain(|(spec, _)| !has(spec));
        let deadline = Instant::now() + Duration::from_secs(CLOSE_SECONDS);
        while state.busy && Instant::now() < deadline {
            state = pool.wait(state, deadline.saturating_duration_since(Instant::now()));
        }
        let (gone, kept) = std::mem::take(&mut state.ready)
            .into_iter()
            .partition(|parked| has(&parked.spec));
        state.ready = kept;
        drop(state);
        let gone: Vec<Parked> = gone;
        gone.into_iter()
            .try_for_each(|parked| self.inner.clear_seat(parked.seat))
    }
}

impl Pool {
    /// Without anything. `can_stock`: whether private layers begin as images.
    pub fn new(parking: Parking, can_stock: bool) -> Pool {
        let state = State {
            can_stock,
            ..State::default()
        };
        Pool {
            parking,
            state: Mutex::new(state),
            changed: Condvar::new(),
            count: AtomicU64::new(sys::now_ns()),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>, limit: Duration) -> MutexGuard<'a, State> {
        self.changed
            .wait_timeout(state, limit)
            .unwrap_or_else(PoisonError::into_inner)
            .0
    }

    /// Says that a start begins.
    pub fn starting(&self) -> Starting<'_> {
        self.lock().starting += 1;
        Starting(self)
    }

    /// Waits until there is something to do and nobody to be kept from his start by it; false at
    /// the end.
    fn await_turn(&self) -> bool {
        let mut state = self.lock();
        let mut held: Option<Instant> = None;
        loop {
            if state.closed {
                return false;
            }
            if !state.has_task(&self.parking) {
                held = None;
                let pause = state.pauses().unwrap_or(Duration::from_secs(3600));
                state = self.wait(state, pause);
                continue;
            }
            let since = *held.get_or_insert_with(Instant::now);
            let calm = state
                .last_start
                .map_or(Duration::ZERO, |at| CALM.saturating_sub(at.elapsed()));
            let left = MAX_HOLD.saturating_sub(since.elapsed());
            if left.is_zero() || state.starting == 0 && calm.is_zero() {
                return true;
            }
            let limit = if state.starting == 0 { calm } else { left };
            state = self.wait(state, limit.max(Duration::from_micros(200)));
        }
    }

    /// Ends the thread.
    pub fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_all();
    }

    /// A name that no seat of this host has.
    fn name(&self) -> String {
        format!("_{:x}", self.count.fetch_add(1, Ordering::Relaxed))
    }

    /// Names of all that wait.
    pub fn names(&self) -> Vec<String> {
        let state = self.lock();
        let seats = state.ready.iter().map(|parked| &parked.seat);
        let seats = seats.chain(state.blanks.iter().map(|blank| &blank.seat));
        seats.map(|seat| seat.name.clone()).collect()
    }

    /// One that fits `spec`: with its root if there is one, else with none.
    pub fn take(&self, spec: &Spec) -> Option<Parked> {
        if spec.process.terminal {
            // Its terminal has to be made in its root, by an init that has not given everything up.
            return None;
        }
        let (whole, shape) = (ParkSpec::whole(spec), ParkSpec::shape(spec));
        loop {
            let mut state = self.lock();
            let find = |want: &ParkSpec| {
                state
                    .ready
                    .iter()
                    .position(|parked| !parked.spoiled && parked.spec.suits(want))
            };
            let at = find(&whole).or_else(|| find(&shape))?;
            let parked = state.ready.remove(at);
            drop(state);
            let same_layers =
                || parked.spec.root.is_none() || identities(&spec.layers).is_ok_and(|now| now == parked.layers);
            if !parked.seat.is_gone() && same_layers() {
                return Some(parked);
            }
            self.spoil(parked);
        }
    }

    /// Takes one back that turned out not to be needed.
    pub fn give_back(&self, parked: Parked) {
        self.lock().ready.push(parked);
        self.changed.notify_all();
    }

    /// For the thread to clear away: it is no use to anybody.
    pub fn spoil(&self, parked: Parked) {
        self.lock().ready.push(Parked {
            spoiled: true,
            ..parked
        });
        self.changed.notify_all();
    }
}

impl Inner {
    fn ensure_thread(self: &Arc<Inner>, state: &mut State) -> Result<()> {
        if state.has_thread || state.closed {
            self.pool.changed.notify_all();
            return Ok(());
        }
        let (pool, inner) = (self.pool.clone(), Arc::downgrade(self));
        let thread = std::thread::Builder::new().name("sandbox-parking".to_owned());
        thread
            .spawn(move || work(&pool, &inner))
            .map_err(|source| Error::Spawner {
                operation: "start the parking thread",
                source,
            })?;
        state.has_thread = true;
        Ok(())
    }

    /// Does one thing.
    fn work_once(&self) {
        let pool = &self.pool;
        let mut state = pool.lock();
        let Some(task) = state.task(&pool.parking) else { return };
        state.busy = true;
        drop(state);
        let done = self.carry_out(task);
        let mut state = pool.lock();
        state.busy = false;
        match done {
            Ok(()) => state.pause = None,
            Err(error) => {
                let pause = state.pause.map_or(PAUSE.0, |(_, before)| (before * 2).min(PAUSE.1));
                state.pause = Some((Instant::now() + pause, pause));
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    retry_ms = pause.as_millis(),
                    "nothing could be made ready"
                );
            }
        }
        pool.changed.notify_all();
    }

    fn carry_out(&self, task: Task) -> Result<()> {
        match task {
            Task::Park(spec) => {
                let parked = self.park_one(spec)?;
                self.pool.lock().ready.push(parked);
                Ok(())
            }
            Task::Disk(bytes, inodes) => self.make_disk(bytes, inodes),
            Task::Image(bytes, inodes) => self.make_image(bytes, inodes),
            Task::Blank(networked) => {
                let blank = self.make_blank(networked)?;
                self.pool.lock().blanks.push(blank);
                Ok(())
            }
            Task::Clear(seat) => self.clear_seat(*seat),
            Task::DropDisk(layer, dir) => {
                drop(layer);
                std::fs::remove_dir_all(&dir).at("remove folder", dir)
            }
            Task::DropImage(image) => image.discard(),
        }
    }

    fn park_one(&self, spec: ParkSpec) -> Result<Parked> {
        let layers = spec.root.as_ref().map_or(&[][..], |root| &root.layers[..]);
        let layers = identities(layers)?;
        let seat = self.lay_waiting(&Ground::from(&spec))?;
        Ok(Parked {
            spec,
            seat,
            layers,
            spoiled: false,
        })
    }

    /// A seat that is nobody's, with an init that waits.
    fn lay_waiting(&self, ground: &Ground) -> Result<Seat> {
        let name = self.pool.name();
        let dir = self.folders.parked().join(&name);
        std::fs::create_dir(&dir).at("make folder", &dir)?;
        let mut seat = self.lay((&name, &dir), ground, None, &mut Clock::start())?;
        if let Err(error) = self.settle_seat(&mut seat) {
            let remains = seat.remains();
            drop(seat);
            self.clear_or_tell(&remains);
            return Err(error);
        }
        Ok(seat)
    }

    fn clear_seat(&self, seat: Seat) -> Result<()> {
        let remains = seat.remains();
        // Closes its socket, so that its init ends.
        drop(seat);
        self.clear(&remains, None)
    }

    /// Stops the thread and removes everything that is ready.
    pub fn drain(&self) -> Result<()> {
        self.pool.close();
        let mut state = self.pool.lock();
        let deadline = Instant::now() + Duration::from_secs(CLOSE_SECONDS);
        while state.has_thread && Instant::now() < deadline {
            state = self
                .pool
                .wait(state, deadline.saturating_duration_since(Instant::now()));
        }
        let (ready, disks) = (std::mem::take(&mut state.ready), std::mem::take(&mut state.disks));
        let (blanks, images) = (std::mem::take(&mut state.blanks), std::mem::take(&mut state.images));
        drop(state);
        let mut first_error = None;
        let seats = ready.into_iter().map(|parked| parked.seat);
        for seat in seats.chain(blanks.into_iter().map(|blank| blank.seat)) {
            first_error = first_error.or(self.clear_seat(seat).err());
        }
        for (_, _, layer, dir) in disks {
            drop(layer);
            first_error = first_error.or(std::fs::remove_dir_all(&dir).at("remove folder", dir).err());
        }
        for (_, _, image) in images {
            first_error = first_error.or(image.discard().err());
        }
        first_error.map_or(Ok(()), Err)
    }
}

/// The thread: until the pool is closed, by the end of the runtime at the latest.
fn work(pool: &Pool, inner: &Weak<Inner>) {
    while pool.await_turn()
        && let Some(inner) = inner.upgrade()
    {
        inner.work_once();
    }
    pool.lock().has_thread = false;
    pool.changed.notify_all();
}

fn identities(layers: &[PathBuf]) -> Result<Vec<Identity>> {
    let identity = |path: &PathBuf| {
        let meta = std::fs::metadata(path).at("look at", path)?;
        Ok((meta.dev(), meta.ino(), meta.ctime(), meta.ctime_nsec()))
    };
    layers.iter().map(identity).collect()
}
