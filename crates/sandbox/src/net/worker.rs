//! The background thread of a network: the only one that changes the rules, builds namespaces and keeps
//! the addresses. Commands that arrive together become one firewall transaction; in between it keeps the
//! pool full and looks after the rules.

use std::{
    collections::{BTreeSet, VecDeque},
    net::Ipv4Addr,
    os::fd::OwnedFd,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        mpsc::{Receiver, RecvTimeoutError, SyncSender},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use super::{
    addresses::Addresses,
    error::{Error, Result},
    firewall::{Change, Firewall},
    host, link,
    namespace::Builder,
    policy::Egress,
    rules::Scope,
};

/// Namespaces built between two looks at the commands.
const CHUNK: usize = 8;
/// First and longest pause after a failure to build.
const PAUSE: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(30));
/// How often the rules are looked for, as a firewall reload by another program flushes them.
const VERIFY_EVERY: Duration = Duration::from_secs(15);

/// What callers ask of the thread.
pub(super) enum Command {
    SetPolicy(Ipv4Addr, Egress, SyncSender<Result<()>>),
    Release(Ipv4Addr),
    Adopt {
        id: String,
        address: Ipv4Addr,
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

/// A namespace ready to be leased.
pub(super) struct Ready {
    pub(super) address: Ipv4Addr,
    pub(super) netns: OwnedFd,
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
    /// Index of the bridge, and MTU of every port.
    pub(super) bridge: (u32, u32),
    pub(super) pool_size: usize,
    pub(super) default_policy: Egress,
    pub(super) builder: Builder,
    pub(super) firewall: Firewall,
    pub(super) addresses: Addresses,
    /// Left by an earlier agent and neither adopted nor swept so far.
    pub(super) unclaimed: BTreeSet<Ipv4Addr>,
    pub(super) shared: Arc<Shared>,
    pub(super) retry: Option<(Instant, Duration)>,
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
            if let Some((destroy, reply)) = self.handle(batch) {
                let result = if destroy { self.destroy() } else { self.close() };
                let _ = reply.send(result);
                return;
            }
            if verified.elapsed() >= VERIFY_EVERY {
                self.verify();
                verified = Instant::now();
            }
            if let Err(error) = self.refill(commands) {
                tracing::error!(network = %self.scope.name, error = &error as &dyn std::error::Error, "network thread ends");
                self.note_failure(error);
                return;
            }
        }
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

    fn missing(&self) -> usize {
        self.pool_size.saturating_sub(self.shared.pool().ready.len())
    }

    /// Carries out commands that arrived together; answers the one to close, if there is one.
    fn handle(&mut self, batch: Vec<Command>) -> Option<(bool, SyncSender<Result<()>>)> {
        let (mut changes, mut after, mut close) = (Vec::new(), Vec::new(), None);
        let mut sweeps = Vec::new();
        for command in batch {
            match command {
                Command::SetPolicy(address, policy, reply) => {
                    if self.leased(address) {
                        changes.push(Change::Admit(address, policy));
                        after.push(Some(reply));
                    } else {
                        let _ = reply.send(Err(Error::NotLeased { address }));
                    }
                }
                Command::Release(address) => {
                    changes.push(Change::Expel(address));
                    after.push(None);
                }
                Command::Adopt { id, address, reply } => match self.check_adoption(&id, address) {
                    Ok(()) => {
                        changes.push(Change::Readmit(address, self.default_policy.clone()));
                        after.push(Some(reply));
                    }
                    Err(error) => drop(reply.send(Err(error))),
                },
                Command::Sweep(reply) => sweeps.push(reply),
                // Somebody waits: try at once, whatever failed before.
                Command::Refill => self.retry = None,
                Command::Close { destroy, reply } => close = Some((destroy, reply)),
            }
        }
        self.settle(&changes, after);
        for reply in sweeps {
            let _ = reply.send(self.sweep());
        }
        close
    }

    fn leased(&self, address: Ipv4Addr) -> bool {
        let waiting = || self.shared.pool().ready.iter().any(|ready| ready.address == address);
        self.firewall.admitted(address) && !self.unclaimed.contains(&address) && !waiting()
    }

    fn settle(&mut self, changes: &[Change], replies: Vec<Option<SyncSender<Result<()>>>>) {
        let mut freed = Vec::new();
        let results = if changes.is_empty() {
            Vec::new()
        } else {
            self.firewall.apply(changes)
        };
        for ((change, reply), result) in changes.iter().zip(replies).zip(results) {
            if let Change::Expel(address) = change {
                match &result {
                    Ok(()) => freed.push(*address),
                    Err(error) => {
                        tracing::warn!(%address, error = error as &dyn std::error::Error, "address kept until the next sweep");
                        self.unclaimed.insert(*address);
                    }
                }
            }
            if let Some(reply) = reply {
                let _ = reply.send(result);
            }
        }
        if let Err(error) = self.free(&freed) {
            tracing::warn!(network = %self.scope.name, error = &error as &dyn std::error::Error, "released addresses are not noted");
        }
    }

    fn free(&mut self, addresses: &[Ipv4Addr]) -> Result<()> {
        link::forget_neighbours(&mut self.builder.host, self.bridge.0, addresses)?;
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
        match link::interface(&mut self.builder.host, &interface)? {
            Some(port) if port.master == self.bridge.0 => {}
            Some(_) => return refuse("its interface is not on the bridge"),
            None => return refuse("its interface is gone, so its namespace is"),
        }
        link::keep_reachable(&mut self.builder.host, self.bridge.0, address)?;
        self.addresses.claim(address, now_ms())?;
        self.unclaimed.remove(&address);
        Ok(())
    }

    /// The interfaces that are ports of the bridge.
    fn ports(&mut self) -> Result<Vec<String>> {
        let mut interfaces = link::interfaces(&mut self.builder.host)?;
        interfaces.retain(|interface| interface.master == self.bridge.0);
        Ok(interfaces.into_iter().map(|interface| interface.name).collect())
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

    /// Builds up to a chunk of what the pool lacks, less if somebody waits for an answer. An error means that this thread cannot go on.
    fn refill(&mut self, commands: &Receiver<Command>) -> Result<()> {
        let paused = self.retry.is_some_and(|(at, _)| at > Instant::now());
        let count = self.missing().min(CHUNK);
        if paused || count == 0 {
            return Ok(());
        }
        let (mut built, mut spoiled) = (Vec::new(), Vec::new());
        let mut failure = None;
        while built.len() < count && failure.is_none() && !self.awaited(commands) {
            match self.addresses.take(now_ms()) {
                Err(error) => failure = Some(error),
                Ok(address) => {
                    let interface = self.scope.interface(address);
                    match self.builder.build(&interface, address, self.gateway, self.bridge)? {
                        Ok(netns) => built.push(Ready { address, netns }),
                        Err(error) => {
                            spoiled.push(address);
                            failure = Some(error);
                        }
                    }
                }
            }
        }
        let changes: Vec<Change> = built
            .iter()
            .map(|ready| Change::Admit(ready.address, self.default_policy.clone()))
            .collect();
        let results = self.firewall.apply(&changes);
        let mut admitted = Vec::with_capacity(built.len());
        for (ready, result) in built.into_iter().zip(results) {
            match result {
                Ok(()) => admitted.push(ready),
                Err(error) => {
                    spoiled.push(ready.address);
                    failure = Some(error);
                }
            }
        }
        if let Err(error) = self.addresses.give_back(&spoiled, now_ms()) {
            failure = Some(error);
        }
        self.publish(admitted);
        match failure {
            Some(error) => self.note_failure(error),
            None => self.retry = None,
        }
        Ok(())
    }

    /// Whether a command has come in that is more than a call to go on building.
    fn awaited(&mut self, commands: &Receiver<Command>) -> bool {
        self.pending.extend(
            commands
                .try_iter()
                .filter(|command| !matches!(command, Command::Refill)),
        );
        !self.pending.is_empty()
    }

    fn publish(&self, ready: Vec<Ready>) {
        self.shared.pool().ready.extend(ready);
        self.shared.changed.notify_all();
    }

    fn note_failure(&mut self, error: Error) {
        let pause = self.retry.map_or(PAUSE.0, |(_, before)| (before * 2).min(PAUSE.1));
        self.retry = Some((Instant::now() + pause, pause));
        tracing::warn!(
            network = %self.scope.name, error = &error as &dyn std::error::Error,
            retry_ms = pause.as_millis(), "no network namespace could be prepared"
        );
        let mut pool = self.shared.pool();
        let count = pool.failure.as_ref().map_or(0, |(count, _)| *count) + 1;
        pool.failure = Some((count, Arc::new(error)));
        self.shared.changed.notify_all();
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
        for interface in self.firewall.destroy()? {
            host::set_forwarding(&interface, false)?;
        }
        self.addresses.remove()
    }
}
