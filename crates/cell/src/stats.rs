//! What work uses of the host: figures of sandboxes, made into rates, and only those that changed noticeably.

use crate::work::{Handle, Message};
use api::cell::WorkStats;
use model::id::WorkId;
use sandbox::Stats;
use std::collections::HashMap;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::Instant;

/// Time between two measurements.
pub(crate) const INTERVAL: Duration = Duration::from_secs(5);
/// Time for an actor to answer.
const ANSWER: Duration = Duration::from_secs(2);
/// Change of CPU, in cores, that is noticeable.
const CPU_STEP: f64 = 0.01;
/// Change of memory or disk, in bytes, that is noticeable.
const BYTES_STEP: u64 = 1 << 20;

/// Asks all of `works` at once; those that do not run, or do not answer in time, are left out.
pub(crate) async fn measure(works: Vec<(WorkId, Handle)>) -> Vec<(WorkId, Instant, Stats)> {
    let asked = works.into_iter().map(|(work, handle)| async move {
        let (reply, answer) = oneshot::channel();
        if !handle.tell(Message::Measure(reply)) {
            return None;
        }
        let stats = tokio::time::timeout(ANSWER, answer).await.ok()?.ok()?;
        Some((work, Instant::now(), stats))
    });
    futures_util::future::join_all(asked)
        .await
        .into_iter()
        .flatten()
        .collect()
}

/// Remembers what was measured and what was told.
#[derive(Debug, Default)]
pub(crate) struct Rates {
    last: HashMap<WorkId, (Instant, u64)>,
    told: HashMap<WorkId, WorkStats>,
}

impl Rates {
    /// Those of `measured` that are worth telling. What was not measured is forgotten.
    pub(crate) fn take(&mut self, measured: &[(WorkId, Instant, Stats)]) -> Vec<WorkStats> {
        let mut last = HashMap::with_capacity(measured.len());
        let mut told = HashMap::with_capacity(measured.len());
        let mut news = Vec::new();
        for (work, at, stats) in measured {
            let cpu = self.last.get(work).map_or(0.0, |(before, usec)| {
                let seconds = at.saturating_duration_since(*before).as_secs_f64();
                let used = Duration::from_micros(stats.cpu_usec.saturating_sub(*usec)).as_secs_f64();
                if seconds > 0.0 { used / seconds } else { 0.0 }
            });
            let now = WorkStats {
                work: *work,
                cpu,
                memory_bytes: stats.memory_bytes,
                disk_bytes: stats.disk_bytes,
                log_rate: 0,
            };
            let before = self.told.remove(work);
            let known = before.filter(|before| !is_news(before, &now));
            if known.is_none() {
                news.push(now.clone());
            }
            told.insert(*work, known.unwrap_or(now));
            last.insert(*work, (*at, stats.cpu_usec));
        }
        (self.last, self.told) = (last, told);
        news
    }
}

fn is_news(before: &WorkStats, now: &WorkStats) -> bool {
    (before.cpu - now.cpu).abs() >= CPU_STEP
        || before.memory_bytes.abs_diff(now.memory_bytes) >= BYTES_STEP
        || before.disk_bytes.abs_diff(now.disk_bytes) >= BYTES_STEP
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::work;

    fn stats(cpu_usec: u64, memory_bytes: u64) -> Stats {
        Stats {
            cpu_usec,
            memory_bytes,
            ..Stats::default()
        }
    }

    #[test]
    fn rates_are_between_measurements_and_only_news_is_told() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut rates = Rates::default();
        let first = rates.take(&[(work(1), at(0), stats(1_000_000, 10 << 20))]);
        assert_eq!((first.len(), first[0].cpu, first[0].memory_bytes), (1, 0.0, 10 << 20));
        let second = rates.take(&[(work(1), at(5), stats(3_500_000, 10 << 20))]);
        assert_eq!((second.len(), second[0].cpu), (1, 0.5));
        let same = rates.take(&[(work(1), at(10), stats(6_000_000, (10 << 20) + 5))]);
        assert!(same.is_empty());
        assert!(rates.take(&[]).is_empty());
        let again = rates.take(&[(work(1), at(20), stats(1, 1))]);
        assert_eq!((again.len(), again[0].cpu), (1, 0.0), "a new beginning");
    }
}
