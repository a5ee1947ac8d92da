//! `Range`, one range at a time; several at once are answered with the whole file, as a server may.

use std::ops::Range;

/// What a `Range` header asks of a file.
#[derive(Debug, PartialEq, Eq)]
pub enum Wanted {
    /// All of it: no range, or none that is understood.
    All,
    /// These bytes.
    Part(Range<u64>),
    /// Bytes that it does not have.
    Outside,
}

/// Reads the header `text` for a file of `size` bytes.
pub fn parse(text: Option<&str>, size: u64) -> Wanted {
    let Some((first, last)) = text
        .and_then(|text| text.trim().strip_prefix("bytes="))
        .filter(|ranges| !ranges.contains(','))
        .and_then(|range| range.split_once('-'))
    else {
        return Wanted::All;
    };
    let number = |text: &str| text.trim().parse::<u64>().ok();
    let range = match (number(first), number(last)) {
        (Some(first), Some(last)) if first <= last => first..last.saturating_add(1).min(size),
        (Some(first), None) if last.trim().is_empty() => first..size,
        (None, Some(length)) if first.trim().is_empty() => {
            if length == 0 {
                return Wanted::Outside;
            }
            size.saturating_sub(length)..size
        }
        _ => return Wanted::All,
    };
    if range.start >= size {
        Wanted::Outside
    } else {
        Wanted::Part(range)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_form() {
        for (text, expected) in [
            (None, Wanted::All),
            (Some("bytes=0-0"), Wanted::Part(0..1)),
            (Some("bytes=2-"), Wanted::Part(2..10)),
            (Some("bytes=-3"), Wanted::Part(7..10)),
            (Some("bytes=-30"), Wanted::Part(0..10)),
            (Some("bytes=5-100"), Wanted::Part(5..10)),
            (Some("bytes=10-"), Wanted::Outside),
            (Some("bytes=-0"), Wanted::Outside),
            (Some("bytes=3-2"), Wanted::All),
            (Some("bytes=0-1,4-5"), Wanted::All),
            (Some("lines=0-1"), Wanted::All),
            (Some("bytes=a-b"), Wanted::All),
        ] {
            assert_eq!(parse(text, 10), expected, "{text:?}");
        }
        assert_eq!(parse(Some("bytes=0-"), 0), Wanted::Outside);
        assert_eq!(parse(Some("bytes=0-18446744073709551615"), 10), Wanted::Part(0..10));
    }
}
