//! The controller: public API, tokens, actions on the desired state, the control loop and the feeds of cells and routers.
//!
//! A handler parses a message, asks `auth` whether the caller may, calls an action and presents the result. Actions
//! own the transaction: desired state, audit event and job are written together, then the scheduler wakes. No handler
//! talks to a cell.

mod actions;
mod attest;
mod auth;
mod backup;
mod bits;
mod config;
mod context;
mod control;
pub(crate) mod error;
pub mod events;
pub mod exec;
pub mod feeds;
mod flags;
mod json;
mod lead;
mod logs;
pub mod machines;
mod oauth;
mod query;
mod request;
pub mod scheduling;
mod serve;
mod services;
pub mod sessions;
mod setup;
mod strict;
mod sweep;
mod v3;

pub use auth::{KeyError, Keys, RateLimits};
pub use backup::{BackupError, Kept, backup, restore};
pub use config::{Blobs, Bootstrap, BuildpackInfo, Config, Database, EncryptionKey, Limits, Oidc};
pub use context::{Clock, Context, Usage, Wake};
pub use control::{Control, Explanation, Timing};
pub use serve::{Error, Sockets, run, surface};
pub use setup::{bootstrap, open};
