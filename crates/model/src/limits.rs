//! What a piece of work may use, with the defaults and bounds that the platform applies.

use serde::{Deserialize, Serialize};

/// Limits of one instance, task or build.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Memory in MiB; the kernel kills the work beyond it.
    pub memory_mb: u32,
    /// Private writable disk in MiB; writes beyond it fail.
    pub disk_mb: u32,
    /// Processes and threads.
    pub pids: u32,
    /// Log bytes per second that are kept; `None` is the cell's own bound.
    pub log_bytes_per_second: Option<u64>,
}

impl Limits {
    /// Of an app instance where the app says nothing: 256 MiB memory, 1 GiB disk, 1024 processes.
    pub const APP: Self = Self {
        memory_mb: 256,
        disk_mb: 1024,
        pids: 1024,
        log_bytes_per_second: None,
    };
    /// Of a build where the app says nothing: 1 GiB memory, 4 GiB disk.
    pub const BUILD: Self = Self {
        memory_mb: 1024,
        disk_mb: 4096,
        pids: 2048,
        log_bytes_per_second: None,
    };

    /// CPU weight relative to other work: proportional to memory, between 10 and 1024.
    #[must_use]
    pub fn cpu_weight(&self) -> u32 {
        (self.memory_mb / 8).clamp(10, 1024)
    }
}

/// An amount of memory or disk in MiB, as manifests write it: `64M`, `1G`, `1GB`, `512mb`, `2T`.
///
/// # Errors
/// A text that says what is expected.
pub fn parse_megabytes(text: &str) -> Result<u32, String> {
    let expected = || format!("{text:?} is not a size: write a whole number and a unit, for example 256M or 1G");
    let lower = text.trim().to_ascii_lowercase();
    let digits = lower.find(|c: char| !c.is_ascii_digit()).unwrap_or(lower.len());
    let amount: u64 = lower[..digits].parse().map_err(|_| expected())?;
    let megabytes = match lower[digits..].trim() {
        "k" | "kb" => amount / 1024,
        "m" | "mb" => amount,
        "g" | "gb" => amount.saturating_mul(1024),
        "t" | "tb" => amount.saturating_mul(1024 * 1024),
        _ => return Err(expected()),
    };
    u32::try_from(megabytes).map_err(|_| expected())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_read_as_manifests_write_them() {
        assert_eq!(parse_megabytes("64M"), Ok(64));
        assert_eq!(parse_megabytes("1GB"), Ok(1024));
        assert_eq!(parse_megabytes("2048k"), Ok(2));
        for bad in ["", "M", "1", "1.5G", "-1M", "99999999T"] {
            assert!(parse_megabytes(bad).is_err(), "{bad}");
        }
    }
}
