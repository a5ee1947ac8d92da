//! Which paths and links a package may have. Pure text rules; nothing here looks at a file system.
//!
//! Containment of links is by induction: no entry lies below a link, so the folders above a link are real and its
//! leading `..` count exactly. After the first ordinary component no `..` may follow, so whatever further links lie on
//! the way, each of them contained, the target is too.

use super::{Error, TreeLimits};

/// Longest component that Linux file systems take.
const COMPONENT_BYTES: usize = 255;

/// Brings a path as archives write it to the one form a package has: no `./`, no doubled or trailing `/`.
///
/// # Errors
/// [`Error::Path`] for any path that is not plainly inside the tree, or too long or deep.
pub(crate) fn normalise(raw: &str, limits: &TreeLimits) -> Result<String, Error> {
    let refuse = |reason| Error::Path {
        path: shorten(raw),
        reason,
    };
    if raw.contains('\0') {
        return Err(refuse("has a NUL character in its name"));
    }
    if raw.starts_with('/') {
        return Err(refuse("has an absolute path"));
    }
    if raw.split(['/', '\\']).any(|part| part == "..") {
        return Err(refuse("goes up out of its folder"));
    }
    if is_windows_absolute(raw) {
        return Err(refuse("has an absolute path"));
    }
    let parts: Vec<&str> = raw.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    if parts.is_empty() {
        return Err(refuse("has no name"));
    }
    if parts.len() > limits.depth {
        return Err(refuse("lies too many folders deep"));
    }
    if parts.iter().any(|part| part.len() > COMPONENT_BYTES) {
        return Err(refuse("has a name longer than 255 bytes"));
    }
    let path = parts.join("/");
    // What stood before it may have hidden it.
    if is_windows_absolute(&path) {
        return Err(refuse("has an absolute path"));
    }
    if path.len() > limits.path_bytes {
        return Err(refuse("has too long a path"));
    }
    Ok(path)
}

/// Whether a path is already in its one form.
///
/// # Errors
/// As [`normalise`], and [`Error::Path`] where it would change the path.
pub(crate) fn check(path: &str, limits: &TreeLimits) -> Result<(), Error> {
    if normalise(path, limits)? == path {
        return Ok(());
    }
    Err(Error::Path {
        path: shorten(path),
        reason: "is not written in its normal form",
    })
}

/// Whether the link `path` to `target` stays inside the tree.
///
/// # Errors
/// [`Error::Link`].
pub(crate) fn check_link(path: &str, target: &str, limits: &TreeLimits) -> Result<(), Error> {
    let refuse = |reason| Error::Link {
        path: shorten(path),
        target: shorten(target),
        reason,
    };
    if target.is_empty() || target.len() > limits.path_bytes {
        return Err(refuse("has an empty or too long target"));
    }
    if target.contains('\0') {
        return Err(refuse("has a NUL character in its target"));
    }
    if target.starts_with('/') {
        return Err(refuse("points to an absolute path"));
    }
    let mut depth = path.split('/').count() - 1;
    let mut descended = false;
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." if descended => return Err(refuse("goes up after it went down")),
            ".." => depth = depth.checked_sub(1).ok_or_else(|| refuse("points out of the tree"))?,
            _ => descended = true,
        }
    }
    Ok(())
}

/// The folders above a path, nearest first: `a/b/c` gives `a/b`, `a`.
pub(crate) fn parents(path: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(path.rsplit_once('/').map(|(parent, _)| parent), |path| {
        path.rsplit_once('/').map(|(parent, _)| parent)
    })
}

/// A hostile name, short enough for a message.
fn shorten(text: &str) -> String {
    const SHOWN: usize = 200;
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}

fn is_windows_absolute(raw: &str) -> bool {
    let bytes = raw.as_bytes();
    raw.starts_with('\\') || (bytes.len() > 2 && bytes[0].is_ascii_alphabetic() && &bytes[1..3] == b":\\")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn limits() -> TreeLimits {
        TreeLimits {
            depth: 4,
            path_bytes: 300,
            ..TreeLimits::default()
        }
    }

    #[test]
    fn brings_paths_to_one_form() {
        for (raw, normal) in [
            ("a", "a"),
            ("./a//b/", "a/b"),
            ("a/./b", "a/b"),
            ("...", "..."),
            ("a\\b", "a\\b"),
        ] {
            assert_eq!(normalise(raw, &limits()).unwrap(), normal, "{raw}");
        }
    }

    #[test]
    fn refuses_what_is_not_plainly_inside() {
        let long = "x".repeat(256);
        let longer = format!("{}/{}", "x".repeat(200), "x".repeat(200));
        for raw in [
            "",
            "/",
            ".",
            "./",
            "..",
            "../a",
            "a/../../b",
            "a/..",
            "/etc/passwd",
            "//a",
            "..\\a",
            "a\\..\\..\\b",
            "C:\\a",
            "\\\\host\\a",
            "a\0b",
            "a/b/c/d/e",
            &long,
            &longer,
        ] {
            let refused = normalise(raw, &limits());
            assert!(matches!(refused, Err(Error::Path { .. })), "{raw:?}: {refused:?}");
        }
    }

    #[test]
    fn links_stay_inside() {
        for (path, target) in [
            ("a", "b"),
            ("a/b", "../c"),
            ("a/b/c", "../../x/y"),
            ("a/b", "./c"),
            ("a/b", ".."),
        ] {
            check_link(path, target, &limits()).unwrap();
        }
        for (path, target) in [
            ("a", ".."),
            ("a", "/etc/passwd"),
            ("a", ""),
            ("a/b", "../../c"),
            ("a", "b/../.."),
            ("a/b", "c/../../../d"),
            ("a", "b\0c"),
            ("a", "./../x"),
        ] {
            assert!(check_link(path, target, &limits()).is_err(), "{path} -> {target}");
        }
    }

    #[test]
    fn names_the_folders_above() {
        assert_eq!(parents("a/b/c").collect::<Vec<_>>(), ["a/b", "a"]);
        assert_eq!(parents("a").count(), 0);
    }

    proptest! {
        /// Whatever is let through, joined to a folder, stays below that folder and is stable.
        #[test]
        fn whatever_passes_is_inside(raw in "[a./\\\\:C\u{0}é]{0,12}") {
            if let Ok(path) = normalise(&raw, &limits()) {
                prop_assert!(check(&path, &limits()).is_ok());
                let inside = std::path::Path::new(&path).components().all(|part| matches!(part, std::path::Component::Normal(_)));
                prop_assert!(inside, "{path:?}");
            }
        }

        /// A link that passes, resolved step by step from its own folder, never leaves the root.
        #[test]
        fn whatever_link_passes_is_inside(path in "[ab](/[ab]){0,3}", target in "[a./]{0,10}") {
            if check_link(&path, &target, &limits()).is_ok() {
                let mut depth = path.split('/').count() as i64 - 1;
                for part in target.split('/') {
                    depth += match part { "" | "." => 0, ".." => -1, _ => 1 };
                    prop_assert!(depth >= 0);
                }
            }
        }
    }
}
