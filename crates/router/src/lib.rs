//! The edge: takes requests for apps and carries each to one of the app's instances.
//!
//! One writer (`feed`) keeps the table that the controllers send; a worker thread per core, each with its own
//! listener and connection pools, reads it (`table`, `proxy`). It knows nothing of apps beyond that table, and goes on
//! with the last one while every controller is away.
//!
//! Invariant: a request reaches only an endpoint that its route lists. Invariant: an endpoint that left the table gets
//! no new request, and is reported as draining while one is in flight (`endpoint`).

mod access;
mod choice;
mod config;
mod endpoint;
mod error;
mod feed;
mod proxy;
mod table;
mod worker;

pub use api::Controllers;
pub use config::{Config, Limits};
pub use error::Error;
pub use worker::listen;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

/// Longest time to connect to a controller.
const CONNECT: Duration = Duration::from_secs(5);

/// A router whose workers listen. Requests are answered from an empty table until [`Router::run`] follows the feed.
pub struct Router {
    config: Config,
    shutdown: CancellationToken,
    table: Arc<table::Table>,
    workers: worker::Workers,
    access: access::Access,
    sink: access::Sink,
    client: reqwest::Client,
}

impl Router {
    /// Binds and starts the workers, which serve until `shutdown`.
    ///
    /// # Errors
    /// Where the address can't be bound, or a worker can't be started.
    pub fn bind(config: Config, shutdown: CancellationToken) -> Result<Self, Error> {
        let listeners = listen(config.listen, config.workers)?;
        Self::on(config, listeners, shutdown)
    }

    /// The same on sockets that [`listen`] opened before, a worker each.
    ///
    /// # Errors
    /// Where a worker can't be started.
    pub fn on(
        config: Config,
        listeners: Vec<std::net::TcpListener>,
        shutdown: CancellationToken,
    ) -> Result<Self, Error> {
        let client = reqwest::Client::builder()
            .connect_timeout(CONNECT)
            .build()
            .map_err(Error::Client)?;
        let table = Arc::new(table::Table::default());
        let (access, sink) = access::channel();
        let workers = worker::Workers::start(&config, listeners, &table, &access, &shutdown)?;
        tracing::info!(listen = %workers.address(), workers = workers.count(), "router listens");
        Ok(Self {
            config,
            shutdown,
            table,
            workers,
            access,
            sink,
            client,
        })
    }

    /// The bound address.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.workers.address()
    }

    /// Follows the controllers until the shutdown, then drains: listeners close at once, open requests get
    /// `Config::drain_timeout`. `ready` is told when the first table was taken over.
    pub async fn run(self, ready: oneshot::Sender<()>) {
        let Self {
            config,
            shutdown,
            table,
            workers,
            access,
            sink,
            client,
        } = self;
        let logs = tokio::spawn(access::deliver(sink, client.clone(), config.clone(), shutdown.clone()));
        feed::follow(client, &config, &table, workers.count(), &shutdown, move || {
            // The receiver may be gone where nobody waits for readiness.
            let _ = ready.send(());
        })
        .await;
        workers.join(config.drain_timeout).await;
        drop(access);
        let _ = logs.await;
    }
}
