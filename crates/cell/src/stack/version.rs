//! Versions of a stack that an operator made. Its name is a link to one of them, and moves on to the next in one step:
//! what starts sees the old tree or the new one, and what runs keeps the tree that it began with.
//!
//! ```text
//! <dir>/<name>                      link to the current version
//! <dir>/.versions/<name>/<time>/    a tree
//! ```
//! A stack of an earlier release is a folder at its name; it becomes a version when it gets its first successor.

use crate::cache::remove_tree;
use crate::error::{Error, file};
use model::name::StackName;
use rustix::fs::{CWD, RenameFlags, renameat_with};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// Folder of all versions.
const VERSIONS: &str = ".versions";

/// Makes `tree` the current version of the stack `name`: where it is now.
///
/// # Errors
/// A folder can't be moved or made; then the version before is the current one.
pub(super) fn put(dir: &Path, name: &StackName, tree: &Path) -> Result<PathBuf, Error> {
    let versions = dir.join(VERSIONS).join(name.as_str());
    fs::create_dir_all(&versions).map_err(file("create", &versions))?;
    let target = versions.join(new_version(&versions));
    fs::rename(tree, &target).map_err(file("move into place", &target))?;
    let link = dir.join(format!(".link-{name}"));
    let _ = fs::remove_file(&link);
    let relative = target.strip_prefix(dir).unwrap_or(&target);
    symlink(relative, &link).map_err(file("link", &link))?;
    let public = dir.join(name.as_str());
    if public.is_symlink() || !public.exists() {
        fs::rename(&link, &public).map_err(file("move into place", &public))?;
        return Ok(target);
    }
    // A folder can't be replaced by a rename, but changed places with.
    renameat_with(CWD, &link, CWD, &public, RenameFlags::EXCHANGE)
        .map_err(|error| file("exchange", &public)(error.into()))?;
    let first = versions.join("0");
    fs::rename(&link, &first).map_err(file("move into place", &first))?;
    Ok(target)
}

/// Later than all that are there, also where the clock went back.
fn new_version(versions: &Path) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let newest = numbers(versions).into_iter().max().unwrap_or(0);
    (newest + 1)
        .max(u64::try_from(now.as_millis()).unwrap_or(0))
        .to_string()
}

fn numbers(versions: &Path) -> Vec<u64> {
    let entries = fs::read_dir(versions).into_iter().flatten().filter_map(Result::ok);
    entries
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect()
}

/// The tree that the stack `name` has now: the version itself, which stays where it is.
pub(super) fn current(dir: &Path, name: &StackName) -> Option<PathBuf> {
    let public = dir.join(name.as_str());
    public.is_dir().then(|| fs::canonicalize(&public).unwrap_or(public))
}

/// Removes versions that are not current. Only while no sandbox is alive.
pub(super) fn prune(dir: &Path) -> Result<(), Error> {
    let names = fs::read_dir(dir.join(VERSIONS))
        .into_iter()
        .flatten()
        .filter_map(Result::ok);
    for folder in names {
        let Some(name) = folder.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        let current = current(dir, &name);
        for number in numbers(&folder.path()) {
            let version = folder.path().join(number.to_string());
            if current.as_ref().is_none_or(|current| !same(current, &version)) {
                remove_tree(&version)?;
            }
        }
    }
    Ok(())
}

fn same(one: &Path, other: &Path) -> bool {
    fs::canonicalize(other).is_ok_and(|other| one == other)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(dir: &Path, text: &str) -> PathBuf {
        let tree = dir.join(".making");
        fs::create_dir_all(tree.join("etc")).expect("a folder");
        fs::write(tree.join("etc/release"), text).expect("a file");
        tree
    }

    fn read(tree: &Path) -> String {
        fs::read_to_string(tree.join("etc/release")).expect("a tree")
    }

    #[test]
    fn a_new_version_takes_the_name_and_the_old_tree_stays() {
        let folder = tempfile::tempdir().expect("folder");
        let dir = folder.path();
        let name: StackName = "debian12".parse().expect("a name");
        assert_eq!(current(dir, &name), None);
        let first = put(dir, &name, &tree(dir, "one")).expect("put");
        let began_with = current(dir, &name).expect("there");
        let second = put(dir, &name, &tree(dir, "two")).expect("put");
        assert!(first != second && first < second, "{first:?} {second:?}");
        assert_eq!(read(&current(dir, &name).expect("there")), "two");
        assert_eq!(read(&began_with), "one", "what runs keeps what it has");
        prune(dir).expect("pruned");
        assert!(!began_with.exists());
        assert_eq!(read(&current(dir, &name).expect("there")), "two");
    }

    #[test]
    fn a_stack_of_an_earlier_release_becomes_the_first_version() {
        let folder = tempfile::tempdir().expect("folder");
        let dir = folder.path();
        let name: StackName = "debian12".parse().expect("a name");
        fs::rename(tree(dir, "old"), dir.join("debian12")).expect("moved");
        assert_eq!(read(&current(dir, &name).expect("there")), "old");
        put(dir, &name, &tree(dir, "new")).expect("put");
        assert_eq!(read(&dir.join("debian12")), "new");
        assert_eq!(read(&dir.join(".versions/debian12/0")), "old");
        prune(dir).expect("pruned");
        assert_eq!(numbers(&dir.join(".versions/debian12")).len(), 1);
    }
}
