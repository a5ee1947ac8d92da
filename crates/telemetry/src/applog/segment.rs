//! One file of an app's log: its name, what it holds, reading it. Which segments there are is `app`'s.

use super::{Error, failed};
use crate::Envelope;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

/// Most bytes read at once; longer than any frame.
const CHUNK: u64 = 512 << 10;

/// What is known of a segment without reading it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Segment {
    pub number: u64,
    pub bytes: u64,
    pub lines: u64,
    /// Earliest and latest time; `first_ns > last_ns` where there is no line.
    pub first_ns: i64,
    pub last_ns: i64,
    pub sealed: bool,
}

impl Segment {
    pub const fn new(number: u64) -> Self {
        Self {
            number,
            bytes: 0,
            lines: 0,
            first_ns: i64::MAX,
            last_ns: i64::MIN,
            sealed: false,
        }
    }

    /// Counts a line of `bytes` bytes.
    pub fn add(&mut self, envelope: &Envelope, bytes: u64) {
        self.bytes += bytes;
        self.lines += 1;
        self.first_ns = self.first_ns.min(envelope.ts_ns);
        self.last_ns = self.last_ns.max(envelope.ts_ns);
    }

    /// Its file in the app's folder.
    pub fn file(&self, folder: &Path) -> PathBuf {
        let Self {
            number,
            first_ns,
            last_ns,
            lines,
            ..
        } = self;
        if self.sealed {
            folder.join(format!("{number:010}_{first_ns}_{last_ns}_{lines}.log"))
        } else {
            folder.join(format!("{number:010}.open"))
        }
    }

    /// What a file's name says, `None` where it is not a segment. An open one's lines are still to be counted.
    pub fn parse(name: &str, bytes: u64) -> Option<Self> {
        if let Some(number) = name.strip_suffix(".open") {
            return Some(Self {
                bytes,
                ..Self::new(number.parse().ok()?)
            });
        }
        let mut parts = name.strip_suffix(".log")?.split('_');
        let segment = Self {
            number: parts.next()?.parse().ok()?,
            first_ns: parts.next()?.parse().ok()?,
            last_ns: parts.next()?.parse().ok()?,
            lines: parts.next()?.parse().ok()?,
            bytes,
            sealed: true,
        };
        parts.next().is_none().then_some(segment)
    }

    /// Whether it may hold a line of `start_ns..end_ns`.
    pub const fn overlaps(&self, start_ns: i64, end_ns: i64) -> bool {
        self.lines > 0 && self.first_ns < end_ns && self.last_ns >= start_ns
    }

    /// Reads an open segment that a crash may have left: counts its lines and cuts off what is no line. Says whether
    /// there was something to cut off.
    pub fn recover(&mut self, folder: &Path) -> Result<bool, Error> {
        let path = self.file(folder);
        let file = File::options()
            .read(true)
            .write(true)
            .open(&path)
            .map_err(failed("open", &path))?;
        let length = file.metadata().map_err(failed("read", &path))?.len();
        let mut found = Self::new(self.number);
        let end = scan(&file, 0, length, u64::MAX, |envelope, bytes| {
            found.add(&envelope, bytes)
        });
        let end = end.map_err(failed("read", &path))?;
        if end < length {
            file.set_len(end).map_err(failed("repair", &path))?;
        }
        *self = found;
        Ok(end < length)
    }
}

/// Reads the lines of `file` between `offset` and `length`, until about `budget` bytes were read, and says where the
/// next one starts. Damage ends the segment early.
pub(super) fn scan(
    file: &File,
    mut offset: u64,
    length: u64,
    budget: u64,
    mut each: impl FnMut(Envelope, u64),
) -> io::Result<u64> {
    let stop = offset.saturating_add(budget);
    let mut chunk = Vec::new();
    while offset < length.min(stop) {
        let wanted = usize::try_from((length - offset).min(CHUNK)).unwrap_or(usize::MAX);
        chunk.resize(wanted, 0);
        file.read_exact_at(&mut chunk, offset)?;
        let start = offset;
        while offset < stop
            && let Ok(Some((envelope, taken))) = Envelope::decode(&chunk[(offset - start) as usize..])
        {
            offset += taken as u64;
            each(envelope, taken as u64);
        }
        if offset == start {
            break;
        }
    }
    Ok(offset)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_read_back() {
        let folder = Path::new("x");
        let mut segment = Segment::new(7);
        for sealed in [false, true] {
            segment = Segment { sealed, ..segment };
            if sealed {
                segment = Segment {
                    first_ns: -5,
                    last_ns: 9,
                    lines: 3,
                    bytes: 10,
                    ..segment
                };
            }
            let path = segment.file(folder);
            let name = path.file_name().unwrap().to_str().unwrap();
            assert_eq!(Segment::parse(name, segment.bytes).unwrap(), segment, "{name}");
        }
        for name in ["", "x.open", "1_2_3.log", "1_2_3_4_5.log", "1_2_3_4.tmp"] {
            assert_eq!(Segment::parse(name, 0), None, "{name}");
        }
    }
}
