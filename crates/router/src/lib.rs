//! The edge: takes requests for apps and carries each to one of the app's instances.
//!
//! One writer (`feed`) keeps the table that the controllers send; a worker thread per core, each with its own
//! listeners and connection pools (`listener`, `worker`), reads it (`table`, `choice`) and carries requests (`proxy`). It knows nothing of apps beyond that table, and goes on
//! with the last one while every controller is away.
//!
//! Invariant: a request reaches only an endpoint that its route lists. Invariant: an endpoint that left the table gets
//! no new request, and is reported as draining while one is in flight (`endpoint`).

mod access;
mod admin;
mod choice;
mod config;
mod endpoint;
mod error;
mod feed;
mod kept;
mod listener;
mod metrics;
mod proxy;
mod table;
mod tls;
mod worker;

pub use access::{Query, Settings as AccessSettings};
pub use api::Controllers;
pub use api::edge::LoadBalancing;
pub use config::{ClientAuth, ClientCert, Config, ForwardedProto, Limits, TlsSettings};
pub use error::Error;
pub use listener::{Addresses, Sockets};

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::{Notify, oneshot};
use tokio_util::sync::CancellationToken;

/// Longest time to connect to a controller.
const CONNECT: Duration = Duration::from_secs(5);
/// Longest time for the last access lines to be delivered.
const LAST_LINES: Duration = Duration::from_secs(6);

/// A router whose workers listen. Requests are answered from an empty table until [`Router::run`] follows the feed.
pub struct Router {
    config: Config,
    shutdown: CancellationToken,
    /// Told to close listeners, some time after the shutdown.
    closing: CancellationToken,
    common: worker::Common,
    workers: worker::Workers,
    certificates: Option<Arc<tls::Certificates>>,
    admin: Option<std::net::TcpListener>,
    admin_address: Option<SocketAddr>,
    sink: access::Sink,
    client: reqwest::Client,
}

impl Router {
    /// Binds and starts the workers, which serve until `shutdown`.
    ///
    /// # Errors
    /// Where an address can't be bound, TLS is not set up right, or a worker can't be started.
    pub fn bind(config: Config, shutdown: CancellationToken) -> Result<Self, Error> {
        let sockets = Sockets::open(config.listen, config.workers)?;
        Self::on(config, sockets, shutdown)
    }

    /// The same on sockets that were opened before.
    ///
    /// # Errors
    /// Where TLS is not set up right, or a worker can't be started.
    pub fn on(config: Config, mut sockets: Sockets, shutdown: CancellationToken) -> Result<Self, Error> {
        let client = reqwest::Client::builder().connect_timeout(CONNECT);
        let client = config.proof.client(client).map_err(Error::Identity)?;
        let client = client.build().map_err(Error::Client)?;
        let metrics = Arc::new(metrics::Metrics::default());
        let (access, sink) = access::channel(&metrics);
        let folder = config.tls.as_ref().map(|settings| settings.certificates.clone());
        let certificates = folder.map(|folder| Arc::new(tls::Certificates::new(folder)));
        let acceptor = config.tls.as_ref().zip(certificates.as_ref());
        let common = worker::Common {
            table: Arc::new(table::Table::default()),
            access,
            metrics,
            tls: acceptor
                .map(|(settings, certificates)| tls::acceptor(settings, certificates))
                .transpose()?,
        };
        let admin = sockets.admin.take();
        let admin_address = admin.as_ref().and_then(|admin| admin.local_addr().ok());
        let closing = CancellationToken::new();
        let workers = worker::Workers::start(&config, sockets, &common, &closing)?;
        let (listen, listen_tls) = workers.addresses();
        tracing::info!(%listen, ?listen_tls, ?admin_address, workers = workers.count(), "router listens");
        Ok(Self {
            config,
            shutdown,
            closing,
            common,
            workers,
            certificates,
            admin,
            admin_address,
            sink,
            client,
        })
    }

    /// The bound address for plain HTTP.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.workers.addresses().0
    }

    /// The bound address for TLS.
    #[must_use]
    pub fn tls_address(&self) -> Option<SocketAddr> {
        self.workers.addresses().1
    }

    /// The bound address for health and metrics.
    #[must_use]
    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.admin_address
    }

    /// Follows the controllers until the shutdown, then drains: health is denied for `Config::drain_wait`, listeners
    /// close, open requests and tunnels get `Config::drain_timeout`.
    pub async fn run(self, ready: oneshot::Sender<()>) {
        let admin = Arc::new(admin::Admin {
            healthy: AtomicBool::new(false),
            metrics: Arc::clone(&self.common.metrics),
            table: Arc::clone(&self.common.table),
        });
        let changed = Arc::new(Notify::new());
        // Ends what has to go on until the last request has ended.
        let ended = CancellationToken::new();
        let _ends = ended.clone().drop_guard();
        if let Some(listener) = self.admin.and_then(|listener| TcpListener::from_std(listener).ok()) {
            tokio::spawn(admin::serve(Arc::clone(&admin), listener, ended.clone()));
        }
        if let Some(certificates) = self.certificates {
            tokio::spawn(tls::follow(certificates, ended.clone()));
        }
        let kept = self.config.state.clone().map(|path| {
            let (table, shutdown) = (Arc::clone(&self.common.table), self.shutdown.clone());
            tokio::spawn(kept::follow(path, table, Arc::clone(&changed), shutdown))
        });
        let logs = access::deliver(self.sink, self.client.clone(), self.config.clone(), ended.clone());
        let logs = tokio::spawn(logs);
        let told = feed::Told {
            workers: self.workers.count(),
            metrics: &self.common.metrics,
            changed: &changed,
        };
        let table = Arc::clone(&self.common.table);
        let healthy = Arc::clone(&admin);
        feed::follow(self.client, &self.config, &table, told, &self.shutdown, move || {
            healthy.healthy.store(true, Ordering::Relaxed);
            // The receiver may be gone where nobody waits for readiness.
            let _ = ready.send(());
        })
        .await;
        admin.healthy.store(false, Ordering::Relaxed);
        if !self.config.drain_wait.is_zero() {
            tokio::time::sleep(self.config.drain_wait).await;
        }
        self.closing.cancel();
        self.workers.join(self.config.drain_timeout).await;
        drop(self.common);
        if let Some(kept) = kept {
            let _ = kept.await;
        }
        let _ = tokio::time::timeout(LAST_LINES, logs).await;
    }
}
