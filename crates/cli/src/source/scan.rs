//! Walks the app's folder and refuses what can't be pushed, before anything is sent.

use super::rules::Rules;
use super::{File, Link, MAX_FILE_BYTES, MAX_FILES, MAX_PACKAGE_BYTES, Stamp, Tree};
use crate::errors::Error;
use std::fs::Metadata;
use std::path::{Component, Path, PathBuf};

/// Deepest nesting of folders.
const MAX_DEPTH: usize = 128;

/// What is to be pushed of `root`. The result does not depend on the order in which the file system lists entries.
///
/// # Errors
/// Where the folder is missing or empty, has something that can't be pushed, or is too large.
pub fn scan(root: &Path) -> Result<Tree, Error> {
    let meta = std::fs::metadata(root).map_err(|_| Error::NoSuchFolder { path: root.to_owned() })?;
    if !meta.is_dir() {
        return Err(Error::NoSuchFolder { path: root.to_owned() });
    }
    let rules = Rules::of(root)?;
    let mut walk = Walk {
        root,
        rules,
        tree: Tree::default(),
        bytes: 0,
    };
    walk.folder(Path::new(""), 0)?;
    let mut tree = walk.tree;
    if tree.files.is_empty() && tree.links.is_empty() {
        return Err(Error::EmptyFolder {
            path: root.to_owned(),
            ignored: tree.ignored,
        });
    }
    tree.files.sort_by(|a, b| a.path.cmp(&b.path));
    tree.links.sort_by(|a, b| a.path.cmp(&b.path));
    tree.empty_folders.sort();
    Ok(tree)
}

struct Walk<'a> {
    root: &'a Path,
    rules: Rules,
    tree: Tree,
    bytes: u64,
}

impl Walk<'_> {
    /// Returns how many entries of the folder are pushed.
    fn folder(&mut self, relative: &Path, depth: usize) -> Result<usize, Error> {
        let absolute = self.root.join(relative);
        if depth > MAX_DEPTH {
            return Err(Error::usage(format!(
                "folders are nested deeper than {MAX_DEPTH} at {}",
                absolute.display()
            )));
        }
        let entries = std::fs::read_dir(&absolute).map_err(|error| Error::file("read", &absolute, &error))?;
        let mut kept = 0;
        for entry in entries {
            let entry = entry.map_err(|error| Error::file("read", &absolute, &error))?;
            let path = relative.join(entry.file_name());
            let source = entry.path();
            let meta = entry.metadata().map_err(|error| Error::file("read", &source, &error))?;
            if self.rules.excludes(&path, &source, meta.is_dir()) {
                self.tree.ignored += 1;
                continue;
            }
            kept += 1;
            self.entry(&path, source, &meta, depth)?;
        }
        Ok(kept)
    }

    fn entry(&mut self, path: &Path, source: PathBuf, meta: &Metadata, depth: usize) -> Result<(), Error> {
        let name = portable(path)?;
        let kind = meta.file_type();
        if kind.is_dir() {
            if self.folder(path, depth + 1)? == 0 {
                self.tree.empty_folders.push(name);
            }
        } else if kind.is_symlink() {
            let target = std::fs::read_link(&source).map_err(|error| Error::file("read", &source, &error))?;
            if !stays_inside(path, &target) {
                return Err(Error::LinkLeaves {
                    path: path.to_owned(),
                    target,
                });
            }
            self.tree.links.push(Link {
                path: name,
                target: portable(&target)?,
            });
        } else if kind.is_file() {
            self.file(path, name, source, meta)?;
        } else {
            return Err(Error::SpecialFile {
                path: path.to_owned(),
                kind: special_kind(meta),
            });
        }
        Ok(())
    }

    fn file(&mut self, path: &Path, name: String, source: PathBuf, meta: &Metadata) -> Result<(), Error> {
        if meta.len() > MAX_FILE_BYTES {
            return Err(Error::FileTooLarge {
                path: path.to_owned(),
                bytes: meta.len(),
                limit: MAX_FILE_BYTES,
            });
        }
        self.bytes += meta.len();
        if self.bytes > MAX_PACKAGE_BYTES {
            return Err(Error::PackageTooLarge {
                bytes: self.bytes,
                limit: MAX_PACKAGE_BYTES,
            });
        }
        if self.tree.files.len() >= MAX_FILES {
            return Err(Error::TooManyFiles { limit: MAX_FILES });
        }
        self.tree.files.push(File {
            path: name,
            source,
            mode: mode_of(meta),
            stamp: stamp_of(meta),
        });
        Ok(())
    }
}

/// A path as text with `/`.
fn portable(path: &Path) -> Result<String, Error> {
    let text = path.to_str().ok_or_else(|| Error::NotUtf8 {
        path: path.to_string_lossy().into_owned(),
    })?;
    Ok(if std::path::MAIN_SEPARATOR == '/' {
        text.to_owned()
    } else {
        text.replace(std::path::MAIN_SEPARATOR, "/")
    })
}

/// Whether a link at `path` (relative to the root) leads to somewhere at or below the root, by its text alone.
fn stays_inside(path: &Path, target: &Path) -> bool {
    let mut depth = path.components().count().saturating_sub(1);
    for component in target.components() {
        match component {
            Component::Normal(_) => depth += 1,
            Component::CurDir => {}
            Component::ParentDir if depth > 0 => depth -= 1,
            Component::ParentDir | Component::RootDir | Component::Prefix(_) => return false,
        }
    }
    true
}

#[cfg(unix)]
fn special_kind(meta: &Metadata) -> &'static str {
    use std::os::unix::fs::FileTypeExt as _;
    let kind = meta.file_type();
    match () {
        () if kind.is_socket() => "socket",
        () if kind.is_fifo() => "named pipe",
        () if kind.is_block_device() || kind.is_char_device() => "device",
        () => "special file",
    }
}

#[cfg(not(unix))]
fn special_kind(_: &Metadata) -> &'static str {
    "special file"
}

#[cfg(unix)]
fn mode_of(meta: &Metadata) -> u32 {
    use std::os::unix::fs::PermissionsExt as _;
    meta.permissions().mode() & 0o777
}

#[cfg(not(unix))]
fn mode_of(_: &Metadata) -> u32 {
    0o744
}

/// What tells whether the file has changed.
#[cfg(unix)]
pub fn stamp_of(meta: &Metadata) -> Stamp {
    use std::os::unix::fs::MetadataExt as _;
    let nanos = |seconds: i64, nanos: i64| i128::from(seconds) * 1_000_000_000 + i128::from(nanos);
    Stamp {
        bytes: meta.len(),
        mtime_ns: nanos(meta.mtime(), meta.mtime_nsec()),
        ctime_ns: nanos(meta.ctime(), meta.ctime_nsec()),
        inode: meta.ino(),
    }
}

/// What tells whether the file has changed.
#[cfg(not(unix))]
pub fn stamp_of(meta: &Metadata) -> Stamp {
    let modified = meta
        .modified()
        .ok()
        .and_then(|at| at.duration_since(std::time::UNIX_EPOCH).ok());
    let mtime_ns = modified.map_or(0, |since| i128::try_from(since.as_nanos()).unwrap_or(0));
    Stamp {
        bytes: meta.len(),
        mtime_ns,
        ctime_ns: mtime_ns,
        inode: 0,
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    fn folder(files: &[&str]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("folder");
        for path in files {
            let path = folder.path().join(path);
            std::fs::create_dir_all(path.parent().expect("parent")).expect("made");
            std::fs::write(path, "x").expect("written");
        }
        folder
    }

    #[test]
    fn files_links_and_empty_folders_are_found_in_order() {
        let root = folder(&["b.txt", "a/z", "a/b"]);
        std::fs::create_dir(root.path().join("empty")).expect("made");
        symlink("../b.txt", root.path().join("a/link")).expect("linked");
        std::fs::set_permissions(root.path().join("a/b"), std::fs::Permissions::from_mode(0o755)).expect("set");
        let tree = scan(root.path()).expect("scans");
        let paths: Vec<_> = tree.files.iter().map(|file| file.path.as_str()).collect();
        assert_eq!(paths, ["a/b", "a/z", "b.txt"]);
        assert_eq!(tree.files[0].mode, 0o755);
        assert_eq!(
            tree.links,
            [Link {
                path: "a/link".into(),
                target: "../b.txt".into()
            }]
        );
        assert_eq!(tree.empty_folders, ["empty"]);
    }

    #[test]
    fn an_empty_folder_is_refused() {
        let root = folder(&[]);
        assert!(matches!(scan(root.path()), Err(Error::EmptyFolder { ignored: 0, .. })));
        let root = folder(&[".git/HEAD"]);
        assert!(matches!(scan(root.path()), Err(Error::EmptyFolder { ignored: 1, .. })));
        assert!(matches!(
            scan(Path::new("/nonexistent")),
            Err(Error::NoSuchFolder { .. })
        ));
    }

    #[test]
    fn links_out_of_the_app_are_refused() {
        for target in ["/etc/passwd", "../outside", "sub/../../outside"] {
            let root = folder(&["a"]);
            symlink(target, root.path().join("link")).expect("linked");
            assert!(matches!(scan(root.path()), Err(Error::LinkLeaves { .. })), "{target}");
        }
        let root = folder(&["a"]);
        symlink("sub/../a", root.path().join("link")).expect("linked");
        assert!(scan(root.path()).is_ok());
    }

    #[test]
    fn sockets_and_pipes_are_refused_unless_ignored() {
        let root = folder(&["a"]);
        let listener = std::os::unix::net::UnixListener::bind(root.path().join("s")).expect("bound");
        assert!(matches!(
            scan(root.path()),
            Err(Error::SpecialFile { kind: "socket", .. })
        ));
        std::fs::write(root.path().join(".paasignore"), "s\n").expect("written");
        assert!(scan(root.path()).is_ok());
        drop(listener);
    }

    #[test]
    fn names_that_are_not_utf8_are_refused() {
        use std::os::unix::ffi::OsStrExt as _;
        let root = folder(&["a"]);
        std::fs::write(root.path().join(std::ffi::OsStr::from_bytes(b"b\xff")), "").expect("written");
        assert!(matches!(scan(root.path()), Err(Error::NotUtf8 { .. })));
    }

    #[test]
    fn a_file_beyond_the_limit_is_refused() {
        let root = folder(&["a"]);
        let file = std::fs::File::create(root.path().join("big")).expect("made");
        file.set_len(MAX_FILE_BYTES + 1).expect("sparse");
        assert!(matches!(scan(root.path()), Err(Error::FileTooLarge { .. })));
    }
}
