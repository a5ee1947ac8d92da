//! The network of sandboxes: one pooled network namespace with a veth pair per sandbox, a route to each, one set of
//! firewall rules. Blocking; usable without the rest of this crate.
//!
//! A sandbox reaches what its [`Egress`] policy allows, through the host's uplink and its address. It never
//! reaches the host, nor another sandbox. The host reaches a sandbox at its address. There is no IPv6 inside.
//! Not here: port mappings (whoever wants in goes through a process of the host), IPv6.
//!
//! ```text
//!  [sandbox: eth0 10.x.y.z/32] ── veth ──▶ host: paas0v<n>  (route to 10.x.y.z, own address only)
//!        default via gateway                 paas0           (anchor: the gateway's address, no ports)
//!                                            uplink          (masquerade)
//! ```
//! A namespace lives while a process is in it or a descriptor is open, so sandboxes keep their network when
//! the agent dies, and unused namespaces go with it. A restarted agent opens the network again, adopts the
//! addresses of the sandboxes it finds alive, then sweeps the rest.
//!
//! Everything acts in the network namespace of the thread that calls [`Network::open`].

mod addresses;
mod cidr;
mod config;
mod conntrack;
mod dead_end;
mod error;
mod establish;
mod firewall;
mod footprint;
mod host;
mod link;
mod lock;
mod namespace;
mod netlink;
mod nft;
mod policy;
mod rates;
mod refill;
mod rule;
mod rules;
#[cfg(test)]
mod tests;
mod told;
mod worker;

use std::{
    collections::BTreeSet,
    net::Ipv4Addr,
    os::{fd::OwnedFd, unix::net::UnixListener},
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{self, SyncSender},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

pub use cidr::Cidr;
pub use config::{NetworkConfig, QUARANTINE, RUN_DIR};
pub(crate) use dead_end::dead_end;
pub use error::{Error, Result};
pub use firewall::Counted;
pub use policy::{Egress, MAX_RULES};
pub use rates::Rates;
pub use rule::{Icmp, LOG_BURST, LOG_RATE, MAX_PORT_RANGES, Ports, Protocol, Rule};
pub use rules::MAX_CONNECTIONS;
pub use told::{Heard, RuleLog, Told};

use crate::unprivileged;
use addresses::Addresses;
use establish::establish;
use footprint::Footprints;
use namespace::Builder;
use nft::Nft;
use rules::Scope;
use worker::{Command, Ready, Shared, Worker, now_ms};

/// How long a lease waits for the pool.
pub const LEASE_TIMEOUT: Duration = Duration::from_secs(10);
/// Commands that wait for the network thread; who sends more waits.
const COMMANDS: usize = 1024;
/// How long a change of rules may take, queue included.
const REPLY_TIMEOUT: Duration = Duration::from_secs(60);
/// One sandbox's place in the network. Dropping it does not end the lease: the namespace lives on while
/// anything is in it, and the address stays taken until [`Network::release`].
#[derive(Debug)]
pub struct Lease {
    /// Names the lease in messages: the sandbox's id once adopted, else made from the address.
    pub id: String,
    pub address: Ipv4Addr,
    pub gateway: Ipv4Addr,
    /// Length of the address's own block inside: 32, everything else is behind the gateway.
    pub prefix: u8,
    /// The namespace, to be joined by the sandbox's first process (`setns`).
    pub netns: OwnedFd,
    /// The host's end of the pair.
    pub host_interface: String,
    /// The policy that it began under; `None` where an earlier agent began it.
    pub under: Option<Arc<Egress>>,
}

/// An open network. Dropping it closes it.
pub struct Network {
    scope: Scope,
    gateway: Ipv4Addr,
    commands: SyncSender<Command>,
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
    /// Bound to a name of this network in the host's namespace while open; the kernel frees it if we die.
    _lock: UnixListener,
}

impl std::fmt::Debug for Network {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Network")
            .field("scope", &self.scope)
            .finish_non_exhaustive()
    }
}

/// Undoes what agents that were killed left on the host; what resists is told and stays.
fn clear_abandoned(footprint: &Footprints, scope: &Scope, builder: &mut Builder) {
    match footprint.clear_abandoned(&scope.name, &mut builder.host) {
        Ok(gone) if gone.is_empty() => {}
        Ok(gone) => tracing::warn!(networks = gone.join(" "), "removed networks that killed agents left"),
        Err(error) => tracing::warn!(error = &error as &dyn std::error::Error, "abandoned networks are left"),
    }
}

impl Network {
    /// Whether this network was opened by somebody who ended without destroying it. Its anchor is the first that is
    /// made of it, the record the last that is removed.
    pub fn is_left(config: &NetworkConfig) -> Result<bool> {
        let _held = match lock::take(&config.name) {
            Err(Error::Busy { .. }) => return Ok(false),
            other => other?,
        };
        let opened = netlink::Socket::open();
        let mut socket = opened.map_err(|source| Error::System {
            operation: "open a netlink socket",
            source,
        })?;
        let anchored = link::interface(&mut socket, &config.bridge)?.is_some();
        Ok(anchored || Footprints::of(&config.run_dir)?.has(&config.name))
    }

    /// Sets up bridge, forwarding and rules, or takes over what an earlier agent left (its sandboxes go on
    /// undisturbed), and starts filling the pool.
    pub fn open(config: NetworkConfig) -> Result<Self> {
        config.check()?;
        let lock = lock::take(&config.name)?;
        let scope = scope(&config)?;
        let nft = Nft::find(&scope.table())?;
        let gateway = addresses::gateway(&config.subnet);
        let tracker = netlink::Socket::netfilter().map_err(|source| Error::System {
            operation: "open a netlink socket for connections",
            source,
        })?;
        let mut builder = Builder::new()?;
        let Some(uplink) = link::interface(&mut builder.host, &scope.uplink)? else {
            let reason = format!("there is no interface {:?}", scope.uplink);
            return Err(config.refuse(
                "network.uplink",
                reason,
                "name the interface of the default route, or leave it out",
            ));
        };
        std::fs::create_dir_all(&config.state_dir).map_err(|source| Error::File {
            operation: "create",
            path: config.state_dir.clone(),
            source,
        })?;
        let rest_ms = u64::try_from(config.quarantine.as_millis()).unwrap_or(u64::MAX);
        let addresses = Addresses::open(&config.state_dir.join("addresses"), config.subnet, rest_ms, now_ms())?;
        let footprint = Footprints::open(&config.run_dir)?;
        clear_abandoned(&footprint, &scope, &mut builder);
        let firewall = establish(&mut builder, &scope, nft, gateway, uplink.mtu, &footprint)?;
        let unclaimed: BTreeSet<Ipv4Addr> = addresses.held().chain(firewall.addresses()).collect();
        let shared = Arc::new(Shared::default());
        let worker = Worker {
            scope: scope.clone(),
            gateway,
            mtu: uplink.mtu,
            footprint,
            tracker,
            pool_size: config.pool_size,
            default_policy: Arc::new(config.default_policy),
            rates: config.rates,
            builder,
            firewall,
            addresses,
            unclaimed,
            shared: Arc::clone(&shared),
            retry: None,
            chunk: 0,
            pending: Vec::new(),
        };
        let (commands, receiver) = mpsc::sync_channel(COMMANDS);
        let thread = std::thread::Builder::new()
            .name(format!("net-{}", config.name))
            .spawn(move || worker.run(&receiver))
            .map_err(|source| Error::System {
                operation: "start the network thread",
                source,
            })?;
        Ok(Self {
            scope,
            gateway,
            commands,
            shared,
            thread: Mutex::new(Some(thread)),
            _lock: lock,
        })
    }

    /// The host's address on the bridge.
    pub fn gateway(&self) -> Ipv4Addr {
        self.gateway
    }

    /// The name servers for `/etc/resolv.conf` of a sandbox.
    pub fn resolvers(&self) -> &[Ipv4Addr] {
        &self.scope.resolvers
    }

    /// The interface towards the world.
    pub fn uplink(&self) -> &str {
        &self.scope.uplink
    }

    /// How many namespaces are ready now.
    pub fn idle(&self) -> usize {
        self.shared.pool().ready.len()
    }

    /// A namespace under the default policy. Waits up to [`LEASE_TIMEOUT`] if the pool is empty.
    pub fn lease(&self) -> Result<Lease> {
        let ready = self.next_ready()?;
        // If the thread is gone there is nothing to fill; if its queue is full, it is about to look anyway.
        let _ = self.commands.try_send(Command::Refill);
        let id = format!("{}-{:x}", ready.address, now_ms());
        Ok(self.lease_of(id, ready.address, ready.netns, Some(ready.under)))
    }

    /// A namespace under a policy of its own, in force before this returns.
    pub fn lease_with(&self, policy: &Egress) -> Result<Lease> {
        let lease = self.lease()?;
        if lease.under.as_deref() == Some(policy) {
            return Ok(lease);
        }
        match self.set_policy(lease.address, policy) {
            Ok(()) => Ok(lease),
            Err(error) => {
                self.release(lease);
                Err(error)
            }
        }
    }

    /// Ends a lease: nothing passes from or to its address any more, which rests before its next use. The
    /// namespace goes when the last process in it has. Does not wait for any of it.
    pub fn release(&self, lease: Lease) {
        let address = lease.address;
        drop(lease);
        let _ = self.commands.send(Command::Release(address));
    }

    /// Puts a sandbox, running or not, under another policy. In force when this returns, for open
    /// connections too: those that it does not allow are ended, the others go on. Calls from many threads at once become one transaction.
    pub fn set_policy(&self, address: Ipv4Addr, policy: &Egress) -> Result<()> {
        policy.check()?;
        self.ask(|reply| Command::SetPolicy(address, policy.clone(), reply))
    }

    /// Another policy for leases from now on. Those that there are keep theirs.
    pub fn set_default_policy(&self, policy: &Egress) -> Result<()> {
        policy.check()?;
        self.ask(|reply| Command::SetDefault(policy.clone(), reply))
    }

    /// Opens what rules that tell (`log`) tell of, from now on. One reader at a time.
    pub fn rule_log(&self) -> Result<RuleLog> {
        RuleLog::open(self.scope.log_group())
    }

    /// Limits how fast a sandbox talks, running or not, from now on. The connections that it has stay.
    pub fn set_rates(&self, lease: &Lease, rates: &Rates) -> Result<()> {
        rates.check()?;
        let netns = lease.netns.try_clone().map_err(|source| Error::System {
            operation: "copy a descriptor",
            source,
        })?;
        self.ask(|reply| Command::SetRates(lease.address, *rates, netns, reply))
    }

    /// What the rules that count (`log`) have matched of one sandbox, in the order of its policy.
    pub fn counted(&self, address: Ipv4Addr) -> Result<Vec<Counted>> {
        self.ask(|reply| Command::Counted(address, reply))
    }

    /// Takes over a sandbox that an earlier agent started; it keeps its policy, and gets the network's limits. `netns` is its namespace, as
    /// from `/proc/<init>/ns/net`. An error if its interface is gone.
    pub fn adopt(&self, id: &str, address: Ipv4Addr, netns: OwnedFd) -> Result<Lease> {
        let copy = netns.try_clone().map_err(|source| Error::System {
            operation: "copy a descriptor",
            source,
        })?;
        self.ask(|reply| Command::Adopt {
            id: id.to_owned(),
            address,
            netns: copy,
            reply,
        })?;
        Ok(self.lease_of(id.to_owned(), address, netns, None))
    }

    /// Removes everything of earlier agents that was not adopted, and returns its addresses.
    pub fn sweep(&self) -> Result<Vec<Ipv4Addr>> {
        self.ask(Command::Sweep)
    }

    /// Stops the background thread and drops the pool. Leased sandboxes keep their network.
    pub fn close(self) -> Result<()> {
        self.end(false)
    }

    /// Removes everything of this network from the host, the network of sandboxes still running too.
    pub fn destroy(self) -> Result<()> {
        self.end(true)
    }

    fn end(&self, destroy: bool) -> Result<()> {
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(thread) = thread else { return Ok(()) };
        let result = self.ask(|reply| Command::Close { destroy, reply });
        if !matches!(result, Err(Error::Timeout { .. })) {
            let _ = thread.join();
        }
        result
    }

    fn closed(&self) -> Error {
        let failure = self.shared.pool().failure.clone();
        failure.map_or_else(
            || Error::Closed {
                name: self.scope.name.clone(),
            },
            |(_, source)| Error::Pool { source },
        )
    }

    fn ask<T>(&self, command: impl FnOnce(SyncSender<Result<T>>) -> Command) -> Result<T> {
        let (reply, answer) = mpsc::sync_channel(1);
        self.commands.send(command(reply)).map_err(|_| self.closed())?;
        match answer.recv_timeout(REPLY_TIMEOUT) {
            Ok(result) => result,
            Err(mpsc::RecvTimeoutError::Timeout) => Err(Error::Timeout {
                waited_ms: REPLY_TIMEOUT.as_millis(),
            }),
            Err(mpsc::RecvTimeoutError::Disconnected) => Err(self.closed()),
        }
    }

    fn next_ready(&self) -> Result<Ready> {
        let deadline = Instant::now() + LEASE_TIMEOUT;
        let mut pool = self.shared.pool();
        let failures = |pool: &worker::Pool| pool.failure.as_ref().map_or(0, |(count, _)| *count);
        let before = failures(&pool);
        let mut asked = false;
        loop {
            if let Some(ready) = pool.ready.pop_front() {
                return Ok(ready);
            }
            if pool.closed {
                drop(pool);
                return Err(self.closed());
            }
            if let Some((count, source)) = pool.failure.clone().filter(|(count, _)| *count > before && asked) {
                tracing::debug!(count, "lease refused");
                return Err(Error::Pool { source });
            }
            if !asked {
                asked = true;
                let _ = self.commands.try_send(Command::Refill);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Error::Timeout {
                    waited_ms: LEASE_TIMEOUT.as_millis(),
                });
            }
            pool = self
                .shared
                .changed
                .wait_timeout(pool, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }

    fn lease_of(&self, id: String, address: Ipv4Addr, netns: OwnedFd, under: Option<Arc<Egress>>) -> Lease {
        let host_interface = self.scope.interface(address);
        Lease {
            id,
            address,
            gateway: self.gateway,
            prefix: 32,
            netns,
            host_interface,
            under,
        }
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        if let Err(error) = self.end(false) {
            tracing::warn!(network = %self.scope.name, error = &error as &dyn std::error::Error, "network not closed cleanly");
        }
    }
}

/// The blocks that the host is attached to.
pub(crate) fn attached() -> Result<Vec<Cidr>> {
    // No interface is named so: all of them count.
    host::attached("/")
}

fn scope(config: &NetworkConfig) -> Result<Scope> {
    let uplink = config.uplink.clone().map_or_else(host::uplink, Ok)?;
    let resolvers = if config.resolvers.is_empty() {
        host::resolvers()?
    } else {
        config.resolvers.clone()
    };
    if let Some(other) = host::conflict(&config.subnet, &config.bridge)? {
        let reason = format!("{} overlaps {other}", config.subnet);
        return Err(config.refuse(
            "network.subnet",
            reason,
            "choose a block that no route of this host uses",
        ));
    }
    let near = host::attached(&config.bridge)?.into_iter();
    let near = near.chain(unprivileged::near().iter().copied());
    Ok(Scope {
        resolvers,
        callers: config.callers.clone(),
        attached: near.collect(),
        ..Scope::bare(&config.name, &config.bridge, &uplink, config.subnet)
    })
}
