//! A folder as a normalised tar: entries sorted, one time, one owner, names rooted at `/`. The same files give the same bytes
//! wherever and whenever they were made.

use model::digest::Digest;
use sha2::{Digest as _, Sha256};
use std::fs::File;
use std::io::{self, BufWriter, Read as _, Write};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{SyncSender, sync_channel};
use tar::{Builder, EntryType, Header};
use walkdir::WalkDir;

/// 1980-01-01T00:00:01Z, the time that Cloud Native Buildpacks give to everything.
pub const MTIME: u64 = 315_532_801;
/// User and group `vcap` of every sandbox.
pub const OWNER: u64 = 2000;
/// Fastest level that still halves the size of code.
const LEVEL: i32 = 1;
/// Threads that compress; reading and hashing is a further one.
const THREADS: u32 = 2;

/// A layer as written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Archived {
    /// Of the uncompressed tar.
    pub digest: Digest,
    /// Of the file.
    pub size_bytes: u64,
}

/// Largest file that is read before its turn comes.
const SMALL_BYTES: u64 = 256 * 1024;
/// Entries that are read before their turn comes.
const AHEAD: usize = 64;

/// Which entries belong to an archive, by their path relative to its folder.
pub type Keep<'a> = &'a (dyn Fn(&Path) -> bool + Sync);

/// Writes what is below `dir` to `file` as `tar.zst`, with names below `prefix`: all of it that `keep` says yes to. Sockets,
/// pipes and devices are left out. Another thread opens and reads files while this one hashes those before them.
///
/// # Errors
/// Where an entry cannot be read or the file cannot be written.
pub fn write(dir: &Path, prefix: &str, file: &Path, keep: Keep<'_>) -> io::Result<Archived> {
    let output = BufWriter::with_capacity(256 * 1024, File::create(file)?);
    let mut encoder = zstd::Encoder::new(output, LEVEL)?;
    encoder.multithread(THREADS)?;
    let mut builder = Builder::new(Hashing {
        inner: encoder,
        hash: Sha256::new(),
    });
    builder.sparse(false);
    parents(&mut builder, prefix)?;
    std::thread::scope(|scope| {
        let (send, entries) = sync_channel(AHEAD);
        scope.spawn(move || read(dir, prefix, keep, &send));
        // An error here drops the receiver, which ends the reading.
        entries.into_iter().try_for_each(|entry| append(&mut builder, entry?))
    })?;
    let Hashing { inner, hash } = builder.into_inner()?;
    inner.finish()?.into_inner().map_err(io::IntoInnerError::into_error)?;
    Ok(Archived {
        digest: Digest::from_sha256(hash.finalize().into()),
        size_bytes: std::fs::metadata(file)?.len(),
    })
}

/// Folders above `prefix`, which every layer has and which must look the same in all of them.
fn parents(builder: &mut Builder<impl Write>, prefix: &str) -> io::Result<()> {
    for (at, _) in prefix.match_indices('/') {
        let mut header = header(EntryType::Directory, 0o755, 0);
        builder.append_data(&mut header, format!("{}/", &prefix[..at]), io::empty())?;
    }
    Ok(())
}

/// An entry on its way into an archive.
struct Entry {
    /// Where it is.
    path: PathBuf,
    /// Its name in the archive.
    name: PathBuf,
    mode: u32,
    what: What,
}

enum What {
    Folder,
    Symlink(PathBuf),
    Small(Vec<u8>),
    Large(File, u64),
}

/// Hands over everything below `dir` in the order of names, until there is no more, an error, or nobody who takes it.
fn read(dir: &Path, prefix: &str, keep: Keep<'_>, to: &SyncSender<io::Result<Entry>>) {
    for entry in WalkDir::new(dir).sort_by_file_name() {
        let found = match entry.map_err(io::Error::from) {
            Ok(entry) => {
                let below = entry.path().strip_prefix(dir).unwrap_or(entry.path());
                if entry.depth() > 0 && !keep(below) {
                    continue;
                }
                look(&entry, Path::new(prefix).join(below))
            }
            Err(error) => Err(error),
        };
        let Some(found) = found.transpose() else { continue };
        let failed = found.is_err();
        if to.send(found).is_err() || failed {
            return;
        }
    }
}

/// An entry with its contents if they are few; nothing where it does not belong into archives.
fn look(entry: &walkdir::DirEntry, name: PathBuf) -> io::Result<Option<Entry>> {
    let (path, kind) = (entry.path().to_owned(), entry.file_type());
    let mut mode = 0o777;
    let what = if kind.is_file() {
        let mut file = File::open(&path)?;
        let found = file.metadata()?;
        mode = found.permissions().mode();
        if found.len() > SMALL_BYTES {
            What::Large(file, found.len())
        } else {
            let mut contents = Vec::with_capacity(usize::try_from(found.len()).unwrap_or_default());
            io::Read::take(&mut file, found.len()).read_to_end(&mut contents)?;
            if contents.len() as u64 != found.len() {
                return Err(changed(&path));
            }
            What::Small(contents)
        }
    } else if kind.is_symlink() {
        What::Symlink(std::fs::read_link(&path)?)
    } else if kind.is_dir() {
        mode = entry.metadata().map_err(io::Error::from)?.permissions().mode();
        What::Folder
    } else {
        return Ok(None);
    };
    Ok(Some(Entry { path, name, mode, what }))
}

fn append(builder: &mut Builder<impl Write>, entry: Entry) -> io::Result<()> {
    let Entry { path, name, mode, what } = entry;
    match what {
        What::Folder => {
            let mut header = header(EntryType::Directory, mode | 0o700, 0);
            builder.append_data(&mut header, name.join(""), io::empty())
        }
        What::Symlink(target) => {
            let mut header = header(EntryType::Symlink, mode, 0);
            builder.append_link(&mut header, name, target)
        }
        What::Small(contents) => {
            let mut header = header(EntryType::Regular, mode, contents.len() as u64);
            builder.append_data(&mut header, name, contents.as_slice())
        }
        What::Large(file, size) => {
            // A file that shrinks while it is read would leave the archive misaligned: that is an error below.
            let mut content = io::Read::take(&file, size);
            let mut header = header(EntryType::Regular, mode, size);
            builder.append_data(&mut header, name, &mut content)?;
            if content.limit() > 0 {
                return Err(changed(&path));
            }
            Ok(())
        }
    }
}

fn changed(path: &Path) -> io::Error {
    io::Error::other(format!("{} changed while it was exported", path.display()))
}

fn header(kind: EntryType, mode: u32, size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    // Neither set-user-id nor sticky bits mean anything in a sandbox.
    header.set_mode(mode & 0o777);
    header.set_size(size);
    header.set_mtime(MTIME);
    header.set_uid(OWNER);
    header.set_gid(OWNER);
    header
}

/// Hashes what goes through it.
struct Hashing<W> {
    inner: W,
    hash: Sha256,
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.hash.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    fn tree(root: &Path) {
        let deep = root.join("x".repeat(120)).join("y".repeat(120));
        fs::create_dir_all(&deep).unwrap();
        fs::write(deep.join("file"), "deep").unwrap();
        fs::write(root.join("b"), "b").unwrap();
        fs::write(root.join("a"), "a").unwrap();
        fs::set_permissions(root.join("a"), fs::Permissions::from_mode(0o4755)).unwrap();
        fs::set_permissions(root.join("b"), fs::Permissions::from_mode(0o640)).unwrap();
        symlink("../".repeat(50) + "a", root.join("link")).unwrap();
    }

    fn listed(file: &Path) -> Vec<(String, u32, u64, u64)> {
        let mut archive = tar::Archive::new(zstd::Decoder::new(File::open(file).unwrap()).unwrap());
        let entries = archive.entries().unwrap().map(|entry| {
            let entry = entry.unwrap();
            let header = entry.header();
            (
                entry.path().unwrap().display().to_string(),
                header.mode().unwrap(),
                header.mtime().unwrap(),
                header.uid().unwrap() + header.gid().unwrap(),
            )
        });
        entries.collect()
    }

    #[test]
    fn the_same_files_give_the_same_bytes() {
        let folder = tempfile::tempdir().unwrap();
        let mut digests = Vec::new();
        for name in ["one", "two"] {
            let root = folder.path().join(name);
            fs::create_dir(&root).unwrap();
            tree(&root);
            let file = folder.path().join(format!("{name}.tar.zst"));
            digests.push(write(&root, "layers/a/b", &file, &|_| true).unwrap());
        }
        assert_eq!(digests[0], digests[1]);
    }

    #[test]
    fn entries_are_sorted_normalised_and_rooted() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("root");
        fs::create_dir(&root).unwrap();
        tree(&root);
        let file = folder.path().join("out");
        let archived = write(&root, "layers/a/b", &file, &|_| true).unwrap();
        let entries = listed(&file);
        let names: Vec<&str> = entries.iter().map(|entry| entry.0.as_str()).collect();
        assert_eq!(
            names[..6],
            [
                "layers/",
                "layers/a/",
                "layers/a/b/",
                "layers/a/b/a",
                "layers/a/b/b",
                "layers/a/b/link"
            ]
        );
        assert!(names.last().unwrap().ends_with("y/file"));
        assert_eq!((entries[3].1, entries[4].1), (0o755, 0o640));
        assert!(entries.iter().all(|entry| entry.2 == MTIME && entry.3 == 2 * OWNER));
        assert_eq!(archived.size_bytes, fs::metadata(&file).unwrap().len());
        let bytes = zstd::decode_all(File::open(&file).unwrap()).unwrap();
        assert_eq!(archived.digest.as_bytes().as_slice(), Sha256::digest(bytes).as_slice());
    }
}
