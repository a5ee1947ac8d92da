//! Copies parts of the host's `/etc` that are public anyway: what everybody may read, and links that lead to such.

use crate::error::{Error, file};
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

/// Files that one stack takes from the host, at most.
const MAX_FILES: usize = 50_000;
/// Largest file that is taken.
const MAX_FILE_BYTES: u64 = 16 << 20;
/// Folders below each other that are looked into.
const MAX_DEPTH: usize = 12;

/// A bounded copy.
#[derive(Debug, Default)]
pub(super) struct Copy {
    files: usize,
}

impl Copy {
    /// Copies `source` to `target`, folders with all they hold. What may not be read by everybody is left out, as is
    /// what isn't there.
    pub(super) fn take(&mut self, source: &Path, target: &Path) -> Result<(), Error> {
        self.visit(source, target, 0)
    }

    fn visit(&mut self, source: &Path, target: &Path, depth: usize) -> Result<(), Error> {
        let Ok(metadata) = fs::symlink_metadata(source) else {
            return Ok(());
        };
        self.files += 1;
        if self.files > MAX_FILES || depth > MAX_DEPTH {
            tracing::warn!(path = %source.display(), "left out of the host stack: too much to copy");
            return Ok(());
        }
        let mode = metadata.permissions().mode();
        if metadata.is_symlink() {
            return link(source, target);
        }
        if metadata.is_dir() {
            if mode & 0o005 != 0o005 {
                return Ok(());
            }
            super::make_dir(target, 0o755)?;
            let entries = fs::read_dir(source).map_err(file("list", source))?;
            for entry in entries.filter_map(Result::ok) {
                self.visit(&entry.path(), &target.join(entry.file_name()), depth + 1)?;
            }
            return Ok(());
        }
        if metadata.is_file() && mode & 0o004 != 0 && metadata.len() <= MAX_FILE_BYTES {
            copy(source, target, mode)?;
        }
        Ok(())
    }
}

/// Keeps a link that leads to what the sandbox sees too; else takes the file that it leads to.
fn link(source: &Path, target: &Path) -> Result<(), Error> {
    let leads_to = fs::read_link(source).map_err(file("read", source))?;
    let Ok(resolved) = fs::canonicalize(source) else {
        return Ok(());
    };
    let seen = (resolved.starts_with("/usr") && !resolved.starts_with("/usr/local")) || resolved.starts_with("/etc");
    if seen {
        return symlink(&leads_to, target).map_err(file("link", target));
    }
    let public = ["/usr/local/share", "/var/lib", "/run/systemd"];
    let metadata = fs::metadata(&resolved).map_err(file("read", &resolved))?;
    let mode = metadata.permissions().mode();
    if metadata.is_file()
        && mode & 0o004 != 0
        && metadata.len() <= MAX_FILE_BYTES
        && public.iter().any(|folder| resolved.starts_with(folder))
    {
        copy(&resolved, target, mode)?;
    }
    Ok(())
}

fn copy(source: &Path, target: &Path, mode: u32) -> Result<(), Error> {
    let contents = fs::read(source).map_err(file("read", source))?;
    super::write_file(target, &contents)?;
    super::set_mode(target, mode & 0o755)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_everybody_may_read_is_taken() {
        let dir = tempfile::tempdir().expect("folder");
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        fs::create_dir_all(from.join("open")).expect("folder");
        fs::create_dir_all(from.join("closed")).expect("folder");
        for (name, mode) in [("open/public", 0o644), ("open/secret", 0o600), ("closed/public", 0o644)] {
            super::super::write_file(&from.join(name), b"x").expect("file");
            super::super::set_mode(&from.join(name), mode).expect("mode");
        }
        super::super::set_mode(&from.join("closed"), 0o700).expect("mode");
        symlink("/usr/bin/env", from.join("open/kept")).expect("link");
        symlink(from.join("open/secret"), from.join("open/out")).expect("link");
        symlink("/nowhere", from.join("open/dangling")).expect("link");
        Copy::default().take(&from, &to).expect("copied");
        assert!(to.join("open/public").exists() && to.join("open/kept").is_symlink());
        for name in ["open/secret", "closed", "open/out", "open/dangling"] {
            assert!(fs::symlink_metadata(to.join(name)).is_err(), "{name}");
        }
        Copy::default()
            .take(&from.join("absent"), &to.join("absent"))
            .expect("nothing to copy");
    }
}
