//! [`LogStore`]: the logs of all apps below one folder, and the bounds that hold across them.

use super::app::App;
use super::follow::Follower;
use super::{Dropped, Error, Limits, Page, Position, Query, Summary, failed};
use crate::Envelope;
use parking_lot::RwLock;
use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Longest id of an app; it becomes the name of a folder.
const APP_BYTES: usize = 64;

/// Logs of apps. Cheap to clone; all clones are the same store.
#[derive(Clone)]
pub struct LogStore(Arc<Inner>);

struct Inner {
    root: PathBuf,
    limits: Limits,
    apps: RwLock<HashMap<String, Arc<App>>>,
    refused: AtomicU64,
}

impl LogStore {
    /// Opens or creates the store below `root`. Reads the names of folders and segments, no logs.
    ///
    /// # Errors
    /// A folder cannot be created or read.
    pub fn open(root: &Path, limits: Limits) -> Result<Self, Error> {
        fs::create_dir_all(root).map_err(failed("create", root))?;
        let mut apps = HashMap::new();
        for entry in fs::read_dir(root).map_err(failed("list", root))? {
            let entry = entry.map_err(failed("list", root))?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if is_app(&name) && entry.path().is_dir() {
                apps.insert(name, Arc::new(App::open(entry.path())?));
            }
        }
        let root = root.to_owned();
        Ok(Self(Arc::new(Inner {
            root,
            limits,
            apps: RwLock::new(apps),
            refused: AtomicU64::new(0),
        })))
    }

    /// Appends lines of any apps, each app's in the order given, and says how many were stored; the others were refused
    /// (see [`Dropped::refused`]). When this returns `Ok`, readers and followers see them and a crash of this process
    /// does not lose them.
    ///
    /// # Errors
    /// A file could not be written. The lines of each app are stored or not stored as a whole up to a segment, so a
    /// caller that sends everything again may repeat some lines and loses none.
    pub fn append(&self, envelopes: &[Envelope]) -> Result<usize, Error> {
        let mut by_app: BTreeMap<&str, Vec<&Envelope>> = BTreeMap::new();
        let mut stored = 0;
        for envelope in envelopes
            .iter()
            .filter(|envelope| is_app(&envelope.source_id) && envelope.fits())
        {
            by_app.entry(&envelope.source_id).or_default().push(envelope);
            stored += 1;
        }
        self.0
            .refused
            .fetch_add((envelopes.len() - stored) as u64, Ordering::Relaxed);
        for (app, lines) in by_app {
            // A removal in between makes a new log: the lines came after it.
            while !self.app(app)?.append(&lines, &self.0.limits)? {}
        }
        self.shrink()?;
        Ok(stored)
    }

    /// Reads the log of an app; nothing where there is none.
    ///
    /// # Errors
    /// A file could not be read, or the app was removed meanwhile.
    pub fn read(&self, app: &str, query: &Query) -> Result<Page, Error> {
        self.app(app)?.read(query)
    }

    /// What there is of an app; `None` where it has no log.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn summary(&self, app: &str) -> Result<Option<Summary>, Error> {
        let known = self.0.apps.read().get(app).cloned();
        known.map(|app| app.summary()).transpose()
    }

    /// The place after the last line of an app.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn end(&self, app: &str) -> Result<Position, Error> {
        self.app(app)?.end()
    }

    /// Follows the log of an app from a place that [`Self::read`] or [`Self::end`] gave, or from its beginning
    /// (`Position::default()`), without gap or repetition.
    ///
    /// # Errors
    /// The id is not an app's.
    pub fn follow(&self, app: &str, from: Position) -> Result<Follower, Error> {
        Ok(Follower::new(app.to_owned(), self.app(app)?, from))
    }

    /// Removes the log of an app; its followers end. Lines that still come make a new log.
    ///
    /// # Errors
    /// The folder could not be removed.
    pub fn remove(&self, app: &str) -> Result<(), Error> {
        // Under the lock, so that no new log appears in a folder that is being removed.
        let mut apps = self.0.apps.write();
        let Some(log) = apps.remove(app) else { return Ok(()) };
        log.remove()
    }

    /// Drops what is older than the age limit at `now_ns`, Unix nanoseconds. To be called every few minutes.
    ///
    /// # Errors
    /// A file could not be removed.
    pub fn sweep(&self, now_ns: i64) -> Result<(), Error> {
        let age = i64::try_from(self.0.limits.age.as_nanos()).unwrap_or(i64::MAX);
        let before_ns = now_ns.saturating_sub(age);
        let apps: Vec<Arc<App>> = self.0.apps.read().values().cloned().collect();
        for app in apps {
            match app.expire(before_ns) {
                Ok(()) | Err(Error::Removed { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Ids of all apps that have a log.
    #[must_use]
    pub fn apps(&self) -> Vec<String> {
        self.0.apps.read().keys().cloned().collect()
    }

    /// Bytes on disk of all apps.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.0.apps.read().values().map(|app| app.bytes()).sum()
    }

    /// What was dropped of all apps since the store was opened.
    #[must_use]
    pub fn dropped(&self) -> Dropped {
        let mut sum = Dropped {
            refused: self.0.refused.load(Ordering::Relaxed),
            ..Dropped::default()
        };
        for app in self.0.apps.read().values() {
            let dropped = app.dropped();
            sum.evicted += dropped.evicted;
            sum.expired += dropped.expired;
            sum.damaged += dropped.damaged;
        }
        sum
    }

    fn app(&self, app: &str) -> Result<Arc<App>, Error> {
        if let Some(known) = self.0.apps.read().get(app) {
            return Ok(known.clone());
        }
        if !is_app(app) {
            return Err(Error::App { app: app.to_owned() });
        }
        let mut apps = self.0.apps.write();
        if let Some(known) = apps.get(app) {
            return Ok(known.clone());
        }
        let opened = Arc::new(App::open(self.0.root.join(app))?);
        apps.insert(app.to_owned(), opened.clone());
        Ok(opened)
    }

    /// While all apps together are beyond the bound, the one with the most loses its oldest segment: who floods pays.
    fn shrink(&self) -> Result<(), Error> {
        loop {
            let apps = self.0.apps.read();
            let total: u64 = apps.values().map(|app| app.bytes()).sum();
            if total <= self.0.limits.total_bytes {
                return Ok(());
            }
            let Some(largest) = apps.values().max_by_key(|app| app.bytes()).cloned() else {
                return Ok(());
            };
            drop(apps);
            match largest.evict() {
                Ok(true) | Err(Error::Removed { .. }) => {}
                Ok(false) => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }
}

/// Whether it can be an app's id, and so a folder's name: ids never are paths.
fn is_app(text: &str) -> bool {
    (1..=APP_BYTES).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}
