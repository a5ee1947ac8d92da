//! The joint of sandboxes and their network: who has which address, from the lease to its
//! return, also for what an earlier agent left.

use std::collections::HashSet;
use std::fs::File;
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::{Arc, MutexGuard, PoisonError};

use super::{Inner, WrittenFile};
use crate::net::{self, Egress, Lease};
use crate::{Error, Result, Spec};

impl Inner {
    /// An address and namespace, under the default policy.
    pub(super) fn lease(&self, seat: &str) -> Result<Lease> {
        self.network()
            .and_then(|network| network.lease())
            .map_err(|source| no_network(seat, source))
    }

    /// Puts a lease under the policy of `id`, if it does not begin under that anyway.
    pub(super) fn admit(&self, id: &str, lease: &Lease, policy: &Egress) -> Result<()> {
        if lease.under.as_deref() == Some(policy) {
            return Ok(());
        }
        self.set_policy(id, lease.address, policy)
    }

    /// Puts the sandbox `id` under another policy, running or not.
    pub fn set_policy(&self, id: &str, address: Ipv4Addr, policy: &Egress) -> Result<()> {
        self.network()
            .and_then(|network| network.set_policy(address, policy))
            .map_err(|source| no_network(id, source))
    }

    /// The policy of leases from now on.
    pub(super) fn set_default_policy(&self, policy: &Egress) -> Result<()> {
        let set = self.network().and_then(|network| network.set_default_policy(policy));
        set.map_err(|source| Error::Network {
            operation: "set the policy that sandboxes begin under".to_owned(),
            source: Box::new(source),
        })
    }

    /// What rules that tell tell of.
    pub(super) fn rule_log(&self) -> Result<net::RuleLog> {
        let opened = self.network().and_then(|network| network.rule_log());
        opened.map_err(|source| Error::Network {
            operation: "open the log of rules".to_owned(),
            source: Box::new(source),
        })
    }

    /// The file that names the resolvers, unless `spec` has one of its own.
    pub(super) fn resolvers(&self, spec: &Spec) -> Result<Option<WrittenFile>> {
        let path = Path::new("/etc/resolv.conf");
        if spec.files.iter().any(|(given, _, _)| given == path) {
            return Ok(None);
        }
        let network = self.network().map_err(|source| no_network(&spec.id, source))?;
        let lines = network
            .resolvers()
            .iter()
            .map(|address| format!("nameserver {address}\n"));
        Ok(Some((path.to_owned(), lines.collect::<String>().into_bytes(), 0o644)))
    }

    /// The lease of a sandbox that lives. Without it the sandbox is out of reach but alive, and
    /// whoever checks its health will notice: no reason not to adopt it.
    pub(super) fn adopt_lease(&self, id: &str, pid: i32, address: Ipv4Addr) -> Option<Lease> {
        // If init ends just now there is nothing to adopt any more.
        let netns = File::open(format!("/proc/{pid}/ns/net")).ok()?;
        match self
            .network()
            .and_then(|network| network.adopt(id, address, netns.into()))
        {
            Ok(lease) => {
                self.lock_adopted().insert(id.to_owned());
                Some(lease)
            }
            Err(error) => {
                tracing::warn!(sandbox = %id, %address, %error, "the network of a sandbox could not be adopted");
                None
            }
        }
    }

    /// Gives back the address of a sandbox that has ended, whether or not it was adopted.
    pub(super) fn release(&self, id: &str, address: Ipv4Addr) {
        let given_back = self.network().map_err(|e| e.to_string()).and_then(|network| {
            // Its namespace is gone; any descriptor may stand for it.
            let netns = File::open("/dev/null").map_err(|e| e.to_string())?.into();
            let (id, gateway) = (id.to_owned(), network.gateway());
            network.release(Lease {
                id,
                address,
                gateway,
                prefix: 32,
                netns,
                host_interface: String::new(),
                under: None,
            });
            Ok(())
        });
        if let Err(error) = given_back {
            tracing::warn!(sandbox = %id, %address, %error, "the address is kept until the network is swept");
        }
    }

    /// Frees addresses that no sandbox has: leased by an agent that died before it wrote so.
    /// Not while a sandbox with an address waits to be adopted.
    pub(super) fn sweep_network(&self) -> Result<()> {
        let Some(network) = self.lock_network().clone() else {
            return Ok(());
        };
        for id in self.folders.list()? {
            let record = self.folders.read(&id)?;
            let waits = record
                .as_ref()
                .is_some_and(|r| r.address.is_some() && self.find(r).is_some());
            if waits && !self.lock_adopted().contains(&id) {
                return Ok(());
            }
        }
        let swept = network.sweep();
        let operation = "free addresses without a sandbox".to_owned();
        swept.map(drop).map_err(|e| Error::Network {
            operation,
            source: Box::new(e),
        })
    }

    /// Closes the network, and removes it from the host if `for_good`: then also one that this agent had no use for, and
    /// an earlier one that was killed left behind.
    pub(super) fn close_network(&self, for_good: bool) -> Result<()> {
        let closed = self.end_network(for_good);
        closed.map_err(|e| Error::Network {
            operation: "close the network".to_owned(),
            source: Box::new(e),
        })
    }

    fn end_network(&self, for_good: bool) -> net::Result<()> {
        if for_good && self.lock_network().is_none() && net::Network::is_left(&self.config.network)? {
            self.network()?;
        }
        let network = self.lock_network().take();
        match network.and_then(Arc::into_inner) {
            Some(network) if for_good => network.destroy(),
            Some(network) => network.close(),
            None => Ok(()),
        }
    }

    pub(super) fn lock_adopted(&self) -> MutexGuard<'_, HashSet<String>> {
        self.adopted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn lock_network(&self) -> MutexGuard<'_, Option<Arc<net::Network>>> {
        self.network.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn network(&self) -> net::Result<Arc<net::Network>> {
        let mut network = self.lock_network();
        match &*network {
            Some(network) => Ok(network.clone()),
            None => {
                let opened = Arc::new(net::Network::open(self.config.network.clone())?);
                *network = Some(opened.clone());
                Ok(opened)
            }
        }
    }
}

fn no_network(id: &str, source: net::Error) -> Error {
    Error::Network {
        operation: format!("give sandbox {id} a network"),
        source: Box::new(source),
    }
}
