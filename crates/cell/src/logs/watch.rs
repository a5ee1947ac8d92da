//! Tells when a log folder changes: inotify behind the runtime's reactor. What changed is read elsewhere.

use crate::error::{Error, file};
use crate::fd::register;
use model::id::WorkId;
use rustix::fs::inotify;
use std::collections::HashMap;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::Path;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Bytes of events taken at once.
const EVENT_BYTES: usize = 16 << 10;

/// Watches folders.
#[derive(Debug)]
pub(super) struct Watch {
    fd: AsyncFd<OwnedFd>,
    by_descriptor: HashMap<i32, WorkId>,
    by_work: HashMap<WorkId, i32>,
}

impl Watch {
    pub(super) fn open() -> Result<Self, Error> {
        let flags = inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK;
        let fd = inotify::init(flags).map_err(io::Error::from);
        let fd = fd
            .and_then(|fd| register(fd, Interest::READABLE))
            .map_err(file("open a watch on", Path::new("log folders")))?;
        Ok(Self {
            fd,
            by_descriptor: HashMap::new(),
            by_work: HashMap::new(),
        })
    }

    /// Watches `dir` for `work`. A folder that is moved stays watched.
    pub(super) fn add(&mut self, work: WorkId, dir: &Path) -> Result<(), Error> {
        let flags = inotify::WatchFlags::MODIFY | inotify::WatchFlags::CREATE | inotify::WatchFlags::ONLYDIR;
        let descriptor = inotify::add_watch(&self.fd, dir, flags).map_err(|error| file("watch", dir)(error.into()))?;
        self.by_descriptor.insert(descriptor, work);
        self.by_work.insert(work, descriptor);
        Ok(())
    }

    /// Ends the watch for `work`.
    pub(super) fn remove(&mut self, work: WorkId) {
        if let Some(descriptor) = self.by_work.remove(&work) {
            self.by_descriptor.remove(&descriptor);
            // The folder may be gone, and the watch with it.
            let _ = inotify::remove_watch(&self.fd, descriptor);
        }
    }

    /// Waits for changes and says whose. Cancelling it loses nothing.
    pub(super) async fn changed(&mut self) -> Vec<WorkId> {
        loop {
            let Ok(mut ready) = self.fd.readable().await else {
                return std::future::pending().await;
            };
            let mut works = Vec::new();
            let mut buffer = [const { MaybeUninit::uninit() }; EVENT_BYTES];
            let mut reader = inotify::Reader::new(self.fd.get_ref(), &mut buffer);
            loop {
                match reader.next() {
                    Ok(event) if event.events().contains(inotify::ReadFlags::QUEUE_OVERFLOW) => {
                        works.extend(self.by_work.keys().copied());
                    }
                    Ok(event) => works.extend(self.by_descriptor.get(&event.wd()).copied()),
                    Err(rustix::io::Errno::INTR) => {}
                    Err(_) => break,
                }
            }
            ready.clear_ready();
            if !works.is_empty() {
                works.sort();
                works.dedup();
                return works;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;
    use std::fs;

    #[tokio::test]
    async fn writes_are_told_also_after_the_folder_was_moved() {
        let dir = tempfile::tempdir().expect("folder");
        let (one, two) = (dir.path().join("one"), dir.path().join("two"));
        for path in [&one, &two] {
            fs::create_dir(path).expect("folder");
        }
        let mut watch = Watch::open().expect("open");
        watch.add(testing::work(1), &one).expect("watch");
        watch.add(testing::work(2), &two).expect("watch");
        fs::write(one.join("a"), "x").expect("write");
        assert_eq!(watch.changed().await, [testing::work(1)]);
        let moved = dir.path().join("moved");
        fs::rename(&two, &moved).expect("move");
        fs::write(moved.join("a"), "x").expect("write");
        assert_eq!(watch.changed().await, [testing::work(2)]);
        watch.remove(testing::work(2));
        watch.remove(testing::work(2));
        fs::write(moved.join("b"), "x").expect("write");
        fs::write(one.join("b"), "x").expect("write");
        assert_eq!(watch.changed().await, [testing::work(1)]);
        assert!(watch.add(testing::work(3), &dir.path().join("none")).is_err());
    }
}
