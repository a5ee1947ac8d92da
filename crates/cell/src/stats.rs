//! What work uses of the host: figures of sandboxes, made into rates, and only those that changed noticeably.

use api::cell::WorkStats;
use model::id::WorkId;
use sandbox::log::SEGMENT_BYTES;
use sandbox::{Pressure, Runtime, Stats};
use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;
use tokio::time::Instant;

/// Time between two measurements.
pub(crate) const INTERVAL: Duration = Duration::from_secs(5);
/// Change of CPU, in cores, that is noticeable.
const CPU_STEP: f64 = 0.01;
/// Change of memory or disk, in bytes, that is noticeable.
const BYTES_STEP: u64 = 1 << 20;

/// Change of the log rate, in bytes per second, that is noticeable.
const LOG_STEP: u64 = 1 << 10;

/// What one sandbox was found to use.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Measured {
    stats: Stats,
    /// Bytes of its log, ever: as good as the size of segments tells.
    log_bytes: u64,
}

/// Segments are numbered from 1 and nearly full when the next begins; old ones are gone.
fn log_bytes(dir: &Path) -> u64 {
    let entries = std::fs::read_dir(dir).into_iter().flatten().filter_map(Result::ok);
    let newest = entries.filter_map(|entry| {
        let name = entry.file_name().into_string().ok()?;
        let number: u64 = name.strip_suffix(".log")?.parse().ok()?;
        Some((number, entry.metadata().ok()?.len()))
    });
    newest
        .max()
        .map_or(0, |(number, size)| number.saturating_sub(1) * SEGMENT_BYTES + size)
}

/// Measures those of `works` that have a sandbox, all in one go. Blocking.
pub(crate) fn measure(runtime: &Runtime, works: &[WorkId]) -> Vec<(WorkId, Instant, Measured)> {
    let mut all: HashMap<String, Stats> = runtime.stats_all().into_iter().collect();
    let at = Instant::now();
    let measured = works.iter().filter_map(|work| {
        let id = work.to_string();
        let stats = all.remove(&id)?;
        let log_bytes = log_bytes(&runtime.log_dir(&id));
        Some((*work, at, Measured { stats, log_bytes }))
    });
    measured.collect()
}

/// Counts for whoever watches this cell: sums over all its sandboxes, by what they tell of trouble.
pub(crate) fn publish(measured: &[(WorkId, Instant, Measured)]) {
    let all = || measured.iter().map(|(_, _, measured)| &measured.stats);
    let sum = |of: fn(&Stats) -> u64| all().map(of).sum::<u64>() as f64;
    metrics::gauge!("paas_cell_sandboxes").set(measured.len() as f64);
    metrics::gauge!("paas_cell_sandbox_memory_bytes").set(sum(|stats| stats.memory_bytes));
    metrics::gauge!("paas_cell_sandbox_processes").set(sum(|stats| stats.pids));
    metrics::gauge!("paas_cell_sandboxes_throttled").set(sum(|stats| u64::from(stats.throttled_periods > 0)));
    metrics::gauge!("paas_cell_sandboxes_fork_refused").set(sum(|stats| u64::from(stats.pids_refused > 0)));
    let worst = |of: fn(&Pressure) -> f32| {
        let waits = all().filter_map(|stats| stats.pressure.as_ref().map(of));
        f64::from(waits.fold(0.0, f32::max))
    };
    let waits: [f64; 3] = [
        worst(|pressure| pressure.cpu.some_avg10),
        worst(|pressure| pressure.memory.some_avg10),
        worst(|pressure| pressure.io.some_avg10),
    ];
    for (resource, percent) in ["cpu", "memory", "io"].into_iter().zip(waits) {
        metrics::gauge!("paas_cell_worst_pressure_percent", "resource" => resource).set(percent);
    }
}

/// Remembers what was measured and what was told.
#[derive(Debug, Default)]
pub(crate) struct Rates {
    last: HashMap<WorkId, (Instant, Measured)>,
    told: HashMap<WorkId, WorkStats>,
}

impl Rates {
    /// Those of `measured` that are worth telling. What was not measured is forgotten.
    pub(crate) fn take(&mut self, measured: &[(WorkId, Instant, Measured)]) -> Vec<WorkStats> {
        let mut last = HashMap::with_capacity(measured.len());
        let mut told = HashMap::with_capacity(measured.len());
        let mut news = Vec::new();
        for (work, at, now) in measured {
            let rate = |count: fn(&Measured) -> u64| {
                self.last.get(work).map_or(0.0, |(before, then)| {
                    let seconds = at.saturating_duration_since(*before).as_secs_f64();
                    let more = count(now).saturating_sub(count(then)) as f64;
                    if seconds > 0.0 { more / seconds } else { 0.0 }
                })
            };
            let now_told = WorkStats {
                work: *work,
                cpu: rate(|measured| measured.stats.cpu_usec) / 1e6,
                memory_bytes: now.stats.memory_bytes,
                disk_bytes: now.stats.disk_bytes,
                log_rate: rate(|measured| measured.log_bytes) as u64,
            };
            let before = self.told.remove(work);
            let known = before.filter(|before| !is_news(before, &now_told));
            if known.is_none() {
                news.push(now_told.clone());
            }
            told.insert(*work, known.unwrap_or(now_told));
            last.insert(*work, (*at, *now));
        }
        (self.last, self.told) = (last, told);
        news
    }
}

fn is_news(before: &WorkStats, now: &WorkStats) -> bool {
    (before.cpu - now.cpu).abs() >= CPU_STEP
        || before.memory_bytes.abs_diff(now.memory_bytes) >= BYTES_STEP
        || before.disk_bytes.abs_diff(now.disk_bytes) >= BYTES_STEP
        || before.log_rate.abs_diff(now.log_rate) >= LOG_STEP
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::work;

    fn stats(cpu_usec: u64, memory_bytes: u64, log_bytes: u64) -> Measured {
        Measured {
            stats: Stats {
                cpu_usec,
                memory_bytes,
                ..Stats::default()
            },
            log_bytes,
        }
    }

    #[test]
    fn the_log_is_counted_past_segments_that_are_gone() {
        let dir = tempfile::tempdir().expect("folder");
        assert_eq!(log_bytes(dir.path()), 0);
        for (name, size) in [("0000000002.log", 10), ("0000000003.log", 7), ("exit.json", 99)] {
            std::fs::write(dir.path().join(name), vec![b'x'; size]).expect("file");
        }
        assert_eq!(log_bytes(dir.path()), 2 * SEGMENT_BYTES + 7);
    }

    #[test]
    fn rates_are_between_measurements_and_only_news_is_told() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut rates = Rates::default();
        let first = rates.take(&[(work(1), at(0), stats(1_000_000, 10 << 20, 0))]);
        assert_eq!((first.len(), first[0].cpu, first[0].memory_bytes), (1, 0.0, 10 << 20));
        let second = rates.take(&[(work(1), at(5), stats(3_500_000, 10 << 20, 50_000))]);
        assert_eq!((second.len(), second[0].cpu, second[0].log_rate), (1, 0.5, 10_000));
        let same = rates.take(&[(work(1), at(10), stats(6_000_000, (10 << 20) + 5, 100_000))]);
        assert!(same.is_empty());
        assert!(rates.take(&[]).is_empty());
        let again = rates.take(&[(work(1), at(20), stats(1, 1, 1))]);
        assert_eq!((again.len(), again[0].cpu), (1, 0.0), "a new beginning");
    }
}
