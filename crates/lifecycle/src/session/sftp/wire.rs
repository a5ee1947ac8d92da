//! SFTP's packets: their numbers, and their fields read and written. Nothing here touches files.

use std::io::{self, Read};

/// Largest packet that is read: what OpenSSH sends at most.
pub const MAX_PACKET: u32 = 256 << 10;

pub const INIT: u8 = 1;
pub const VERSION: u8 = 2;
pub const OPEN: u8 = 3;
pub const CLOSE: u8 = 4;
pub const READ: u8 = 5;
pub const WRITE: u8 = 6;
pub const LSTAT: u8 = 7;
pub const FSTAT: u8 = 8;
pub const SETSTAT: u8 = 9;
pub const FSETSTAT: u8 = 10;
pub const OPENDIR: u8 = 11;
pub const READDIR: u8 = 12;
pub const REMOVE: u8 = 13;
pub const MKDIR: u8 = 14;
pub const RMDIR: u8 = 15;
pub const REALPATH: u8 = 16;
pub const STAT: u8 = 17;
pub const RENAME: u8 = 18;
pub const READLINK: u8 = 19;
pub const SYMLINK: u8 = 20;
pub const STATUS: u8 = 101;
pub const HANDLE: u8 = 102;
pub const DATA: u8 = 103;
pub const NAME: u8 = 104;
pub const ATTRS: u8 = 105;
pub const EXTENDED: u8 = 200;

const SIZE: u32 = 1;
const OWNER: u32 = 2;
const MODE: u32 = 4;
const TIMES: u32 = 8;
const MORE: u32 = 0x8000_0000;

/// Attributes of a file; `None` says nothing about it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Attributes {
    pub size: Option<u64>,
    pub owner: Option<(u32, u32)>,
    pub mode: Option<u32>,
    /// Last read and last written, in seconds since 1970.
    pub times: Option<(u32, u32)>,
}

/// A packet that is too short, too long, or not what it should be.
fn malformed() -> io::Error {
    io::ErrorKind::InvalidData.into()
}

/// The next packet without its length; `None` at the end of the input.
///
/// # Errors
/// Where it is cut off or larger than [`MAX_PACKET`].
pub fn read(input: &mut impl Read) -> io::Result<Option<Vec<u8>>> {
    let mut length = [0; 4];
    match input.read_exact(&mut length) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        other => other?,
    }
    let length = u32::from_be_bytes(length);
    if length == 0 || length > MAX_PACKET {
        return Err(malformed());
    }
    let mut packet = vec![0; usize::try_from(length).map_err(|_| malformed())?];
    input.read_exact(&mut packet)?;
    Ok(Some(packet))
}

/// Fields of a packet, from the front.
#[derive(Debug)]
pub struct Fields<'a>(pub &'a [u8]);

impl<'a> Fields<'a> {
    fn take(&mut self, count: usize) -> io::Result<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or_else(malformed)?;
        self.0 = rest;
        Ok(taken)
    }

    pub fn byte(&mut self) -> io::Result<u8> {
        Ok(self.take(1)?[0])
    }

    pub fn number(&mut self) -> io::Result<u32> {
        let bytes = self.take(4)?;
        Ok(u32::from_be_bytes(bytes.try_into().map_err(|_| malformed())?))
    }

    pub fn long(&mut self) -> io::Result<u64> {
        let bytes = self.take(8)?;
        Ok(u64::from_be_bytes(bytes.try_into().map_err(|_| malformed())?))
    }

    pub fn bytes(&mut self) -> io::Result<&'a [u8]> {
        let length = self.number()?;
        self.take(usize::try_from(length).map_err(|_| malformed())?)
    }

    pub fn attributes(&mut self) -> io::Result<Attributes> {
        let flags = self.number()?;
        let has = |flag: u32| flags & flag != 0;
        let size = has(SIZE).then(|| self.long()).transpose()?;
        let owner = has(OWNER).then(|| self.pair()).transpose()?;
        let mode = has(MODE).then(|| self.number()).transpose()?;
        let times = has(TIMES).then(|| self.pair()).transpose()?;
        if has(MORE) {
            for _ in 0..self.number()? {
                let _ = (self.bytes()?, self.bytes()?);
            }
        }
        Ok(Attributes {
            size,
            owner,
            mode,
            times,
        })
    }

    fn pair(&mut self) -> io::Result<(u32, u32)> {
        Ok((self.number()?, self.number()?))
    }
}

/// A packet in the making.
#[derive(Debug)]
pub struct Packet(Vec<u8>);

impl Packet {
    /// An answer to request `id`.
    pub fn answer(kind: u8, id: u32) -> Self {
        Self::new(kind).number(id)
    }

    pub fn new(kind: u8) -> Self {
        Self(vec![0, 0, 0, 0, kind])
    }

    pub fn number(mut self, number: u32) -> Self {
        self.0.extend_from_slice(&number.to_be_bytes());
        self
    }

    pub fn long(mut self, number: u64) -> Self {
        self.0.extend_from_slice(&number.to_be_bytes());
        self
    }

    pub fn bytes(self, bytes: &[u8]) -> Self {
        let mut packet = self.number(u32::try_from(bytes.len()).unwrap_or(0));
        packet.0.extend_from_slice(bytes);
        packet
    }

    pub fn attributes(self, of: &Attributes) -> Self {
        let flag = |there: bool, flag: u32| if there { flag } else { 0 };
        let flags = flag(of.size.is_some(), SIZE)
            | flag(of.owner.is_some(), OWNER)
            | flag(of.mode.is_some(), MODE)
            | flag(of.times.is_some(), TIMES);
        let mut packet = self.number(flags);
        if let Some(size) = of.size {
            packet = packet.long(size);
        }
        let pair = |packet: Self, pair: Option<(u32, u32)>| match pair {
            Some((first, second)) => packet.number(first).number(second),
            None => packet,
        };
        packet = pair(packet, of.owner);
        if let Some(mode) = of.mode {
            packet = packet.number(mode);
        }
        pair(packet, of.times)
    }

    /// With its length in front.
    pub fn finish(mut self) -> Vec<u8> {
        let length = u32::try_from(self.0.len() - 4).unwrap_or(0);
        self.0[..4].copy_from_slice(&length.to_be_bytes());
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let all = Attributes {
            size: Some(5 << 32),
            owner: Some((2000, 2000)),
            mode: Some(0o100_644),
            times: Some((1, 2)),
        };
        for attributes in [
            all,
            Attributes::default(),
            Attributes {
                mode: Some(0),
                ..Attributes::default()
            },
        ] {
            let packet = Packet::answer(ATTRS, 7).bytes(b"name").attributes(&attributes).finish();
            let body = read(&mut &packet[..]).expect("whole").expect("there");
            let mut fields = Fields(&body);
            assert_eq!((fields.byte().expect("kind"), fields.number().expect("id")), (ATTRS, 7));
            assert_eq!(fields.bytes().expect("bytes"), b"name");
            assert_eq!(fields.attributes().expect("attributes"), attributes);
            assert!(fields.0.is_empty() && fields.byte().is_err());
        }
    }

    #[test]
    fn what_is_no_packet_is_refused() {
        assert!(read(&mut &b""[..]).expect("the end").is_none());
        assert!(read(&mut &[0, 0, 0, 9, 1][..]).is_err(), "cut off");
        assert!(read(&mut &[0xff, 0, 0, 0][..]).is_err(), "too long");
        assert!(Fields(&[0, 0, 0, 5, b'x']).bytes().is_err());
    }
}
