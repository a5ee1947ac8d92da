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
    addresses::gateway,
    error::Result,
    link::mac_of,
    nft::Nft,
    policy::{Cidr, Egress},
};

const CHAIN_PREFIX: &str = "egress-";
/// Tables of all networks begin with this.
const TABLE_PREFIX: &str = "paas-";

/// What the rules are about; fixed while the network is open.
#[derive(Debug, Clone)]
pub(super) struct Scope {
    pub(super) name: String,
    pub(super) bridge: String,
    pub(super) uplink: String,
    pub(super) subnet: Cidr,
    pub(super) resolvers: Vec<Ipv4Addr>,
}

impl Scope {
    /// The host's interface of the sandbox at `address`; at most 15 bytes by the limit on bridge names.
    pub(super) fn interface(&self, address: Ipv4Addr) -> String {
        format!("{}v{:x}", self.bridge, address.to_bits() & (u32::MAX >> self.subnet.prefix()))
    }

    fn table(&self) -> String {
        format!("{TABLE_PREFIX}{}", self.name)
    }
}

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
    pub(super) fn open(scope: Scope, forwarded: bool) -> Result<Self> {
        let nft = Nft::find(&scope.table())?;
        let mut firewall = Self { scope, nft, state: State::default() };
        let mut script = firewall.base_script();
        if !forwarded {
            let _ = writeln!(script, "add element ip {} restore_forwarding {{ \"{}\" }}", firewall.scope.table(), firewall.scope.uplink);
        }
        firewall.nft.apply("set up the rules", &script)?;
        firewall.state = firewall.read_state()?;
        firewall.collect_unused()?;
        Ok(firewall)
    }

    /// Addresses that an earlier agent admitted.
    pub(super) fn addresses(&self) -> BTreeSet<Ipv4Addr> {
        self.state.verdicts.keys().copied().chain(self.state.admitted.iter().copied()).collect()
    }

    /// Whether a sandbox at `address` may send.
    pub(super) fn admitted(&self, address: Ipv4Addr) -> bool {
        self.state.admitted.contains(&address)
    }

    fn base_script(&self) -> String {
        let Scope { bridge, uplink, subnet, resolvers, .. } = &self.scope;
        let table = self.scope.table();
        let dns = "ip daddr @resolvers meta l4proto { tcp, udp } th dport 53 accept";
        let replies = "ct direction reply ct state established,related accept";
        let resolvers: Vec<String> = resolvers.iter().map(Ipv4Addr::to_string).collect();
        let chains = [
            ("refuse", "", vec![
                "ct state established meta l4proto tcp reject with tcp reset".to_owned(),
                "reject with icmp admin-prohibited".to_owned(),
            ]),
            ("to_host", "", vec![replies.to_owned(), dns.to_owned(), "goto refuse".to_owned()]),
            ("from_sandbox", "", vec![
                "oifname != @uplinks goto refuse".to_owned(),
                dns.to_owned(),
                "ip saddr vmap @egress".to_owned(),
                "goto refuse".to_owned(),
            ]),
            // Before routing: two ends on one bridge make the host send redirects, whose rate limit would
            // swallow the refusal.
            ("prerouting_hook", "{ type filter hook prerouting priority filter; policy accept; }", vec![
                format!("iifname \"{bridge}\" ip daddr {subnet} ip daddr != {} goto refuse", gateway(subnet)),
            ]),
            ("input_hook", "{ type filter hook input priority filter; policy accept; }", vec![
                format!("iifname \"{bridge}\" goto to_host"),
            ]),
            ("forward_hook", "{ type filter hook forward priority filter; policy accept; }", vec![
                format!("oifname \"{bridge}\" {replies}"),
                format!("iifname \"{bridge}\" goto from_sandbox"),
                format!("oifname \"{bridge}\" drop"),
            ]),
            ("masquerade_hook", "{ type nat hook postrouting priority srcnat; policy accept; }", vec![
                format!("ip saddr {subnet} oifname @uplinks masquerade fully-random"),
            ]),
        ];
        let mut script = format!(
            "add table ip {table}\nadd set ip {table} uplinks {{ type ifname; }}\n\
             add set ip {table} restore_forwarding {{ type ifname; }}\nadd set ip {table} resolvers {{ type ipv4_addr; }}\n\
             add map ip {table} egress {{ type ipv4_addr : verdict; }}\nflush set ip {table} uplinks\n\
             flush set ip {table} resolvers\nadd element ip {table} uplinks {{ \"{uplink}\" }}\n\
             add element ip {table} resolvers {{ {} }}\n",
            resolvers.join(", ")
        );
        for (name, hook, _) in &chains {
            let _ = writeln!(script, "add chain ip {table} {name} {hook}\nflush chain ip {table} {name}");
        }
        for (name, _, rules) in &chains {
            for rule in rules {
                let _ = writeln!(script, "add rule ip {table} {name} {rule}");
            }
        }
        script + &self.bridge_script()
    }

    /// What a port may send: IPv4 with its own addresses; no ARP, as every neighbour is fixed.
    fn bridge_script(&self) -> String {
        let (table, bridge) = (self.scope.table(), &self.scope.bridge);
        format!(
            "add table bridge {table}\n\
             add set bridge {table} ports {{ type ifname . ether_addr . ipv4_addr; }}\n\
             add chain bridge {table} port\nflush chain bridge {table} port\n\
             add chain bridge {table} prerouting_hook {{ type filter hook prerouting priority -300; policy accept; }}\n\
             flush chain bridge {table} prerouting_hook\n\
             add rule bridge {table} port ether type ip iifname . ether saddr . ip saddr @ports accept\n\
             add rule bridge {table} port drop\n\
             add rule bridge {table} prerouting_hook iifname \"{bridge}v*\" jump port\n"
        )
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
                    let address = element.get(0).and_then(Value::as_str).and_then(|text| text.parse().ok());
                    let target = element.pointer("/1/jump/target").and_then(chain_number);
                    if let (Some(address), Some(target)) = (address, target) {
                        state.verdicts.insert(address, target);
                    }
                }
            }
        }
        let listing = self.nft.read("list the ports", &["list", "set", "bridge", &table, "ports"])?;
        for element in objects(&listing).iter().flat_map(|object| elements(object, "/set/elem")) {
            let address = element.pointer("/concat/2").and_then(Value::as_str).and_then(|text| text.parse().ok());
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
            Err(_) => changes.iter().map(|change| self.transact(std::slice::from_ref(change))).collect(),
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
        format!("{{ \"{}\" . {} . {address} }}", self.scope.interface(address), mac.join(":"))
    }

    fn admit(&self, address: Ipv4Addr, state: &mut State, script: &mut String) {
        if state.admitted.insert(address) {
            let _ = writeln!(script, "add element bridge {} ports {}", self.scope.table(), self.port(address));
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
                for rule in policy.render("refuse") {
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
            let _ = writeln!(script, "delete element bridge {} ports {}", self.scope.table(), self.port(address));
        }
    }

    fn element(&self, verb: &str, address: Ipv4Addr, chain: u64, script: &mut String) {
        let table = self.scope.table();
        let _ = writeln!(script, "{verb} element ip {table} egress {{ {address} : jump {CHAIN_PREFIX}{chain} }}");
    }

    /// Whether the rules are in the kernel still; other programs can flush all tables.
    pub(super) fn present(&self) -> Result<bool> {
        let listing = self.nft.read("look for the tables", &["list", "tables"])?;
        let ours = |object: &&Value| object.pointer("/table/name").and_then(Value::as_str) == Some(&*self.scope.table());
        Ok(objects(&listing).iter().filter(ours).count() == 2)
    }

    /// Puts back everything after a flush by somebody else. Sandboxes under a policy of an earlier agent,
    /// whose text is not known here, get `fallback`.
    pub(super) fn restore(&mut self, fallback: &Egress) -> Result<()> {
        let text: HashMap<u64, Egress> = self.state.policies.iter().map(|(text, number)| (*number, text.clone())).collect();
        let before = std::mem::take(&mut self.state);
        let mut next = State { last_chain: before.last_chain, ..State::default() };
        let mut script = self.base_script();
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
            let names = || elements(object, "/set/elem").filter_map(Value::as_str).map(str::to_owned);
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
    listing.get("nftables").and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn elements<'a>(object: &'a Value, path: &str) -> impl Iterator<Item = &'a Value> {
    object.pointer(path).and_then(Value::as_array).into_iter().flatten()
}

fn chain_number(name: &Value) -> Option<u64> {
    name.as_str()?.strip_prefix(CHAIN_PREFIX)?.parse().ok()
}
