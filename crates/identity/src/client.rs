//! A host's side: joins with a token, and keeps its certificate young.

use crate::Error;
use crate::credentials::{Credentials, Request};
use crate::held::{Held, Proof};
use crate::token::JoinToken;
use api::Controllers;
use api::machine::{JOIN, Join, Joined, MAX_BODY, RENEW, Renew};
use model::Timestamp;
use model::machine::Machine;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Time to reach a controller.
const CONNECT: Duration = Duration::from_secs(5);
/// Time for its answer.
const ANSWER: Duration = Duration::from_secs(20);
/// Rounds over all controllers before a host gives up to join.
const ROUNDS: usize = 3;
/// First and longest pause between two tries of a renewal.
const PAUSES: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(60));
/// Bytes of an error that are told.
const MAX_TEXT: usize = 500;

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Keys or certificates can't be made or used.
    #[error("the certificate can't be used")]
    Identity(#[source] Error),
    /// The addresses of controllers are none.
    #[error("there is no controller to ask")]
    Controllers(#[source] api::InvalidControllers),
    /// No controller was reached.
    #[error("no controller was reached, the last at {address}")]
    Unreachable {
        /// The last that was tried.
        address: String,
        #[source]
        source: reqwest::Error,
    },
    /// One refused.
    #[error("the controller at {address} refused: {status} {text}")]
    Refused {
        /// Which.
        address: String,
        /// HTTP status.
        status: u16,
        /// What it said.
        text: String,
    },
    /// It answered something else.
    #[error("the controller at {address} answered what is not understood")]
    Answer {
        /// Which.
        address: String,
        #[source]
        source: serde_json::Error,
    },
}

/// Makes this host the machine that the token is for. `earlier` are the credentials that it had, where it was that machine
/// before: its key proves that.
///
/// # Errors
/// Where no controller is reached, or one refuses.
pub async fn join(
    token: &JoinToken,
    machine: Machine,
    name: &str,
    earlier: Option<&Credentials>,
) -> Result<Credentials, ClientError> {
    let request = Request::new(earlier).map_err(ClientError::Identity)?;
    let body = Join {
        token: token.id,
        secret: token.secret.clone(),
        machine,
        name: name.to_owned(),
        request: request.pem.clone(),
    };
    let controllers = Controllers::new(token.controllers.iter().cloned()).map_err(ClientError::Controllers)?;
    let tls = token.client().map_err(ClientError::Identity)?;
    let client = builder().tls_backend_preconfigured(tls);
    let client = client.build().map_err(unreachable(""))?;
    let mut tries = token.controllers.len() * ROUNDS;
    let joined = loop {
        tries -= 1;
        match ask(&client, &controllers, JOIN.path, &body).await {
            Err(ClientError::Unreachable { .. }) if tries > 0 => {}
            answered => break answered?,
        }
    };
    request.credentials(joined).map_err(ClientError::Identity)
}

/// Asks for the next certificate with the present one.
async fn renew(client: &reqwest::Client, controllers: &Controllers) -> Result<Credentials, ClientError> {
    let request = Request::new(None).map_err(ClientError::Identity)?;
    let body = Renew {
        request: request.pem.clone(),
    };
    let joined = ask(client, controllers, RENEW.path, &body).await?;
    request.credentials(joined).map_err(ClientError::Identity)
}

/// Replaces the certificate of `held` whenever it is due, until `shutdown`. `store` keeps each new one before it is used.
///
/// # Errors
/// Where requests can't be made at all.
pub async fn keep(
    held: Held,
    mut present: Credentials,
    controllers: Controllers,
    store: impl Fn(&Credentials) -> Result<(), Box<dyn std::error::Error + Send + Sync>>,
    shutdown: CancellationToken,
) -> Result<(), ClientError> {
    let mut pause = PAUSES.0;
    let mut due = present.renewal();
    loop {
        let wait = Duration::try_from(due - Timestamp::now_utc()).unwrap_or(Duration::ZERO);
        tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            () = tokio::time::sleep(wait) => {}
        }
        // Made anew: connections of the one before showed the certificate of then.
        let client = Proof::from(held.clone())
            .client(builder())
            .map_err(ClientError::Identity)?;
        let client = client.build().map_err(unreachable(""))?;
        match renew(&client, &controllers).await {
            Ok(next) => {
                pause = PAUSES.0;
                due = next.renewal();
                // One that can't be kept is used all the same: the next start has the one before, or joins anew.
                if let Err(error) = store(&next) {
                    tracing::error!(%error, "the renewed certificate could not be kept");
                }
                if let Err(error) = held.replace(&next) {
                    tracing::error!(%error, "the renewed certificate can't be used");
                }
                tracing::info!(machine = %next.machine, until = %next.until, "the certificate was renewed");
                present = next;
            }
            Err(error) => {
                tracing::warn!(
                    cause = chain(&error),
                    until = %present.until,
                    "the certificate could not be renewed; it is tried again"
                );
                due = Timestamp::now_utc() + pause;
                pause = (pause * 2).min(PAUSES.1);
            }
        }
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}

fn builder() -> reqwest::ClientBuilder {
    reqwest::Client::builder()
        .connect_timeout(CONNECT)
        .timeout(ANSWER)
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
}

fn unreachable(address: &str) -> impl FnOnce(reqwest::Error) -> ClientError {
    let address = address.to_owned();
    move |source| ClientError::Unreachable { address, source }
}

/// One question to the present controller; after one that did not answer the next is tried.
async fn ask(
    client: &reqwest::Client,
    controllers: &Controllers,
    path: &str,
    body: &impl serde::Serialize,
) -> Result<Joined, ClientError> {
    let (number, address) = controllers.current();
    let sent = client.post(format!("{address}{path}")).json(body).send().await;
    let answered = match sent {
        Ok(answer) => read(answer, address).await,
        Err(error) => Err(unreachable(address)(error)),
    };
    if matches!(answered, Err(ClientError::Unreachable { .. }) | Ok((500.., _))) {
        controllers.failed(number);
    }
    let (status, bytes) = answered?;
    if status != 200 {
        let text: String = String::from_utf8_lossy(&bytes).chars().take(MAX_TEXT).collect();
        let address = address.to_owned();
        return Err(ClientError::Refused { address, status, text });
    }
    serde_json::from_slice(&bytes).map_err(|source| ClientError::Answer {
        address: address.to_owned(),
        source,
    })
}

async fn read(mut answer: reqwest::Response, address: &str) -> Result<(u16, Vec<u8>), ClientError> {
    let mut bytes = Vec::new();
    while bytes.len() < MAX_BODY {
        match answer.chunk().await.map_err(unreachable(address))? {
            Some(chunk) => bytes.extend_from_slice(&chunk),
            None => break,
        }
    }
    Ok((answer.status().as_u16(), bytes))
}
