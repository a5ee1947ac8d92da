//! How a host becomes a machine of the platform: it joins with a token, once, and renews its certificate from then on.
//!
//! Both are answered by any controller, over TLS. A machine that joins shows no certificate, one that renews shows the
//! one that it has.

use crate::Route;
use model::machine::Machine;
use model::{Secret, Timestamp};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// `POST` of [`Join`], answered by [`Joined`].
pub const JOIN: Route = Route {
    method: "POST",
    path: "/machine/v1/join",
};
/// `POST` of [`Renew`], answered by [`Joined`].
pub const RENEW: Route = Route {
    method: "POST",
    path: "/machine/v1/renew",
};

/// Every route of this surface.
pub const ROUTES: &[Route] = &[JOIN, RENEW];

/// Largest body either way, in bytes.
pub const MAX_BODY: usize = 64 * 1024;

/// A host asks to be a machine.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Join {
    /// Which token.
    pub token: Uuid,
    /// Its secret.
    pub secret: Secret,
    /// Who it wants to be.
    pub machine: Machine,
    /// The host's name, for people.
    pub name: String,
    /// A certificate request (PEM). What it says besides the key counts for nothing.
    pub request: String,
}

/// A machine asks for its next certificate.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Renew {
    /// As in [`Join`].
    pub request: String,
}

/// A certificate, and what else the machine has to know.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Joined {
    /// Whose it is.
    pub machine: Machine,
    /// The certificate (PEM).
    pub certificate: String,
    /// The platform's authority (PEM), by which controllers are known.
    pub authority: String,
    /// When it begins to hold and when it ends.
    #[serde(with = "time::serde::rfc3339")]
    pub from: Timestamp,
    /// The end.
    #[serde(with = "time::serde::rfc3339")]
    pub until: Timestamp,
    /// Where controllers are.
    pub controllers: Vec<String>,
    /// Where blobs are; for cells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blobs: Option<Blobs>,
}

/// An S3-compatible store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Blobs {
    /// Address of the server; empty is Amazon's own.
    pub endpoint: String,
    /// Region.
    pub region: String,
    /// Bucket.
    pub bucket: String,
    /// Beginning of all keys.
    pub prefix: String,
    /// Id of the key.
    pub access_key: String,
    /// The key.
    pub secret_key: Secret,
}
