//! Blocks of IPv4 addresses. Pure; which of them matter is decided elsewhere.

use std::{fmt, net::Ipv4Addr, str::FromStr};

use serde::{Deserialize, Serialize};

use super::error::{Error, Result};

/// An IPv4 address block in its canonical form (no host bits), written `10.0.0.0/8`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Cidr {
    address: Ipv4Addr,
    prefix: u8,
}

impl Cidr {
    /// Every address.
    pub const ANY: Self = Self::literal([0, 0, 0, 0], 0);

    pub(super) const fn literal(octets: [u8; 4], prefix: u8) -> Self {
        Self {
            address: Ipv4Addr::new(octets[0], octets[1], octets[2], octets[3]),
            prefix,
        }
    }

    /// The block of `prefix` leading bits of `address`; an error if there are host bits or prefix > 32.
    pub fn new(address: Ipv4Addr, prefix: u8) -> Result<Self> {
        let block = Self { address, prefix };
        if prefix > 32 || address.to_bits() & !block.mask() != 0 {
            return Err(Error::Policy {
                reason: format!("{address}/{prefix} is not an address block"),
            });
        }
        Ok(block)
    }

    /// The fewest blocks that hold `first..=last` and nothing else; none where it runs backwards.
    pub fn covering(first: Ipv4Addr, last: Ipv4Addr) -> Vec<Self> {
        let (mut at, end) = (u64::from(first.to_bits()), u64::from(last.to_bits()));
        let mut blocks = Vec::new();
        while at <= end {
            let aligned = if at == 0 { 32 } else { at.trailing_zeros().min(32) };
            let fits = (end - at + 1).ilog2();
            let bits = aligned.min(fits);
            blocks.push(Self {
                address: Ipv4Addr::from_bits(u32::try_from(at).unwrap_or(u32::MAX)),
                prefix: u8::try_from(32 - bits).unwrap_or(32),
            });
            at += 1 << bits;
        }
        blocks
    }

    /// The first address.
    pub fn address(&self) -> Ipv4Addr {
        self.address
    }

    /// The last address.
    pub fn last(&self) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.address.to_bits() | !self.mask())
    }

    /// Number of leading bits that all addresses share, 0..=32.
    pub fn prefix(&self) -> u8 {
        self.prefix
    }

    /// How many addresses there are.
    pub fn size(&self) -> u64 {
        1 << (32 - u32::from(self.prefix))
    }

    fn mask(&self) -> u32 {
        u32::MAX.checked_shl(32 - u32::from(self.prefix.min(32))).unwrap_or(0)
    }

    /// Whether `address` is inside.
    pub fn contains(&self, address: Ipv4Addr) -> bool {
        address.to_bits() & self.mask() == self.address.to_bits()
    }

    /// Whether all of `other` is inside.
    pub fn covers(&self, other: &Self) -> bool {
        self.prefix <= other.prefix && self.contains(other.address)
    }

    /// Whether any address is in both.
    pub fn overlaps(&self, other: &Self) -> bool {
        self.covers(other) || other.covers(self)
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

impl FromStr for Cidr {
    type Err = Error;

    /// Reads `a.b.c.d/n`, or one address.
    fn from_str(text: &str) -> Result<Self> {
        let (address, prefix) = text.split_once('/').unwrap_or((text, "32"));
        match (address.parse(), prefix.parse()) {
            (Ok(address), Ok(prefix)) => Self::new(address, prefix),
            _ => Err(Error::Policy {
                reason: format!("{text:?} is not an IPv4 address block"),
            }),
        }
    }
}

impl TryFrom<String> for Cidr {
    type Error = Error;
    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<Cidr> for String {
    fn from(block: Cidr) -> Self {
        block.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(text: &str) -> Cidr {
        text.parse().expect(text)
    }

    #[test]
    fn blocks_parse_print_and_compare() {
        assert_eq!(block("10.180.0.0/16").to_string(), "10.180.0.0/16");
        assert_eq!(block("1.2.3.4"), block("1.2.3.4/32"));
        assert!(block("0.0.0.0/0").covers(&block("255.255.255.255")));
        assert!(block("10.0.0.0/8").contains(Ipv4Addr::new(10, 255, 0, 1)));
        assert!(!block("10.0.0.0/8").contains(Ipv4Addr::new(11, 0, 0, 1)));
        assert!(block("10.1.0.0/16").overlaps(&block("10.0.0.0/8")));
        assert!(!block("10.1.0.0/16").overlaps(&block("10.2.0.0/16")));
        for bad in ["10.0.0.1/8", "10.0.0.0/33", "ten", "10.0.0/8", "::/0", "1.2.3.4/", ""] {
            assert!(bad.parse::<Cidr>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_range_is_covered_exactly() {
        let covered = |first: &str, last: &str| {
            let blocks = Cidr::covering(first.parse().expect(first), last.parse().expect(last));
            blocks.iter().map(Cidr::to_string).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(covered("0.0.0.0", "255.255.255.255"), "0.0.0.0/0");
        assert_eq!(
            covered("10.0.0.1", "10.0.0.6"),
            "10.0.0.1/32 10.0.0.2/31 10.0.0.4/31 10.0.0.6/32"
        );
        assert_eq!(covered("1.2.3.4", "1.2.3.4"), "1.2.3.4/32");
        assert_eq!(covered("0.0.0.0", "9.255.255.255"), "0.0.0.0/5 8.0.0.0/7");
        assert_eq!(covered("255.255.255.255", "255.255.255.255"), "255.255.255.255/32");
        assert_eq!(covered("1.2.3.5", "1.2.3.4"), "");
    }
}
