//! Connections to instances: made, sent a request, kept for the next.

use crate::config::Limits;
use crate::endpoint::Endpoint;
use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use tokio::net::TcpStream;

/// Body of a request to an instance.
pub enum RequestBody {
    /// None: the request may be sent again.
    Empty,
    /// Streamed from the client: it can be sent once.
    Streamed(Incoming),
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match self.get_mut() {
            Self::Empty => Poll::Ready(None),
            Self::Streamed(body) => Pin::new(body).poll_frame(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Streamed(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Streamed(body) => body.size_hint(),
        }
    }
}

/// A connection that no request uses.
pub struct Idle {
    sender: SendRequest<RequestBody>,
    since: Instant,
}

impl Idle {
    /// How long it has been idle.
    pub fn age(&self) -> Duration {
        self.since.elapsed()
    }
}

/// A connection for one request.
pub struct Connection {
    sender: SendRequest<RequestBody>,
    /// Whether it carried a request before: only then may an early end mean "closed while idle".
    pub reused: bool,
}

/// Why a request got no answer.
#[derive(Debug)]
pub enum SendError {
    /// Nothing of it was sent: here it is again.
    Unsent(Box<Request<RequestBody>>),
    /// It was sent, at least in part.
    Sent(hyper::Error),
    /// No response began in the time allowed.
    TimedOut,
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

impl Connection {
    /// An idle connection of the endpoint that is still open, else `None`.
    pub fn reuse(endpoint: &Endpoint, worker: usize, limits: &Limits) -> Option<Self> {
        loop {
            let idle = endpoint.take_idle(worker)?;
            if idle.age() <= limits.idle_upstream && !idle.sender.is_closed() {
                return Some(Self {
                    sender: idle.sender,
                    reused: true,
                });
            }
        }
    }

    /// A new connection.
    ///
    /// # Errors
    /// The system's answer, or that it took longer than `limits.connect`.
    pub async fn open(endpoint: &Endpoint, limits: &Limits) -> std::io::Result<Self> {
        let stream = tokio::time::timeout(limits.connect, TcpStream::connect(endpoint.address))
            .await
            .map_err(|_| std::io::Error::from(std::io::ErrorKind::TimedOut))??;
        stream.set_nodelay(true)?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(std::io::Error::other)?;
        tokio::spawn(async move {
            // How it ended, the request that it carried is told.
            let _ = connection.with_upgrades().await;
        });
        Ok(Self { sender, reused: false })
    }

    /// Sends a request and waits for the head of its response.
    ///
    /// # Errors
    /// With the request, where nothing of it was sent.
    pub async fn send(
        &mut self,
        request: Request<RequestBody>,
        limits: &Limits,
    ) -> Result<Response<Incoming>, SendError> {
        if self.sender.ready().await.is_err() {
            return Err(SendError::Unsent(Box::new(request)));
        }
        match tokio::time::timeout(limits.response_head, self.sender.try_send_request(request)).await {
            Err(_) => Err(SendError::TimedOut),
            Ok(Ok(response)) => Ok(response),
            Ok(Err(mut error)) => Err(match error.take_message() {
                Some(request) => SendError::Unsent(Box::new(request)),
                None => SendError::Sent(error.into_error()),
            }),
        }
    }

    /// Keeps it for the next request. The response's body has to be read to its end.
    pub fn keep(self, endpoint: &Endpoint, worker: usize, limits: &Limits) {
        if !self.sender.is_closed() {
            let idle = Idle {
                sender: self.sender,
                since: Instant::now(),
            };
            endpoint.keep_idle(worker, idle, limits.max_idle_upstream, limits.idle_upstream);
        }
    }
}
