//! Unpacks layers: tar archives rooted at `/` whose contents are hostile. Blocking.
//!
//! A layer may hold folders, plain files, symbolic links and hard links to its own files. Everything else, and every
//! name that does not stay below the root, ends the unpacking. Setuid bits and extended attributes of the archive are
//! ignored. In a layer of a droplet all belongs to the user of apps, and no name comes twice. A layer of an image has
//! owners of its own, may write a name again, and removes what is below it; see [`Form`]. What becomes of it is a tree
//! of files, or an image of a file system that holds the same: see [`Target`]. Where these are kept is
//! [`crate::cache`]'s.

mod ahead;
mod counted;
mod entry;
pub mod erofs;
mod image;
mod tree;

use counted::Counted;
use entry::Entry;
use image::Image;
use model::Digest;
use model::staging::LayerKind;
use std::cell::Cell;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::rc::Rc;
use tree::Tree;

pub(crate) use tree::is_opaque;

/// User and group of everything in a layer.
pub const OWNER: u32 = 2000;

/// Who that is on this host: files are stored with it, and sandboxes shift it where they have ids of their own.
#[must_use]
pub fn owner() -> u32 {
    sandbox::unprivileged::owner(OWNER)
}
/// Bytes of headers that one entry may take: long names and extensions.
const MAX_HEADER_BYTES: u64 = 256 << 10;
/// Largest window that a compressed layer may ask for, as a power of two.
const MAX_WINDOW_LOG: u32 = 27;

/// Whose rules a layer follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// A droplet's: strict, as the lifecycle writes it.
    Droplet,
    /// An image's. What it removes of the layers below becomes what the kernel's overlays take for that: a device 0/0
    /// for a name, an attribute for all of a folder. Links may lead anywhere, as the root that they are resolved in is
    /// the sandbox's.
    Image,
}

impl Form {
    /// That of a layer which holds this.
    #[must_use]
    pub fn of(kind: LayerKind) -> Self {
        match kind {
            LayerKind::Image => Self::Image,
            LayerKind::Runtime | LayerKind::Dependencies | LayerKind::App | LayerKind::Config => Self::Droplet,
        }
    }
}

/// What is made of an archive.
#[derive(Debug)]
pub enum Target<'a> {
    /// Nothing: it is only read and checked.
    Nothing,
    /// Files below this folder, which is empty.
    Folder(&'a Path),
    /// An image of EROFS in this file, which is empty. Its bytes are the archive's alone.
    Image(File),
}

/// How much an archive may become.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of the uncompressed archive.
    pub bytes: u64,
    /// Files, folders and links.
    pub entries: u64,
}

/// What was unpacked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unpacked {
    /// Of the uncompressed archive, all of it.
    pub digest: Digest,
    /// Bytes of the uncompressed archive.
    pub bytes: u64,
    /// Files, folders and links.
    pub entries: u64,
}

/// Why an archive was refused.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An entry that a layer must not have.
    #[error("entry {name:?} {reason}")]
    Hostile {
        /// The entry's name.
        name: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// More than allowed.
    #[error("it holds more than {limit} {what}")]
    TooLarge {
        /// The limit.
        limit: u64,
        /// Of what: `bytes`, `entries`.
        what: &'static str,
    },
    /// Not an archive, or cut off.
    #[error("it can't be read")]
    Corrupt(#[source] io::Error),
    /// The file system refused.
    #[error("entry {name:?} can't be written")]
    Write {
        /// The entry's name.
        name: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// Unpacks the `tar.zst` in `compressed`: one thread decompresses, this one hashes and writes.
///
/// # Errors
/// See [`Error`]; what was written until then is the caller's to remove.
pub fn layer(compressed: impl Read + Send, into: Target<'_>, limits: Limits, form: Form) -> Result<Unpacked, Error> {
    let mut decoder = zstd::stream::read::Decoder::new(compressed).map_err(Error::Corrupt)?;
    decoder.window_log_max(MAX_WINDOW_LOG).map_err(Error::Corrupt)?;
    std::thread::scope(|scope| {
        let (filler, ahead) = ahead::pair();
        let thread = std::thread::Builder::new().name("decompress".to_owned());
        thread
            .spawn_scoped(scope, || filler.run(decoder))
            .map_err(Error::Corrupt)?;
        archive(ahead, into, limits, form)
    })
}

/// Unpacks the uncompressed archive `tar`, as [`layer`] does.
///
/// # Errors
/// See [`Error`].
pub fn archive(tar: impl Read, into: Target<'_>, limits: Limits, form: Form) -> Result<Unpacked, Error> {
    let allowance = Rc::new(Cell::new(MAX_HEADER_BYTES));
    let source = Counted::new(tar, limits.bytes, Rc::clone(&allowance));
    let mut archive = tar::Archive::new(source);
    let entries = match write_entries(&mut archive, &allowance, into, limits, form) {
        Ok(entries) => entries,
        Err(error) => {
            let exceeded = archive.into_inner().exceeded;
            return Err(exceeded.map_or(error, |what| what.error(limits.bytes)));
        }
    };
    allowance.set(u64::MAX);
    let mut source = archive.into_inner();
    let drained = io::copy(&mut source, &mut io::sink());
    match (drained, source.exceeded) {
        (_, Some(what)) => Err(what.error(limits.bytes)),
        (Err(error), None) => Err(Error::Corrupt(error)),
        (Ok(_), None) => Ok(Unpacked {
            bytes: source.bytes,
            digest: source.digest(),
            entries,
        }),
    }
}

fn write_entries<R: Read>(
    archive: &mut tar::Archive<R>,
    allowance: &Cell<u64>,
    into: Target<'_>,
    limits: Limits,
    form: Form,
) -> Result<u64, Error> {
    let mut writing = Writing::open(into, form).map_err(unwritten)?;
    let mut count = 0;
    let mut entries = archive.entries().map_err(Error::Corrupt)?;
    loop {
        allowance.set(MAX_HEADER_BYTES);
        let Some(entry) = entries.next() else {
            writing.finish().map_err(unwritten)?;
            return Ok(count);
        };
        let mut entry = entry.map_err(Error::Corrupt)?;
        allowance.set(u64::MAX);
        count += 1;
        if count > limits.entries {
            return Err(Error::TooLarge {
                limit: limits.entries,
                what: "entries",
            });
        }
        let checked = Entry::check(&mut entry, form)?;
        match &mut writing {
            Writing::Nothing => drop(io::copy(&mut entry, &mut io::sink()).map_err(Error::Corrupt)?),
            Writing::Tree(tree) => tree.write(&checked, &mut entry)?,
            Writing::Image(image) => image.write(&checked, &mut entry)?,
        }
    }
}

/// A target that is being written.
enum Writing {
    Nothing,
    Tree(Tree),
    Image(Box<Image>),
}

impl Writing {
    fn open(target: Target<'_>, form: Form) -> io::Result<Self> {
        Ok(match target {
            Target::Nothing => Self::Nothing,
            Target::Folder(path) => Self::Tree(Tree::open(path, form)?),
            Target::Image(file) => Self::Image(Box::new(Image::new(file, form))),
        })
    }

    fn finish(self) -> io::Result<()> {
        match self {
            Self::Nothing | Self::Tree(_) => Ok(()),
            Self::Image(image) => image.finish(),
        }
    }
}

/// An error of the whole.
fn unwritten(source: io::Error) -> Error {
    Error::Write {
        name: "/".to_owned(),
        source,
    }
}

fn hostile(name: &[u8], reason: &'static str) -> Error {
    Error::Hostile {
        name: shown(name),
        reason,
    }
}

/// A name for messages: as text, shortened.
fn shown(name: &[u8]) -> String {
    String::from_utf8_lossy(name).chars().take(200).collect()
}

#[cfg(test)]
mod tests;

#[cfg(test)]
mod erofs_tests;
#[cfg(test)]
mod image_tests;
