//! A folder as a normalised tar: entries sorted, one time, one owner, names rooted at `/`. The same files give the same bytes
//! wherever and whenever they were made.

use model::digest::Digest;
use sha2::{Digest as _, Sha256};
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
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

/// Writes what is below `dir` to `file` as `tar.zst`, with names below `prefix`: all of it that `keep` says yes to by its path
/// relative to `dir`. Sockets, pipes and devices are left out.
///
/// # Errors
/// Where an entry cannot be read or the file cannot be written.
pub fn write(dir: &Path, prefix: &str, file: &Path, keep: &dyn Fn(&Path) -> bool) -> io::Result<Archived> {
    let output = BufWriter::with_capacity(256 * 1024, File::create(file)?);
    let mut encoder = zstd::Encoder::new(output, LEVEL)?;
    encoder.multithread(THREADS)?;
    let mut builder = Builder::new(Hashing {
        inner: encoder,
        hash: Sha256::new(),
    });
    builder.sparse(false);
    parents(&mut builder, prefix)?;
    for entry in WalkDir::new(dir).sort_by_file_name() {
        let entry = entry.map_err(io::Error::from)?;
        let below = entry.path().strip_prefix(dir).unwrap_or(entry.path());
        if entry.depth() > 0 && !keep(below) {
            continue;
        }
        let name = Path::new(prefix).join(below);
        append(
            &mut builder,
            entry.path(),
            &name,
            &entry.metadata().map_err(io::Error::from)?,
        )?;
    }
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

fn append(builder: &mut Builder<impl Write>, path: &Path, name: &Path, found: &std::fs::Metadata) -> io::Result<()> {
    let mode = found.permissions().mode();
    if found.is_dir() {
        let mut header = header(EntryType::Directory, mode | 0o700, 0);
        return builder.append_data(&mut header, name.join(""), io::empty());
    }
    if found.is_symlink() {
        let mut header = header(EntryType::Symlink, 0o777, 0);
        return builder.append_link(&mut header, name, std::fs::read_link(path)?);
    }
    if !found.is_file() {
        return Ok(());
    }
    let file = File::open(path)?;
    let size = file.metadata()?.len();
    // A file that shrinks while it is read would leave the archive misaligned: that is an error below.
    let mut content = io::Read::take(&file, size);
    let mut header = header(EntryType::Regular, mode, size);
    builder.append_data(&mut header, name, &mut content)?;
    if content.limit() > 0 {
        return Err(io::Error::other(format!(
            "{} changed while it was exported",
            path.display()
        )));
    }
    Ok(())
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
