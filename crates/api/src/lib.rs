//! Wire contracts between programs that are deployed apart, each with its route table.
//!
//! `v3` is the public Cloud Foundry API, `paas` our additions to it, `cell` and `edge` are the feeds of cells and
//! routers. Only shapes, codes and typed clients: what a call does is the controller's.

pub mod cell;
mod controllers;
pub mod edge;
pub mod error;
pub mod machine;
#[cfg(feature = "schema")]
pub mod schema;
pub mod v3;

pub use controllers::{Controllers, InvalidControllers};

/// A route that a surface serves: method and path template with `{parameter}` segments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    /// HTTP method, upper case.
    pub method: &'static str,
    /// Path template, as axum writes it.
    pub path: &'static str,
}
