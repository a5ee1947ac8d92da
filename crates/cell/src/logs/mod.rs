//! Ships what work writes, in order, to the controller: from the log folder of each sandbox, past agents' restarts.
//!
//! ```text
//!  init ─▶ segments ─inotify─▶ [follower: mark] ─▶ batch ─▶ controller ─ 204 ─▶ mark on disk
//! ```
//! One batch is under way at a time and is sent again until it is taken, so lines keep their order. A mark moves only
//! after that; what is sent twice around a crash has the same timestamps. Nothing is held in memory but one batch: what
//! waits, waits in the segments, whose size is bounded. At the end of a sandbox its folder is taken out of it, so a
//! controller that is away keeps no sandbox alive.

mod follower;
mod shipper;
mod watch;

pub(crate) use follower::Source;
pub(crate) use shipper::{Logs, Shipper};
