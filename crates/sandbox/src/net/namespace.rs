//! Makes network namespaces with everything in them, from one thread that visits each and comes back.
//! A namespace lives as long as a descriptor or a process holds it; nothing is mounted anywhere, so a
//! killed agent leaves no unused one behind.

use std::{
    fs::File,
    io,
    net::Ipv4Addr,
    os::fd::{AsFd, OwnedFd},
    path::Path,
};

use nix::sched::{CloneFlags, setns, unshare};

use crate::users;

use super::{
    error::{Error, Result},
    host,
    link::{self, Port},
    netlink::Socket,
};

/// Settings of every sandbox's own namespace: no IPv6, no redirects, ping and low ports without privilege
/// (both concern this namespace alone).
const SETTINGS: [(&str, &str); 5] = [
    ("ipv6/conf/all/disable_ipv6", "1"),
    ("ipv6/conf/default/disable_ipv6", "1"),
    ("ipv4/conf/all/accept_redirects", "0"),
    ("ipv4/conf/default/accept_redirects", "0"),
    ("ipv4/ip_unprivileged_port_start", "0"),
];

/// The network namespace of the calling thread.
pub(super) fn current() -> Result<OwnedFd> {
    let path = Path::new("/proc/thread-self/ns/net");
    let file = File::open(path).map_err(|source| Error::File {
        operation: "open",
        path: path.into(),
        source,
    })?;
    Ok(file.into())
}

/// Moves the calling thread (and no other) into a namespace.
pub(super) fn enter(namespace: &OwnedFd) -> Result<()> {
    setns(namespace.as_fd(), CloneFlags::CLONE_NEWNET).map_err(|errno| Error::System {
        operation: "enter a network namespace",
        source: errno.into(),
    })
}

/// Builds namespaces of one network. Belongs to one thread, whose namespace at creation is the host's.
pub(super) struct Builder {
    pub(super) host: Socket,
    home: OwnedFd,
    ipv6: bool,
}

impl Builder {
    /// A builder whose host is the calling thread's namespace.
    pub(super) fn new() -> Result<Self> {
        let host = Socket::open().map_err(|source| Error::System {
            operation: "open a netlink socket",
            source,
        })?;
        Ok(Self {
            host,
            home: current()?,
            ipv6: Path::new("/proc/sys/net/ipv6").exists(),
        })
    }

    /// A namespace with loopback, and `eth0` at `address` behind the gateway, ready to be joined.
    /// The outer error means that the thread is lost in a sandbox and must end.
    pub(super) fn build(
        &mut self,
        interface: &str,
        address: Ipv4Addr,
        gateway: Ipv4Addr,
        mtu: u32,
    ) -> Result<Result<OwnedFd>> {
        let built = self.build_away(&Port {
            interface,
            address,
            gateway,
            mtu,
            ipv6: self.ipv6,
        });
        enter(&self.home)?;
        Ok(built.and_then(|namespace| host::disable_ipv6(interface).map(|()| namespace)))
    }

    /// Does something inside a namespace with a socket of its own, and comes back. Errors as in [`Builder::build`].
    pub(super) fn visit<T>(
        &mut self,
        namespace: &OwnedFd,
        work: impl FnOnce(&mut Socket) -> Result<T>,
    ) -> Result<Result<T>> {
        if let Err(error) = enter(namespace) {
            return Ok(Err(error));
        }
        let done = Socket::open()
            .map_err(|source| Error::System {
                operation: "open a netlink socket in a sandbox",
                source,
            })
            .and_then(|mut socket| work(&mut socket));
        enter(&self.home)?;
        Ok(done)
    }

    fn build_away(&mut self, port: &Port<'_>) -> Result<OwnedFd> {
        unshare(CloneFlags::CLONE_NEWNET).map_err(|errno| Error::System {
            operation: "create a network namespace",
            source: errno.into(),
        })?;
        let namespace = current()?;
        settle(self.ipv6)?;
        let mut inside = Socket::open().map_err(|source| Error::System {
            operation: "open a netlink socket in a sandbox",
            source,
        })?;
        link::create_port(&mut self.host, port, namespace.as_fd())?;
        link::configure_inside(&mut inside, port.address, port.gateway)?;
        Ok(namespace)
    }
}

fn settle(ipv6: bool) -> Result<()> {
    // Groups that nobody here is cannot be named.
    let groups = format!("0 {}", users::last_gid());
    for (key, value) in SETTINGS.into_iter().chain([("ipv4/ping_group_range", groups.as_str())]) {
        if key.starts_with("ipv6/") && !ipv6 {
            continue;
        }
        let path = Path::new("/proc/sys/net").join(key);
        write_existing(&path, value).map_err(|source| Error::File {
            operation: "write",
            path,
            source,
        })?;
    }
    Ok(())
}

/// Writes a setting; one that this kernel does not have is left out.
fn write_existing(path: &Path, value: &str) -> io::Result<()> {
    match std::fs::write(path, value) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}
