//! The one line that every served request leaves, whoever served it, with the same field names everywhere.

use std::time::Duration;

/// What is known of a request once it is answered.
#[derive(Debug, Clone, Default)]
pub struct RequestLine<'a> {
    /// Such as `GET`.
    pub method: &'a str,
    /// Path template such as `/v3/apps/{guid}`: never the path itself, which may hold secrets and has no bound.
    pub path: &'a str,
    /// HTTP status.
    pub status: u16,
    /// From the first byte read to the last written.
    pub duration: Duration,
    /// Of the answer's body.
    pub bytes: u64,
    /// Of `X-Request-Id`, or the one given to it.
    pub request_id: &'a str,
    /// User or client, empty for none.
    pub actor: &'a str,
    /// What [`crate::chain`] makes of the cause of a failure, empty for none.
    pub error: &'a str,
    /// Whether it comes all the time and says nothing while it succeeds, such as a machine's report.
    pub routine: bool,
}

impl RequestLine<'_> {
    /// Writes the line: at `ERROR` for statuses from 500, at `DEBUG` for routine that succeeded, else at `INFO`; and
    /// counts it.
    pub fn emit(&self) {
        let duration_ms = self.duration.as_secs_f64() * 1000.0;
        if self.status >= 500 {
            tracing::error!(
                target: "request", method = self.method, path = self.path, status = self.status, duration_ms,
                bytes = self.bytes, request_id = self.request_id, actor = self.actor, error = self.error, "request"
            );
        } else if self.routine && self.status < 400 {
            tracing::debug!(
                target: "request", method = self.method, path = self.path, status = self.status, duration_ms,
                bytes = self.bytes, request_id = self.request_id, actor = self.actor, error = self.error, "request"
            );
        } else {
            tracing::info!(
                target: "request", method = self.method, path = self.path, status = self.status, duration_ms,
                bytes = self.bytes, request_id = self.request_id, actor = self.actor, error = self.error, "request"
            );
        }
        let labels = [
            ("method", self.method.to_owned()),
            ("path", self.path.to_owned()),
            ("status", format!("{}xx", self.status / 100)),
        ];
        metrics::histogram!("paas_http_request_seconds", &labels).record(self.duration.as_secs_f64());
    }
}
