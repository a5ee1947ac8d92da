//! What is counted: by route, and for the router as a whole. Plain atomics, so that a request costs a handful of
//! additions; text is made only when somebody asks.

use crate::access::Record;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

/// Upper bounds of the histogram's buckets, in microseconds; what is longer falls into one more.
const BOUNDS_US: [u64; 13] = [
    1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000, 10_000_000,
    60_000_000,
];

/// How long things took.
#[derive(Default)]
pub struct Histogram {
    buckets: [AtomicU64; BOUNDS_US.len() + 1],
    sum_us: AtomicU64,
}

impl Histogram {
    /// Counts one.
    pub fn record(&self, time: Duration) {
        let us = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        let bucket = BOUNDS_US
            .iter()
            .position(|bound| us <= *bound)
            .unwrap_or(BOUNDS_US.len());
        self.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        self.sum_us.fetch_add(us, Ordering::Relaxed);
    }

    fn write(&self, text: &mut String, name: &str, labels: &str) -> std::fmt::Result {
        let mut count = 0;
        let comma = if labels.is_empty() { "" } else { "," };
        for (bucket, bound) in self.buckets.iter().zip(BOUNDS_US) {
            count += bucket.load(Ordering::Relaxed);
            let bound = bound as f64 / 1e6;
            writeln!(text, "{name}_bucket{{{labels}{comma}le=\"{bound}\"}} {count}")?;
        }
        count += self.buckets[BOUNDS_US.len()].load(Ordering::Relaxed);
        writeln!(text, "{name}_bucket{{{labels}{comma}le=\"+Inf\"}} {count}")?;
        let sum = self.sum_us.load(Ordering::Relaxed) as f64 / 1e6;
        writeln!(text, "{name}_sum{{{labels}}} {sum}\n{name}_count{{{labels}}} {count}")
    }
}

/// Of one route.
#[derive(Default)]
pub struct RouteCounts {
    /// By the hundreds of the status; 0 is what had none.
    statuses: [AtomicU64; 6],
    received_bytes: AtomicU64,
    sent_bytes: AtomicU64,
    in_flight: AtomicI64,
    latency: Histogram,
}

impl RouteCounts {
    /// A request began.
    pub fn begin(&self) {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
    }

    /// It ended.
    pub fn end(&self, record: &Record) {
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
        let class = usize::from(record.status / 100).min(5);
        self.statuses[class].fetch_add(1, Ordering::Relaxed);
        self.received_bytes.fetch_add(record.received_bytes, Ordering::Relaxed);
        self.sent_bytes.fetch_add(record.sent_bytes, Ordering::Relaxed);
        self.latency.record(record.duration);
    }
}

/// Of the router as a whole.
#[derive(Default)]
pub struct Metrics {
    /// Connections of clients that were taken.
    pub accepted: AtomicU64,
    /// Those that were turned away because there were too many.
    pub turned_away: AtomicU64,
    /// Those that are open.
    pub open: AtomicI64,
    /// TLS handshakes that failed.
    pub handshakes_failed: AtomicU64,
    /// Requests that ended.
    pub requests: AtomicU64,
    /// Requests that the router answered in an app's place.
    pub refused: AtomicU64,
    /// Requests that were sent to another instance after one failed.
    pub retries: AtomicU64,
    /// Connections to instances that were opened.
    pub dialed: AtomicU64,
    /// Attempts at that that failed.
    pub dials_failed: AtomicU64,
    /// Records of requests that could not be kept.
    pub records_dropped: AtomicU64,
    /// Changes of the table.
    pub table_changes: AtomicU64,
    /// Revision of the table.
    pub revision: AtomicU64,
    /// How long requests took.
    pub latency: Histogram,
    /// Of which the router itself.
    pub own: Histogram,
}

/// Counts one.
pub fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

impl Metrics {
    /// A request ended.
    pub fn end(&self, record: &Record) {
        count(&self.requests);
        if record.refusal.is_some() {
            count(&self.refused);
        }
        self.latency.record(record.duration);
        if let Some(backend) = record.backend {
            self.own.record(record.duration.saturating_sub(backend));
        }
    }

    /// All of it in the text format of Prometheus.
    pub fn text(&self, table: &crate::table::Table) -> String {
        let mut text = String::new();
        // Writing to a string can't fail.
        let _ = self.write(&mut text, table);
        text
    }

    fn write(&self, text: &mut String, table: &crate::table::Table) -> std::fmt::Result {
        let counters = [
            ("router_connections_total", &self.accepted),
            ("router_connections_turned_away_total", &self.turned_away),
            ("router_tls_handshakes_failed_total", &self.handshakes_failed),
            ("router_requests_total", &self.requests),
            ("router_refusals_total", &self.refused),
            ("router_retries_total", &self.retries),
            ("router_dials_total", &self.dialed),
            ("router_dials_failed_total", &self.dials_failed),
            ("router_access_lines_dropped_total", &self.records_dropped),
            ("router_table_changes_total", &self.table_changes),
        ];
        for (name, counter) in counters {
            let value = counter.load(Ordering::Relaxed);
            writeln!(text, "# TYPE {name} counter\n{name} {value}")?;
        }
        let gauges = [
            (
                "router_connections",
                self.open.load(Ordering::Relaxed).max(0).unsigned_abs(),
            ),
            ("router_table_revision", self.revision.load(Ordering::Relaxed)),
            ("router_hosts", table.hosts() as u64),
        ];
        for (name, value) in gauges {
            writeln!(text, "# TYPE {name} gauge\n{name} {value}")?;
        }
        for (name, histogram) in [
            ("router_latency_seconds", &self.latency),
            ("router_own_latency_seconds", &self.own),
        ] {
            writeln!(text, "# TYPE {name} histogram")?;
            histogram.write(text, name, "")?;
        }
        write_routes(text, table)
    }
}

type Get = fn(&RouteCounts) -> &AtomicU64;

fn write_routes(text: &mut String, table: &crate::table::Table) -> std::fmt::Result {
    let routes = table.counted();
    let counts = || {
        routes.iter().filter_map(|route| {
            // Hosts and paths have neither quotes nor backslashes: controllers check names.
            let labels = format!("route=\"{}\",host=\"{}{}\"", route.id, route.key.host, route.key.path);
            Some((labels, route.counted()?))
        })
    };
    writeln!(text, "# TYPE router_route_requests_total counter")?;
    for (labels, counts) in counts() {
        for (class, counter) in counts.statuses.iter().enumerate() {
            let value = counter.load(Ordering::Relaxed);
            if value > 0 {
                writeln!(
                    text,
                    "router_route_requests_total{{{labels},status=\"{class}xx\"}} {value}"
                )?;
            }
        }
    }
    let bytes: [(&str, Get); 2] = [
        ("router_route_received_bytes_total", |counts| &counts.received_bytes),
        ("router_route_sent_bytes_total", |counts| &counts.sent_bytes),
    ];
    for (name, get) in bytes {
        writeln!(text, "# TYPE {name} counter")?;
        for (labels, counts) in counts() {
            writeln!(text, "{name}{{{labels}}} {}", get(counts).load(Ordering::Relaxed))?;
        }
    }
    writeln!(text, "# TYPE router_route_requests_in_flight gauge")?;
    for (labels, counts) in counts() {
        let value = counts.in_flight.load(Ordering::Relaxed).max(0);
        writeln!(text, "router_route_requests_in_flight{{{labels}}} {value}")?;
    }
    writeln!(text, "# TYPE router_route_latency_seconds histogram")?;
    for (labels, counts) in counts() {
        counts.latency.write(text, "router_route_latency_seconds", &labels)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_histogram_counts_up_to_each_bound() {
        let histogram = Histogram::default();
        for ms in [0, 1, 2, 70_000] {
            histogram.record(Duration::from_millis(ms));
        }
        let mut text = String::new();
        histogram.write(&mut text, "h", "a=\"b\"").expect("a string");
        assert!(text.contains("h_bucket{a=\"b\",le=\"0.001\"} 2\n"), "{text}");
        assert!(text.contains("h_bucket{a=\"b\",le=\"60\"} 3\n"), "{text}");
        assert!(text.contains("h_bucket{a=\"b\",le=\"+Inf\"} 4\n"), "{text}");
        assert!(text.ends_with("h_count{a=\"b\"} 4\n"), "{text}");
    }
}
