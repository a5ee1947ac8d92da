//! Threads that take requests: each its own single-threaded runtime, its own listeners on the shared ports, its own
//! connection pools, so that a request never changes threads.

use crate::access::Access;
use crate::config::{ClientCert, ForwardedProto, Limits};
use crate::listener::{self, Sockets};
use crate::metrics::Metrics;
use crate::proxy::budget::Budget;
use crate::table::Table;
use crate::{Config, Error};
use api::edge::LoadBalancing;
use hyper::server::conn::{http1, http2};
use hyper_util::rt::TokioExecutor;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

/// What all workers share.
#[derive(Clone)]
pub struct Common {
    /// Where routes are looked up.
    pub table: Arc<Table>,
    /// Where ended requests are recorded.
    pub access: Access,
    /// Where things are counted.
    pub metrics: Arc<Metrics>,
    /// TLS towards clients, if there is one.
    pub tls: Option<TlsAcceptor>,
}

/// What the requests of one worker share.
pub struct Worker {
    /// Index; selects the pools.
    pub index: usize,
    /// Where routes are looked up.
    pub table: Arc<Table>,
    /// Where ended requests are recorded.
    pub access: Access,
    /// Where things are counted.
    pub metrics: Arc<Metrics>,
    /// Limits of requests and waits.
    pub limits: Limits,
    /// Retries that it may make.
    pub budget: Budget,
    /// How instances are chosen for routes that don't say.
    pub policy: Option<LoadBalancing>,
    /// Where the router runs.
    pub zone: Option<String>,
    /// Cookies that begin a session.
    pub sticky: Vec<String>,
    /// What becomes of `X-Forwarded-Client-Cert`.
    pub client_cert: ClientCert,
    /// What becomes of `X-Forwarded-Proto`.
    pub proto: ForwardedProto,
    /// Whether connections begin with the PROXY protocol.
    pub proxy_protocol: bool,
    /// Where plain HTTP is sent to.
    pub redirect: Option<u16>,
    /// TLS towards clients.
    pub tls: Option<TlsAcceptor>,
    /// The server side of HTTP/1.1.
    pub http1: http1::Builder,
    /// The server side of HTTP/2.
    pub http2: http2::Builder<TokioExecutor>,
    /// Connections and tunnels.
    pub tasks: TaskTracker,
    started: Instant,
    random: AtomicU64,
}

impl Worker {
    fn new(index: usize, config: &Config, common: &Common, started: Instant) -> Self {
        Self {
            index,
            table: Arc::clone(&common.table),
            access: common.access.clone(),
            metrics: Arc::clone(&common.metrics),
            limits: config.limits,
            budget: Budget::default(),
            policy: config.policy,
            zone: config.zone.clone(),
            sticky: config.sticky.clone(),
            client_cert: config.client_cert,
            proto: config.forwarded_proto,
            proxy_protocol: config.proxy_protocol,
            redirect: config.redirect,
            tls: common.tls.clone(),
            http1: listener::http1(&config.limits),
            http2: listener::http2(&config.limits),
            tasks: TaskTracker::new(),
            started,
            random: AtomicU64::new(Uuid::new_v4().as_u64_pair().0 | 1),
        }
    }

    /// Milliseconds since the router began; never goes back, and is the same for all workers.
    pub fn now_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// A number good enough to spread load by (xorshift), and not to keep secrets by.
    pub fn random(&self) -> u64 {
        let mut x = self.random.load(Ordering::Relaxed);
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        self.random.store(x, Ordering::Relaxed);
        x
    }

    /// An id for a request: unlike others, but not secret.
    pub fn id(&self) -> Uuid {
        let number = (u128::from(self.random()) << 64) | u128::from(self.random());
        uuid::Builder::from_random_bytes(number.to_be_bytes()).into_uuid()
    }
}

/// The running threads.
pub struct Workers {
    threads: Vec<std::thread::JoinHandle<()>>,
    addresses: (SocketAddr, Option<SocketAddr>),
}

impl Workers {
    /// Starts a thread for each of the plain sockets, which serves until `closing`.
    ///
    /// # Errors
    /// Where a thread can't be started.
    pub fn start(
        config: &Config,
        sockets: Sockets,
        common: &Common,
        closing: &CancellationToken,
    ) -> Result<Self, Error> {
        let mut addresses = (config.listen.plain, None);
        let mut threads = Vec::new();
        let started = Instant::now();
        let mut tls = sockets.tls.into_iter();
        for (index, plain) in sockets.plain.into_iter().enumerate() {
            let failed = |source| Error::Worker { index, source };
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .map_err(failed)?;
            let (plain, tls) = {
                let _context = runtime.enter();
                let plain = TcpListener::from_std(plain).map_err(failed)?;
                (
                    plain,
                    tls.next().map(TcpListener::from_std).transpose().map_err(failed)?,
                )
            };
            addresses.0 = plain.local_addr().map_err(failed)?;
            if let Some(tls) = &tls {
                addresses.1 = Some(tls.local_addr().map_err(failed)?);
            }
            let worker = Arc::new(Worker::new(index, config, common, started));
            let (closing, drain) = (closing.clone(), config.drain_timeout);
            let thread = std::thread::Builder::new()
                .name(format!("router-{index}"))
                .spawn(move || runtime.block_on(run(worker, plain, tls, closing, drain)))
                .map_err(failed)?;
            threads.push(thread);
        }
        Ok(Self { threads, addresses })
    }

    /// The bound addresses: for plain HTTP, and for TLS.
    pub fn addresses(&self) -> (SocketAddr, Option<SocketAddr>) {
        self.addresses
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.threads.len()
    }

    /// Waits for the threads to end, which they do within `drain` of being told to close.
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

/// Serves until `closing`, then lets what is open go on for `drain`.
async fn run(
    worker: Arc<Worker>,
    plain: TcpListener,
    tls: Option<TcpListener>,
    closing: CancellationToken,
    drain: Duration,
) {
    let served = listener::serve(Arc::clone(&worker), plain, false, closing.clone());
    match tls {
        Some(tls) => {
            let by_tls = listener::serve(Arc::clone(&worker), tls, true, closing);
            tokio::join!(served, by_tls);
        }
        None => served.await,
    }
    worker.tasks.close();
    if tokio::time::timeout(drain, worker.tasks.wait()).await.is_err() {
        tracing::warn!(
            drain_ms = drain.as_millis(),
            open = worker.tasks.len(),
            "requests were still open when the drain time ended"
        );
    }
}
