//! Writes the tree of a package to disk, and reads single files of it.
//!
//! The tree is written into an empty folder that nothing else touches, folders first, links last, so no link is ever
//! followed. Every path is checked again and every content is verified; the result is the same tree to the byte, mode
//! and time wherever it is written.

use super::entry::{Compression, Entry, Place};
use super::error::io_failed;
use super::{Error, PackageIndex, TreeLimits, path};
use crate::store::blocking;
use crate::{Blobstore, Kind};
use futures_util::TryStreamExt as _;
use model::Digest;
use sha2::{Digest as _, Sha256};
use std::collections::{BTreeSet, HashMap};
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::{FileExt as _, PermissionsExt as _, chown, lchown, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};
use tempfile::NamedTempFile;
use tokio::io::AsyncWriteExt as _;

/// Modification time of everything written: 1980-01-01T00:00:01Z, the earliest that zip tools of builds accept.
const MTIME_SECONDS: u64 = 315_532_801;
/// Threads that write at once, at most.
const THREADS: usize = 8;

/// Where and how to write a tree.
#[derive(Debug, Clone)]
pub struct Materialise {
    /// An existing, empty folder, which stands for `/`.
    pub dir: PathBuf,
    /// Folder below it that the package's root becomes, such as `home/vcap/app`; empty for none.
    pub prefix: String,
    /// Owner of everything written, uid and gid; `None` leaves it with this process's.
    pub owner: Option<(u32, u32)>,
    /// What the tree may hold.
    pub limits: TreeLimits,
}

/// What was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Materialised {
    /// Files and links.
    pub files: usize,
    /// Bytes of all of them.
    pub bytes: u64,
}

/// Writes the tree of `index`. If it fails, or is no longer awaited, part of the tree may be there: the caller removes
/// the folder.
///
/// # Errors
/// [`Error::Store`] where a pack is missing, [`Error::Contents`] where one is damaged, [`Error::Io`] where the folder
/// cannot be written, or the refusals of [`Error`].
pub async fn materialise(store: &Blobstore, index: &PackageIndex, options: Materialise) -> Result<Materialised, Error> {
    // Checked again under this caller's limits; the index may have been built under others.
    let index = PackageIndex::build(index.entries().to_vec(), &options.limits)?;
    if !options.prefix.is_empty() {
        path::check(&options.prefix, &options.limits)?;
    }
    let mut packs = HashMap::new();
    for digest in index.packs() {
        packs.insert(digest.clone(), open_pack(store, digest).await?);
    }
    blocking(move || Tree { options, packs }.write(&index)).await
}

/// Reads and verifies the contents of one file or link.
///
/// # Errors
/// [`Error::Store`], [`Error::Contents`].
pub async fn read_file(store: &Blobstore, entry: &Entry) -> Result<Vec<u8>, Error> {
    let Some(place) = &entry.place else {
        return Ok(Vec::new());
    };
    let range = place.offset..place.offset.saturating_add(place.length);
    let stored = store
        .get_range(Kind::Pack, &place.pack, range)
        .await
        .map_err(Error::store)?;
    let mut contents = Vec::new();
    match copy(&stored[..], place.compression, entry, &mut contents) {
        Ok(true) => Ok(contents),
        _ => Err(Error::Contents {
            path: entry.path.clone(),
        }),
    }
}

/// A pack as a local file: in place where the store is a directory, else a temporary copy.
enum Source {
    InPlace(File),
    Copied(NamedTempFile),
}

impl Source {
    fn file(&self) -> &File {
        match self {
            Self::InPlace(file) => file,
            Self::Copied(file) => file.as_file(),
        }
    }
}

async fn open_pack(store: &Blobstore, digest: &Digest) -> Result<Source, Error> {
    if let Some(path) = store.local_path(Kind::Pack, digest) {
        let opened = blocking(move || File::open(&path).map_err(io_failed("open", &path))).await?;
        return Ok(Source::InPlace(opened));
    }
    let mut blob = store.get(Kind::Pack, digest).await.map_err(Error::store)?;
    let file = store.temporary().map_err(Error::store)?;
    let path = file.path().to_owned();
    let mut writer = tokio::fs::File::create(&path)
        .await
        .map_err(io_failed("write", &path))?;
    while let Some(bytes) = blob.stream.try_next().await.map_err(Error::store)? {
        writer.write_all(&bytes).await.map_err(io_failed("write", &path))?;
    }
    writer.flush().await.map_err(io_failed("write", &path))?;
    Ok(Source::Copied(file))
}

struct Tree {
    options: Materialise,
    packs: HashMap<Digest, Source>,
}

impl Tree {
    fn write(&self, index: &PackageIndex) -> Result<Materialised, Error> {
        let dir = &self.options.dir;
        if fs::read_dir(dir).map_err(io_failed("read", dir))?.next().is_some() {
            let source = io::Error::from(io::ErrorKind::DirectoryNotEmpty);
            return Err(Error::Io {
                operation: "write a package into",
                path: dir.clone(),
                source,
            });
        }
        let folders = self.folders(index);
        for folder in &folders {
            fs::create_dir(folder).map_err(io_failed("create", folder))?;
        }
        let (links, mut files): (Vec<&Entry>, Vec<&Entry>) = index
            .entries()
            .iter()
            .filter(|entry| !entry.mode.is_folder())
            .partition(|entry| entry.mode.is_link());
        // In the order of the packs, so that reading them is sequential.
        files.sort_by_key(|entry| entry.place.as_ref().map(|place| (&place.pack, place.offset)));
        self.write_files(&files)?;
        for link in &links {
            self.write_link(link)?;
        }
        // Last and deepest first, because writing into a folder changes its time.
        for folder in folders.iter().rev() {
            self.finish_folder(folder)?;
        }
        Ok(Materialised {
            files: files.len() + links.len(),
            bytes: index.total_bytes(),
        })
    }

    /// Every folder to create, parents before children.
    fn folders(&self, index: &PackageIndex) -> Vec<PathBuf> {
        let mut folders = BTreeSet::new();
        let prefix = self.options.prefix.as_str();
        folders.extend(
            path::parents(prefix)
                .chain([prefix])
                .filter(|part| !part.is_empty())
                .map(PathBuf::from),
        );
        for entry in index.entries() {
            let own = entry.mode.is_folder().then_some(entry.path.as_str());
            folders.extend(
                own.into_iter()
                    .chain(path::parents(&entry.path))
                    .map(|part| Path::new(prefix).join(part)),
            );
        }
        folders
            .into_iter()
            .map(|folder| self.options.dir.join(folder))
            .collect()
    }

    fn target(&self, entry: &Entry) -> PathBuf {
        self.options.dir.join(&self.options.prefix).join(&entry.path)
    }

    /// Writes files from several threads, which take the next one each until none is left or one failed.
    fn write_files(&self, files: &[&Entry]) -> Result<(), Error> {
        let threads = std::thread::available_parallelism()
            .map_or(1, usize::from)
            .min(THREADS)
            .min(files.len());
        let next = AtomicUsize::new(0);
        let work = || {
            while let Some(entry) = files.get(next.fetch_add(1, Ordering::Relaxed)) {
                self.write_file(entry)
                    .inspect_err(|_| next.store(files.len(), Ordering::Relaxed))?;
            }
            Ok(())
        };
        if threads <= 1 {
            return work();
        }
        std::thread::scope(|scope| {
            let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
            workers.into_iter().try_for_each(|worker| match worker.join() {
                Ok(result) => result,
                Err(panic) => std::panic::resume_unwind(panic),
            })
        })
    }

    fn write_file(&self, entry: &Entry) -> Result<(), Error> {
        let target = self.target(entry);
        let mut file = File::create_new(&target).map_err(io_failed("create", &target))?;
        if !self
            .copy_contents(entry, &mut file)
            .map_err(io_failed("write", &target))?
        {
            return Err(Error::Contents {
                path: entry.path.clone(),
            });
        }
        if let Some((uid, gid)) = self.options.owner {
            chown(&target, Some(uid), Some(gid)).map_err(io_failed("change the owner of", &target))?;
        }
        file.set_permissions(fs::Permissions::from_mode(entry.mode.permissions()))
            .and_then(|()| file.set_modified(mtime()))
            .map_err(io_failed("change the mode of", &target))
    }

    fn write_link(&self, entry: &Entry) -> Result<(), Error> {
        let place = self.target(entry);
        let mut target = Vec::new();
        let whole = self
            .copy_contents(entry, &mut target)
            .map_err(io_failed("read the pack for", &place))?;
        let damaged = || Error::Contents {
            path: entry.path.clone(),
        };
        let target = String::from_utf8(target).ok().filter(|_| whole).ok_or_else(damaged)?;
        path::check_link(&entry.path, &target, &self.options.limits)?;
        symlink(&target, &place).map_err(io_failed("create", &place))?;
        if let Some((uid, gid)) = self.options.owner {
            lchown(&place, Some(uid), Some(gid)).map_err(io_failed("change the owner of", &place))?;
        }
        let time = filetime::FileTime::from_system_time(mtime());
        filetime::set_symlink_file_times(&place, time, time).map_err(io_failed("change the time of", &place))
    }

    fn finish_folder(&self, folder: &Path) -> Result<(), Error> {
        if let Some((uid, gid)) = self.options.owner {
            chown(folder, Some(uid), Some(gid)).map_err(io_failed("change the owner of", folder))?;
        }
        fs::set_permissions(folder, fs::Permissions::from_mode(0o755))
            .and_then(|()| File::open(folder)?.set_modified(mtime()))
            .map_err(io_failed("change the mode of", folder))
    }

    /// Whether what was copied is what the entry says.
    fn copy_contents(&self, entry: &Entry, target: &mut impl Write) -> io::Result<bool> {
        let Some(Place {
            pack,
            offset,
            length,
            compression,
        }) = &entry.place
        else {
            return Ok(entry.size == 0);
        };
        let Some(source) = self.packs.get(pack) else {
            return Ok(false);
        };
        let section = Section {
            file: source.file(),
            offset: *offset,
            left: *length,
        };
        copy(section, *compression, entry, target)
    }
}

/// A range of a file that several threads may read at once.
struct Section<'a> {
    file: &'a File,
    offset: u64,
    left: u64,
}

impl Read for Section<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let wanted = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        let read = self.file.read_at(&mut buffer[..wanted], self.offset)?;
        self.offset += read as u64;
        self.left -= read as u64;
        Ok(read)
    }
}

/// Unpacks `stored` into `target`, at most one byte more than the entry's size, and says whether it is the entry's
/// contents. Damage in a frame is `Ok(false)`; only writing fails with an error.
fn copy(stored: impl Read, compression: Compression, entry: &Entry, target: &mut impl Write) -> io::Result<bool> {
    let limit = entry.size.saturating_add(1);
    match compression {
        Compression::Raw => pour(stored.take(limit), entry, target),
        Compression::Zstd => match zstd::stream::Decoder::new(stored) {
            Ok(decoder) => pour(decoder.take(limit), entry, target),
            Err(_) => Ok(false),
        },
    }
}

fn pour(mut contents: impl Read, entry: &Entry, target: &mut impl Write) -> io::Result<bool> {
    let mut buffer = vec![0; 1 << 16];
    let (mut hash, mut size) = (Sha256::new(), 0_u64);
    loop {
        match contents.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => {
                hash.update(&buffer[..read]);
                size += read as u64;
                target.write_all(&buffer[..read])?;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return Ok(false),
        }
    }
    Ok(size == entry.size && Digest::from_sha256(hash.finalize().into()) == entry.sha256)
}

fn mtime() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(MTIME_SECONDS)
}

#[cfg(test)]
#[path = "materialise_tests.rs"]
mod tests;
