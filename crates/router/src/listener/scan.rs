//! Reads along with what a client sends by HTTP/1.1, before the parser does, and stops at whatever two readers could
//! read differently. It knows where each head and body begins and ends, and nothing else. Pure.
//!
//! Stricter than the parser behind it: line ends are CR LF, a body is framed in one way, `Host` comes once.

use super::head::{self, Framing};
use crate::proxy::refusal::Refusal;

/// Largest line with the size of a chunk, with its extensions, in bytes.
const MAX_CHUNK_LINE: usize = 512;
/// Digits of a chunk's size; more would not fit.
const MAX_CHUNK_DIGITS: u8 = 15;
/// Largest trailer section, in bytes.
const MAX_TRAILERS: usize = 16 * 1024;

/// Limits of a head.
#[derive(Debug, Clone, Copy)]
pub struct HeadLimits {
    /// Bytes.
    pub bytes: usize,
    /// Fields.
    pub fields: usize,
}

/// Where the reader is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Between requests or in a head, of which so many bytes are known to hold no end.
    Head(usize),
    /// In a body of known length, so many bytes from its end.
    Length(u64),
    /// In the line that says how large the next chunk is.
    Size(SizeLine),
    /// In a chunk, so many bytes from its end.
    Chunk(u64),
    /// Behind a chunk; whether CR was there.
    ChunkEnd(bool),
    /// Behind the last chunk.
    Trailers(Trailers),
    /// Behind a head that asks for another protocol: what follows is not known before that is decided.
    Undecided,
    /// Not HTTP/1.1 any more.
    Tunnel,
    /// Something was wrong: nothing more is read.
    Refused,
}

/// What to do after bytes were read along.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// All of it passes.
    Pass,
    /// The rest is a head that is not complete.
    Hold,
    /// The rest waits for the decision about another protocol.
    Wait,
    /// A head is not passed on; why.
    Refuse(Refusal),
    /// A body is not framed as HTTP asks.
    BadBody,
}

/// The reader of one connection.
#[derive(Debug)]
pub struct Scanner {
    place: Place,
    limits: HeadLimits,
}

impl Scanner {
    /// Of a connection on which nothing came.
    pub fn new(limits: HeadLimits) -> Self {
        let place = Place::Head(0);
        Self { place, limits }
    }

    /// Of a connection that is not HTTP/1.1.
    pub fn tunnel() -> Self {
        let limits = HeadLimits { bytes: 0, fields: 0 };
        let place = Place::Tunnel;
        Self { place, limits }
    }

    /// Whether everything passes.
    pub fn is_tunnel(&self) -> bool {
        self.place == Place::Tunnel
    }

    /// Whether nothing more is read.
    pub fn is_refused(&self) -> bool {
        self.place == Place::Refused
    }

    /// Whether the client may still be sending what belongs to a request.
    pub fn is_amid(&self) -> bool {
        !matches!(self.place, Place::Head(_) | Place::Tunnel)
    }

    /// Nothing more is read.
    pub fn refuse(&mut self) {
        self.place = Place::Refused;
    }

    /// Whether it waits for [`Scanner::decide`].
    pub fn is_undecided(&self) -> bool {
        self.place == Place::Undecided
    }

    /// The other protocol was agreed on, or not.
    pub fn decide(&mut self, switched: bool) {
        self.place = if switched { Place::Tunnel } else { Place::Head(0) };
    }

    /// Reads along. So many of the bytes pass, and this comes next. What did not pass has to be given again, with what
    /// follows it.
    pub fn scan(&mut self, input: &[u8]) -> (usize, Next) {
        let mut at = 0;
        loop {
            let rest = &input[at..];
            let step = match self.place {
                Place::Tunnel => return (input.len(), Next::Pass),
                Place::Undecided => return (at, Next::Wait),
                Place::Refused => return (at, Next::Hold),
                _ if rest.is_empty() => return (at, Next::Pass),
                Place::Head(known) => match self.head(rest, known) {
                    Ok(Some(length)) => length,
                    Ok(None) => return (at, Next::Hold),
                    Err(refusal) => {
                        self.place = Place::Refused;
                        return (at, Next::Refuse(refusal));
                    }
                },
                Place::Length(left) => {
                    let step = left.min(rest.len() as u64);
                    self.place = if step == left {
                        Place::Head(0)
                    } else {
                        Place::Length(left - step)
                    };
                    step as usize
                }
                Place::Chunk(left) => {
                    let step = left.min(rest.len() as u64);
                    self.place = if step == left {
                        Place::ChunkEnd(false)
                    } else {
                        Place::Chunk(left - step)
                    };
                    step as usize
                }
                _ => match self.framing(rest[0]) {
                    Some(place) => {
                        self.place = place;
                        1
                    }
                    None => {
                        self.place = Place::Refused;
                        return (at, Next::BadBody);
                    }
                },
            };
            at += step;
        }
    }

    /// The length of the head that begins here, if it is complete.
    fn head(&mut self, input: &[u8], known: usize) -> Result<Option<usize>, Refusal> {
        // An empty line before a request is allowed, and passes.
        if input.starts_with(b"\r\n") {
            return Ok(Some(2));
        }
        if input == b"\r" {
            return Ok(None);
        }
        let Some(length) = head::end(input, known.saturating_sub(2)) else {
            if input.len() > self.limits.bytes {
                return Err(Refusal::HeadTooLarge);
            }
            self.place = Place::Head(input.len());
            return Ok(None);
        };
        if length > self.limits.bytes {
            return Err(Refusal::HeadTooLarge);
        }
        self.place = match head::check(&input[..length], self.limits.fields)? {
            Framing::Length(0) => Place::Head(0),
            Framing::Length(length) => Place::Length(length),
            Framing::Chunked => Place::size(),
            Framing::Switch => Place::Undecided,
        };
        Ok(Some(length))
    }

    /// The place after one byte of what frames a chunked body.
    fn framing(&self, byte: u8) -> Option<Place> {
        match self.place {
            Place::Size(line) => line.next(byte),
            Place::ChunkEnd(false) if byte == b'\r' => Some(Place::ChunkEnd(true)),
            Place::ChunkEnd(true) if byte == b'\n' => Some(Place::size()),
            Place::Trailers(trailers) => trailers.next(byte),
            _ => None,
        }
    }
}

impl Place {
    fn size() -> Self {
        Self::Size(SizeLine::default())
    }
}

/// What is known of a line that says how large a chunk is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct SizeLine {
    size: u64,
    digits: u8,
    length: usize,
    after_cr: bool,
    extension: bool,
}

impl SizeLine {
    fn next(mut self, byte: u8) -> Option<Place> {
        self.length += 1;
        if self.length > MAX_CHUNK_LINE || (self.after_cr && byte != b'\n') {
            return None;
        }
        match byte {
            b'\n' if self.after_cr && self.digits > 0 => {
                return Some(match self.size {
                    0 => Place::Trailers(Trailers::default()),
                    size => Place::Chunk(size),
                });
            }
            b'\r' => self.after_cr = true,
            b';' if self.digits > 0 => self.extension = true,
            b'\t' | b' '..=b'~' if self.extension => {}
            _ if self.digits < MAX_CHUNK_DIGITS => {
                let digit = char::from(byte).to_digit(16)?;
                self.size = self.size * 16 + u64::from(digit);
                self.digits += 1;
            }
            _ => return None,
        }
        Some(Place::Size(self))
    }
}

/// What is known of a trailer section.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Trailers {
    bytes: usize,
    line: usize,
    after_cr: bool,
}

impl Trailers {
    fn next(mut self, byte: u8) -> Option<Place> {
        self.bytes += 1;
        if self.bytes > MAX_TRAILERS || (self.after_cr && byte != b'\n') {
            return None;
        }
        match byte {
            b'\n' if self.after_cr && self.line == 0 => return Some(Place::Head(0)),
            b'\n' if self.after_cr => (self.line, self.after_cr) = (0, false),
            b'\r' => self.after_cr = true,
            // A fold.
            b' ' | b'\t' if self.line == 0 => return None,
            b'\t' | b' '..=b'~' | 0x80.. => self.line += 1,
            _ => return None,
        }
        Some(Place::Trailers(self))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LIMITS: HeadLimits = HeadLimits {
        bytes: 1000,
        fields: 10,
    };

    /// What passes of `input` given in pieces, and what stopped it.
    fn passed(input: &[u8], cuts: &[usize]) -> (Vec<u8>, Option<Next>) {
        let mut scanner = Scanner::new(LIMITS);
        let (mut out, mut held) = (Vec::new(), Vec::new());
        let mut cuts: Vec<usize> = cuts
            .iter()
            .map(|cut| cut % (input.len() + 1))
            .chain([0, input.len()])
            .collect();
        cuts.sort_unstable();
        for two in cuts.windows(2) {
            held.extend_from_slice(&input[two[0]..two[1]]);
            let (pass, next) = scanner.scan(&held);
            out.extend(held.drain(..pass));
            if matches!(next, Next::Refuse(_) | Next::BadBody | Next::Wait) {
                return (out, Some(next));
            }
        }
        (out, None)
    }

    #[test]
    fn requests_one_after_the_other_pass() {
        let input = b"GET / HTTP/1.1\r\nHost: a\r\n\r\nPOST /x HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\nabc\
            \r\nPOST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5;a=b\r\nhello\r\n0\r\nx: y\r\n\r\nGET / HTTP/1.0\r\n\r\n";
        assert_eq!(passed(input, &[]), (input.to_vec(), None));
    }

    #[test]
    fn what_stands_behind_a_request_for_another_protocol_waits() {
        let head = b"GET / HTTP/1.1\r\nhost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
        let input = [head.as_slice(), b"\x81\x00"].concat();
        let mut scanner = Scanner::new(LIMITS);
        assert_eq!(scanner.scan(&input), (head.len(), Next::Wait));
        scanner.decide(true);
        assert_eq!(scanner.scan(b"\x81\x00"), (2, Next::Pass));
        let mut scanner = Scanner::new(LIMITS);
        assert_eq!(scanner.scan(&input), (head.len(), Next::Wait));
        scanner.decide(false);
        assert_eq!(scanner.scan(b"GET / HTTP/1.1\n"), (0, Next::Hold));
    }

    #[test]
    fn bodies_that_are_not_framed_stop() {
        let head = b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n";
        for body in [
            "x\r\n",
            "\r\n",
            "1\nab",
            "1\r\nab",
            "1\r\na\n",
            "ffffffffffffffff\r\n",
            "0\r\n x: y\r\n",
            "0\r\nx: y\n",
            "1 \r\na",
            "0x1\r\na",
            "+1\r\na",
            "1;a\x01\r\n",
        ] {
            let input = [head.as_slice(), body.as_bytes()].concat();
            assert_eq!(passed(&input, &[]).1, Some(Next::BadBody), "{body:?}");
        }
    }

    #[test]
    fn heads_that_never_end_stop() {
        let input = format!("GET / HTTP/1.1\r\nhost: a\r\nx: {}", "y".repeat(2000));
        assert_eq!(
            passed(input.as_bytes(), &[]).1,
            Some(Next::Refuse(Refusal::HeadTooLarge))
        );
    }

    proptest! {
        #[test]
        fn pieces_make_no_difference(input in "(GET / HTTP/1.1\r\nhost: a\r\n\r\n|POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\n\r\nGET |POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n|GET / HTTP/1.1\nhost: a\r\n\r\n|\r\n|[a-z\r\n :]{0,9}){0,6}", cuts in proptest::collection::vec(0_usize..400, 0..12)) {
            let whole = passed(input.as_bytes(), &[]);
            prop_assert_eq!(passed(input.as_bytes(), &cuts), whole);
        }

        #[test]
        fn nothing_panics(input in proptest::collection::vec(any::<u8>(), 0..300), cuts in proptest::collection::vec(0_usize..300, 0..8)) {
            passed(&input, &cuts);
        }
    }
}
