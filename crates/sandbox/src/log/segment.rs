//! Writes segments through a folder descriptor: appends whole records, starts a new
//! segment when one is full, deletes the oldest beyond what is kept.

use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;

use rustix::fs::{AtFlags, Mode, OFlags};

use super::{SEGMENT_BYTES, segment_name};

/// The open end of a log.
#[derive(Debug)]
pub struct Segments {
    dir: OwnedFd,
    current: Option<OwnedFd>,
    number: u64,
    size: u64,
    segment_bytes: u64,
    keep_bytes: u64,
    older: VecDeque<(u64, u64)>,
    older_bytes: u64,
}

impl Segments {
    /// A new, empty log in the folder `dir`.
    pub fn new(dir: OwnedFd, keep_bytes: u64) -> Segments {
        // At least a quarter of what is kept survives every deletion.
        let segment_bytes = (keep_bytes / 4).clamp(128 << 10, SEGMENT_BYTES);
        Segments {
            dir,
            current: None,
            number: 0,
            size: 0,
            segment_bytes,
            keep_bytes,
            older: VecDeque::new(),
            older_bytes: 0,
        }
    }

    /// Appends `records`: complete records, together no larger than a segment.
    pub fn append(&mut self, records: &[u8]) -> io::Result<()> {
        if self.current.is_none() || self.size + records.len() as u64 > self.segment_bytes {
            self.rotate()?;
        }
        let Some(file) = &self.current else {
            return Err(io::ErrorKind::NotFound.into());
        };
        let mut rest = records;
        while !rest.is_empty() {
            match rustix::io::write(file, rest) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(n) => rest = &rest[n..],
                Err(rustix::io::Errno::INTR) => {}
                Err(e) => {
                    // Half a record must not run into the next one.
                    let _ = rustix::fs::ftruncate(file, self.size);
                    return Err(e.into());
                }
            }
        }
        self.size += records.len() as u64;
        Ok(())
    }

    fn rotate(&mut self) -> io::Result<()> {
        let name = segment_name(self.number + 1);
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::APPEND | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&self.dir, &name, flags, Mode::from_raw_mode(0o644))?;
        if self.current.is_some() {
            self.older.push_back((self.number, self.size));
            self.older_bytes += self.size;
        }
        self.current = Some(file);
        self.number += 1;
        self.size = 0;
        while self.older_bytes + self.segment_bytes > self.keep_bytes {
            let Some((number, size)) = self.older.pop_front() else {
                break;
            };
            self.older_bytes -= size;
            let _ = rustix::fs::unlinkat(&self.dir, segment_name(number), AtFlags::empty());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(dir: &std::path::Path) -> OwnedFd {
        std::fs::File::open(dir).unwrap().into()
    }

    #[test]
    fn rotates_by_size_and_deletes_the_oldest() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = Segments::new(open(dir.path()), 512 << 10);
        let record = vec![b'x'; 64 << 10];
        for _ in 0..40 {
            log.append(&record).unwrap();
        }
        let mut names: Vec<_> = std::fs::read_dir(dir.path())
            .unwrap()
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        assert_eq!(names.last().unwrap(), &segment_name(20));
        let total: u64 = names.iter().map(|n| dir.path().join(n).metadata().unwrap().len()).sum();
        assert!((256 << 10..=512 << 10).contains(&total), "{total}");
    }

    #[test]
    fn keeps_the_current_segment_whatever_the_limit() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = Segments::new(open(dir.path()), 0);
        log.append(b"1 O x\n").unwrap();
        log.append(b"1 O y\n").unwrap();
        assert_eq!(
            std::fs::read(dir.path().join(segment_name(1))).unwrap(),
            b"1 O x\n1 O y\n"
        );
    }
}
