//! From controller to routers: which host and path leads to which instances.
//!
//! A router keeps one stream of [`Table`] messages open and acknowledges each revision once its table has it. An
//! instance is stopped only after every live router has acknowledged the revision without it and reports no request
//! of it in flight. Every request carries `Authorization: Bearer <machine token>`.

use crate::Route;
use model::id::{AppId, ProcessId, RouteId, WorkId};
pub use model::routing::{LoadBalancing, Protocol};
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
    /// What holds for this route alone.
    #[serde(default, skip_serializing_if = "RouteOptions::is_default")]
    pub options: RouteOptions,
}

/// What a route asks of routers; whatever is not set is the router's own default.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct RouteOptions {
    /// How an instance is chosen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loadbalancing: Option<LoadBalancing>,
    /// Field of the request by whose value [`LoadBalancing::Hash`] chooses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hash_header: Option<String>,
    /// How many times the mean load an instance may have before a hashed request goes to the next; 0 is no bound,
    /// else at least 1.1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hash_balance: Option<f64>,
    /// From the end of a request to the head of its response, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_timeout_seconds: Option<u32>,
    /// Largest body of a request, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_body_bytes: Option<u64>,
}

impl RouteOptions {
    /// Whether nothing is set.
    #[must_use]
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
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
    /// The process that it is an instance of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub process: Option<ProcessId>,
    /// What it speaks.
    #[serde(default, skip_serializing_if = "Protocol::is_default")]
    pub protocol: Protocol,
    /// Its share of requests in relation to the other instances of the route; 100 where none is named, 0 is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<u16>,
    /// Where it runs, to be compared with the router's own zone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
}

/// What a router has taken over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ack {
    /// Revision of its table.
    pub revision: u64,
    /// Instances that left the table and still have requests in flight. Sent again when this changes.
    pub draining: Vec<WorkId>,
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: &str = r#"{"host":"a.test","path":"","route":"00000000-0000-0000-0000-000000000001","endpoints":[{"work":"00000000-0000-0000-0000-000000000002","app":"00000000-0000-0000-0000-000000000003","index":0,"address":"127.0.0.1:80"}]}"#;

    #[test]
    fn what_is_not_set_is_not_written_and_need_not_be_there() {
        let entry: RouteEntry = serde_json::from_str(PLAIN).expect("all that is needed");
        assert!(entry.options.is_default() && entry.endpoints[0].protocol == Protocol::Http1);
        assert_eq!(serde_json::to_string(&entry).expect("serialises"), PLAIN);
    }

    #[test]
    fn options_have_the_names_of_the_api() {
        let options = RouteOptions {
            loadbalancing: Some(LoadBalancing::LeastConnection),
            hash_balance: Some(1.5),
            ..RouteOptions::default()
        };
        let text = serde_json::to_string(&options).expect("serialises");
        assert_eq!(text, r#"{"loadbalancing":"least-connection","hash_balance":1.5}"#);
    }
}
