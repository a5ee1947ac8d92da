//! The disks that limits of I/O are for: the one that a file is on and, if that is a loop
//! device, the one below it.

use std::fmt;
use std::os::fd::BorrowedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The kernel's number for loop devices.
const LOOP_MAJOR: u32 = 7;
/// Loop devices over loop devices end somewhere.
const DEPTH: usize = 4;

/// A whole disk, as control groups name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Device {
    major: u32,
    minor: u32,
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.major, self.minor)
    }
}

impl Device {
    fn of(number: u64) -> Device {
        Device {
            major: rustix::fs::major(number),
            minor: rustix::fs::minor(number),
        }
    }

    fn sys(self) -> PathBuf {
        PathBuf::from(format!("/sys/dev/block/{self}"))
    }

    /// The disk of a partition; itself if it is one. `None` for what is no disk at all.
    fn disk(self) -> Option<Device> {
        let sys = self.sys();
        if sys.join("partition").exists() {
            // A partition's folder is in that of its disk.
            let disk = std::fs::canonicalize(&sys).ok()?;
            return parse(&std::fs::read_to_string(disk.parent()?.join("dev")).ok()?);
        }
        sys.exists().then_some(self)
    }

    /// Schedulers that the kernel offers for it, the present one in brackets.
    pub fn schedulers(self) -> String {
        std::fs::read_to_string(self.sys().join("queue/scheduler")).unwrap_or_default()
    }
}

/// From `major:minor`.
fn parse(text: &str) -> Option<Device> {
    let (major, minor) = text.trim().split_once(':')?;
    Some(Device {
        major: major.parse().ok()?,
        minor: minor.parse().ok()?,
    })
}

/// Whether figures begin with a loop device.
pub fn is_loop(figures: &str) -> bool {
    parse(figures).is_some_and(|device| device.major == LOOP_MAJOR)
}

/// The disks below an open file.
pub fn below(file: BorrowedFd<'_>) -> Vec<Device> {
    rustix::fs::fstat(file).map_or_else(|_| Vec::new(), |stat| chain(stat.st_dev))
}

/// The disks below the file or folder `path`.
pub fn below_path(path: &Path) -> Vec<Device> {
    std::fs::metadata(path).map_or_else(|_| Vec::new(), |meta| chain(meta.dev()))
}

fn chain(number: u64) -> Vec<Device> {
    let mut found = Vec::new();
    let mut next = Device::of(number).disk();
    while let Some(device) = next.filter(|device| found.len() < DEPTH && !found.contains(device)) {
        found.push(device);
        let backing = std::fs::read_to_string(device.sys().join("loop/backing_file")).ok();
        next = backing
            .and_then(|file| std::fs::metadata(file.trim_end()).ok())
            .and_then(|meta| Device::of(meta.dev()).disk());
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn disks_are_found_and_what_is_none_is_left_out() {
        assert_eq!(below_path(Path::new("/proc/self")), []);
        assert_eq!(below_path(Path::new("/nowhere")), []);
        for device in below_path(Path::new("/")) {
            assert!(!device.sys().join("partition").exists(), "{device}");
        }
        assert!(is_loop("7:3") && !is_loop("254:0") && !is_loop("Total"));
        assert_eq!(parse("254:1\n").unwrap().to_string(), "254:1");
    }
}
