//! What the person who pushed reads: headlines, details, and what must not be missed. A closed stream is not an error.

use std::io::{Write as _, stdout};

/// `-----> text`.
pub fn headline(text: &str) {
    line("-----> ", text);
}

/// Seven spaces and the text.
pub fn detail(text: &str) {
    for part in text.lines() {
        line("       ", part);
    }
}

/// ` !     text`. The platform shows these lines again as the cause when a build fails.
pub fn alert(text: &str) {
    for part in text.lines() {
        line(" !     ", part);
    }
}

/// The text alone, as bin/detect says what it found.
pub fn plain(text: &str) {
    line("", text);
}

fn line(before: &str, text: &str) {
    let mut stream = stdout().lock();
    let _ = writeln!(stream, "{before}{text}").and_then(|()| stream.flush());
}
