//! Lengths of files and functions. Those beyond the limit that exist are listed with their length, which only shrinks.

use super::Finding;
use super::exempt::Exemptions;
use super::source::{Source, item_end};

/// Longest file in lines.
const FILE: usize = 500;
/// Longest function in lines, signature and braces included.
const FUNCTION: usize = 70;

pub(super) fn check(source: &Source, exemptions: &mut Exemptions) -> Vec<Finding> {
    let mut findings = Vec::new();
    let lines = source.text.lines().count();
    let mut judge = |function: Option<&str>, line, length, limit| {
        let what = function.map_or_else(|| "the file".to_owned(), |name| format!("fn {name}"));
        let message = match exemptions.length(&source.path, function) {
            Some(_) if length <= limit => format!("{what} is short enough: remove it from .config/tidy.toml"),
            Some(listed) if length < listed * 9 / 10 => {
                format!("{what} has shrunk to {length} lines: lower its number in .config/tidy.toml from {listed}")
            }
            Some(listed) if length <= listed => return,
            _ if length <= limit => return,
            _ => format!("{what} has {length} lines, more than {limit}: split it by what it does"),
        };
        findings.push(Finding::new(&source.path, line, "size", message));
    };
    judge(None, 0, lines, FILE);
    for (name, line, length) in functions(source) {
        judge(Some(&name), line, length, FUNCTION);
    }
    findings
}

/// Name, first line and length of every function with a body.
fn functions(source: &Source) -> Vec<(String, usize, usize)> {
    let mut found = Vec::new();
    for at in source.find("fn") {
        let after = source.code[at + 2..].trim_start();
        let end_of_name = after
            .find(|c: char| !c.is_alphanumeric() && c != '_')
            .unwrap_or(after.len());
        let name = &after[..end_of_name];
        // `fn(` is the type of a function pointer.
        if name.is_empty() {
            continue;
        }
        let (first, last) = (
            source.line(at),
            source.line(item_end(&source.code, at).saturating_sub(1)),
        );
        found.push((name.to_owned(), first, last - first + 1));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn messages(text: &str, exemptions: &str) -> Vec<String> {
        let mut exemptions = Exemptions::parse(exemptions).unwrap();
        let source = Source::new("crates/x/src/a.rs".into(), text.into());
        check(&source, &mut exemptions)
            .into_iter()
            .map(|finding| finding.message)
            .collect()
    }

    fn function(lines: usize) -> String {
        format!(
            "impl A {{\n    pub fn long(at: [u8; 3]) {{\n{}    }}\n}}\nfn short() {{}}\n",
            "x();\n".repeat(lines - 2)
        )
    }

    #[test]
    fn long_ones_are_found() {
        assert!(messages(&function(70), "").is_empty());
        assert_eq!(messages(&function(71), "").len(), 1);
        assert!(messages(&"x\n".repeat(500), "").is_empty());
        assert_eq!(
            messages(&"x\n".repeat(501), ""),
            ["the file has 501 lines, more than 500: split it by what it does"]
        );
    }

    #[test]
    fn listed_lengths_only_shrink() {
        let listed = |lines| {
            format!(
                "[[long]]\npath = \"crates/x/src/a.rs\"\nfunction = \"long\"\nlines = {lines}\nreason = \"a table\"\n"
            )
        };
        assert!(messages(&function(80), &listed(80)).is_empty());
        assert!(messages(&function(81), &listed(80))[0].contains("has 81 lines"));
        assert!(
            messages(&function(79), &listed(80)).is_empty(),
            "a few lines are not worth a change of the list"
        );
        assert!(messages(&function(71), &listed(80))[0].contains("shrunk to 71"));
        assert!(messages(&function(60), &listed(80))[0].contains("short enough"));
    }
}
