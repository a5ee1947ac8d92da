//! The folders of an image: first where each of them will be, as names tell the places of what they name, then the
//! folders themselves.

use super::format::{self, BLOCK, INODE, Inode, Kind, Name, OPAQUE, ROOT_AT};
use super::{Folder, Node, Written, rest_of, slot};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

/// Where one folder will be.
struct Place {
    /// Its inode, in bytes.
    at: u64,
    /// Bytes of its names.
    size: u64,
    inline: bool,
    /// The first of its blocks, counted from the first of all folders.
    block: u64,
    folders_within: u32,
    /// Folders in all that is below it, and itself.
    all: usize,
}

/// The part of an image that folders take: their inodes, then their names.
pub(super) struct Region {
    first: u64,
    /// Bytes of inodes.
    inodes_len: usize,
    /// Blocks of names.
    names_len: u64,
    /// In the order in which folders are walked: each before what it holds.
    places: Vec<Place>,
    leaves: u32,
}

impl Region {
    /// Places `root` and all below it from block `first` on. `leaves` is the number that the first of them gets.
    pub fn plan(root: &Folder, first: u64, leaves: u32) -> Self {
        let mut region = Self {
            first,
            inodes_len: 0,
            names_len: 0,
            places: Vec::new(),
            leaves,
        };
        region.plan_one(root);
        region
    }

    pub fn blocks(&self) -> u64 {
        self.inodes_len.div_ceil(BLOCK) as u64 + self.names_len
    }

    pub fn inodes(&self) -> u64 {
        u64::from(self.leaves) - 2 + self.places.len() as u64
    }

    fn plan_one(&mut self, folder: &Folder) {
        let size = format::names_len(&listed(folder, 0, 0, |_| (0, Kind::File)));
        let rest = rest_of(size);
        let head = INODE + if folder.opaque { OPAQUE } else { 0 };
        // The root's inode is behind the superblock, and so is the rest of it.
        let is_root = self.places.is_empty();
        let room = BLOCK - if is_root { ROOT_AT } else { 0 };
        let inline = rest > 0 && head + rest <= room;
        let bytes = head + if inline { rest } else { 0 };
        let at = if is_root {
            ROOT_AT as u64
        } else {
            let at = slot(self.inodes_len, bytes);
            self.inodes_len = at + bytes;
            self.first * BLOCK as u64 + at as u64
        };
        let whole = if inline { size - rest as u64 } else { size };
        let folders = folder.names.values().filter_map(|node| match node {
            Node::Folder(folder) => Some(folder),
            Node::Leaf(_) => None,
        });
        let own = self.places.len();
        self.places.push(Place {
            at,
            size,
            inline,
            block: self.names_len,
            folders_within: u32::try_from(folders.clone().count()).unwrap_or(u32::MAX - 2),
            all: 1,
        });
        self.names_len += whole.div_ceil(BLOCK as u64);
        folders.for_each(|folder| self.plan_one(folder));
        self.places[own].all = self.places.len() - own;
    }

    /// Writes all of it to `image`.
    pub fn write(&self, root: &Folder, leaves: &[Written], image: &File) -> io::Result<()> {
        let mut writing = Writing {
            region: self,
            leaves,
            image,
            inodes: vec![0; self.inodes_len],
            next: 0,
        };
        writing.one(root, ROOT_AT as u64)?;
        image.write_all_at(&writing.inodes, self.first * BLOCK as u64)
    }
}

struct Writing<'a> {
    region: &'a Region,
    leaves: &'a [Written],
    image: &'a File,
    inodes: Vec<u8>,
    /// The folder that comes next, in the order of places.
    next: usize,
}

impl Writing<'_> {
    /// Writes a folder and all below it; `parent` is where the inode of the folder above is.
    fn one(&mut self, folder: &Folder, parent: u64) -> io::Result<()> {
        let place = &self.region.places[self.next];
        self.next += 1;
        self.write_one(folder, place, parent)?;
        for node in folder.names.values() {
            if let Node::Folder(within) = node {
                self.one(within, place.at)?;
            }
        }
        Ok(())
    }

    fn write_one(&mut self, folder: &Folder, place: &Place, parent: u64) -> io::Result<()> {
        // Folders within come next, each after all that the one before it holds.
        let mut within = self.next;
        let listed = listed(folder, place.at, parent, |node| match node {
            Node::Leaf(leaf) => (self.leaves[leaf.0].at, self.leaves[leaf.0].kind),
            Node::Folder(_) => {
                let place = &self.region.places[within];
                within += place.all;
                (place.at, Kind::Folder)
            }
        });
        let names = format::names(&listed);
        let region = self.region;
        let first = region.first + region.inodes_len.div_ceil(BLOCK) as u64 + place.block;
        let inode = Inode {
            kind: Kind::Folder,
            meta: folder.meta,
            size: place.size,
            inline: place.inline,
            opaque: folder.opaque,
            first,
            links: 2 + place.folders_within,
            number: region.leaves + u32::try_from(self.next).unwrap_or_default(),
        };
        let mut head = inode.bytes().to_vec();
        if folder.opaque {
            head.extend(format::opaque());
        }
        let whole = if place.inline {
            names.len() - names.len() % BLOCK
        } else {
            names.len()
        };
        head.extend(&names[whole..]);
        self.image.write_all_at(&names[..whole], first * BLOCK as u64)?;
        if place.at == ROOT_AT as u64 {
            return self.image.write_all_at(&head, place.at);
        }
        let at = usize::try_from(place.at - region.first * BLOCK as u64).map_err(io::Error::other)?;
        self.inodes[at..at + head.len()].copy_from_slice(&head);
        Ok(())
    }
}

/// The names of a folder, with itself and the one above it, sorted as the kernel looks them up. `find` is asked in the
/// order of the folder's own names.
fn listed<'a>(folder: &'a Folder, own: u64, parent: u64, mut find: impl FnMut(&Node) -> (u64, Kind)) -> Vec<Name<'a>> {
    let mut names: Vec<Name<'a>> = Vec::with_capacity(folder.names.len() + 2);
    names.push((b".", own, Kind::Folder));
    names.push((b"..", parent, Kind::Folder));
    for (name, node) in &folder.names {
        let (at, kind) = find(node);
        names.push((name, at, kind));
    }
    names.sort_unstable_by_key(|(name, ..)| *name);
    names
}
