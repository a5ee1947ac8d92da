//! One record per request: into a file where one is set, and into the app's log as source `RTR`.
//!
//! Recording never holds a request up: beyond `QUEUE` records under way they are dropped and counted.

mod file;
mod line;

pub use line::{Record, Served};

use crate::Config;
use crate::metrics::{Metrics, count};
use api::cell::{LogBatch, LogLine};
use model::id::WorkId;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// What of a request's target stands in its line.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Query {
    /// All of it.
    #[default]
    Keep,
    /// The path, but not the query, which may hold secrets.
    Redact,
}

/// How requests are recorded.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// A file that every line is added to. One that was renamed is begun anew.
    pub file: Option<PathBuf>,
    /// What of a request's target stands in its line.
    pub query: Query,
}

/// Records under way from the workers.
const QUEUE: usize = 65_536;
/// Lines sent to the controller at once.
const BATCH: usize = 1_000;
/// Longest wait for the controller to take a batch; a batch that fails is dropped and counted.
const SEND_TIMEOUT: Duration = Duration::from_secs(5);
/// How long lines are collected before they are sent.
const LINGER: Duration = Duration::from_millis(100);

/// Where workers put records.
#[derive(Clone)]
pub struct Access {
    records: mpsc::Sender<Record>,
    metrics: Arc<Metrics>,
}

/// Where they come out.
pub struct Sink {
    records: mpsc::Receiver<Record>,
    metrics: Arc<Metrics>,
}

/// A queue for records.
pub fn channel(metrics: &Arc<Metrics>) -> (Access, Sink) {
    let (sender, records) = mpsc::channel(QUEUE);
    let access = Access {
        records: sender,
        metrics: Arc::clone(metrics),
    };
    let metrics = Arc::clone(metrics);
    (access, Sink { records, metrics })
}

impl Access {
    /// Records a request that has ended.
    pub fn record(&self, record: Record) {
        if self.records.try_send(record).is_err() {
            count(&self.metrics.records_dropped);
        }
    }
}

/// Delivers records until `shutdown`, or until the last worker is gone.
pub async fn deliver(mut sink: Sink, client: reqwest::Client, config: Config, shutdown: CancellationToken) {
    let mut batch = Vec::with_capacity(BATCH);
    let (mut last_ns, mut dropped) = (0, 0);
    let mut file = config.access.file.clone().map(file::LogFile::new);
    loop {
        let received = tokio::select! {
            () = shutdown.cancelled() => return,
            received = sink.records.recv_many(&mut batch, BATCH) => received,
        };
        if received == 0 {
            return;
        }
        if batch.len() < BATCH {
            tokio::time::sleep(LINGER).await;
            while batch.len() < BATCH
                && let Ok(record) = sink.records.try_recv()
            {
                batch.push(record);
            }
        }
        let lines = texts(&config, &batch);
        if let Some(file) = &mut file {
            file.append(&lines).await;
        }
        let lines: Vec<_> = batch
            .drain(..)
            .zip(lines)
            .filter_map(|(record, line)| for_app(&config, &record, line, &mut last_ns))
            .collect();
        if !lines.is_empty() {
            send(&client, &config, LogBatch { lines }, &sink.metrics.records_dropped).await;
        }
        let sum = sink.metrics.records_dropped.load(Ordering::Relaxed);
        if sum > dropped {
            tracing::warn!(dropped = sum - dropped, "access lines were dropped");
            dropped = sum;
        }
    }
}

fn texts(config: &Config, records: &[Record]) -> Vec<String> {
    records
        .iter()
        .map(|record| {
            let line = record.line(config.access.query);
            tracing::debug!(target: "access", request_id = %record.request_id, "{line}");
            line
        })
        .collect()
}

/// The line in the app's log, where an instance answered.
fn for_app(config: &Config, record: &Record, text: String, last_ns: &mut i64) -> Option<LogLine> {
    let served = record.served_by?;
    // A line is known by its time, so two never share one.
    let ended = record.at + record.duration;
    *last_ns = i64::try_from(ended.unix_timestamp_nanos())
        .unwrap_or(i64::MAX)
        .max(*last_ns + 1);
    Some(LogLine {
        work: WorkId(config.id),
        app: served.app,
        ts_ns: *last_ns,
        source_type: "RTR".to_owned(),
        instance: served.index.to_string(),
        err: false,
        text,
    })
}

async fn send(client: &reqwest::Client, config: &Config, batch: LogBatch, dropped: &AtomicU64) {
    let path = api::edge::LOGS.path.replace("{router}", &config.id.to_string());
    let request = client.post(format!("{}{path}", config.controllers.current().1));
    let sent = config
        .proof
        .request(request)
        .timeout(SEND_TIMEOUT)
        .json(&batch)
        .send()
        .await
        .and_then(reqwest::Response::error_for_status);
    if let Err(error) = sent {
        tracing::debug!(lines = batch.lines.len(), %error, "failed to deliver access lines");
        dropped.fetch_add(batch.lines.len() as u64, Ordering::Relaxed);
    }
}
