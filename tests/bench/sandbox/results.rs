//! What was measured, as it is kept between runs.

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;

/// Everything, by contender.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Results {
    /// The machine, in words.
    pub machine: String,
    /// How the programs were built.
    pub build: String,
    /// In the order in which they are shown.
    pub contenders: Vec<String>,
    /// What each took.
    pub times: BTreeMap<String, Times>,
}

/// Of one contender.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Times {
    /// From the request to the app's first instruction.
    pub start_us: Vec<u64>,
    /// From the request until nothing was left.
    pub cycle_us: Vec<u64>,
    /// From the kill until nothing was left.
    pub kill_us: Vec<u64>,
    /// When each step of a start was done, where the runtime tells of them.
    #[serde(default)]
    pub phases: BTreeMap<String, Vec<u64>>,
    /// Many at once.
    pub rushes: Vec<Rush>,
    /// Many that stay.
    pub crowds: Vec<Crowd>,
}

/// Many that were started at once.
#[derive(Debug, Serialize, Deserialize)]
pub struct Rush {
    /// From the first request to the last app's first instruction.
    pub wall_us: u64,
    /// Each on its own.
    pub each_us: Vec<u64>,
    /// Until none was left.
    pub end_us: u64,
}

/// Many that stayed.
#[derive(Debug, Serialize, Deserialize)]
pub struct Crowd {
    /// How many.
    pub count: usize,
    /// Until all ran.
    pub start_us: u64,
    /// Until none was left.
    pub end_us: u64,
    /// Memory that was no longer available, all together.
    pub used_kib: i64,
    /// Memory that only the processes of one have.
    pub private_kib: u64,
    /// What the benchmark itself, which is the agent here, took more.
    pub agent_kib: u64,
    /// What the runtime's shared processes took more.
    pub shared_kib: u64,
    /// By how much fields of the kernel's account moved, KiB.
    pub fields: BTreeMap<String, i64>,
}

impl Results {
    /// What earlier runs left, or nothing.
    pub fn load(path: &Path) -> Result<Self> {
        match std::fs::read(path) {
            Ok(text) => serde_json::from_slice(&text).with_context(|| format!("{} is not ours", path.display())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(error).with_context(|| format!("failed to read {}", path.display())),
        }
    }

    /// Keeps everything.
    pub fn save(&self, path: &Path) -> Result<()> {
        let text = serde_json::to_vec(self).context("failed to encode the results")?;
        std::fs::write(path, text).with_context(|| format!("failed to write {}", path.display()))
    }

    /// Of one contender.
    pub fn times(&mut self, name: &str) -> &mut Times {
        if !self.contenders.iter().any(|known| known == name) {
            self.contenders.push(name.to_owned());
        }
        self.times.entry(name.to_owned()).or_default()
    }
}

/// The value below which `share` percent lie; 0 of nothing.
pub fn percentile(values: &[u64], share: usize) -> u64 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    let last = sorted.len().saturating_sub(1);
    sorted.get((last * share).div_ceil(100)).copied().unwrap_or_default()
}
