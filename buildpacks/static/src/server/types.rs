//! Content types by the end of a file's name.

use std::path::Path;

/// Where nothing is known.
const UNKNOWN: &str = "application/octet-stream";

/// Ends of names and their types; text is UTF-8.
const TYPES: &[(&str, &str)] = &[
    ("html", "text/html; charset=utf-8"),
    ("htm", "text/html; charset=utf-8"),
    ("css", "text/css; charset=utf-8"),
    ("js", "text/javascript; charset=utf-8"),
    ("mjs", "text/javascript; charset=utf-8"),
    ("txt", "text/plain; charset=utf-8"),
    ("md", "text/markdown; charset=utf-8"),
    ("csv", "text/csv; charset=utf-8"),
    ("vtt", "text/vtt; charset=utf-8"),
    ("ics", "text/calendar; charset=utf-8"),
    ("xml", "application/xml"),
    ("rss", "application/rss+xml"),
    ("atom", "application/atom+xml"),
    ("xhtml", "application/xhtml+xml"),
    ("json", "application/json"),
    ("jsonld", "application/ld+json"),
    ("map", "application/json"),
    ("geojson", "application/geo+json"),
    ("webmanifest", "application/manifest+json"),
    ("wasm", "application/wasm"),
    ("pdf", "application/pdf"),
    ("zip", "application/zip"),
    ("gz", "application/gzip"),
    ("tar", "application/x-tar"),
    ("svg", "image/svg+xml"),
    ("png", "image/png"),
    ("jpg", "image/jpeg"),
    ("jpeg", "image/jpeg"),
    ("gif", "image/gif"),
    ("webp", "image/webp"),
    ("avif", "image/avif"),
    ("ico", "image/x-icon"),
    ("bmp", "image/bmp"),
    ("woff", "font/woff"),
    ("woff2", "font/woff2"),
    ("ttf", "font/ttf"),
    ("otf", "font/otf"),
    ("eot", "application/vnd.ms-fontobject"),
    ("mp3", "audio/mpeg"),
    ("ogg", "audio/ogg"),
    ("wav", "audio/wav"),
    ("m4a", "audio/mp4"),
    ("flac", "audio/flac"),
    ("mp4", "video/mp4"),
    ("webm", "video/webm"),
    ("mov", "video/quicktime"),
];

/// The type of `file`.
#[must_use]
pub fn of(file: &Path) -> &'static str {
    let end = file
        .extension()
        .and_then(|end| end.to_str())
        .unwrap_or_default()
        .to_ascii_lowercase();
    TYPES
        .iter()
        .find(|(name, _)| *name == end)
        .map_or(UNKNOWN, |(_, kind)| kind)
}

/// Whether compression is worth it.
#[must_use]
pub fn is_compressible(kind: &str) -> bool {
    let others = [
        "image/svg+xml",
        "application/wasm",
        "font/ttf",
        "font/otf",
        "image/x-icon",
        "image/bmp",
    ];
    kind.starts_with("text/") || kind.ends_with("json") || kind.ends_with("xml") || others.contains(&kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_decide() {
        assert_eq!(of(Path::new("a/INDEX.HTML")), "text/html; charset=utf-8");
        assert_eq!(of(Path::new("archive.tar.gz")), "application/gzip");
        assert_eq!(of(Path::new("LICENSE")), UNKNOWN);
        assert!(is_compressible(of(Path::new("a.svg"))) && !is_compressible(of(Path::new("a.png"))));
    }
}
