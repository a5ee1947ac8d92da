//! The parts of an image as bytes: superblock, inode, names of a folder.

use super::Meta;

/// Bytes of a block.
pub(super) const BLOCK: usize = 4096;
/// Bytes of an inode of the larger kind, which alone has times and wide ids.
pub(super) const INODE: usize = 64;
/// Inodes begin at multiples of this; their numbers count them.
pub(super) const SLOT: usize = 32;
/// Where the superblock is.
pub(super) const SUPERBLOCK_AT: u64 = 1024;
const SUPERBLOCK: usize = 128;
/// Where the root's inode is: behind it. The superblock has 16 bits for its number.
pub(super) const ROOT_AT: usize = 1024 + SUPERBLOCK;
/// Where an inode has the number of its names.
pub(super) const LINKS_AT: u64 = 44;
/// Bytes of the attribute that makes a folder opaque, with what stands before attributes.
pub(super) const OPAQUE: usize = 32;

const MAGIC: u32 = 0xE0F5_E1E2;
/// As a power of two.
const BLOCK_BITS: u8 = 12;
/// An inode's format: the larger kind, its contents in blocks; or the last of them behind it.
const PLAIN: u16 = 1;
const INLINE: u16 = 1 | 2 << 1;
/// Bytes of an entry of a folder, without its name.
const ENTRY: usize = 12;

/// What an inode is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    File,
    Folder,
    Symlink,
    /// A device for characters.
    Device,
}

impl Kind {
    fn mode(self) -> u16 {
        match self {
            Self::File => 0o100_000,
            Self::Folder => 0o040_000,
            Self::Symlink => 0o120_000,
            Self::Device => 0o020_000,
        }
    }

    /// As entries of folders have it.
    fn code(self) -> u8 {
        match self {
            Self::File => 1,
            Self::Folder => 2,
            Self::Device => 3,
            Self::Symlink => 7,
        }
    }
}

/// All that an inode says.
pub(super) struct Inode {
    pub kind: Kind,
    pub meta: Meta,
    pub size: u64,
    /// Whether what is beyond whole blocks lies behind it.
    pub inline: bool,
    pub opaque: bool,
    /// The first block of its contents.
    pub first: u64,
    pub links: u32,
    pub number: u32,
}

impl Inode {
    pub fn bytes(&self) -> [u8; INODE] {
        let mut bytes = [0; INODE];
        let format = if self.inline { INLINE } else { PLAIN };
        put(&mut bytes, 0, &format.to_le_bytes());
        // Counted in fours, from the part that every inode with attributes has.
        let attributes = if self.opaque { (OPAQUE - 12) / 4 + 1 } else { 0 };
        bytes[2] = u8::try_from(attributes).unwrap_or_default();
        put(&mut bytes, 4, &(self.kind.mode() | self.meta.mode).to_le_bytes());
        put(&mut bytes, 8, &self.size.to_le_bytes());
        let first = u32::try_from(self.first).unwrap_or_default();
        put(&mut bytes, 16, &first.to_le_bytes());
        put(&mut bytes, 20, &self.number.to_le_bytes());
        put(&mut bytes, 24, &self.meta.owner.0.to_le_bytes());
        put(&mut bytes, 28, &self.meta.owner.1.to_le_bytes());
        put(&mut bytes, 32, &self.meta.mtime.to_le_bytes());
        put(&mut bytes, 44, &self.links.to_le_bytes());
        bytes
    }
}

/// Makes the bytes of a file's inode one of another kind; a device is the one with the number 0.
pub(super) fn set_kind(inode: &mut [u8], kind: Kind) {
    let mode = u16::from_le_bytes([inode[4], inode[5]]) & 0o7777;
    put(inode, 4, &(kind.mode() | mode).to_le_bytes());
    if kind == Kind::Device {
        put(inode, 16, &[0; 4]);
    }
}

/// The attribute that makes a folder opaque for overlays: `trusted.overlay.opaque`, `y`.
pub(super) fn opaque() -> [u8; OPAQUE] {
    const TRUSTED: u8 = 4;
    const NAME: &[u8] = b"overlay.opaque";
    let mut bytes = [0; OPAQUE];
    bytes[12] = u8::try_from(NAME.len()).unwrap_or_default();
    bytes[13] = TRUSTED;
    bytes[14] = 1;
    put(&mut bytes, 16, NAME);
    put(&mut bytes, 16 + NAME.len(), b"y");
    bytes
}

/// The superblock of an image with so many blocks and inodes.
pub(super) fn superblock(blocks: u64, inodes: u64) -> [u8; SUPERBLOCK] {
    let mut bytes = [0; SUPERBLOCK];
    put(&mut bytes, 0, &MAGIC.to_le_bytes());
    bytes[12] = BLOCK_BITS;
    let root = u16::try_from(ROOT_AT / SLOT).unwrap_or_default();
    put(&mut bytes, 14, &root.to_le_bytes());
    put(&mut bytes, 16, &inodes.to_le_bytes());
    put(&mut bytes, 36, &u32::try_from(blocks).unwrap_or(u32::MAX).to_le_bytes());
    bytes
}

/// A name in a folder, where its inode is (in bytes), and of what kind.
pub(super) type Name<'a> = (&'a [u8], u64, Kind);

/// How many bytes the sorted `names` of a folder take.
pub(super) fn names_len(names: &[Name<'_>]) -> u64 {
    let (mut blocks, mut used) = (0, 0);
    for (name, ..) in names {
        if used + ENTRY + name.len() > BLOCK {
            blocks += 1;
            used = 0;
        }
        used += ENTRY + name.len();
    }
    blocks * BLOCK as u64 + used as u64
}

/// The same names as bytes: in each block its entries, then their names.
pub(super) fn names(mut names: &[Name<'_>]) -> Vec<u8> {
    let mut bytes = Vec::new();
    while !names.is_empty() {
        let mut used = 0;
        let fits = names.iter().take_while(|(name, ..)| {
            used += ENTRY + name.len();
            used <= BLOCK
        });
        let (block, more) = names.split_at(fits.count());
        let mut at = block.len() * ENTRY;
        for (name, inode, kind) in block {
            bytes.extend((inode / SLOT as u64).to_le_bytes());
            bytes.extend(u16::try_from(at).unwrap_or_default().to_le_bytes());
            bytes.extend([kind.code(), 0]);
            at += name.len();
        }
        block.iter().for_each(|(name, ..)| bytes.extend(*name));
        if !more.is_empty() {
            bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
        }
        names = more;
    }
    bytes
}

fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    bytes[at..at + value.len()].copy_from_slice(value);
}
