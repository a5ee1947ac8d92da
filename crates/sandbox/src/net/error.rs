//! What can go wrong with the network of sandboxes: one variant per operation, with the identifiers
//! involved and, where an operator can do something about it, the remedy. Not the place for policy text.

use std::{io, net::Ipv4Addr, path::PathBuf, sync::Arc};

/// A failed operation of [`super::Network`].
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A configuration value cannot work.
    #[error("network {name:?}: {what} is invalid: {reason}; remedy: {remedy}")]
    Config {
        name: String,
        what: &'static str,
        reason: String,
        remedy: &'static str,
    },

    /// A policy cannot be expressed or is too large.
    #[error("egress policy refused: {reason}")]
    Policy { reason: String },

    /// There is no default route to tell the uplink from.
    #[error(
        "no uplink found: this host has no IPv4 default route; remedy: add one, or name the interface in `network.uplink`"
    )]
    NoUplink,

    /// No name server that a sandbox could reach is configured on the host.
    #[error(
        "no usable IPv4 name server in {} (loopback addresses cannot be reached from a sandbox); remedy: list reachable ones in `network.resolvers`",
        searched.iter().map(|p| p.display().to_string()).collect::<Vec<_>>().join(", ")
    )]
    NoResolvers { searched: Vec<PathBuf> },

    /// The nft program is not installed.
    #[error("the program `nft` is missing (looked at {looked_at}); remedy: apt-get install nftables")]
    NftMissing { looked_at: String },

    /// nft refused a transaction; nothing of it was applied.
    #[error("nft failed to {operation} in table {table}: {output}{}", remedy_for_nft(output))]
    Nft {
        operation: String,
        table: String,
        output: String,
    },

    /// The kernel refused a netlink request.
    #[error("failed to {operation} {target}{}", remedy_for_errno(source))]
    Netlink {
        operation: &'static str,
        target: String,
        #[source]
        source: io::Error,
    },

    /// A file of the kernel or of the state directory could not be used.
    #[error("failed to {operation} {}{}", path.display(), remedy_for_errno(source))]
    File {
        operation: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },

    /// A namespace or process operation failed.
    #[error("failed to {operation}{}", remedy_for_errno(source))]
    System {
        operation: &'static str,
        #[source]
        source: io::Error,
    },

    /// An interface of that name exists and is not this network's bridge.
    #[error(
        "interface {bridge} exists and cannot be the bridge of network {name:?}: {reason}; remedy: choose another `network.bridge`, or drain this cell and run `ip link delete {bridge}; nft delete table ip paas-{name}`"
    )]
    ForeignBridge {
        name: String,
        bridge: String,
        reason: String,
    },

    /// Another process holds this network.
    #[error(
        "network {name:?} is in use by another process on this host; remedy: stop the other cell, or give this one another `network.name`, `network.bridge` and `network.subnet`"
    )]
    Busy { name: String },

    /// Every address is leased or rests after use.
    #[error(
        "no free address in {subnet}: {held} in use, {resting} resting after use, next in {next_ms} ms; remedy: a larger `network.subnet`"
    )]
    Exhausted {
        subnet: String,
        held: usize,
        resting: usize,
        next_ms: u64,
    },

    /// The background thread could not build network namespaces.
    #[error("no network namespace could be prepared")]
    Pool {
        #[source]
        source: Arc<Error>,
    },

    /// The connections that a policy forbids could not be ended; the policy is in force.
    #[error("connections that are no longer allowed could not be ended")]
    Connections {
        #[source]
        source: Arc<Error>,
    },

    /// Nothing was ready within the deadline.
    #[error("no network namespace was ready within {waited_ms} ms")]
    Timeout { waited_ms: u128 },

    /// The address is not leased to anybody.
    #[error("address {address} is not leased in this network")]
    NotLeased { address: Ipv4Addr },

    /// What was to be adopted does not exist any more.
    #[error("cannot adopt {address} for {id:?}: {reason}")]
    Adopt {
        id: String,
        address: Ipv4Addr,
        reason: String,
    },

    /// The network was closed, or its thread ended.
    #[error("network {name:?} is closed")]
    Closed { name: String },
}

/// Result of every operation here.
pub type Result<T, E = Error> = std::result::Result<T, E>;

fn remedy_for_errno(source: &io::Error) -> &'static str {
    match source.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => " (needs root with CAP_NET_ADMIN and CAP_SYS_ADMIN)",
        Some(libc::EROFS) => {
            " (read-only here: a cell inside a container needs /proc/sys and its state directory writable)"
        }
        Some(libc::EOPNOTSUPP) => " (the kernel lacks this link type: CONFIG_BRIDGE and CONFIG_VETH are needed)",
        _ => "",
    }
}

fn remedy_for_nft(output: &str) -> &'static str {
    if output.contains("Operation not permitted") {
        "; remedy: run as root with CAP_NET_ADMIN"
    } else if output.contains("not supported") || output.contains("No such file or directory") {
        "; remedy: the kernel needs nf_tables with the ip family, nft_masq, nft_reject, nft_ct, nft_limit and nft_connlimit"
    } else {
        ""
    }
}
