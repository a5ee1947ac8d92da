//! What happened and why: the stream of an app's events and logs, and the explanation of its present state.

mod builds;
mod public;
pub(crate) mod record;
mod stream;
mod why;

pub use builds::{History, history};
pub use public::routes;
pub use stream::{StreamQuery, stream};
pub use why::{Why, why};
