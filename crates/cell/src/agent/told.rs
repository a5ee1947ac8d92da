//! Connections that rules with `log` allow, in this daemon's log with the app that made them. Bounded by rule in the
//! kernel, and for the whole cell here.

use crate::core::Core;
use crate::error::{blocking, chain, kernel};
use model::id::WorkId;
use model::work::{Observation, Owner};
use sandbox::net::{RuleLog, Told};
use std::collections::{BTreeMap, HashMap};
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// Lines per second of one cell; the rest is counted.
const LINES: usize = 100;
/// Batches that wait for the agent.
const BATCHES: usize = 16;
/// How long one look waits; the reader ends with the agent within this time.
const LOOK: Duration = Duration::from_millis(500);

/// What was told, and how much more there was.
#[derive(Debug, Default)]
pub(super) struct Batch {
    told: Vec<Told>,
    /// Beyond the bound, since the last batch.
    left_out: usize,
    /// The kernel had more than it could keep.
    lost: bool,
}

/// Reads what is told, once any rule asks for it.
#[derive(Debug)]
pub(super) struct Telling {
    sender: mpsc::Sender<Batch>,
    running: bool,
}

impl Telling {
    /// A reader that does not read yet, and where it sends what it reads.
    pub(super) fn new() -> (Self, mpsc::Receiver<Batch>) {
        let (sender, batches) = mpsc::channel(BATCHES);
        let running = false;
        (Self { sender, running }, batches)
    }

    /// Begins to read, if a rule asks for it and nobody reads yet.
    pub(super) async fn begin(&mut self, core: &Arc<Core>) {
        let asked = core.rulebook.now().is_some_and(|told| told.tells());
        if self.running || !asked {
            return;
        }
        let runtime = core.runtime.clone();
        let opened = blocking(move || runtime.rule_log().map_err(kernel("listen to rules"))).await;
        match opened {
            Ok(log) => {
                self.running = true;
                let (sender, shutdown) = (self.sender.clone(), core.shutdown.clone());
                core.tasks
                    .spawn_blocking(move || read(log, &sender, || shutdown.is_cancelled()));
            }
            Err(error) => {
                tracing::error!(error = %chain(&error), "rules of security groups that ask for it are not logged");
            }
        }
    }
}

/// Reads until the end; more than the bound is counted, and nobody is waited for.
fn read(mut log: RuleLog, to: &mpsc::Sender<Batch>, ended: impl Fn() -> bool) {
    let mut bound = Bound::new(Instant::now());
    let mut batch = Batch::default();
    while !ended() {
        match log.read(LOOK) {
            Ok(heard) => {
                batch.lost |= heard.lost;
                let count = heard.told.len();
                let taken = bound.take(count, Instant::now());
                batch.left_out += count - taken;
                batch.told.extend(heard.told.into_iter().take(taken));
            }
            Err(error) => {
                tracing::error!(error = %chain(&error), "the log of rules broke");
                return;
            }
        }
        if batch.told.is_empty() && !batch.lost && batch.left_out == 0 {
            continue;
        }
        if let Err(mpsc::error::TrySendError::Full(back)) = to.try_send(std::mem::take(&mut batch)) {
            batch.left_out = back.left_out + back.told.len();
            batch.lost = back.lost;
        }
    }
}

/// Lines that are left in this second.
struct Bound {
    since: Instant,
    left: usize,
}

impl Bound {
    const fn new(now: Instant) -> Self {
        Self {
            since: now,
            left: LINES,
        }
    }

    /// How many of `count` there is room for.
    fn take(&mut self, count: usize, now: Instant) -> usize {
        if now.duration_since(self.since) >= Duration::from_secs(1) {
            *self = Self::new(now);
        }
        let taken = count.min(self.left);
        self.left -= taken;
        taken
    }
}

/// Writes what was told, with whose it is.
pub(super) fn write<'a>(
    batch: &Batch,
    observed: &BTreeMap<WorkId, Observation>,
    owner: impl Fn(WorkId) -> Option<&'a Owner>,
) {
    let works: HashMap<Ipv4Addr, WorkId> = observed
        .iter()
        .filter(|(_, seen)| !seen.state.is_final())
        .filter_map(|(work, seen)| Some((seen.address?, *work)))
        .collect();
    for told in &batch.told {
        let work = works.get(&told.source).copied();
        let owner = work.and_then(&owner);
        let protocol = match told.protocol {
            6 => "tcp".to_owned(),
            17 => "udp".to_owned(),
            1 => "icmp".to_owned(),
            other => other.to_string(),
        };
        let id = |text: Option<String>| text.unwrap_or_default();
        tracing::info!(
            app.id = id(owner.map(|owner| owner.app.to_string())),
            space.id = id(owner.map(|owner| owner.space.to_string())),
            org.id = id(owner.map(|owner| owner.org.to_string())),
            work.id = id(work.map(|work| work.to_string())),
            source = %told.source,
            destination = %told.destination,
            protocol,
            port = told.ports.map(|(_, to)| to),
            icmp_type = told.icmp.map(|(kind, _)| kind),
            icmp_code = told.icmp.map(|(_, code)| code),
            "a security group allowed a connection"
        );
    }
    if batch.left_out > 0 || batch.lost {
        tracing::warn!(
            left_out = batch.left_out,
            lost = batch.lost,
            "not all connections that rules tell of are logged"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_has_its_lines_and_the_next_has_them_again() {
        let begin = Instant::now();
        let mut bound = Bound::new(begin);
        assert_eq!(bound.take(LINES - 1, begin), LINES - 1);
        assert_eq!(bound.take(5, begin), 1);
        assert_eq!(bound.take(5, begin + Duration::from_millis(999)), 0);
        assert_eq!(bound.take(5, begin + Duration::from_secs(1)), 5);
    }
}
