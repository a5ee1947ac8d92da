//! Log-cache compatible reads.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// `GET /api/v1/info`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(rename = "LogCacheInfo"))]
pub struct Info {
    pub version: String,
    #[serde(default)]
    pub vm_uptime: String,
}

/// `GET /api/v1/read/{source}`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Read {
    pub envelopes: Batch,
}

/// The envelopes.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Batch {
    #[serde(default)]
    pub batch: Vec<Envelope>,
}

/// One envelope.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Envelope {
    /// Nanoseconds since 1970, as text.
    pub timestamp: String,
    pub source_id: String,
    pub instance_id: String,
    #[serde(default)]
    pub tags: BTreeMap<String, String>,
    pub log: Log,
}

/// A log line.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Log {
    /// Base64.
    pub payload: String,
    /// `OUT` or `ERR`.
    #[serde(rename = "type")]
    pub kind: String,
}
