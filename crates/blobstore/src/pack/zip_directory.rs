//! Reads the names of a zip archive's central directory, bounded, before the archive reader builds anything of it.
//!
//! The reader proper keeps one entry per name and allocates for as many as the archive claims. Here the number is
//! checked first, duplicates are found, and the two readings are compared afterwards, so that an archive which means
//! one thing to one reader and another to the next is refused. ZIP and ZIP64; spanned archives are not supported.

use super::{Error, TreeLimits};
use std::collections::HashSet;
use std::io::{self, Read, Seek, SeekFrom};

const END: [u8; 4] = *b"PK\x05\x06";
const END_64: [u8; 4] = *b"PK\x06\x06";
const LOCATOR_64: [u8; 4] = *b"PK\x06\x07";
const ENTRY: [u8; 4] = *b"PK\x01\x02";
/// Fixed part of the end record, of the ZIP64 end record, of its locator and of an entry.
const END_BYTES: usize = 22;
const END_64_BYTES: u64 = 56;
const LOCATOR_BYTES: u64 = 20;
const ENTRY_BYTES: usize = 46;
/// The end record and the longest comment.
const TAIL_BYTES: u64 = END_BYTES as u64 + 65_535;
/// Most bytes of a central directory.
const DIRECTORY_BYTES: u64 = 256 << 20;

/// Where the central directory lies.
struct Directory {
    entries: u64,
    start: u64,
    bytes: u64,
}

/// The raw names of all entries in the directory's order.
pub(crate) fn names(archive: &mut (impl Read + Seek), limits: &TreeLimits) -> Result<Vec<Vec<u8>>, Error> {
    let directory = locate(archive)
        .map_err(unreadable)?
        .ok_or_else(|| damaged("it has no table of contents"))?;
    if directory.entries > limits.entries as u64 {
        return Err(Error::TooManyEntries { limit: limits.entries });
    }
    if directory.bytes > DIRECTORY_BYTES {
        return Err(damaged("its table of contents is too large"));
    }
    let mut table = Vec::new();
    archive
        .seek(SeekFrom::Start(directory.start))
        .and_then(|_| archive.by_ref().take(directory.bytes).read_to_end(&mut table))
        .map_err(unreadable)?;
    let mut names = Vec::new();
    let mut seen = HashSet::new();
    let mut rest = table.as_slice();
    for _ in 0..directory.entries {
        let (name, after) = next_name(rest).ok_or_else(|| damaged("its table of contents is cut off"))?;
        if !seen.insert(name) {
            return Err(Error::Duplicate {
                path: String::from_utf8_lossy(name).into_owned(),
            });
        }
        names.push(name.to_vec());
        rest = after;
    }
    if !rest.is_empty() {
        return Err(damaged("its table of contents holds more than it says"));
    }
    Ok(names)
}

fn next_name(table: &[u8]) -> Option<(&[u8], &[u8])> {
    let header = table.get(..ENTRY_BYTES)?;
    if header[..4] != ENTRY {
        return None;
    }
    let length = |at| usize::from(u16_at(header, at));
    let name_end = ENTRY_BYTES + length(28);
    let end = name_end + length(30) + length(32);
    Some((table.get(ENTRY_BYTES..name_end)?, table.get(end..)?))
}

/// Finds the end record, which must be the last thing in the file, and what it or its ZIP64 form says.
fn locate(archive: &mut (impl Read + Seek)) -> io::Result<Option<Directory>> {
    let size = archive.seek(SeekFrom::End(0))?;
    let tail_start = size.saturating_sub(TAIL_BYTES);
    let mut tail = Vec::new();
    archive.seek(SeekFrom::Start(tail_start))?;
    archive.by_ref().take(TAIL_BYTES).read_to_end(&mut tail)?;
    let ends = |at: &usize| {
        tail[*at..].starts_with(&END) && *at + END_BYTES + usize::from(u16_at(&tail, *at + 20)) == tail.len()
    };
    let Some(at) = (0..=tail.len().saturating_sub(END_BYTES))
        .rev()
        .find(|at| tail.len() >= END_BYTES && ends(at))
    else {
        return Ok(None);
    };
    let end = tail_start + at as u64;
    let entries = u64::from(u16_at(&tail, at + 10));
    let bytes = u64::from(u32_at(&tail, at + 12));
    let offset = u32_at(&tail, at + 16);
    if entries == 0xffff || bytes == 0xffff_ffff || offset == u32::MAX {
        return locate_64(archive, end);
    }
    Ok(end.checked_sub(bytes).map(|start| Directory { entries, start, bytes }))
}

fn locate_64(archive: &mut (impl Read + Seek), end: u64) -> io::Result<Option<Directory>> {
    let Some(record) = end.checked_sub(LOCATOR_BYTES + END_64_BYTES) else {
        return Ok(None);
    };
    let mut bytes = [0; (LOCATOR_BYTES + END_64_BYTES) as usize];
    archive.seek(SeekFrom::Start(record))?;
    archive.read_exact(&mut bytes)?;
    if !bytes.starts_with(&END_64) || !bytes[END_64_BYTES as usize..].starts_with(&LOCATOR_64) {
        return Ok(None);
    }
    let (entries, size) = (u64_at(&bytes, 32), u64_at(&bytes, 40));
    Ok(record.checked_sub(size).map(|start| Directory {
        entries,
        start,
        bytes: size,
    }))
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from(u16_at(bytes, at)) | u32::from(u16_at(bytes, at + 2)) << 16
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}

fn damaged(reason: &str) -> Error {
    Error::Archive {
        reason: reason.to_owned(),
    }
}

fn unreadable(error: io::Error) -> Error {
    Error::Archive {
        reason: format!("it cannot be read: {error}"),
    }
}
