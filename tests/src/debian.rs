//! Where Debian keeps what tests start. The test kit and `cargo xtask` (which includes this file) look here.

use std::path::PathBuf;

/// Folder of the programs of the newest PostgreSQL, which it keeps out of `PATH`.
pub fn postgres() -> Option<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let bin = |entry: std::fs::DirEntry| {
        let version = entry.file_name().to_str()?.parse::<u32>().ok()?;
        Some((version, entry.path().join("bin")))
    };
    let all = versions.filter_map(bin).filter(|(_, bin)| bin.join("initdb").is_file());
    all.max().map(|(_, bin)| bin)
}
