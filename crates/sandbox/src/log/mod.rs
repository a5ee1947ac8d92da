//! The log of a sandbox: segment files of one record per line, written by init and read
//! by the agent.
//!
//! A segment is `0000000001.log`, at most 4 MiB; a record is
//! `<unix nanoseconds> <O|E|S> <payload>\n`. Shipping records elsewhere is the cell's.

mod limiter;
mod pump;
mod reader;
mod segment;

pub(crate) use reader::SIDECAR_TAGS;
pub use reader::{Batch, Position, Reader, Record, Stream};

pub(crate) use pump::{Pump, Source};

/// Largest segment in bytes.
pub const SEGMENT_BYTES: u64 = 4 << 20;

/// File name of a segment.
pub(crate) fn segment_name(number: u64) -> String {
    format!("{number:010}.log")
}

/// Number of a segment from its file name.
pub(crate) fn segment_number(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".log")?;
    if digits.len() < 10 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    digits.parse().ok()
}
