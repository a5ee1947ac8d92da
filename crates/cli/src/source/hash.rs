//! SHA-1 of every file, in parallel. CF's resource matching names files by it; nothing is secured by it.

use super::cache::Cache;
use super::scan::stamp_of;
use super::{File, Sha1Hex};
use crate::errors::Error;
use sha1::{Digest as _, Sha1};
use std::io::Read as _;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Bytes read at once.
const CHUNK: usize = 128 * 1024;

/// Digests in the order of the files, and how many were remembered.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Hashed {
    pub digests: Vec<Sha1Hex>,
    pub cached: usize,
}

/// The digests of `files` of the folder `root`; the cache below `cache` is used and brought up to date.
///
/// # Errors
/// Where a file can't be read, or changes meanwhile.
pub fn hash(files: &[File], cache: &Path, root: &Path) -> Result<Hashed, Error> {
    let cache = Cache::load(cache, root);
    let mut digests: Vec<Option<Sha1Hex>> = files.iter().map(|file| cache.get(file).cloned()).collect();
    let missing: Vec<usize> = (0..files.len()).filter(|index| digests[*index].is_none()).collect();
    let cached = files.len() - missing.len();
    for (index, digest) in hash_all(files, &missing)? {
        digests[index] = Some(digest);
    }
    let digests: Vec<Sha1Hex> = digests.into_iter().flatten().collect();
    if !missing.is_empty() {
        cache.store(files, &digests);
    }
    Ok(Hashed { digests, cached })
}

fn hash_all(files: &[File], indexes: &[usize]) -> Result<Vec<(usize, Sha1Hex)>, Error> {
    let next = AtomicUsize::new(0);
    let worker = || {
        let mut done = Vec::new();
        let mut buffer = vec![0; CHUNK];
        while let Some(index) = indexes.get(next.fetch_add(1, Ordering::Relaxed)) {
            done.push((*index, hash_one(&files[*index], &mut buffer)?));
        }
        Ok(done)
    };
    let workers = std::thread::available_parallelism()
        .map_or(1, usize::from)
        .min(8)
        .min(indexes.len().max(1));
    let outcomes: Vec<Result<Vec<_>, Error>> = std::thread::scope(|scope| {
        let threads: Vec<_> = (1..workers).map(|_| scope.spawn(worker)).collect();
        let mut outcomes = vec![worker()];
        for thread in threads {
            outcomes.push(
                thread
                    .join()
                    .unwrap_or_else(|_| Err(Error::usage("hashing the files failed"))),
            );
        }
        outcomes
    });
    let mut all = Vec::with_capacity(indexes.len());
    for outcome in outcomes {
        all.extend(outcome?);
    }
    Ok(all)
}

fn hash_one(file: &File, buffer: &mut [u8]) -> Result<Sha1Hex, Error> {
    let failed = |error: std::io::Error| Error::file("read", &file.source, &error);
    let mut source = std::fs::File::open(&file.source).map_err(failed)?;
    let mut sha1 = Sha1::new();
    loop {
        let count = source.read(buffer).map_err(failed)?;
        if count == 0 {
            break;
        }
        sha1.update(&buffer[..count]);
    }
    if stamp_of(&source.metadata().map_err(failed)?) != file.stamp {
        return Err(Error::Changed {
            path: file.source.clone(),
        });
    }
    Ok(hex::encode(sha1.finalize()))
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use crate::source::scan::scan;

    #[test]
    fn digests_are_right_and_remembered() {
        let root = tempfile::tempdir().expect("folder");
        let cache = tempfile::tempdir().expect("folder");
        for (name, text) in [("a", "abc"), ("b", ""), ("c", "abc")] {
            std::fs::write(root.path().join(name), text).expect("written");
            let old = std::fs::FileTimes::new().set_modified(std::time::UNIX_EPOCH);
            std::fs::File::options()
                .write(true)
                .open(root.path().join(name))
                .expect("open")
                .set_times(old)
                .expect("set");
        }
        let tree = scan(root.path()).expect("scans");
        let hashed = hash(&tree.files, cache.path(), root.path()).expect("hashes");
        assert_eq!(hashed.cached, 0);
        assert_eq!(hashed.digests[0], "a9993e364706816aba3e25717850c26c9cd0d89d");
        assert_eq!(hashed.digests[1], "da39a3ee5e6b4b0d3255bfef95601890afd80709");
        assert_eq!(hashed.digests[0], hashed.digests[2]);
    }

    #[test]
    fn a_file_that_changes_meanwhile_is_noticed() {
        let root = tempfile::tempdir().expect("folder");
        let cache = tempfile::tempdir().expect("folder");
        std::fs::write(root.path().join("a"), "abc").expect("written");
        let tree = scan(root.path()).expect("scans");
        std::fs::write(root.path().join("a"), "longer").expect("written");
        let error = hash(&tree.files, cache.path(), root.path()).expect_err("noticed");
        assert!(matches!(error, Error::Changed { .. }));
    }
}
