//! Threads that take requests: each its own single-threaded runtime, its own listener on the shared port, its own
//! connection pools, so that a request never changes threads.

use crate::access::Access;
use crate::config::Limits;
use crate::proxy;
use crate::table::Table;
use crate::{Config, Error};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Connections waiting to be accepted.
const BACKLOG: u32 = 4096;

/// What the requests of one worker share.
pub struct Worker {
    /// Index; selects the pools.
    pub index: usize,
    /// Where routes are looked up.
    pub table: Arc<Table>,
    /// Where ended requests are recorded.
    pub access: Access,
    /// Limits of requests and waits.
    pub limits: Limits,
    started: Instant,
    random: AtomicU64,
}

impl Worker {
    /// Milliseconds since the worker began; never goes back.
    pub fn now_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// A number good enough to spread load by (xorshift).
    pub fn random(&self) -> u64 {
        let mut x = self.random.load(Ordering::Relaxed);
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        self.random.store(x, Ordering::Relaxed);
        x
    }
}

/// The running threads.
pub struct Workers {
    threads: Vec<std::thread::JoinHandle<()>>,
    address: SocketAddr,
}

impl Workers {
    /// Starts a thread for each of the listeners, which serves until `shutdown`.
    ///
    /// # Errors
    /// Where a thread can't be started.
    pub fn start(
        config: &Config,
        listeners: Vec<std::net::TcpListener>,
        table: &Arc<Table>,
        access: &Access,
        shutdown: &CancellationToken,
    ) -> Result<Self, Error> {
        let mut address = config.listen;
        let mut threads = Vec::new();
        for (index, listener) in listeners.into_iter().enumerate() {
            let failed = |source| Error::Worker { index, source };
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .map_err(failed)?;
            let listener = {
                let _context = runtime.enter();
                TcpListener::from_std(listener).map_err(failed)?
            };
            address = listener.local_addr().map_err(failed)?;
            let worker = Arc::new(Worker {
                index,
                table: Arc::clone(table),
                access: access.clone(),
                limits: config.limits,
                started: Instant::now(),
                random: AtomicU64::new(uuid::Uuid::new_v4().as_u64_pair().0 | 1),
            });
            let (shutdown, drain) = (shutdown.clone(), config.drain_timeout);
            let thread = std::thread::Builder::new()
                .name(format!("router-{index}"))
                .spawn(move || runtime.block_on(serve(worker, listener, shutdown, drain)))
                .map_err(failed)?;
            threads.push(thread);
        }
        Ok(Self { threads, address })
    }

    /// The bound address.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.threads.len()
    }

    /// Waits for the threads to end, which they do within `drain` of the shutdown.
    pub async fn join(self, drain: Duration) {
        let joined = tokio::task::spawn_blocking(move || {
            for thread in self.threads {
                if thread.join().is_err() {
                    tracing::error!("a router worker panicked");
                }
            }
        });
        // The threads end by themselves; a second more covers their last steps.
        if tokio::time::timeout(drain + Duration::from_secs(1), joined)
            .await
            .is_err()
        {
            tracing::warn!("router workers did not end in time");
        }
    }
}

/// Opens a socket per worker, all on one address; where that names no port, on one that is free. Starts no thread.
///
/// # Errors
/// Where the address can't be bound.
pub fn listen(address: SocketAddr, workers: usize) -> Result<Vec<std::net::TcpListener>, Error> {
    let failed = |source| Error::Listen { address, source };
    // Sockets are made in a runtime: the caller's, or one that ends with this.
    let own = match tokio::runtime::Handle::try_current() {
        Ok(_) => None,
        Err(_) => Some(tokio::runtime::Builder::new_current_thread().enable_all().build()),
    };
    let own = own.transpose().map_err(failed)?;
    let _context = own.as_ref().map(tokio::runtime::Runtime::enter);
    let first = listen_once(address)?;
    let address = first.local_addr().map_err(failed)?;
    let further = (1..workers).map(|_| listen_once(address));
    std::iter::once(Ok(first)).chain(further).collect()
}

fn listen_once(address: SocketAddr) -> Result<std::net::TcpListener, Error> {
    let failed = |source| Error::Listen { address, source };
    let socket = if address.is_ipv4() {
        TcpSocket::new_v4()
    } else {
        TcpSocket::new_v6()
    }
    .map_err(failed)?;
    socket.set_reuseaddr(true).map_err(failed)?;
    socket.set_reuseport(true).map_err(failed)?;
    socket.bind(address).map_err(failed)?;
    socket.listen(BACKLOG).and_then(TcpListener::into_std).map_err(failed)
}

async fn serve(worker: Arc<Worker>, listener: TcpListener, shutdown: CancellationToken, drain: Duration) {
    let connections = TaskTracker::new();
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(worker.limits.head_read)
        .max_headers(worker.limits.max_headers)
        .max_buf_size(worker.limits.max_head_bytes);
    loop {
        let accepted = tokio::select! {
            () = shutdown.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => drop(connections.spawn(connection(&worker, &http, stream, peer, shutdown.clone()))),
            Err(error) => {
                // Out of descriptors, mostly: others have to end first.
                tracing::warn!(%error, "failed to accept a connection");
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
    }
    drop(listener);
    connections.close();
    if tokio::time::timeout(drain, connections.wait()).await.is_err() {
        tracing::warn!(
            drain_ms = drain.as_millis(),
            "requests were still open when the drain time ended"
        );
    }
}

/// Serves one client connection; after `shutdown` it ends with the request under way.
fn connection(
    worker: &Arc<Worker>,
    http: &http1::Builder,
    stream: TcpStream,
    peer: SocketAddr,
    shutdown: CancellationToken,
) -> impl Future<Output = ()> + Send + 'static {
    let _ = stream.set_nodelay(true);
    let worker = Arc::clone(worker);
    let service = service_fn(move |request| {
        let worker = Arc::clone(&worker);
        async move { Ok::<_, Infallible>(proxy::handle(worker, peer, request).await) }
    });
    let connection = http.serve_connection(TokioIo::new(stream), service).with_upgrades();
    async move {
        let mut connection = std::pin::pin!(connection);
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = shutdown.cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        // Clients that go away are no fault of ours; each request has its record.
        if let Err(error) = ended {
            tracing::trace!(%peer, %error, "connection ended early");
        }
    }
}
