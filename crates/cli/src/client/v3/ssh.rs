//! Sessions inside instances: their switches, and one-time codes for other clients.

use super::super::http::{Call, Client};
use super::super::{CONNECT, REQUEST};
use crate::errors::Error;
use ::http::{Method, header};
use api::v3::AppFeature;
use model::Secret;
use serde::{Deserialize, Serialize};
use serde_json::json;

/// The client that codes are for, where the platform names none.
const CLIENT: &str = "ssh-proxy";

/// Where instances are reached by SSH.
#[derive(Debug, Clone, Deserialize)]
pub struct SshLink {
    pub href: String,
    #[serde(default)]
    pub meta: std::collections::BTreeMap<String, String>,
}

/// Whether people may have sessions.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SshEnabled {
    pub enabled: bool,
    #[serde(default)]
    pub reason: String,
}

impl Client {
    /// Whether people may have sessions in an app's instances, and why not.
    pub async fn ssh_enabled(&self, app: &str) -> Result<SshEnabled, Error> {
        self.get(Call::new(Method::GET, format!("/v3/apps/{app}/ssh_enabled")))
            .await
    }

    /// Sets an app's switch.
    pub async fn set_app_ssh(&self, app: &str, enabled: bool) -> Result<bool, Error> {
        self.set_ssh(format!("/v3/apps/{app}/features/ssh"), enabled).await
    }

    /// How a space's switch stands.
    pub async fn space_ssh(&self, space: &str) -> Result<bool, Error> {
        let call = Call::new(Method::GET, format!("/v3/spaces/{space}/features/ssh"));
        Ok(self.get::<AppFeature>(call).await?.enabled)
    }

    /// Sets a space's switch.
    pub async fn set_space_ssh(&self, space: &str, enabled: bool) -> Result<bool, Error> {
        self.set_ssh(format!("/v3/spaces/{space}/features/ssh"), enabled).await
    }

    async fn set_ssh(&self, path: String, enabled: bool) -> Result<bool, Error> {
        let call = Call::new(Method::PATCH, path).json(json!({"enabled": enabled}));
        Ok(self.get::<AppFeature>(call).await?.enabled)
    }

    /// A one-time code for a connection by SSH.
    pub async fn ssh_code(&self) -> Result<Secret, Error> {
        let links = self.links().await?;
        let client = links.app_ssh.as_ref().and_then(|link| link.meta.get("oauth_client"));
        let client = client.map_or(CLIENT, String::as_str);
        let name = "GET /oauth/authorize".to_owned();
        let mut request = self
            .0
            .http
            .get(format!("{}/oauth/authorize", self.token_server().await?))
            .query(&[("response_type", "code"), ("client_id", client)])
            .timeout(REQUEST);
        if let Some(token) = self.token().await? {
            request = request.bearer_auth(token.expose());
        }
        self.ui().trace(&format!("> {name}"));
        let response = request
            .send()
            .await
            .map_err(|error| self.broken(&error, &name, CONNECT, true))?;
        let location = response
            .headers()
            .get(header::LOCATION)
            .and_then(|value| value.to_str().ok());
        let code = location
            .and_then(|location| url::Url::parse(location).ok())
            .and_then(|url| {
                let mut pairs = url.query_pairs();
                pairs.find_map(|(name, value)| (name == "code").then(|| Secret::new(value.into_owned())))
            });
        code.ok_or_else(|| match response.status().as_u16() {
            401 => Error::SessionEnded {
                api: self.api().to_owned(),
            },
            status => Error::Protocol {
                request: name,
                detail: format!("there is no code in the answer ({status})"),
            },
        })
    }
}
