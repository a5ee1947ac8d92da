//! Sandboxes: namespaces, control groups, mounts, network and system call filter around one
//! app, with `paas-init` as its first process. Blocking and thread-safe; no async runtime.
//!
//! Not here: what to run and why (the cell), and unpacking of layers.
//!
//! ```text
//!  agent ── Runtime ──┬─ files, groups, network ──────────┐
//!                     └─ spawner (outlives the agent) ─▶ init (PID 1) ─▶ app
//!            Sandbox ◀── control socket, pidfd ───────────┘  │ log segments, exit record
//! ```
//!
//! The spawner is a small process with one thread that forks the inits, so that starting a
//! sandbox never copies the agent's memory. An init builds its world while it is still the
//! host's root, gives everything up, and from then on reaps, logs and obeys its control socket.

mod cgroup;
mod check;
mod copy;
mod disk;
mod error;
mod exec;
#[doc(hidden)]
pub mod fuzzing;
mod gauge;
mod host;
mod inside;
pub mod log;
pub mod net;
pub mod oci;
mod park;
mod record;
mod runtime;
mod sandbox;
#[doc(hidden)]
pub mod spawner;
mod spec;
mod sys;
pub mod unprivileged;
mod users;
mod wire;

pub use copy::{Copied, Copy, CopyLimits, OpenHow};
pub use error::{Error, Result};
pub use exec::Exec;
pub use park::{ParkSpec, ParkedRoot, Parking, Phase, StartReport};
pub use runtime::Runtime;
pub use sandbox::Sandbox;
pub use spec::{
    ADDRESS, Bind, Config, ExecSpec, Exit, IoLimits, IoUsage, Isolation, Limits, LogPolicy, MAX_LINE, MAX_SIDECARS,
    Network, Oom, Pressure, Process, Rlimit, RlimitKind, Sidecar, Spec, Stall, Stats,
};
pub use wire::Ended;
