//! Entries of an archive, checked before anything of them is written.

use super::{Error, Form, OWNER, hostile};
use std::io::Read;

/// Folders below each other that a name may have.
const MAX_DEPTH: usize = 128;
/// Longest target of a symbolic link.
const MAX_TARGET_BYTES: usize = 4095;
/// Highest user and group that a sandbox has.
const MAX_ID: u64 = 65_535;
/// Begins the name of what stands for the absence of something.
const WHITEOUT: &[u8] = b".wh.";
/// Names the whole folder instead.
const OPAQUE: &[u8] = b".wh..wh..opq";
/// Begins names of another file system's own, which mean nothing here.
const FOREIGN: &[u8] = b".wh..wh.";

/// An entry that may be written.
pub(super) struct Entry {
    /// Components of its name, all plain; none for the root itself. Of what is absent: that one's.
    pub name: Vec<Vec<u8>>,
    pub mode: u32,
    pub mtime: i64,
    /// User and group inside.
    pub owner: (u32, u32),
    pub shape: Shape,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Shape {
    Folder,
    File,
    Symlink(Vec<u8>),
    Hardlink(Vec<Vec<u8>>),
    /// What layers below have of this name is not there.
    Absent,
    /// What layers below have in this folder is not there.
    Opaque,
    /// Nothing.
    Nothing,
}

impl Entry {
    pub fn check<R: Read>(entry: &mut tar::Entry<'_, R>, form: Form) -> Result<Self, Error> {
        let raw = entry.path_bytes().into_owned();
        let name = components(&raw, &raw)?;
        let header = entry.header();
        let kind = header.entry_type();
        let mode = header.mode().map_err(Error::Corrupt)?;
        let mtime = header.mtime().map_err(Error::Corrupt)?;
        let link = entry
            .link_name_bytes()
            .map(std::borrow::Cow::into_owned)
            .unwrap_or_default();
        let shape = match kind {
            tar::EntryType::Directory => Shape::Folder,
            tar::EntryType::Regular | tar::EntryType::Continuous => Shape::File,
            tar::EntryType::Symlink => Shape::Symlink(symlink_target(&raw, &name, link, form)?),
            tar::EntryType::Link => Shape::Hardlink(components(&link, &raw)?),
            _ => return Err(hostile(&raw, "is neither a folder, a file nor a link")),
        };
        let (name, shape) = match form {
            Form::Droplet => (name, shape),
            Form::Image => whiteout(&raw, name, shape)?,
        };
        if name.is_empty() && !matches!(shape, Shape::Folder | Shape::Opaque) {
            return Err(hostile(&raw, "stands for the root and is no folder"));
        }
        if !matches!(shape, Shape::File) && entry.size() > 0 {
            return Err(hostile(&raw, "has contents and is no file"));
        }
        Ok(Self {
            name,
            owner: owner_of(&raw, header, form)?,
            mode,
            mtime: i64::try_from(mtime).unwrap_or(0).min(i64::from(u32::MAX)),
            shape,
        })
    }
}

/// A name as plain components; the entry `of` is told to whoever reads the error.
fn components(name: &[u8], of: &[u8]) -> Result<Vec<Vec<u8>>, Error> {
    if name.first() == Some(&b'/') {
        return Err(hostile(of, "has an absolute name"));
    }
    if name.contains(&0) {
        return Err(hostile(of, "has a NUL in its name"));
    }
    let mut parts = Vec::new();
    for part in name.split(|&byte| byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => return Err(hostile(of, "has a name with ..")),
            part if part.len() > 255 => return Err(hostile(of, "has a name that is too long")),
            part => parts.push(part.to_vec()),
        }
    }
    if parts.len() > MAX_DEPTH {
        return Err(hostile(of, "is too deep"));
    }
    Ok(parts)
}

/// Checks where a link leads. Absolute targets are inside a sandbox's own root; relative ones must not climb above it.
fn symlink_target(of: &[u8], name: &[Vec<u8>], target: Vec<u8>, form: Form) -> Result<Vec<u8>, Error> {
    if target.is_empty() || target.len() > MAX_TARGET_BYTES || target.contains(&0) {
        return Err(hostile(of, "is a link to nothing that could be"));
    }
    if form == Form::Image {
        return Ok(target);
    }
    let mut depth = if target[0] == b'/' {
        0
    } else {
        name.len().saturating_sub(1)
    };
    for part in target.split(|&byte| byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => {
                depth = depth
                    .checked_sub(1)
                    .ok_or_else(|| hostile(of, "is a link that leads out of the root"))?;
            }
            _ => depth += 1,
        }
    }
    Ok(target)
}

/// What an entry of an image means by its name.
fn whiteout(of: &[u8], mut name: Vec<Vec<u8>>, shape: Shape) -> Result<(Vec<Vec<u8>>, Shape), Error> {
    let Some(last) = name.last_mut().filter(|last| last.starts_with(WHITEOUT)) else {
        return Ok((name, shape));
    };
    if last.as_slice() == OPAQUE {
        name.pop();
        return Ok((name, Shape::Opaque));
    }
    if last.starts_with(FOREIGN) {
        return Ok((name, Shape::Nothing));
    }
    last.drain(..WHITEOUT.len());
    if matches!(last.as_slice(), b"" | b"." | b"..") {
        return Err(hostile(of, "stands for the absence of nothing that could be"));
    }
    Ok((name, Shape::Absent))
}

/// User and group of an entry.
fn owner_of(of: &[u8], header: &tar::Header, form: Form) -> Result<(u32, u32), Error> {
    if form == Form::Droplet {
        return Ok((OWNER, OWNER));
    }
    let id = |id: std::io::Result<u64>| {
        let id = id.map_err(Error::Corrupt)?;
        let fits = u32::try_from(id).ok().filter(|_| id <= MAX_ID);
        fits.ok_or_else(|| hostile(of, "belongs to a user or group above 65535"))
    };
    Ok((id(header.uid())?, id(header.gid())?))
}
