//! How machines of one platform prove themselves to each other: the platform's own authority, certificates that say a
//! role and an id, tokens to join with, and TLS made of them. A contract between programs that are deployed apart.
//!
//! Who may do what with a certificate is the controller's to decide; where a machine keeps its own, `paasd`'s.

mod authority;
mod client;
mod credentials;
mod held;
mod token;

pub use api::machine::Blobs;
pub use authority::{Authority, Issued, Stored, key_digest};
pub use client::{ClientError, join, keep};
pub use credentials::{Credentials, Request};
pub use held::{Held, Proof, machine_of};
pub use token::{InvalidToken, JoinToken};

use rustls::crypto::CryptoProvider;
use std::sync::Arc;

/// What can't be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A certificate or a key can't be made.
    #[error("failed to make {what}")]
    Make {
        /// What.
        what: &'static str,
        #[source]
        source: rcgen::Error,
    },
    /// One can't be read.
    #[error("failed to read {what}: {detail}")]
    Read {
        /// What.
        what: &'static str,
        /// Why not.
        detail: String,
    },
    /// TLS can't be set up with it.
    #[error("failed to set up TLS")]
    Tls(#[source] rustls::Error),
}

impl Error {
    pub(crate) fn read(what: &'static str, detail: impl std::fmt::Display) -> Self {
        Self::Read {
            what,
            detail: detail.to_string(),
        }
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}
