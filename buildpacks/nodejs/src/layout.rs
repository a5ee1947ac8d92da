//! Where `node_modules` lies: in a layer, with a link to it in the app. Packages find each other beside themselves, since
//! Node.js looks from where a file really is; the app finds them through the link.
//!
//! A layer mirrors the app: `<layer>/node_modules`, and for each workspace with packages of its own
//! `<layer>/<workspace>/node_modules`.

use buildpack_kit::{Failure, Result};
use std::collections::HashSet;
use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Component, Path, PathBuf};
use std::time::SystemTime;
use walkdir::WalkDir;

/// What build tools keep between builds lies here, in a layer of its own.
pub const TOOL_CACHE: &str = "node_modules/.cache";

/// Folders of packages in the app, relative to it; those of workspaces only where it has any.
pub fn module_folders(root: &Path, workspaces: bool) -> Vec<PathBuf> {
    let top = PathBuf::from("node_modules");
    if !workspaces {
        return if root.join(&top).is_dir() {
            vec![top]
        } else {
            Vec::new()
        };
    }
    let mut found = Vec::new();
    let mut walk = WalkDir::new(root).sort_by_file_name().into_iter();
    while let Some(Ok(entry)) = walk.next() {
        if entry.file_name() == "node_modules" {
            if entry.path().is_dir() {
                found.extend(entry.path().strip_prefix(root).map(Path::to_owned));
            }
            if entry.file_type().is_dir() {
                walk.skip_current_dir();
            }
        }
    }
    found
}

/// Removes every `node_modules` of the app: what was pushed, or a link of an earlier step.
pub fn clear(app: &Path, workspaces: bool) -> Result<()> {
    for folder in module_folders(app, workspaces) {
        remove(&app.join(folder))?;
    }
    // A link that leads nowhere is no folder.
    remove(&app.join("node_modules"))
}

fn remove(path: &Path) -> Result<()> {
    let removed = match fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(_) => Ok(()),
    };
    removed.map_err(Failure::file("remove", path))
}

/// Moves every `node_modules` of the app into `layer`.
pub fn move_out(app: &Path, layer: &Path, workspaces: bool) -> Result<()> {
    for folder in module_folders(app, workspaces) {
        let (from, to) = (app.join(&folder), layer.join(&folder));
        if let Some(parent) = to.parent() {
            fs::create_dir_all(parent).map_err(Failure::file("create", parent))?;
        }
        // Not on every file system can a folder change its place.
        if fs::rename(&from, &to).is_err() {
            copy(&from, &to, &HashSet::new()).map_err(Failure::file("copy", &from))?;
            fs::remove_dir_all(&from).map_err(Failure::file("remove", &from))?;
        }
    }
    if workspaces {
        relink(app, layer).map_err(Failure::file("repair the links of", layer))?;
    }
    Ok(())
}

/// Links to workspaces were relative to where they lay: they now name the app.
fn relink(app: &Path, layer: &Path) -> io::Result<()> {
    for entry in WalkDir::new(layer).max_depth(6) {
        let entry = entry?;
        if !entry.path_is_symlink() {
            continue;
        }
        let target = fs::read_link(entry.path())?;
        let Some(folder) = entry.path().parent().and_then(|parent| parent.strip_prefix(layer).ok()) else {
            continue;
        };
        let meant = normalise(&folder.join(&target));
        let stays = meant.components().any(|part| part.as_os_str() == "node_modules");
        if target.is_relative() && !stays {
            fs::remove_file(entry.path())?;
            symlink(app.join(meant), entry.path())?;
        }
    }
    Ok(())
}

fn normalise(path: &Path) -> PathBuf {
    let mut normal = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => {
                normal.pop();
            }
            Component::Normal(part) => normal.push(part),
            _ => {}
        }
    }
    normal
}

/// Links every `node_modules` of `layer` into the app.
pub fn link(app: &Path, layer: &Path, workspaces: bool) -> Result<()> {
    for folder in module_folders(layer, workspaces) {
        let link = app.join(&folder);
        remove(&link)?;
        // A workspace that is gone from the source needs no packages.
        if link.parent().is_some_and(Path::is_dir) {
            symlink(layer.join(&folder), &link).map_err(Failure::file("link", &link))?;
        }
    }
    Ok(())
}

/// Copies `from` to `to` by hard links, without the relative paths in `skip`.
pub fn copy(from: &Path, to: &Path, skip: &HashSet<PathBuf>) -> io::Result<()> {
    let mut walk = WalkDir::new(from).into_iter();
    while let Some(entry) = walk.next() {
        let entry = entry?;
        let below = entry.path().strip_prefix(from).unwrap_or(entry.path());
        let target = to.join(below);
        if skip.contains(below) {
            if entry.file_type().is_dir() {
                walk.skip_current_dir();
            }
        } else if entry.file_type().is_dir() {
            fs::create_dir_all(&target)?;
        } else if entry.path_is_symlink() {
            symlink(fs::read_link(entry.path())?, &target)?;
        } else if fs::hard_link(entry.path(), &target).is_err() {
            fs::copy(entry.path(), &target)?;
        }
    }
    Ok(())
}

/// Removes links of `.bin` folders that lead nowhere, after packages were left out.
pub fn drop_dead_programs(layer: &Path) -> io::Result<()> {
    for entry in WalkDir::new(layer) {
        let entry = entry?;
        let in_bin = entry
            .path()
            .parent()
            .is_some_and(|parent| parent.ends_with("node_modules/.bin"));
        if in_bin && entry.path_is_symlink() && !entry.path().exists() {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// Whether anything below `dir` was written at or after `since`.
pub fn is_newer(dir: &Path, since: SystemTime) -> bool {
    let newer = |entry: &walkdir::DirEntry| {
        entry
            .metadata()
            .is_ok_and(|found| found.modified().is_ok_and(|time| time >= since))
    };
    WalkDir::new(dir)
        .into_iter()
        .filter_map(|entry| entry.ok())
        .any(|entry| !entry.file_type().is_dir() && newer(&entry))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn touch(root: &Path, name: &str) {
        let path = root.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, name).unwrap();
    }

    #[test]
    fn packages_move_out_and_are_linked_back() {
        let folder = tempfile::tempdir().unwrap();
        let (app, layer) = (folder.path().join("app"), folder.path().join("layer"));
        touch(&app, "packages/one/index.js");
        touch(&app, "packages/one/node_modules/b/index.js");
        touch(&app, "node_modules/a/index.js");
        fs::create_dir_all(app.join("node_modules/@scope")).unwrap();
        symlink("../../packages/one", app.join("node_modules/@scope/one")).unwrap();
        fs::create_dir_all(app.join("node_modules/.bin")).unwrap();
        symlink("../a/index.js", app.join("node_modules/.bin/a")).unwrap();
        fs::create_dir_all(&layer).unwrap();
        move_out(&app, &layer, true).unwrap();
        assert!(!app.join("node_modules").exists());
        link(&app, &layer, true).unwrap();
        for name in [
            "a/index.js",
            ".bin/a",
            "@scope/one/index.js",
            "@scope/one/node_modules/b/index.js",
        ] {
            assert!(app.join("node_modules").join(name).exists(), "{name}");
        }
        let linked = fs::canonicalize(app.join("node_modules/@scope/one")).unwrap();
        assert_eq!(linked, fs::canonicalize(app.join("packages/one")).unwrap());
        clear(&app, true).unwrap();
        assert!(fs::symlink_metadata(app.join("node_modules")).is_err());
        assert!(
            layer.join("node_modules/a/index.js").exists(),
            "only the link is removed"
        );
    }

    #[test]
    fn a_copy_leaves_out_what_is_skipped_and_its_programs() {
        let folder = tempfile::tempdir().unwrap();
        let (from, to) = (folder.path().join("from"), folder.path().join("to"));
        touch(&from, "node_modules/kept/index.js");
        touch(&from, "node_modules/dev/index.js");
        fs::create_dir_all(from.join("node_modules/.bin")).unwrap();
        for name in ["kept", "dev"] {
            symlink(format!("../{name}/index.js"), from.join("node_modules/.bin").join(name)).unwrap();
        }
        copy(&from, &to, &HashSet::from([PathBuf::from("node_modules/dev")])).unwrap();
        drop_dead_programs(&to).unwrap();
        assert!(to.join("node_modules/.bin/kept").exists() && !to.join("node_modules/dev").exists());
        assert!(fs::symlink_metadata(to.join("node_modules/.bin/dev")).is_err());
    }

    #[test]
    fn writes_are_seen() {
        let folder = tempfile::tempdir().unwrap();
        touch(folder.path(), "old");
        let file = fs::File::open(folder.path().join("old")).unwrap();
        file.set_modified(SystemTime::UNIX_EPOCH).unwrap();
        let now = SystemTime::now() - std::time::Duration::from_secs(1);
        assert!(!is_newer(folder.path(), now));
        touch(folder.path(), "deep/new");
        assert!(is_newer(folder.path(), now));
    }
}
