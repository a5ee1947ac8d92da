//! Puts a network in place on the host: anchor, rules, forwarding.

use std::net::Ipv4Addr;

use super::{
    error::{Error, Result},
    firewall::Firewall,
    footprint::Footprints,
    host,
    link::{self, Interface},
    namespace::Builder,
    nft::Nft,
    rules::Scope,
};

/// Anchor, rules and forwarding. What a first attempt made is removed if it fails; what an earlier agent made stays.
pub(super) fn establish(
    builder: &mut Builder,
    scope: &Scope,
    nft: Nft,
    gateway: Ipv4Addr,
    mtu: u32,
    footprint: &Footprints,
) -> Result<Firewall> {
    let existed = link::interface(&mut builder.host, &scope.bridge)?.is_some();
    let bridge = bridge(builder, scope, gateway)?;
    let undo = |builder: &mut Builder, firewall: Option<Firewall>, error: Error| {
        if !existed {
            let rules = firewall.map_or(Ok(()), |mut firewall| firewall.destroy());
            for left in [
                rules,
                footprint.clear(&scope.name),
                link::delete(&mut builder.host, &scope.bridge),
            ] {
                if let Err(error) = left {
                    tracing::debug!(network = %scope.name, error = &error as &dyn std::error::Error, "not undone");
                }
            }
        }
        error
    };
    let firewall = Firewall::open(scope.clone(), nft).map_err(|error| undo(builder, None, error))?;
    match activate(builder, scope, &firewall, &bridge, gateway, mtu, footprint) {
        Ok(()) => Ok(firewall),
        Err(error) => Err(undo(builder, Some(firewall), error)),
    }
}

/// Brings the anchor up and lets packets through, once the rules are there.
fn activate(
    builder: &mut Builder,
    scope: &Scope,
    firewall: &Firewall,
    bridge: &Interface,
    gateway: Ipv4Addr,
    mtu: u32,
    footprint: &Footprints,
) -> Result<()> {
    for chain in firewall.obstacles()? {
        tracing::warn!(
            network = %scope.name, interfaces = %scope.interfaces(), chain,
            "another program's firewall drops forwarded packets, those of sandboxes too, until it accepts \
             packets from and to their interfaces"
        );
    }
    host::disable_ipv6(&scope.bridge)?;
    link::configure_bridge(&mut builder.host, bridge, (gateway, scope.subnet.prefix()), mtu)?;
    footprint.forward(scope)
}

/// Finds our bridge, or makes it.
fn bridge(builder: &mut Builder, scope: &Scope, gateway: Ipv4Addr) -> Result<Interface> {
    let alias = format!("paas network {} {}", scope.name, scope.subnet);
    let foreign = |reason| Error::ForeignBridge {
        name: scope.name.clone(),
        bridge: scope.bridge.clone(),
        reason,
    };
    if link::interface(&mut builder.host, &scope.bridge)?.is_none() {
        link::create_bridge(&mut builder.host, &scope.bridge, gateway, &alias)?;
    }
    match link::interface(&mut builder.host, &scope.bridge)? {
        Some(found) if found.kind == "bridge" && found.alias == alias => Ok(found),
        Some(found) if found.kind != "bridge" => Err(foreign(format!("it is of kind {:?}", found.kind))),
        Some(found) => Err(foreign(format!("it is marked {:?}, not {alias:?}", found.alias))),
        None => Err(foreign("it vanished".to_owned())),
    }
}
