//! The app's folder: which files are pushed, their digests, and the archive of those that the server lacks.
//!
//! Blocking; callers run it off the runtime. Nothing here talks to a server or prints.

pub mod cache;
pub mod hash;
pub mod rules;
pub mod scan;
pub mod zip;

use std::path::PathBuf;

/// Most files of an app.
pub const MAX_FILES: usize = 100_000;
/// Largest file, in bytes.
pub const MAX_FILE_BYTES: u64 = 1024 * 1024 * 1024;
/// Largest app, in bytes: CF's own limit for a package.
pub const MAX_PACKAGE_BYTES: u64 = 1024 * 1024 * 1024;

/// A regular file to push.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// Relative to the app's folder, with `/`.
    pub path: String,
    /// Where it is.
    pub source: PathBuf,
    /// Permission bits.
    pub mode: u32,
    pub stamp: Stamp,
}

/// What tells whether a file's contents may have changed since they were read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    pub bytes: u64,
    pub mtime_ns: i128,
    pub ctime_ns: i128,
    pub inode: u64,
}

/// A symbolic link to push; it stays within the app.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    pub path: String,
    pub target: String,
}

/// What a folder holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tree {
    /// By path.
    pub files: Vec<File>,
    pub links: Vec<Link>,
    /// Folders without anything in them.
    pub empty_folders: Vec<String>,
    /// Entries that were left out.
    pub ignored: usize,
}

impl Tree {
    /// Bytes of all files.
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.stamp.bytes).sum()
    }
}

/// SHA-1 in hexadecimal digits.
pub type Sha1Hex = String;
