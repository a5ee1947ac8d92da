//! A client's connection as the HTTP server reads it: what [`Scanner`] stops never gets there, and no wait is without
//! a deadline.
//!
//! A head that is refused is replaced by one that says so ([`REFUSED`]), so that the answer keeps its place behind
//! those of the requests before it.

use super::head::REFUSED;
use super::scan::{Next, Scanner};
use crate::proxy::refusal::Refusal;
use parking_lot::Mutex;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

/// Bytes read at once into the guard's own buffer.
const PIECE: usize = 8 * 1024;
/// What a client whose request was refused may still send before its connection is cut, so that it gets to read why.
const LINGER: (usize, Duration) = (1024 * 1024, Duration::from_millis(500));

/// What the guard and those who answer the requests tell each other.
#[derive(Default)]
pub struct Tunnel(Mutex<Told>);

#[derive(Default)]
struct Told {
    switched: Option<bool>,
    refusal: Option<Refusal>,
    bad_body: bool,
}

impl Tunnel {
    /// A request for another protocol was answered; whether by agreeing.
    pub fn answered(&self, switched: bool) {
        self.0.lock().switched = Some(switched);
    }

    /// Why the request that stands for a refused one was refused.
    pub fn refusal(&self) -> Refusal {
        self.0.lock().refusal.unwrap_or(Refusal::Malformed)
    }

    /// Whether the body under way was stopped because it is not framed as HTTP asks.
    pub fn is_bad_body(&self) -> bool {
        self.0.lock().bad_body
    }
}

/// Deadlines of a connection.
#[derive(Debug, Clone, Copy)]
pub struct Deadlines {
    /// From the first byte of a head to its last.
    pub head: Duration,
    /// For the client to take more of a response.
    pub write: Duration,
}

/// The connection.
pub struct Guard<S> {
    inner: S,
    scanner: Scanner,
    tunnel: Arc<Tunnel>,
    deadlines: Deadlines,
    /// Came, but may not pass yet.
    held: Vec<u8>,
    /// May pass.
    out: Vec<u8>,
    out_at: usize,
    head_deadline: Option<Pin<Box<Sleep>>>,
    write_deadline: Option<Pin<Box<Sleep>>>,
    linger: Option<(usize, Pin<Box<Sleep>>)>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Guard<S> {
    /// Of a connection from which `came` was read already.
    pub fn new(inner: S, came: Vec<u8>, scanner: Scanner, tunnel: Arc<Tunnel>, deadlines: Deadlines) -> Self {
        let mut guard = Self {
            inner,
            scanner,
            tunnel,
            deadlines,
            held: came,
            out: Vec::new(),
            out_at: 0,
            head_deadline: None,
            write_deadline: None,
            linger: None,
        };
        guard.scan_held();
        guard
    }

    /// Moves what may pass of what is held.
    fn scan_held(&mut self) {
        if self.held.is_empty() {
            return;
        }
        let (pass, next) = self.scanner.scan(&self.held);
        if pass == self.held.len() {
            // Buffers are here only while something is held.
            self.out = std::mem::take(&mut self.held);
        } else {
            self.out = self.held.drain(..pass).collect();
        }
        self.out_at = 0;
        self.follow(next);
    }

    fn follow(&mut self, next: Next) {
        match next {
            Next::Pass | Next::Hold | Next::Wait => {}
            Next::Refuse(refusal) => self.refuse(refusal),
            Next::BadBody => {
                self.tunnel.0.lock().bad_body = true;
                self.held = Vec::new();
            }
        }
        // From the first byte of a head; more of it does not prolong it.
        let amid_head = !self.held.is_empty() && !self.scanner.is_amid();
        if !amid_head {
            self.head_deadline = None;
        } else if self.head_deadline.is_none() {
            self.head_deadline = Some(Box::pin(tokio::time::sleep(self.deadlines.head)));
        }
    }

    /// Puts the request that stands for a refused one behind what may pass.
    fn refuse(&mut self, refusal: Refusal) {
        self.scanner.refuse();
        self.tunnel.0.lock().refusal = Some(refusal);
        self.held = Vec::new();
        self.head_deadline = None;
        let stand_in = format!("{REFUSED} / HTTP/1.1\r\nhost: refused\r\nconnection: close\r\n\r\n");
        self.out.extend_from_slice(stand_in.as_bytes());
    }

    /// Gives out what may pass.
    fn give(&mut self, buffer: &mut ReadBuf<'_>) -> bool {
        let left = &self.out[self.out_at..];
        if left.is_empty() {
            return false;
        }
        let length = left.len().min(buffer.remaining());
        buffer.put_slice(&left[..length]);
        self.out_at += length;
        if self.out_at == self.out.len() {
            (self.out, self.out_at) = (Vec::new(), 0);
        }
        true
    }

    /// Reads straight into the server's buffer; what may not pass is taken out again.
    fn poll_direct(&mut self, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.inner).poll_read(context, buffer))?;
        let came = &buffer.filled()[before..];
        if came.is_empty() {
            return Poll::Ready(Ok(()));
        }
        let (pass, next) = self.scanner.scan(came);
        self.held = came[pass..].to_vec();
        buffer.set_filled(before + pass);
        self.follow(next);
        Poll::Ready(Ok(()))
    }

    /// Reads into the guard's own buffer, behind what is held. Whether the client's side ended.
    fn poll_held(&mut self, context: &mut Context<'_>) -> Poll<io::Result<bool>> {
        let at = self.held.len();
        self.held.resize(at + PIECE, 0);
        let mut piece = ReadBuf::new(&mut self.held[at..]);
        let polled = Pin::new(&mut self.inner).poll_read(context, &mut piece);
        let length = piece.filled().len();
        self.held.truncate(at + length);
        ready!(polled)?;
        Poll::Ready(Ok(length == 0))
    }

    /// While another protocol is not decided on: only the end of the connection matters.
    fn poll_undecided(&mut self, context: &mut Context<'_>) -> Poll<io::Result<bool>> {
        if let Some(switched) = self.tunnel.0.lock().switched.take() {
            self.scanner.decide(switched);
            return Poll::Ready(Ok(false));
        }
        if self.held.len() >= PIECE {
            return Poll::Pending;
        }
        if ready!(self.poll_held(context))? {
            return Poll::Ready(Ok(true));
        }
        // The decision wakes this task by the response that it comes with.
        context.waker().wake_by_ref();
        Poll::Pending
    }

    fn poll_head_deadline(&mut self, context: &mut Context<'_>) {
        if let Some(deadline) = &mut self.head_deadline
            && deadline.as_mut().poll(context).is_ready()
        {
            self.refuse(Refusal::HeadTimedOut);
        }
    }

    /// Fails where the client did not take anything for too long.
    fn stalled<T>(&mut self, context: &mut Context<'_>, polled: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if polled.is_ready() {
            self.write_deadline = None;
            return polled;
        }
        let until = Instant::now() + self.deadlines.write;
        let deadline = self
            .write_deadline
            .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(until)));
        ready!(deadline.as_mut().poll(context));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }

    /// Reads on for a while and throws away: closing with unread bytes would take the answer from the client.
    fn poll_linger(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let linger = self
            .linger
            .get_or_insert_with(|| (LINGER.0, Box::pin(tokio::time::sleep(LINGER.1))));
        let mut space = [0; PIECE];
        loop {
            if linger.1.as_mut().poll(context).is_ready() {
                return Poll::Ready(());
            }
            let mut piece = ReadBuf::new(&mut space);
            let polled = Pin::new(&mut self.inner).poll_read(context, &mut piece);
            let length = piece.filled().len();
            match ready!(polled) {
                Ok(()) if length > 0 && linger.0 > length => linger.0 -= length,
                _ => return Poll::Ready(()),
            }
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Guard<S> {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let guard = self.get_mut();
        loop {
            if guard.give(buffer) {
                return Poll::Ready(Ok(()));
            }
            if guard.scanner.is_undecided() {
                if ready!(guard.poll_undecided(context))? {
                    return Poll::Ready(Ok(()));
                }
                guard.scan_held();
                continue;
            }
            if guard.scanner.is_refused() {
                // Bad bodies end here, refused heads were answered: the server closes the connection.
                return if guard.tunnel.is_bad_body() {
                    Poll::Ready(Err(io::ErrorKind::InvalidData.into()))
                } else {
                    Poll::Pending
                };
            }
            guard.poll_head_deadline(context);
            if guard.scanner.is_refused() {
                continue;
            }
            if guard.scanner.is_tunnel() && guard.held.is_empty() {
                return Pin::new(&mut guard.inner).poll_read(context, buffer);
            }
            if guard.held.is_empty() {
                let before = buffer.filled().len();
                ready!(guard.poll_direct(context, buffer))?;
                let passed = buffer.filled().len() > before;
                let ended = guard.held.is_empty() && guard.out.is_empty() && !guard.scanner.is_refused();
                if passed || ended {
                    return Poll::Ready(Ok(()));
                }
            } else {
                if ready!(guard.poll_held(context))? {
                    return Poll::Ready(Ok(()));
                }
                guard.scan_held();
            }
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Guard<S> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let guard = self.get_mut();
        let polled = Pin::new(&mut guard.inner).poll_write(context, bytes);
        guard.stalled(context, polled)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let guard = self.get_mut();
        let polled = Pin::new(&mut guard.inner).poll_write_vectored(context, slices);
        guard.stalled(context, polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let guard = self.get_mut();
        let polled = Pin::new(&mut guard.inner).poll_flush(context);
        guard.stalled(context, polled)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let guard = self.get_mut();
        if guard.linger.is_none() {
            let polled = Pin::new(&mut guard.inner).poll_shutdown(context);
            ready!(guard.stalled(context, polled))?;
        }
        if guard.scanner.is_amid() {
            ready!(guard.poll_linger(context));
        }
        Poll::Ready(Ok(()))
    }
}
