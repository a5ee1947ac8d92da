//! Typed client of the platform's API: the CF v3 API, its token server and log cache, and our additions.
//!
//! It knows addresses, tokens, retries, deadlines and error envelopes; what calls are for is the business of `actor`.

mod device;
pub mod exec;
pub mod http;
pub mod logs;
pub mod session;
pub mod stream;
mod trace;
pub mod upload;
pub mod v3;
pub mod wire;
pub mod wire_machines;
pub mod wire_staging;

pub use http::Client;

use std::time::Duration;

/// Time for a connection to be made.
pub const CONNECT: Duration = Duration::from_secs(6);
/// Time for an ordinary request.
pub const REQUEST: Duration = Duration::from_secs(30);
/// Time for an upload.
pub const UPLOAD: Duration = Duration::from_secs(15 * 60);
/// Time for a job of the server.
pub const JOB: Duration = Duration::from_secs(120);
/// How long a push waits for a server that went away to come back.
pub const AWAY: Duration = Duration::from_secs(120);
/// Largest answer that is read into memory, in bytes.
pub const MAX_ANSWER: usize = 64 * 1024 * 1024;
