//! The pool: namespaces built in advance, under the policy and the limits that leases begin with.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use super::{
    error::{Error, Result},
    firewall::Change,
    policy::Egress,
    worker::{Command, Ready, Worker, now_ms},
};

/// Namespaces built between two looks at the commands: at first, and at most while leases outrun them.
const CHUNK: (usize, usize) = (8, 64);
/// First and longest pause after a failure to build.
const PAUSE: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(30));

impl Worker {
    /// Builds up to a chunk of what the pool lacks, less if somebody waits for an answer. An error means that this thread cannot go on.
    pub(super) fn refill(&mut self, commands: &Receiver<Command>) -> Result<()> {
        let paused = self.retry.is_some_and(|(at, _)| at > Instant::now());
        if !self.shared.pool().ready.is_empty() {
            self.chunk = CHUNK.0;
        }
        let count = self.missing().min(self.chunk.max(CHUNK.0));
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
                    match self.builder.build(&interface, address, self.gateway, self.mtu)? {
                        Ok(netns) => built.push(Ready {
                            address,
                            netns,
                            under: Arc::clone(&self.default_policy),
                        }),
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
            .map(|ready| Change::Readmit(ready.address, Arc::clone(&ready.under), self.rates))
            .collect();
        let results = self.firewall.apply(&changes);
        let mut admitted = Vec::with_capacity(built.len());
        for (ready, result) in built.into_iter().zip(results) {
            let result = match result {
                Ok(()) => self.pace(&ready)?,
                failed => failed,
            };
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
        // On disk before anybody can use one: after a crash of the host it must not pass for free.
        if let Err(error) = self.addresses.sync() {
            failure = Some(error);
            self.unclaimed.extend(admitted.drain(..).map(|ready| ready.address));
        }
        // Fewer transactions and flushes each the next time, if leases wait.
        self.chunk = (self.chunk.max(CHUNK.0) * 2).min(CHUNK.1);
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

    pub(super) fn note_failure(&mut self, error: Error) {
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

    /// Limits the bandwidth of what was built, where the network has limits. Errors as in [`Worker::shape`].
    fn pace(&mut self, ready: &Ready) -> Result<Result<()>> {
        let Some(rates) = self.rates.filter(|rates| rates.bytes_in.or(rates.bytes_out).is_some()) else {
            return Ok(Ok(()));
        };
        match ready.netns.try_clone() {
            Ok(netns) => self.shape(ready.address, rates, Some(netns)),
            Err(source) => Ok(Err(Error::System {
                operation: "copy a descriptor",
                source,
            })),
        }
    }

    /// Another policy for leases from now on: the pool waits under it.
    pub(super) fn change_default(&mut self, policy: Egress) -> Result<()> {
        if policy == *self.default_policy {
            return Ok(());
        }
        self.default_policy = Arc::new(policy);
        // Nobody may lease one whose policy changes at that moment.
        let pool: Vec<Ready> = self.shared.pool().ready.drain(..).collect();
        let changes: Vec<Change> = pool
            .iter()
            .map(|ready| Change::Admit(ready.address, Arc::clone(&self.default_policy)))
            .collect();
        let results = self.firewall.apply(&changes);
        let (mut kept, mut failure, mut spoiled) = (Vec::with_capacity(pool.len()), None, Vec::<Ipv4Addr>::new());
        for (ready, result) in pool.into_iter().zip(results) {
            match result {
                Ok(()) => kept.push(Ready {
                    under: Arc::clone(&self.default_policy),
                    ..ready
                }),
                Err(error) => {
                    spoiled.push(ready.address);
                    failure = Some(error);
                }
            }
        }
        self.unclaimed.extend(spoiled);
        self.publish(kept);
        failure.map_or(Ok(()), Err)
    }
}
