//! A folder in memory, for parsers that read and write files: one for every input, gone with it.

use std::path::{Path, PathBuf};

/// In memory where there is such a place.
const MEMORY: &str = "/dev/shm";

/// An empty folder; gone when this is dropped.
pub struct Scratch(tempfile::TempDir);

impl Scratch {
    /// Makes one.
    pub fn new() -> Self {
        let memory = Path::new(MEMORY);
        let parent = if memory.is_dir() {
            memory.to_owned()
        } else {
            std::env::temp_dir()
        };
        // The number of the process tells `cargo xtask fuzz` what a target that it killed has left.
        let prefix = format!("paas-fuzz-{}-", std::process::id());
        let made = tempfile::Builder::new().prefix(&prefix).tempdir_in(parent);
        Self(made.expect("memory takes a folder"))
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// A file in it with these contents.
    pub fn write(&self, name: &str, contents: &[u8]) -> PathBuf {
        let path = self.path().join(name);
        std::fs::write(&path, contents).expect("memory takes a file");
        path
    }
}
