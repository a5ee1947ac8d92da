//! Reads the figures of one sandbox's groups again and again at little cost: descriptors are
//! kept open, nothing is allocated.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use super::device;
use crate::{IoUsage, Stall, Stats};

/// Largest file of figures that is read.
pub const BUFFER_BYTES: usize = 16 << 10;

/// Takes the figures in a file's text into the statistics.
pub type Take = fn(&mut Stats, &str);

/// A file of figures. Those that a kernel does not have are left out of the statistics.
#[derive(Debug)]
pub struct Figure {
    path: PathBuf,
    take: Take,
    /// Whether a group without this file is gone.
    needed: bool,
    file: Option<File>,
}

impl Figure {
    pub fn new(path: PathBuf, take: Take) -> Figure {
        Figure {
            path,
            take,
            needed: false,
            file: None,
        }
    }

    pub fn needed(path: PathBuf, take: Take) -> Figure {
        Figure {
            needed: true,
            ..Figure::new(path, take)
        }
    }
}

/// See the module.
#[derive(Debug)]
pub struct Meter {
    figures: Vec<Figure>,
    keep: bool,
}

impl Meter {
    /// With descriptors kept open between readings if `keep`.
    pub fn new(figures: Vec<Figure>, keep: bool) -> Meter {
        Meter { figures, keep }
    }

    /// The present figures; an error if the groups are gone.
    pub fn read(&mut self, buffer: &mut [u8; BUFFER_BYTES]) -> io::Result<Stats> {
        let mut stats = Stats::default();
        for figure in &mut self.figures {
            match figure.read(buffer, self.keep) {
                Ok(text) => (figure.take)(&mut stats, text),
                Err(error) if figure.needed => return Err(error),
                Err(_absent) => {}
            }
        }
        Ok(stats)
    }
}

impl Figure {
    fn read<'a>(&mut self, buffer: &'a mut [u8; BUFFER_BYTES], keep: bool) -> io::Result<&'a str> {
        let length = match &self.file {
            Some(file) => file.read_at(buffer, 0)?,
            None => {
                let file = File::open(&self.path)?;
                let length = file.read_at(buffer, 0)?;
                if keep {
                    self.file = Some(file);
                }
                length
            }
        };
        Ok(std::str::from_utf8(&buffer[..length]).unwrap_or(""))
    }
}

/// The number in a text of one number.
pub fn number(text: &str) -> u64 {
    text.trim().parse().unwrap_or(0)
}

/// Pressure of one resource: lines `some avg10=0.00 avg60=0.00 avg300=0.00 total=0` and `full …`.
pub fn stall(text: &str) -> Stall {
    let mut stall = Stall::default();
    for line in text.lines() {
        let mut words = line.split(' ');
        let kind = words.next().unwrap_or("");
        let (mut average, mut total) = (0.0, 0);
        for word in words {
            if let Some(value) = word.strip_prefix("avg10=") {
                average = value.parse().unwrap_or(0.0);
            } else if let Some(value) = word.strip_prefix("total=") {
                total = value.parse().unwrap_or(0);
            }
        }
        match kind {
            "some" => (stall.some_avg10, stall.some_usec) = (average, total),
            "full" => (stall.full_avg10, stall.full_usec) = (average, total),
            _ => {}
        }
    }
    stall
}

/// The part of pressure that `text` is about.
pub fn take_cpu_pressure(stats: &mut Stats, text: &str) {
    stats.pressure.get_or_insert_default().cpu = stall(text);
}

/// As [`take_cpu_pressure`].
pub fn take_memory_pressure(stats: &mut Stats, text: &str) {
    stats.pressure.get_or_insert_default().memory = stall(text);
}

/// As [`take_cpu_pressure`].
pub fn take_io_pressure(stats: &mut Stats, text: &str) {
    stats.pressure.get_or_insert_default().io = stall(text);
}

/// Sums per device, those of loop devices apart: what goes through a loop device shows up again
/// at the disk below it, unless the kernel has not written it out yet.
#[derive(Default)]
pub struct PerDevice {
    loops: IoUsage,
    disks: IoUsage,
}

impl PerDevice {
    /// The sums of `device` (`major:minor`).
    pub fn of(&mut self, device: &str) -> &mut IoUsage {
        if device::is_loop(device) {
            &mut self.loops
        } else {
            &mut self.disks
        }
    }

    /// Each byte once.
    pub fn total(&self) -> IoUsage {
        IoUsage {
            read_bytes: self.loops.read_bytes.max(self.disks.read_bytes),
            write_bytes: self.loops.write_bytes.max(self.disks.write_bytes),
            reads: self.loops.reads.max(self.disks.reads),
            writes: self.loops.writes.max(self.disks.writes),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pressure_is_read() {
        let text =
            "some avg10=1.53 avg60=0.87 avg300=0.21 total=1234\nfull avg10=0.02 avg60=0.00 avg300=0.00 total=56\n";
        let read = stall(text);
        assert_eq!((read.some_avg10, read.some_usec), (1.53, 1234));
        assert_eq!((read.full_avg10, read.full_usec), (0.02, 56));
        assert_eq!(stall("some"), Stall::default());
    }

    #[test]
    fn what_passes_a_loop_device_is_counted_once() {
        let mut sums = PerDevice::default();
        sums.of("7:1").write_bytes += 100;
        sums.of("254:0").write_bytes += 60;
        sums.of("254:0").read_bytes += 7;
        assert_eq!((sums.total().write_bytes, sums.total().read_bytes), (100, 7));
    }

    #[test]
    fn figures_are_optional_but_for_the_needed_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("used");
        let take: Take = |stats, text| stats.memory_bytes = number(text);
        let mut buffer = [0; BUFFER_BYTES];
        let figures = |path: &PathBuf| {
            vec![
                Figure::needed(path.clone(), take),
                Figure::new("/nowhere".into(), |stats, _| stats.pids = 1),
            ]
        };
        assert!(Meter::new(figures(&path), true).read(&mut buffer).is_err());
        std::fs::write(&path, "12\n").unwrap();
        let mut meter = Meter::new(figures(&path), true);
        let first = meter.read(&mut buffer).unwrap();
        std::fs::write(&path, "345\n").unwrap();
        let second = meter.read(&mut buffer).unwrap();
        assert_eq!((first.memory_bytes, second.memory_bytes, second.pids), (12, 345, 0));
        std::fs::remove_file(&path).unwrap();
        assert_eq!(meter.read(&mut buffer).unwrap().memory_bytes, 345, "it is kept open");
    }
}
