//! What a router is told. Plain values: reading files and the environment is the caller's.

use crate::access;
use crate::listener::Addresses;
use api::Controllers;
use api::edge::LoadBalancing;
use identity::Proof;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;
use uuid::Uuid;

/// Settings of one router.
#[derive(Debug, Clone)]
pub struct Config {
    /// Names this router to the controllers.
    pub id: Uuid,
    /// Where it listens.
    pub listen: Addresses,
    /// The controllers, any of which it may talk to.
    pub controllers: Controllers,
    /// Proves to controllers that this is a machine of the platform.
    pub proof: Proof,
    /// Threads; each has its own listener and pools.
    pub workers: usize,
    /// How long health is denied before listeners close, so that balancers in front stop sending.
    pub drain_wait: Duration,
    /// How long open requests may go on after listeners closed.
    pub drain_timeout: Duration,
    /// Limits of requests and waits.
    pub limits: Limits,
    /// How requests are recorded.
    pub access: access::Settings,
    /// How instances are chosen for routes that don't say; `None` is the less busy of two taken at random.
    pub policy: Option<LoadBalancing>,
    /// Where this router runs: instances there come first.
    pub zone: Option<String>,
    /// Cookies of apps that begin a session which stays with an instance.
    pub sticky: Vec<String>,
    /// What becomes of `X-Forwarded-Client-Cert`.
    pub client_cert: ClientCert,
    /// What becomes of `X-Forwarded-Proto`.
    pub forwarded_proto: ForwardedProto,
    /// Whether every connection begins with the header of a load balancer's PROXY protocol.
    pub proxy_protocol: bool,
    /// TLS towards clients.
    pub tls: Option<TlsSettings>,
    /// Whether plain HTTP is only told to come by TLS, at which port.
    pub redirect: Option<u16>,
    /// Where the last table is kept for the next start.
    pub state: Option<PathBuf>,
}

impl Config {
    /// Settings with defaults for all that has one.
    #[must_use]
    pub fn new(id: Uuid, listen: SocketAddr, controllers: Controllers, proof: impl Into<Proof>) -> Self {
        Self {
            id,
            listen: Addresses {
                plain: listen,
                tls: None,
                admin: None,
            },
            controllers,
            proof: proof.into(),
            workers: 1,
            drain_wait: Duration::ZERO,
            drain_timeout: Duration::from_secs(20),
            limits: Limits::default(),
            access: access::Settings::default(),
            policy: None,
            zone: None,
            sticky: vec!["JSESSIONID".to_owned()],
            client_cert: ClientCert::default(),
            forwarded_proto: ForwardedProto::default(),
            proxy_protocol: false,
            tls: None,
            redirect: None,
            state: None,
        }
    }
}

/// TLS towards clients.
#[derive(Debug, Clone)]
pub struct TlsSettings {
    /// The folder of certificates; [`crate::tls`] says what is in it.
    pub certificates: PathBuf,
    /// Whether TLS 1.2 is refused.
    pub only_1_3: bool,
    /// Whether clients show a certificate.
    pub client_auth: ClientAuth,
    /// The authorities that clients' certificates have to be of, as PEM.
    pub client_authorities: Option<PathBuf>,
}

/// Whether clients show a certificate.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ClientAuth {
    /// They are not asked.
    #[default]
    None,
    /// They are asked; one that is shown has to be sound.
    Request,
    /// Only those that do are served.
    Require,
}

/// What becomes of `X-Forwarded-Client-Cert`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ClientCert {
    /// It passes as it came: something in front sets it.
    AlwaysForward,
    /// It passes where the client showed a certificate, else it is taken out.
    Forward,
    /// It is the certificate that the client showed, and nothing else.
    #[default]
    SanitizeSet,
}

/// What becomes of `X-Forwarded-Proto`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ForwardedProto {
    /// It passes as it came; where it did not, it says how the connection is.
    #[default]
    Keep,
    /// It says how the connection is.
    Sanitize,
    /// It is `https`: something in front ends TLS.
    Https,
}

/// Limits of requests and waits.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Open connections of clients.
    pub max_connections: usize,
    /// Header fields of a request.
    pub max_headers: usize,
    /// Bytes of a request's head.
    pub max_head_bytes: usize,
    /// Bytes of a request's body, where the route does not say.
    pub max_body: u64,
    /// From the first byte of a head to its last.
    pub head_read: Duration,
    /// For a TLS handshake.
    pub handshake: Duration,
    /// How long a client's connection is kept that has no request.
    pub idle_client: Duration,
    /// Longest pause in the body of a request.
    pub body_stall: Duration,
    /// Longest time in which a client takes nothing of a response.
    pub write_stall: Duration,
    /// To connect to an instance.
    pub connect: Duration,
    /// From the request's end to the head of the response, where the route does not say.
    pub response_head: Duration,
    /// How long an idle connection to an instance is used again. Shorter than servers keep theirs (Node: 5 s).
    pub idle_upstream: Duration,
    /// Idle connections kept for each instance and worker.
    pub max_idle_upstream: usize,
    /// Requests that an instance may have in flight.
    pub max_per_instance: u32,
    /// Instances tried for one request.
    pub attempts: usize,
    /// How long an instance that could not be connected to is passed over while others are there; longer each time.
    pub failed_for: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_connections: 100_000,
            max_headers: 100,
            max_head_bytes: 256 * 1024,
            max_body: u64::MAX,
            head_read: Duration::from_secs(15),
            handshake: Duration::from_secs(10),
            idle_client: Duration::from_secs(75),
            body_stall: Duration::from_secs(60),
            write_stall: Duration::from_secs(120),
            connect: Duration::from_secs(5),
            response_head: Duration::from_secs(900),
            idle_upstream: Duration::from_secs(4),
            max_idle_upstream: 100,
            max_per_instance: 10_000,
            attempts: 3,
            failed_for: Duration::from_secs(5),
        }
    }
}
