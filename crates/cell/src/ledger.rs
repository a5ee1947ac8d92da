//! What this cell has taken on, on disk, written before it acts: how a restarted agent knows its work.
//!
//! One file per piece of work, replaced by rename and flushed, each with a generation that grows with every write.
//! Environments are in it, so nobody but root may read it. Whether a process still lives is not known here: the
//! sandbox says that.

use crate::error::{Error, file};
use model::Timestamp;
use model::id::WorkId;
use model::staging::PhaseTime;
use model::work::{Cause, Wanted, WorkSpec, WorkState};
use serde::{Deserialize, Serialize};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

/// Version of the file's shape; another one is not read.
const FORMAT: u32 = 1;

/// The folder of records. Blocking throughout.
#[derive(Debug)]
pub struct Ledger {
    dir: PathBuf,
}

/// One piece of work as this cell knows it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Record {
    format: u32,
    /// Grows with every write of this record.
    pub generation: u64,
    /// The work.
    pub work: WorkId,
    /// As it was last assigned.
    pub epoch: u64,
    /// What is wanted of it.
    pub wanted: Wanted,
    /// What it is.
    pub spec: WorkSpec,
    /// Where it stands.
    pub state: WorkState,
    /// Since when.
    #[serde(with = "time::serde::rfc3339")]
    pub since: Timestamp,
    /// Why it is being ended, once that is decided.
    #[serde(default)]
    pub ending: Option<Cause>,
    /// Times of its phases.
    #[serde(default)]
    pub phases: Vec<PhaseTime>,
    /// Whether nothing of its sandbox is left.
    #[serde(default)]
    pub cleaned: bool,
}

impl Record {
    /// A record of work that was just assigned.
    #[must_use]
    pub const fn new(work: WorkId, epoch: u64, wanted: Wanted, spec: WorkSpec, now: Timestamp) -> Self {
        Self {
            format: FORMAT,
            generation: 0,
            work,
            epoch,
            wanted,
            spec,
            state: WorkState::Placed,
            since: now,
            ending: None,
            phases: Vec::new(),
            cleaned: false,
        }
    }
}

impl Ledger {
    /// Opens or creates the ledger in `dir`.
    ///
    /// # Errors
    /// The folder can't be created.
    pub fn open(dir: &Path) -> Result<Self, Error> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(dir)
            .map_err(file("create", dir))?;
        Ok(Self { dir: dir.to_owned() })
    }

    /// All records. Files that can't be read are set aside and told in the log: their sandboxes will be swept.
    ///
    /// # Errors
    /// The folder can't be listed.
    pub fn load(&self) -> Result<Vec<Record>, Error> {
        let mut records = Vec::new();
        for entry in fs::read_dir(&self.dir).map_err(file("list", &self.dir))? {
            let path = entry.map_err(file("list", &self.dir))?.path();
            match path.extension().and_then(|extension| extension.to_str()) {
                Some("json") => match read(&path) {
                    Ok(record) => records.push(record),
                    Err(error) => {
                        tracing::error!(path = %path.display(), %error, "failed to read a ledger record, set aside");
                        let _ = fs::rename(&path, path.with_extension("unreadable"));
                    }
                },
                // A write that a crash interrupted: what it was to replace is still there.
                Some("new") => drop(fs::remove_file(&path)),
                _ => {}
            }
        }
        records.sort_by_key(|record| record.work);
        Ok(records)
    }

    /// Writes a record and its next generation. It is on disk when this returns.
    ///
    /// # Errors
    /// The file can't be written; the one before is untouched.
    pub fn write(&self, record: &mut Record) -> Result<(), Error> {
        record.generation += 1;
        let path = self.path(record.work);
        let fresh = path.with_extension("new");
        let text = serde_json::to_vec(record).map_err(|error| file("describe", &path)(error.into()))?;
        OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&fresh)
            .and_then(|mut file| file.write_all(&text).and_then(|()| file.sync_data()))
            .map_err(file("write", &fresh))?;
        fs::rename(&fresh, &path).map_err(file("replace", &path))?;
        self.flush()
    }

    /// Forgets a piece of work; none there is fine.
    ///
    /// # Errors
    /// The file can't be removed.
    pub fn remove(&self, work: WorkId) -> Result<(), Error> {
        let path = self.path(work);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(file("remove", &path)(error)),
            _ => self.flush(),
        }
    }

    fn path(&self, work: WorkId) -> PathBuf {
        self.dir.join(format!("{work}.json"))
    }

    fn flush(&self) -> Result<(), Error> {
        File::open(&self.dir)
            .and_then(|dir| dir.sync_all())
            .map_err(file("flush", &self.dir))
    }
}

fn read(path: &Path) -> io::Result<Record> {
    let record: Record = serde_json::from_slice(&fs::read(path)?)?;
    if record.format == FORMAT {
        return Ok(record);
    }
    Err(io::Error::other(format!("format {} is not {FORMAT}", record.format)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;
    use model::work::Outcome;
    use std::os::unix::fs::PermissionsExt as _;

    fn record(n: u128) -> Record {
        let mut spec = testing::instance_spec();
        spec.env.set("PASSWORD", "hunter2");
        Record::new(testing::work(n), 3, Wanted::Run, spec, Timestamp::UNIX_EPOCH)
    }

    #[test]
    fn what_was_written_is_read_with_its_secrets_and_only_by_root() {
        let dir = tempfile::tempdir().expect("folder");
        let ledger = Ledger::open(&dir.path().join("ledger")).expect("open");
        let mut one = record(1);
        ledger.write(&mut one).expect("write");
        one.state = WorkState::Exited(Outcome {
            cause: Cause::Exited { code: 7 },
            at: Timestamp::UNIX_EPOCH,
            build: None,
        });
        one.ending = Some(Cause::Stopped { killed: true });
        ledger.write(&mut one).expect("write");
        ledger.write(&mut record(2)).expect("write");
        let loaded = Ledger::open(&dir.path().join("ledger"))
            .expect("open")
            .load()
            .expect("load");
        assert_eq!(loaded.len(), 2);
        assert_eq!((loaded[0].generation, &loaded[0].state), (2, &one.state));
        assert_eq!((loaded[0].epoch, loaded[0].ending.clone()), (3, one.ending));
        let env: Vec<_> = loaded[0].spec.env.expose().collect();
        assert_eq!(env, [("PASSWORD", "hunter2")]);
        let file = dir.path().join("ledger").join(format!("{}.json", testing::work(1)));
        assert_eq!(fs::metadata(file).expect("file").permissions().mode() & 0o777, 0o600);
        let folder = fs::metadata(dir.path().join("ledger")).expect("folder");
        assert_eq!(folder.permissions().mode() & 0o777, 0o700);
    }

    #[test]
    fn a_crash_at_any_byte_of_a_write_keeps_the_record_before() {
        let dir = tempfile::tempdir().expect("folder");
        let ledger = Ledger::open(dir.path()).expect("open");
        let mut one = record(1);
        ledger.write(&mut one).expect("write");
        one.generation = 9;
        let text = serde_json::to_vec(&one).expect("text");
        let half = dir.path().join(format!("{}.new", one.work));
        for cut in [0, 1, text.len() / 2, text.len() - 1, text.len()] {
            fs::write(&half, &text[..cut]).expect("half a write");
            let loaded = ledger.load().expect("load");
            assert_eq!((loaded.len(), loaded[0].generation), (1, 1), "cut at {cut}");
            assert!(!half.exists(), "cut at {cut}");
        }
    }

    #[test]
    fn damage_is_set_aside_and_removal_is_idempotent() {
        let dir = tempfile::tempdir().expect("folder");
        let ledger = Ledger::open(dir.path()).expect("open");
        ledger.write(&mut record(1)).expect("write");
        fs::write(dir.path().join("damaged.json"), "{").expect("damage");
        let newer = fs::read_to_string(dir.path().join(format!("{}.json", testing::work(1)))).expect("read");
        fs::write(
            dir.path().join("newer.json"),
            newer.replace("\"format\":1", "\"format\":2"),
        )
        .expect("newer");
        assert_eq!(ledger.load().expect("load").len(), 1);
        assert!(dir.path().join("damaged.unreadable").exists() && dir.path().join("newer.unreadable").exists());
        ledger.remove(testing::work(1)).expect("remove");
        ledger.remove(testing::work(1)).expect("again");
        assert!(ledger.load().expect("load").is_empty());
    }
}
