//! Turns what the app writes into records: splits lines, applies the rate limit, batches
//! writes. Never waits: what cannot be kept is dropped, counted and said.

use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::limiter::Limiter;
use super::segment::Segments;
use crate::LogPolicy;

/// Bytes taken from one pipe before the others get their turn.
const READ_BYTES: usize = 256 << 10;
/// Records are written out when this many bytes of them wait.
const BATCH_BYTES: usize = 64 << 10;

/// One pipe (or terminal) the app writes to.
#[derive(Debug)]
pub struct Source {
    fd: OwnedFd,
    tag: u8,
    partial: Vec<u8>,
}

impl Source {
    /// `fd` does not block; `tag` is `O`, `E` or a sidecar's.
    pub fn new(fd: OwnedFd, tag: u8) -> Source {
        Source {
            fd,
            tag,
            partial: Vec::new(),
        }
    }
}

impl AsFd for Source {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// The way from the app's output to the segments.
#[derive(Debug)]
pub struct Pump {
    segments: Segments,
    limiter: Limiter,
    max_line: usize,
    out: Vec<u8>,
    buffer: Vec<u8>,
    unwritten: u64,
}

impl Pump {
    /// Writes to the folder `dir` under `policy`.
    pub fn new(dir: OwnedFd, policy: &LogPolicy, now_ns: u64) -> Pump {
        Pump {
            segments: Segments::new(dir, policy.keep_bytes),
            limiter: Limiter::new(policy.rate_bytes_per_second, policy.burst_bytes, now_ns),
            max_line: policy.max_line.clamp(64, crate::MAX_LINE),
            out: Vec::with_capacity(BATCH_BYTES + crate::MAX_LINE + 64),
            buffer: Vec::new(),
            unwritten: 0,
        }
    }

    /// Takes what `source` has ready, up to a limit; false at its end.
    pub fn drain(&mut self, source: &mut Source, now_ns: u64) -> bool {
        self.limiter.refill(now_ns);
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.resize(64 << 10, 0);
        let mut taken = 0;
        let mut open = true;
        while taken < READ_BYTES {
            match rustix::io::read(&source.fd, &mut buffer[..]) {
                Ok(0) => {
                    open = false;
                    break;
                }
                Ok(n) => {
                    self.feed(source, &buffer[..n], now_ns);
                    taken += n;
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::AGAIN) => break,
                // A terminal whose last user is gone answers EIO.
                Err(_) => {
                    open = false;
                    break;
                }
            }
        }
        self.buffer = buffer;
        if !open {
            self.finish(source, now_ns);
        }
        self.tell(now_ns, false);
        self.flush(now_ns);
        open
    }

    /// Keeps an incomplete last line.
    pub fn finish(&mut self, source: &mut Source, now_ns: u64) {
        if !source.partial.is_empty() {
            let line = std::mem::take(&mut source.partial);
            self.line(source.tag, &[], &line, now_ns);
        }
    }

    /// Adds a line by the platform; outside the rate limit.
    pub fn say(&mut self, text: &str, now_ns: u64) {
        self.record(b'S', &[], text.replace('\n', " ").as_bytes(), now_ns);
    }

    /// The end: the last counts, everything written.
    pub fn close(&mut self, now_ns: u64) {
        self.tell(now_ns, true);
        self.flush(now_ns);
    }

    /// Says what was dropped, if it is time.
    pub fn tell(&mut self, now_ns: u64, last: bool) {
        if let Some(text) = self.limiter.note(now_ns, last) {
            self.say(&text, now_ns);
        }
    }

    /// Nanoseconds until [`Pump::tell`] should be called.
    pub fn due(&self, now_ns: u64) -> Option<u64> {
        self.limiter.note_due(now_ns)
    }

    fn feed(&mut self, source: &mut Source, mut bytes: &[u8], now_ns: u64) {
        while !bytes.is_empty() {
            let room = self.max_line - source.partial.len();
            let window = &bytes[..bytes.len().min(room + 1)];
            match window.iter().position(|&b| b == b'\n') {
                Some(end) => {
                    self.line(source.tag, &source.partial, &bytes[..end], now_ns);
                    source.partial.clear();
                    bytes = &bytes[end + 1..];
                }
                None if bytes.len() > room => {
                    self.line(source.tag, &source.partial, &bytes[..room], now_ns);
                    source.partial.clear();
                    bytes = &bytes[room..];
                }
                None => {
                    source.partial.extend_from_slice(bytes);
                    return;
                }
            }
        }
    }

    fn line(&mut self, tag: u8, head: &[u8], tail: &[u8], now_ns: u64) {
        if self.limiter.admit(head.len() + tail.len()) {
            self.record(tag, head, tail, now_ns);
        }
    }

    fn record(&mut self, tag: u8, head: &[u8], tail: &[u8], now_ns: u64) {
        let _ = write!(self.out, "{now_ns} {} ", tag as char);
        self.out.extend_from_slice(head);
        self.out.extend_from_slice(tail);
        self.out.push(b'\n');
        if self.out.len() >= BATCH_BYTES {
            self.flush(now_ns);
        }
    }

    /// Writes what waits; a full or failing disk costs records, never a wait.
    pub fn flush(&mut self, now_ns: u64) {
        if self.out.is_empty() {
            return;
        }
        if self.unwritten > 0 {
            let text = format!("{now_ns} S {} bytes of log could not be written\n", self.unwritten);
            if self.segments.append(text.as_bytes()).is_ok() {
                self.unwritten = 0;
            }
        }
        if let Err(_lost) = self.segments.append(&self.out) as io::Result<()> {
            self.unwritten += self.out.len() as u64;
        }
        self.out.clear();
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::OwnedFd;

    use super::*;
    use crate::log::{Position, Reader, Stream};

    fn pump(dir: &std::path::Path, policy: &LogPolicy) -> Pump {
        Pump::new(std::fs::File::open(dir).unwrap().into(), policy, 0)
    }

    fn run(policy: &LogPolicy, input: &[u8]) -> Vec<crate::log::Record> {
        let dir = tempfile::tempdir().unwrap();
        let mut pump = pump(dir.path(), policy);
        let (read, write) = rustix::pipe::pipe().unwrap();
        rustix::fs::fcntl_setfl(&read, rustix::fs::OFlags::NONBLOCK).unwrap();
        let mut source = Source::new(read, b'O');
        for chunk in input.chunks(3000) {
            rustix::io::write(&write, chunk).unwrap();
            assert!(pump.drain(&mut source, 7));
        }
        drop::<OwnedFd>(write);
        assert!(!pump.drain(&mut source, 8));
        pump.close(9);
        Reader::new(dir.path())
            .read(Position::default(), usize::MAX >> 1)
            .unwrap()
            .records
    }

    #[test]
    fn splits_lines_and_keeps_the_last_incomplete_one() {
        let records = run(&LogPolicy::default(), b"one\n\ntwo\r\nthree");
        let lines: Vec<_> = records.iter().map(|r| r.payload.clone()).collect();
        assert_eq!(
            lines,
            [b"one".to_vec(), b"".to_vec(), b"two\r".to_vec(), b"three".to_vec()]
        );
        assert!(records.iter().all(|r| r.stream == Stream::Out));
    }

    #[test]
    fn splits_what_is_too_long_at_the_limit_exactly() {
        let policy = LogPolicy {
            max_line: 100,
            ..LogPolicy::default()
        };
        let mut input = vec![b'a'; 250];
        input.push(b'\n');
        input.extend(vec![b'b'; 100]);
        input.push(b'\n');
        let lengths: Vec<_> = run(&policy, &input).iter().map(|r| r.payload.len()).collect();
        assert_eq!(lengths, [100, 100, 50, 100]);
    }

    #[test]
    fn a_flood_is_dropped_counted_and_said() {
        let policy = LogPolicy {
            rate_bytes_per_second: 1,
            burst_bytes: 1000,
            ..LogPolicy::default()
        };
        let input = b"123456789\n".repeat(1000);
        let records = run(&policy, &input);
        let kept = records.iter().filter(|r| r.stream == Stream::Out).count();
        assert_eq!(kept, 100);
        let said: Vec<_> = records.iter().filter(|r| r.stream == Stream::System).collect();
        assert_eq!(said.len(), 2);
        assert!(String::from_utf8_lossy(&said[1].payload).ends_with("dropped 900 lines, 9000 bytes"));
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_survive(input in proptest::collection::vec(0u8..=255, 0..5000), max in 64usize..200) {
            let policy = LogPolicy { max_line: max, rate_bytes_per_second: u64::MAX, ..LogPolicy::default() };
            let records = run(&policy, &input);
            let kept: Vec<u8> = records.iter().flat_map(|r| r.payload.clone()).collect();
            let wanted: Vec<u8> = input.iter().copied().filter(|&b| b != b'\n').collect();
            proptest::prop_assert_eq!(kept, wanted);
            proptest::prop_assert!(records.iter().all(|r| r.payload.len() <= max));
        }
    }
}
