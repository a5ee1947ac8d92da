//! Gets a file of the server's, however large it is.

use super::UPLOAD;
use super::http::{Call, Client};
use crate::errors::Error;
use futures_util::StreamExt as _;
use std::io::Write as _;
use std::time::Duration;

/// Longest wait for the next bytes.
const STALL: Duration = Duration::from_secs(60);

impl Client {
    /// Saves the answer to `GET path` in a new file below the folder for temporary ones.
    ///
    /// # Errors
    /// A refusal, or why there is no answer; or the file can't be written.
    pub async fn save(&self, path: &str) -> Result<tempfile::NamedTempFile, Error> {
        // Renews the session where it has to be, and says what is wrong in the usual way.
        let name = format!("GET {path}");
        let failed = |error: std::io::Error| Error::file("write", "the download", &error);
        let mut request = self.0.http.get(self.url(path)).timeout(UPLOAD);
        if let Some(token) = self.token().await? {
            request = request.bearer_auth(token.expose());
        }
        self.ui().trace(&format!("> {name}"));
        let response = request
            .send()
            .await
            .map_err(|error| self.broken(&error, &name, UPLOAD, true))?;
        if !response.status().is_success() {
            // Asked again as any other request: the refusal is read there.
            self.send(Call::new(::http::Method::GET, path)).await?;
            return Err(Error::Protocol {
                request: name,
                detail: "it was refused once, and then not".into(),
            });
        }
        let mut file = tempfile::NamedTempFile::new().map_err(failed)?;
        let mut chunks = response.bytes_stream();
        loop {
            let next = tokio::time::timeout(STALL, chunks.next()).await;
            let Some(chunk) = next.map_err(|_| Error::TimedOut {
                what: name.clone(),
                seconds: STALL.as_secs(),
                resume: None,
            })?
            else {
                break;
            };
            let chunk = chunk.map_err(|error| self.broken(&error, &name, UPLOAD, true))?;
            file.write_all(&chunk).map_err(failed)?;
        }
        file.flush().map_err(failed)?;
        Ok(file)
    }
}
