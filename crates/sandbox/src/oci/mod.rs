//! The sandbox as the Open Container Initiative knows it: its runtime specification made from ours
//! (`translate`), as a pure function.

mod profile;
mod translate;

pub use translate::{Place, from_spec};
