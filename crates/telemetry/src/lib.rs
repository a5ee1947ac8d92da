//! What the platform says about itself and what apps say: tracing, request lines, metrics, app logs.
//!
//! [`install`] is the only place that installs a subscriber and [`Metrics::install`] the only one that installs a
//! recorder; a daemon's `main` calls each once. [`Envelope`] is one line of an app's log and [`applog::LogStore`]
//! keeps them. Nothing here decides what is worth saying.

pub mod applog;
mod chain;
mod envelope;
mod metric;
mod request;
mod subscriber;

pub use chain::chain;
pub use envelope::{Envelope, Malformed, Stream};
pub use metric::{Metrics, MetricsError};
pub use request::RequestLine;
pub use subscriber::{Format, InstallError, install};
