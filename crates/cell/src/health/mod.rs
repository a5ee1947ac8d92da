//! Whether an instance answers: asks its port or its endpoint from the host, at its sandbox's address.
//!
//! A new instance is asked at once and then often, so that a fast app is seen fast; a healthy one by its interval. What
//! happens when it does not answer is the work's.

pub mod listening;

use model::health::{HealthCheck, Probe};
use std::net::SocketAddrV4;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

/// Time to the second question of a new instance; it doubles up to [`LAST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(10);
/// Longest time between two questions of a new instance.
const LAST_PAUSE: Duration = Duration::from_millis(250);
/// Failures in a row that make a healthy instance unhealthy.
const FAILURES: u32 = 3;
/// Time from a failure of a healthy instance to the next question.
const RECHECK: Duration = Duration::from_secs(1);
/// Bytes of an answer that are read to find its status.
const MAX_STATUS_LINE: usize = 4096;

/// Where and how to ask.
#[derive(Debug, Clone)]
pub struct Target {
    address: SocketAddrV4,
    endpoint: Option<String>,
    patience: Duration,
}

impl Target {
    /// What `check` asks of the app at `address`; `None` where the living process is all that is asked for.
    #[must_use]
    pub fn new(check: &HealthCheck, address: Option<SocketAddrV4>) -> Option<Self> {
        let endpoint = match &check.probe {
            Probe::Port => None,
            Probe::Http { endpoint } => Some(endpoint.clone()),
            Probe::Process => return None,
        };
        Some(Self {
            address: address?,
            endpoint,
            patience: Duration::from_secs(u64::from(check.invocation_timeout_seconds.max(1))),
        })
    }

    /// Asks once.
    ///
    /// # Errors
    /// The answer, or why there was none, in words.
    pub async fn ask(&self) -> Result<(), String> {
        let seconds = self.patience.as_secs();
        let port = self.address.port();
        match timeout(self.patience, self.exchange()).await {
            Ok(answer) => answer,
            Err(_) => Err(match &self.endpoint {
                None => format!("no answer on port {port} within {seconds} s"),
                Some(endpoint) => format!("GET {endpoint} on port {port} was not answered within {seconds} s"),
            }),
        }
    }

    async fn exchange(&self) -> Result<(), String> {
        let port = self.address.port();
        let mut stream = TcpStream::connect(self.address)
            .await
            .map_err(|error| format!("port {port}: {}", plain(&error)))?;
        let Some(endpoint) = &self.endpoint else {
            return Ok(());
        };
        let request = format!(
            "GET {endpoint} HTTP/1.1\r\nHost: {}\r\nUser-Agent: paas-health\r\nAccept: */*\r\nConnection: close\r\n\r\n",
            self.address
        );
        let failed = |error: std::io::Error| format!("GET {endpoint} on port {port}: {}", plain(&error));
        stream.write_all(request.as_bytes()).await.map_err(failed)?;
        let mut answer = Vec::with_capacity(256);
        while !answer.contains(&b'\n') && answer.len() < MAX_STATUS_LINE {
            if stream.read_buf(&mut answer).await.map_err(failed)? == 0 {
                break;
            }
        }
        match status(&answer) {
            Some(200) => Ok(()),
            Some(code) => Err(format!(
                "GET {endpoint} on port {port} was answered with {code}, expected 200"
            )),
            None => Err(format!("GET {endpoint} on port {port} was not answered in HTTP/1")),
        }
    }

    /// Waits until a new instance answers. Never ends by itself otherwise: the caller sets the limit. The last answer
    /// is kept in `last`.
    pub async fn until_healthy(&self, last: &parking_lot::Mutex<String>) {
        let mut pause = FIRST_PAUSE;
        while let Err(answer) = self.ask().await {
            *last.lock() = answer;
            sleep(pause).await;
            pause = (pause * 2).min(LAST_PAUSE);
        }
    }

    /// Waits until a healthy instance has failed several times in a row, and says its last answer.
    pub async fn until_unhealthy(&self, interval: Duration) -> String {
        let mut failures = 0;
        let mut next = Instant::now() + interval;
        loop {
            tokio::time::sleep_until(next).await;
            match self.ask().await {
                Ok(()) => {
                    failures = 0;
                    next = Instant::now() + interval;
                }
                Err(answer) => {
                    failures += 1;
                    if failures >= FAILURES {
                        return answer;
                    }
                    next = Instant::now() + RECHECK.min(interval);
                }
            }
        }
    }
}

/// An error without its number.
fn plain(error: &std::io::Error) -> String {
    use std::io::ErrorKind;
    match error.kind() {
        ErrorKind::ConnectionRefused => "connection refused".to_owned(),
        ErrorKind::ConnectionReset => "connection reset".to_owned(),
        _ => error.to_string(),
    }
}

/// The status code of an HTTP/1 answer.
fn status(answer: &[u8]) -> Option<u16> {
    let line = answer.split(|&byte| byte == b'\n').next()?;
    let rest = line.strip_prefix(b"HTTP/1.")?;
    let code = rest.get(2..5)?;
    (rest.get(1) == Some(&b' ')).then(|| std::str::from_utf8(code).ok()?.parse().ok())?
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
