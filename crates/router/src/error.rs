//! What keeps a router from running. Failures of single requests are responses, see `proxy::refusal`.

use std::net::SocketAddr;

/// A router could not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address is taken or not ours.
    #[error("failed to listen on {address}: choose another address or stop what listens there")]
    Listen {
        /// As configured.
        address: SocketAddr,
        /// The system's answer.
        #[source]
        source: std::io::Error,
    },
    /// A thread or its runtime could not be started.
    #[error("failed to start router worker {index}")]
    Worker {
        /// Of the worker.
        index: usize,
        /// The system's answer.
        #[source]
        source: std::io::Error,
    },
    /// TLS is not set up right.
    #[error("failed to set up TLS")]
    Tls {
        /// What is wrong.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The router's certificate can't be used.
    #[error("failed to use the router's certificate")]
    Identity(#[source] identity::Error),
    /// There is no way to call controllers.
    #[error("failed to set up calls to controllers")]
    Client(#[source] reqwest::Error),
}
