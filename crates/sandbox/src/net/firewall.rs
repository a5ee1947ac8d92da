//! The rules between sandboxes, host and world: one table per network (and one that drops IPv6), changed in
//! transactions. Holds what is in the kernel in memory so that a transaction needs no reading.
//!
//! ```text
//! interface of a sandbox ── raw:     only its own address (set `ports`), packets per second
//!   to a neighbour       ── refused before routing
//!   to the host          ── input:   replies, DNS if the host is the resolver; else refused
//!   to elsewhere         ── forward: only out of the uplink; new connections per second and at once; DNS;
//!                                    map `egress` address ─▶ chain of its policy
//!   from elsewhere       ── forward: replies only
//! ```
//! Packets of the direction that opened a connection always pass the policy, so a change of policy also
//! ends what was open. Sandboxes with equal policies share a chain.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fmt::Write as _,
    net::Ipv4Addr,
    sync::Arc,
};

use serde_json::Value;

use super::{
    error::Result,
    nft::Nft,
    policy::Egress,
    rates::Rates,
    rules::{REFUSE, Scope},
};

const CHAIN_PREFIX: &str = "egress-";
/// Chains of one sandbox about its new connections and its packets: this, then its address.
const RATE_CHAINS: [(&str, &str); 2] = [("rates", "rates-"), ("packet_rates", "packets-")];

/// What one rule has matched since it was put in place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counted {
    pub packets: u64,
    pub bytes: u64,
}

/// One wish; many make one transaction.
#[derive(Debug, Clone)]
pub(super) enum Change {
    /// Let the sandbox send, under a policy.
    Admit(Ipv4Addr, Arc<Egress>),
    /// Let it send, under the policy it has, or this one if it has none; and under these limits, if any are given.
    Readmit(Ipv4Addr, Arc<Egress>, Option<Rates>),
    /// Limit its connections and packets.
    Limit(Ipv4Addr, Rates),
    /// Nothing from this address any more.
    Expel(Ipv4Addr),
}

#[derive(Debug, Clone, Default)]
struct State {
    /// Chain number by address.
    verdicts: BTreeMap<Ipv4Addr, u64>,
    admitted: BTreeSet<Ipv4Addr>,
    /// Chain number by content, and by sandbox where its packets are counted; chains of an earlier agent are known by
    /// number only.
    policies: HashMap<(Arc<Egress>, Option<Ipv4Addr>), u64>,
    chains: BTreeSet<u64>,
    last_chain: u64,
    /// Of those that have any chain for it; those of an earlier agent are not known.
    rates: BTreeMap<Ipv4Addr, Option<Rates>>,
}

/// The rules of one network.
pub(super) struct Firewall {
    scope: Scope,
    nft: Nft,
    state: State,
}

impl Firewall {
    /// Puts the rules in place. What an earlier agent left for its sandboxes stays in force.
    pub(super) fn open(scope: Scope, nft: Nft) -> Result<Self> {
        let mut firewall = Self {
            scope,
            nft,
            state: State::default(),
        };
        firewall.nft.apply("set up the rules", &firewall.scope.script())?;
        firewall.state = firewall.read_state()?;
        firewall.collect_unused()?;
        Ok(firewall)
    }

    /// Addresses that an earlier agent admitted.
    pub(super) fn addresses(&self) -> BTreeSet<Ipv4Addr> {
        self.state
            .verdicts
            .keys()
            .copied()
            .chain(self.state.admitted.iter().copied())
            .collect()
    }

    /// How often rules that count have matched packets of the sandbox at `address`, in the order of its policy; empty
    /// if it has no such rule.
    pub(super) fn counted(&self, address: Ipv4Addr) -> Result<Vec<Counted>> {
        let Some(number) = self.state.verdicts.get(&address) else {
            return Ok(Vec::new());
        };
        let (table, chain) = (self.scope.table(), format!("{CHAIN_PREFIX}{number}"));
        let listing = self
            .nft
            .read("read counters", &["list", "chain", "ip", &table, &chain])?;
        let counters = objects(&listing)
            .iter()
            .flat_map(|object| elements(object, "/rule/expr"))
            .filter_map(|expression| expression.get("counter"));
        let number = |counter: &Value, key: &str| counter.get(key).and_then(Value::as_u64).unwrap_or(0);
        Ok(counters
            .map(|counter| Counted {
                packets: number(counter, "packets"),
                bytes: number(counter, "bytes"),
            })
            .collect())
    }

    /// Whether a sandbox at `address` may send.
    pub(super) fn admitted(&self, address: Ipv4Addr) -> bool {
        self.state.admitted.contains(&address)
    }

    fn read_state(&self) -> Result<State> {
        let table = self.scope.table();
        let mut state = State::default();
        let listing = self.nft.read("list the rules", &["list", "table", "ip", &table])?;
        for object in objects(&listing) {
            if let Some(number) = object.pointer("/chain/name").and_then(chain_number) {
                state.chains.insert(number);
            }
            if object.pointer("/map/name").and_then(Value::as_str) == Some("egress") {
                for element in elements(object, "/map/elem") {
                    let address = element
                        .get(0)
                        .and_then(Value::as_str)
                        .and_then(|text| text.parse().ok());
                    let target = element.pointer("/1/jump/target").and_then(chain_number);
                    if let (Some(address), Some(target)) = (address, target) {
                        state.verdicts.insert(address, target);
                    }
                }
            }
            if object
                .pointer("/map/name")
                .and_then(Value::as_str)
                .is_some_and(|name| RATE_CHAINS[0].0 == name || RATE_CHAINS[1].0 == name)
            {
                let addresses = elements(object, "/map/elem").filter_map(|element| element.get(0));
                let addresses = addresses.filter_map(|text| text.as_str()?.parse::<Ipv4Addr>().ok());
                state.rates.extend(addresses.map(|address| (address, None)));
            }
            if object.pointer("/set/name").and_then(Value::as_str) == Some("ports") {
                let addresses = elements(object, "/set/elem").filter_map(|element| element.pointer("/concat/1"));
                state
                    .admitted
                    .extend(addresses.filter_map(|text| text.as_str()?.parse::<Ipv4Addr>().ok()));
            }
        }
        state.last_chain = state.chains.last().copied().unwrap_or(0);
        Ok(state)
    }

    /// Deletes chains that no sandbox is under.
    fn collect_unused(&mut self) -> Result<()> {
        let mut next = self.state.clone();
        let script = self.collect_script(&mut next);
        if !script.is_empty() {
            self.nft.apply("delete unused policies", &script)?;
            self.state = next;
        }
        Ok(())
    }

    fn collect_script(&self, state: &mut State) -> String {
        let used: BTreeSet<u64> = state.verdicts.values().copied().collect();
        let unused: Vec<u64> = state.chains.difference(&used).copied().collect();
        let mut script = String::new();
        for number in unused {
            let _ = writeln!(script, "delete chain ip {} {CHAIN_PREFIX}{number}", self.scope.table());
            state.chains.remove(&number);
            state.policies.retain(|_, other| *other != number);
        }
        script
    }

    /// Applies changes in one transaction; if that is refused, one by one, so that a bad one fails alone.
    pub(super) fn apply(&mut self, changes: &[Change]) -> Vec<Result<()>> {
        match self.transact(changes) {
            Ok(()) => changes.iter().map(|_| Ok(())).collect(),
            Err(error) if changes.len() == 1 => vec![Err(error)],
            Err(_) => changes
                .iter()
                .map(|change| self.transact(std::slice::from_ref(change)))
                .collect(),
        }
    }

    fn transact(&mut self, changes: &[Change]) -> Result<()> {
        let mut next = self.state.clone();
        let mut script = String::new();
        for change in changes {
            match change {
                Change::Admit(address, policy) => {
                    self.admit(*address, &mut next, &mut script);
                    self.put_under(*address, policy, &mut next, &mut script);
                }
                Change::Readmit(address, policy, rates) => {
                    self.admit(*address, &mut next, &mut script);
                    if !next.verdicts.contains_key(address) {
                        self.put_under(*address, policy, &mut next, &mut script);
                    }
                    if let Some(rates) = rates {
                        self.limit(*address, *rates, &mut next, &mut script);
                    }
                }
                Change::Limit(address, rates) => self.limit(*address, *rates, &mut next, &mut script),
                Change::Expel(address) => self.expel(*address, &mut next, &mut script),
            }
        }
        script += &self.collect_script(&mut next);
        if !script.is_empty() {
            self.nft.apply("change the rules", &script)?;
        }
        self.state = next;
        Ok(())
    }

    fn port(&self, address: Ipv4Addr) -> String {
        format!("{{ \"{}\" . {address} }}", self.scope.interface(address))
    }

    fn admit(&self, address: Ipv4Addr, state: &mut State, script: &mut String) {
        if state.admitted.insert(address) {
            let _ = writeln!(
                script,
                "add element ip {} ports {}",
                self.scope.table(),
                self.port(address)
            );
        }
    }

    fn put_under(&self, address: Ipv4Addr, policy: &Arc<Egress>, state: &mut State, script: &mut String) {
        let table = self.scope.table();
        let key = (Arc::clone(policy), policy.logs().then_some(address));
        let number = match state.policies.get(&key) {
            Some(number) => *number,
            None => {
                state.last_chain += 1;
                let number = state.last_chain;
                state.policies.insert(key, number);
                state.chains.insert(number);
                let _ = writeln!(script, "add chain ip {table} {CHAIN_PREFIX}{number}");
                for rule in policy.render(REFUSE, &self.scope.attached, self.scope.log_group()) {
                    let _ = writeln!(script, "add rule ip {table} {CHAIN_PREFIX}{number} {rule}");
                }
                number
            }
        };
        match state.verdicts.insert(address, number) {
            Some(before) if before == number => return,
            Some(before) => self.element("delete", address, before, script),
            None => {}
        }
        self.element("add", address, number, script);
    }

    /// Chains for what `rates` limits, and none for what it does not.
    fn limit(&self, address: Ipv4Addr, rates: Rates, state: &mut State, script: &mut String) {
        let table = format!("ip {}", self.scope.table());
        self.unlimit(address, state, script);
        let rules = [rates.connection_rules(REFUSE), rates.packet_rules()];
        for ((map, prefix), rules) in RATE_CHAINS.iter().zip(&rules) {
            if rules.is_empty() {
                continue;
            }
            let _ = writeln!(script, "add chain {table} {prefix}{address}");
            for rule in rules {
                let _ = writeln!(script, "add rule {table} {prefix}{address} {rule}");
            }
            let _ = writeln!(
                script,
                "add element {table} {map} {{ {address} : jump {prefix}{address} }}"
            );
            state.rates.insert(address, Some(rates));
        }
    }

    /// Removes both chains; added first, as one may not be there.
    fn unlimit(&self, address: Ipv4Addr, state: &mut State, script: &mut String) {
        let table = format!("ip {}", self.scope.table());
        if state.rates.remove(&address).is_none() {
            return;
        }
        for (map, prefix) in RATE_CHAINS {
            let element = format!("{table} {map} {{ {address} : jump {prefix}{address} }}");
            let _ = writeln!(
                script,
                "add chain {table} {prefix}{address}\nadd element {element}\ndelete element {element}\n\
                 flush chain {table} {prefix}{address}\ndelete chain {table} {prefix}{address}"
            );
        }
    }

    fn expel(&self, address: Ipv4Addr, state: &mut State, script: &mut String) {
        self.unlimit(address, state, script);
        if let Some(number) = state.verdicts.remove(&address) {
            self.element("delete", address, number, script);
        }
        if state.admitted.remove(&address) {
            let _ = writeln!(
                script,
                "delete element ip {} ports {}",
                self.scope.table(),
                self.port(address)
            );
        }
    }

    fn element(&self, verb: &str, address: Ipv4Addr, chain: u64, script: &mut String) {
        let table = self.scope.table();
        let _ = writeln!(
            script,
            "{verb} element ip {table} egress {{ {address} : jump {CHAIN_PREFIX}{chain} }}"
        );
    }

    /// Chains of other programs that drop what no rule of theirs accepts, as "family table chain": they would
    /// drop the traffic of sandboxes whatever the rules here say.
    pub(super) fn obstacles(&self) -> Result<Vec<String>> {
        let listing = self.nft.read("list all chains", &["list", "chains"])?;
        let mut found = Vec::new();
        for chain in objects(&listing).iter().filter_map(|object| object.get("chain")) {
            let text = |key: &str| chain.get(key).and_then(Value::as_str).unwrap_or_default();
            if text("hook") == "forward" && text("policy") == "drop" && matches!(text("family"), "ip" | "inet") {
                found.push(format!("{} {} {}", text("family"), text("table"), text("name")));
            }
        }
        Ok(found)
    }

    /// Whether the rules are in the kernel still; other programs can flush all tables.
    pub(super) fn present(&self) -> Result<bool> {
        let listing = self.nft.read("look for the tables", &["list", "tables"])?;
        let ours =
            |object: &&Value| object.pointer("/table/name").and_then(Value::as_str) == Some(&*self.scope.table());
        Ok(objects(&listing).iter().filter(ours).count() == self.scope.tables())
    }

    /// Puts back everything after a flush by somebody else. Sandboxes under a policy of an earlier agent,
    /// whose text is not known here, get `fallback`.
    pub(super) fn restore(&mut self, fallback: &Arc<Egress>) -> Result<()> {
        let text: HashMap<u64, Arc<Egress>> = self
            .state
            .policies
            .iter()
            .map(|((text, _), number)| (*number, Arc::clone(text)))
            .collect();
        let before = std::mem::take(&mut self.state);
        let mut next = State {
            last_chain: before.last_chain,
            ..State::default()
        };
        let mut script = self.scope.script();
        for address in &before.admitted {
            self.admit(*address, &mut next, &mut script);
        }
        for (address, number) in &before.verdicts {
            self.put_under(*address, text.get(number).unwrap_or(fallback), &mut next, &mut script);
        }
        for (address, rates) in before
            .rates
            .iter()
            .filter_map(|(address, rates)| Some((*address, (*rates)?)))
        {
            self.limit(address, rates, &mut next, &mut script);
        }
        match self.nft.apply("restore the rules", &script) {
            Ok(()) => self.state = next,
            Err(error) => {
                self.state = before;
                return Err(error);
            }
        }
        Ok(())
    }

    /// Deletes all tables.
    pub(super) fn destroy(&mut self) -> Result<()> {
        self.nft.apply("delete the rules", &self.scope.removal())
    }
}

fn objects(listing: &Value) -> &[Value] {
    listing
        .get("nftables")
        .and_then(Value::as_array)
        .map_or(&[], Vec::as_slice)
}

fn elements<'a>(object: &'a Value, path: &str) -> impl Iterator<Item = &'a Value> {
    object.pointer(path).and_then(Value::as_array).into_iter().flatten()
}

fn chain_number(name: &Value) -> Option<u64> {
    name.as_str()?.strip_prefix(CHAIN_PREFIX)?.parse().ok()
}
