//! Which addresses are free: first in, first out, each resting after use so that nobody's late request
//! reaches its next holder. Kept in a small journal, so that a restarted agent knows what rests and what
//! may still be in use. Time is an argument (unix milliseconds).

use std::{
    collections::{BTreeMap, HashSet, VecDeque},
    fmt::Write as _,
    fs::{self, File, OpenOptions},
    io::{self, Write},
    net::Ipv4Addr,
    path::{Path, PathBuf},
};

use super::{
    cidr::Cidr,
    error::{Error, Result},
};

/// The journal is rewritten when it has grown beyond this many bytes.
const JOURNAL_BYTES: u64 = 1 << 20;

/// The addresses of one subnet. The first host address is the gateway's.
pub(super) struct Addresses {
    subnet: Cidr,
    rest_ms: u64,
    /// Host part of the first address that was never given out.
    fresh: u32,
    /// Given back, oldest first.
    resting: VecDeque<(u32, u64)>,
    held: HashSet<u32>,
    path: PathBuf,
    journal: File,
    written: u64,
    /// Whether something was written that may not be on disk.
    dirty: bool,
}

/// The gateway's address: the first of the subnet.
pub(super) fn gateway(subnet: &Cidr) -> Ipv4Addr {
    Ipv4Addr::from_bits(subnet.address().to_bits() + 1)
}

impl Addresses {
    /// Reads the journal at `path` (none yet is fine). What was out when it was last written counts as held.
    pub(super) fn open(path: &Path, subnet: Cidr, rest_ms: u64, now: u64) -> Result<Self> {
        let text = match fs::read(path) {
            Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            Err(source) => {
                return Err(Error::File {
                    operation: "read",
                    path: path.into(),
                    source,
                });
            }
        };
        let (fresh, held, returned) = replay(&text, &subnet, now);
        let mut resting: Vec<(u32, u64)> = (2..fresh)
            .filter(|host| !held.contains(host))
            .map(|host| (host, returned.get(&host).copied().unwrap_or(0)))
            .collect();
        resting.sort_by_key(|&(host, at)| (at, host));
        let journal = create(path)?;
        let mut addresses = Self {
            subnet,
            rest_ms,
            fresh,
            resting: resting.into(),
            held,
            path: path.into(),
            journal,
            written: 0,
            dirty: false,
        };
        addresses.rewrite(now)?;
        Ok(addresses)
    }

    /// Addresses that are out.
    pub(super) fn held(&self) -> impl Iterator<Item = Ipv4Addr> {
        self.held.iter().map(|&host| self.address(host))
    }

    /// The address that has been free for longest.
    pub(super) fn take(&mut self, now: u64) -> Result<Ipv4Addr> {
        let end = u32::try_from(self.subnet.size() - 1).expect("a subnet has at most 2^20 addresses");
        while self.fresh < end && self.held.contains(&self.fresh) {
            self.fresh += 1;
        }
        let host = if self.fresh < end {
            self.fresh += 1;
            self.fresh - 1
        } else {
            let ready = self
                .resting
                .front()
                .is_some_and(|&(_, at)| at.saturating_add(self.rest_ms) <= now);
            match self.resting.pop_front() {
                Some((host, _)) if ready => host,
                other => {
                    let next_ms = other.map_or(0, |(_, at)| at.saturating_add(self.rest_ms).saturating_sub(now));
                    if let Some(oldest) = other {
                        self.resting.push_front(oldest);
                    }
                    return Err(Error::Exhausted {
                        subnet: self.subnet.to_string(),
                        held: self.held.len(),
                        resting: self.resting.len(),
                        next_ms,
                    });
                }
            }
        };
        self.held.insert(host);
        self.note(&format!("take {}\n", self.address(host)), now)?;
        Ok(self.address(host))
    }

    /// Ends the use of addresses; ones that are not out are ignored.
    pub(super) fn give_back(&mut self, addresses: &[Ipv4Addr], now: u64) -> Result<()> {
        let mut lines = String::new();
        for address in addresses {
            let host = self.host(*address);
            if self.held.remove(&host) {
                self.resting.push_back((host, now));
                let _ = writeln!(lines, "back {address} {now}");
            }
        }
        self.note(&lines, now)
    }

    /// Counts an address as out that the journal may not know: its sandbox was found alive.
    pub(super) fn claim(&mut self, address: Ipv4Addr, now: u64) -> Result<()> {
        let host = self.host(address);
        if self.held.insert(host) {
            self.resting.retain(|&(other, _)| other != host);
            self.note(&format!("take {address}\n"), now)?;
        }
        Ok(())
    }

    /// Waits until all that was noted is on disk. What is taken must not be used before; that something was given
    /// back may be forgotten by a crash of the host, as it is found unused then and rests anew.
    pub(super) fn sync(&mut self) -> Result<()> {
        if self.dirty {
            self.journal
                .sync_data()
                .map_err(|source| self.failed("flush", source))?;
            self.dirty = false;
        }
        Ok(())
    }

    /// Deletes the journal.
    pub(super) fn remove(&self) -> Result<()> {
        fs::remove_file(&self.path).map_err(|source| self.failed("remove", source))
    }

    fn address(&self, host: u32) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.subnet.address().to_bits() + host)
    }

    fn host(&self, address: Ipv4Addr) -> u32 {
        address.to_bits().wrapping_sub(self.subnet.address().to_bits())
    }

    fn note(&mut self, lines: &str, now: u64) -> Result<()> {
        self.journal
            .write_all(lines.as_bytes())
            .map_err(|source| self.failed("append to", source))?;
        self.written += lines.len() as u64;
        self.dirty |= !lines.is_empty();
        if self.written > JOURNAL_BYTES {
            self.rewrite(now)
        } else {
            Ok(())
        }
    }

    /// Replaces the journal by the least that says the same.
    fn rewrite(&mut self, now: u64) -> Result<()> {
        let mut text = format!("fresh {}\n", self.fresh);
        for &host in &self.held {
            let _ = writeln!(text, "take {}", self.address(host));
        }
        for &(host, at) in self
            .resting
            .iter()
            .filter(|&&(_, at)| at.saturating_add(self.rest_ms) > now)
        {
            let _ = writeln!(text, "back {} {at}", self.address(host));
        }
        let fresh = self.path.with_extension("new");
        let mut file = File::create(&fresh).map_err(|source| self.failed("create the successor of", source))?;
        file.write_all(text.as_bytes())
            .and_then(|()| file.sync_data())
            .map_err(|source| self.failed("write the successor of", source))?;
        fs::rename(&fresh, &self.path).map_err(|source| self.failed("replace", source))?;
        if let Some(folder) = self.path.parent() {
            File::open(folder)
                .and_then(|folder| folder.sync_all())
                .map_err(|source| self.failed("flush the folder of", source))?;
        }
        self.journal = create(&self.path)?;
        (self.written, self.dirty) = (0, false);
        Ok(())
    }

    fn failed(&self, operation: &'static str, source: io::Error) -> Error {
        Error::File {
            operation,
            path: self.path.clone(),
            source,
        }
    }
}

fn create(path: &Path) -> Result<File> {
    OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)
        .map_err(|source| Error::File {
            operation: "open",
            path: path.into(),
            source,
        })
}

/// Lines are `fresh <host part>`, `take <address>`, `back <address> <unix ms>`; anything else, such as a
/// line torn by a crash or an address of an earlier subnet, is passed over.
fn replay(text: &str, subnet: &Cidr, now: u64) -> (u32, HashSet<u32>, BTreeMap<u32, u64>) {
    let end = u32::try_from(subnet.size() - 1).expect("a subnet has at most 2^20 addresses");
    let (mut fresh, mut held, mut returned) = (2, HashSet::new(), BTreeMap::new());
    let host = |word: &str| {
        let address: Ipv4Addr = word.parse().ok().filter(|address| subnet.contains(*address))?;
        Some(address.to_bits() - subnet.address().to_bits()).filter(|host| (2..end).contains(host))
    };
    for line in text.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n')) {
        match line.split(' ').collect::<Vec<_>>()[..] {
            ["fresh", number] => fresh = number.parse().unwrap_or(2).clamp(fresh, end),
            ["take", address] => {
                if let Some(host) = host(address) {
                    held.insert(host);
                    fresh = fresh.max(host + 1);
                }
            }
            ["back", address, at] => {
                if let (Some(host), Ok(at)) = (host(address), at.parse::<u64>()) {
                    held.remove(&host);
                    returned.insert(host, at.min(now));
                    fresh = fresh.max(host + 1);
                }
            }
            _ => {}
        }
    }
    (fresh, held, returned)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("paas-addresses-{name}-{}", std::process::id()));
            fs::create_dir_all(&path).expect("temporary folder");
            Self(path)
        }

        fn open(&self, subnet: &str, now: u64) -> Addresses {
            Addresses::open(&self.0.join("addresses"), subnet.parse().expect(subnet), 60_000, now).expect("opens")
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn ip(last: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, 9, 0, last)
    }

    #[test]
    fn what_is_taken_is_flushed_once_per_batch() {
        let folder = Folder::new("flushed");
        let mut pool = folder.open("10.9.0.0/29", 0);
        assert!(!pool.dirty, "a fresh journal is on disk");
        let _ = (pool.take(0).expect("free"), pool.take(0).expect("free"));
        assert!(pool.dirty);
        pool.sync().expect("flushes");
        assert!(!pool.dirty);
    }

    #[test]
    fn every_address_is_used_once_before_any_is_used_again_and_not_before_its_rest() {
        let folder = Folder::new("order");
        let mut pool = folder.open("10.9.0.0/29", 0);
        let first: Vec<Ipv4Addr> = (0..5).map(|_| pool.take(0).expect("free")).collect();
        assert_eq!(first, [ip(2), ip(3), ip(4), ip(5), ip(6)]);
        pool.give_back(&[ip(4), ip(2)], 1_000).expect("back");
        let Err(Error::Exhausted {
            held, resting, next_ms, ..
        }) = pool.take(2_000)
        else {
            panic!("must rest")
        };
        assert_eq!((held, resting, next_ms), (3, 2, 59_000));
        assert_eq!(pool.take(61_000).expect("rested"), ip(4));
        assert_eq!(pool.take(61_000).expect("rested"), ip(2));
    }

    #[test]
    fn a_restart_keeps_rest_order_and_what_is_out() {
        let folder = Folder::new("restart");
        let mut pool = folder.open("10.9.0.0/29", 0);
        for _ in 0..5 {
            pool.take(0).expect("free");
        }
        pool.give_back(&[ip(6)], 5_000).expect("back");
        pool.give_back(&[ip(3)], 9_000).expect("back");
        drop(pool);
        let mut pool = folder.open("10.9.0.0/29", 10_000);
        assert_eq!(
            pool.held().collect::<HashSet<_>>(),
            HashSet::from([ip(2), ip(4), ip(5)])
        );
        assert!(pool.take(64_999).is_err(), "a restart does not shorten the rest");
        assert_eq!(pool.take(65_000).expect("rested"), ip(6));
        assert!(pool.take(65_000).is_err());
        drop(pool);
        let mut pool = folder.open("10.9.0.0/29", 70_000);
        assert_eq!(pool.take(70_000).expect("rested"), ip(3));
    }

    #[test]
    fn torn_lines_other_subnets_and_clocks_that_ran_ahead_do_no_harm() {
        let folder = Folder::new("torn");
        let text =
            "fresh x\nnonsense\ntake 10.8.0.3\ntake 10.9.0.3\nback 10.9.0.2 99999999\nback 10.9.0.9 1\ntake 10.9.0.4";
        fs::write(folder.0.join("addresses"), text).expect("write");
        let mut pool = folder.open("10.9.0.0/29", 1_000);
        assert_eq!(pool.held().collect::<Vec<_>>(), [ip(3)]);
        let fresh: Vec<Ipv4Addr> = (0..3).map(|_| pool.take(1_000).expect("free")).collect();
        assert_eq!(fresh, [ip(4), ip(5), ip(6)]);
        assert_eq!(pool.take(61_000).expect("a future time counts as now"), ip(2));
    }

    #[test]
    fn a_claimed_address_is_not_given_out() {
        let folder = Folder::new("claim");
        let mut pool = folder.open("10.9.0.0/29", 0);
        pool.claim(ip(3), 0).expect("claim");
        assert_eq!(
            [pool.take(0).expect("free"), pool.take(0).expect("free")],
            [ip(2), ip(4)]
        );
        pool.give_back(&[ip(3)], 0).expect("back");
        pool.claim(ip(3), 0).expect("claim again");
        assert_eq!(
            [pool.take(0).expect("free"), pool.take(0).expect("free")],
            [ip(5), ip(6)]
        );
        assert!(pool.take(u64::MAX).is_err());
    }

    #[test]
    fn the_journal_stays_small() {
        let folder = Folder::new("small");
        let mut pool = folder.open("10.9.0.0/29", 0);
        for round in 0..60_000u64 {
            let address = pool.take(round * 60_000).expect("rested");
            pool.give_back(&[address], round * 60_000).expect("back");
        }
        let size = fs::metadata(folder.0.join("addresses")).expect("journal").len();
        assert!(size <= JOURNAL_BYTES + 200, "{size} bytes");
    }
}
