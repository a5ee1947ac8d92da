//! The WebSocket of an exec session. The upgrade goes over the same HTTP client as everything else, so that addresses,
//! TLS and tokens are treated alike.

use super::http::{Answer, Client, http_client, refusal};
use super::{CONNECT, REQUEST};
use crate::errors::Error;
use ::http::StatusCode;
use reqwest::Upgraded;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};

/// Largest message of a session, in bytes.
const MAX_MESSAGE: usize = 1024 * 1024;

/// What to run, and where.
pub struct ExecRequest<'a> {
    pub app: &'a str,
    pub process: &'a str,
    pub index: u32,
    /// Empty for a shell.
    pub command: &'a [String],
    /// Rows and columns, where there is a terminal.
    pub terminal: Option<(u16, u16)>,
    /// `host:port` to connect to from inside, in place of a command.
    pub connect: Option<&'a str>,
}

impl Client {
    /// Opens a session.
    ///
    /// # Errors
    /// A refusal, or why there is no answer.
    pub async fn exec(&self, exec: &ExecRequest<'_>) -> Result<WebSocketStream<Upgraded>, Error> {
        let path = format!("/paas/v1/apps/{}/exec", exec.app);
        let name = format!("GET {path}");
        let mut query = vec![
            ("process", exec.process.to_owned()),
            ("index", exec.index.to_string()),
            ("command", serde_json::Value::from(exec.command).to_string()),
        ];
        query.extend(exec.connect.map(|target| ("connect", target.to_owned())));
        if let Some((rows, columns)) = exec.terminal {
            query.extend([("rows", rows.to_string()), ("columns", columns.to_string())]);
        }
        let token = self.token().await?;
        let mut request = http_client(self.api(), true)?
            .get(self.url(&path))
            .query(&query)
            .header("connection", "Upgrade")
            .header("upgrade", "websocket")
            .header("sec-websocket-version", "13")
            .header("sec-websocket-key", generate_key());
        if let Some(token) = token {
            request = request.bearer_auth(token.expose());
        }
        self.ui().trace(&format!("> {name} [upgrade]"));
        let response = tokio::time::timeout(REQUEST, request.send())
            .await
            .map_err(|_| Error::TimedOut {
                what: name.clone(),
                seconds: REQUEST.as_secs(),
                resume: None,
            })?
            .map_err(|error| self.broken(&error, &name, CONNECT, true))?;
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            let (status, headers) = (response.status(), response.headers().clone());
            let body = response.bytes().await.unwrap_or_default();
            return Err(refusal(&Answer {
                status,
                headers,
                body,
                request: name,
            }));
        }
        let upgraded = response
            .upgrade()
            .await
            .map_err(|error| self.broken(&error, &name, REQUEST, true))?;
        let config = WebSocketConfig::default().max_message_size(Some(MAX_MESSAGE));
        Ok(WebSocketStream::from_raw_socket(upgraded, Role::Client, Some(config)).await)
    }
}
