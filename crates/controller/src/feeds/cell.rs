//! A cell joins, and hears what it is to run.

use super::{line, lines};
use crate::Control;
use crate::error::Failure;
use crate::machines::Known;
use api::cell::{Down, Registered};
use api::error::Code;
use axum::extract::{Path, State};
use axum::response::Response;
use axum::{Extension, Json};
use bytes::Bytes;
use model::id::CellId;
use model::resource::CellInfo;
use model::security::Policies;
use model::work::Assignment;
use std::time::Duration;
use store::Topic;
use tokio::sync::mpsc;

/// Messages to a cell that wait for its feed.
const DOWN_QUEUE: usize = 64;
/// Pause before the set is read again after the database failed.
const RETRY: Duration = Duration::from_millis(500);
/// The largest host that is believed in: 64 TiB of memory, an EiB of disk.
const MAX_MEMORY_MB: u64 = 64 << 20;
const MAX_DISK_MB: u64 = 1 << 40;
const MAX_CPUS: u32 = 16_384;
const MAX_WORK: u32 = 100_000;
/// Longest name of a cell, a zone or a tag, and most tags and stacks.
const MAX_TEXT: usize = 255;
const MAX_ENTRIES: usize = 256;

/// `POST /cell/v1/cells/{cell}/register`.
pub(super) async fn register(
    State(control): State<Control>,
    Path(cell): Path<CellId>,
    known: Option<Extension<Known>>,
    Json(info): Json<CellInfo>,
) -> Result<Json<Registered>, Failure> {
    if info.id != cell {
        return Err(Failure::new(
            Code::UnprocessableEntity,
            "the cell's id is not the one in the path",
        ));
    }
    let texts = [&info.name, &info.zone, &info.version]
        .into_iter()
        .chain(&info.tags)
        .chain(&info.isolation);
    let entries = info.tags.len().max(info.stacks.len()).max(info.isolation.len());
    if entries > MAX_ENTRIES || texts.into_iter().any(|text| text.len() > MAX_TEXT * 4) {
        return Err(Failure::new(
            Code::UnprocessableEntity,
            "the cell's description is too long",
        ));
    }
    believable(&info, known.and_then(|known| known.max_memory_mb))?;
    let turn = control.cells.turn(cell);
    let _turn = turn.lock().await;
    let now = control.context.now();
    let lease_until = now + control.timing.cell_lease;
    let tx = control.context.store.begin().await.map_err(Failure::from)?;
    tx.cell_register(&info, now, lease_until).await.map_err(Failure::from)?;
    tx.commit().await.map_err(Failure::from)?;
    control.cells.registered(cell, lease_until);
    tracing::info!(cell.id = %cell, cell.name = info.name, memory_mb = info.memory_mb, "a cell joined");
    Ok(Json(Registered {
        lease_ms: millis(control.timing.cell_lease),
        heartbeat_ms: millis(control.timing.cell_heartbeat),
    }))
}

/// Refuses what no host has, and more memory than an operator allowed the cell when it joined.
fn believable(info: &CellInfo, max_memory_mb: Option<u64>) -> Result<(), Failure> {
    let most = max_memory_mb.unwrap_or(MAX_MEMORY_MB).min(MAX_MEMORY_MB);
    let holds =
        info.memory_mb <= most && info.disk_mb <= MAX_DISK_MB && info.cpus <= MAX_CPUS && info.max_work <= MAX_WORK;
    if holds {
        return Ok(());
    }
    tracing::warn!(
        cell.id = %info.id, cell.name = info.name, memory_mb = info.memory_mb, disk_mb = info.disk_mb,
        cpus = info.cpus, max_work = info.max_work, most_memory_mb = most,
        "a cell was refused: it offers more than it may"
    );
    Err(Failure::new(
        Code::UnprocessableEntity,
        format!("the cell offers more than is believed of it, or more than the {most} MiB that it may"),
    ))
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// `GET /cell/v1/cells/{cell}/feed`.
pub(super) async fn feed(State(control): State<Control>, Path(cell): Path<CellId>) -> Result<Response, Failure> {
    let known = control.context.store.cell_fetch(cell).await.map_err(Failure::from)?;
    if known.is_none() {
        return Err(Failure::not_found("Cell"));
    }
    let (out, response) = lines();
    tokio::spawn(async move {
        let (sender, down) = mpsc::channel(DOWN_QUEUE);
        let number = control.cells.feed_opened(cell, sender);
        Feed {
            control: control.clone(),
            cell,
            out,
            sent: None,
            policies: None,
            policies_due: true,
        }
        .run(down)
        .await;
        control.cells.feed_closed(cell, number);
    });
    Ok(response)
}

struct Feed {
    control: Control,
    cell: CellId,
    out: mpsc::Sender<Bytes>,
    sent: Option<u64>,
    /// As they were sent last.
    policies: Option<Policies>,
    /// Whether they may have changed.
    policies_due: bool,
}

impl Feed {
    /// Sends the whole set whenever its revision moves, and what is to be said at once.
    async fn run(mut self, mut down: mpsc::Receiver<Down>) {
        let mut topics = self.control.context.store.subscribe();
        let term = self.control.lead.term();
        loop {
            let pause = match self.news().await {
                Ok(true) => self.control.timing.ping,
                Ok(false) => return,
                Err(error) => {
                    tracing::warn!(cause = telemetry::chain(&error), cell.id = %self.cell, "failed to read a cell's set");
                    RETRY
                }
            };
            loop {
                let message = tokio::select! {
                    () = term.cancelled() => return,
                    () = self.out.closed() => return,
                    topic = topics.next() => match topic {
                        Some(Topic::Work(cell)) if cell == self.cell => break,
                        Some(Topic::Security | Topic::Resync) => {
                            self.policies_due = true;
                            break;
                        }
                        Some(_) => continue,
                        None => return,
                    },
                    // A newer feed of the same cell took over.
                    message = down.recv() => match message {
                        Some(message) => message,
                        None => return,
                    },
                    () = tokio::time::sleep(pause) => {
                        if pause == RETRY {
                            break;
                        }
                        if !self.control.lead.is_here() {
                            return;
                        }
                        Down::Ping
                    }
                };
                if !self.send(&message).await {
                    return;
                }
            }
        }
    }

    /// Sends what is newer than what was sent: policies first, so that no work is taken on under older ones. False: the
    /// feed is over.
    async fn news(&mut self) -> store::Result<bool> {
        let assignments = match self.assignments().await? {
            Some(assignments) => assignments,
            None => return Ok(false),
        };
        // Read after the set: the spaces of all its work are in them.
        if self.policies_due || assignments.is_some() {
            let policies = self.control.context.store.security_policies(self.cell).await?;
            self.policies_due = false;
            if self.policies.as_ref() != Some(&policies) {
                self.policies = Some(policies.clone());
                if !self.send(&Down::Policies { policies }).await {
                    return Ok(false);
                }
            }
        }
        match assignments {
            Some((revision, assignments)) => {
                self.sent = Some(revision);
                Ok(self.send(&Down::Assignments { revision, assignments }).await)
            }
            None => Ok(true),
        }
    }

    /// The set, where it is newer than what was sent. `None`: there is no such cell any more.
    async fn assignments(&self) -> store::Result<Option<Option<(u64, Vec<Assignment>)>>> {
        // Topics come in bursts; the set is read only where its revision moved.
        if let (Some(sent), Some(cell)) = (self.sent, self.control.context.store.cell_fetch(self.cell).await?)
            && sent >= cell.revision
        {
            return Ok(Some(None));
        }
        let Some((revision, assignments)) = self.control.context.store.cell_assignments(self.cell).await? else {
            return Ok(None);
        };
        let newer = self.sent.is_none_or(|sent| sent < revision);
        Ok(Some(newer.then_some((revision, assignments))))
    }

    async fn send(&self, message: &Down) -> bool {
        let Some(line) = line(message) else {
            return false;
        };
        self.out.send(line).await.is_ok()
    }
}
