//! An uplink that leads nowhere, for hosts without one: sandboxes have addresses then, and the host reaches them, but
//! whatever they send to elsewhere is lost.

use std::net::Ipv4Addr;

use super::{
    error::{Error, Result},
    link::{self, Interface},
    netlink::Socket,
};

/// Address and block of the interface.
const OWN: (Ipv4Addr, u8) = (Ipv4Addr::new(10, 0, 2, 100), 24);
const NEXT: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 2);
const MTU: u32 = 1500;

/// Makes the interface `name` and the default route through it, in the network namespace of the calling thread.
pub fn dead_end(name: &str) -> Result<()> {
    let mut socket = Socket::open().map_err(|source| Error::System {
        operation: "open a netlink socket",
        source,
    })?;
    link::create_bridge(&mut socket, name, OWN.0, "paas dead end")?;
    let made: Option<Interface> = link::interface(&mut socket, name)?;
    let Some(interface) = made else {
        return Err(Error::NoUplink);
    };
    link::configure_bridge(&mut socket, &interface, OWN, MTU)?;
    link::default_route(&mut socket, interface.index, NEXT)
}
