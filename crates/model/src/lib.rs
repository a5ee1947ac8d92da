//! Nouns and rules of the platform: typed ids, validated names, resources, work and its state machine.
//!
//! Pure: no I/O, no async, no clock, no randomness. Time and fresh ids are arguments.

pub mod canary;
pub mod digest;
pub mod health;
pub mod id;
pub mod image;
pub mod isolation;
pub mod labels;
pub mod limits;
pub mod machine;
pub mod manifest;
pub mod name;
mod origin;
pub mod quota;
pub mod resource;
pub mod routing;
pub mod secret;
pub mod security;
pub mod sidecar;
pub mod staging;
pub mod usage;
pub mod work;
pub mod yaml;

pub use digest::Digest;
pub use secret::{Secret, SecretEnv};
/// Every instant in the platform is UTC and travels as RFC 3339.
pub use time::OffsetDateTime as Timestamp;
