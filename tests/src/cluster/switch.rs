//! Hosts of a cluster on one machine: a network namespace each, all on one switch, with addresses as below. What runs in
//! them is `cluster`'s.
//!
//! ```text
//! 10.n.0.1         this process, on the switch
//! 10.n.0.11...     hosts, by number
//! 10.n.<16 k>.0/20 sandboxes of the k-th cell, by way of its host
//! ```

use crate::slot::Slot;
use std::process::{Command, Stdio};

/// One network, removed when it is dropped.
pub struct Switch {
    slot: Slot,
    hosts: Vec<Host>,
}

/// A host on the switch.
#[derive(Debug, Clone)]
pub struct Host {
    /// Name of its network namespace.
    pub namespace: String,
    /// Its address.
    pub address: String,
    /// The end of its cable on the switch.
    port: String,
}

impl Host {
    /// A command on this host: in its network, else here.
    #[must_use]
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/run/netns/{}", self.namespace)).arg(program);
        command
    }
}

impl Switch {
    /// The switch, with this process on it.
    #[must_use]
    pub fn new() -> Self {
        let switch = Self {
            slot: Slot::take(),
            hosts: Vec::new(),
        };
        let name = switch.name();
        ip(&format!("link add {name} type bridge"));
        ip(&format!("addr add {}/24 dev {name}", switch.address(1)));
        ip(&format!("link set {name} up"));
        switch
    }

    /// Fit for interfaces, namespaces and control groups.
    #[must_use]
    pub fn name(&self) -> String {
        self.slot.name()
    }

    /// The address of this number on the switch.
    #[must_use]
    pub fn address(&self, number: u8) -> String {
        let subnet = self.slot.subnet();
        let network = subnet.trim_end_matches(".0.0/16");
        format!("{network}.0.{number}")
    }

    /// Addresses of the switch itself.
    #[must_use]
    pub fn block(&self) -> String {
        format!("{}/24", self.address(0))
    }

    /// Addresses of the sandboxes of the `cell`-th cell, from 1.
    #[must_use]
    pub fn sandboxes(&self, cell: u8) -> String {
        self.slot
            .subnet()
            .replacen(".0.0/16", &format!(".{}.0/20", cell * 16), 1)
    }

    /// Puts another host on the switch.
    pub fn host(&mut self, number: u8) -> Host {
        let name = self.name();
        let host = Host {
            namespace: format!("{name}-{number}"),
            address: self.address(number),
            port: format!("{name}p{number}"),
        };
        let Host {
            namespace,
            address,
            port,
        } = &host;
        ip(&format!("netns add {namespace}"));
        self.hosts.push(host.clone());
        ip(&format!("link add {port} type veth peer name eth0 netns {namespace}"));
        ip(&format!("link set {port} master {name} up"));
        let gateway = self.address(1);
        for line in [
            "link set lo up".to_owned(),
            format!("addr add {address}/24 dev eth0"),
            "link set eth0 up".to_owned(),
            format!("route add default via {gateway}"),
        ] {
            ip(&format!("-n {namespace} {line}"));
        }
        host
    }

    /// Lets `from` reach the sandboxes of a cell that runs on `to`.
    pub fn route(&self, from: &Host, cell: u8, to: &Host) {
        let block = self.sandboxes(cell);
        ip(&format!("-n {} route add {block} via {}", from.namespace, to.address));
    }

    /// Pulls a host's cable, or puts it back.
    pub fn cable(&self, host: &Host, plugged: bool) {
        let state = if plugged { "up" } else { "down" };
        ip(&format!("link set {} {state}", host.port));
    }
}

impl Default for Switch {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Switch {
    fn drop(&mut self) {
        for host in &self.hosts {
            // With the namespace go its ends of cables, and so the others.
            try_ip(&format!("netns del {}", host.namespace));
        }
        try_ip(&format!("link del {}", self.name()));
    }
}

fn ip(arguments: &str) {
    assert!(try_ip(arguments), "ip {arguments}");
}

fn try_ip(arguments: &str) -> bool {
    let status = Command::new("ip")
        .args(arguments.split_whitespace())
        .stdin(Stdio::null())
        .status();
    status.is_ok_and(|status| status.success())
}
