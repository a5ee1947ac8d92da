//! Writes images of EROFS, the kernel's read-only file system, in one pass: contents as they come, names at the end.
//! What the names mean, and which of them are allowed, is the caller's.
//!
//! ```text
//! block 0   superblock and the root's inode
//! then, as files come   their whole blocks; between them extents of inodes, each with the rest of its file behind it
//! last      inodes of folders, and their names
//! ```
//! Nothing is compressed, so that the kernel reads contents where they lie, and nothing in it is of the time or host
//! that wrote it: equal calls make equal images. The format is documented with the kernel
//! (`fs/erofs/erofs_fs.h`); only what every version of it reads is used.

mod folders;
mod format;
mod mount;

pub use mount::mount;

use format::{BLOCK, INODE, Inode, Kind, LINKS_AT, SLOT};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt as _;

/// Bytes of inodes that are written at once.
const EXTENT: usize = 16 * BLOCK;
/// Contents that are read and written at once.
const CHUNK: usize = 64 * BLOCK;
/// What is left out of the image: a hole reads the same.
static ZEROS: [u8; CHUNK] = [0; CHUNK];

/// Who may do what with an entry, and since when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Meta {
    /// Permissions, without the kind.
    pub mode: u16,
    /// User and group.
    pub owner: (u32, u32),
    /// Seconds since 1970.
    pub mtime: u64,
}

/// Something with a name.
#[derive(Debug)]
pub enum Node {
    /// A folder.
    Folder(Box<Folder>),
    /// Anything else: what [`Writer`] has taken.
    Leaf(Leaf),
}

/// What is no folder, by its place among all that were written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Leaf(usize);

/// A folder and what it holds.
#[derive(Debug)]
pub struct Folder {
    /// Its owner and permissions.
    pub meta: Meta,
    /// Whether overlays show nothing of what lies below it.
    pub opaque: bool,
    /// What it holds.
    pub names: BTreeMap<Box<[u8]>, Node>,
}

impl Folder {
    /// An empty one.
    #[must_use]
    pub fn new(meta: Meta) -> Self {
        Self {
            meta,
            opaque: false,
            names: BTreeMap::new(),
        }
    }
}

/// Why something was not written.
#[derive(Debug)]
pub enum Trouble {
    /// Contents could not be read, or ended early.
    Read(io::Error),
    /// The image could not be written.
    Write(io::Error),
}

/// What was written of a leaf.
struct Written {
    /// Where its inode is, in bytes.
    at: u64,
    kind: Kind,
    links: u32,
}

/// An image in the making.
pub struct Writer {
    image: File,
    /// The first block that nothing has.
    next: u64,
    /// The extent of inodes that is being filled: its first block, contents, and how much of it is used.
    extent_at: Option<u64>,
    extent: Vec<u8>,
    used: usize,
    leaves: Vec<Written>,
    chunk: Vec<u8>,
}

impl Writer {
    /// Writes to the empty file `image`.
    #[must_use]
    pub fn new(image: File) -> Self {
        Self {
            image,
            next: 1,
            extent_at: None,
            extent: vec![0; EXTENT],
            used: 0,
            leaves: Vec::new(),
            chunk: vec![0; CHUNK],
        }
    }

    /// Takes a file with the next `size` bytes of `contents`.
    ///
    /// # Errors
    /// See [`Trouble`].
    pub fn file(&mut self, meta: &Meta, size: u64, contents: &mut impl Read) -> Result<Leaf, Trouble> {
        let rest = rest_of(size);
        let inline = rest > 0 && INODE + rest <= BLOCK;
        let whole = if inline { size - rest as u64 } else { size };
        let first = self.take(whole.div_ceil(BLOCK as u64)).map_err(Trouble::Write)?;
        self.fill(first, whole, contents)?;
        let inode = Inode {
            kind: Kind::File,
            meta: *meta,
            size,
            inline,
            opaque: false,
            first,
            links: 1,
            number: self.number(),
        };
        let at = self
            .place(&inode, if inline { rest } else { 0 })
            .map_err(Trouble::Write)?;
        if inline {
            let tail = &mut self.extent[at + INODE..at + INODE + rest];
            contents.read_exact(tail).map_err(Trouble::Read)?;
        }
        Ok(self.written(at, Kind::File))
    }

    /// Takes a symbolic link; `target` is not empty and shorter than 4,096 bytes.
    ///
    /// # Errors
    /// See [`Trouble`].
    pub fn symlink(&mut self, meta: &Meta, mut target: &[u8]) -> Result<Leaf, Trouble> {
        let leaf = self.file(meta, target.len() as u64, &mut target)?;
        self.become_of(leaf, Kind::Symlink).map_err(Trouble::Write)?;
        Ok(leaf)
    }

    /// Takes what stands for the absence of something below: a device 0/0, as overlays have it.
    ///
    /// # Errors
    /// See [`Trouble`].
    pub fn absence(&mut self, meta: &Meta) -> Result<Leaf, Trouble> {
        let leaf = self.file(meta, 0, &mut io::empty())?;
        self.become_of(leaf, Kind::Device).map_err(Trouble::Write)?;
        Ok(leaf)
    }

    /// What a leaf is.
    #[must_use]
    pub fn is_file(&self, leaf: Leaf) -> bool {
        self.leaves[leaf.0].kind == Kind::File
    }

    /// Whether a leaf stands for an absence.
    #[must_use]
    pub fn is_absence(&self, leaf: Leaf) -> bool {
        self.leaves[leaf.0].kind == Kind::Device
    }

    /// Counts one more name of a leaf.
    pub fn link(&mut self, leaf: Leaf) {
        self.leaves[leaf.0].links += 1;
    }

    /// Counts one name less. What has none any more stays in the image, where nothing finds it.
    pub fn unlink(&mut self, leaf: Leaf) {
        self.leaves[leaf.0].links = self.leaves[leaf.0].links.saturating_sub(1);
    }

    /// Writes the folders, and says how many bytes the image has.
    ///
    /// # Errors
    /// The image could not be written.
    pub fn finish(mut self, root: &Folder) -> io::Result<u64> {
        self.flush()?;
        if let Some(at) = self
            .extent_at
            .take()
            .filter(|at| at + (EXTENT / BLOCK) as u64 == self.next)
        {
            self.next = at + self.used.div_ceil(BLOCK) as u64;
        }
        for leaf in self.leaves.iter().filter(|leaf| leaf.links > 1) {
            self.image.write_all_at(&leaf.links.to_le_bytes(), leaf.at + LINKS_AT)?;
        }
        let region = folders::Region::plan(root, self.next, self.number());
        let blocks = region.blocks();
        let _ = self.take(blocks)?;
        region.write(root, &self.leaves, &self.image)?;
        self.image.set_len(self.next * BLOCK as u64)?;
        self.image
            .write_all_at(&format::superblock(self.next, region.inodes()), format::SUPERBLOCK_AT)?;
        Ok(self.next * BLOCK as u64)
    }

    /// Copies `bytes` to the blocks from `first` on. The last is filled up with zeros.
    fn fill(&mut self, first: u64, bytes: u64, contents: &mut impl Read) -> Result<(), Trouble> {
        let (mut at, mut left) = (first * BLOCK as u64, bytes);
        while left > 0 {
            let n = usize::try_from(left).unwrap_or(CHUNK).min(CHUNK);
            contents.read_exact(&mut self.chunk[..n]).map_err(Trouble::Read)?;
            let padded = n.next_multiple_of(BLOCK);
            self.chunk[n..padded].fill(0);
            if self.chunk[..padded] != ZEROS[..padded] {
                let written = self.image.write_all_at(&self.chunk[..padded], at);
                written.map_err(Trouble::Write)?;
            }
            at += padded as u64;
            left -= n as u64;
        }
        Ok(())
    }

    /// Blocks that follow each other.
    fn take(&mut self, blocks: u64) -> io::Result<u64> {
        let first = self.next;
        self.next += blocks;
        if self.next > u64::from(u32::MAX) {
            return Err(io::Error::from(io::ErrorKind::FileTooLarge));
        }
        Ok(first)
    }

    /// Puts an inode, with room for `rest` bytes behind it, into the extent, and says where in it.
    fn place(&mut self, inode: &Inode, rest: usize) -> io::Result<usize> {
        let bytes = INODE + rest;
        let mut at = slot(self.used, bytes);
        if self.extent_at.is_none() || at + bytes > EXTENT {
            self.flush()?;
            self.extent_at = Some(self.take((EXTENT / BLOCK) as u64)?);
            self.extent.fill(0);
            at = 0;
        }
        self.used = at + bytes;
        self.extent[at..at + INODE].copy_from_slice(&inode.bytes());
        Ok(at)
    }

    fn flush(&self) -> io::Result<()> {
        let Some(at) = self.extent_at else { return Ok(()) };
        let used = self.used.next_multiple_of(BLOCK);
        self.image.write_all_at(&self.extent[..used], at * BLOCK as u64)
    }

    fn written(&mut self, at: usize, kind: Kind) -> Leaf {
        let extent = self.extent_at.unwrap_or_default();
        self.leaves.push(Written {
            at: extent * BLOCK as u64 + at as u64,
            kind,
            links: 1,
        });
        Leaf(self.leaves.len() - 1)
    }

    /// Makes the leaf that was written last one of another kind.
    fn become_of(&mut self, leaf: Leaf, kind: Kind) -> io::Result<()> {
        let extent = self.extent_at.unwrap_or_default() * BLOCK as u64;
        let written = &mut self.leaves[leaf.0];
        let at = usize::try_from(written.at - extent).map_err(io::Error::other)?;
        format::set_kind(&mut self.extent[at..at + INODE], kind);
        written.kind = kind;
        Ok(())
    }

    /// Of the inode that comes next; only for people, the kernel goes by its place.
    fn number(&self) -> u32 {
        u32::try_from(self.leaves.len() + 2).unwrap_or(u32::MAX)
    }
}

/// Where `bytes` fit that begin at `used` at the earliest: within one block, or the kernel refuses what lies behind an
/// inode.
fn slot(used: usize, bytes: usize) -> usize {
    let at = used.next_multiple_of(SLOT);
    if at % BLOCK + bytes > BLOCK {
        at.next_multiple_of(BLOCK)
    } else {
        at
    }
}

/// Bytes beyond whole blocks.
fn rest_of(size: u64) -> usize {
    usize::try_from(size % BLOCK as u64).unwrap_or_default()
}
