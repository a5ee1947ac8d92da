//! Connections to instances: made, sent a request, kept for the next. Of HTTP/1.1 a request has one for itself, of
//! HTTP/2 all requests of a worker share one.

use super::refusal::Cause;
use super::request_body::RequestBody;
use crate::config::Limits;
use crate::endpoint::Endpoint;
use http::header::{self, HeaderValue};
use http::{Request, Response, Uri, Version};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use std::time::{Duration, Instant};
use tokio::net::TcpStream;

/// Bytes that an instance may send ahead of a client's reading, by stream and by connection of HTTP/2.
const WINDOW: (u32, u32) = (1024 * 1024, 4 * 1024 * 1024);

/// A connection that no request uses.
pub struct Idle {
    sender: http1::SendRequest<RequestBody>,
    since: Instant,
}

impl Idle {
    /// How long it has been idle.
    pub fn age(&self) -> Duration {
        self.since.elapsed()
    }
}

/// A connection of HTTP/2 that many requests use.
#[derive(Clone)]
pub struct Shared(http2::SendRequest<RequestBody>);

impl Shared {
    /// Whether no request can use it any more.
    pub fn is_closed(&self) -> bool {
        self.0.is_closed()
    }
}

enum Sender {
    Http1(http1::SendRequest<RequestBody>),
    Http2(http2::SendRequest<RequestBody>),
}

/// A connection for one request.
pub struct Connection {
    sender: Sender,
    /// Whether it carried a request before: only then may an early end mean "closed while idle".
    pub reused: bool,
}

/// Why a request got no answer.
#[derive(Debug)]
pub enum SendError {
    /// Nothing of it was sent: here it is again.
    Unsent(Box<Request<RequestBody>>),
    /// It was sent, at least in part.
    Sent(Cause),
}

impl Connection {
    /// A connection of the endpoint that is still open, else `None`.
    pub fn reuse(endpoint: &Endpoint, worker: usize, http2: bool, limits: &Limits) -> Option<Self> {
        if http2 {
            return endpoint.shared(worker).map(|shared| Self {
                sender: Sender::Http2(shared.0),
                reused: true,
            });
        }
        loop {
            let idle = endpoint.take_idle(worker)?;
            if idle.age() <= limits.idle_upstream && !idle.sender.is_closed() {
                return Some(Self {
                    sender: Sender::Http1(idle.sender),
                    reused: true,
                });
            }
        }
    }

    /// A new connection.
    ///
    /// # Errors
    /// Why it could not be opened.
    pub async fn open(endpoint: &Endpoint, worker: usize, http2: bool, limits: &Limits) -> Result<Self, Cause> {
        let opened = tokio::time::timeout(limits.connect, async {
            let stream = TcpStream::connect(endpoint.address).await.map_err(|error| {
                if error.kind() == std::io::ErrorKind::ConnectionRefused {
                    Cause::Refused
                } else {
                    Cause::Unreachable
                }
            })?;
            // Where this fails, the connection is merely slower.
            let _ = stream.set_nodelay(true);
            Self::handshake(TokioIo::new(stream), http2)
                .await
                .map_err(|_| Cause::BrokeOff)
        });
        let sender = opened.await.map_err(|_| Cause::ConnectTimedOut)??;
        if let Sender::Http2(sender) = &sender {
            endpoint.share(worker, Shared(sender.clone()));
        }
        Ok(Self { sender, reused: false })
    }

    /// Starts the protocol; how the connection ends, the requests that it carries are told.
    async fn handshake(stream: TokioIo<TcpStream>, http2: bool) -> Result<Sender, hyper::Error> {
        if http2 {
            let (sender, connection) = http2::Builder::new(TokioExecutor::new())
                .timer(TokioTimer::new())
                .initial_stream_window_size(WINDOW.0)
                .initial_connection_window_size(WINDOW.1)
                .handshake(stream)
                .await?;
            tokio::spawn(async move {
                let _ = connection.await;
            });
            return Ok(Sender::Http2(sender));
        }
        let (sender, connection) = http1::handshake(stream).await?;
        tokio::spawn(async move {
            let _ = connection.with_upgrades().await;
        });
        Ok(Sender::Http1(sender))
    }

    /// Sends a request and waits, for `patience`, for the head of its response.
    ///
    /// # Errors
    /// With the request, where nothing of it was sent.
    pub async fn send(
        &mut self,
        request: Request<RequestBody>,
        patience: Duration,
    ) -> Result<Response<Incoming>, SendError> {
        let ready = match &mut self.sender {
            Sender::Http1(sender) => sender.ready().await,
            Sender::Http2(sender) => sender.ready().await,
        };
        if ready.is_err() {
            return Err(SendError::Unsent(Box::new(request)));
        }
        let sent = tokio::time::timeout(patience, async {
            match &mut self.sender {
                Sender::Http1(sender) => sender.try_send_request(as_http1(request)).await,
                Sender::Http2(sender) => sender.try_send_request(as_http2(request)).await,
            }
        });
        match sent.await {
            Err(_) => Err(SendError::Sent(Cause::TimedOut)),
            Ok(Ok(response)) => Ok(response),
            Ok(Err(mut error)) => Err(match error.take_message() {
                Some(request) => SendError::Unsent(Box::new(request)),
                None if error.error().is_parse() => SendError::Sent(Cause::Malformed),
                None => SendError::Sent(Cause::BrokeOff),
            }),
        }
    }

    /// Keeps it for the next request. The response's body has to be read to its end.
    pub fn keep(self, endpoint: &Endpoint, worker: usize, limits: &Limits) {
        // One of HTTP/2 is shared already.
        if let Sender::Http1(sender) = self.sender
            && !sender.is_closed()
        {
            let since = Instant::now();
            let idle = Idle { sender, since };
            endpoint.keep_idle(worker, idle, limits.max_idle_upstream, limits.idle_upstream);
        }
    }
}

/// The request as it is sent by HTTP/1.1: target without authority, one `Cookie`, no `TE`.
fn as_http1(mut request: Request<RequestBody>) -> Request<RequestBody> {
    *request.version_mut() = Version::HTTP_11;
    if let Some(authority) = request.uri().authority() {
        if let Ok(host) = HeaderValue::from_str(authority.as_str()) {
            request.headers_mut().insert(header::HOST, host);
        }
        let target = request.uri().path_and_query().cloned();
        *request.uri_mut() = target.map_or_else(Uri::default, Uri::from);
    }
    let headers = request.headers_mut();
    headers.remove(header::TE);
    let cookies = headers.get_all(header::COOKIE);
    if cookies.iter().nth(1).is_some() {
        let parts: Vec<&[u8]> = cookies.iter().map(HeaderValue::as_bytes).collect();
        if let Ok(joined) = HeaderValue::from_bytes(&parts.join(&b"; "[..])) {
            headers.insert(header::COOKIE, joined);
        }
    }
    request
}

/// The request as it is sent by HTTP/2: target with authority, no `Host`.
fn as_http2(mut request: Request<RequestBody>) -> Request<RequestBody> {
    *request.version_mut() = Version::HTTP_2;
    if let Some(host) = request.headers_mut().remove(header::HOST) {
        let target = request.uri().path_and_query().map_or("/", |target| target.as_str());
        let uri = Uri::builder()
            .scheme("http")
            .authority(host.as_bytes())
            .path_and_query(target)
            .build();
        if let Ok(uri) = uri {
            *request.uri_mut() = uri;
        }
    }
    request
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_has_the_form_of_the_protocol_it_is_sent_by() {
        let request = Request::get("/x?y=1")
            .header("host", "a.test:81")
            .header("cookie", "a=1")
            .header("cookie", "b=2")
            .header("te", "trailers")
            .body(RequestBody::Empty)
            .expect("sound");
        let request = as_http2(request);
        assert_eq!(request.uri(), "http://a.test:81/x?y=1");
        assert!(!request.headers().contains_key("host"));
        assert_eq!(request.headers()["te"], "trailers");
        let request = as_http1(request);
        assert_eq!(request.uri(), "/x?y=1");
        assert_eq!(request.headers()["host"], "a.test:81");
        assert_eq!(request.headers()["cookie"], "a=1; b=2");
        assert!(!request.headers().contains_key("te"));
    }
}
