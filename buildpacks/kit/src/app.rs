//! The app's files, as people and their editors leave them.

use crate::{Failure, Result, key};
use std::fs;
use std::path::Path;

/// Largest file that is read for what it says.
const LARGEST: u64 = 16 * 1024 * 1024;
/// Folders that no build reads.
const UNREAD: &[&str] = &[".git", "node_modules", "__pycache__", ".venv"];
/// How deep folders are looked into.
const DEPTH: usize = 64;

/// A file of the app as text; `None` where there is none. UTF-16, which some editors write, is read too.
///
/// # Errors
/// Where it cannot be read, or is far longer than such a file is.
pub fn read_text(app: &Path, name: &str) -> Result<Option<String>> {
    let path = app.join(name);
    let Ok(found) = fs::metadata(&path) else {
        return Ok(None);
    };
    if !found.is_file() {
        return Ok(None);
    }
    if found.len() > LARGEST {
        return Err(Failure::new(
            format!("{name} is longer than {} MiB", LARGEST >> 20),
            "Push the file as its tool writes it.",
        ));
    }
    let bytes = fs::read(&path).map_err(Failure::file("read", &path))?;
    let text = match bytes.as_slice() {
        [0xff, 0xfe, rest @ ..] => {
            let units: Vec<u16> = rest
                .chunks_exact(2)
                .map(|pair| u16::from_le_bytes([pair[0], pair[1]]))
                .collect();
            String::from_utf16_lossy(&units)
        }
        _ => String::from_utf8_lossy(&bytes)
            .trim_start_matches('\u{feff}')
            .to_owned(),
    };
    Ok(Some(text))
}

/// The first line of a file that says something, without comments.
///
/// # Errors
/// As [`read_text`].
pub fn first_line(app: &Path, name: &str) -> Result<Option<String>> {
    let text = read_text(app, name)?.unwrap_or_default();
    let mut lines = text
        .lines()
        .map(|line| line.split('#').next().unwrap_or_default().trim());
    Ok(lines.find(|line| !line.is_empty()).map(str::to_owned))
}

/// The version that `.tool-versions` names for one of `tools`.
///
/// # Errors
/// As [`read_text`].
pub fn tool_version(app: &Path, tools: &[&str]) -> Result<Option<String>> {
    let text = read_text(app, ".tool-versions")?.unwrap_or_default();
    let found = text.lines().find_map(|line| {
        let mut words = line.split('#').next()?.split_whitespace();
        let tool = words.next()?;
        tools.contains(&tool).then(|| words.next().map(str::to_owned))?
    });
    Ok(found)
}

/// Paths of the app's files relative to it, sorted, without those that no build reads.
#[must_use]
pub fn files(app: &Path) -> Vec<String> {
    let mut found = Vec::new();
    walk(app, "", DEPTH, &mut found);
    found.sort();
    found
}

fn walk(folder: &Path, below: &str, depth: usize, found: &mut Vec<String>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.filter_map(|entry| entry.ok()) {
        let Ok(name) = entry.file_name().into_string() else {
            continue;
        };
        let Ok(kind) = entry.file_type() else { continue };
        let path = if below.is_empty() {
            name.clone()
        } else {
            format!("{below}/{name}")
        };
        if kind.is_file() {
            found.push(path);
        } else if kind.is_dir() && depth > 0 && !UNREAD.contains(&name.as_str()) {
            walk(&entry.path(), &path, depth - 1, found);
        }
    }
}

/// A key of names and contents of those files of the app that `counts` names.
///
/// # Errors
/// Where one cannot be read.
pub fn key_of(app: &Path, counts: impl Fn(&str) -> bool) -> Result<String> {
    let mut parts = Vec::new();
    for name in files(app).into_iter().filter(|name| counts(name)) {
        let path = app.join(&name);
        let content = fs::read(&path).map_err(Failure::file("read", &path))?;
        parts.push(name);
        parts.push(key(&[&content]));
    }
    let parts: Vec<&[u8]> = parts.iter().map(String::as_bytes).collect();
    Ok(key(&parts))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_say_what_they_say() {
        let folder = tempfile::tempdir().unwrap();
        let app = folder.path();
        let mut wide = vec![0xff, 0xfe];
        wide.extend("flask\n".encode_utf16().flat_map(u16::to_le_bytes));
        fs::write(app.join("wide"), wide).unwrap();
        assert_eq!(read_text(app, "wide").unwrap().as_deref(), Some("flask\n"));
        assert_eq!(read_text(app, "gone").unwrap(), None);
        fs::write(app.join(".x"), "\n# why\n 3.1 # because\n").unwrap();
        assert_eq!(first_line(app, ".x").unwrap().as_deref(), Some("3.1"));
        fs::write(app.join(".tool-versions"), "# a\nruby 3.3.8\ngolang 1.25.1\n").unwrap();
        assert_eq!(tool_version(app, &["go", "golang"]).unwrap().as_deref(), Some("1.25.1"));
        assert_eq!(tool_version(app, &["java"]).unwrap(), None);
    }

    #[test]
    fn a_key_depends_on_names_and_contents() {
        let folder = tempfile::tempdir().unwrap();
        let app = folder.path();
        fs::create_dir_all(app.join("a/.git")).unwrap();
        fs::write(app.join("a/b.go"), "1").unwrap();
        fs::write(app.join("a/.git/c"), "1").unwrap();
        assert_eq!(files(app), ["a/b.go"]);
        let first = key_of(app, |_| true).unwrap();
        fs::write(app.join("a/.git/c"), "2").unwrap();
        assert_eq!(key_of(app, |_| true).unwrap(), first);
        fs::write(app.join("a/b.go"), "2").unwrap();
        assert_ne!(key_of(app, |_| true).unwrap(), first);
        assert_eq!(key_of(app, |_| false).unwrap(), key(&[]));
    }
}
