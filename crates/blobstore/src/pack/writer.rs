//! [`PackWriter`]: many contents into one pack. Blocking; what the contents mean is the caller's.

use super::entry::{Compression, Place};
use super::error::io_failed;
use super::{Error, Mode};
use model::Digest;
use sha1::Sha1;
use sha2::{Digest as _, Sha256};
use std::collections::HashMap;
use std::io::{self, BufWriter, Read, Write as _};
use tempfile::NamedTempFile;

/// Contents up to this size are held in memory, compressed at once, and kept once however often they occur.
const WHOLE_BYTES: usize = 1 << 20;
/// Below this, a frame's own overhead outweighs what it saves.
const RAW_BYTES: usize = 128;
/// Fast, and within a few percent of the next levels on source code.
const LEVEL: i32 = 3;

/// A pack being written to a temporary file.
pub struct PackWriter {
    file: BufWriter<NamedTempFile>,
    hash: Sha256,
    offset: u64,
    known: HashMap<Digest, Range>,
    entries: Vec<Pending>,
}

/// A finished pack, not yet in the store.
pub struct Pack {
    /// Digest of the stored bytes.
    pub digest: Digest,
    /// Stored bytes.
    pub size_bytes: u64,
    /// For [`crate::Blobstore::put_temporary`].
    pub file: NamedTempFile,
}

#[derive(Clone, Copy)]
struct Range {
    offset: u64,
    length: u64,
    compression: Compression,
}

struct Pending {
    path: String,
    mode: Mode,
    size: u64,
    sha1: [u8; 20],
    sha256: Digest,
    range: Option<Range>,
}

impl PackWriter {
    /// Starts a pack in a file from [`crate::Blobstore::temporary`].
    #[must_use]
    pub fn new(file: NamedTempFile) -> Self {
        Self {
            file: BufWriter::with_capacity(1 << 20, file),
            hash: Sha256::new(),
            offset: 0,
            known: HashMap::new(),
            entries: Vec::new(),
        }
    }

    /// Adds a folder.
    pub fn add_folder(&mut self, path: String) {
        self.push(path, Mode::FOLDER, &Hashes::default(), None);
    }

    /// Adds a file or the target of a link, reading `contents` to its end, and says how many bytes it had.
    ///
    /// # Errors
    /// [`Error::Entry`] where `contents` fails, [`Error::Io`] where the pack cannot be written.
    pub fn add(&mut self, path: String, mode: Mode, mut contents: impl Read) -> Result<u64, Error> {
        let unreadable = |source| Error::Entry {
            path: path.clone(),
            source,
        };
        let mut head = Vec::new();
        contents
            .by_ref()
            .take(WHOLE_BYTES as u64)
            .read_to_end(&mut head)
            .map_err(unreadable)?;
        let mut hashes = Hashes::default();
        hashes.update(&head);
        let range = if head.is_empty() {
            None
        } else if head.len() < WHOLE_BYTES {
            Some(self.write_whole(&head, &hashes.digest())?)
        } else {
            let mut rest = Watched {
                inner: contents,
                hashes: &mut hashes,
                error: None,
            };
            match self.write_streamed(&head, &mut rest) {
                Ok(range) => Some(range),
                Err(failure) => return Err(rest.error.map_or(failure, unreadable)),
            }
        };
        let size = hashes.size;
        self.push(path, mode, &hashes, range);
        Ok(size)
    }

    /// Ends the pack: `None` where no content needed one, and the entries with their places.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn finish(self) -> Result<(Option<Pack>, Vec<super::Entry>), Error> {
        let digest = Digest::from_sha256(self.hash.finalize().into());
        let path = self.file.get_ref().path().to_owned();
        let flushed = self.file.into_inner().map_err(io::IntoInnerError::into_error);
        let file = flushed.map_err(io_failed("write", &path))?;
        let entries = self.entries.into_iter().map(|pending| pending.place(&digest)).collect();
        let pack = (self.offset > 0).then(|| Pack {
            digest,
            size_bytes: self.offset,
            file,
        });
        Ok((pack, entries))
    }

    fn push(&mut self, path: String, mode: Mode, hashes: &Hashes, range: Option<Range>) {
        let sha1 = hashes.sha1.clone().finalize().into();
        self.entries.push(Pending {
            path,
            mode,
            size: hashes.size,
            sha1,
            sha256: hashes.digest(),
            range,
        });
    }

    fn write_whole(&mut self, bytes: &[u8], digest: &Digest) -> Result<Range, Error> {
        if let Some(range) = self.known.get(digest) {
            return Ok(*range);
        }
        let frame = if bytes.len() < RAW_BYTES {
            None
        } else {
            zstd::bulk::compress(bytes, LEVEL).ok()
        };
        let range = match frame {
            Some(frame) if frame.len() < bytes.len() => self.write(&frame, Compression::Zstd)?,
            _ => self.write(bytes, Compression::Raw)?,
        };
        self.known.insert(digest.clone(), range);
        Ok(range)
    }

    /// A large file, whose beginning decides whether compressing it is worth the while.
    fn write_streamed(&mut self, head: &[u8], rest: &mut impl Read) -> Result<Range, Error> {
        let sample = zstd::bulk::compress(head, 1).map_or(usize::MAX, |frame| frame.len());
        let path = self.file.get_ref().path().to_owned();
        let offset = self.offset;
        let compression = if sample < head.len() / 20 * 19 {
            Compression::Zstd
        } else {
            Compression::Raw
        };
        let written = match compression {
            Compression::Raw => io::copy(&mut head.chain(rest), &mut Stored(self)).map(|_| ()),
            Compression::Zstd => zstd::stream::copy_encode(head.chain(rest), Stored(self), LEVEL),
        };
        written.map_err(io_failed("write", &path))?;
        Ok(Range {
            offset,
            length: self.offset - offset,
            compression,
        })
    }

    fn write(&mut self, bytes: &[u8], compression: Compression) -> Result<Range, Error> {
        let path = self.file.get_ref().path().to_owned();
        let range = Range {
            offset: self.offset,
            length: bytes.len() as u64,
            compression,
        };
        Stored(self).write_all(bytes).map_err(io_failed("write", &path))?;
        Ok(range)
    }
}

impl Pending {
    fn place(self, pack: &Digest) -> super::Entry {
        let place = self.range.map(|range| Place {
            pack: pack.clone(),
            offset: range.offset,
            length: range.length,
            compression: range.compression,
        });
        let Self {
            path,
            mode,
            size,
            sha1,
            sha256,
            ..
        } = self;
        super::Entry {
            path,
            mode,
            size,
            sha1,
            sha256,
            place,
        }
    }
}

/// The pack's file, counted and hashed.
struct Stored<'a>(&'a mut PackWriter);

impl io::Write for Stored<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.0.file.write(bytes)?;
        self.0.hash.update(&bytes[..written]);
        self.0.offset += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.file.flush()
    }
}

/// Both hashes of one content, and its size.
#[derive(Default)]
struct Hashes {
    sha1: Sha1,
    sha256: Sha256,
    size: u64,
}

impl Hashes {
    fn update(&mut self, bytes: &[u8]) {
        self.sha1.update(bytes);
        self.sha256.update(bytes);
        self.size += bytes.len() as u64;
    }

    fn digest(&self) -> Digest {
        Digest::from_sha256(self.sha256.clone().finalize().into())
    }
}

/// A reader whose bytes are hashed, and whose own error is told apart from the pack's.
struct Watched<'a, R> {
    inner: R,
    hashes: &'a mut Hashes,
    error: Option<io::Error>,
}

impl<R: Read> Read for Watched<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.inner.read(buffer) {
            Ok(read) => {
                self.hashes.update(&buffer[..read]);
                Ok(read)
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Err(error),
            Err(error) => {
                self.error = Some(error);
                Err(io::Error::other("the contents could not be read"))
            }
        }
    }
}
