//! The phases of a push, drawn against time. Pure: spans in, text out.

use super::format;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Width of the drawing in characters.
const WIDTH: u64 = 40;

/// Longest name that is shown in full.
const NAME: usize = 30;

/// A phase with its place in time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Span {
    /// Such as `upload`; parts of a phase are indented.
    pub name: String,
    /// Since the push began, in milliseconds.
    pub start_ms: u64,
    /// In milliseconds.
    pub duration_ms: u64,
    /// Median of the app's earlier pushes, in milliseconds, where there are any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usual_ms: Option<u64>,
}

/// The drawing: a line for each span, then the total.
pub fn render(spans: &[Span], total_ms: u64) -> String {
    let scale = total_ms.max(1);
    let compared = spans.iter().any(|span| span.usual_ms.is_some());
    let names = spans
        .iter()
        .map(|span| span.name.chars().count())
        .max()
        .unwrap_or(0)
        .clamp(10, NAME);
    let mut text = String::new();
    for span in spans {
        let name: String = span.name.chars().take(NAME).collect();
        let from = (span.start_ms.min(scale) * WIDTH / scale).min(WIDTH - 1);
        let until = ((span.start_ms + span.duration_ms).min(scale) * WIDTH)
            .div_ceil(scale)
            .max(from + 1);
        let line = format!(
            "{name:<names$} {:>8}{} |{}{}{}|",
            format::duration(Duration::from_millis(span.duration_ms)),
            usual(span.usual_ms, compared),
            " ".repeat(from as usize),
            "=".repeat((until - from) as usize),
            " ".repeat((WIDTH - until) as usize),
        );
        text.push_str(&line);
        text.push('\n');
    }
    let total = format::duration(Duration::from_millis(total_ms));
    text.push_str(&format!("{:<names$} {total:>8}\n", "total"));
    text
}

fn usual(usual: Option<u64>, compared: bool) -> String {
    match usual {
        Some(ms) => format!("  usually {:>8}", format::duration(Duration::from_millis(ms))),
        None if compared => " ".repeat(18),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(name: &str, start_ms: u64, duration_ms: u64, usual_ms: Option<u64>) -> Span {
        Span {
            name: name.into(),
            start_ms,
            duration_ms,
            usual_ms,
        }
    }

    #[test]
    fn phases_are_drawn_where_they_were() {
        let spans = [
            span("hash", 0, 12, Some(10)),
            span("upload", 12, 180, None),
            span("stage", 192, 2_400, Some(9_000)),
            span("  build", 300, 2_000, None),
            span("healthy", 2_600, 400, None),
        ];
        insta::assert_snapshot!(render(&spans, 3_000));
    }

    #[test]
    fn odd_times_do_not_break_the_drawing() {
        let text = render(&[span("late", 500, 500, None), span("zero", 0, 0, None)], 0);
        assert_eq!(text.lines().count(), 3);
    }
}
