//! Entity tags by content: all files of a droplet bear the same time, so neither it nor `Last-Modified` tells them apart.

use sha2::{Digest as _, Sha256};
use std::collections::HashMap;
use std::fs::{File, Metadata};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::SystemTime;

/// Most files whose tags are remembered.
const REMEMBERED: usize = 50_000;

/// Size and time of a file, and its tag then.
type Known = (u64, Option<SystemTime>, String);

/// Tags that were computed already, each for one state of its file.
#[derive(Debug, Default)]
pub struct Tags {
    known: Mutex<HashMap<PathBuf, Known>>,
}

impl Tags {
    /// The tag of `file`, read once for each state of it.
    ///
    /// # Errors
    /// Where it cannot be read.
    pub fn of(&self, file: &Path, found: &Metadata) -> io::Result<String> {
        let state = (found.len(), found.modified().ok());
        if let Ok(known) = self.known.lock()
            && let Some((size, time, tag)) = known.get(file)
            && (*size, *time) == state
        {
            return Ok(tag.clone());
        }
        let mut hash = Sha256::new();
        let mut content = File::open(file)?;
        let mut piece = vec![0; 64 * 1024];
        loop {
            match content.read(&mut piece)? {
                0 => break,
                read => hash.update(&piece[..read]),
            }
        }
        let tag = format!("\"{}\"", hex::encode(&hash.finalize()[..12]));
        if let Ok(mut known) = self.known.lock()
            && known.len() < REMEMBERED
        {
            known.insert(file.to_owned(), (state.0, state.1, tag.clone()));
        }
        Ok(tag)
    }
}

/// Whether the list of tags in `If-None-Match` has `tag`, by the weak comparison that the header calls for.
pub fn matches(list: &str, tag: &str) -> bool {
    list.split(',')
        .map(str::trim)
        .any(|item| item == "*" || item.strip_prefix("W/").unwrap_or(item) == tag)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_follow_the_content() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a");
        let tags = Tags::default();
        let tag = |content: &str| {
            std::fs::write(&file, content).unwrap();
            tags.of(&file, &file.metadata().unwrap()).unwrap()
        };
        let first = tag("one");
        assert_ne!(first, tag("three"));
        assert!(matches(&format!("\"x\", W/{first}"), &first) && matches("*", &first) && !matches("\"x\"", &first));
    }
}
