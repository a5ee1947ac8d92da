//! Body of a request on its way to an instance: counted, bounded, with a deadline for every pause, and held back while
//! an instance has still to say whether it wants it.

use bytes::Bytes;
use futures_util::task::AtomicWaker;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::time::{Instant, Sleep};

use super::refusal::Refusal;

/// How long an instance may take to say that it wants a body; then it is sent without.
const CONTINUE: Duration = Duration::from_secs(1);

/// Body of a request to an instance.
#[derive(Default)]
pub enum RequestBody {
    /// None: the request may be sent again.
    #[default]
    Empty,
    /// Streamed from the client: it can be sent once.
    Streamed(Box<Streamed>),
}

/// A body that comes from a client.
pub struct Streamed {
    body: Incoming,
    progress: Arc<Progress>,
    left: u64,
    stall: Duration,
    deadline: Option<Pin<Box<Sleep>>>,
    gate: Option<Arc<Gate>>,
}

/// What has become of a body, for whoever waits for the response.
#[derive(Default)]
pub struct Progress {
    bytes: AtomicU64,
    fault: AtomicU8,
}

/// Closed until an instance has said that it wants the body.
#[derive(Default)]
pub struct Gate {
    open: AtomicBool,
    waker: AtomicWaker,
}

/// Why a body did not come to its end.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// It broke off, or is not framed as HTTP asks.
    #[error("failed to read the request's body")]
    Client(#[source] hyper::Error),
    /// It is larger than allowed.
    #[error("the request's body is larger than allowed")]
    TooLarge,
    /// Nothing of it came for too long.
    #[error("the request's body stopped coming")]
    Stalled,
}

impl Progress {
    /// Bytes that came.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// The client's fault, if there was one.
    pub fn fault(&self) -> Option<Refusal> {
        match self.fault.load(Ordering::Relaxed) {
            1 => Some(Refusal::BodyTooLarge),
            2 => Some(Refusal::BodyTimedOut),
            3 => Some(Refusal::BodyMalformed),
            4 => Some(Refusal::ClientGone),
            _ => None,
        }
    }

    fn failed(&self, error: BodyError) -> BodyError {
        let fault = match &error {
            BodyError::TooLarge => 1,
            BodyError::Stalled => 2,
            BodyError::Client(error) if error.is_parse() || error.is_user() => 3,
            BodyError::Client(error) if is_bad_chunk(error) => 3,
            BodyError::Client(_) => 4,
        };
        self.fault.store(fault, Ordering::Relaxed);
        error
    }
}

/// hyper tells of chunks that can't be read as of input that is invalid.
fn is_bad_chunk(error: &hyper::Error) -> bool {
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        if let Some(error) = error.downcast_ref::<std::io::Error>() {
            return matches!(
                error.kind(),
                std::io::ErrorKind::InvalidInput | std::io::ErrorKind::InvalidData
            );
        }
        source = error.source();
    }
    false
}

impl Gate {
    /// Lets the body through.
    pub fn open(&self) {
        self.open.store(true, Ordering::Release);
        self.waker.wake();
    }
}

impl RequestBody {
    /// Of a client's body, at most `most` bytes, with no pause longer than `stall`.
    pub fn new(body: Incoming, most: u64, stall: Duration) -> (Self, Option<Arc<Progress>>) {
        if body.is_end_stream() {
            return (Self::Empty, None);
        }
        let progress = Arc::new(Progress::default());
        let streamed = Streamed {
            body,
            progress: Arc::clone(&progress),
            left: most,
            stall,
            deadline: None,
            gate: None,
        };
        (Self::Streamed(Box::new(streamed)), Some(progress))
    }

    /// Holds the body back until the gate is opened, or [`CONTINUE`] has passed.
    pub fn hold(&mut self) -> Option<Arc<Gate>> {
        let Self::Streamed(streamed) = self else { return None };
        let gate = Arc::new(Gate::default());
        streamed.gate = Some(Arc::clone(&gate));
        Some(gate)
    }
}

impl std::fmt::Debug for RequestBody {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if matches!(self, Self::Empty) {
            "Empty"
        } else {
            "Streamed"
        })
    }
}

impl Streamed {
    fn poll_gate(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let Some(gate) = &self.gate else { return Poll::Ready(()) };
        gate.waker.register(context.waker());
        if !gate.open.load(Ordering::Acquire) {
            let sleep = self
                .deadline
                .get_or_insert_with(|| Box::pin(tokio::time::sleep(CONTINUE)));
            ready!(sleep.as_mut().poll(context));
        }
        self.gate = None;
        self.deadline = None;
        Poll::Ready(())
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        ready!(self.poll_gate(context));
        match Pin::new(&mut self.body).poll_frame(context) {
            Poll::Ready(frame) => {
                self.deadline = None;
                Poll::Ready(frame.map(|frame| self.counted(frame)))
            }
            Poll::Pending => {
                let until = Instant::now() + self.stall;
                let sleep = self
                    .deadline
                    .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(until)));
                ready!(sleep.as_mut().poll(context));
                Poll::Ready(Some(Err(self.progress.failed(BodyError::Stalled))))
            }
        }
    }

    fn counted(&mut self, frame: Result<Frame<Bytes>, hyper::Error>) -> Result<Frame<Bytes>, BodyError> {
        let frame = frame.map_err(|error| self.progress.failed(BodyError::Client(error)))?;
        let bytes = frame.data_ref().map_or(0, |data| data.len() as u64);
        self.progress.bytes.fetch_add(bytes, Ordering::Relaxed);
        match self.left.checked_sub(bytes) {
            Some(left) => self.left = left,
            None => return Err(self.progress.failed(BodyError::TooLarge)),
        }
        Ok(frame)
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.get_mut() {
            Self::Empty => Poll::Ready(None),
            Self::Streamed(streamed) => streamed.poll(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Streamed(streamed) => streamed.body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Streamed(streamed) => streamed.body.size_hint(),
        }
    }
}
