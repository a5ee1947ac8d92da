//! The sandbox as the Open Container Initiative knows it: its runtime specification made from ours (`translate`), and
//! a runtime for any bundle, usable by hand (`cli`).
//!
//! ```text
//!  cli ─▶ lifecycle ─▶ config, state, groups, limits, hooks
//!             └─▶ birth ◀── socket ──▶ container (a process of its own) ─▶ program
//! ```
//! Mechanisms are those of the platform's own sandboxes: the same mounts by descriptor, masks, filter emitter and
//! control group files. What the platform has besides (private layers, networks, logs) is not for bundles.

mod birth;
mod capabilities;
pub mod cli;
pub mod config;
mod console;
mod container;
mod descriptors;
mod devices;
mod error;
mod exec;
mod features;
pub mod filter;
mod groups;
mod hooks;
mod lifecycle;
mod limits;
mod link;
mod listener;
mod more;
mod options;
mod plan;
mod profile;
mod run;
mod state;
mod template;
mod translate;

pub use error::{Error, Result};
pub use lifecycle::{Containers, Creation};
pub use translate::{Place, from_spec};
