//! A Rust file as rules look at it: its code without comments and literals, its comments, and which lines are tests.
//!
//! A small lexer, not a parser: it knows comments, strings, raw strings, characters and braces, which is enough to
//! find words and the ends of items.

use std::ops::Range;
use std::path::{Path, PathBuf};

/// A Rust file.
pub struct Source {
    pub path: PathBuf,
    pub text: String,
    /// The text with comments and the insides of literals blanked, byte for byte in the same places.
    pub code: String,
    /// The text with everything but comments blanked.
    pub comments: String,
    /// Byte ranges of modules and functions that only tests compile.
    tests: Vec<Range<usize>>,
}

impl Source {
    pub fn new(path: PathBuf, text: String) -> Self {
        let (code, comments) = split(&text);
        let tests = if is_test_file(&path) {
            std::iter::once(0..text.len()).collect()
        } else {
            test_items(&code)
        };
        Self {
            path,
            text,
            code,
            comments,
            tests,
        }
    }

    /// Line of a byte, from 1.
    pub fn line(&self, at: usize) -> usize {
        self.text.as_bytes()[..at].iter().filter(|byte| **byte == b'\n').count() + 1
    }

    /// Whether only tests compile what stands at a byte.
    pub fn is_test(&self, at: usize) -> bool {
        self.tests.iter().any(|range| range.contains(&at))
    }

    /// The crate's folder name below `crates/`, else the first folder.
    pub fn part(&self) -> &str {
        let mut parts = self.path.iter().filter_map(|part| part.to_str());
        match parts.next() {
            Some("crates") => parts.next().unwrap_or(""),
            first => first.unwrap_or(""),
        }
    }

    /// Where `word` stands in the code, not as part of a longer word. Spaces in the code do not matter to `::` paths,
    /// because rustfmt leaves none.
    pub fn find<'a>(&'a self, word: &'a str) -> impl Iterator<Item = usize> + 'a {
        let is_word = |byte: Option<&u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric() || *byte == b'_');
        let bytes = self.code.as_bytes();
        self.code.match_indices(word).map(|(at, _)| at).filter(move |at| {
            let open = word.ends_with(|c: char| !c.is_alphanumeric());
            !is_word(bytes.get(at.wrapping_sub(1))) && (open || !is_word(bytes.get(at + word.len())))
        })
    }
}

/// Files that only tests compile, by their place or name.
fn is_test_file(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or("");
    name == "tests.rs"
        || name.ends_with("_tests.rs")
        || name == "testing.rs"
        || path
            .iter()
            .any(|part| part == "tests" || part == "testing" || part == "benches")
}

/// Ranges of items that follow `#[cfg(test)]` or a test attribute.
fn test_items(code: &str) -> Vec<Range<usize>> {
    let mut ranges: Vec<Range<usize>> = Vec::new();
    for marker in ["#[cfg(test)]", "#[cfg(any(test"] {
        for (at, _) in code.match_indices(marker) {
            let end = item_end(code, at + marker.len());
            ranges.push(at..end);
        }
    }
    ranges
}

/// The end of the item that starts at or after `from`: its closing brace, or a semicolon before any brace.
pub fn item_end(code: &str, from: usize) -> usize {
    let mut depth = 0_usize;
    let mut nested = 0_usize;
    for (at, byte) in code.bytes().enumerate().skip(from) {
        match byte {
            b'(' | b'[' => nested += 1,
            b')' | b']' => nested = nested.saturating_sub(1),
            b'{' => depth += 1,
            b'}' => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    return at + 1;
                }
            }
            b';' if depth == 0 && nested == 0 => return at + 1,
            _ => {}
        }
    }
    code.len()
}

/// What the lexer is in.
enum Part {
    Code,
    Comment,
    Literal,
}

/// Code and comments of a text, each with the other blanked.
fn split(text: &str) -> (String, String) {
    let bytes = text.as_bytes();
    let (mut code, mut comments) = (Vec::with_capacity(bytes.len()), Vec::with_capacity(bytes.len()));
    let mut at = 0;
    while at < bytes.len() {
        let (part, length) = token(bytes, at);
        for byte in &bytes[at..(at + length).min(bytes.len())] {
            let blank = if *byte == b'\n' { b'\n' } else { b' ' };
            // Anything that is no ASCII would be cut in two: no rule looks at it.
            let shown = if byte.is_ascii() { *byte } else { b' ' };
            code.push(if matches!(part, Part::Code) { shown } else { blank });
            comments.push(if matches!(part, Part::Comment) { shown } else { blank });
        }
        at += length;
    }
    let ascii = |bytes| String::from_utf8(bytes).unwrap_or_default();
    (ascii(code), ascii(comments))
}

/// The part that starts at a byte and its length.
fn token(bytes: &[u8], at: usize) -> (Part, usize) {
    let rest = &bytes[at..];
    let after_word = at > 0 && (bytes[at - 1].is_ascii_alphanumeric() || bytes[at - 1] == b'_');
    match rest {
        [b'/', b'/', ..] => (
            Part::Comment,
            rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len()),
        ),
        [b'/', b'*', ..] => (Part::Comment, block_comment(rest)),
        [b'"', ..] => (Part::Literal, quoted(rest, 0)),
        [b'r' | b'b' | b'c', ..] if !after_word => match raw_string(rest) {
            Some(length) => (Part::Literal, length),
            None => (Part::Code, 1),
        },
        [b'\'', ..] => match character(rest) {
            Some(length) => (Part::Literal, length),
            None => (Part::Code, 1),
        },
        _ => (Part::Code, 1),
    }
}

fn block_comment(rest: &[u8]) -> usize {
    let (mut depth, mut at) = (0_usize, 0);
    while at < rest.len() {
        match rest[at..] {
            [b'/', b'*', ..] => (depth, at) = (depth + 1, at + 2),
            [b'*', b'/', ..] => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            return at;
        }
    }
    rest.len()
}

/// Length of a string whose opening quote is at `open`.
fn quoted(rest: &[u8], open: usize) -> usize {
    let mut at = open + 1;
    while at < rest.len() {
        match rest[at] {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    rest.len()
}

/// Length of `r"..."`, `r#"..."#`, `br"..."`, `b"..."` and `c"..."`; `None` where it is a word.
fn raw_string(rest: &[u8]) -> Option<usize> {
    let letters = rest
        .iter()
        .take(2)
        .take_while(|byte| matches!(byte, b'r' | b'b' | b'c'))
        .count();
    let hashes = rest[letters..].iter().take_while(|byte| **byte == b'#').count();
    let open = letters + hashes;
    if rest.get(open) != Some(&b'"') {
        return None;
    }
    if !rest[..letters].contains(&b'r') {
        return (hashes == 0).then(|| quoted(rest, open));
    }
    let end = [b"\"".as_slice(), &b"#".repeat(hashes)].concat();
    let body = &rest[open + 1..];
    let length = body
        .windows(end.len())
        .position(|window| window == end)
        .unwrap_or(body.len());
    Some((open + 1 + length + end.len()).min(rest.len()))
}

/// Length of a character literal; `None` for a lifetime.
fn character(rest: &[u8]) -> Option<usize> {
    if rest.get(1) == Some(&b'\\') {
        let close = rest.iter().skip(3).position(|byte| *byte == b'\'')?;
        return Some(close + 4);
    }
    // One character of up to four bytes.
    (2..=5)
        .find(|end| rest.get(*end) == Some(&b'\''))
        .filter(|end| std::str::from_utf8(&rest[1..*end]).is_ok_and(|text| text.chars().count() == 1))
        .map(|end| end + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn separates_code_from_the_rest() {
        let text = r##"fn f<'a>() { "unsafe \" {"; r#"x " } "#; '{'; '\''; b"{"; 'é'; } // unsafe {
/* unsafe /* { */ */ let r = b'}'; struct S;"##;
        let (code, comments) = split(text);
        assert_eq!(code.len(), text.len());
        assert!(
            !code.contains("unsafe") && code.contains("fn f<'a>() {") && code.contains("struct S;"),
            "{code}"
        );
        assert_eq!(code.matches('{').count(), 1, "{code}");
        assert_eq!(code.matches('}').count(), 1, "{code}");
        assert_eq!(comments.matches("unsafe").count(), 2, "{comments}");
    }

    #[test]
    fn knows_what_only_tests_compile() {
        let text =
            "fn a() {}\n#[cfg(test)]\nmod tests {\n fn b() { c() }\n}\nfn d() {}\n#[cfg(test)]\nmod t;\nfn e() {}\n";
        let source = Source::new("crates/x/src/lib.rs".into(), text.into());
        let is_test = |word: &str| source.is_test(source.find(word).next().unwrap());
        assert!(is_test("b") && is_test("c") && is_test("t"));
        assert!(!is_test("a") && !is_test("d") && !is_test("e"));
        assert!(Source::new("crates/x/src/y_tests.rs".into(), text.into()).is_test(0));
        assert_eq!((source.part(), source.line(source.find("d").next().unwrap())), ("x", 6));
    }

    #[test]
    fn finds_words_not_parts_of_them() {
        let source = Source::new("a.rs".into(), "unsafe_code unsafe x::env::var(a) my_env::var()".into());
        assert_eq!(source.find("unsafe").collect::<Vec<_>>(), [12]);
        assert_eq!(source.find("env::var").count(), 1);
    }
}
