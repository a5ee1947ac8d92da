//! The sandbox suite: real sandboxes on this machine, judged from inside by a probe and from
//! outside by what is left. Needs root.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on is a failed test")]

mod churn;
mod cold;
mod confine;
mod copy;
mod crashes;
mod escapes;
mod isolation;
mod kit;
mod lifecycle;
mod limits;
mod logs;
#[path = "../src/machine.rs"]
mod machine;
mod network;
mod parked;
mod resources;
mod sidecars;
mod timing;
