//! Versions as most languages write them, numbers with dots, and which of those published is wanted. Node.js and Python
//! have ranges of their own, which are read by crates made for them.

use std::cmp::Ordering;
use std::fmt;

/// Most numbers of a version.
const PARTS: usize = 6;

/// Numbers with dots; `1.22` equals `1.22.0`.
#[derive(Debug, Clone)]
pub struct Version(Vec<u64>);

impl Version {
    /// Reads `1.22.3`, also `v1.22.3`; nothing else may follow.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let parts = text.strip_prefix('v').unwrap_or(text).split('.');
        let parts: Option<Vec<u64>> = parts
            .map(|part| {
                let digits = !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
                if digits { part.parse().ok() } else { None }
            })
            .collect();
        parts.filter(|parts| parts.len() <= PARTS).map(Self)
    }

    /// Number `index`, 0 where it has so few.
    #[must_use]
    pub fn part(&self, index: usize) -> u64 {
        self.0.get(index).copied().unwrap_or(0)
    }

    /// How many numbers are written.
    #[must_use]
    pub fn parts(&self) -> usize {
        self.0.len()
    }

    /// Whether it begins with the numbers of `line`: `1.22.3` is of `1.22`.
    #[must_use]
    pub fn is_of(&self, line: &Self) -> bool {
        (0..line.parts()).all(|index| self.part(index) == line.part(index))
    }

    /// Its first `count` numbers.
    #[must_use]
    pub fn line(&self, count: usize) -> Self {
        Self((0..count).map(|index| self.part(index)).collect())
    }
}

impl Ord for Version {
    fn cmp(&self, other: &Self) -> Ordering {
        let count = self.parts().max(other.parts());
        (0..count)
            .map(|index| self.part(index).cmp(&other.part(index)))
            .find(|order| order.is_ne())
            .unwrap_or(Ordering::Equal)
    }
}

impl PartialOrd for Version {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Version {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Version {}

impl fmt::Display for Version {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts: Vec<String> = self.0.iter().map(u64::to_string).collect();
        out.write_str(&parts.join("."))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(text: &str) -> Version {
        Version::parse(text).unwrap()
    }

    #[test]
    fn versions_are_compared_by_their_numbers() {
        assert!(version("1.9") < version("1.10.1") && version("v1.2") == version("1.2.0"));
        assert!(version("1.22.3").is_of(&version("1.22")) && !version("1.2").is_of(&version("1.22")));
        assert_eq!(version("1.22.3").line(2).to_string(), "1.22");
        for odd in ["", "1.", "1.x", "1.2rc1", "-1", "1.2.3.4.5.6.7"] {
            assert!(Version::parse(odd).is_none(), "{odd}");
        }
    }
}
