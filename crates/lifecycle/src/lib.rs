//! The buildpack lifecycle: what runs inside a staging sandbox to turn source into layers, and inside an app sandbox to start
//! a process of the result. Everything it touches on disk comes from [`Paths`], so all of it also runs on a plain host.
//!
//! Not here: fetching packages and buildpacks, storing layers, sandboxing. Those are the cell's.

pub mod build;
pub mod classic;
pub mod cnb;
pub mod disk;
pub mod errors;
pub mod export;
#[doc(hidden)]
pub mod fuzzing;
pub mod image;
pub mod launch;
pub mod metadata;
pub mod paths;
pub mod procfile;
pub mod runner;
pub mod session;
pub mod source;
#[cfg(feature = "testing")]
pub mod testing;
pub mod ui;

pub use errors::Error;
pub use paths::Paths;

/// Result of every fallible operation of this crate.
pub type Result<T> = std::result::Result<T, Error>;
