//! The image that a layer is written into: the names of the archive, by the rules that its tree would follow. Contents
//! go to the image as they come, names stay in memory until the end.

use super::entry::{Entry, Shape};
use super::erofs::{Folder, Meta, Node, Trouble, Writer};
use super::tree::outside;
use super::{Error, Form, OWNER, hostile, shown};
use std::fs::File;
use std::io::{self, Read};

/// Memory that the names of one layer may take.
const MAX_NAMES_BYTES: u64 = 192 << 20;
/// What each of them takes besides its own bytes, about.
const NODE_BYTES: u64 = 128;

/// An image that is being made.
pub(super) struct Image {
    writer: Writer,
    root: Folder,
    form: Form,
    names_bytes: u64,
}

/// Why a folder is not there.
enum NoFolder {
    /// Something else has its name.
    Other,
    TooMany,
}

impl Image {
    pub fn new(file: File, form: Form) -> Self {
        Self {
            writer: Writer::new(file),
            root: Folder::new(Meta {
                mode: 0o755,
                owner: (0, 0),
                mtime: 0,
            }),
            form,
            names_bytes: 0,
        }
    }

    pub fn write<R: Read>(&mut self, entry: &Entry, contents: &mut tar::Entry<'_, R>) -> Result<(), Error> {
        let Some((last, parents)) = entry.name.split_last() else {
            self.write_root(entry);
            return Ok(());
        };
        let name = || entry.name.join(&b'/');
        match &entry.shape {
            Shape::Nothing => return Ok(()),
            Shape::Opaque => {
                self.folder(&entry.name, &name)?.opaque = true;
                return Ok(());
            }
            Shape::Absent => return self.hide(parents, last, entry),
            _ => {}
        }
        let hides = self.make_way(parents, last, entry)?;
        if entry.shape == Shape::Folder {
            let folder = self.folder(&entry.name, &name)?;
            folder.meta = meta(entry, 0o1777);
            folder.opaque |= hides;
            return Ok(());
        }
        let leaf = match &entry.shape {
            Shape::Symlink(target) => {
                self.count(target.len() as u64).map_err(|_| too_many())?;
                self.writer.symlink(&meta(entry, 0o777), target)
            }
            Shape::Hardlink(target) => {
                let found = find(&self.root, target);
                let Some(Node::Leaf(leaf)) = found.filter(|node| self.is_file(node)) else {
                    return Err(hostile(&name(), "is a hard link to something that is no file"));
                };
                let leaf = *leaf;
                self.writer.link(leaf);
                Ok(leaf)
            }
            _ => self.writer.file(&meta(entry, 0o777), contents.size(), contents),
        };
        let leaf = leaf.map_err(|trouble| match trouble {
            Trouble::Read(source) => Error::Corrupt(source),
            Trouble::Write(source) => Error::Write {
                name: shown(&name()),
                source,
            },
        })?;
        self.insert(parents, last, Node::Leaf(leaf), &name)
    }

    /// Writes the names.
    pub fn finish(self) -> io::Result<()> {
        self.writer.finish(&self.root).map(drop)
    }

    /// An entry for the root itself.
    fn write_root(&mut self, entry: &Entry) {
        match (self.form, &entry.shape) {
            (Form::Image, Shape::Opaque) => self.root.opaque = true,
            (Form::Image, Shape::Folder) => self.root.meta = meta(entry, 0o1777),
            _ => {}
        }
    }

    /// Removes what an image's entry replaces, and says whether that hid something below; refuses what may not be there.
    fn make_way(&mut self, parents: &[Vec<u8>], last: &[u8], entry: &Entry) -> Result<bool, Error> {
        let name = || entry.name.join(&b'/');
        let (form, is_folder) = (self.form, entry.shape == Shape::Folder);
        let parent = self.folder(parents, &name)?;
        match parent.names.get(last) {
            None => Ok(false),
            Some(Node::Folder(_)) if is_folder => Ok(false),
            Some(Node::Leaf(leaf)) if form == Form::Image => {
                let leaf = *leaf;
                parent.names.remove(last);
                self.writer.unlink(leaf);
                Ok(self.writer.is_absence(leaf))
            }
            Some(Node::Leaf(_)) if is_folder => Err(no_folder(&name())),
            Some(_) => Err(hostile(&name(), "appears twice")),
        }
    }

    /// Hides what layers below have of a name. What this layer has of it stays: only those below are meant.
    fn hide(&mut self, parents: &[Vec<u8>], last: &[u8], entry: &Entry) -> Result<(), Error> {
        let name = || entry.name.join(&b'/');
        match self.folder(parents, &name)?.names.get_mut(last) {
            Some(Node::Folder(folder)) => {
                folder.opaque = true;
                Ok(())
            }
            Some(Node::Leaf(_)) => Ok(()),
            None => {
                let nobody = Meta {
                    mode: 0,
                    owner: (0, 0),
                    mtime: 0,
                };
                let leaf = self.writer.absence(&nobody).map_err(|trouble| match trouble {
                    Trouble::Read(source) | Trouble::Write(source) => Error::Write {
                        name: shown(&name()),
                        source,
                    },
                })?;
                self.insert(parents, last, Node::Leaf(leaf), &name)
            }
        }
    }

    fn is_file(&self, node: &Node) -> bool {
        matches!(node, Node::Leaf(leaf) if self.writer.is_file(*leaf))
    }

    fn insert(
        &mut self,
        parents: &[Vec<u8>],
        last: &[u8],
        node: Node,
        name: &dyn Fn() -> Vec<u8>,
    ) -> Result<(), Error> {
        self.count(last.len() as u64).map_err(|_| too_many())?;
        self.folder(parents, name)?.names.insert(last.into(), node);
        Ok(())
    }

    /// The folder with these components, made where it is missing. `name` is told to whoever reads the error.
    fn folder(&mut self, parts: &[Vec<u8>], name: &dyn Fn() -> Vec<u8>) -> Result<&mut Folder, Error> {
        let made = descend(&mut self.root, parts, &mut self.names_bytes, self.form);
        made.map_err(|problem| match problem {
            NoFolder::Other => no_folder(&name()),
            NoFolder::TooMany => too_many(),
        })
    }

    fn count(&mut self, bytes: u64) -> Result<(), NoFolder> {
        count(&mut self.names_bytes, bytes)
    }
}

fn count(names_bytes: &mut u64, bytes: u64) -> Result<(), NoFolder> {
    *names_bytes += NODE_BYTES + bytes;
    if *names_bytes > MAX_NAMES_BYTES {
        return Err(NoFolder::TooMany);
    }
    Ok(())
}

fn descend<'a>(
    root: &'a mut Folder,
    parts: &[Vec<u8>],
    names_bytes: &mut u64,
    form: Form,
) -> Result<&'a mut Folder, NoFolder> {
    // Folders that no entry describes: an image's are root's, as its other tools have it.
    let owner = match form {
        Form::Droplet => OWNER,
        Form::Image => 0,
    };
    let implied = Meta {
        mode: 0o755,
        owner: owned((owner, owner)),
        mtime: 0,
    };
    let mut folder = root;
    for part in parts {
        if !folder.names.contains_key(part.as_slice()) {
            count(names_bytes, part.len() as u64)?;
            let made = Node::Folder(Box::new(Folder::new(implied)));
            folder.names.insert(part.as_slice().into(), made);
        }
        match folder.names.get_mut(part.as_slice()) {
            Some(Node::Folder(within)) => folder = within,
            _ => return Err(NoFolder::Other),
        }
    }
    Ok(folder)
}

/// What has this name.
fn find<'a>(root: &'a Folder, parts: &[Vec<u8>]) -> Option<&'a Node> {
    let (last, parents) = parts.split_last()?;
    let mut folder = root;
    for part in parents {
        match folder.names.get(part.as_slice())? {
            Node::Folder(within) => folder = within,
            Node::Leaf(_) => return None,
        }
    }
    folder.names.get(last.as_slice())
}

/// What an entry says, as the image has it.
fn meta(entry: &Entry, allowed: u32) -> Meta {
    let mode = match entry.shape {
        Shape::Symlink(_) => 0o777,
        _ => entry.mode & allowed,
    };
    Meta {
        mode: u16::try_from(mode).unwrap_or_default(),
        owner: owned(entry.owner),
        mtime: u64::try_from(entry.mtime).unwrap_or_default(),
    }
}

fn owned(owner: (u32, u32)) -> (u32, u32) {
    let (user, group) = outside(owner);
    (user.as_raw(), group.as_raw())
}

fn no_folder(name: &[u8]) -> Error {
    hostile(name, "goes through something that is no folder")
}

fn too_many() -> Error {
    Error::TooLarge {
        limit: MAX_NAMES_BYTES,
        what: "bytes of names",
    }
}
