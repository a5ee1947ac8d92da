//! Takes in a zip archive from a client: every entry is checked and counted while it is read, and ends in a pack.
//!
//! The archive is hostile. What it declares (sizes, number of entries, kinds) only ever refuses it earlier; the limits
//! hold on what is really read.

use super::writer::{Pack, PackWriter};
use super::{Entry, Error, Mode, PackageIndex, TreeLimits, path, zip_directory};
use crate::store::blocking;
use crate::{Blobstore, Kind};
use std::cell::Cell;
use std::collections::HashSet;
use std::io::{self, Read, Seek, SeekFrom};
use tempfile::NamedTempFile;
use zip::ZipArchive;
use zip::read::ZipFile;

/// Archives from systems without permissions get these, as other clients of this API send them.
const DEFAULT_PERMISSIONS: u32 = 0o744;
/// An archive may unpack to this much whatever its own size.
const BOMB_FLOOR: u64 = 64 << 20;

/// What an archive held.
pub struct Ingested {
    /// One per entry of the archive, in its order.
    pub entries: Vec<Entry>,
    /// The contents; `None` where all are empty.
    pub pack: Option<Pack>,
}

/// Reads an archive into a pack in `scratch`, a file from [`Blobstore::temporary`]. Blocking.
///
/// # Errors
/// The refusals of [`Error`], each naming the entry.
pub fn ingest_zip(
    mut archive: impl Read + Seek,
    limits: &TreeLimits,
    scratch: NamedTempFile,
) -> Result<Ingested, Error> {
    let unreadable = |reason: String| Error::Archive { reason };
    let names = zip_directory::names(&mut archive, limits)?;
    let size = archive
        .seek(SeekFrom::End(0))
        .map_err(|error| unreadable(error.to_string()))?;
    let mut archive = ZipArchive::new(archive).map_err(|error| unreadable(error.to_string()))?;
    if archive.len() != names.len() {
        return Err(unreadable("its table of contents can be read in two ways".to_owned()));
    }
    let mut ingest = Ingest::new(*limits, size, PackWriter::new(scratch));
    for (at, raw) in names.iter().enumerate() {
        let shown = String::from_utf8_lossy(raw);
        let entry = archive.by_index(at);
        let entry = entry.map_err(|error| Error::Entry {
            path: shown.to_string(),
            source: error.into(),
        })?;
        if entry.name_raw() != raw.as_slice() {
            return Err(unreadable("its table of contents can be read in two ways".to_owned()));
        }
        ingest.add(entry)?;
    }
    let (pack, entries) = ingest.writer.finish()?;
    Ok(Ingested { entries, pack })
}

/// Takes in an archive, stores its pack, joins its entries with `known` ones from earlier packs, and stores the index:
/// the whole way from upload to package.
///
/// # Errors
/// The refusals of [`Error`], or [`Error::Store`], which is a missing blob where a pack of a known entry was collected:
/// the client has to ask again what is known. A pack that is stored when the index is refused is left to garbage
/// collection.
pub async fn store_zip(
    store: &Blobstore,
    archive: std::fs::File,
    known: Vec<Entry>,
    limits: &TreeLimits,
) -> Result<PackageIndex, Error> {
    let (scratch_store, limits_here) = (store.clone(), *limits);
    let ingested = blocking(move || {
        let scratch = scratch_store.temporary().map_err(Error::store)?;
        ingest_zip(io::BufReader::new(archive), &limits_here, scratch)
    });
    let Ingested { mut entries, pack } = ingested.await?;
    entries.extend(known);
    let index = PackageIndex::build(entries, limits)?;
    let new = pack.as_ref().map(|pack| pack.digest.clone());
    for digest in index.packs().into_iter().filter(|digest| new.as_ref() != Some(digest)) {
        // The package that brought it may be gone already: it must outlive the time until this one is recorded.
        if !store.touch(Kind::Pack, digest).await.map_err(Error::store)? {
            let digest = digest.clone();
            return Err(Error::store(crate::Error::Missing {
                kind: Kind::Pack,
                digest,
            }));
        }
    }
    if let Some(pack) = pack {
        store
            .put_temporary(Kind::Pack, &pack.digest, pack.file)
            .await
            .map_err(Error::store)?;
    }
    index.save(store).await?;
    Ok(index)
}

struct Ingest {
    limits: TreeLimits,
    /// Bytes that the archive may unpack to by its own size.
    allowance: u64,
    unpacked: u64,
    seen: HashSet<String>,
    writer: PackWriter,
}

impl Ingest {
    fn new(limits: TreeLimits, archive_bytes: u64, writer: PackWriter) -> Self {
        let allowance = archive_bytes.saturating_mul(limits.ratio).max(BOMB_FLOOR);
        Self {
            limits,
            allowance,
            unpacked: 0,
            seen: HashSet::new(),
            writer,
        }
    }

    fn add<R: Read>(&mut self, mut entry: ZipFile<'_, R>) -> Result<(), Error> {
        let raw = name_of(&entry);
        let path = path::normalise(&raw, &self.limits)?;
        let mode = mode_of(&entry, &raw)?;
        if !self.seen.insert(path.clone()) {
            return Err(Error::Duplicate { path });
        }
        if mode.is_folder() {
            self.writer.add_folder(path);
            return Ok(());
        }
        if entry.encrypted() {
            let source = io::Error::new(io::ErrorKind::Unsupported, "it is encrypted");
            return Err(Error::Entry { path, source });
        }
        if mode.is_link() {
            return self.add_link(path, entry);
        }
        let limit = self.limit(entry.size(), &path)?;
        let passed = Cell::new(false);
        let contents = Limited {
            inner: &mut entry,
            left: limit,
            passed: &passed,
        };
        match self.writer.add(path.clone(), mode, contents) {
            Ok(size) => {
                self.unpacked += size;
                Ok(())
            }
            // The reader stopped it at a limit: say which.
            Err(_) if passed.get() => {
                Err(self
                    .limit(limit.saturating_add(1), &path)
                    .err()
                    .unwrap_or(Error::FileTooLarge {
                        path,
                        limit_bytes: self.limits.file_bytes,
                    }))
            }
            Err(error) => Err(error),
        }
    }

    fn add_link<R: Read>(&mut self, path: String, entry: ZipFile<'_, R>) -> Result<(), Error> {
        let mut target = Vec::new();
        let read = entry.take(self.limits.path_bytes as u64 + 1).read_to_end(&mut target);
        read.map_err(|source| Error::Entry {
            path: path.clone(),
            source,
        })?;
        let Ok(target) = String::from_utf8(target) else {
            return Err(Error::Path {
                path,
                reason: "is a link whose target is not UTF-8",
            });
        };
        path::check_link(&path, &target, &self.limits)?;
        self.unpacked += target.len() as u64;
        self.writer.add(path, Mode::LINK, target.as_bytes()).map(|_| ())
    }

    /// How many bytes the next file may have, or which limit `wanted` bytes would pass.
    fn limit(&self, wanted: u64, path: &str) -> Result<u64, Error> {
        let total_left = self.limits.total_bytes.saturating_sub(self.unpacked);
        let ratio_left = self.allowance.saturating_sub(self.unpacked);
        let path = || path.to_owned();
        if wanted > self.limits.file_bytes {
            return Err(Error::FileTooLarge {
                path: path(),
                limit_bytes: self.limits.file_bytes,
            });
        }
        if wanted > total_left {
            return Err(Error::TotalTooLarge {
                path: path(),
                limit_bytes: self.limits.total_bytes,
            });
        }
        if wanted > ratio_left {
            return Err(Error::Bomb {
                path: path(),
                ratio: self.limits.ratio,
            });
        }
        Ok(self.limits.file_bytes.min(total_left).min(ratio_left))
    }
}

/// UTF-8 where it is, whether or not the archive says so; else what the archive's own code page makes of it.
fn name_of<R: Read>(entry: &ZipFile<'_, R>) -> String {
    match std::str::from_utf8(entry.name_raw()) {
        Ok(name) => name.to_owned(),
        Err(_) => entry
            .name()
            .map_or_else(|_| String::from_utf8_lossy(entry.name_raw()).into_owned(), Into::into),
    }
}

fn mode_of<R: Read>(entry: &ZipFile<'_, R>, raw: &str) -> Result<Mode, Error> {
    let slash = raw.ends_with('/');
    let Some(unix) = entry.unix_mode().filter(|mode| *mode != 0) else {
        return Ok(if slash {
            Mode::FOLDER
        } else {
            Mode::file(DEFAULT_PERMISSIONS)
        });
    };
    let special = |what| Error::Special {
        path: raw.to_owned(),
        what,
    };
    let mode = Mode::from_unix(unix).ok_or_else(|| {
        special(match unix & 0o170_000 {
            0o010_000 => "pipe",
            0o140_000 => "socket",
            _ => "device",
        })
    })?;
    match slash {
        true if mode.is_link() => Err(special("link with the name of a folder")),
        true => Ok(Mode::FOLDER),
        false => Ok(mode),
    }
}

/// Fails once more than `left` bytes were read, and says that it was that.
struct Limited<'a, R> {
    inner: R,
    left: u64,
    passed: &'a Cell<bool>,
}

impl<R: Read> Read for Limited<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        match self.left.checked_sub(read as u64) {
            Some(left) => self.left = left,
            None => {
                self.passed.set(true);
                return Err(io::Error::other("a limit was passed"));
            }
        }
        Ok(read)
    }
}

#[cfg(test)]
#[path = "zip_tests.rs"]
mod tests;
