//! Commands inside instances: joins the client's WebSocket with the one that the cell dials back for it.
//!
//! The controller looks at no frame; it passes them on, both ways at once, so that a slow reader holds up only its own
//! direction. Sessions are limited in number, time to be dialled and silence.

use crate::Control;
use crate::error::Failure;
use api::cell::{Down, Exec, SessionMessage};
use api::error::Code;
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::extract::{Path, State};
use axum::response::Response;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt as _, StreamExt as _};
use model::work::Work;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, oneshot};
use uuid::Uuid;

/// Most sessions at once.
const MAX_SESSIONS: usize = 256;
/// Largest frame.
const MAX_FRAME: usize = 1 << 20;
/// Most arguments of a command, and their bytes together.
const MAX_ARGUMENTS: usize = 1024;
const MAX_COMMAND_BYTES: usize = 128 << 10;

/// Sessions that wait for their cell, and how many are open. Clones share it.
#[derive(Clone, Default)]
pub(crate) struct Sessions(Arc<Inner>);

#[derive(Default)]
struct Inner {
    waiting: Mutex<HashMap<Uuid, oneshot::Sender<WebSocket>>>,
    open: Mutex<usize>,
}

/// Counts a session for as long as it lives, and forgets it if nobody dialled.
struct Ticket {
    sessions: Sessions,
    id: Uuid,
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.sessions.0.waiting.lock().remove(&self.id);
        *self.sessions.0.open.lock() -= 1;
    }
}

impl Sessions {
    fn open(&self) -> Option<(Ticket, oneshot::Receiver<WebSocket>)> {
        let mut open = self.0.open.lock();
        if *open >= MAX_SESSIONS {
            return None;
        }
        *open += 1;
        let id = Uuid::new_v4();
        let (sender, receiver) = oneshot::channel();
        self.0.waiting.lock().insert(id, sender);
        Some((
            Ticket {
                sessions: self.clone(),
                id,
            },
            receiver,
        ))
    }
}

/// What is to be run.
#[derive(Debug, Clone)]
pub struct Command {
    /// Program and arguments; empty for a login shell.
    pub argv: Vec<String>,
    /// Rows and columns of the terminal, where there is one.
    pub terminal: Option<(u16, u16)>,
}

/// Opens a session in `work` for the client behind `upgrade`. The caller has checked that it may.
///
/// # Errors
/// Where the command is too long, there are too many sessions, or the cell can't be told.
pub fn open(control: &Control, work: &Work, command: Command, upgrade: WebSocketUpgrade) -> Result<Response, Failure> {
    let bytes: usize = command.argv.iter().map(String::len).sum();
    if command.argv.len() > MAX_ARGUMENTS || bytes > MAX_COMMAND_BYTES {
        return Err(Failure::new(Code::UnprocessableEntity, "the command is too long"));
    }
    let Some(feed) = control.cells.feed(work.cell) else {
        return Err(Failure::new(
            Code::ServiceUnavailable,
            "the instance's cell is not connected; try again",
        ));
    };
    let Some((ticket, dialled)) = control.sessions.open() else {
        return Err(Failure::new(
            Code::RateLimitExceeded,
            "too many sessions are open; close one",
        ));
    };
    let exec = Exec {
        session: ticket.id,
        work: work.id,
        command: command.argv,
        terminal: command.terminal,
    };
    if feed.try_send(Down::Exec(exec)).is_err() {
        return Err(Failure::new(
            Code::ServiceUnavailable,
            "the instance's cell does not listen; try again",
        ));
    }
    let control = control.clone();
    let upgrade = upgrade.max_message_size(MAX_FRAME).max_frame_size(MAX_FRAME);
    Ok(upgrade.on_upgrade(move |client| async move {
        serve(&control, client, dialled).await;
        drop(ticket);
    }))
}

/// `GET /cell/v1/sessions/{session}`: the cell's end.
pub(crate) async fn dial(
    State(control): State<Control>,
    Path(session): Path<Uuid>,
    upgrade: WebSocketUpgrade,
) -> Result<Response, Failure> {
    let Some(waiting) = control.sessions.0.waiting.lock().remove(&session) else {
        return Err(Failure::not_found("Session"));
    };
    let upgrade = upgrade.max_message_size(MAX_FRAME).max_frame_size(MAX_FRAME);
    Ok(upgrade.on_upgrade(move |cell| async move {
        // A client that has gone meanwhile needs nothing: the cell sees its socket close.
        let _ = waiting.send(cell);
    }))
}

async fn serve(control: &Control, mut client: WebSocket, dialled: oneshot::Receiver<WebSocket>) {
    match tokio::time::timeout(control.timing.exec_dial, dialled).await {
        Ok(Ok(cell)) => splice(client, cell, control.timing.exec_idle, &control.shutdown).await,
        Ok(Err(_)) | Err(_) => {
            let failed = SessionMessage::Failed {
                message: "the instance's cell did not answer in time".to_owned(),
            };
            if let Ok(text) = serde_json::to_string(&failed) {
                let _ = client.send(Message::Text(text.into())).await;
            }
            let _ = client.send(Message::Close(None)).await;
        }
    }
}

/// Passes frames on until either end closes, both are silent for `idle`, or the controller stops.
async fn splice(client: WebSocket, cell: WebSocket, idle: Duration, shutdown: &tokio_util::sync::CancellationToken) {
    let (mut to_client, mut from_client) = client.split();
    let (mut to_cell, mut from_cell) = cell.split();
    let activity = Notify::new();
    tokio::select! {
        () = pass(&mut from_client, &mut to_cell, &activity) => {}
        () = pass(&mut from_cell, &mut to_client, &activity) => {}
        () = silence(&activity, idle) => {
            let failed = SessionMessage::Failed { message: "the session was idle for too long".to_owned() };
            if let Ok(text) = serde_json::to_string(&failed) {
                let _ = to_client.send(Message::Text(text.into())).await;
            }
        }
        () = shutdown.cancelled() => {}
    }
    let _ = tokio::time::timeout(Duration::from_secs(1), async {
        let _ = to_cell.send(Message::Close(None)).await;
        let _ = to_client.send(Message::Close(None)).await;
    })
    .await;
}

async fn pass(from: &mut SplitStream<WebSocket>, to: &mut SplitSink<WebSocket, Message>, activity: &Notify) {
    while let Some(Ok(message)) = from.next().await {
        activity.notify_one();
        match message {
            Message::Text(_) | Message::Binary(_) => {
                if to.send(message).await.is_err() {
                    return;
                }
            }
            // Answered by the codec.
            Message::Ping(_) | Message::Pong(_) => {}
            Message::Close(_) => return,
        }
    }
}

async fn silence(activity: &Notify, idle: Duration) {
    while tokio::time::timeout(idle, activity.notified()).await.is_ok() {}
}
