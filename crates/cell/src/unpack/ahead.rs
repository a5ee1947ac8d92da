//! Reading ahead in another thread: what is decompressed there is hashed and written here meanwhile.

use std::io::{self, Read};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

/// Bytes that are handed over at once.
const CHUNK: usize = 256 << 10;
/// Chunks that are ready, at most.
const READY: usize = 4;

/// The side that reads.
pub(super) struct Filler {
    filled: SyncSender<io::Result<Vec<u8>>>,
    emptied: Receiver<Vec<u8>>,
}

/// The side that has it.
pub(super) struct Ahead {
    filled: Receiver<io::Result<Vec<u8>>>,
    emptied: SyncSender<Vec<u8>>,
    chunk: Vec<u8>,
    at: usize,
    /// Nothing more comes.
    ended: bool,
}

/// Both sides.
pub(super) fn pair() -> (Filler, Ahead) {
    let (to_ahead, filled) = sync_channel(READY);
    // As many as there are: those that are ready, and one on either side.
    let (to_filler, emptied) = sync_channel(READY + 2);
    let filler = Filler {
        filled: to_ahead,
        emptied,
    };
    let ahead = Ahead {
        filled,
        emptied: to_filler,
        chunk: Vec::new(),
        at: 0,
        ended: false,
    };
    (filler, ahead)
}

impl Filler {
    /// Reads `from` to its end, or until nobody wants more.
    pub fn run(self, mut from: impl Read) {
        loop {
            let mut chunk = self.emptied.try_recv().unwrap_or_default();
            chunk.clear();
            let read = from.by_ref().take(CHUNK as u64).read_to_end(&mut chunk);
            let last = !matches!(read, Ok(n) if n > 0);
            let filled = match read {
                Ok(_) => Ok(chunk),
                Err(error) => Err(error),
            };
            // An empty chunk is the end.
            if self.filled.send(filled).is_err() || last {
                return;
            }
        }
    }
}

impl Read for Ahead {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.at == self.chunk.len() && !self.ended {
            let next = self.filled.recv().unwrap_or_else(|_| Err(gone()));
            self.ended = !matches!(&next, Ok(chunk) if !chunk.is_empty());
            let empty = std::mem::replace(&mut self.chunk, next?);
            self.at = 0;
            // Nobody may be there to take it.
            drop(self.emptied.try_send(empty));
        }
        let n = buffer.len().min(self.chunk.len() - self.at);
        buffer[..n].copy_from_slice(&self.chunk[self.at..self.at + n]);
        self.at += n;
        Ok(n)
    }
}

fn gone() -> io::Error {
    io::Error::other("the thread that decompresses is gone")
}
