//! Headlines on stdout in the form that all buildpacks speak. Errors of the program itself go to stderr, in the same form.
//!
//! A closed stream is not an error: the result file is what counts.

use std::io::{Write, stderr, stdout};

/// `-----> text`.
pub fn headline(text: &str) {
    line(&format!("-----> {text}"));
}

/// Seven spaces and the text.
pub fn detail(text: &str) {
    for part in text.lines() {
        line(&format!("       {part}"));
    }
}

/// ` !     text`, for what the reader must not miss.
pub fn alert(text: &str) {
    for part in text.lines() {
        line(&format!(" !     {part}"));
    }
}

/// The same on stderr.
pub fn alert_on_stderr(text: &str) {
    let mut stream = stderr().lock();
    for part in text.lines() {
        let _ = writeln!(stream, " !     {part}");
    }
}

/// Bytes of a buildpack's own output, as they are.
pub fn raw(bytes: &[u8]) {
    let mut stream = stdout().lock();
    let _ = stream.write_all(bytes).and_then(|()| stream.flush());
}

/// Plain text on stdout.
pub fn line(text: &str) {
    let mut stream = stdout().lock();
    let _ = writeln!(stream, "{text}").and_then(|()| stream.flush());
}
