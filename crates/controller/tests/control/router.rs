//! A fake router that speaks the real feed: it keeps a table, acknowledges it, and pretends to have requests in flight.

use crate::platform::TOKEN;
use api::edge::{ACK, Ack, FEED, RouteEntry, RouteKey, Table};
use futures_util::StreamExt as _;
use model::id::WorkId;
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use uuid::Uuid;

#[derive(Default)]
pub struct Seen {
    table: BTreeMap<RouteKey, RouteEntry>,
    revision: u64,
    /// Requests that are in flight whatever the table says.
    pub in_flight: HashSet<WorkId>,
    /// Each set of endpoints that the table ever had.
    pub past: Vec<BTreeSet<WorkId>>,
    /// Whether tables are taken over without a word.
    pub mute: bool,
}

pub struct FakeRouter {
    pub id: Uuid,
    url: String,
    pub seen: Arc<Mutex<Seen>>,
    pub changed: Arc<Notify>,
    task: Option<tokio::task::JoinHandle<()>>,
}

impl FakeRouter {
    pub fn join(url: &str) -> Self {
        let mut router = Self {
            id: Uuid::now_v7(),
            url: url.to_owned(),
            seen: Arc::default(),
            changed: Arc::default(),
            task: None,
        };
        router.connect();
        router
    }

    pub fn connect(&mut self) {
        let (url, seen, changed, id) = (self.url.clone(), self.seen.clone(), self.changed.clone(), self.id);
        self.task = Some(tokio::spawn(async move {
            loop {
                let _ = run(&url, id, &seen, &changed).await;
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }));
    }

    pub fn leave(&mut self) {
        if let Some(task) = self.task.take() {
            task.abort();
        }
    }

    pub fn endpoints(&self) -> BTreeSet<WorkId> {
        self.seen.lock().endpoints()
    }

    /// Requests of `work` are over; says so.
    pub fn finish(&self, work: WorkId) {
        self.seen.lock().in_flight.remove(&work);
        self.changed.notify_one();
    }
}

impl Drop for FakeRouter {
    fn drop(&mut self) {
        self.leave();
    }
}

impl Seen {
    fn endpoints(&self) -> BTreeSet<WorkId> {
        self.table
            .values()
            .flat_map(|entry| entry.endpoints.iter().map(|endpoint| endpoint.work))
            .collect()
    }

    fn apply(&mut self, table: Table) -> Result<bool, Broken> {
        match table {
            Table::Ping => return Ok(false),
            Table::Snapshot { revision, routes } => {
                self.table = routes.into_iter().map(|entry| (entry.key.clone(), entry)).collect();
                self.revision = revision;
            }
            Table::Delta {
                revision,
                base,
                upserts,
                removes,
            } => {
                if base != self.revision {
                    return Err(format!("a delta for {base} met {}", self.revision).into());
                }
                for key in removes {
                    self.table.remove(&key);
                }
                self.table
                    .extend(upserts.into_iter().map(|entry| (entry.key.clone(), entry)));
                self.revision = revision;
            }
        }
        let endpoints = self.endpoints();
        self.past.push(endpoints);
        Ok(true)
    }

    fn ack(&self) -> Ack {
        let endpoints = self.endpoints();
        let draining = self
            .in_flight
            .iter()
            .filter(|work| !endpoints.contains(work))
            .copied()
            .collect();
        Ack {
            revision: self.revision,
            draining,
        }
    }
}

type Broken = Box<dyn std::error::Error + Send + Sync>;

async fn run(url: &str, id: Uuid, seen: &Mutex<Seen>, changed: &Notify) -> Result<(), Broken> {
    let http = crate::platform::http();
    let path = |route: api::Route| format!("{url}{}", route.path.replace("{router}", &id.to_string()));
    let feed = http
        .get(path(FEED))
        .bearer_auth(TOKEN)
        .send()
        .await?
        .error_for_status()?;
    let mut bytes = feed.bytes_stream();
    let mut buffer = Vec::new();
    loop {
        let mut news = false;
        tokio::select! {
            chunk = bytes.next() => {
                buffer.extend_from_slice(&chunk.ok_or("the feed ended")??);
                while let Some(end) = buffer.iter().position(|byte| *byte == b'\n') {
                    let line: Vec<u8> = buffer.drain(..=end).collect();
                    news |= seen.lock().apply(serde_json::from_slice(&line)?)?;
                }
            }
            () = changed.notified() => news = true,
        }
        let (ack, mute) = {
            let seen = seen.lock();
            (seen.ack(), seen.mute)
        };
        if news && !mute {
            http.post(path(ACK))
                .bearer_auth(TOKEN)
                .json(&ack)
                .send()
                .await?
                .error_for_status()?;
        }
    }
}
