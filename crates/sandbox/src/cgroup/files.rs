//! Reading and writing the files of control groups, and where the hierarchies are mounted.

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};

use crate::wire::timespec;

/// Mounted hierarchies of this host.
#[derive(Debug, Default)]
pub struct Mounts {
    /// The v2 hierarchy.
    pub unified: Option<PathBuf>,
    v1: Vec<(PathBuf, Vec<String>)>,
}

impl Mounts {
    /// From `/proc/self/mountinfo`.
    pub fn read() -> io::Result<Mounts> {
        Ok(Mounts::parse(&std::fs::read_to_string("/proc/self/mountinfo")?))
    }

    fn parse(mountinfo: &str) -> Mounts {
        let mut mounts = Mounts::default();
        for line in mountinfo.lines() {
            let Some((left, right)) = line.split_once(" - ") else {
                continue;
            };
            let mut left = left.split(' ').skip(3);
            let (root, target) = (left.next().unwrap_or(""), left.next().unwrap_or(""));
            // A bind of a subgroup is somebody's view, not the hierarchy.
            if root != "/" {
                continue;
            }
            let mut right = right.split(' ');
            let (kind, _source, options) = (right.next(), right.next(), right.next().unwrap_or(""));
            match kind {
                Some("cgroup2") if mounts.unified.is_none() => mounts.unified = Some(target.into()),
                Some("cgroup") => {
                    mounts
                        .v1
                        .push((target.into(), options.split(',').map(str::to_owned).collect()));
                }
                _ => {}
            }
        }
        mounts
    }

    /// Every v1 hierarchy: where it is, and its mount's options, the controllers among them.
    pub fn all_v1(&self) -> &[(PathBuf, Vec<String>)] {
        &self.v1
    }

    /// Where the v1 hierarchy with `controller` is.
    pub fn v1(&self, controller: &str) -> Option<&Path> {
        self.v1
            .iter()
            .find(|(_, c)| c.iter().any(|c| c == controller))
            .map(|(path, _)| path.as_path())
    }
}

/// Writes `value` with one write, as the kernel wants it.
pub fn write(path: &Path, value: impl ToString) -> io::Result<()> {
    use io::Write;
    std::fs::OpenOptions::new()
        .write(true)
        .open(path)?
        .write_all(value.to_string().as_bytes())
}

/// The number in a file of one number; `max` is `u64::MAX`.
pub fn number(path: &Path) -> io::Result<u64> {
    let text = std::fs::read_to_string(path)?;
    match text.trim() {
        "max" => Ok(u64::MAX),
        digits => digits.parse().map_err(|_| io::ErrorKind::InvalidData.into()),
    }
}

/// The number behind `key` in a text of lines `key value`.
pub fn keyed(text: &str, key: &str) -> Option<u64> {
    text.lines()
        .find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')?.trim().parse().ok())
}

/// [`keyed`] of a file; 0 if it cannot be read.
pub fn keyed_in(path: &Path, key: &str) -> u64 {
    std::fs::read_to_string(path)
        .ok()
        .and_then(|text| keyed(&text, key))
        .unwrap_or(0)
}

/// Makes a group and those above it.
pub fn make(path: &Path) -> io::Result<()> {
    std::fs::create_dir_all(path)
}

/// Names of the groups directly below.
pub fn subgroups(path: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(path) else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter(|e| e.file_type().is_ok_and(|t| t.is_dir()))
        .filter_map(|e| e.file_name().into_string().ok())
        .collect()
}

/// Removes a group and those directly below; a missing one is no error, a busy one is tried again until `deadline`.
pub fn remove_group(path: &Path, deadline: Instant) -> io::Result<()> {
    let mut pause = Duration::from_micros(200);
    loop {
        match std::fs::remove_dir(path) {
            Ok(()) => return Ok(()),
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            // The kernel takes dying processes out of a group a little after they are reaped
            // and tells nobody.
            Err(e) if e.raw_os_error() == Some(libc::EBUSY) && Instant::now() < deadline => {
                for below in subgroups(path) {
                    let _ = std::fs::remove_dir(path.join(below));
                }
                std::thread::sleep(pause);
                pause = (pause * 2).min(Duration::from_millis(20));
            }
            Err(e) => return Err(e),
        }
    }
}

/// Stops or continues everything in the v2 group `group`; waits until it has stopped.
pub fn freeze(group: &Path, frozen: bool, deadline: Instant) -> io::Result<()> {
    use std::os::fd::AsFd;
    let events = std::fs::File::open(group.join("cgroup.events"))?;
    write(&group.join("cgroup.freeze"), u8::from(frozen))?;
    if !frozen {
        return Ok(());
    }
    loop {
        let mut text = [0; 256];
        let length = std::os::unix::fs::FileExt::read_at(&events, &mut text, 0)?;
        if keyed(&String::from_utf8_lossy(&text[..length]), "frozen") == Some(1) {
            return Ok(());
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        let mut fds = [PollFd::from_borrowed_fd(events.as_fd(), PollFlags::PRI)];
        match poll(&mut fds, Some(&timespec(left))) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(e.into()),
        }
    }
}

/// CPU weight 1..=10000 (100 is ordinary) as v1 shares (1024 is ordinary).
pub fn shares(weight: u32) -> u64 {
    (u64::from(weight) * 1024 / 100).clamp(2, 262_144)
}

/// CPU ceiling in cores as microseconds per period of 100 ms.
pub fn quota_usec(cores: f64) -> u64 {
    ((cores * 100_000.0) as u64).max(1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_hierarchies() {
        let text = "30 25 0:26 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu,cpuacct\n\
                    31 25 0:27 / /sys/fs/cgroup/unified rw,relatime shared:3 - cgroup2 cgroup2 rw\n\
                    32 25 0:27 /some/group /elsewhere rw - cgroup2 cgroup2 rw\n";
        let mounts = Mounts::parse(text);
        assert_eq!(mounts.v1("cpuacct"), Some(Path::new("/sys/fs/cgroup/cpu")));
        assert_eq!(mounts.v1("memory"), None);
        assert_eq!(mounts.unified.as_deref(), Some(Path::new("/sys/fs/cgroup/unified")));
    }

    #[test]
    fn reads_keyed_lines_by_whole_keys() {
        let text = "oom 3\noom_kill 2\noom_group_kill 0\n";
        assert_eq!(keyed(text, "oom_kill"), Some(2));
        assert_eq!(keyed(text, "oom_kil"), None);
    }

    #[test]
    fn converts_weights_and_ceilings() {
        assert_eq!((shares(100), shares(1), shares(10_000)), (1024, 10, 102_400));
        assert_eq!(
            (quota_usec(0.5), quota_usec(0.0), quota_usec(2.0)),
            (50_000, 1000, 200_000)
        );
    }
}
