//! Finds compiled programs by what they contain, not by their mode: pushing from other systems loses that.

use buildpack_kit::{Failure, Result};
use std::fs;
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

/// Programs at the top of the app.
#[derive(Debug, PartialEq, Eq)]
pub enum Found {
    /// None.
    None,
    /// This one.
    One(String),
    /// These, by name.
    Many(Vec<String>),
}

/// Looks at the files of `app` itself, not below.
pub fn find(app: &Path) -> Found {
    let Ok(entries) = fs::read_dir(app) else {
        return Found::None;
    };
    let mut names: Vec<String> = entries
        .filter_map(|entry| entry.ok())
        .filter(|entry| is_program(&entry.path()))
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    names.sort();
    match names.len() {
        0 => Found::None,
        1 => Found::One(names.remove(0)),
        _ => Found::Many(names),
    }
}

/// An ELF file of a type that can be executed; libraries have names that say so.
fn is_program(path: &Path) -> bool {
    const EXECUTABLE: u8 = 2;
    const SHARED: u8 = 3;
    let library = path
        .file_name()
        .is_some_and(|name| name.to_string_lossy().contains(".so"));
    if library || !path.is_file() {
        return false;
    }
    let mut head = [0; 18];
    let read = fs::File::open(path).and_then(|mut file| file.read_exact(&mut head));
    // The type is a 16-bit number in the file's own byte order; its significant byte is one of the two.
    let kind = head[16].max(head[17]);
    read.is_ok() && head.starts_with(b"\x7fELF") && (kind == EXECUTABLE || kind == SHARED)
}

/// Sets the executable bits where they were lost.
///
/// # Errors
/// Where they cannot be set.
pub fn make_executable(path: &Path) -> Result<()> {
    let mode = fs::metadata(path)
        .map_err(Failure::file("read", path))?
        .permissions()
        .mode();
    if mode & 0o111 == 0o111 {
        return Ok(());
    }
    fs::set_permissions(path, fs::Permissions::from_mode(mode | 0o111)).map_err(Failure::file("make executable", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_programs_count() {
        let folder = tempfile::tempdir().unwrap();
        let own = std::env::current_exe().unwrap();
        fs::copy(own, folder.path().join("server")).unwrap();
        fs::set_permissions(folder.path().join("server"), fs::Permissions::from_mode(0o644)).unwrap();
        let mut object = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x03\0".to_vec();
        fs::write(folder.path().join("libx.so.1"), &object).unwrap();
        object[16] = 1;
        fs::write(folder.path().join("x.o"), &object).unwrap();
        fs::write(folder.path().join("run.sh"), "#!/bin/sh\necho a long enough line\n").unwrap();
        assert_eq!(find(folder.path()), Found::One("server".to_owned()));
        make_executable(&folder.path().join("server")).unwrap();
        let mode = fs::metadata(folder.path().join("server")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o755);
    }
}
