//! One piece of work's log: where it is read, how far it was shipped, and what its lines look like to the controller.

use crate::error::{Error, file};
use api::cell::LogLine;
use model::id::{AppId, WorkId};
use sandbox::log::{Batch, Position, Reader, Record, Stream};
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::fs;
use std::path::{Path, PathBuf};

/// Bytes of one work's log that one batch takes.
pub(super) const READ_BYTES: usize = 256 << 10;
/// Lines of the platform that wait; older ones give way.
const MAX_NOTES: usize = 64;
/// Source of lines by the platform.
const PLATFORM: &str = "CELL";

/// Whose lines they are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Source {
    /// The work.
    pub work: WorkId,
    /// The app.
    pub app: AppId,
    /// Such as `APP/PROC/WEB`.
    pub source_type: String,
    /// Instance index.
    pub instance: String,
    /// Such as `APP/PROC/WEB/SIDECAR/AGENT`, one for each process beside it, in order.
    #[serde(default)]
    pub sidecars: Vec<String>,
}

/// What is kept on disk of a follower.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Mark {
    pub source: Source,
    /// Everything before it was taken by the controller.
    pub position: Position,
    /// Timestamp of the last line that was taken.
    pub last_ns: i64,
}

/// A log that is being shipped.
#[derive(Debug)]
pub(super) struct Follower {
    pub mark: Mark,
    reader: Reader,
    /// Lines of the platform with their time.
    notes: VecDeque<(i64, String)>,
    /// Whether nothing more will be written.
    pub ended: bool,
}

/// Lines that were read, and the mark for when they have been taken.
#[derive(Debug)]
pub(super) struct Portion {
    pub lines: Vec<LogLine>,
    pub mark: Mark,
    /// Notes among the lines.
    notes: usize,
}

impl Follower {
    pub(super) fn new(mark: Mark, dir: PathBuf, ended: bool) -> Self {
        Self {
            mark,
            reader: Reader::new(dir),
            notes: VecDeque::new(),
            ended,
        }
    }

    /// Goes on reading at `dir`, where the folder is now.
    pub(super) fn moved(&mut self, dir: PathBuf) {
        self.reader = Reader::new(dir);
        self.ended = true;
    }

    /// Adds a line of the platform.
    pub(super) fn note(&mut self, now_ns: i64, text: String) {
        if self.notes.len() == MAX_NOTES {
            self.notes.pop_front();
        }
        self.notes.push_back((now_ns, text));
    }

    /// What comes next; nothing where all has been read. Blocking, briefly.
    pub(super) fn read(&self) -> Result<Portion, Error> {
        let batch = self
            .reader
            .read(self.mark.position, READ_BYTES)
            .map_err(file("read the log in", self.reader.dir()))?;
        Ok(self.portion(batch))
    }

    /// Notes that `portion` has been taken.
    pub(super) fn taken(&mut self, portion: &Portion) {
        self.mark = portion.mark.clone();
        self.notes.drain(..portion.notes.min(self.notes.len()));
    }

    /// Merges records and notes by time. Timestamps strictly grow, also past the lines that were taken before.
    fn portion(&self, batch: Batch) -> Portion {
        let mut mark = self.mark.clone();
        let mut lines = Vec::with_capacity(batch.records.len() + self.notes.len() + 1);
        if batch.gap {
            let text = "some lines are missing here: they were written faster than they could be kept";
            let ts = batch
                .records
                .first()
                .map_or(mark.last_ns, |record| time(record.unix_ns));
            lines.push(line(&mut mark, ts, PLATFORM, true, text.to_owned()));
        }
        let mut notes = self.notes.iter().peekable();
        for record in &batch.records {
            while let Some((ts, text)) = notes.next_if(|(ts, _)| *ts < time(record.unix_ns)) {
                lines.push(line(&mut mark, *ts, PLATFORM, false, text.clone()));
            }
            lines.push(self.record(&mut mark, record));
        }
        for (ts, text) in notes {
            lines.push(line(&mut mark, *ts, PLATFORM, false, text.clone()));
        }
        mark.position = batch.next;
        Portion {
            lines,
            mark,
            notes: self.notes.len(),
        }
    }

    fn record(&self, mark: &mut Mark, record: &Record) -> LogLine {
        let text = String::from_utf8_lossy(&record.payload).into_owned();
        let own = self.mark.source.source_type.as_str();
        let (source, err) = match record.stream {
            Stream::Out => (own, false),
            Stream::Err => (own, true),
            Stream::System => (PLATFORM, true),
            Stream::Sidecar(at, err) => {
                let sidecar = self.mark.source.sidecars.get(usize::from(at));
                (sidecar.map_or(own, String::as_str), err)
            }
        };
        line(mark, time(record.unix_ns), source, err, text)
    }
}

fn time(unix_ns: u64) -> i64 {
    i64::try_from(unix_ns).unwrap_or(i64::MAX)
}

fn line(mark: &mut Mark, ts_ns: i64, source_type: &str, err: bool, text: String) -> LogLine {
    mark.last_ns = ts_ns.max(mark.last_ns.saturating_add(1));
    LogLine {
        work: mark.source.work,
        app: mark.source.app,
        ts_ns: mark.last_ns,
        source_type: source_type.to_owned(),
        instance: mark.source.instance.clone(),
        err,
        text,
    }
}

/// Marks on disk: `<dir>/<work>.json`, and `<dir>/<work>/` for the folder of a sandbox that is gone.
#[derive(Debug, Clone)]
pub(super) struct Marks {
    dir: PathBuf,
}

impl Marks {
    pub(super) fn open(dir: &Path) -> Result<Self, Error> {
        fs::create_dir_all(dir).map_err(file("create", dir))?;
        Ok(Self { dir: dir.to_owned() })
    }

    /// Where the folder of a sandbox that is gone lies.
    pub(super) fn tail(&self, work: WorkId) -> PathBuf {
        self.dir.join(work.to_string())
    }

    fn path(&self, work: WorkId) -> PathBuf {
        self.dir.join(format!("{work}.json"))
    }

    pub(super) fn read(&self, work: WorkId) -> Option<Mark> {
        serde_json::from_slice(&fs::read(self.path(work)).ok()?).ok()
    }

    /// All marks, in no order.
    pub(super) fn all(&self) -> Vec<Mark> {
        let entries = fs::read_dir(&self.dir).into_iter().flatten().filter_map(Result::ok);
        entries
            .filter_map(|entry| {
                let name = entry.file_name().into_string().ok()?;
                self.read(name.strip_suffix(".json")?.parse().ok()?)
            })
            .collect()
    }

    pub(super) fn write(&self, mark: &Mark) -> Result<(), Error> {
        let path = self.path(mark.source.work);
        let fresh = path.with_extension("new");
        let text = serde_json::to_vec(mark).map_err(|error| file("describe", &path)(error.into()))?;
        fs::write(&fresh, text)
            .and_then(|()| fs::rename(&fresh, &path))
            .map_err(file("write", &path))
    }

    pub(super) fn remove(&self, work: WorkId) -> Result<(), Error> {
        crate::cache::remove_tree(&self.tail(work))?;
        match fs::remove_file(self.path(work)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(file("remove", &self.path(work))(error)),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;
    use uuid::Uuid;

    fn mark() -> Mark {
        Mark {
            source: Source {
                work: testing::work(1),
                app: AppId(Uuid::from_u128(2)),
                source_type: "APP/PROC/WEB".to_owned(),
                instance: "3".to_owned(),
                sidecars: Vec::new(),
            },
            position: Position::default(),
            last_ns: 0,
        }
    }

    fn follower(segments: &[(u64, &str)]) -> (tempfile::TempDir, Follower) {
        let dir = tempfile::tempdir().expect("folder");
        for (number, text) in segments {
            fs::write(dir.path().join(format!("{number:010}.log")), text).expect("segment");
        }
        let path = dir.path().to_owned();
        (dir, Follower::new(mark(), path, false))
    }

    fn shown(portion: &Portion) -> Vec<(i64, &str, bool, &str)> {
        let lines = portion.lines.iter();
        lines
            .map(|line| (line.ts_ns, line.source_type.as_str(), line.err, line.text.as_str()))
            .collect()
    }

    #[test]
    fn records_and_notes_come_in_the_order_of_time_with_growing_timestamps() {
        let (_dir, mut follower) = follower(&[(1, "10 O a\n10 E b\n9 O c\n30 S limit\n")]);
        follower.note(20, "healthy".to_owned());
        follower.note(40, "bye".to_owned());
        let portion = follower.read().expect("read");
        assert_eq!(
            shown(&portion),
            [
                (10, "APP/PROC/WEB", false, "a"),
                (11, "APP/PROC/WEB", true, "b"),
                (12, "APP/PROC/WEB", false, "c"),
                (20, "CELL", false, "healthy"),
                (30, "CELL", true, "limit"),
                (40, "CELL", false, "bye"),
            ]
        );
        assert_eq!(portion.lines[0].instance, "3");
        follower.taken(&portion);
        assert!(follower.read().expect("read").lines.is_empty());
    }

    #[test]
    fn what_was_not_taken_comes_again_with_the_same_times() {
        let (dir, mut follower) = follower(&[(1, "10 O a\n10 O b\n")]);
        let first = follower.read().expect("read");
        assert_eq!(shown(&first), shown(&follower.read().expect("read")));
        follower.taken(&first);
        fs::write(dir.path().join("0000000001.log"), "10 O a\n10 O b\n5 O c\nhalf").expect("more");
        let again = Follower::new(follower.mark.clone(), dir.path().to_owned(), false);
        let next = again.read().expect("read");
        assert_eq!(
            shown(&next),
            [(12, "APP/PROC/WEB", false, "c")],
            "after the restart of the agent too"
        );
    }

    #[test]
    fn a_gap_is_told() {
        let (dir, mut follower) = follower(&[(1, "10 O a\n")]);
        let portion = follower.read().expect("read");
        follower.taken(&portion);
        fs::remove_file(dir.path().join("0000000001.log")).expect("dropped");
        fs::write(dir.path().join("0000000004.log"), "50 O d\n").expect("segment");
        let portion = follower.read().expect("read");
        let lines = shown(&portion);
        assert_eq!(
            (lines.len(), lines[0].1, lines[1]),
            (2, "CELL", (51, "APP/PROC/WEB", false, "d"))
        );
    }

    #[test]
    fn what_is_no_text_is_replaced_and_a_missing_folder_is_empty() {
        let (dir, follower) = follower(&[]);
        fs::write(dir.path().join("0000000001.log"), b"1 O a\xffb\n").expect("segment");
        assert_eq!(follower.read().expect("read").lines[0].text, "a\u{fffd}b");
        let gone = Follower::new(mark(), dir.path().join("gone"), true);
        assert!(gone.read().expect("read").lines.is_empty());
    }

    #[test]
    fn marks_are_kept() {
        let dir = tempfile::tempdir().expect("folder");
        let marks = Marks::open(&dir.path().join("logs")).expect("open");
        let mut mark = mark();
        mark.last_ns = 7;
        marks.write(&mark).expect("write");
        assert_eq!(marks.read(testing::work(1)).expect("there").last_ns, 7);
        assert_eq!(marks.all().len(), 1);
        marks.remove(testing::work(1)).expect("remove");
        marks.remove(testing::work(1)).expect("again");
        assert!(marks.all().is_empty());
    }
}
