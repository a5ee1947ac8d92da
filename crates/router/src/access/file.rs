//! The file of access lines. Whoever rotates it renames it; the next batch begins it anew.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use tokio::fs::{File, OpenOptions};
use tokio::io::AsyncWriteExt as _;

/// A file that lines are added to.
pub struct LogFile {
    path: PathBuf,
    open: Option<(File, u64)>,
}

impl LogFile {
    /// Opened with the first line.
    pub fn new(path: PathBuf) -> Self {
        Self { path, open: None }
    }

    /// Adds lines. A failure is logged, once for each batch, and costs no request.
    pub async fn append(&mut self, lines: &[String]) {
        if let Err(error) = self.try_append(lines).await {
            tracing::warn!(path = %self.path.display(), %error, lines = lines.len(), "failed to write access lines");
            self.open = None;
        }
    }

    async fn try_append(&mut self, lines: &[String]) -> std::io::Result<()> {
        let there = inode(&self.path).await;
        if self.open.as_ref().map(|(_, inode)| *inode) != there || there.is_none() {
            let file = OpenOptions::new().create(true).append(true).open(&self.path).await?;
            let inode = file.metadata().await?.ino();
            self.open = Some((file, inode));
        }
        let Some((file, _)) = &mut self.open else {
            return Ok(());
        };
        let mut text = String::with_capacity(lines.iter().map(|line| line.len() + 1).sum());
        for line in lines {
            text.push_str(line);
            text.push('\n');
        }
        file.write_all(text.as_bytes()).await?;
        file.flush().await
    }
}

async fn inode(path: &Path) -> Option<u64> {
    tokio::fs::metadata(path).await.ok().map(|metadata| metadata.ino())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_file_that_was_rotated_is_begun_anew() {
        let folder = tempfile::tempdir().expect("a folder");
        let (path, old) = (folder.path().join("access.log"), folder.path().join("access.log.1"));
        let mut log = LogFile::new(path.clone());
        log.append(&["one".to_owned(), "two".to_owned()]).await;
        std::fs::rename(&path, &old).expect("renamed");
        log.append(&["three".to_owned()]).await;
        assert_eq!(std::fs::read_to_string(old).expect("there"), "one\ntwo\n");
        assert_eq!(std::fs::read_to_string(path).expect("there"), "three\n");
    }
}
