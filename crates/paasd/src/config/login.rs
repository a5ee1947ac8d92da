//! Settings of log-ins, and what the controller is told of them.

use super::Hidden;
use anyhow::bail;
use model::resource::User;
use serde::{Deserialize, Serialize};

/// Beginnings of addresses of this machine, where nobody listens in.
const LOCAL: [&str; 3] = ["http://127.0.0.1:", "http://localhost:", "http://[::1]:"];

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Login {
    pub oidc: Oidc,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Oidc {
    pub issuer: String,
    pub client_id: String,
    pub client_secret: Hidden,
    pub scopes: Vec<String>,
    pub name_claim: String,
    pub origin: String,
    pub label: String,
}

impl Oidc {
    /// The identity provider, where one is set.
    ///
    /// # Errors
    /// Names the setting that is missing or makes no sense.
    pub fn told(&self) -> anyhow::Result<Option<controller::Oidc>> {
        if self.issuer.is_empty() {
            return Ok(None);
        }
        let safe = self.issuer.starts_with("https://") || LOCAL.iter().any(|local| self.issuer.starts_with(local));
        if !safe {
            bail!("the setting login.oidc.issuer has to begin with https://");
        }
        let needed = [
            ("client_id", &self.client_id),
            ("name_claim", &self.name_claim),
            ("origin", &self.origin),
            ("label", &self.label),
        ];
        if let Some((name, _)) = needed.iter().find(|(_, value)| value.trim().is_empty()) {
            bail!("the setting login.oidc.{name} is needed where login.oidc.issuer is set");
        }
        let Some(client_secret) = self.client_secret.get() else {
            bail!("the setting login.oidc.client_secret is needed where login.oidc.issuer is set");
        };
        if self.origin == User::HERE {
            bail!(
                "the setting login.oidc.origin can't be {:?}: they sign in here",
                User::HERE
            );
        }
        if !self.scopes.iter().any(|scope| scope == "openid") {
            bail!("the setting login.oidc.scopes has to have \"openid\"");
        }
        Ok(Some(controller::Oidc {
            issuer: self.issuer.clone(),
            client_id: self.client_id.clone(),
            client_secret,
            scopes: self.scopes.clone(),
            origin: self.origin.clone(),
            label: self.label.clone(),
            name_claim: self.name_claim.clone(),
        }))
    }
}

#[cfg(test)]
mod tests {
    use crate::config::load;

    fn told(assignments: &[&str]) -> anyhow::Result<Option<controller::Oidc>> {
        let assignments: Vec<_> = assignments.iter().map(|text| (*text).to_owned()).collect();
        let config = load(None, std::iter::empty(), &assignments)?;
        config.login.oidc.told()
    }

    #[test]
    fn a_provider_is_told_of_where_all_of_it_is_set() {
        const GOOD: [&str; 3] = [
            "login.oidc.issuer=https://id.example.com",
            "login.oidc.client_id=paas",
            "login.oidc.client_secret=hush",
        ];
        assert!(told(&[]).expect("sound").is_none());
        let good = told(&GOOD).expect("sound").expect("set");
        assert_eq!((good.origin.as_str(), good.client_secret.expose()), ("oidc", "hush"));
        assert!(!format!("{good:?}").contains("hush"));
        for (wrong, part) in [
            ("login.oidc.issuer=http://id.example.com", "https://"),
            ("login.oidc.client_id=", "client_id is needed"),
            ("login.oidc.client_secret=", "client_secret is needed"),
            ("login.oidc.origin=uaa", "sign in here"),
            ("login.oidc.scopes=profile", "\"openid\""),
        ] {
            let error = told(&[&GOOD[..], &[wrong]].concat()).expect_err("refused");
            assert!(error.to_string().contains(part), "{wrong}: {error}");
        }
    }
}
