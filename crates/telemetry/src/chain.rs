//! One text for an error and everything that caused it. The error types say each thing once, so joining is enough.

use std::error::Error;

/// Longest chain that is followed, so that an error that is its own source ends.
const DEPTH: usize = 32;

/// The error's message and those of its sources, outermost first, joined by `: `.
#[must_use]
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let sources = std::iter::successors(error.source(), |error: &&dyn Error| (*error).source());
    for source in sources.take(DEPTH) {
        text.push_str(": ");
        text.push_str(&source.to_string());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("failed to read app a1")]
    struct Outer(#[source] std::io::Error);

    #[test]
    fn says_each_cause_once() {
        let error = Outer(std::io::Error::other("disk gone"));
        assert_eq!(chain(&error), "failed to read app a1: disk gone");
    }
}
