//! Changes of limits that are made together or not at all.

use std::io;
use std::path::PathBuf;

use super::files;
use crate::{Error, Result};

/// One file of a group, what it is to hold and what it held.
#[derive(Debug)]
pub struct Change {
    pub file: PathBuf,
    pub to: String,
    pub from: String,
}

impl Change {
    pub fn new(file: PathBuf, from: impl ToString, to: impl ToString) -> Change {
        Change {
            file,
            to: to.to_string(),
            from: from.to_string(),
        }
    }
}

/// Makes `changes` in their order. If the kernel refuses one, those before it are taken back
/// in reverse order, so an order that was valid forwards is valid backwards.
pub fn all_or_nothing(changes: &[Change]) -> Result<()> {
    for (at, change) in changes.iter().enumerate() {
        if let Err(source) = files::write(&change.file, &change.to) {
            for done in changes[..at].iter().rev() {
                if let Err(error) = files::write(&done.file, &done.from) {
                    tracing::warn!(file = %done.file.display(), %error, "a limit could not be taken back");
                }
            }
            return Err(Error::File {
                operation: "set limit",
                path: change.file.clone(),
                source,
            });
        }
    }
    Ok(())
}

/// Whether the kernel refused because more is in use.
pub fn is_busy(error: &Error) -> bool {
    let busy = |source: &io::Error| source.raw_os_error() == Some(libc::EBUSY);
    matches!(error, Error::File { source, .. } if busy(source))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_changed_is_taken_back() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        for name in ["a", "b"] {
            std::fs::write(at(name), "1").unwrap();
        }
        let error = all_or_nothing(&[
            Change::new(at("a"), 1, 2),
            Change::new(at("b"), 1, 2),
            Change::new(at("missing"), 1, 2),
        ]);
        assert!(matches!(error, Err(Error::File { path, .. }) if path == at("missing")));
        for name in ["a", "b"] {
            assert_eq!(std::fs::read_to_string(at(name)).unwrap(), "1");
        }
        all_or_nothing(&[Change::new(at("a"), 1, 2)]).unwrap();
        assert_eq!(std::fs::read_to_string(at("a")).unwrap(), "2");
    }
}
