//! Compresses text files of the site once, at build time, into a layer beside it.

use crate::server::types;
use buildpack_kit::{BuildContext, Failure, Result, Types, key};
use flate2::{Compression, GzBuilder};
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use walkdir::WalkDir;

/// Smaller files fit a packet anyway.
const SMALLEST: u64 = 1024;
/// Larger ones are rather downloads than pages.
const LARGEST: u64 = 8 * 1024 * 1024;
/// What all together may take.
const TOTAL: u64 = 128 * 1024 * 1024;

/// The layer with the compressed files, made anew only where the files that go into it changed; `None` where there are none.
pub fn layer(context: &BuildContext, root: &Path) -> Result<Option<PathBuf>> {
    let files = candidates(root);
    if files.is_empty() {
        return Ok(None);
    }
    let mut contents = Vec::with_capacity(files.len());
    for file in &files {
        contents.push(fs::read(file).map_err(Failure::file("read", file))?);
    }
    let names = files.iter().map(|file| file.as_os_str().as_encoded_bytes());
    let parts: Vec<&[u8]> = names
        .zip(&contents)
        .flat_map(|(name, content)| [name, content])
        .collect();
    let key = key(&parts);
    let mut layer = context.layer("compressed");
    if !layer.is(&key) {
        layer.reset()?;
        for (file, content) in files.iter().zip(&contents) {
            let below = file.strip_prefix(root).unwrap_or(file);
            compress(content, &layer.dir.join(below))?;
        }
    }
    layer.keep(Types::LAUNCH_CACHED, &key, &[])?;
    Ok(Some(layer.dir))
}

fn candidates(root: &Path) -> Vec<PathBuf> {
    let mut total = 0;
    let hidden = |entry: &walkdir::DirEntry| entry.depth() > 0 && entry.file_name().to_string_lossy().starts_with('.');
    WalkDir::new(root)
        .sort_by_file_name()
        .into_iter()
        .filter_entry(|entry| !hidden(entry) && entry.file_name() != "node_modules")
        .filter_map(|entry| entry.ok())
        .filter(|entry| {
            let size = entry.metadata().map_or(0, |found| found.len());
            let fits = entry.file_type().is_file() && (SMALLEST..=LARGEST).contains(&size) && total + size <= TOTAL;
            let wanted = fits && types::is_compressible(types::of(entry.path()));
            total += if wanted { size } else { 0 };
            wanted
        })
        .map(walkdir::DirEntry::into_path)
        .collect()
}

/// Writes `<file>.gz`, unless it would not be worth it.
fn compress(content: &[u8], file: &Path) -> Result<()> {
    // No name and no time in the header: the same file gives the same bytes.
    let mut encoder = GzBuilder::new().write(Vec::new(), Compression::new(6));
    let bytes = encoder.write_all(content).and_then(|()| encoder.finish());
    let bytes = bytes.map_err(Failure::file("compress", file))?;
    if bytes.len() * 10 > content.len() * 9 {
        return Ok(());
    }
    if let Some(folder) = file.parent() {
        fs::create_dir_all(folder).map_err(Failure::file("create", folder))?;
    }
    let mut name = file.as_os_str().to_owned();
    name.push(".gz");
    fs::write(&name, bytes).map_err(Failure::file("write", file))
}
