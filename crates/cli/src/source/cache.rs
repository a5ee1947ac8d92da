//! Remembers the digests of files by what tells whether they changed, so that an unchanged tree is not read again.
//!
//! A cache that can't be read or written costs time, nothing else: there are no errors here.

use super::{File, Sha1Hex, Stamp};
use std::collections::HashMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// First line of the file; another form gets another number.
const HEADER: &str = "paas hashes 1";
/// A file that changed less than this before it was hashed may change again within one tick of the file system's clock.
const RACY_NS: i128 = 2_000_000_000;
/// Largest cache file that is read, in bytes.
const MAX_BYTES: u64 = 64 * 1024 * 1024;

/// Digests of the files of one folder.
pub struct Cache {
    path: PathBuf,
    known: HashMap<String, (Stamp, Sha1Hex)>,
}

impl Cache {
    /// The cache for `root`, kept below `folder`.
    pub fn load(folder: &Path, root: &Path) -> Self {
        use sha1::{Digest as _, Sha1};
        let root = root.canonicalize().unwrap_or_else(|_| root.to_owned());
        let name = hex::encode(Sha1::digest(root.as_os_str().as_encoded_bytes()));
        let path = folder.join("hashes").join(name);
        let known = read(&path).unwrap_or_default();
        Self { path, known }
    }

    /// The digest of a file that has not changed since it was remembered.
    pub fn get(&self, file: &File) -> Option<&Sha1Hex> {
        let (stamp, sha1) = self.known.get(&file.path)?;
        (*stamp == file.stamp).then_some(sha1)
    }

    /// Remembers `files`, and only them. Those that changed a moment ago are left out.
    pub fn store(&self, files: &[File], digests: &[Sha1Hex]) {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_nanos());
        self.store_at(files, digests, i128::try_from(now).unwrap_or(0));
    }

    fn store_at(&self, files: &[File], digests: &[Sha1Hex], now_ns: i128) {
        let mut text = format!("{HEADER}\n");
        for (file, sha1) in files.iter().zip(digests) {
            let stamp = file.stamp;
            let settled = stamp.mtime_ns.max(stamp.ctime_ns) + RACY_NS < now_ns;
            if settled && !file.path.contains('\n') {
                text.push_str(&format!(
                    "{sha1} {} {} {} {} {}\n",
                    stamp.bytes, stamp.mtime_ns, stamp.ctime_ns, stamp.inode, file.path
                ));
            }
        }
        let _ = write(&self.path, &text);
    }
}

fn read(path: &Path) -> Option<HashMap<String, (Stamp, Sha1Hex)>> {
    if std::fs::metadata(path).ok()?.len() > MAX_BYTES {
        return None;
    }
    let text = std::fs::read_to_string(path).ok()?;
    let mut lines = text.lines();
    if lines.next()? != HEADER {
        return None;
    }
    Some(lines.filter_map(parse).collect())
}

fn parse(line: &str) -> Option<(String, (Stamp, Sha1Hex))> {
    let mut parts = line.splitn(6, ' ');
    let sha1 = parts.next().filter(|sha1| sha1.len() == 40)?.to_owned();
    let stamp = Stamp {
        bytes: parts.next()?.parse().ok()?,
        mtime_ns: parts.next()?.parse().ok()?,
        ctime_ns: parts.next()?.parse().ok()?,
        inode: parts.next()?.parse().ok()?,
    };
    Some((parts.next()?.to_owned(), (stamp, sha1)))
}

fn write(path: &Path, text: &str) -> std::io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder)?;
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(text.as_bytes())?;
    file.persist(path)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, mtime_ns: i128) -> File {
        File {
            path: path.into(),
            source: path.into(),
            mode: 0o644,
            stamp: Stamp {
                bytes: 3,
                mtime_ns,
                ctime_ns: mtime_ns,
                inode: 7,
            },
        }
    }

    #[test]
    fn only_what_is_unchanged_and_settled_is_remembered() {
        let folder = tempfile::tempdir().expect("folder");
        let root = Path::new("/some/app");
        let now = 100 * 1_000_000_000_i128;
        let files = [file("with space", 10), file("fresh", now - 1)];
        let digests = ["a".repeat(40), "b".repeat(40)];
        Cache::load(folder.path(), root).store_at(&files, &digests, now);
        let cache = Cache::load(folder.path(), root);
        assert_eq!(cache.get(&files[0]), Some(&digests[0]));
        assert_eq!(
            cache.get(&files[1]),
            None,
            "it may change again without its time showing it"
        );
        assert_eq!(cache.get(&file("with space", 11)), None);
        assert_eq!(Cache::load(folder.path(), Path::new("/other")).get(&files[0]), None);
    }

    #[test]
    fn a_broken_cache_is_no_cache() {
        let folder = tempfile::tempdir().expect("folder");
        let cache = Cache::load(folder.path(), Path::new("/app"));
        for text in ["", "other\n", "paas hashes 1\nrubbish\nab 1 2 3 4 x\n"] {
            write(&cache.path, text).expect("written");
            assert!(
                Cache::load(folder.path(), Path::new("/app")).known.is_empty(),
                "{text:?}"
            );
        }
    }
}
