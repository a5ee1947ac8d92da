//! What the probe told of its world.

use std::collections::BTreeMap;

use super::judge::{Outcome, ensure};

/// Values by key, in the order in which they were told.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    all: BTreeMap<String, Vec<String>>,
}

impl Mount {
    /// Whether the mount has this option.
    pub fn has(&self, word: &str) -> bool {
        self.options.split(',').any(|option| option == word)
    }
}

/// A line of the mount table.
#[derive(Clone, Debug)]
pub struct Mount {
    /// Which folder of the file system it shows.
    pub root: String,
    /// Where.
    pub target: String,
    /// Options of the mount.
    pub options: String,
    /// How it hangs together with others: `shared:1`, `master:2`, `unbindable` or nothing.
    pub propagation: String,
    /// Type of the file system.
    pub kind: String,
    /// What it is called.
    pub source: String,
}

impl Seen {
    pub fn parse(text: &str) -> Seen {
        let mut seen = Seen::default();
        for (key, value) in text.lines().filter_map(|line| line.split_once('\t')) {
            seen.all.entry(key.to_owned()).or_default().push(value.to_owned());
        }
        seen
    }

    pub fn all(&self, key: &str) -> &[String] {
        self.all.get(key).map_or(&[], Vec::as_slice)
    }

    pub fn get(&self, key: &str) -> &str {
        self.all(key).first().map_or("nothing", String::as_str)
    }

    /// Fails unless `key` is `wanted`.
    pub fn is(&self, key: &str, wanted: impl std::fmt::Display) -> Outcome {
        let (value, wanted) = (self.get(key), wanted.to_string());
        ensure(value == wanted, || format!("{key} is {value:?}, not {wanted:?}"))
    }

    /// Fails unless what is told of `key` has `part` in it.
    pub fn has(&self, key: &str, part: &str) -> Outcome {
        let value = self.get(key);
        ensure(value.contains(part), || format!("{key} is {value:?}, without {part:?}"))
    }

    /// The mount table in its order.
    pub fn mounts(&self) -> Vec<Mount> {
        self.all("mount").iter().filter_map(|line| mount(line)).collect()
    }

    /// The last mount at `target`.
    pub fn mount(&self, target: &str) -> Result<Mount, String> {
        let found = self.mounts().into_iter().rev().find(|mount| mount.target == target);
        found.ok_or_else(|| format!("nothing is mounted at {target}"))
    }
}

fn mount(line: &str) -> Option<Mount> {
    let (left, right) = line.split_once(" - ")?;
    let mut left = left.split(' ').skip(3).map(str::to_owned);
    let (root, target, options) = (left.next()?, left.next()?, left.next()?);
    let propagation = left.collect::<Vec<_>>().join(" ");
    let mut right = right.split(' ').map(str::to_owned);
    let (kind, source) = (right.next()?, right.next()?);
    Some(Mount {
        root,
        target,
        options,
        propagation,
        kind,
        source,
    })
}
