//! What is to be told to the controller: what changed, everything after a new connection, and that the cell is alive.
//!
//! One report is under way at a time. What it held and did not arrive is put back, unless something newer is known.

use super::client::{Client, Failure};
use api::cell::{Registered, Report, Reported, WorkStats};
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use model::id::WorkId;
use model::work::Observation;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// Time to the second try of a report; it doubles up to [`LAST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// Longest time between two tries.
const LAST_PAUSE: Duration = Duration::from_secs(2);

/// Reports of a cell.
pub(super) struct Reports {
    client: Client,
    lease: watch::Sender<Option<Instant>>,
    terms: Option<Registered>,
    /// Whether an assignment set has been taken over since the connection: before that nothing may be reported, for
    /// a report without observations would mean that the cell holds nothing.
    ready: bool,
    full: bool,
    /// Counts connections: a report of an earlier one tells nothing about this one.
    connection: u64,
    changed: BTreeSet<WorkId>,
    stats: Vec<WorkStats>,
    revision: u64,
    sent_revision: Option<u64>,
    next_heartbeat: Instant,
    not_before: Instant,
    pause: Duration,
    under_way: Option<BoxFuture<'static, Sent>>,
}

/// A report that came to its end.
struct Sent {
    at: Instant,
    works: Vec<WorkId>,
    full: bool,
    connection: u64,
    revision: u64,
    result: Result<Reported, Failure>,
}

/// What a finished report means for the agent.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Nothing to do.
    Fine,
    /// The controller does not know the cell: it has to register again.
    Unknown,
}

impl Reports {
    pub(super) fn new(client: Client, lease: watch::Sender<Option<Instant>>) -> Self {
        let now = Instant::now();
        Self {
            client,
            lease,
            terms: None,
            ready: false,
            full: false,
            connection: 0,
            changed: BTreeSet::new(),
            stats: Vec::new(),
            revision: 0,
            sent_revision: None,
            next_heartbeat: now,
            not_before: now,
            pause: FIRST_PAUSE,
            under_way: None,
        }
    }

    /// A new connection under these terms: all is reported anew once the assignment set has come.
    pub(super) fn connected(&mut self, terms: Registered) {
        self.terms = Some(terms);
        self.connection += 1;
        self.ready = false;
        self.full = true;
        self.not_before = Instant::now();
        self.pause = FIRST_PAUSE;
    }

    /// An assignment set was taken over.
    pub(super) fn took_over(&mut self, revision: u64) {
        self.revision = revision;
        self.ready = true;
    }

    /// The work has something new to tell.
    pub(super) fn changed(&mut self, work: WorkId) {
        self.changed.insert(work);
    }

    /// Figures for the next report.
    pub(super) fn measured(&mut self, stats: Vec<WorkStats>) {
        self.stats = stats;
    }

    /// Waits for the next thing to do: a report that ended, or a time at which to call [`Self::send`]. Cancelling it
    /// loses nothing.
    pub(super) async fn next(&mut self) -> Outcome {
        let due = self.due();
        match &mut self.under_way {
            Some(sending) => {
                let sent = sending.await;
                self.under_way = None;
                self.finished(sent)
            }
            None => {
                match due {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
                Outcome::Fine
            }
        }
    }

    /// Starts a report if one is due and none is under way.
    pub(super) fn send(&mut self, held: &BTreeMap<WorkId, Observation>) {
        let now = Instant::now();
        if self.under_way.is_some() || self.due().is_none_or(|at| at > now) {
            return;
        }
        let full = self.full;
        let works: Vec<WorkId> = std::mem::take(&mut self.changed).into_iter().collect();
        let observations = if full {
            held.values().cloned().collect()
        } else {
            works.iter().filter_map(|work| held.get(work).cloned()).collect()
        };
        let report = Report {
            revision: self.revision,
            full,
            observations,
            stats: std::mem::take(&mut self.stats),
        };
        let client = self.client.clone();
        let connection = self.connection;
        self.under_way = Some(
            async move {
                let result = client.report(&report).await;
                Sent {
                    at: now,
                    works,
                    full,
                    connection,
                    revision: report.revision,
                    result,
                }
            }
            .boxed(),
        );
    }

    /// When the next report is due; `None` where there can be none.
    fn due(&self) -> Option<Instant> {
        if !self.ready || self.terms.is_none() {
            return None;
        }
        let something = self.full || !self.changed.is_empty() || self.sent_revision != Some(self.revision);
        let at = if something {
            self.not_before
        } else {
            self.next_heartbeat
        };
        Some(at.max(self.not_before))
    }

    fn finished(&mut self, sent: Sent) -> Outcome {
        match sent.result {
            Ok(_) => {
                if sent.full && sent.connection == self.connection {
                    self.full = false;
                }
                self.sent_revision = Some(sent.revision);
                self.pause = FIRST_PAUSE;
                if let Some(terms) = &self.terms {
                    self.next_heartbeat = sent.at + Duration::from_millis(terms.heartbeat_ms.max(50));
                    // Counted from before it was sent: the controller's count begins later.
                    self.lease
                        .send_replace(Some(sent.at + Duration::from_millis(terms.lease_ms)));
                }
                Outcome::Fine
            }
            Err(failure) => {
                tracing::debug!(error = %crate::error::chain(&failure), "a report did not arrive, trying again");
                self.changed.extend(sent.works);
                self.not_before = Instant::now() + self.pause;
                self.pause = (self.pause * 2).min(LAST_PAUSE);
                if failure.is_unknown_cell() {
                    self.ready = false;
                    return Outcome::Unknown;
                }
                Outcome::Fine
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::work;
    use model::Secret;
    use model::id::CellId;

    fn reports() -> Reports {
        let client = Client::new(
            api::Controllers::new(["http://127.0.0.1:1"]).expect("an address"),
            Secret::new("t").into(),
            CellId(uuid::Uuid::nil()),
        )
        .expect("a client");
        let mut reports = Reports::new(client, watch::Sender::new(None));
        reports.connected(terms());
        reports
    }

    const fn terms() -> Registered {
        Registered {
            lease_ms: 5000,
            heartbeat_ms: 1000,
        }
    }

    fn sent(reports: &Reports, result: Result<Reported, Failure>) -> Sent {
        Sent {
            at: Instant::now(),
            works: vec![work(1)],
            full: true,
            connection: reports.connection,
            revision: reports.revision,
            result,
        }
    }

    #[tokio::test]
    async fn nothing_is_told_before_the_assignments_are_known_then_everything() {
        let mut reports = reports();
        assert_eq!(reports.due(), None);
        reports.took_over(7);
        assert!(reports.due().expect("due") <= Instant::now());
        let arrived = sent(&reports, Ok(Reported { revision: 7 }));
        assert_eq!(reports.finished(arrived), Outcome::Fine);
        assert!(!reports.full && reports.lease.borrow().is_some());
        assert!(reports.due().expect("the heartbeat") > Instant::now());
        reports.changed(work(2));
        assert!(reports.due().expect("due") <= Instant::now());
    }

    #[tokio::test]
    async fn a_report_of_an_earlier_connection_does_not_count_for_this_one() {
        let mut reports = reports();
        reports.took_over(1);
        let old = sent(&reports, Ok(Reported { revision: 1 }));
        reports.connected(terms());
        reports.finished(old);
        assert!(reports.full && reports.due().is_none());
    }

    #[tokio::test]
    async fn what_did_not_arrive_is_told_again_later_and_a_lost_registration_is_noticed() {
        let mut reports = reports();
        reports.took_over(1);
        let lost = sent(&reports, Err(Failure::Ended));
        assert_eq!(reports.finished(lost), Outcome::Fine);
        assert!(reports.full && reports.changed.contains(&work(1)));
        assert!(reports.due().expect("due") > Instant::now(), "after a pause");
        assert!(reports.lease.borrow().is_none());
        let unknown = Failure::Status {
            status: 404,
            body: String::new(),
        };
        let unknown = sent(&reports, Err(unknown));
        assert_eq!(reports.finished(unknown), Outcome::Unknown);
        assert_eq!(reports.due(), None, "not before it is registered again");
    }
}
