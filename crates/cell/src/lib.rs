//! The cell: runs work in sandboxes on one host, as controllers assign it, and tells them what it sees.
//!
//! `agent` takes over assignment sets and reports; `work` is one actor per piece of work; `steps` is what the actors
//! do; `cache`, `images`, `layers`, `packages` and `stack` are the trees that sandboxes are made of; `logs` ships what work
//! writes; `ledger` is what survives the agent. What runs where, and what happens after a failure, is the scheduler's.

mod account;
mod agent;
mod archives;
mod cache;
mod config;
mod core;
mod env;
mod error;
mod exec;
mod fd;
mod health;
mod images;
mod layers;
mod ledger;
mod logs;
mod packages;
mod policy;
pub mod stack;
mod stats;
mod steps;
#[cfg(test)]
mod testing;
pub mod unpack;
mod work;

pub use agent::client::Failure;
pub use agent::{Agent, run, teardown};
pub use api::Controllers;
pub use config::{Caches, Capacity, CellLimits, Config};
pub use error::Error;
