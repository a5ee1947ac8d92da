//! Files of an instance by SFTP, version 3, over standard input and output: what `scp` and `sftp` speak. It is the app's
//! user who reads and writes, under the instance's limits, so what may be done the kernel decides.

mod files;
mod wire;

use files::Files;
use std::ffi::OsStr;
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use wire::{Attributes, Fields, Packet};

/// The version that is spoken.
const VERSION: u32 = 3;
/// Codes of a status.
const OK: u32 = 0;
const EOF: u32 = 1;
const NO_SUCH_FILE: u32 = 2;
const PERMISSION_DENIED: u32 = 3;
const FAILURE: u32 = 4;
const BAD_MESSAGE: u32 = 5;
const UNSUPPORTED: u32 = 8;
/// A rename that replaces what is there, as all programs expect it.
const POSIX_RENAME: &str = "posix-rename@openssh.com";
const FSYNC: &str = "fsync@openssh.com";

/// What a request comes to, beside its id.
enum Reply {
    Done,
    Handle(u32),
    Data(Vec<u8>),
    Attributes(Attributes),
    Names(Vec<(Vec<u8>, Vec<u8>, Attributes)>),
    Unsupported,
}

/// Serves standard input and output.
///
/// # Errors
/// Where the other side breaks off or does not speak SFTP.
pub fn run() -> io::Result<()> {
    serve(&mut io::stdin().lock(), &mut io::stdout().lock())
}

/// Serves until the input ends.
///
/// # Errors
/// As [`run`].
pub fn serve(input: &mut impl Read, output: &mut impl Write) -> io::Result<()> {
    let mut files = Files::default();
    while let Some(packet) = wire::read(input)? {
        let mut fields = Fields(&packet);
        let kind = fields.byte()?;
        let answer = if kind == wire::INIT {
            Packet::new(wire::VERSION)
                .number(VERSION)
                .bytes(POSIX_RENAME.as_bytes())
                .bytes(b"1")
                .bytes(FSYNC.as_bytes())
                .bytes(b"1")
        } else {
            let id = fields.number()?;
            packet_of(id, request(&mut files, kind, fields))
        };
        output.write_all(&answer.finish())?;
        output.flush()?;
    }
    Ok(())
}

fn packet_of(id: u32, reply: io::Result<Reply>) -> Packet {
    let status = |code: u32, text: &str| {
        Packet::answer(wire::STATUS, id)
            .number(code)
            .bytes(text.as_bytes())
            .bytes(b"en")
    };
    match reply {
        Ok(Reply::Done) => status(OK, "done"),
        Ok(Reply::Handle(handle)) => Packet::answer(wire::HANDLE, id).bytes(&handle.to_be_bytes()),
        Ok(Reply::Data(data)) => Packet::answer(wire::DATA, id).bytes(&data),
        Ok(Reply::Attributes(attributes)) => Packet::answer(wire::ATTRS, id).attributes(&attributes),
        Ok(Reply::Names(names)) => {
            let count = u32::try_from(names.len()).unwrap_or(0);
            let packet = Packet::answer(wire::NAME, id).number(count);
            names.iter().fold(packet, |packet, (name, long, attributes)| {
                packet.bytes(name).bytes(long).attributes(attributes)
            })
        }
        Ok(Reply::Unsupported) => status(UNSUPPORTED, "this is not supported"),
        Err(error) => {
            let code = match error.kind() {
                io::ErrorKind::UnexpectedEof => EOF,
                io::ErrorKind::NotFound => NO_SUCH_FILE,
                io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => PERMISSION_DENIED,
                io::ErrorKind::InvalidData => BAD_MESSAGE,
                _ => FAILURE,
            };
            status(code, &error.to_string())
        }
    }
}

fn path(bytes: &[u8]) -> PathBuf {
    // An empty path is where sessions begin.
    let bytes = if bytes.is_empty() { b"." } else { bytes };
    Path::new(OsStr::from_bytes(bytes)).to_owned()
}

fn request(files: &mut Files, kind: u8, mut fields: Fields<'_>) -> io::Result<Reply> {
    let done = |()| Reply::Done;
    match kind {
        wire::OPEN => {
            let (path, flags) = (path(fields.bytes()?), fields.number()?);
            files.open(&path, flags, &fields.attributes()?).map(Reply::Handle)
        }
        wire::OPENDIR => files.open_folder(&path(fields.bytes()?)).map(Reply::Handle),
        wire::CLOSE => files.close(fields.bytes()?).map(done),
        wire::READ => {
            let (handle, offset) = (fields.bytes()?, fields.long()?);
            files.read(handle, offset, fields.number()?).map(Reply::Data)
        }
        wire::WRITE => {
            let (handle, offset) = (fields.bytes()?, fields.long()?);
            files.write(handle, offset, fields.bytes()?).map(done)
        }
        wire::READDIR => files.names(fields.bytes()?).map(Reply::Names),
        wire::FSTAT => files.stat(fields.bytes()?).map(Reply::Attributes),
        wire::FSETSTAT => {
            let handle = fields.bytes()?;
            files.set(handle, &fields.attributes()?).map(done)
        }
        wire::EXTENDED => extended(files, &mut fields),
        _ => by_path(kind, &mut fields),
    }
}

/// Requests that name a path.
fn by_path(kind: u8, fields: &mut Fields<'_>) -> io::Result<Reply> {
    let done = |()| Reply::Done;
    let path = match kind {
        wire::LSTAT..=wire::SYMLINK => path(fields.bytes()?),
        _ => return Ok(Reply::Unsupported),
    };
    match kind {
        wire::STAT => Ok(Reply::Attributes(files::attributes(&std::fs::metadata(path)?))),
        wire::LSTAT => Ok(Reply::Attributes(files::attributes(&std::fs::symlink_metadata(path)?))),
        wire::SETSTAT => files::set_path(&path, &fields.attributes()?).map(done),
        wire::REMOVE => std::fs::remove_file(path).map(done),
        wire::MKDIR => files::make_folder(&path, &fields.attributes()?).map(done),
        wire::RMDIR => std::fs::remove_dir(path).map(done),
        wire::REALPATH => Ok(named(&files::real(&path)?)),
        wire::READLINK => Ok(named(&std::fs::read_link(path)?)),
        wire::RENAME => files::rename(&path, &self::path(fields.bytes()?), false).map(done),
        // OpenSSH has it the other way round than the draft, and all others follow it.
        wire::SYMLINK => std::os::unix::fs::symlink(path, self::path(fields.bytes()?)).map(done),
        _ => Ok(Reply::Unsupported),
    }
}

fn extended(files: &mut Files, fields: &mut Fields<'_>) -> io::Result<Reply> {
    let done = |()| Reply::Done;
    let name = fields.bytes()?;
    if name == POSIX_RENAME.as_bytes() {
        let from = path(fields.bytes()?);
        files::rename(&from, &path(fields.bytes()?), true).map(done)
    } else if name == FSYNC.as_bytes() {
        files.sync(fields.bytes()?).map(done)
    } else {
        Ok(Reply::Unsupported)
    }
}

fn named(path: &Path) -> Reply {
    let name = path.as_os_str().as_bytes().to_vec();
    Reply::Names(vec![(name.clone(), name, Attributes::default())])
}

#[cfg(test)]
mod tests;
