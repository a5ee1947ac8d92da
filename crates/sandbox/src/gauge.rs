//! The figures of sandboxes that an agent holds, read one by one or all at once. What is read
//! often stays open, as long as that leaves enough descriptors for everything else.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use rustix::process::Resource;

use crate::cgroup::Groups;
use crate::cgroup::meter::{BUFFER_BYTES, Meter};
use crate::record::Record;
use crate::spawner::Client;
use crate::wire::Ask;
use crate::{Error, Result, Stats};

/// Of the descriptors an agent may have, figures take at most this part.
const SHARE: u64 = 2;

/// Where the figures of one sandbox come from.
#[derive(Debug)]
pub struct Gauge {
    id: String,
    /// Its name with the spawner.
    seat: String,
    meter: Mutex<Meter>,
    upper: Mutex<Upper>,
}

/// The private layer's root, as far as it is known.
#[derive(Debug, Default)]
struct Upper {
    held: Option<Arc<OwnedFd>>,
    /// The spawner has no other answer the second time.
    asked: bool,
}

impl Gauge {
    /// The private layer's root: ours, or the spawner's.
    pub fn upper(&self, spawner: &Client) -> Option<Arc<OwnedFd>> {
        let mut upper = lock(&self.upper);
        if upper.held.is_none() && !upper.asked {
            upper.asked = true;
            let kept = spawner.ask_if_running(&Ask::Upper { id: self.seat.clone() });
            upper.held = kept.and_then(|(_, mut fds)| fds.pop()).map(Arc::new);
        }
        upper.held.clone()
    }

    /// Keeps a root that was found elsewhere.
    pub fn hold_upper(&self, found: OwnedFd) -> Arc<OwnedFd> {
        lock(&self.upper).held.insert(Arc::new(found)).clone()
    }

    /// Lets go of the root, so that the file system below it can be removed.
    pub fn drop_upper(&self) {
        lock(&self.upper).held = None;
    }

    /// The present figures.
    pub fn read(&self, spawner: &Client, buffer: &mut [u8; BUFFER_BYTES]) -> Result<Stats> {
        let read = lock(&self.meter).read(buffer);
        let mut stats = read.map_err(|source| Error::Kernel {
            operation: "measure",
            id: self.id.clone(),
            source,
        })?;
        if let Some(upper) = self.upper(spawner)
            && let Ok(fs) = rustix::fs::fstatfs(&*upper)
        {
            stats.disk_bytes = (fs.f_blocks - fs.f_bfree) * fs.f_bsize as u64;
        }
        Ok(stats)
    }
}

/// The gauges of every sandbox that is held.
#[derive(Debug)]
pub struct Gauges {
    all: Mutex<HashMap<String, Weak<Gauge>>>,
    /// Descriptors that may be kept.
    budget: usize,
}

impl Gauges {
    pub fn new() -> Gauges {
        let most = rustix::process::getrlimit(Resource::Nofile).current;
        Gauges {
            all: Mutex::new(HashMap::new()),
            budget: usize::try_from(most.unwrap_or(u64::MAX) / SHARE).unwrap_or(usize::MAX),
        }
    }

    /// A gauge for the sandbox of `record`, which is found by [`Gauges::read_all`] for as long as it is held.
    pub fn add(&self, record: &Record, groups: &dyn Groups, upper: Option<OwnedFd>) -> Arc<Gauge> {
        let mut all = lock(&self.all);
        if all.len() >= all.capacity() {
            all.retain(|_, gauge| gauge.strong_count() > 0);
        }
        let figures = groups.figures(record.seat());
        // As if all of them kept theirs.
        let keep = (all.len() + 1) * figures.len() <= self.budget;
        let gauge = Arc::new(Gauge {
            id: record.id.clone(),
            seat: record.seat().to_owned(),
            meter: Mutex::new(Meter::new(figures, keep)),
            upper: Mutex::new(Upper {
                asked: upper.is_some(),
                held: upper.map(Arc::new),
            }),
        });
        all.insert(record.id.clone(), Arc::downgrade(&gauge));
        gauge
    }

    /// The figures of all; those that have just ended are left out.
    pub fn read_all(&self, spawner: &Client) -> Vec<(String, Stats)> {
        let held: Vec<Arc<Gauge>> = {
            let mut all = lock(&self.all);
            all.retain(|_, gauge| gauge.strong_count() > 0);
            all.values().filter_map(Weak::upgrade).collect()
        };
        let mut buffer = [0; BUFFER_BYTES];
        let read = |gauge: Arc<Gauge>| Some((gauge.id.clone(), gauge.read(spawner, &mut buffer).ok()?));
        held.into_iter().filter_map(read).collect()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
