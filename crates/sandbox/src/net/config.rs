//! What a network is made of, and which values can work. Nothing here touches the system.

use std::{net::Ipv4Addr, path::PathBuf, time::Duration};

use super::{
    cidr::Cidr,
    error::{Error, Result},
    policy::Egress,
    rates::Rates,
};
use crate::unprivileged;

/// How long an address rests before it is used again, unless configured otherwise.
pub const QUARANTINE: Duration = Duration::from_secs(60);
/// Where what networks changed on the host is noted, unless configured otherwise: gone with a restart of the host, as
/// are the changes.
pub const RUN_DIR: &str = "/run/paas/networks";
/// Smallest and largest subnet.
const PREFIXES: std::ops::RangeInclusive<u8> = 12..=29;
/// Leaves room for the port suffix within the kernel's 15 bytes.
const MAX_BRIDGE_NAME: usize = 8;
const MAX_NAME: usize = 24;
const MAX_POOL: usize = 1024;

/// What a network is made of.
#[derive(Debug, Clone)]
pub struct NetworkConfig {
    /// Names the firewall tables `paas-<name>`: lower-case letters, digits and `-`, at most 24.
    pub name: String,
    /// Name of the interface with the gateway's address, and the beginning of the names of sandboxes' interfaces:
    /// lower-case letters, then digits, at most 8 in all.
    pub bridge: String,
    /// Addresses of the sandboxes; the first one is the gateway's. A /12 to a /29.
    pub subnet: Cidr,
    /// The interface towards the world; `None`: that of the default route.
    pub uplink: Option<String>,
    /// Blocks beyond the host that may open connections to sandboxes: routers on hosts of their own. Empty: nobody but
    /// the host.
    pub callers: Vec<Cidr>,
    /// Name servers that sandboxes may use; empty: those of the host.
    pub resolvers: Vec<Ipv4Addr>,
    /// Namespaces kept ready, 1 to 1024.
    pub pool_size: usize,
    /// The policy of every new lease.
    pub default_policy: Egress,
    /// How fast every sandbox may talk, from its lease on and after its adoption. `None`: that is nobody's business, and
    /// what was set for one sandbox stays when it is adopted.
    pub rates: Option<Rates>,
    /// How long an address rests before it is used again. Shorter than every router's time to forget it
    /// means requests for one app reaching another.
    pub quarantine: Duration,
    /// Folder for the journal of addresses; created if missing.
    pub state_dir: PathBuf,
    /// Folder for the records of what was changed on the host; shared by all networks of the host, created if missing.
    pub run_dir: PathBuf,
}

impl NetworkConfig {
    /// A network with the defaults: uplink and resolvers of the host, a pool of 8, [`Egress::public`]. An agent without
    /// root has its records in `state_dir`, and the resolver of its own way out.
    pub fn new(name: &str, bridge: &str, subnet: Cidr, state_dir: impl Into<PathBuf>) -> Self {
        let state_dir = state_dir.into();
        Self {
            name: name.to_owned(),
            bridge: bridge.to_owned(),
            subnet,
            uplink: None,
            callers: Vec::new(),
            resolvers: unprivileged::resolvers(),
            pool_size: 8,
            default_policy: Egress::public(),
            rates: None,
            quarantine: QUARANTINE,
            run_dir: if unprivileged::confined() {
                state_dir.join("run")
            } else {
                RUN_DIR.into()
            },
            state_dir,
        }
    }

    /// An error about one value.
    pub(super) fn refuse(&self, what: &'static str, reason: String, remedy: &'static str) -> Error {
        Error::Config {
            name: self.name.clone(),
            what,
            reason,
            remedy,
        }
    }

    /// The first value that cannot work, as an error with its remedy. Touches nothing.
    pub fn check(&self) -> Result<()> {
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if self.name.is_empty() || self.name.len() > MAX_NAME || !self.name.chars().all(plain) {
            let reason = format!("{:?} is not 1 to {MAX_NAME} of a-z, 0-9 and -", self.name);
            return Err(self.refuse("network.name", reason, "choose such a name"));
        }
        let letters = self.bridge.trim_end_matches(|c: char| c.is_ascii_digit());
        let shaped = !letters.is_empty() && letters.chars().all(|c| c.is_ascii_lowercase());
        if !shaped || letters == self.bridge || self.bridge.len() > MAX_BRIDGE_NAME {
            let reason = format!(
                "{:?} is not letters a-z followed by digits, at most {MAX_BRIDGE_NAME} in all",
                self.bridge
            );
            return Err(self.refuse("network.bridge", reason, "choose a name such as paas0"));
        }
        if !PREFIXES.contains(&self.subnet.prefix()) {
            let reason = format!(
                "{} is not between a /{} and a /{}",
                self.subnet,
                PREFIXES.start(),
                PREFIXES.end()
            );
            return Err(self.refuse("network.subnet", reason, "choose a private block such as 10.180.0.0/16"));
        }
        if self.pool_size == 0 || self.pool_size > MAX_POOL {
            let reason = format!("{} is not between 1 and {MAX_POOL}", self.pool_size);
            return Err(self.refuse(
                "network.pool_size",
                reason,
                "choose about as many as sandboxes start at once",
            ));
        }
        if let Some(bad) = self
            .resolvers
            .iter()
            .find(|address| address.is_loopback() || address.is_unspecified())
        {
            let reason = format!("{bad} cannot be reached from a sandbox");
            return Err(self.refuse("network.resolvers", reason, "list addresses on the host's network"));
        }
        self.rates.unwrap_or_default().check()?;
        self.default_policy.check()
    }
}
