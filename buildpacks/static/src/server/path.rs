//! From the path of a request to a file below the root, and to nothing else.

use percent_encoding::percent_decode_str;
use std::path::{Path, PathBuf};

/// The relative path that `path` means; `None` where it is malformed, climbs, or names what is hidden.
pub fn relative(path: &str, hidden: bool) -> Option<PathBuf> {
    let decoded = percent_decode_str(path).decode_utf8().ok()?;
    if decoded.contains(['\0', '\\']) {
        return None;
    }
    let mut relative = PathBuf::new();
    for part in decoded.split('/') {
        match part {
            "" | "." => {}
            ".." => return None,
            // Certificates and app links are published below this one.
            ".well-known" => relative.push(part),
            part if part.starts_with('.') && !hidden => return None,
            part => relative.push(part),
        }
    }
    Some(relative)
}

/// The file or folder at `relative`, unless a link leads out of `root`. `root` is canonical.
pub fn inside(root: &Path, relative: &Path) -> Option<PathBuf> {
    let found = std::fs::canonicalize(root.join(relative)).ok()?;
    found.starts_with(root).then_some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_stay_below_the_root() {
        let is = |path: &str, expected: Option<&str>| {
            assert_eq!(relative(path, false), expected.map(PathBuf::from), "{path}");
        };
        is("/", Some(""));
        is("/a//b/./c.html", Some("a/b/c.html"));
        is("/a%20b", Some("a b"));
        is("/.well-known/x", Some(".well-known/x"));
        for bad in [
            "/../x",
            "/a/%2e%2e/x",
            "/%2e%2e%2fx",
            "/a%00",
            "/..%5cx",
            "/%ff",
            "/.git/config",
            "/a/.env",
        ] {
            is(bad, None);
        }
        assert_eq!(relative("/.env", true), Some(".env".into()));
        assert_eq!(relative("/..", true), None);
    }

    #[test]
    fn links_do_not_lead_out() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap().join("root");
        std::fs::create_dir(&root).unwrap();
        std::fs::write(root.join("a"), "").unwrap();
        std::os::unix::fs::symlink("a", root.join("in")).unwrap();
        std::os::unix::fs::symlink("/etc", root.join("out")).unwrap();
        assert!(inside(&root, Path::new("in")).is_some());
        assert_eq!(inside(&root, Path::new("out/passwd")), None);
        assert_eq!(inside(&root, Path::new("nowhere")), None);
    }
}
