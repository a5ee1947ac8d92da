//! Backups of a platform: its database as text, and its blobs. One that was made of an embedded platform is restored into
//! PostgreSQL and S3 as well as the other way round. Logs are no part of it.

use crate::config::Config;
use crate::setup;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{BufRead as _, BufReader, BufWriter, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use store::{DumpError, StoreError};

/// The database in a backup's folder.
const DATABASE: &str = "database.jsonl";
/// The blobs.
const BLOBS: &str = "blobs";

/// What a backup holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kept {
    /// Rows of the database.
    pub rows: u64,
    /// Blobs.
    pub blobs: u64,
    /// Bytes of blobs that were written.
    pub bytes: u64,
}

/// Why there is no backup, or nothing restored.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The database can't be opened.
    #[error("the database could not be opened")]
    Open(#[source] StoreError),
    /// It can't be written down or read back.
    #[error("the database could not be backed up or restored")]
    Database(#[source] DumpError),
    /// Blobs can't be copied.
    #[error("the blobs could not be copied")]
    Blobs(#[source] blobstore::Error),
    /// A file of the backup can't be used.
    #[error("{} could not be written or read", path.display())]
    File {
        /// Which.
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
}

fn file(path: &Path) -> impl FnOnce(std::io::Error) -> BackupError {
    let path = path.to_owned();
    move |source| BackupError::File { path, source }
}

/// Writes a backup into `folder`, which is made; the platform may run meanwhile. The database is of one moment; blobs come
/// after it, and are kept long enough that all it names are there.
///
/// # Errors
/// Where something can't be read or written; a database that is there is not written over.
pub async fn backup(config: &Config, folder: &Path) -> Result<Kept, BackupError> {
    let mut builder = DirBuilder::new();
    builder
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .map_err(file(folder))?;
    let path = folder.join(DATABASE);
    let opened = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
    let mut out = BufWriter::new(opened.map_err(file(&path))?);
    let store = setup::open_store(config).await.map_err(BackupError::Open)?;
    let rows = store.dump(|line| writeln!(out, "{line}")).await;
    store.close().await;
    let rows = rows.map_err(BackupError::Database)?;
    let written = out.into_inner().map_err(std::io::IntoInnerError::into_error);
    written.and_then(|file| file.sync_all()).map_err(file(&path))?;
    let from = setup::open_blobs(&config.blobs).await.map_err(BackupError::Blobs)?;
    let to = blobstore::Blobstore::open_directory(&folder.join(BLOBS), *from.limits());
    let copied = from.copy_to(&to.map_err(BackupError::Blobs)?).await;
    let copied = copied.map_err(BackupError::Blobs)?;
    Ok(Kept {
        rows,
        blobs: copied.blobs,
        bytes: copied.bytes,
    })
}

/// Restores a backup into the database and the store of `config`, which no controller uses yet: blobs first, then the
/// database at once, so that one that failed can be tried again.
///
/// # Errors
/// Where the database is not empty, the backup is damaged, or something can't be read or written.
pub async fn restore(config: &Config, folder: &Path) -> Result<Kept, BackupError> {
    let path = folder.join(DATABASE);
    let lines = BufReader::new(File::open(&path).map_err(file(&path))?).lines();
    let to = setup::open_blobs(&config.blobs).await.map_err(BackupError::Blobs)?;
    let from = blobstore::Blobstore::open_directory(&folder.join(BLOBS), *to.limits());
    let copied = from.map_err(BackupError::Blobs)?.copy_to(&to).await;
    let copied = copied.map_err(BackupError::Blobs)?;
    let store = setup::open_store(config).await.map_err(BackupError::Open)?;
    let rows = store.restore(lines).await;
    store.close().await;
    Ok(Kept {
        rows: rows.map_err(BackupError::Database)?,
        blobs: copied.blobs,
        bytes: copied.bytes,
    })
}
