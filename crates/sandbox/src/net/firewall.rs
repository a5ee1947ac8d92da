//! The rules between sandboxes, host and world: one `ip` table and one `bridge` table per network, each
//! changed in transactions. Holds what is in the kernel in memory so that a transaction needs no reading.
//!
//! ```text
//! port of a sandbox ── bridge table: only its own interface + MAC + address, IPv4 only ──▶ bridge
//!   to a neighbour ── refused before routing
//!   to the host    ── input:   replies, DNS if the host is the resolver; else refused
//!   to elsewhere   ── forward: only out of the uplink; DNS; map `egress` address ─▶ chain of its policy
//!   from elsewhere ── forward: replies only
//! ```
//! Packets of the direction that opened a connection always pass the policy, so a change of policy also
//! ends what was open. Sandboxes with equal policies share a chain.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fmt::Write as _,
    net::Ipv4Addr,
};

use serde_json::Value;

use super::{
    error::Result,
    link::mac_of,
    nft::Nft,
    policy::Egress,
    rules::{REFUSE, Scope, TABLE_PREFIX},
};

const CHAIN_PREFIX: &str = "egress-";
/// One wish; many make one transaction.
#[derive(Debug, Clone)]
pub(super) enum Change {
    /// Let the sandbox send, under a policy.
    Admit(Ipv4Addr, Egress),
    /// Let it send, under the policy it has, or this one if it has none.
    Readmit(Ipv4Addr, Egress),
    /// Nothing from this address any more.
    Expel(Ipv4Addr),
}

#[derive(Debug, Clone, Default)]
struct State {
    /// Chain number by address.
    verdicts: BTreeMap<Ipv4Addr, u64>,
    admitted: BTreeSet<Ipv4Addr>,
    /// Chain number and content; chains of an earlier agent are known by number only.
    policies: HashMap<Egress, u64>,
    chains: BTreeSet<u64>,
    last_chain: u64,
}

/// The rules of one network.
pub(super) struct Firewall {
    scope: Scope,
    nft: Nft,
    state: State,
}

impl Firewall {
    /// Puts the rules in place. What an earlier agent left for its sandboxes stays in force.
    /// `forwarded` says whether the uplink forwards already; if not, `destroy` will report it.
    pub(super) fn open(scope: Scope, nft: Nft, forwarded: bool) -> Result<Self> {
        let mut firewall = Self {
            scope,
            nft,
            state: State::default(),
        };
        let mut script = firewall.scope.script();
        if !forwarded {
            let _ = writeln!(
                script,
                "add element ip {} restore_forwarding {{ \"{}\" }}",
                firewall.scope.table(),
                firewall.scope.uplink
            );
        }
        firewall.nft.apply("set up the rules", &script)?;
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
        }
        let listing = self
            .nft
            .read("list the ports", &["list", "set", "bridge", &table, "ports"])?;
        for element in objects(&listing)
            .iter()
            .flat_map(|object| elements(object, "/set/elem"))
        {
            let address = element
                .pointer("/concat/2")
                .and_then(Value::as_str)
                .and_then(|text| text.parse().ok());
            state.admitted.extend::<Option<Ipv4Addr>>(address);
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
                Change::Readmit(address, policy) => {
                    self.admit(*address, &mut next, &mut script);
                    if !next.verdicts.contains_key(address) {
                        self.put_under(*address, policy, &mut next, &mut script);
                    }
                }
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
        let mac: Vec<String> = mac_of(address).iter().map(|byte| format!("{byte:02x}")).collect();
        format!(
            "{{ \"{}\" . {} . {address} }}",
            self.scope.interface(address),
            mac.join(":")
        )
    }

    fn admit(&self, address: Ipv4Addr, state: &mut State, script: &mut String) {
        if state.admitted.insert(address) {
            let _ = writeln!(
                script,
                "add element bridge {} ports {}",
                self.scope.table(),
                self.port(address)
            );
        }
    }

    fn put_under(&self, address: Ipv4Addr, policy: &Egress, state: &mut State, script: &mut String) {
        let table = self.scope.table();
        let number = match state.policies.get(policy) {
            Some(number) => *number,
            None => {
                state.last_chain += 1;
                let number = state.last_chain;
                state.policies.insert(policy.clone(), number);
                state.chains.insert(number);
                let _ = writeln!(script, "add chain ip {table} {CHAIN_PREFIX}{number}");
                for rule in policy.render(REFUSE) {
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

    fn expel(&self, address: Ipv4Addr, state: &mut State, script: &mut String) {
        if let Some(number) = state.verdicts.remove(&address) {
            self.element("delete", address, number, script);
        }
        if state.admitted.remove(&address) {
            let _ = writeln!(
                script,
                "delete element bridge {} ports {}",
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
        Ok(objects(&listing).iter().filter(ours).count() == 2)
    }

    /// Puts back everything after a flush by somebody else. Sandboxes under a policy of an earlier agent,
    /// whose text is not known here, get `fallback`.
    pub(super) fn restore(&mut self, fallback: &Egress) -> Result<()> {
        let text: HashMap<u64, Egress> = self
            .state
            .policies
            .iter()
            .map(|(text, number)| (*number, text.clone()))
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
        match self.nft.apply("restore the rules", &script) {
            Ok(()) => self.state = next,
            Err(error) => {
                self.state = before;
                return Err(error);
            }
        }
        Ok(())
    }

    /// Deletes both tables. Returns the interfaces whose forwarding this network switched on and that no
    /// other network needs; those that another one needs are left for it to switch off.
    pub(super) fn destroy(&mut self) -> Result<Vec<String>> {
        let table = self.scope.table();
        let (mut restore, mut others) = (Vec::new(), Vec::new());
        let listing = self.nft.read("list all sets", &["list", "sets", "ip"])?;
        for object in objects(&listing) {
            let text = |path: &str| object.pointer(path).and_then(Value::as_str).unwrap_or_default();
            let names = || {
                elements(object, "/set/elem")
                    .filter_map(Value::as_str)
                    .map(str::to_owned)
            };
            match (text("/set/table"), text("/set/name")) {
                (owner, "restore_forwarding") if owner == table => restore.extend(names()),
                (owner, "uplinks") if owner != table && owner.starts_with(TABLE_PREFIX) => {
                    others.extend(names().map(|name| (name, owner.to_owned())));
                }
                _ => {}
            }
        }
        let mut script = format!("delete table ip {table}\ndelete table bridge {table}\n");
        restore.retain(|interface| match others.iter().find(|(name, _)| name == interface) {
            Some((_, heir)) => {
                let _ = writeln!(script, "add element ip {heir} restore_forwarding {{ \"{interface}\" }}");
                false
            }
            None => true,
        });
        self.nft.apply("delete the rules", &script)?;
        Ok(restore)
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
