//! What a router is told. Plain values: reading files and the environment is the caller's.

use api::Controllers;
use model::Secret;
use std::net::SocketAddr;
use std::time::Duration;
use uuid::Uuid;

/// Settings of one router.
#[derive(Debug, Clone)]
pub struct Config {
    /// Names this router to the controllers.
    pub id: Uuid,
    /// Where requests come in.
    pub listen: SocketAddr,
    /// The controllers, any of which it may talk to.
    pub controllers: Controllers,
    /// Proves to controllers that this is a machine of the platform.
    pub machine_token: Secret,
    /// Threads; each has its own listener and pools.
    pub workers: usize,
    /// How long open requests may go on after a shutdown.
    pub drain_timeout: Duration,
    /// Limits of requests and waits.
    pub limits: Limits,
}

/// Limits of requests and waits.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Header fields of a request.
    pub max_headers: usize,
    /// Bytes of a request's head.
    pub max_head_bytes: usize,
    /// From the first byte of a head to its last; also how long an idle client connection is kept.
    pub head_read: Duration,
    /// To connect to an instance.
    pub connect: Duration,
    /// From the request's end to the head of the response.
    pub response_head: Duration,
    /// How long an idle connection to an instance is used again. Shorter than servers keep theirs (Node: 5 s).
    pub idle_upstream: Duration,
    /// Idle connections kept for each instance and worker.
    pub max_idle_upstream: usize,
    /// Instances tried for one request.
    pub attempts: usize,
    /// How long an instance that could not be connected to is passed over while others are there.
    pub failed_for: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_headers: 200,
            max_head_bytes: 256 * 1024,
            head_read: Duration::from_secs(75),
            connect: Duration::from_secs(5),
            response_head: Duration::from_secs(900),
            idle_upstream: Duration::from_secs(4),
            max_idle_upstream: 100,
            attempts: 3,
            failed_for: Duration::from_secs(5),
        }
    }
}
