//! The spawner: a small process with one thread that forks the inits and outlives the agent.
//!
//! It knows next to nothing: it never sees what is to be run (that is in a memfd for the
//! init), it keeps the private layer's descriptor and the exit status of each init for an
//! agent that comes back. If it dies, sandboxes go on; the next start makes a new one.

mod client;
mod server;
mod spares;

pub(crate) use client::Client;
pub use server::serve;

/// Its socket in the state folder.
const SOCKET: &str = "spawner.sock";
/// What it says goes there.
const LOG: &str = "spawner.log";
