//! Descriptors (of sandboxes, of watches) behind the runtime's reactor.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};

/// Waits until a descriptor (a pidfd) is readable. Cancelling it loses nothing.
pub(crate) async fn readable(fd: BorrowedFd<'_>) -> io::Result<()> {
    let watched = register(fd.try_clone_to_owned()?, Interest::READABLE)?;
    watched.readable().await.map(drop)
}

/// Gives a descriptor to the runtime's reactor.
#[allow(
    deprecated,
    reason = "the replacement is unsafe for types that may lie about their descriptor; an OwnedFd can't"
)]
pub(crate) fn register(fd: OwnedFd, interest: Interest) -> io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::with_interest(fd, interest)
}

/// A pipe or terminal.
#[derive(Debug)]
pub(crate) struct Fd(AsyncFd<OwnedFd>);

impl Fd {
    /// Takes over a descriptor and makes it non-blocking.
    pub(crate) fn new(fd: OwnedFd) -> io::Result<Self> {
        let flags = rustix::fs::fcntl_getfl(&fd)?;
        rustix::fs::fcntl_setfl(&fd, flags | rustix::fs::OFlags::NONBLOCK)?;
        Ok(Self(register(fd, Interest::READABLE | Interest::WRITABLE)?))
    }
}

impl AsyncRead for Fd {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            let mut guard = ready!(self.0.poll_read_ready(context))?;
            let room = buffer.initialize_unfilled();
            match guard.try_io(|fd| rustix::io::read(fd, &mut *room).map_err(io::Error::from)) {
                Ok(Ok(n)) => {
                    buffer.advance(n);
                    return Poll::Ready(Ok(()));
                }
                // A terminal whose last user is gone answers so: the end.
                Ok(Err(error)) if error.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error()) => {
                    return Poll::Ready(Ok(()));
                }
                Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(Err(error)) => return Poll::Ready(Err(error)),
                Err(_) => {}
            }
        }
    }
}

impl AsyncWrite for Fd {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            let mut guard = ready!(self.0.poll_write_ready(context))?;
            match guard.try_io(|fd| rustix::io::write(fd, bytes).map_err(io::Error::from)) {
                Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(result) => return Poll::Ready(result),
                Err(_) => {}
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    #[tokio::test]
    async fn pipes_are_written_and_read_to_their_end() {
        let (read, write) = rustix::pipe::pipe().expect("pipe");
        let (mut read, mut write) = (Fd::new(read).expect("read end"), Fd::new(write).expect("write end"));
        let sent = vec![7; 300_000];
        let writing = async {
            write.write_all(&sent).await.expect("written");
            drop(write);
        };
        let mut got = Vec::new();
        let (_, n) = tokio::join!(writing, read.read_to_end(&mut got));
        assert_eq!((n.expect("read"), got.len()), (300_000, 300_000));
    }
}
