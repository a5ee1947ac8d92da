//! The conformance suite: the public cases for OCI runtimes, run on ours, runc and crun alike, judged from inside by a
//! probe and from outside by state and files. Needs root, runc and crun.
//!
//! A case is named after the public one: those of the runtime-tools' validation programs, those of youki's contest, and
//! further ones of our own. What both others can do ours must. `cargo xtask conformance` makes the table of it.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on is a failed test")]

#[macro_use]
mod judge;
mod expect;
mod kit;
mod seen;

mod cgroups;
mod contest;
mod further;
mod hooks;
mod lifecycle;
mod namespaces;
mod process;
mod recursive;
mod root;
mod running;
