//! Between a cell and the controllers. The cell dials; nothing dials in.
//!
//! A cell registers, then keeps one stream of [`Down`] messages open and posts [`Report`]s. Each report renews its
//! lease. Every request carries `Authorization: Bearer <machine token>`.
//!
//! The assignment set is always whole: a cell reconciles toward it, and reports every piece of work that it holds,
//! also such as is no longer assigned, until the controller's set and its own agree.

use crate::Route;
use model::id::{CellId, WorkId};
use model::resource::CellInfo;
use model::security::Policies;
use model::work::{Assignment, Observation};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// `POST` of [`CellInfo`], answered by [`Registered`].
pub const REGISTER: Route = Route {
    method: "POST",
    path: "/cell/v1/cells/{cell}/register",
};
/// `GET`, answered by an endless stream of [`Down`], one JSON document a line.
pub const FEED: Route = Route {
    method: "GET",
    path: "/cell/v1/cells/{cell}/feed",
};
/// `POST` of [`Report`], answered by [`Reported`].
pub const REPORT: Route = Route {
    method: "POST",
    path: "/cell/v1/cells/{cell}/report",
};
/// `POST` of [`LogBatch`], answered by 204 once it is durable.
pub const LOGS: Route = Route {
    method: "POST",
    path: "/cell/v1/cells/{cell}/logs",
};
/// `GET` with upgrade to WebSocket: the cell's end of an [`Exec`] session.
pub const SESSION: Route = Route {
    method: "GET",
    path: "/cell/v1/sessions/{session}",
};

/// Every route of this surface.
pub const ROUTES: &[Route] = &[REGISTER, FEED, REPORT, LOGS, SESSION];

/// Largest line of the feed, in bytes.
pub const MAX_FEED_LINE: usize = 64 * 1024 * 1024;

/// Answer to a registration.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Registered {
    /// How long the cell counts as alive after its last report, in milliseconds.
    pub lease_ms: u64,
    /// How often it is to report when nothing happens, in milliseconds.
    pub heartbeat_ms: u64,
}

/// From controller to cell.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Down {
    /// The whole assignment set at this revision.
    Assignments {
        /// Grows whenever the set changes.
        revision: u64,
        /// All work of this cell.
        assignments: Vec<Assignment>,
    },
    /// Where sandboxes may connect to, all of it. Sent before the first set, and whenever it changes: then it holds for
    /// what runs already, too. Until the first one a cell goes by what it heard last.
    Policies {
        /// What holds from now on.
        policies: Policies,
    },
    /// Somebody wants a session in an instance: dial [`SESSION`].
    Exec(Exec),
    /// Keeps the connection alive; sent at least every 10 s.
    Ping,
}

/// A session inside a piece of work.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Exec {
    /// Names the session; good for one dial.
    pub session: Uuid,
    /// Where to run it.
    pub work: WorkId,
    /// Program and arguments; empty for a login shell.
    pub command: Vec<String>,
    /// Rows and columns of the terminal, where there is one.
    pub terminal: Option<(u16, u16)>,
    /// Variables on top of those that the work has.
    #[serde(default)]
    pub variables: Vec<(String, String)>,
    /// What it is for.
    #[serde(default)]
    pub purpose: Purpose,
}

/// What a session is for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Purpose {
    /// To run the command.
    #[default]
    Command,
    /// A connection from inside the sandbox to where the work itself could connect; there is no command. The first byte of
    /// output is [`CONNECTED`], and then its own bytes follow; without that, standard error says why there is none.
    Connect {
        /// Name or address, as the work would use it.
        host: String,
        /// TCP port.
        port: u16,
    },
    /// Files of the sandbox by SFTP, version 3; there is no command.
    Files,
}

/// Says that a connection is made.
pub const CONNECTED: u8 = b'+';

/// Frames of an exec session, both ways, each one WebSocket message.
///
/// Binary messages are data: the first byte says the stream (0 stdin, 1 stdout, 2 stderr). Text messages are these.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum SessionMessage {
    /// To the cell: the terminal's new size.
    Resize { rows: u16, columns: u16 },
    /// To the cell: no more input.
    Eof,
    /// To the cell: a signal for the command, by its number on Linux.
    Signal { signal: i32 },
    /// From the cell: the command ended; the session closes.
    Exit {
        /// As a shell says it: 128 and more where a signal ended it.
        code: i32,
        /// That signal.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        signal: Option<i32>,
    },
    /// From the cell: it could not be run.
    Failed { message: String },
}

/// From cell to controller: what changed, and that it is alive.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Report {
    /// Revision of the assignment set that the cell has taken over.
    pub revision: u64,
    /// Whether `observations` is all that the cell holds: work absent from it is absent from the cell.
    pub full: bool,
    /// What changed since the last report, or all.
    pub observations: Vec<Observation>,
    /// Use of resources by work, for those that changed noticeably.
    #[serde(default)]
    pub stats: Vec<WorkStats>,
}

/// What a piece of work uses.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WorkStats {
    /// The work.
    pub work: WorkId,
    /// CPU as a fraction of one core, over the last interval.
    pub cpu: f64,
    /// Memory in bytes.
    pub memory_bytes: u64,
    /// Private disk in bytes.
    pub disk_bytes: u64,
    /// Log bytes per second.
    pub log_rate: u64,
}

/// Answer to a report.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Reported {
    /// Revision of the set that the controller holds; if it is newer than the cell's, the feed has it or will.
    pub revision: u64,
}

/// Log lines of a cell's work.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct LogBatch {
    /// In the order in which they were written, per piece of work.
    pub lines: Vec<LogLine>,
}

/// One line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLine {
    /// The work it comes from. Within one, timestamps strictly grow: a line that is sent twice is known by its time.
    pub work: WorkId,
    /// The app, whose log it belongs to.
    pub app: model::id::AppId,
    /// Nanoseconds since 1970.
    pub ts_ns: i64,
    /// Such as `APP/PROC/WEB`, `STG`, `CELL`.
    pub source_type: String,
    /// Instance index, or `0`.
    pub instance: String,
    /// Whether it was written to standard error.
    pub err: bool,
    /// The line without its end, as UTF-8; what was not is replaced.
    pub text: String,
}

/// What a registration carries.
pub type Registration = CellInfo;

/// The path of a route with its one parameter filled in.
#[must_use]
pub fn path_for(route: Route, cell: CellId) -> String {
    route.path.replace("{cell}", &cell.to_string())
}
