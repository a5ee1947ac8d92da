//! From controller to routers: which host and path leads to which instances.
//!
//! A router keeps one stream of [`Table`] messages open and acknowledges each revision once its table has it. An
//! instance is stopped only after every live router has acknowledged the revision without it and reports no request
//! of it in flight. Every request carries `Authorization: Bearer <machine token>`.

use crate::Route;
use model::id::{AppId, RouteId, WorkId};
use serde::{Deserialize, Serialize};
use std::net::SocketAddrV4;

/// `GET`, answered by an endless stream of [`Table`], one JSON document a line: first a snapshot, then deltas.
pub const FEED: Route = Route {
    method: "GET",
    path: "/edge/v1/routers/{router}/feed",
};
/// `POST` of [`Ack`], answered by 204.
pub const ACK: Route = Route {
    method: "POST",
    path: "/edge/v1/routers/{router}/ack",
};

/// `POST` of [`LogBatch`](crate::cell::LogBatch): access lines of source `RTR`, answered by 204.
pub const LOGS: Route = Route {
    method: "POST",
    path: "/edge/v1/routers/{router}/logs",
};

/// Every route of this surface.
pub const ROUTES: &[Route] = &[FEED, ACK, LOGS];

/// From controller to router.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Table {
    /// The whole table.
    Snapshot {
        /// Grows with every change.
        revision: u64,
        /// All routes.
        routes: Vec<RouteEntry>,
    },
    /// What changed since the message before.
    Delta {
        /// The revision after it.
        revision: u64,
        /// The revision that it applies to; a router that has another asks anew.
        base: u64,
        /// Routes that are new or have other endpoints.
        upserts: Vec<RouteEntry>,
        /// Routes that are gone.
        removes: Vec<RouteKey>,
    },
    /// Keeps the connection alive; sent at least every 10 s.
    Ping,
}

/// What a request is matched by.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct RouteKey {
    /// Lower-case host name; a first label `*` matches any one or more labels.
    pub host: String,
    /// Empty or beginning with `/`; matches whole segments, the longest wins.
    pub path: String,
}

/// A route with its instances. Without endpoints it is answered by 503.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RouteEntry {
    /// What it is matched by.
    #[serde(flatten)]
    pub key: RouteKey,
    /// Its id.
    pub route: RouteId,
    /// Instances that requests may go to.
    pub endpoints: Vec<Endpoint>,
}

/// An instance as a router sees it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Endpoint {
    /// Its work: names the endpoint for ever, also when the address is used again.
    pub work: WorkId,
    /// The app.
    pub app: AppId,
    /// Index among the instances of its process.
    pub index: u32,
    /// Where it listens.
    pub address: SocketAddrV4,
}

/// What a router has taken over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ack {
    /// Revision of its table.
    pub revision: u64,
    /// Instances that left the table and still have requests in flight. Sent again when this changes.
    pub draining: Vec<WorkId>,
}
