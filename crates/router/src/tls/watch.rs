//! Reads the certificates again when their folder changes, as the kernel tells: a thread that sleeps until then, and
//! does not poll.

use super::Certificates;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use std::io::{self, PipeReader};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// How long the folder has to be quiet: a certificate and its key are two files.
const QUIET: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 100_000_000,
};
/// Pause before the folder is watched again after that failed.
const RETRY: Duration = Duration::from_secs(10);
/// Bytes of events read at once.
const EVENTS: usize = 4096;

/// Follows the folder until `shutdown`. Where it can't be watched, it is read again from time to time.
pub async fn follow(certificates: Arc<Certificates>, shutdown: CancellationToken) {
    while !shutdown.is_cancelled() {
        if let Err(error) = watch_until(&certificates, &shutdown).await {
            tracing::warn!(folder = %certificates.folder().display(), %error, "failed to watch the certificates");
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(RETRY) => certificates.reload(),
        }
    }
}

/// Watches in a thread of its own, which ends when its side of a pipe is closed.
async fn watch_until(certificates: &Arc<Certificates>, shutdown: &CancellationToken) -> io::Result<()> {
    let (stop, open) = io::pipe()?;
    let certificates = Arc::clone(certificates);
    let mut watching = tokio::task::spawn_blocking(move || watch(&certificates, &stop));
    let ended = tokio::select! {
        ended = &mut watching => ended,
        () = shutdown.cancelled() => {
            drop(open);
            watching.await
        }
    };
    ended.unwrap_or_else(|error| Err(io::Error::other(error)))
}

fn watch(certificates: &Certificates, stop: &PipeReader) -> io::Result<()> {
    let watch = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
    let changes = WatchFlags::CLOSE_WRITE | WatchFlags::MOVED_TO | WatchFlags::MOVED_FROM | WatchFlags::DELETE;
    inotify::add_watch(&watch, certificates.folder(), changes | WatchFlags::ONLYDIR)?;
    // What changed before the watch was there.
    certificates.reload();
    loop {
        if !changed(&watch, stop, None)? {
            return Ok(());
        }
        while changed(&watch, stop, Some(&QUIET))? {}
        certificates.reload();
    }
}

/// Waits for a change; `false` where it is to stop, or nothing came in time.
fn changed(watch: &OwnedFd, stop: &PipeReader, timeout: Option<&Timespec>) -> io::Result<bool> {
    let mut both = [PollFd::new(watch, PollFlags::IN), PollFd::new(stop, PollFlags::IN)];
    poll(&mut both, timeout)?;
    if !both[1].revents().is_empty() || both[0].revents().is_empty() {
        return Ok(false);
    }
    // The folder says what there is; the events only that there is something.
    let mut events = [0; EVENTS];
    match rustix::io::read(watch, &mut events) {
        Ok(_) | Err(rustix::io::Errno::AGAIN) => Ok(true),
        Err(error) => Err(error.into()),
    }
}
