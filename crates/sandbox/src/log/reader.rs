//! Reads records from a mark that the caller keeps; safe while init writes and deletes.

use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{segment_name, segment_number};
use crate::record::open_plain;

/// A mark in the log: everything before it has been read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Position {
    /// Segment number; 0 is before the first.
    pub segment: u64,
    /// Byte offset in it.
    pub offset: u64,
}

/// Where a record came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Out,
    /// Standard error.
    Err,
    /// The platform itself.
    System,
    /// A process beside the app's: which one in [`crate::Spec::sidecars`], and whether it was standard error.
    Sidecar(u8, bool),
}

/// Tags of the first sidecar's streams in the segments; those of the others follow.
pub(crate) const SIDECAR_TAGS: [u8; 2] = *b"ai";

/// One line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// When it was read from the app, unix nanoseconds.
    pub unix_ns: u64,
    /// From where.
    pub stream: Stream,
    /// The line without its end; any bytes but `\n`.
    pub payload: Vec<u8>,
}

/// What one call to [`Reader::read`] found.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    /// Records in order.
    pub records: Vec<Record>,
    /// The mark behind the last of them.
    pub next: Position,
    /// Whether segments between the mark given and the first record had been deleted.
    pub gap: bool,
}

/// Reads the log folder of one sandbox, alive, dead or already gone.
#[derive(Clone, Debug)]
pub struct Reader {
    dir: PathBuf,
}

impl Reader {
    /// For the log folder `dir` (`<state>/sandboxes/<id>/log`).
    pub fn new(dir: impl Into<PathBuf>) -> Reader {
        Reader { dir: dir.into() }
    }

    /// The folder, for a watch.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Complete records from `from` on, until about `max_bytes` of them; empty when there is
    /// nothing new. A missing folder reads as empty.
    pub fn read(&self, from: Position, max_bytes: usize) -> io::Result<Batch> {
        let segments = self.segments()?;
        let mut batch = Batch {
            next: from,
            ..Batch::default()
        };
        let mut taken = 0;
        for &segment in segments.iter().filter(|&&s| s >= from.segment) {
            let left = batch.next.segment;
            if segment != left {
                batch.gap |= segment != left + 1 || left != 0 && !segments.contains(&left);
                batch.next = Position { segment, offset: 0 };
            }
            let (bytes, at_end) = self.read_segment(&mut batch, max_bytes.saturating_sub(taken))?;
            taken += bytes;
            if taken >= max_bytes || !at_end {
                break;
            }
        }
        Ok(batch)
    }

    /// The newest `count` records, oldest first, reading backwards at most 4 segments.
    pub fn tail(&self, count: usize) -> io::Result<Vec<Record>> {
        let mut records: Vec<Record> = Vec::new();
        for &segment in self.segments()?.iter().rev().take(4) {
            let mut batch = Batch {
                next: Position { segment, offset: 0 },
                ..Batch::default()
            };
            self.read_segment(&mut batch, usize::MAX)?;
            batch.records.append(&mut records);
            records = batch.records;
            if records.len() >= count {
                break;
            }
        }
        let surplus = records.len().saturating_sub(count);
        records.drain(..surplus);
        Ok(records)
    }

    fn segments(&self) -> io::Result<Vec<u64>> {
        let entries = match std::fs::read_dir(&self.dir) {
            Ok(entries) => entries,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(e) => return Err(e),
        };
        let mut numbers = Vec::new();
        for entry in entries {
            numbers.extend(entry?.file_name().to_str().and_then(segment_number));
        }
        numbers.sort_unstable();
        Ok(numbers)
    }

    /// Appends the complete records after `batch.next`; returns the bytes they took and
    /// whether the segment holds no more for now.
    fn read_segment(&self, batch: &mut Batch, max_bytes: usize) -> io::Result<(usize, bool)> {
        let mut file = match open_plain(&self.dir.join(segment_name(batch.next.segment))) {
            Ok(file) => file,
            // Deleted since the folder was listed: the next segment goes on.
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                batch.gap = true;
                return Ok((0, true));
            }
            Err(e) => return Err(e),
        };
        file.seek(SeekFrom::Start(batch.next.offset))?;
        // One record always fits, however small the caller's limit.
        let limit = max_bytes.max(crate::MAX_LINE + 64) as u64;
        let mut bytes = Vec::new();
        file.by_ref().take(limit).read_to_end(&mut bytes)?;
        let complete = bytes.iter().rposition(|&b| b == b'\n').map_or(0, |at| at + 1);
        for line in bytes[..complete].split_inclusive(|&b| b == b'\n') {
            batch.records.extend(parse(&line[..line.len() - 1]));
        }
        batch.next.offset += complete as u64;
        Ok((complete, (bytes.len() as u64) < limit))
    }
}

/// A record from its line; `None` for what no init writes.
fn parse(line: &[u8]) -> Option<Record> {
    let space = line.iter().position(|&b| b == b' ')?;
    let unix_ns = std::str::from_utf8(&line[..space]).ok()?.parse().ok()?;
    let (stream, rest) = line[space + 1..].split_first()?;
    let stream = match stream {
        b'O' => Stream::Out,
        b'E' => Stream::Err,
        b'S' => Stream::System,
        b'a'..=b'h' => Stream::Sidecar(stream - SIDECAR_TAGS[0], false),
        b'i'..=b'p' => Stream::Sidecar(stream - SIDECAR_TAGS[1], true),
        _ => return None,
    };
    let payload = rest.strip_prefix(b" ")?.to_vec();
    Some(Record {
        unix_ns,
        stream,
        payload,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(dir: &Path, segment: u64, text: &str) {
        std::fs::write(dir.join(segment_name(segment)), text).unwrap();
    }

    #[test]
    fn reads_on_over_segments_and_leaves_incomplete_lines() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), 1, "5 O one\n6 E two\n");
        write(dir.path(), 2, "7 S three\n8 O fo");
        let reader = Reader::new(dir.path());
        let batch = reader.read(Position::default(), 1 << 20).unwrap();
        let lines: Vec<_> = batch.records.iter().map(|r| r.payload.as_slice()).collect();
        assert_eq!(lines, [b"one".as_slice(), b"two", b"three"]);
        assert_eq!(batch.next, Position { segment: 2, offset: 10 });
        assert!(!batch.gap);

        write(dir.path(), 2, "7 S three\n8 O four\n");
        let batch = reader.read(batch.next, 1 << 20).unwrap();
        assert_eq!(batch.records.len(), 1);
        assert_eq!(batch.records[0].payload, b"four");
        assert!(reader.read(batch.next, 1 << 20).unwrap().records.is_empty());
    }

    #[test]
    fn nothing_is_read_through_a_link() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("host"), "1 O secret\n").unwrap();
        std::os::unix::fs::symlink(dir.path().join("host"), dir.path().join(segment_name(1))).unwrap();
        assert!(Reader::new(dir.path()).read(Position::default(), 100).is_err());
    }

    #[test]
    fn a_deleted_segment_is_a_gap_and_reading_goes_on() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), 4, "5 O late\n");
        let batch = Reader::new(dir.path())
            .read(Position { segment: 2, offset: 3 }, 100)
            .unwrap();
        assert!(batch.gap);
        assert_eq!(batch.records[0].payload, b"late");
    }

    #[test]
    fn tail_counts_back_over_segments() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), 1, "1 O a\n2 O b\n");
        write(dir.path(), 2, "3 O c\n");
        let tail = Reader::new(dir.path()).tail(2).unwrap();
        assert_eq!(tail.iter().map(|r| r.unix_ns).collect::<Vec<_>>(), [2, 3]);
    }

    #[test]
    fn nonsense_and_missing_folders_are_no_error() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), 1, "hello\n\n1 Q x\n9 O ok\n");
        let batch = Reader::new(dir.path()).read(Position::default(), 10).unwrap();
        assert_eq!(batch.records.len(), 1);
        assert!(!batch.gap);
        let none = Reader::new(dir.path().join("none"))
            .read(Position::default(), 10)
            .unwrap();
        assert!(none.records.is_empty());
    }
}
