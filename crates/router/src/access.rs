//! One record per request: into the router's own log, and into the app's log as source `RTR`.
//!
//! Recording never holds a request up: beyond `QUEUE` records under way they are dropped and counted.

use crate::Config;
use api::cell::{LogBatch, LogLine};
use model::id::{AppId, WorkId};
use std::net::{IpAddr, SocketAddrV4};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// Records under way from the workers.
const QUEUE: usize = 65_536;
/// Lines sent to the controller at once.
const BATCH: usize = 1_000;
/// Longest wait for the controller to take a batch; a batch that fails is dropped and counted.
const SEND_TIMEOUT: Duration = Duration::from_secs(5);
/// How long lines are collected before they are sent.
const LINGER: Duration = Duration::from_millis(100);

/// A request that has ended.
#[derive(Debug, Clone)]
pub struct Record {
    /// When it came.
    pub at: OffsetDateTime,
    /// As the client named it.
    pub host: String,
    /// Its method.
    pub method: http::Method,
    /// Path and query.
    pub path: String,
    /// The client's address.
    pub client: IpAddr,
    /// Named to app and client.
    pub request_id: Uuid,
    /// Status that the client got.
    pub status: u16,
    /// Body bytes sent to the client.
    pub sent_bytes: u64,
    /// From the first byte of the head to the last of the response.
    pub duration: Duration,
    /// Instances tried.
    pub attempts: u32,
    /// Why the router answered in the app's place.
    pub refusal: Option<&'static str>,
    /// The instance that answered.
    pub served_by: Option<(AppId, WorkId, u32, SocketAddrV4)>,
}

impl Record {
    /// The line as it stands in the app's log.
    fn line(&self) -> String {
        let at = self.at.format(&Rfc3339).unwrap_or_default();
        let (work, index, backend) = match &self.served_by {
            Some((_, work, index, backend)) => (work.to_string(), index.to_string(), backend.to_string()),
            None => Default::default(),
        };
        format!(
            "{} - [{at}] \"{} {} HTTP/1.1\" {} {} \"{}\" \"{backend}\" vcap_request_id:\"{}\" response_time:{:.6} \
             app_index:\"{index}\" instance_id:\"{work}\" attempts:{} x_cf_routererror:\"{}\"",
            self.host,
            self.method,
            self.path,
            self.status,
            self.sent_bytes,
            self.client,
            self.request_id,
            self.duration.as_secs_f64(),
            self.attempts,
            self.refusal.unwrap_or("-"),
        )
    }
}

/// Where workers put records.
#[derive(Clone)]
pub struct Access {
    records: mpsc::Sender<Record>,
    dropped: Arc<AtomicU64>,
}

/// Where they come out.
pub struct Sink {
    records: mpsc::Receiver<Record>,
    dropped: Arc<AtomicU64>,
}

/// A queue for records.
pub fn channel() -> (Access, Sink) {
    let (sender, records) = mpsc::channel(QUEUE);
    let dropped = Arc::new(AtomicU64::new(0));
    (
        Access {
            records: sender,
            dropped: Arc::clone(&dropped),
        },
        Sink { records, dropped },
    )
}

impl Access {
    /// Records a request that has ended.
    pub fn record(&self, record: Record) {
        if self.records.try_send(record).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Delivers records until `shutdown`, or until the last worker is gone.
pub async fn deliver(mut sink: Sink, client: reqwest::Client, config: Config, shutdown: CancellationToken) {
    let mut batch = Vec::with_capacity(BATCH);
    let mut last_ns = 0;
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
        let lines: Vec<_> = batch
            .drain(..)
            .filter_map(|record| log(&config, &record, &mut last_ns))
            .collect();
        if !lines.is_empty() {
            send(&client, &config, LogBatch { lines }, &sink.dropped).await;
        }
        let dropped = sink.dropped.swap(0, Ordering::Relaxed);
        if dropped > 0 {
            tracing::warn!(dropped, "access lines were dropped");
        }
    }
}

/// Writes the router's own line; the app's, where an instance answered.
fn log(config: &Config, record: &Record, last_ns: &mut i64) -> Option<LogLine> {
    tracing::debug!(
        http.host = record.host,
        http.method = %record.method,
        http.status = record.status,
        duration_ms = record.duration.as_secs_f64() * 1e3,
        sent_bytes = record.sent_bytes,
        request_id = %record.request_id,
        client = %record.client,
        attempts = record.attempts,
        refusal = record.refusal,
        "request"
    );
    let (app, _, index, _) = record.served_by?;
    // A line is known by its time, so two never share one.
    let ended = record.at + record.duration;
    *last_ns = i64::try_from(ended.unix_timestamp_nanos())
        .unwrap_or(i64::MAX)
        .max(*last_ns + 1);
    Some(LogLine {
        work: WorkId(config.id),
        app,
        ts_ns: *last_ns,
        source_type: "RTR".to_owned(),
        instance: index.to_string(),
        err: false,
        text: record.line(),
    })
}

async fn send(client: &reqwest::Client, config: &Config, batch: LogBatch, dropped: &AtomicU64) {
    let path = api::edge::LOGS.path.replace("{router}", &config.id.to_string());
    let sent = client
        .post(format!("{}{path}", config.controllers.current().1))
        .bearer_auth(config.machine_token.expose())
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
