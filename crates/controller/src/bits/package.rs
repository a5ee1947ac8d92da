//! A package as a zip.

use super::Error;
use super::droplet::blocking;
use blobstore::Blobstore;
use blobstore::pack::{PackageIndex, TreeLimits, read_file};
use model::Digest;
use std::io::Write as _;
use tempfile::NamedTempFile;
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

/// The package of this digest as a zip. The same package gives the same bytes.
///
/// # Errors
/// A pack is missing or damaged, or there is no room for the archive.
pub async fn zip(blobs: &Blobstore, digest: &Digest) -> Result<NamedTempFile, Error> {
    let failed = |source: Box<dyn std::error::Error + Send + Sync>| Error::Blob {
        subject: format!("package {digest}"),
        source,
    };
    let index = PackageIndex::load(blobs, digest, &TreeLimits::default())
        .await
        .map_err(|error| failed(Box::new(error)))?;
    let file = blobs.temporary().map_err(|error| failed(Box::new(error)))?;
    let (blobs, digest) = (blobs.clone(), digest.clone());
    blocking(move || {
        let failed = |source: Box<dyn std::error::Error + Send + Sync>| Error::Blob {
            subject: format!("package {digest}"),
            source,
        };
        let output = file.reopen().map_err(Error::Scratch)?;
        let mut writer = ZipWriter::new(std::io::BufWriter::new(output));
        let runtime = tokio::runtime::Handle::current();
        for entry in index.entries() {
            let options = SimpleFileOptions::default()
                .unix_permissions(entry.mode.permissions())
                .last_modified_time(zip::DateTime::default());
            if entry.mode.is_folder() {
                let added = writer.add_directory(&entry.path, options);
                added.map_err(|error| failed(Box::new(error)))?;
                continue;
            }
            let contents = runtime
                .block_on(read_file(&blobs, entry))
                .map_err(|error| failed(Box::new(error)))?;
            if entry.mode.is_link() {
                let target = String::from_utf8_lossy(&contents).into_owned();
                let added = writer.add_symlink(&entry.path, target, options);
                added.map_err(|error| failed(Box::new(error)))?;
                continue;
            }
            let started = writer.start_file(&entry.path, options);
            started.map_err(|error| failed(Box::new(error)))?;
            writer.write_all(&contents).map_err(Error::Scratch)?;
        }
        let finished = writer.finish().map_err(|error| failed(Box::new(error)))?;
        finished
            .into_inner()
            .map_err(|error| Error::Scratch(error.into_error()))?;
        Ok(file)
    })
    .await
}
