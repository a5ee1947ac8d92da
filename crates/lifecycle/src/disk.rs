//! How full the disk of a build is: most programs that run out of it say so, and many say something else.

use std::path::Path;

/// Below this share of free space, in percent, a failure is for the disk.
const FULL_PERCENT: u64 = 1;

/// Size of the full disk that `path` is on, in MiB; `None` where there is room, or nobody knows.
#[must_use]
pub fn full(path: &Path) -> Option<u64> {
    let found = rustix::fs::statvfs(path).ok()?;
    let bytes = found.f_blocks.saturating_mul(found.f_frsize);
    let free = found.f_bavail.saturating_mul(found.f_frsize);
    let no_room = bytes > 0 && free.saturating_mul(100) / bytes < FULL_PERCENT;
    let no_files = found.f_files > 0 && found.f_favail.saturating_mul(100) / found.f_files < FULL_PERCENT;
    (no_room || no_files).then_some(bytes >> 20)
}

/// Size of the disk that `path` is on, in MiB.
#[must_use]
pub fn size_mb(path: &Path) -> Option<u64> {
    let found = rustix::fs::statvfs(path).ok()?;
    Some(found.f_blocks.saturating_mul(found.f_frsize) >> 20)
}

/// Whether a program says by this line that it found no room.
#[must_use]
pub fn is_told(line: &str) -> bool {
    ["No space left on device", "ENOSPC", "Disk quota exceeded", "EDQUOT"]
        .iter()
        .any(|words| line.contains(words))
}

#[cfg(test)]
#[test]
fn programs_say_it_in_their_own_words() {
    assert!(is_told("npm error nospc ENOSPC: no space left on device, write"));
    assert!(is_told("cp: error writing 'x': No space left on device"));
    assert!(!is_told("there is space left"));
}

#[cfg(test)]
#[test]
fn a_disk_with_room_is_not_full() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(full(folder.path()), None);
    assert!(size_mb(folder.path()).is_some_and(|size| size > 0));
    assert_eq!(full(Path::new("/nowhere")), None);
}
