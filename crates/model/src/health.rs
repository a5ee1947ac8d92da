//! How an instance's health is found out. Only the description; the cell does the asking.

use serde::{Deserialize, Serialize};

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum Probe {
    /// A TCP connection to the app's port is accepted.
    Port,
    /// `GET` of the path on the app's port is answered with 200.
    Http {
        /// Path and query, beginning with `/`.
        endpoint: String,
    },
    /// The process is alive.
    Process,
}

/// A health check with its times, in seconds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthCheck {
    /// What is asked.
    #[serde(flatten)]
    pub probe: Probe,
    /// How long a new instance may take to become healthy. 1 to 600.
    pub start_timeout_seconds: u32,
    /// How long one answer may take. At least 1.
    pub invocation_timeout_seconds: u32,
    /// Time between checks of a healthy instance.
    pub interval_seconds: u32,
}

impl Default for HealthCheck {
    fn default() -> Self {
        Self {
            probe: Probe::Port,
            start_timeout_seconds: 60,
            invocation_timeout_seconds: 1,
            interval_seconds: 30,
        }
    }
}
