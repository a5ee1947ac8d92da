//! What happened and why: the stream of an app's events and logs, and the explanation of its present state.

mod public;
pub(crate) mod record;
mod stream;
mod why;

pub use public::routes;
pub use stream::{StreamQuery, stream};
pub use why::{Why, why};
