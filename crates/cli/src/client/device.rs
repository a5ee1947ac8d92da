//! Log-ins that somebody allows at another device (RFC 8628).

use super::REQUEST;
use super::http::Client;
use super::session::CLIENT;
use super::wire::Tokens;
use crate::errors::Error;
use api::v3::oauth::{DEVICE_GRANT, DeviceAuthorization, TokenError};
use std::time::{Duration, Instant};

/// Pause between two questions where the server names none, and by how much it grows where that is too often.
const INTERVAL: Duration = Duration::from_secs(5);
/// Longest pause between two questions.
const LONGEST: Duration = Duration::from_secs(60);
/// Longest wait for somebody to allow it, whatever the server says.
const LONGEST_WAIT: Duration = Duration::from_secs(3600);

impl Client {
    /// Begins a log-in.
    ///
    /// # Errors
    /// Where the platform does not have it, or can't be reached.
    pub async fn device_begin(&self) -> Result<DeviceAuthorization, Error> {
        let url = format!("{}/oauth/device_authorization", self.token_server().await?);
        let request = self.0.http.post(url).form(&[("client_id", CLIENT)]).timeout(REQUEST);
        let name = "POST /oauth/device_authorization".to_owned();
        self.finish(request, name, REQUEST, true).await?.json()
    }

    /// Waits until somebody has allowed it.
    ///
    /// # Errors
    /// Where it was refused, or nobody did in time.
    pub async fn device_wait(&self, begun: &DeviceAuthorization) -> Result<Tokens, Error> {
        let valid = Duration::from_secs(begun.expires_in).min(LONGEST_WAIT);
        let (started, mut pause) = (Instant::now(), begun.interval.map_or(INTERVAL, Duration::from_secs));
        while started.elapsed() < valid {
            tokio::time::sleep(pause.clamp(Duration::from_secs(1), LONGEST)).await;
            match self.device_ask(begun).await? {
                Asked::Tokens(tokens) => return Ok(tokens),
                Asked::Pending => {}
                Asked::TooOften => pause += INTERVAL,
            }
        }
        Err(self.login_refused("nobody allowed the log-in in time"))
    }

    async fn device_ask(&self, begun: &DeviceAuthorization) -> Result<Asked, Error> {
        let url = format!("{}/oauth/token", self.token_server().await?);
        let name = "POST /oauth/token";
        let form = [
            ("grant_type", DEVICE_GRANT),
            ("client_id", CLIENT),
            ("device_code", begun.device_code.expose()),
        ];
        let request = self.0.http.post(url).form(&form).timeout(REQUEST);
        let response = match request.send().await {
            Ok(response) => response,
            // It asks again: what passes by is no end.
            Err(error) if error.is_timeout() || error.is_connect() => return Ok(Asked::Pending),
            Err(error) => return Err(self.broken(&error, name, REQUEST, true)),
        };
        let status = response.status();
        let body = response
            .bytes()
            .await
            .map_err(|error| self.broken(&error, name, REQUEST, true))?;
        let unclear = |error: serde_json::Error| Error::Protocol {
            request: name.to_owned(),
            detail: error.to_string(),
        };
        if status.is_success() {
            return serde_json::from_slice(&body).map(Asked::Tokens).map_err(unclear);
        }
        let refusal: TokenError = serde_json::from_slice(&body).map_err(unclear)?;
        match refusal.error.as_str() {
            "authorization_pending" => Ok(Asked::Pending),
            "slow_down" => Ok(Asked::TooOften),
            _ => Err(self.login_refused(&refusal.error_description)),
        }
    }

    fn login_refused(&self, detail: &str) -> Error {
        Error::LoginRefused {
            api: self.api().to_owned(),
            detail: detail.to_owned(),
        }
    }
}

enum Asked {
    Tokens(Tokens),
    Pending,
    TooOften,
}
