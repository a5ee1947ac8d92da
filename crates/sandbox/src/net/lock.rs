//! Makes a process the only one with a network open in its network namespace. Nothing lies on disk: the kernel frees
//! the name when its holder dies.

use std::{
    io::ErrorKind,
    os::{
        linux::net::SocketAddrExt,
        unix::net::{SocketAddr, UnixListener},
    },
    time::{Duration, Instant},
};

use super::error::{Error, Result};

/// How long a network that another process has is asked for again.
const WAIT: Duration = Duration::from_secs(1);
/// Between two tries.
const PAUSE: Duration = Duration::from_millis(10);

/// Takes the network `name`; `None` if another process has it.
pub(super) fn try_take(name: &str) -> Result<Option<UnixListener>> {
    let address = SocketAddr::from_abstract_name(format!("paas-network-{name}"));
    match address.and_then(|address| UnixListener::bind_addr(&address)) {
        Ok(listener) => Ok(Some(listener)),
        Err(error) if error.kind() == ErrorKind::AddrInUse => Ok(None),
        Err(source) => Err(Error::System {
            operation: "lock the network",
            source,
        }),
    }
}

/// Takes the network for this process. An agent that was just killed may have a child between fork and exec that still
/// holds it, so a network that is taken is asked for again for [`WAIT`].
pub(super) fn take(name: &str) -> Result<UnixListener> {
    let until = Instant::now() + WAIT;
    loop {
        if let Some(listener) = try_take(name)? {
            return Ok(listener);
        }
        if Instant::now() >= until {
            return Err(Error::Busy { name: name.to_owned() });
        }
        std::thread::sleep(PAUSE);
    }
}
