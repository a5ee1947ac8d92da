//! Takes connections of one socket and serves each: as HTTP/2 where TLS agreed on it or the client begins with it, else
//! as HTTP/1.1.

use super::guard::Guard;
use super::proxy_protocol;
use super::scan::{HeadLimits, Scanner};
use super::{Deadlines, Tunnel};
use crate::metrics::count;
use crate::proxy::{self, Peer, Tls};
use crate::worker::Worker;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

/// What a connection of HTTP/2 begins with.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Fields that the server takes unless it is told otherwise.
const FIELDS: usize = 100;
/// Streams of one connection at once.
const MAX_STREAMS: u32 = 256;
/// Streams that a client may reset before they were looked at, and those that it may make us reset; then it is cut off.
const MAX_RESETS: (usize, usize) = (32, 256);
/// What a client may send ahead, by stream and by connection.
const WINDOW: (u32, u32) = (256 * 1024, 1024 * 1024);
/// How often a connection of HTTP/2 is asked whether it is still there, and how long it may take to say so.
const PING: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(20));
/// Pause after a connection could not be taken.
const PAUSE: Duration = Duration::from_millis(10);

/// Counts an open connection.
struct Open(Arc<Worker>);

impl Open {
    /// Unless there are too many.
    fn new(worker: &Arc<Worker>) -> Option<Self> {
        let metrics = &worker.metrics;
        let before = metrics.open.fetch_add(1, Ordering::Relaxed);
        let open = Self(Arc::clone(worker));
        if usize::try_from(before).is_ok_and(|before| before >= worker.limits.max_connections) {
            count(&metrics.turned_away);
            return None;
        }
        count(&metrics.accepted);
        Some(open)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.metrics.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Takes connections until `shutdown`; those that are open go on among the worker's tasks.
pub async fn serve(worker: Arc<Worker>, listener: TcpListener, tls: bool, shutdown: CancellationToken) {
    loop {
        let accepted = tokio::select! {
            () = shutdown.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, address)) => {
                if let Some(open) = Open::new(&worker) {
                    let (worker, shutdown) = (Arc::clone(&worker), shutdown.clone());
                    worker.tasks.clone().spawn(async move {
                        connection(&worker, stream, address, tls, shutdown).await;
                        drop(open);
                    });
                }
            }
            Err(error) => {
                // Out of descriptors, mostly: others have to end first.
                tracing::warn!(%error, "failed to accept a connection");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// From the first byte to the end; a connection that sends nothing in time is dropped.
async fn connection(
    worker: &Arc<Worker>,
    mut stream: TcpStream,
    mut address: SocketAddr,
    tls: bool,
    shutdown: CancellationToken,
) {
    let _ = stream.set_nodelay(true);
    if worker.proxy_protocol {
        let read = tokio::time::timeout(worker.limits.head_read, proxy_protocol::read(&mut stream)).await;
        match read {
            Ok(Ok(client)) => address = client.unwrap_or(address),
            Ok(Err(error)) => return tracing::debug!(%address, %error, "connection dropped"),
            Err(_) => return,
        }
    }
    let tunnel = Arc::new(Tunnel::default());
    let mut peer = Peer {
        address,
        tls: None,
        tunnel,
        redirect: None,
    };
    match &worker.tls {
        Some(acceptor) if tls => {
            let accepted = tokio::select! {
                () = shutdown.cancelled() => return,
                accepted = tokio::time::timeout(worker.limits.handshake, acceptor.accept(stream)) => accepted,
            };
            let Ok(Ok(stream)) = accepted else {
                return count(&worker.metrics.handshakes_failed);
            };
            let (_, session) = stream.get_ref();
            let http2 = session.alpn_protocol() == Some(b"h2");
            peer.tls = Some(Tls::of(session));
            speak(worker, stream, peer, http2, Vec::new(), shutdown).await;
        }
        _ => {
            peer.redirect = worker.redirect;
            let first = tokio::select! {
                () = shutdown.cancelled() => return,
                first = tokio::time::timeout(worker.limits.idle_client, first_bytes(&mut stream)) => first,
            };
            let Ok(Ok(came)) = first else { return };
            let http2 = came.starts_with(PREFACE);
            speak(worker, stream, peer, http2, came, shutdown).await;
        }
    }
}

/// Reads until it is clear whether these are the first bytes of HTTP/2.
async fn first_bytes(stream: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    // Nothing is held for a client that says nothing.
    stream.readable().await?;
    let mut came = Vec::with_capacity(1024);
    loop {
        let read = stream.read_buf(&mut came).await?;
        let same = came.len().min(PREFACE.len());
        if read == 0 || came.len() >= PREFACE.len() || came[..same] != PREFACE[..same] {
            return Ok(came);
        }
    }
}

async fn speak<S>(worker: &Arc<Worker>, stream: S, peer: Peer, http2: bool, came: Vec<u8>, shutdown: CancellationToken)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let limits = &worker.limits;
    let deadlines = Deadlines {
        head: limits.head_read,
        write: limits.write_stall,
    };
    let scanner = if http2 {
        Scanner::tunnel()
    } else {
        Scanner::new(HeadLimits {
            bytes: limits.max_head_bytes,
            fields: limits.max_headers,
        })
    };
    let guard = Guard::new(stream, came, scanner, Arc::clone(&peer.tunnel), deadlines);
    let (served, peer) = (Arc::clone(worker), Arc::new(peer));
    let requests = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&requests);
    let service = service_fn(move |request| {
        let (worker, peer) = (Arc::clone(&served), Arc::clone(&peer));
        counted.fetch_add(1, Ordering::Relaxed);
        async move { Ok::<_, Infallible>(proxy::handle(worker, peer, request).await) }
    });
    // Clients that go away are no fault of ours; each request has its record.
    if http2 {
        let connection = worker.http2.serve_connection(TokioIo::new(guard), service);
        let mut connection = std::pin::pin!(connection);
        let _ = tokio::select! {
            ended = connection.as_mut() => ended,
            () = shutdown_or_idle(&shutdown, limits.idle_client, &requests) => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
    } else {
        let connection = worker.http1.serve_connection(TokioIo::new(guard), service);
        let mut connection = std::pin::pin!(connection.with_upgrades());
        let _ = tokio::select! {
            ended = connection.as_mut() => ended,
            () = shutdown.cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
    }
}

/// Until the shutdown, or until no request began for so long; those that are open go on then too.
async fn shutdown_or_idle(shutdown: &CancellationToken, idle: Duration, requests: &AtomicU64) {
    let mut before = 0;
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(idle) => {}
        }
        let now = requests.load(Ordering::Relaxed);
        if now == before {
            return;
        }
        before = now;
    }
}

/// The server side of HTTP/1.1.
pub fn http1(limits: &crate::Limits) -> hyper::server::conn::http1::Builder {
    let mut http = hyper::server::conn::http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(limits.idle_client)
        .max_buf_size(limits.max_head_bytes.max(8192) + 8192);
    // What the guard lets pass, the server has to. Fields beyond its own bound cost it an allocation each time.
    if limits.max_headers > FIELDS {
        http.max_headers(limits.max_headers);
    }
    http
}

/// The server side of HTTP/2.
pub fn http2(limits: &crate::Limits) -> hyper::server::conn::http2::Builder<TokioExecutor> {
    let mut http = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
    http.timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .max_pending_accept_reset_streams(MAX_RESETS.0)
        .max_local_error_reset_streams(MAX_RESETS.1)
        .max_header_list_size(u32::try_from(limits.max_head_bytes).unwrap_or(u32::MAX))
        .initial_stream_window_size(WINDOW.0)
        .initial_connection_window_size(WINDOW.1)
        .keep_alive_interval(PING.0)
        .keep_alive_timeout(PING.1)
        .enable_connect_protocol();
    http
}
