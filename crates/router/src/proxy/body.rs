//! Body of a response on its way to the client; when it ends, so does the request.

use super::upstream::Connection;
use crate::access::Record;
use crate::endpoint::InFlight;
use crate::worker::Worker;
use bytes::{Buf as _, Bytes};
use http_body::{Body, Frame, SizeHint};
use http_body_util::Full;
use hyper::body::Incoming;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

/// What a request holds until it has ended: its place on the endpoint, its connection, its record.
pub struct Ending {
    worker: Arc<Worker>,
    record: Record,
    started: Instant,
    connection: Option<(Connection, InFlight)>,
    whole: bool,
}

impl Ending {
    /// Of a request that came at `started`.
    pub fn new(worker: Arc<Worker>, record: Record, started: Instant) -> Self {
        Self {
            worker,
            record,
            started,
            connection: None,
            whole: false,
        }
    }

    /// The record, to be filled in.
    pub fn record(&mut self) -> &mut Record {
        &mut self.record
    }

    /// The connection to keep when the body was read to its end.
    pub fn hold(&mut self, connection: Connection, request: InFlight) {
        self.connection = Some((connection, request));
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        if let Some((connection, request)) = self.connection.take()
            && self.whole
        {
            connection.keep(request.endpoint(), self.worker.index, &self.worker.limits);
        }
        self.record.duration = self.started.elapsed();
        self.worker.access.record(self.record.clone());
    }
}

/// Body of a response.
pub enum ResponseBody {
    /// The router's own.
    Full(Full<Bytes>, Option<Box<Ending>>),
    /// An instance's, as it comes.
    Streamed(Incoming, Box<Ending>),
}

impl ResponseBody {
    /// A text of the router's own.
    pub fn full(text: impl Into<Bytes>) -> Self {
        Self::Full(Full::new(text.into()), None)
    }

    /// An instance's body.
    pub fn streamed(body: Incoming, mut ending: Box<Ending>) -> Self {
        ending.whole = body.is_end_stream();
        Self::Streamed(body, ending)
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match self.get_mut() {
            Self::Full(body, _) => Pin::new(body).poll_frame(context).map_err(|never| match never {}),
            Self::Streamed(body, ending) => {
                let polled = Pin::new(&mut *body).poll_frame(context);
                match &polled {
                    Poll::Ready(Some(Ok(frame))) => {
                        ending.record.sent_bytes += frame.data_ref().map_or(0, |data| data.remaining() as u64);
                        ending.whole = body.is_end_stream();
                    }
                    Poll::Ready(None) => ending.whole = true,
                    Poll::Ready(Some(Err(_))) | Poll::Pending => {}
                }
                polled
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Full(body, _) => body.is_end_stream(),
            Self::Streamed(body, _) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Full(body, _) => body.size_hint(),
            Self::Streamed(body, _) => body.size_hint(),
        }
    }
}
