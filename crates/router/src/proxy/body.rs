//! Body of a response on its way to the client; when it ends, so does the request.

use super::refusal::Refusal;
use super::request_body::Progress;
use super::upstream::Connection;
use crate::access::Record;
use crate::endpoint::InFlight;
use crate::table::Route;
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
    /// Here until the request has ended.
    record: Option<Record>,
    started: Instant,
    route: Option<Arc<Route>>,
    progress: Option<Arc<Progress>>,
    connection: Option<(Connection, InFlight)>,
    /// When the instance that answered got the request.
    sent: Option<Instant>,
    whole: bool,
}

impl Ending {
    /// Of a request that came at `started`.
    pub fn new(worker: Arc<Worker>, record: Record, started: Instant) -> Self {
        Self {
            worker,
            record: Some(record),
            started,
            route: None,
            progress: None,
            connection: None,
            sent: None,
            whole: false,
        }
    }

    /// The record, to be filled in.
    pub fn record(&mut self) -> &mut Record {
        self.record.as_mut().expect("taken by drop alone")
    }

    /// The request goes to this route.
    pub fn routed(&mut self, route: &Arc<Route>) {
        route.counts().begin();
        self.route = Some(Arc::clone(route));
    }

    /// The request has a body, whose bytes are counted there.
    pub fn receives(&mut self, progress: Option<Arc<Progress>>) {
        self.progress = progress;
    }

    /// The request is sent to an instance now.
    pub fn sent(&mut self, at: Instant) {
        self.sent = Some(at);
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
        let Some(mut record) = self.record.take() else { return };
        record.duration = self.started.elapsed();
        record.backend = self.sent.map(|sent| sent.elapsed());
        record.received_bytes = self.progress.as_ref().map_or(0, |progress| progress.bytes());
        if record.status == 0 {
            // Nobody waited for the answer.
            record.status = super::refusal::CLIENT_GONE;
            record.refusal = Some(Refusal::ClientGone.name());
        }
        self.worker.metrics.end(&record);
        if let Some(route) = &self.route {
            route.counts().end(&record);
        }
        self.worker.access.record(record);
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
                        ending.record().sent_bytes += frame.data_ref().map_or(0, |data| data.remaining() as u64);
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
