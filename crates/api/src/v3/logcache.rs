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

/// `GET /api/v1/meta`: what there is of each source that the caller may read.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(rename = "LogCacheMeta"))]
pub struct Meta {
    /// By id of the source.
    pub meta: BTreeMap<String, MetaInfo>,
}

/// What there is of a source. Numbers are texts.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct MetaInfo {
    /// Envelopes that can be read.
    pub count: String,
    /// Envelopes that went.
    pub expired: String,
    /// Nanoseconds since 1970.
    pub oldest_timestamp: String,
    pub newest_timestamp: String,
}

/// `GET /api/v1/query`, as Prometheus answers.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct QueryAnswer {
    /// `success`.
    pub status: String,
    pub data: QueryData,
}

/// The samples.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct QueryData {
    /// `vector`.
    #[serde(rename = "resultType")]
    pub result_type: String,
    pub result: Vec<Sample>,
}

/// One value.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Sample {
    pub metric: BTreeMap<String, String>,
    /// Seconds since 1970, and the value as text.
    pub value: Vec<serde_json::Value>,
}

/// Why a query has no answer, as Prometheus says it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct QueryError {
    /// `error`
    pub status: String,
    /// `bad_data`
    #[serde(rename = "errorType")]
    pub error_type: String,
    /// What is wrong with it.
    pub error: String,
}
