//! The last table on disk, for a start while no controller answers. Without a controller no instance is placed, so what
//! the table names is what it was; once one answers, only its table counts.

use crate::table::Table;
use api::edge::Table as Message;
use std::io::{BufReader, BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// Pause between two writings.
const PAUSE: Duration = Duration::from_secs(5);

/// The table that was kept, if there is one that can be read.
pub async fn read(path: PathBuf) -> Option<Message> {
    let read = tokio::task::spawn_blocking(move || {
        let file = std::fs::File::open(path)?;
        serde_json::from_reader(BufReader::new(file)).map_err(std::io::Error::other)
    });
    match read.await.unwrap_or_else(|error| Err(std::io::Error::other(error))) {
        Ok(message) => Some(message),
        Err(error) => {
            if error.kind() != std::io::ErrorKind::NotFound {
                tracing::warn!(%error, "failed to read the kept table");
            }
            None
        }
    }
}

/// Keeps the table whenever it has `changed`, at most every [`PAUSE`], and at `shutdown`.
pub async fn follow(path: PathBuf, table: Arc<Table>, changed: Arc<Notify>, shutdown: CancellationToken) {
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = changed.notified() => {}
        }
        write_apart(&path, &table).await;
        tokio::select! {
            () = shutdown.cancelled() => return write_apart(&path, &table).await,
            () = tokio::time::sleep(PAUSE) => {}
        }
    }
}

async fn write_apart(path: &Path, table: &Arc<Table>) {
    let (to, table) = (path.to_owned(), Arc::clone(table));
    let written = tokio::task::spawn_blocking(move || write(&to, &table)).await;
    if let Err(error) = written.unwrap_or_else(|error| Err(std::io::Error::other(error))) {
        tracing::warn!(path = %path.display(), %error, "failed to keep the table");
    }
}

/// Writes beside it first: a reader finds the old table or the new one.
fn write(path: &Path, table: &Table) -> std::io::Result<()> {
    let beside = path.with_extension("new");
    let message = Message::Snapshot {
        revision: 0,
        routes: table.entries(),
    };
    let mut file = BufWriter::new(std::fs::File::create(&beside)?);
    serde_json::to_writer(&mut file, &message)?;
    file.flush()?;
    file.get_ref().sync_data()?;
    std::fs::rename(beside, path)
}
