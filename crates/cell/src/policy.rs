//! Where work may connect to: the rules that the controller told last, kept on disk, as policies of sandboxes; and
//! their putting in force for what runs already. Which packets a policy lets through is the sandbox's.

use crate::config::Config;
use crate::core::Core;
use crate::error::{Error, blocking, chain, file, kernel};
use model::security::{Policies, SecurityProtocol, SecurityRule, Use};
use model::work::{WorkKind, WorkSpec};
use sandbox::Sandbox;
use sandbox::net::{Cidr, Egress, Icmp, MAX_PORT_RANGES, MAX_RULES, Ports, Protocol, Rule};
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// Time to another try of what could not be put in force.
const AGAIN: Duration = Duration::from_secs(2);

/// What the controller told last. `None` before it ever told anything: the configuration holds then.
#[derive(Debug)]
pub(crate) struct Rulebook {
    file: PathBuf,
    told: watch::Sender<Option<Arc<Policies>>>,
}

impl Rulebook {
    /// Reads what an earlier agent was told. What can't be read is set aside: the controller tells it again. Blocking.
    pub(crate) fn open(file: PathBuf) -> Self {
        let known = match read(&file) {
            Ok(known) => known,
            Err(error) => {
                tracing::error!(path = %file.display(), %error, "failed to read the rules of security groups, set aside");
                let _ = fs::rename(&file, file.with_extension("unreadable"));
                None
            }
        };
        Self {
            file,
            told: watch::Sender::new(known.map(Arc::new)),
        }
    }

    /// As of now.
    pub(crate) fn now(&self) -> Option<Arc<Policies>> {
        self.told.borrow().clone()
    }

    /// The policy of sandboxes of no space in particular: what is in force everywhere for what runs.
    pub(crate) fn usual(&self) -> Option<Egress> {
        let now = self.now()?;
        Some(policy(now.everywhere(Use::Running)))
    }

    /// Takes over what the controller tells: on disk first, so that no later agent goes back behind it.
    pub(crate) async fn take(&self, policies: Policies) {
        let (path, policies) = (self.file.clone(), Arc::new(policies));
        let writing = Arc::clone(&policies);
        if let Err(error) = blocking(move || write(&path, &writing)).await {
            tracing::error!(error = %chain(&error), "failed to keep the rules of security groups");
        }
        self.told.send_replace(Some(policies));
    }
}

fn read(path: &Path) -> io::Result<Option<Policies>> {
    match fs::read(path) {
        Ok(text) => Ok(Some(serde_json::from_slice(&text)?)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn write(path: &Path, policies: &Policies) -> Result<(), Error> {
    let fresh = path.with_extension("new");
    let text = serde_json::to_vec(policies).map_err(|error| file("describe", path)(error.into()))?;
    fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&fresh)
        .and_then(|mut file| file.write_all(&text).and_then(|()| file.sync_data()))
        .map_err(file("write", &fresh))?;
    fs::rename(&fresh, path).map_err(file("replace", path))
}

/// What work of this kind connects for.
fn use_of(kind: &WorkKind) -> Use {
    match kind {
        WorkKind::Instance(_) | WorkKind::Task(_) => Use::Running,
        WorkKind::Build(_) => Use::Staging,
    }
}

/// The policy of work under what was told.
pub(crate) fn egress(config: &Config, told: Option<&Policies>, spec: &WorkSpec) -> Egress {
    let use_ = use_of(&spec.kind);
    match (told, use_) {
        (Some(told), _) => policy(told.rules_of(spec.owner.space, use_)),
        (None, Use::Running) => config.egress_running.clone(),
        (None, Use::Staging) => config.egress_staging.clone(),
    }
}

/// Rules as a policy. Beyond what a policy can hold, rules allow nothing: that is told in the log.
fn policy<'a>(rules: impl Iterator<Item = &'a SecurityRule>) -> Egress {
    let all: Vec<Rule> = rules.flat_map(converted).collect();
    let mut policy = Egress::together([all.as_slice()]);
    if policy.allow.len() > MAX_RULES {
        tracing::error!(
            count = policy.allow.len(),
            most = MAX_RULES,
            "security groups of a space have too many rules, the last are left out"
        );
        policy.allow.truncate(MAX_RULES);
    }
    policy
}

/// One rule for each block that it names. A rule that is not valid allows nothing.
fn converted(rule: &SecurityRule) -> Vec<Rule> {
    let (Some(ranges), Some(ports)) = (rule.ranges(), rule.port_ranges()) else {
        tracing::error!(
            destination = rule.destination,
            "a rule of a security group is not valid, it allows nothing"
        );
        return Vec::new();
    };
    let proto = match rule.protocol {
        SecurityProtocol::Tcp => Protocol::Tcp,
        SecurityProtocol::Udp => Protocol::Udp,
        SecurityProtocol::Icmp => Protocol::Icmp,
        SecurityProtocol::All => Protocol::Any,
    };
    // -1 is every type, and every code.
    let byte = |number: Option<i16>| number.and_then(|number| u8::try_from(number).ok());
    let kind = byte(rule.kind).filter(|_| proto == Protocol::Icmp);
    let icmp = kind.map(|kind| Icmp {
        kind,
        code: byte(rule.code),
    });
    let ports: Vec<Ports> = ports.into_iter().map(|(first, last)| Ports { first, last }).collect();
    let mut parts: Vec<Vec<Ports>> = ports.chunks(MAX_PORT_RANGES).map(<[Ports]>::to_vec).collect();
    if parts.is_empty() {
        parts.push(Vec::new());
    }
    let blocks: Vec<Cidr> = ranges
        .iter()
        .flat_map(|range| Cidr::covering(range.first, range.last))
        .collect();
    let of = |ports: Vec<Ports>| {
        blocks.iter().map(move |block| Rule {
            cidr: *block,
            proto,
            ports: ports.clone(),
            icmp,
            log: rule.log == Some(true),
        })
    };
    parts.into_iter().flat_map(of).collect()
}

/// Keeps a living sandbox under what is told, until dropped.
#[derive(Debug)]
pub(crate) struct Following(tokio::task::AbortHandle);

impl Drop for Following {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Puts a sandbox under every policy that its work gets, from now on. `under` is the one that it was made under, where
/// that is known.
pub(crate) fn follow(core: &Arc<Core>, spec: &WorkSpec, sandbox: &Arc<Sandbox>, under: Option<Egress>) -> Following {
    let (core, spec, sandbox) = (Arc::clone(core), spec.clone(), Arc::clone(sandbox));
    let mut told = core.rulebook.told.subscribe();
    let following = tokio::spawn(async move {
        let mut under = under;
        loop {
            let now = told.borrow_and_update().clone();
            let wanted = now.map(|now| egress(&core.config, Some(&now), &spec));
            if let Some(wanted) = wanted.filter(|wanted| under.as_ref() != Some(wanted)) {
                match put_under(&sandbox, wanted.clone()).await {
                    Ok(()) => {
                        let (work, count) = (sandbox.id(), wanted.allow.len());
                        tracing::debug!(work.id = work, app.id = %spec.owner.app, rules = count, "work is under another policy");
                        under = Some(wanted);
                    }
                    Err(error) => {
                        tracing::error!(work.id = sandbox.id(), error = %chain(&error), "failed to put work under a policy, trying again");
                        tokio::time::sleep(AGAIN).await;
                        continue;
                    }
                }
            }
            if told.changed().await.is_err() {
                return;
            }
        }
    });
    Following(following.abort_handle())
}

async fn put_under(sandbox: &Arc<Sandbox>, policy: Egress) -> Result<(), Error> {
    let sandbox = Arc::clone(sandbox);
    blocking(move || {
        let operation = format!("put work {} under a policy", sandbox.id());
        sandbox.set_policy(&policy).map_err(kernel(operation))
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;
    use model::security::{GroupsByUse, check_rules};
    use serde_json::json;
    use uuid::Uuid;

    fn rules(value: serde_json::Value) -> Vec<SecurityRule> {
        check_rules(&value).expect("valid")
    }

    #[test]
    fn rules_become_blocks_ports_and_types() {
        let all = rules(json!([
            {"protocol": "tcp", "destination": "10.0.0.1-10.0.0.2,1.1.1.1", "ports": "80,443", "log": true},
            {"protocol": "icmp", "destination": "1.0.0.0/8", "type": 8, "code": -1},
            {"protocol": "icmp", "destination": "2.0.0.0/8", "type": -1, "code": -1},
            {"protocol": "all", "destination": "3.0.0.0/8"},
        ]));
        let policy = policy(all.iter());
        assert!(policy.check().is_ok() && policy.deny.is_empty());
        let shown: Vec<String> = policy.allow.iter().map(|rule| rule.cidr.to_string()).collect();
        assert_eq!(
            shown,
            [
                "10.0.0.1/32",
                "10.0.0.2/32",
                "1.1.1.1/32",
                "1.0.0.0/8",
                "2.0.0.0/8",
                "3.0.0.0/8"
            ]
        );
        assert_eq!((policy.allow[0].ports.len(), policy.allow[0].log), (2, true));
        assert_eq!(policy.allow[3].icmp, Some(Icmp { kind: 8, code: None }));
        assert_eq!((policy.allow[4].proto, policy.allow[4].icmp), (Protocol::Icmp, None));
        assert_eq!(policy.allow[5].proto, Protocol::Any);
    }

    #[test]
    fn what_is_not_valid_or_too_much_allows_nothing() {
        let mut broken = SecurityRule::new(SecurityProtocol::Tcp, "1.1.1.1");
        assert!(converted(&broken).is_empty(), "no ports are not all ports");
        broken.ports = Some("x".to_owned());
        assert!(converted(&broken).is_empty());
        assert!(converted(&SecurityRule::new(SecurityProtocol::All, "everywhere")).is_empty());
        let many: Vec<String> = (1..=200).map(|port: u16| (port * 2).to_string()).collect();
        let mut ports = SecurityRule::new(SecurityProtocol::Udp, "1.1.1.1");
        ports.ports = Some(many.join(","));
        let parts = converted(&ports);
        assert_eq!(
            (parts.len(), parts.iter().map(|rule| rule.ports.len()).sum::<usize>()),
            (4, 200)
        );
        let wide = SecurityRule::new(SecurityProtocol::All, "0.0.0.1-255.255.255.254");
        let each: Vec<SecurityRule> = (1..=400u16)
            .map(|port| SecurityRule {
                protocol: SecurityProtocol::Tcp,
                ports: Some(port.to_string()),
                ..wide.clone()
            })
            .collect();
        let policy = policy(each.iter());
        assert!(policy.allow.len() == MAX_RULES && policy.check().is_ok());
    }

    #[test]
    fn instances_and_tasks_go_by_one_set_and_builds_by_the_other() {
        use model::id::SecurityGroupId;
        let (run, stage) = (SecurityGroupId(Uuid::from_u128(1)), SecurityGroupId(Uuid::from_u128(2)));
        let mut told = Policies::default();
        for (group, to) in [(run, "1.1.1.1"), (stage, "2.2.2.2")] {
            let rule = SecurityRule::new(SecurityProtocol::All, to);
            told.groups.insert(group, vec![rule]);
        }
        told.everywhere.staging.insert(stage);
        let spec = testing::instance_spec();
        let mut bound = GroupsByUse::default();
        bound.running.insert(run);
        told.spaces.insert(spec.owner.space, bound);
        let shown = |use_| -> Vec<String> {
            let policy = policy(told.rules_of(spec.owner.space, use_));
            policy.allow.iter().map(|rule| rule.cidr.to_string()).collect()
        };
        assert_eq!(shown(use_of(&spec.kind)), ["1.1.1.1/32"]);
        assert_eq!(shown(Use::Staging), ["2.2.2.2/32"]);
        let task = WorkKind::Task(model::work::TaskSpec {
            task: model::id::TaskId(Uuid::nil()),
            name: String::new(),
            droplet: model::id::DropletId(Uuid::nil()),
            layers: Vec::new(),
            command: String::new(),
            timeout_seconds: 1,
            image: None,
        });
        assert_eq!(use_of(&task), Use::Running);
    }

    #[tokio::test]
    async fn what_was_told_survives_the_agent_and_damage_is_set_aside() {
        let dir = tempfile::tempdir().expect("folder");
        let path = dir.path().join("policies.json");
        let book = Rulebook::open(path.clone());
        assert!(book.now().is_none() && book.usual().is_none());
        let mut told = Policies::default();
        let group = model::id::SecurityGroupId(Uuid::from_u128(1));
        told.groups
            .insert(group, vec![SecurityRule::new(SecurityProtocol::All, "1.1.1.1")]);
        told.everywhere.running.insert(group);
        book.take(told.clone()).await;
        let again = Rulebook::open(path.clone());
        assert_eq!(again.now().as_deref(), Some(&told));
        assert_eq!(again.usual().expect("told").allow.len(), 1);
        fs::write(&path, "{").expect("damage");
        assert!(Rulebook::open(path.clone()).now().is_none());
        assert!(path.with_extension("unreadable").exists());
    }
}
