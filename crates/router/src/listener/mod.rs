//! What comes before a request: sockets, the PROXY protocol, TLS, which version of HTTP a client speaks, and what guards
//! the parser behind it.

mod guard;
mod head;
mod proxy_protocol;
mod scan;
mod serve;

pub use guard::{Deadlines, Tunnel};
pub use head::REFUSED;
pub use serve::{http1, http2, serve};

use crate::Error;
use std::net::SocketAddr;
use tokio::net::{TcpListener, TcpSocket};

/// Connections waiting to be accepted.
const BACKLOG: u32 = 4096;

/// Where a router listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Addresses {
    /// For plain HTTP. Where it names no port, one that is free.
    pub plain: SocketAddr,
    /// For TLS.
    pub tls: Option<SocketAddr>,
    /// For health and metrics.
    pub admin: Option<SocketAddr>,
}

/// Open sockets of a router, one of each kind for every worker.
pub struct Sockets {
    /// For plain HTTP.
    pub plain: Vec<std::net::TcpListener>,
    /// For TLS; may be none.
    pub tls: Vec<std::net::TcpListener>,
    /// For health and metrics.
    pub admin: Option<std::net::TcpListener>,
}

impl Sockets {
    /// Opens them. Starts no thread.
    ///
    /// # Errors
    /// Where an address can't be bound.
    pub fn open(addresses: Addresses, workers: usize) -> Result<Self, Error> {
        let listen = |address: Option<SocketAddr>| address.map(|address| listen(address, workers)).transpose();
        Ok(Self {
            plain: listen(Some(addresses.plain))?.unwrap_or_default(),
            tls: listen(addresses.tls)?.unwrap_or_default(),
            admin: addresses
                .admin
                .map(|address| self::listen(address, 1))
                .transpose()?
                .and_then(|mut sockets| sockets.pop()),
        })
    }
}

/// Opens a socket per worker, all on one address.
fn listen(address: SocketAddr, workers: usize) -> Result<Vec<std::net::TcpListener>, Error> {
    let failed = |source| Error::Listen { address, source };
    // Sockets are made in a runtime: the caller's, or one that ends with this.
    let own = match tokio::runtime::Handle::try_current() {
        Ok(_) => None,
        Err(_) => Some(tokio::runtime::Builder::new_current_thread().enable_all().build()),
    };
    let own = own.transpose().map_err(failed)?;
    let _context = own.as_ref().map(tokio::runtime::Runtime::enter);
    let first = listen_once(address)?;
    let address = first.local_addr().map_err(failed)?;
    let further = (1..workers).map(|_| listen_once(address));
    std::iter::once(Ok(first)).chain(further).collect()
}

fn listen_once(address: SocketAddr) -> Result<std::net::TcpListener, Error> {
    let failed = |source| Error::Listen { address, source };
    let socket = if address.is_ipv4() {
        TcpSocket::new_v4()
    } else {
        TcpSocket::new_v6()
    }
    .map_err(failed)?;
    socket.set_reuseaddr(true).map_err(failed)?;
    socket.set_reuseport(true).map_err(failed)?;
    socket.bind(address).map_err(failed)?;
    socket.listen(BACKLOG).and_then(TcpListener::into_std).map_err(failed)
}
