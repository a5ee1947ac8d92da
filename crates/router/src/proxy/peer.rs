//! What is known of the connection that requests come by.

use super::refusal::Refusal;
use crate::listener::Tunnel;
use std::net::SocketAddr;
use std::sync::Arc;

/// A client's connection.
pub struct Peer {
    /// The client's address: that of the connection, or the one that a load balancer in front names.
    pub address: SocketAddr,
    /// What TLS brought, if it is there.
    pub tls: Option<Tls>,
    /// Whether what follows on the connection is a tunnel.
    pub tunnel: Arc<Tunnel>,
    /// Where requests are sent instead of being served, if so: the port of TLS.
    pub redirect: Option<u16>,
}

/// What a TLS handshake brought.
#[derive(Default)]
pub struct Tls {
    /// The name that the client asked for.
    pub sni: Option<Arc<str>>,
    /// The client's certificate: base64 of its DER.
    pub certificate: Option<String>,
}

impl Peer {
    /// Why the request that comes now is refused, where what guards the connection says so.
    pub fn refused(&self, method: &http::Method) -> Option<Refusal> {
        (method.as_str() == crate::listener::REFUSED).then(|| self.tunnel.refusal())
    }
}
