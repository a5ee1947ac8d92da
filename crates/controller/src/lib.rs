//! The controller: public API, tokens, actions on the desired state, the control loop and the feeds of cells and routers.
//!
//! A handler parses a message, asks `auth` whether the caller may, calls an action and presents the result. Actions
//! own the transaction: desired state, audit event and job are written together, then the scheduler wakes. No handler
//! talks to a cell.

mod config;
mod context;

pub use config::{Bootstrap, BuildpackInfo, Config, Database, EncryptionKey};
pub use context::{Clock, Context, Usage, Wake};
