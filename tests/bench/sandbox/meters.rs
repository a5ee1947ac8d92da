//! What the kernel tells of memory, in KiB.

use std::collections::BTreeMap;

/// Fields of `/proc/meminfo` that sandboxes move.
const FIELDS: [&str; 8] = [
    "MemAvailable",
    "SUnreclaim",
    "SReclaimable",
    "KernelStack",
    "PageTables",
    "Percpu",
    "AnonPages",
    "Shmem",
];
/// Looks of which the middle one counts.
const LOOKS: usize = 7;

/// The machine's memory by field.
pub type Memory = BTreeMap<&'static str, i64>;

/// The median of a few looks, as the kernel frees in its own time.
pub fn memory() -> Memory {
    let mut looks: BTreeMap<&'static str, Vec<i64>> = BTreeMap::new();
    for _ in 0..LOOKS {
        let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
        for field in FIELDS {
            let value = text
                .lines()
                .find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
            looks.entry(field).or_default().push(number(value.unwrap_or_default()));
        }
        // sleeps: nothing tells when the kernel has settled.
        std::thread::sleep(std::time::Duration::from_millis(150));
    }
    let median = |mut all: Vec<i64>| {
        all.sort_unstable();
        all[all.len() / 2]
    };
    looks.into_iter().map(|(field, all)| (field, median(all))).collect()
}

/// What only this process has.
pub fn private_kib(pid: i32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let private = text.lines().filter(|line| line.starts_with("Private_"));
    private
        .map(|line| number(line.split_once(':').map_or("", |(_, value)| value)).unsigned_abs())
        .sum()
}

fn number(text: &str) -> i64 {
    let first = text.split_whitespace().next();
    first.and_then(|number| number.parse().ok()).unwrap_or_default()
}
