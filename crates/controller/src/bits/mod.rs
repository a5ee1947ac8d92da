//! Packages and droplets as the archives that Cloud Foundry's clients know: a package as a zip, a droplet as one tgz.
//!
//! Inside the platform a droplet is layers rooted at `/`. In the archive `home/vcap/app` is `./app`, and so on; `layers`,
//! which only Cloud Native Buildpacks have, keeps its name. What comes in is hostile, and normalised before it is kept.

mod droplet;
mod guard;
mod image;
mod package;
mod upload;

pub use droplet::{archive, sboms};
pub use image::layout;
pub use package::zip;
pub use upload::{Uploaded, take_in};

use std::path::{Component, Path, PathBuf};
use tar::{EntryType, Header};

/// 1980-01-01T00:00:01Z, the time of everything in a layer.
const MTIME: u64 = 315_532_801;

/// Why an archive is refused, or could not be made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The archive is not what it should be.
    #[error("{reason}")]
    Refused {
        /// What is wrong with it.
        reason: String,
    },
    /// A blob could not be read or written.
    #[error("read or write a blob of {subject}")]
    Blob {
        /// Such as `droplet <id>`.
        subject: String,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A scratch file could not be written.
    #[error("write an archive")]
    Scratch(#[source] std::io::Error),
}

impl Error {
    pub(crate) fn refused(reason: impl Into<String>) -> Self {
        Self::Refused { reason: reason.into() }
    }
}

/// `path` of an archive without `.` and roots; `None` where it leads outside.
fn plain(path: &Path) -> Option<PathBuf> {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir | Component::RootDir => {}
            Component::Normal(part) => plain.push(part),
            Component::ParentDir | Component::Prefix(_) => return None,
        }
    }
    Some(plain)
}

/// The header of an entry of a layer or of an archive: everything belongs to the app's user and is of one time.
fn header(kind: EntryType, mode: u32, size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode & 0o777);
    header.set_size(if kind == EntryType::Regular { size } else { 0 });
    header.set_mtime(MTIME);
    header.set_uid(2000);
    header.set_gid(2000);
    header
}
