//! The background thread of a network: the only one that changes the rules, builds namespaces and keeps
//! the addresses. Commands that arrive together become one firewall transaction; in between it keeps the
//! pool full (`refill.rs`) and looks after the rules.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::{
    addresses::Addresses,
    conntrack::{self, Entry},
    error::{Error, Result},
    firewall::{Change, Counted, Firewall},
    footprint::Footprints,
    link,
    namespace::Builder,
    netlink::Socket,
    policy::Egress,
    rates::{self, Rates},
    rules::Scope,
};

/// How often the rules are looked for, as a firewall reload by another program flushes them.
const VERIFY_EVERY: Duration = Duration::from_secs(15);

/// What callers ask of the thread.
pub(super) enum Command {
    SetPolicy(Ipv4Addr, Egress, SyncSender<Result<()>>),
    /// For leases from now on.
    SetDefault(Egress, SyncSender<Result<()>>),
    /// With the sandbox's namespace.
    SetRates(Ipv4Addr, Rates, OwnedFd, SyncSender<Result<()>>),
    Counted(Ipv4Addr, SyncSender<Result<Vec<Counted>>>),
    Release(Ipv4Addr),
    Adopt {
        id: String,
        address: Ipv4Addr,
        netns: OwnedFd,
        reply: SyncSender<Result<()>>,
    },
    Sweep(SyncSender<Result<Vec<Ipv4Addr>>>),
    /// The pool has become smaller.
    Refill,
    /// Ends the thread; with `destroy`, everything of the network on the host goes too.
    Close {
        destroy: bool,
        reply: SyncSender<Result<()>>,
    },
}

/// A change of rules, the namespace of its sandbox where that is needed, and who waits for it.
struct Wish {
    change: Change,
    netns: Option<OwnedFd>,
    reply: Option<SyncSender<Result<()>>>,
}

/// A namespace ready to be leased.
pub(super) struct Ready {
    pub(super) address: Ipv4Addr,
    pub(super) netns: OwnedFd,
    /// The policy that it is under.
    pub(super) under: Arc<Egress>,
}

/// What the thread shares with callers.
#[derive(Default)]
pub(super) struct Shared {
    pool: Mutex<Pool>,
    pub(super) changed: Condvar,
}

/// The pool and how filling it goes.
#[derive(Default)]
pub(super) struct Pool {
    pub(super) ready: VecDeque<Ready>,
    /// The latest failure and how many there were.
    pub(super) failure: Option<(u64, Arc<Error>)>,
    pub(super) closed: bool,
}

impl Shared {
    /// The pool. A panic while it was held cannot have left it half-changed.
    pub(super) fn pool(&self) -> MutexGuard<'_, Pool> {
        self.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Everything the thread owns.
pub(super) struct Worker {
    pub(super) scope: Scope,
    pub(super) gateway: Ipv4Addr,
    /// MTU of every interface.
    pub(super) mtu: u32,
    pub(super) pool_size: usize,
    pub(super) default_policy: Arc<Egress>,
    /// Of every sandbox, where the network has any.
    pub(super) rates: Option<Rates>,
    pub(super) builder: Builder,
    /// For connections.
    pub(super) tracker: Socket,
    pub(super) footprint: Footprints,
    pub(super) firewall: Firewall,
    pub(super) addresses: Addresses,
    /// Left by an earlier agent and neither adopted nor swept so far.
    pub(super) unclaimed: BTreeSet<Ipv4Addr>,
    pub(super) shared: Arc<Shared>,
    pub(super) retry: Option<(Instant, Duration)>,
    /// How many namespaces are built in one go.
    pub(super) chunk: usize,
    /// Came in while namespaces were being built.
    pub(super) pending: Vec<Command>,
}

impl Drop for Worker {
    fn drop(&mut self) {
        let mut pool = self.shared.pool();
        pool.closed = true;
        pool.ready.clear();
        self.shared.changed.notify_all();
    }
}

/// Now, in unix milliseconds.
pub(super) fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

impl Worker {
    /// Works until closed, or until every sender is gone.
    pub(super) fn run(mut self, commands: &Receiver<Command>) {
        let mut verified = Instant::now();
        loop {
            let mut batch = std::mem::take(&mut self.pending);
            if batch.is_empty() {
                match self.next(commands, verified) {
                    Ok(first) => batch.push(first),
                    Err(RecvTimeoutError::Timeout) => {}
                    Err(RecvTimeoutError::Disconnected) => return,
                }
            }
            batch.extend(commands.try_iter());
            let closing = match self.handle(batch) {
                Ok(closing) => closing,
                Err(error) => return self.give_up(error),
            };
            if let Some((destroy, reply)) = closing {
                let result = if destroy { self.destroy() } else { self.close() };
                let _ = reply.send(result);
                return;
            }
            if verified.elapsed() >= VERIFY_EVERY {
                self.verify();
                verified = Instant::now();
            }
            if let Err(error) = self.refill(commands) {
                return self.give_up(error);
            }
        }
    }

    fn give_up(&mut self, error: Error) {
        tracing::error!(network = %self.scope.name, error = &error as &dyn std::error::Error, "network thread ends");
        self.note_failure(error);
    }

    fn next(&self, commands: &Receiver<Command>, verified: Instant) -> Result<Command, RecvTimeoutError> {
        let mut wait = VERIFY_EVERY.saturating_sub(verified.elapsed());
        if self.missing() > 0 {
            let pause = self
                .retry
                .map_or(Duration::ZERO, |(at, _)| at.saturating_duration_since(Instant::now()));
            wait = wait.min(pause);
        }
        commands.recv_timeout(wait)
    }

    pub(super) fn missing(&self) -> usize {
        self.pool_size.saturating_sub(self.shared.pool().ready.len())
    }

    /// Carries out commands that arrived together; answers the one to close, if there is one. An error means that this
    /// thread cannot go on.
    fn handle(&mut self, batch: Vec<Command>) -> Result<Option<(bool, SyncSender<Result<()>>)>> {
        let (mut wishes, mut sweeps, mut defaults, mut close) = (Vec::new(), Vec::new(), Vec::new(), None);
        for command in batch {
            match command {
                Command::SetPolicy(address, policy, reply) => {
                    let change = Change::Admit(address, Arc::new(policy));
                    wishes.extend(self.wish(address, change, None, reply));
                }
                Command::SetDefault(policy, reply) => defaults.push((policy, reply)),
                Command::SetRates(address, rates, netns, reply) => {
                    wishes.extend(self.wish(address, Change::Limit(address, rates), Some(netns), reply));
                }
                Command::Counted(address, reply) => drop(reply.send(self.firewall.counted(address))),
                Command::Release(address) => wishes.push(Wish {
                    change: Change::Expel(address),
                    netns: None,
                    reply: None,
                }),
                Command::Adopt {
                    id,
                    address,
                    netns,
                    reply,
                } => match self.check_adoption(&id, address) {
                    Ok(()) => wishes.push(Wish {
                        change: Change::Readmit(address, Arc::clone(&self.default_policy), self.rates),
                        netns: Some(netns),
                        reply: Some(reply),
                    }),
                    Err(error) => drop(reply.send(Err(error))),
                },
                Command::Sweep(reply) => sweeps.push(reply),
                // Somebody waits: try at once, whatever failed before.
                Command::Refill => self.retry = None,
                Command::Close { destroy, reply } => close = Some((destroy, reply)),
            }
        }
        self.settle(wishes)?;
        for (policy, reply) in defaults {
            let _ = reply.send(self.change_default(policy));
        }
        for reply in sweeps {
            let _ = reply.send(self.sweep());
        }
        Ok(close)
    }

    /// A wish about a leased address; whoever wishes about another is told so.
    fn wish(
        &self,
        address: Ipv4Addr,
        change: Change,
        netns: Option<OwnedFd>,
        reply: SyncSender<Result<()>>,
    ) -> Option<Wish> {
        if self.leased(address) {
            let reply = Some(reply);
            return Some(Wish { change, netns, reply });
        }
        let _ = reply.send(Err(Error::NotLeased { address }));
        None
    }

    fn leased(&self, address: Ipv4Addr) -> bool {
        let waiting = || self.shared.pool().ready.iter().any(|ready| ready.address == address);
        self.firewall.admitted(address) && !self.unclaimed.contains(&address) && !waiting()
    }

    /// Changes the rules as wished in one go, then what goes with each.
    fn settle(&mut self, wishes: Vec<Wish>) -> Result<()> {
        let changes: Vec<Change> = wishes.iter().map(|wish| wish.change.clone()).collect();
        let results = if changes.is_empty() {
            Vec::new()
        } else {
            self.firewall.apply(&changes)
        };
        // The rules came first: between the two nothing new can begin.
        let ended = self.end_forbidden(&changes);
        let mut freed = Vec::new();
        for (wish, result) in wishes.into_iter().zip(results) {
            let result = match (wish.change, result) {
                (Change::Expel(address), Ok(())) => {
                    freed.push(address);
                    Ok(())
                }
                (Change::Expel(address), Err(error)) => {
                    tracing::warn!(%address, error = &error as &dyn std::error::Error, "address kept until the next sweep");
                    self.unclaimed.insert(address);
                    Ok(())
                }
                (Change::Admit(..), Ok(())) => ended.clone().map_err(|source| Error::Connections { source }),
                (Change::Limit(address, rates) | Change::Readmit(address, _, Some(rates)), Ok(())) => {
                    self.shape(address, rates, wish.netns)?
                }
                (_, result) => result,
            };
            if let Some(reply) = wish.reply {
                let _ = reply.send(result);
            }
        }
        if let Err(error) = self.free(&freed) {
            tracing::warn!(network = %self.scope.name, error = &error as &dyn std::error::Error, "released addresses are not noted");
        }
        Ok(())
    }

    /// Ends the connections that sandboxes opened and that their new policies do not permit, and all of those whose
    /// lease ends. What sandboxes answer to the host is no business of a policy.
    fn end_forbidden(&mut self, changes: &[Change]) -> Result<(), Arc<Error>> {
        let policies: HashMap<Ipv4Addr, Option<&Egress>> = changes
            .iter()
            .filter_map(|change| match change {
                Change::Admit(address, policy) => Some((*address, Some(&**policy))),
                Change::Expel(address) => Some((*address, None)),
                Change::Readmit(..) | Change::Limit(..) => None,
            })
            .collect();
        if policies.is_empty() {
            return Ok(());
        }
        let addresses: Vec<Ipv4Addr> = policies.keys().copied().collect();
        let open = conntrack::opened_by(&mut self.tracker, &addresses).map_err(Arc::new)?;
        let (near, resolvers) = (&self.scope.attached, &self.scope.resolvers);
        let permitted = |entry: &Entry| match policies.get(&entry.source) {
            Some(Some(policy)) => policy.permits(&entry.flow, near, resolvers),
            _ => false,
        };
        let forbidden: Vec<&Entry> = open.iter().filter(|entry| !permitted(entry)).collect();
        conntrack::end(&mut self.tracker, &forbidden).map_err(Arc::new)
    }

    /// Sets the queues at both ends of a sandbox's pair. The outer error means that this thread cannot go on.
    pub(super) fn shape(&mut self, address: Ipv4Addr, limits: Rates, netns: Option<OwnedFd>) -> Result<Result<()>> {
        let interface = self.scope.interface(address);
        let outside = rates::shape(&mut self.builder.host, &interface, limits.bytes_in);
        let (Ok(()), Some(netns)) = (&outside, netns) else {
            return Ok(outside);
        };
        self.builder.visit(&netns, |inside| {
            rates::shape(inside, link::INNER_NAME, limits.bytes_out)
        })
    }

    fn free(&mut self, addresses: &[Ipv4Addr]) -> Result<()> {
        link::forget(&mut self.builder.host, addresses)?;
        self.addresses.give_back(addresses, now_ms())
    }

    fn check_adoption(&mut self, id: &str, address: Ipv4Addr) -> Result<()> {
        let refuse = |reason: &str| {
            Err(Error::Adopt {
                id: id.to_owned(),
                address,
                reason: reason.to_owned(),
            })
        };
        if !self.scope.subnet.contains(address) || address == self.gateway {
            return refuse("it is no sandbox address of this network");
        }
        let interface = self.scope.interface(address);
        if link::interface(&mut self.builder.host, &interface)?.is_none() {
            return refuse("its interface is gone, so its namespace is");
        }
        link::reach_port(&mut self.builder.host, &interface, address, self.gateway)?;
        self.addresses.claim(address, now_ms())?;
        self.unclaimed.remove(&address);
        Ok(())
    }

    /// The host's interfaces of sandboxes.
    fn ports(&mut self) -> Result<Vec<String>> {
        let ours = self.scope.interfaces();
        let interfaces = link::interfaces(&mut self.builder.host)?.into_iter();
        Ok(interfaces
            .map(|interface| interface.name)
            .filter(|name| name.starts_with(&ours))
            .collect())
    }

    /// Removes what an earlier agent left and nobody adopted.
    fn sweep(&mut self) -> Result<Vec<Ipv4Addr>> {
        let stale: Vec<Ipv4Addr> = self.unclaimed.iter().copied().collect();
        let kept: BTreeSet<String> = self
            .addresses
            .held()
            .filter(|address| !self.unclaimed.contains(address))
            .map(|address| self.scope.interface(address))
            .collect();
        let mut left = self.ports()?;
        left.retain(|name| !kept.contains(name));
        link::delete_all(&mut self.builder.host, &left)?;
        let changes: Vec<Change> = stale.iter().copied().map(Change::Expel).collect();
        for result in self.firewall.apply(&changes) {
            result?;
        }
        self.free(&stale)?;
        self.unclaimed.clear();
        Ok(stale)
    }

    fn verify(&mut self) {
        let outcome = match self.firewall.present() {
            Ok(true) => return,
            Ok(false) => self.firewall.restore(&self.default_policy),
            Err(error) => Err(error),
        };
        match outcome {
            Ok(()) => tracing::warn!(network = %self.scope.name, "firewall rules had been flushed and are restored"),
            Err(error) => tracing::error!(
                network = %self.scope.name, error = &error as &dyn std::error::Error,
                "firewall rules are missing and could not be restored"
            ),
        }
    }

    /// Drops the pool; sandboxes in use keep their network, for the next agent to adopt.
    fn close(&mut self) -> Result<()> {
        let pool: Vec<Ready> = self.shared.pool().ready.drain(..).collect();
        let unused: Vec<Ipv4Addr> = pool.iter().map(|ready| ready.address).collect();
        drop(pool);
        let changes: Vec<Change> = unused.iter().copied().map(Change::Expel).collect();
        for result in self.firewall.apply(&changes) {
            result?;
        }
        self.free(&unused)
    }

    fn destroy(&mut self) -> Result<()> {
        self.shared.pool().ready.clear();
        let mut all = self.ports()?;
        all.push(self.scope.bridge.clone());
        link::delete_all(&mut self.builder.host, &all)?;
        self.firewall.destroy()?;
        self.footprint.clear(&self.scope.name)?;
        self.addresses.remove()
    }
}
