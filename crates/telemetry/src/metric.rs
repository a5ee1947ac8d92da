//! The process's one metrics recorder and its text for Prometheus. Metrics themselves are named where they are counted.

use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};

/// Bounds of every duration, in seconds.
const SECONDS: [f64; 14] = [
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
];

/// The installed recorder.
#[derive(Debug, Clone)]
pub struct Metrics(PrometheusHandle);

/// Why no recorder was installed.
#[derive(Debug, thiserror::Error)]
#[error("failed to install the metrics recorder")]
pub struct MetricsError(#[source] BuildError);

impl Metrics {
    /// Installs the recorder for this process. Names ending in `_seconds` become histograms of fixed buckets.
    ///
    /// # Errors
    /// There is one already.
    pub fn install() -> Result<Self, MetricsError> {
        let builder = PrometheusBuilder::new();
        let builder = builder.set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS);
        builder
            .and_then(PrometheusBuilder::install_recorder)
            .map(Self)
            .map_err(MetricsError)
    }

    /// Everything recorded so far, in the text format of Prometheus.
    #[must_use]
    pub fn render(&self) -> String {
        // Drains samples into their buckets, so that what nobody scrapes for long does not pile up at once.
        self.0.run_upkeep();
        self.0.render()
    }

    /// To be called every few seconds where nobody may scrape: bounds what unread samples occupy.
    pub fn upkeep(&self) {
        self.0.run_upkeep();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::RequestLine;
    use std::time::Duration;

    #[test]
    fn renders_what_was_counted() {
        let recorder = Metrics::install().unwrap();
        assert!(Metrics::install().is_err(), "only once");
        let line = RequestLine {
            method: "GET",
            path: "/v3/apps",
            status: 204,
            ..RequestLine::default()
        };
        RequestLine {
            duration: Duration::from_millis(3),
            ..line
        }
        .emit();
        let text = recorder.render();
        let bucket = r#"paas_http_request_seconds_bucket{method="GET",path="/v3/apps",status="2xx",le="0.005"} 1"#;
        assert!(text.contains(bucket), "{text}");
    }
}
