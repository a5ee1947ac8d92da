//! The list of a folder's files, where the Staticfile asks for it.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use std::path::Path;

/// Most entries shown.
const ENTRIES: usize = 10_000;
/// What need not be escaped in a link.
const LINK: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// A page with links to the entries of `folder`, folders first.
pub fn page(folder: &Path, title: &str, hidden: bool) -> String {
    let mut entries: Vec<(bool, String)> = std::fs::read_dir(folder)
        .into_iter()
        .flatten()
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let name = entry.file_name().into_string().ok()?;
            (hidden || !name.starts_with('.')).then(|| (!entry.path().is_dir(), name))
        })
        .take(ENTRIES)
        .collect();
    entries.sort();
    let title = escape(title);
    let mut page = format!("<!doctype html><meta charset=utf-8><title>{title}</title><h1>{title}</h1><ul>\n");
    for (is_file, name) in entries {
        let slash = if is_file { "" } else { "/" };
        let link = utf8_percent_encode(&name, LINK);
        // Without "./" a name with a colon would be read as a scheme.
        page.push_str(&format!(
            "<li><a href=\"./{link}{slash}\">{}{slash}</a>\n",
            escape(&name)
        ));
    }
    page.push_str("</ul>\n");
    page
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_become_markup() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("<b>\"&"), "").unwrap();
        std::fs::write(folder.path().join(".hidden"), "").unwrap();
        std::fs::create_dir(folder.path().join("z")).unwrap();
        let page = page(folder.path(), "/<x>", false);
        assert!(
            page.contains("<a href=\"./%3Cb%3E%22%26\">&lt;b&gt;&quot;&amp;</a>"),
            "{page}"
        );
        assert!(page.contains("&lt;x&gt;") && !page.contains("hidden"));
        assert!(page.find("./z/").unwrap() < page.find("%3Cb").unwrap());
    }
}
