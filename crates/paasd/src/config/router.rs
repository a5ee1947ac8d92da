//! Settings of the router, and what it is told by them.

use anyhow::Context as _;
use identity::Proof;
use router::{Addresses, ClientAuth, ClientCert, Controllers, ForwardedProto, Query, TlsSettings};
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;
use uuid::Uuid;

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Router {
    pub listen: SocketAddr,
    pub workers: usize,
    pub drain_seconds: u64,
    pub drain_wait_seconds: u64,
    pub admin_listen: String,
    pub zone: String,
    pub loadbalancing: String,
    pub sticky_cookies: Vec<String>,
    pub forwarded_client_cert: String,
    pub forwarded_proto: String,
    pub proxy_protocol: String,
    pub access_log: String,
    pub access_log_query: String,
    pub max_connections: usize,
    pub max_requests_per_instance: u32,
    pub max_body_mb: u64,
    pub request_timeout_seconds: u64,
    pub tls: Tls,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    pub listen: String,
    pub certificates: String,
    pub minimum_version: String,
    pub redirect: String,
    pub client_certificates: String,
    pub client_authorities: String,
}

impl Router {
    /// How long it may take to stop.
    pub fn drain(&self) -> Duration {
        Duration::from_secs(self.drain_wait_seconds + self.drain_seconds)
    }

    /// How many threads it has: as set, or one for each CPU.
    pub fn threads(&self) -> usize {
        match self.workers {
            0 => std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            workers => workers,
        }
    }

    /// Where it listens.
    ///
    /// # Errors
    /// Names the setting that is wrong.
    pub fn addresses(&self) -> anyhow::Result<Addresses> {
        Ok(Addresses {
            plain: self.listen,
            tls: address(&self.tls.listen).context("in the setting router.tls.listen")?,
            admin: address(&self.admin_listen).context("in the setting router.admin_listen")?,
        })
    }

    /// What a router is told; `controllers` are asked for routes, `state` where it keeps them.
    ///
    /// # Errors
    /// Names the setting that is wrong.
    pub fn told(
        &self,
        id: Uuid,
        controllers: Controllers,
        proof: Proof,
        state: PathBuf,
    ) -> anyhow::Result<router::Config> {
        let mut told = router::Config::new(id, self.listen, controllers, proof);
        told.listen = self.addresses()?;
        told.workers = self.threads();
        told.drain_timeout = Duration::from_secs(self.drain_seconds);
        told.drain_wait = Duration::from_secs(self.drain_wait_seconds);
        told.zone = named(&self.zone);
        told.sticky.clone_from(&self.sticky_cookies);
        told.state = Some(state);
        told.access.file = named(&self.access_log).map(PathBuf::from);
        told.limits.max_connections = self.max_connections;
        told.limits.max_per_instance = self.max_requests_per_instance;
        told.limits.response_head = Duration::from_secs(self.request_timeout_seconds);
        if self.max_body_mb > 0 {
            told.limits.max_body = self.max_body_mb.saturating_mul(1024 * 1024);
        }
        told.access.query = one_of(
            "router.access_log_query",
            &self.access_log_query,
            &[("keep", Query::Keep), ("redact", Query::Redact)],
        )?;
        told.policy = one_of(
            "router.loadbalancing",
            &self.loadbalancing,
            &[
                ("", None),
                ("round-robin", Some(router::LoadBalancing::RoundRobin)),
                ("least-connection", Some(router::LoadBalancing::LeastConnection)),
            ],
        )?;
        told.client_cert = one_of(
            "router.forwarded_client_cert",
            &self.forwarded_client_cert,
            &[
                ("always_forward", ClientCert::AlwaysForward),
                ("forward", ClientCert::Forward),
                ("sanitize_set", ClientCert::SanitizeSet),
            ],
        )?;
        told.forwarded_proto = one_of(
            "router.forwarded_proto",
            &self.forwarded_proto,
            &[
                ("keep", ForwardedProto::Keep),
                ("sanitize", ForwardedProto::Sanitize),
                ("https", ForwardedProto::Https),
            ],
        )?;
        told.proxy_protocol = one_of("router.proxy_protocol", &self.proxy_protocol, &ON_OFF)?;
        if let Some(tls) = told.listen.tls {
            told.tls = Some(self.tls.told()?);
            told.redirect = one_of("router.tls.redirect", &self.tls.redirect, &ON_OFF)?.then_some(tls.port());
        }
        Ok(told)
    }
}

const ON_OFF: [(&str, bool); 2] = [("off", false), ("on", true)];

impl Tls {
    fn told(&self) -> anyhow::Result<TlsSettings> {
        let certificates = named(&self.certificates).map(PathBuf::from);
        Ok(TlsSettings {
            certificates: certificates.context("the setting router.tls.certificates has to name a folder")?,
            only_1_3: one_of(
                "router.tls.minimum_version",
                &self.minimum_version,
                &[("1.2", false), ("1.3", true)],
            )?,
            client_auth: one_of(
                "router.tls.client_certificates",
                &self.client_certificates,
                &[
                    ("none", ClientAuth::None),
                    ("request", ClientAuth::Request),
                    ("require", ClientAuth::Require),
                ],
            )?,
            client_authorities: named(&self.client_authorities).map(PathBuf::from),
        })
    }
}

fn named(text: &str) -> Option<String> {
    Some(text.to_owned()).filter(|text| !text.is_empty())
}

fn address(text: &str) -> anyhow::Result<Option<SocketAddr>> {
    let address = named(text).map(|text| {
        text.parse()
            .with_context(|| format!("{text:?} is no address with a port"))
    });
    address.transpose()
}

fn one_of<T: Clone>(setting: &str, text: &str, choices: &[(&str, T)]) -> anyhow::Result<T> {
    let found = choices
        .iter()
        .find(|(name, _)| *name == text)
        .map(|(_, choice)| choice.clone());
    found.with_context(|| {
        let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
        format!("{setting} has to be one of {names:?}, not {text:?}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(assignments: &[&str]) -> Router {
        let assignments: Vec<String> = assignments.iter().map(ToString::to_string).collect();
        crate::config::load(None, std::iter::empty(), &assignments)
            .expect("sound")
            .router
    }

    fn told(assignments: &[&str]) -> anyhow::Result<router::Config> {
        let token = Proof::from(model::Secret::new("token"));
        let controllers = Controllers::new(["http://127.0.0.1:1"]).expect("an address");
        settings(assignments).told(Uuid::nil(), controllers, token, "/x".into())
    }

    #[test]
    fn a_router_is_told_what_is_set() {
        let plain = told(&[]).expect("the defaults are sound");
        assert!(plain.tls.is_none() && plain.redirect.is_none() && plain.listen.admin.is_none());
        let told = told(&[
            "router.tls.listen=127.0.0.1:8443",
            "router.tls.certificates=/certificates",
            "router.tls.minimum_version=1.3",
            "router.tls.redirect=on",
            "router.admin_listen=127.0.0.1:9090",
            "router.forwarded_client_cert=forward",
            "router.max_body_mb=2",
        ])
        .expect("sound");
        assert!(told.tls.is_some_and(|tls| tls.only_1_3));
        assert_eq!(told.redirect, Some(8443));
        assert_eq!(told.client_cert, ClientCert::Forward);
        assert_eq!(told.limits.max_body, 2 * 1024 * 1024);
        assert!(told.listen.admin.is_some());
    }

    #[test]
    fn what_makes_no_sense_is_named() {
        for (assignments, text) in [
            (
                &["router.proxy_protocol=yes"][..],
                "router.proxy_protocol has to be one of",
            ),
            (&["router.tls.listen=here"], "router.tls.listen"),
            (&["router.tls.listen=127.0.0.1:8443"], "router.tls.certificates"),
        ] {
            let error = format!("{:#}", told(assignments).expect_err(text));
            assert!(error.contains(text), "{error}");
        }
    }
}
