//! Load by wrk on one proxy, and what it cost.

use crate::contender::Contender;
use crate::feed::HOST;
use serde_json::{Value, json};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

/// Connections at once.
const CONNECTIONS: &str = "64";
/// What wrk prints at the end: requests, errors, and latencies in microseconds.
const SCRIPT: &str = "done = function(summary, latency, requests)\n\
    local e = summary.errors\n\
    io.write(string.format('FIGURES %d %d %d %d %d %d\\n', summary.requests, summary.duration,\n\
    e.connect + e.read + e.write + e.status + e.timeout, latency:percentile(50), latency:percentile(99),\n\
    latency:percentile(99.9)))\nend\n";

/// What one run took.
#[derive(Debug, Clone, Copy, Default)]
pub struct Figures {
    cpu_us: f64,
    rps: f64,
    errors: f64,
    p50_ms: f64,
    p99_ms: f64,
    p999_ms: f64,
}

impl Figures {
    /// Of several runs, each figure's own.
    pub fn median(runs: Vec<Self>) -> Self {
        let of = |get: fn(&Self) -> f64| {
            let mut all: Vec<f64> = runs.iter().map(get).collect();
            all.sort_by(f64::total_cmp);
            all[all.len() / 2]
        };
        Self {
            cpu_us: of(|f| f.cpu_us),
            rps: of(|f| f.rps),
            errors: runs.iter().map(|f| f.errors).sum(),
            p50_ms: of(|f| f.p50_ms),
            p99_ms: of(|f| f.p99_ms),
            p999_ms: of(|f| f.p999_ms),
        }
    }

    /// For programs.
    pub fn json(&self) -> Value {
        json!({"cpu_us": self.cpu_us, "rps": self.rps, "errors": self.errors, "p50_ms": self.p50_ms,
            "p99_ms": self.p99_ms, "p999_ms": self.p999_ms})
    }
}

impl std::fmt::Display for Figures {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{:8.1} us CPU {:8.0} rps  p50 {:6.2} p99 {:6.2} p99.9 {:6.2} ms, {} errors",
            self.cpu_us, self.rps, self.p50_ms, self.p99_ms, self.p999_ms, self.errors
        )
    }
}

/// Loads a proxy for a while.
pub async fn run(contender: &Contender, path: &str, tls: bool, time: Duration, folder: &Path) -> Figures {
    let script = folder.join("wrk.lua");
    std::fs::write(&script, SCRIPT).expect("written");
    let (scheme, port) = if tls {
        ("https", contender.tls_port)
    } else {
        ("http", contender.port)
    };
    let before = contender.cpu();
    let output = tokio::process::Command::new("wrk")
        .args(["-t1", "-c", CONNECTIONS, "-d", &format!("{}s", time.as_secs()), "-s"])
        .arg(&script)
        .args(["-H", &format!("Host: {HOST}")])
        .arg(format!("{scheme}://127.0.0.1:{port}{path}"))
        .stderr(Stdio::inherit())
        .output()
        .await
        .expect("wrk is installed");
    let cpu = contender.cpu() - before;
    let text = String::from_utf8_lossy(&output.stdout);
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("FIGURES "))
        .expect("wrk ended well");
    let numbers: Vec<f64> = line.split(' ').map(|word| word.parse().expect("a number")).collect();
    let [requests, duration_us, errors, p50, p99, p999] = numbers[..] else {
        panic!("{line}");
    };
    Figures {
        cpu_us: cpu.as_secs_f64() * 1e6 / requests.max(1.0),
        rps: requests / duration_us * 1e6,
        errors,
        p50_ms: p50 / 1e3,
        p99_ms: p99 / 1e3,
        p999_ms: p999 / 1e3,
    }
}
