//! Rules about text: paths that documents name exist, and nothing names the machine it was written on.

use super::Finding;
use std::path::Path;

/// Folders of the root whose insides documents name.
const FOLDERS: [&str; 10] = [
    "crates",
    "docs",
    "tests",
    "buildpacks",
    "migrations",
    "deploy",
    ".ci",
    ".config",
    ".cargo",
    "examples",
];

/// Back-ticked paths and relative links of a Markdown file that do not exist.
pub(super) fn paths(root: &Path, path: &Path, text: &str) -> Vec<Finding> {
    let folder = path.parent().unwrap_or(Path::new(""));
    let mut findings = Vec::new();
    let mut fenced = false;
    for (number, line) in text.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
            continue;
        }
        if fenced {
            continue;
        }
        let named = line
            .split('`')
            .skip(1)
            .step_by(2)
            .filter(|span| is_path(span))
            .map(|span| root.join(span));
        let linked = links(line).map(|link| root.join(folder).join(link));
        for target in named.chain(linked) {
            if !target.exists() {
                let shown = target.strip_prefix(root).unwrap_or(&target).display();
                findings.push(Finding::new(
                    path,
                    number + 1,
                    "paths",
                    format!("{shown} does not exist"),
                ));
            }
        }
    }
    findings
}

/// Whether a back-ticked text is a path in this tree: below a folder of ours, without patterns or spaces.
fn is_path(span: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '/');
    let first = span.split('/').next().unwrap_or("");
    span.contains('/') && span.chars().all(plain) && FOLDERS.contains(&first)
}

/// Targets of links to files.
fn links(line: &str) -> impl Iterator<Item = &str> {
    line.split("](").skip(1).filter_map(|rest| {
        let target = rest.split([')', '#', ' ']).next()?;
        (!target.is_empty() && !target.contains(':')).then_some(target)
    })
}

/// Words that belong to one machine or one account.
pub(super) fn words(path: &Path, text: &str) -> Vec<Finding> {
    // Composed, so that this file passes.
    let banned = [
        concat!("/wo", "rk/"),
        concat!("/tmp/", "brief"),
        concat!("/root/", ".cargo"),
        concat!("/root/", ".rustup"),
        concat!("index.", "crates.io"),
        concat!("/home/", "user/"),
    ];
    let mut findings = Vec::new();
    for (number, line) in text.lines().enumerate() {
        for word in banned.iter().filter(|word| line.contains(**word)) {
            findings.push(Finding::new(
                path,
                number + 1,
                "words",
                format!("{word} belongs to one machine"),
            ));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_paths_that_do_not_exist_are_found() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(root.path().join("docs/adr")).unwrap();
        std::fs::write(root.path().join("docs/a.md"), "").unwrap();
        let text = "`docs/a.md` `docs/b.md` `application/json` `docs/*.md` [x](a.md#part) [y](c.md) [z](https://x/y)\n\
                    ```\n`docs/gone.md`\n```\n";
        let found = paths(root.path(), Path::new("docs/index.md"), text);
        let messages: Vec<&str> = found.iter().map(|finding| finding.message.as_str()).collect();
        assert_eq!(messages, ["docs/b.md does not exist", "docs/c.md does not exist"]);
    }

    #[test]
    fn paths_of_one_machine_are_found() {
        let text = format!("see {}x", concat!("/wo", "rk/"));
        assert_eq!(words(Path::new("a.md"), &text).len(), 1);
        assert!(words(Path::new("a.md"), "a network/interface").is_empty());
    }
}
