//! Numbers, times and colours as people read them. Pure: text in, text out.

use std::time::Duration;
use time::OffsetDateTime;

/// Bytes: `512 B`, `1.2 KB`, `34 MB`; powers of 1024.
pub fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KB", "MB", "GB", "TB"];
    let mut value = count as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    match unit {
        0 => format!("{count} B"),
        _ if value < 10.0 => format!("{value:.1} {}", UNITS[unit]),
        _ => format!("{value:.0} {}", UNITS[unit]),
    }
}

/// A duration: `4 ms`, `1.2 s`, `3m 20s`.
pub fn duration(duration: Duration) -> String {
    let millis = duration.as_millis();
    match millis {
        0..1_000 => format!("{millis} ms"),
        1_000..60_000 => format!("{:.1} s", duration.as_secs_f64()),
        _ => coarse(duration.as_secs()),
    }
}

/// Whole seconds in the two largest units that fit: `45s`, `3m 20s`, `2h 5m`, `4d 1h`.
pub fn coarse(seconds: u64) -> String {
    let pair = |large: u64, large_unit: &str, small: u64, small_unit: &str| {
        if small == 0 {
            format!("{large}{large_unit}")
        } else {
            format!("{large}{large_unit} {small}{small_unit}")
        }
    };
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3_600 => pair(seconds / 60, "m", seconds % 60, "s"),
        3_600..86_400 => pair(seconds / 3_600, "h", seconds % 3_600 / 60, "m"),
        _ => pair(seconds / 86_400, "d", seconds % 86_400 / 3_600, "h"),
    }
}

/// Time of day for progress lines: `05:46:12`, UTC.
pub fn clock(at: OffsetDateTime) -> String {
    format!("{:02}:{:02}:{:02}", at.hour(), at.minute(), at.second())
}

/// A full instant for tables and logs: `2026-03-01T05:46:12.123Z`.
pub fn instant(at: OffsetDateTime) -> String {
    let at = at.to_offset(time::UtcOffset::UTC);
    format!(
        "{}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z",
        at.year(),
        u8::from(at.month()),
        at.day(),
        at.hour(),
        at.minute(),
        at.second(),
        at.millisecond()
    )
}

/// A duration as users write it: `90`, `90s`, `15m`, `6h`, `2d`, `500ms`.
///
/// # Errors
/// A text that says what is expected.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let expected = || format!("{text:?} is not a duration: write for example 90s, 15m, 6h or 2d");
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let amount: u64 = text[..digits].parse().map_err(|_| expected())?;
    let seconds = |factor: u64| amount.checked_mul(factor).map(Duration::from_secs).ok_or_else(expected);
    match &text[digits..] {
        "ms" => Ok(Duration::from_millis(amount)),
        "" | "s" => seconds(1),
        "m" => seconds(60),
        "h" => seconds(3_600),
        "d" => seconds(86_400),
        _ => Err(expected()),
    }
}

/// `one` or `many` with the number before it.
pub fn count(number: usize, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}

/// Control characters of text that others wrote, made harmless for a terminal. Colour sequences go with the escapes.
pub fn harmless(text: &str) -> String {
    text.chars().filter(|c| *c == '\t' || !c.is_control()).collect()
}

/// A style of text on a terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    Bold,
    Dim,
    Red,
    Green,
    Yellow,
    Cyan,
}

impl Style {
    const fn code(self) -> &'static str {
        match self {
            Self::Bold => "1",
            Self::Dim => "2",
            Self::Red => "31",
            Self::Green => "32",
            Self::Yellow => "33",
            Self::Cyan => "36",
        }
    }

    /// `text` in this style where `color` is on.
    pub fn paint(self, color: bool, text: &str) -> String {
        if color {
            format!("\u{1b}[{}m{text}\u{1b}[0m", self.code())
        } else {
            text.to_owned()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_times_read_well() {
        assert_eq!(
            [bytes(0), bytes(1023), bytes(1536), bytes(64 << 20)],
            ["0 B", "1023 B", "1.5 KB", "64 MB"]
        );
        let ms = Duration::from_millis;
        assert_eq!(
            [duration(ms(4)), duration(ms(1234)), duration(ms(200_000))],
            ["4 ms", "1.2 s", "3m 20s"]
        );
        assert_eq!([coarse(60), coarse(7500), coarse(90_000)], ["1m", "2h 5m", "1d 1h"]);
        assert_eq!(instant(OffsetDateTime::UNIX_EPOCH), "1970-01-01T00:00:00.000Z");
    }

    #[test]
    fn durations_are_parsed_or_refused_with_the_form() {
        assert_eq!(parse_duration("6h"), Ok(Duration::from_secs(21_600)));
        assert_eq!(parse_duration("90"), Ok(Duration::from_secs(90)));
        for bad in [
            "",
            "h",
            "1.5h",
            "-1s",
            "6 h",
            "99999999999999999999d",
            "999999999999999999d",
        ] {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn no_control_characters_reach_the_terminal() {
        assert_eq!(harmless("a\u{1b}[31mb\u{7}\tc\r"), "a[31mb\tc");
    }
}
