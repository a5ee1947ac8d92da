//! Folders by key that are made once, shared, and removed when room is needed: unpacked layers and packages.
//!
//! ```text
//! <dir>/<key>        a finished tree
//! <dir>/<key>.json   its size; changed when it is used
//! <dir>/tmp/         trees that are being made or removed
//! <dir>/boot         the boot during which all this was written
//! ```
//! A tree appears by rename, after its description. Nothing is flushed to disk: after a crash of the host, which no
//! sandbox survives either, the cache starts empty. What trees hold is their makers' business.

use crate::error::{Error, blocking, file};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::fs;
use std::future::Future;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::SystemTime;

/// A bounded cache of trees.
#[derive(Debug)]
pub struct Trees {
    dir: PathBuf,
    budget_bytes: u64,
    slots: Mutex<HashMap<String, Arc<Slot>>>,
    ticks: AtomicU64,
}

#[derive(Debug)]
struct Slot {
    key: String,
    /// Size of the finished tree; locked while it is being made.
    made: tokio::sync::Mutex<()>,
    /// Bytes of the finished tree plus one; 0 until there is one.
    size: AtomicU64,
    users: AtomicUsize,
    used: AtomicU64,
}

/// A tree that stays while this is held.
#[derive(Debug)]
pub struct Tree {
    path: PathBuf,
    slot: Arc<Slot>,
    /// What makes it visible at `path`, where that is not its own place.
    shown_by: Option<Arc<OwnedFd>>,
}

/// What is kept beside a tree.
#[derive(Serialize, Deserialize)]
struct Description {
    bytes: u64,
}

impl Tree {
    /// The tree's folder: to be read, never written.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The same tree, which can be seen at `path` as long as there is `mount`.
    #[must_use]
    pub fn seen_at(mut self, path: PathBuf, mount: Arc<OwnedFd>) -> Self {
        self.path = path;
        self.shown_by = Some(mount);
        self
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        // Nobody sees it any more when it can be removed.
        self.shown_by = None;
        self.slot.users.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Trees {
    /// Opens the cache in `dir`, which it owns, and removes what a crash left unfinished. Blocking.
    ///
    /// # Errors
    /// The folder can't be read or written.
    pub fn open(dir: &Path, budget_bytes: u64) -> Result<Self, Error> {
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        let mark = dir.join("boot");
        if dir.exists() && fs::read_to_string(&mark).unwrap_or_default() != boot {
            remove_tree(dir)?;
        }
        let scratch = dir.join("tmp");
        if scratch.exists() {
            remove_tree(&scratch)?;
        }
        fs::create_dir_all(&scratch).map_err(file("create", &scratch))?;
        fs::write(&mark, boot).map_err(file("write", &mark))?;
        let trees = Self {
            dir: dir.to_owned(),
            budget_bytes,
            slots: Mutex::default(),
            ticks: AtomicU64::new(1),
        };
        trees.load()?;
        Ok(trees)
    }

    /// The tree named `key`, made by `make` in the empty folder it is given if there is none. `make` says how many
    /// bytes it has. Of several callers one makes it, and the others wait.
    ///
    /// # Errors
    /// Those of `make`; nothing is left of what it did.
    pub async fn acquire<F, M>(self: &Arc<Self>, key: &str, make: F) -> Result<Tree, Error>
    where
        F: FnOnce(PathBuf) -> M,
        M: Future<Output = Result<u64, Error>>,
    {
        let tree = self.claim(key);
        if tree.slot.size.load(Ordering::Acquire) > 0 {
            self.touch(&tree.slot).await;
            return Ok(tree);
        }
        let slot = Arc::clone(&tree.slot);
        let making = slot.made.lock().await;
        if slot.size.load(Ordering::Acquire) > 0 {
            drop(making);
            self.touch(&slot).await;
            return Ok(tree);
        }
        let scratch = self.scratch()?;
        let bytes = make(scratch.path.clone()).await?;
        let (this, key) = (Arc::clone(self), key.to_owned());
        blocking(move || this.place(scratch, &key, bytes)).await?;
        slot.used.store(self.tick(), Ordering::Release);
        slot.size.store(bytes + 1, Ordering::Release);
        drop(making);
        self.evict();
        Ok(tree)
    }

    /// The tree named `key` if it is there: for what an earlier agent started and still uses.
    #[must_use]
    pub fn hold(&self, key: &str) -> Option<Tree> {
        let known = self.slots.lock().contains_key(key);
        known
            .then(|| self.claim(key))
            .filter(|tree| tree.slot.size.load(Ordering::Acquire) > 0)
    }

    /// Bytes of all finished trees.
    #[cfg(test)]
    pub fn bytes(&self) -> u64 {
        let slots = self.slots.lock();
        slots
            .values()
            .map(|slot| slot.size.load(Ordering::Acquire).saturating_sub(1))
            .sum()
    }

    fn load(&self) -> Result<(), Error> {
        let mut found: Vec<(SystemTime, String, u64)> = Vec::new();
        for entry in fs::read_dir(&self.dir).map_err(file("list", &self.dir))? {
            let path = entry.map_err(file("list", &self.dir))?.path();
            let Some(name) = path.file_name().and_then(|name| name.to_str()).map(str::to_owned) else {
                continue;
            };
            if name == "tmp" || name == "boot" {
                continue;
            }
            if let Some(key) = name.strip_suffix(".json") {
                if !self.dir.join(key).is_dir() {
                    let _ = fs::remove_file(&path);
                }
            } else {
                match self.described(&name) {
                    Some((used, bytes)) => found.push((used, name, bytes)),
                    None => remove_tree(&path)?,
                }
            }
        }
        found.sort();
        let mut slots = self.slots.lock();
        for (_, key, bytes) in found {
            let slot = Slot::new(&key);
            slot.size.store(bytes + 1, Ordering::Release);
            slot.used.store(self.tick(), Ordering::Release);
            slots.insert(key, Arc::new(slot));
        }
        Ok(())
    }

    fn described(&self, key: &str) -> Option<(SystemTime, u64)> {
        let path = self.description(key);
        let description: Description = serde_json::from_slice(&fs::read(&path).ok()?).ok()?;
        let used = fs::metadata(&path).ok()?.modified().ok()?;
        Some((used, description.bytes))
    }

    fn description(&self, key: &str) -> PathBuf {
        self.dir.join(format!("{key}.json"))
    }

    /// Counts one more user of `key`. Under the same lock as [`Self::evict`], which so never takes what is in use.
    fn claim(&self, key: &str) -> Tree {
        let mut slots = self.slots.lock();
        let slot = slots.entry(key.to_owned()).or_insert_with(|| Arc::new(Slot::new(key)));
        slot.users.fetch_add(1, Ordering::AcqRel);
        Tree {
            path: self.dir.join(key),
            slot: Arc::clone(slot),
            shown_by: None,
        }
    }

    fn tick(&self) -> u64 {
        self.ticks.fetch_add(1, Ordering::Relaxed)
    }

    /// Notes the use, also on disk for the next agent.
    async fn touch(&self, slot: &Slot) {
        slot.used.store(self.tick(), Ordering::Release);
        let path = self.description(&slot.key);
        let _ = blocking(move || {
            let opened = fs::File::options().write(true).open(&path);
            let _ = opened.and_then(|file| file.set_modified(SystemTime::now()));
            Ok(())
        })
        .await;
    }

    fn scratch(&self) -> Result<Scratch, Error> {
        let path = self.dir.join("tmp").join(uuid::Uuid::new_v4().simple().to_string());
        fs::create_dir(&path).map_err(file("create", &path))?;
        Ok(Scratch { path, kept: false })
    }

    fn place(&self, mut scratch: Scratch, key: &str, bytes: u64) -> Result<(), Error> {
        let target = self.dir.join(key);
        let description = self.description(key);
        let text =
            serde_json::to_vec(&Description { bytes }).map_err(|error| file("describe", &target)(error.into()))?;
        fs::write(&description, text).map_err(file("write", &description))?;
        fs::rename(&scratch.path, &target).map_err(file("move into place", &target))?;
        scratch.kept = true;
        Ok(())
    }

    /// Removes the trees that nobody uses and whose last use is longest ago, until the rest is within the budget.
    fn evict(&self) {
        let mut gone = Vec::new();
        {
            let mut slots = self.slots.lock();
            let size = |slot: &Arc<Slot>| slot.size.load(Ordering::Acquire);
            let mut total: u64 = slots.values().map(|slot| size(slot).saturating_sub(1)).sum();
            let mut idle: Vec<Arc<Slot>> = slots
                .values()
                .filter(|slot| size(slot) > 0 && slot.users.load(Ordering::Acquire) == 0)
                .cloned()
                .collect();
            idle.sort_by_key(|slot| slot.used.load(Ordering::Acquire));
            for slot in idle {
                if total <= self.budget_bytes {
                    break;
                }
                let aside = self.dir.join("tmp").join(uuid::Uuid::new_v4().simple().to_string());
                if fs::rename(self.dir.join(&slot.key), &aside).is_ok() {
                    let _ = fs::remove_file(self.description(&slot.key));
                    total = total.saturating_sub(size(&slot) - 1);
                    slots.remove(&slot.key);
                    gone.push(aside);
                }
            }
        }
        if !gone.is_empty() {
            // Nobody waits for it; what is left at a crash is removed at the next start.
            drop(tokio::task::spawn_blocking(move || {
                for path in gone {
                    if let Err(error) = remove_tree(&path) {
                        tracing::warn!(error = %crate::error::chain(&error), "failed to remove an evicted tree");
                    }
                }
            }));
        }
    }
}

impl Slot {
    fn new(key: &str) -> Self {
        Self {
            key: key.to_owned(),
            made: tokio::sync::Mutex::new(()),
            size: AtomicU64::new(0),
            users: AtomicUsize::new(0),
            used: AtomicU64::new(0),
        }
    }
}

/// A folder that vanishes unless it was moved into place.
struct Scratch {
    path: PathBuf,
    kept: bool,
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if self.kept {
            return;
        }
        let path = std::mem::take(&mut self.path);
        let remove = move || drop(remove_tree(&path));
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(remove)),
            Err(_) => remove(),
        }
    }
}

/// Removes a folder with all it holds; none there is fine.
pub(crate) fn remove_tree(path: &Path) -> Result<(), Error> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(file("remove", path)(error)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn make(folder: PathBuf, bytes: u64) -> Result<u64, Error> {
        fs::write(folder.join("file"), "x").map_err(file("write", &folder))?;
        Ok(bytes)
    }

    fn names(dir: &Path) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(dir)
            .expect("list")
            .map(|entry| entry.expect("entry").file_name().into_string().expect("name"))
            .filter(|name| !name.ends_with(".json") && name != "tmp" && name != "boot")
            .collect();
        names.sort();
        names
    }

    #[tokio::test]
    async fn made_once_however_many_ask() {
        let dir = tempfile::tempdir().expect("folder");
        let trees = Arc::new(Trees::open(dir.path(), 100).expect("open"));
        let made = Arc::new(AtomicUsize::new(0));
        let asking = (0..16).map(|_| {
            let (trees, made) = (Arc::clone(&trees), Arc::clone(&made));
            async move {
                let acquired = trees.acquire("a", async |folder| {
                    made.fetch_add(1, Ordering::SeqCst);
                    tokio::task::yield_now().await;
                    make(folder, 10).await
                });
                acquired.await.expect("acquired").path().join("file").exists()
            }
        });
        assert!(
            futures_util::future::join_all(asking)
                .await
                .into_iter()
                .all(|there| there)
        );
        assert_eq!((made.load(Ordering::SeqCst), trees.bytes()), (1, 10));
    }

    #[tokio::test]
    async fn the_least_recently_used_goes_and_never_one_in_use() {
        let dir = tempfile::tempdir().expect("folder");
        let trees = Arc::new(Trees::open(dir.path(), 25).expect("open"));
        let a = trees.acquire("a", |folder| make(folder, 10)).await.expect("a");
        drop(trees.acquire("b", |folder| make(folder, 10)).await.expect("b"));
        drop(trees.acquire("c", |folder| make(folder, 10)).await.expect("c"));
        assert_eq!(names(dir.path()), ["a", "c"], "a is older but in use");
        drop(a);
        drop(trees.acquire("a", |folder| make(folder, 10)).await.expect("a"));
        drop(trees.acquire("d", |folder| make(folder, 10)).await.expect("d"));
        assert_eq!(names(dir.path()), ["a", "d"]);
    }

    #[tokio::test]
    async fn a_failure_leaves_nothing_and_the_next_caller_tries_again() {
        let dir = tempfile::tempdir().expect("folder");
        let trees = Arc::new(Trees::open(dir.path(), 25).expect("open"));
        let failed = trees.acquire("a", async |folder| {
            fs::write(folder.join("half"), "x").expect("write");
            Err(Error::ShuttingDown)
        });
        assert!(failed.await.is_err());
        assert!(trees.hold("a").is_none());
        let tree = trees.acquire("a", |folder| make(folder, 10)).await.expect("again");
        assert!(tree.path().join("file").exists() && !tree.path().join("half").exists());
    }

    #[tokio::test]
    async fn the_next_agent_finds_what_is_whole_and_removes_the_rest() {
        let dir = tempfile::tempdir().expect("folder");
        let trees = Arc::new(Trees::open(dir.path(), 100).expect("open"));
        drop(trees.acquire("a", |folder| make(folder, 10)).await.expect("a"));
        drop(trees);
        fs::create_dir(dir.path().join("no-description")).expect("stray");
        fs::write(dir.path().join("no-tree.json"), r#"{"bytes":1}"#).expect("stray");
        fs::create_dir(dir.path().join("tmp/half")).expect("stray");
        let trees = Arc::new(Trees::open(dir.path(), 100).expect("open"));
        assert_eq!((names(dir.path()), trees.bytes()), (vec!["a".to_owned()], 10));
        assert!(trees.hold("a").is_some() && trees.hold("b").is_none());
        assert!(!dir.path().join("tmp/half").exists() && !dir.path().join("no-tree.json").exists());
        drop(trees);
        fs::write(dir.path().join("boot"), "another boot").expect("boot");
        let trees = Trees::open(dir.path(), 100).expect("open");
        assert_eq!(
            (names(dir.path()).len(), trees.bytes()),
            (0, 0),
            "nothing is trusted after a reboot"
        );
    }
}
