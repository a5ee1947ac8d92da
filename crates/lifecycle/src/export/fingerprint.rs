//! A cheap answer to "did anything change below this folder": names, kinds, sizes, modes, times and link targets, no contents.

use sha2::{Digest as _, Sha256};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use walkdir::WalkDir;

/// What a tree looked like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// Looks at everything below `dir`, without following links.
    ///
    /// # Errors
    /// Where an entry cannot be read.
    pub fn of(dir: &Path) -> io::Result<Self> {
        let mut hash = Sha256::new();
        for entry in WalkDir::new(dir).sort_by_file_name() {
            let entry = entry.map_err(io::Error::from)?;
            let found = entry.metadata().map_err(io::Error::from)?;
            let path = entry.path().strip_prefix(dir).unwrap_or(entry.path());
            let name = path.as_os_str().as_bytes();
            hash.update((name.len() as u64).to_le_bytes());
            hash.update(name);
            hash.update(found.permissions().mode().to_le_bytes());
            if found.is_dir() {
                // Its time changes with whatever comes and goes in it, also when it went again; the entries tell.
                continue;
            }
            hash.update(found.len().to_le_bytes());
            hash.update(found.mtime().to_le_bytes());
            hash.update(found.mtime_nsec().to_le_bytes());
            if found.is_symlink() {
                let target = std::fs::read_link(entry.path())?;
                hash.update(target.as_os_str().as_bytes());
            }
        }
        Ok(Self(hash.finalize().into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn every_change_is_seen() {
        type Change = fn(&Path);
        let changes: &[Change] = &[
            |dir| fs::write(dir.join("a"), "longer").unwrap(),
            |dir| fs::write(dir.join("new"), "").unwrap(),
            |dir| fs::remove_file(dir.join("a")).unwrap(),
            |dir| fs::set_permissions(dir.join("a"), fs::Permissions::from_mode(0o755)).unwrap(),
            |dir| {
                fs::remove_file(dir.join("link")).unwrap();
                std::os::unix::fs::symlink("b", dir.join("link")).unwrap();
            },
            |dir| {
                let file = fs::File::options().write(true).open(dir.join("a")).unwrap();
                file.set_modified(std::time::UNIX_EPOCH).unwrap();
            },
        ];
        for (index, change) in changes.iter().enumerate() {
            let folder = tempfile::tempdir().unwrap();
            fs::write(folder.path().join("a"), "a").unwrap();
            std::os::unix::fs::symlink("a", folder.path().join("link")).unwrap();
            let before = Fingerprint::of(folder.path()).unwrap();
            assert_eq!(before, Fingerprint::of(folder.path()).unwrap());
            change(folder.path());
            assert_ne!(before, Fingerprint::of(folder.path()).unwrap(), "change {index}");
        }
    }

    #[test]
    fn what_came_and_went_is_no_change() {
        let folder = tempfile::tempdir().unwrap();
        let before = Fingerprint::of(folder.path()).unwrap();
        fs::write(folder.path().join("lock"), "").unwrap();
        fs::remove_file(folder.path().join("lock")).unwrap();
        assert_eq!(before, Fingerprint::of(folder.path()).unwrap());
    }
}
