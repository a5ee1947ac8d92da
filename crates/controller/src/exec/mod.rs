//! Sessions inside instances: joins the client, who comes by WebSocket or by SSH, with the WebSocket that the cell dials
//! back for it. Who may have one is decided elsewhere.
//!
//! The controller looks at no frame; it passes them on, both ways at once, so that a slow reader holds up only its own
//! direction. Sessions are limited in number, time to be dialled and silence.

mod pipe;

pub(crate) use pipe::pipe;

use crate::error::{Answer, Failure};
use crate::machines::Known;
use crate::{Context, Control};
use api::cell::{Down, Exec, Purpose, SessionMessage};
use api::error::Code;
use axum::Extension;
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::extract::{Path, State};
use axum::response::Response;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt as _, StreamExt as _};
use model::id::{AppId, CellId, WorkId};
use model::work::{InstanceSpec, Wanted, Work, WorkKind, WorkState};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, oneshot};
use uuid::Uuid;

/// Most sessions at once.
const MAX_SESSIONS: usize = 256;
/// Most sessions in one instance, connections through it among them: each is a process there.
const MAX_PER_INSTANCE: usize = 32;
/// Largest frame.
const MAX_FRAME: usize = 1 << 20;
/// Most arguments of a command, and their bytes together.
const MAX_ARGUMENTS: usize = 1024;
const MAX_COMMAND_BYTES: usize = 128 << 10;
/// Time to say that a session ends.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Sessions that wait for their cell, and how many are open. Clones share it.
#[derive(Clone, Default)]
pub(crate) struct Sessions(Arc<Inner>);

#[derive(Default)]
struct Inner {
    waiting: Mutex<HashMap<Uuid, (CellId, oneshot::Sender<WebSocket>)>>,
    open: Mutex<HashMap<WorkId, usize>>,
}

/// Counts a session for as long as it lives, and forgets it if nobody dialled.
struct Ticket {
    sessions: Sessions,
    id: Uuid,
    work: WorkId,
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.sessions.0.waiting.lock().remove(&self.id);
        let mut open = self.sessions.0.open.lock();
        if let Some(count) = open.get_mut(&self.work) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.work);
            }
        }
    }
}

impl Sessions {
    fn open(&self, cell: CellId, work: WorkId) -> Option<(Ticket, oneshot::Receiver<WebSocket>)> {
        let mut open = self.0.open.lock();
        let count = open.get(&work).copied().unwrap_or(0);
        if count >= MAX_PER_INSTANCE || open.values().sum::<usize>() >= MAX_SESSIONS {
            return None;
        }
        open.insert(work, count + 1);
        let id = Uuid::new_v4();
        let (sender, receiver) = oneshot::channel();
        self.0.waiting.lock().insert(id, (cell, sender));
        let sessions = self.clone();
        Some((Ticket { sessions, id, work }, receiver))
    }
}

impl Sessions {
    /// Whoever waits for the session, once, and only for the cell that it was asked of.
    fn taken(&self, session: Uuid, dialling: Option<CellId>) -> Option<oneshot::Sender<WebSocket>> {
        let mut waiting = self.0.waiting.lock();
        let (cell, _) = waiting.get(&session)?;
        if let Some(dialling) = dialling.filter(|dialling| dialling != cell) {
            tracing::warn!(cell.id = %dialling, session.id = %session, "a cell was refused: the session is another's");
            return None;
        }
        waiting.remove(&session).map(|(_, sender)| sender)
    }
}

/// What is to be run.
#[derive(Debug, Clone, Default)]
pub struct Command {
    /// Program and arguments; one word is a line for the shell, and none a login shell.
    pub argv: Vec<String>,
    /// Rows and columns of the terminal, where there is one.
    pub terminal: Option<(u16, u16)>,
    /// Variables on top of the instance's own.
    pub variables: Vec<(String, String)>,
    /// What the session is for.
    pub purpose: Purpose,
}

/// The newest instance with this index that has a process and that `which` holds for: also one that is not healthy yet,
/// to find out why.
pub(crate) async fn instance(
    context: &Context,
    app: AppId,
    index: u32,
    which: impl Fn(&InstanceSpec) -> bool,
) -> Answer<Option<Work>> {
    let works = context.store.works_of_apps(&[app]).await?;
    let fits = |work: &Work| match &work.spec.kind {
        WorkKind::Instance(instance) => {
            let runs = matches!(work.state, WorkState::Starting | WorkState::Running);
            runs && instance.index == index && which(instance)
        }
        WorkKind::Task(_) | WorkKind::Build(_) => false,
    };
    Ok(works
        .into_iter()
        .filter(fits)
        .max_by_key(|work| (work.wanted == Wanted::Run, work.created_at)))
}

/// Asks the cell of `work` to dial a session; what comes of it is in the receiver.
fn begin(control: &Control, work: &Work, command: Command) -> Result<(Ticket, oneshot::Receiver<WebSocket>), Failure> {
    let variables = command.variables.iter().map(|(name, value)| name.len() + value.len());
    let bytes: usize = command.argv.iter().map(String::len).chain(variables).sum();
    if command.argv.len() > MAX_ARGUMENTS || command.variables.len() > MAX_ARGUMENTS || bytes > MAX_COMMAND_BYTES {
        return Err(Failure::new(Code::UnprocessableEntity, "the command is too long"));
    }
    let Some(feed) = control.cells.feed(work.cell) else {
        return Err(Failure::new(
            Code::ServiceUnavailable,
            "the instance's cell is not connected; try again",
        ));
    };
    let Some((ticket, dialled)) = control.sessions.open(work.cell, work.id) else {
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
        variables: command.variables,
        purpose: command.purpose,
    };
    if feed.try_send(Down::Exec(exec)).is_err() {
        return Err(Failure::new(
            Code::ServiceUnavailable,
            "the instance's cell does not listen; try again",
        ));
    }
    Ok((ticket, dialled))
}

/// Opens a session in `work` for the client behind `upgrade`. The caller has checked that it may.
///
/// # Errors
/// Where the command is too long, there are too many sessions, or the cell can't be told.
pub fn open(control: &Control, work: &Work, command: Command, upgrade: WebSocketUpgrade) -> Result<Response, Failure> {
    let (ticket, dialled) = begin(control, work, command)?;
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
    known: Option<Extension<Known>>,
    upgrade: WebSocketUpgrade,
) -> Result<Response, Failure> {
    let dialling = known.and_then(|known| known.cell());
    let Some(waiting) = control.sessions.taken(session, dialling) else {
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
    let _ = tokio::time::timeout(LAST_WORDS, async {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_are_counted_by_instance_and_in_all() {
        let sessions = Sessions::default();
        let cell = CellId(Uuid::from_u128(9));
        let (work, other) = (WorkId(Uuid::from_u128(1)), WorkId(Uuid::from_u128(2)));
        let mut open: Vec<_> = (0..MAX_PER_INSTANCE)
            .filter_map(|_| sessions.open(cell, work))
            .collect();
        assert_eq!(open.len(), MAX_PER_INSTANCE);
        assert!(sessions.open(cell, work).is_none(), "one instance has its share");
        assert!(sessions.open(cell, other).is_some());
        open.pop();
        assert!(sessions.open(cell, work).is_some());
        let many = (0..MAX_SESSIONS as u128 * 2).filter_map(|n| sessions.open(cell, WorkId(Uuid::from_u128(n + 10))));
        open.extend(many);
        assert_eq!(open.len(), MAX_SESSIONS);
        drop(open);
        assert!(sessions.0.open.lock().is_empty() && sessions.0.waiting.lock().is_empty());
    }

    #[test]
    fn a_session_is_its_cells_alone() {
        let sessions = Sessions::default();
        let (cell, other) = (CellId(Uuid::from_u128(1)), CellId(Uuid::from_u128(2)));
        let (ticket, _dialled) = sessions.open(cell, WorkId(Uuid::from_u128(3))).expect("room");
        assert!(sessions.taken(ticket.id, Some(other)).is_none());
        assert!(sessions.taken(ticket.id, Some(cell)).is_some());
        assert!(sessions.taken(ticket.id, Some(cell)).is_none(), "once");
    }
}
