//! Log lines of an app, as text and as records.

use super::Ui;
use super::format::{self, Style};
use api::cell::LogLine;
use serde::Serialize;

/// A log line as it is shown, and as `--json` prints it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LogLines {
    /// Nanoseconds since 1970.
    pub ts_ns: i64,
    /// Such as `APP/PROC/WEB`.
    pub source_type: String,
    /// Instance index.
    pub instance: String,
    /// Whether it was written to standard error.
    pub err: bool,
    pub text: String,
}

impl From<LogLine> for LogLines {
    fn from(line: LogLine) -> Self {
        Self {
            ts_ns: line.ts_ns,
            source_type: line.source_type,
            instance: line.instance,
            err: line.err,
            text: line.text,
        }
    }
}

impl LogLines {
    /// `2026-03-01T05:46:12.123Z [APP/PROC/WEB/0] OUT text`
    fn render(&self, color: bool) -> String {
        let at = time::OffsetDateTime::from_unix_timestamp_nanos(i128::from(self.ts_ns))
            .map_or_else(|_| self.ts_ns.to_string(), format::instant);
        let stream = if self.err { "ERR" } else { "OUT" };
        let source = format!("[{}/{}]", self.source_type, self.instance);
        let style = if self.err { Style::Red } else { Style::Cyan };
        format!(
            "{} {} {stream} {}",
            Style::Dim.paint(color, &at),
            style.paint(color, &source),
            format::harmless(&self.text)
        )
    }
}

impl Ui {
    /// A log line as a result.
    pub fn log_line(&self, line: &LogLines) {
        if self.json() {
            self.record(line);
        } else {
            let color = self.colors(self.settings().stdout_tty);
            self.out_line(&line.render(color));
        }
    }

    /// A line of a build as progress, in the form in which buildpacks write it.
    pub fn build_line(&self, line: &LogLines) {
        let text = format::harmless(&line.text);
        let text = if text.starts_with("----->") {
            self.paint(Style::Bold, &text)
        } else if text.starts_with(" !") {
            self.paint(Style::Red, &text)
        } else {
            text
        };
        self.say_plain(&text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_when_who_and_which_stream() {
        let line = LogLines {
            ts_ns: 1_700_000_000_123_456_789,
            source_type: "APP/PROC/WEB".into(),
            instance: "2".into(),
            err: true,
            text: "boom\u{1b}[2J".into(),
        };
        assert_eq!(
            line.render(false),
            "2023-11-14T22:13:20.123Z [APP/PROC/WEB/2] ERR boom[2J"
        );
    }
}
