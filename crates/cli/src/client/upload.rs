//! Sends a package's new files, and whole archives both ways. Says how far it is; whether to try again is the caller's
//! to decide.

use super::UPLOAD;
use super::http::{Answer, Client};
use super::session::reason;
use super::wire::{Package, Resource};
use crate::errors::Error;
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use reqwest::multipart::{Form, Part};
use std::io::{Read as _, Seek as _, Write as _};
use std::path::Path;
use std::sync::Arc;

/// Bytes read and sent at once.
const CHUNK: usize = 64 * 1024;

impl Client {
    /// Uploads `zip`, where there are new files, and names those that the server has.
    ///
    /// # Errors
    /// A refusal, or why there is no answer.
    pub async fn upload(
        &self,
        package: &str,
        known: &[Resource],
        zip: Option<(&std::fs::File, u64)>,
        progress: Arc<dyn Fn(u64) + Send + Sync>,
    ) -> Result<Package, Error> {
        let name = format!("POST /v3/packages/{package}/upload");
        let resources = serde_json::to_string(known).map_err(|error| Error::Protocol {
            request: name.clone(),
            detail: reason(&error),
        })?;
        let mut form = Form::new().text("resources", resources);
        if let Some((file, length)) = zip {
            let file = file
                .try_clone()
                .map_err(|error| Error::file("read", "the package", &error))?;
            let body = reqwest::Body::wrap_stream(chunks(file, progress)?);
            let part = Part::stream_with_length(body, length)
                .file_name("package.zip")
                .mime_str("application/octet-stream")
                .map_err(|error| Error::Protocol {
                    request: name.clone(),
                    detail: reason(&error),
                })?;
            form = form.part("bits", part);
        }
        let mut request = self
            .0
            .http
            .post(self.url(&format!("/v3/packages/{package}/upload")))
            .timeout(UPLOAD)
            .multipart(form);
        if let Some(token) = self.token().await? {
            request = request.bearer_auth(token.expose());
        }
        self.ui().trace(&format!(
            "> {name} [{} known files, {} bytes]",
            known.len(),
            zip.map_or(0, |zip| zip.1)
        ));
        self.finish(request, name, UPLOAD, false).await?.json()
    }
}

impl Client {
    /// Sends a whole archive as `bits`.
    ///
    /// # Errors
    /// A refusal, or why there is no answer.
    pub(super) async fn upload_bits(&self, path: &str, file: &std::fs::File, name: &str) -> Result<Answer, Error> {
        let unreadable = |error: std::io::Error| Error::file("read", name, &error);
        let length = file.metadata().map_err(unreadable)?.len();
        let body = chunks(file.try_clone().map_err(unreadable)?, Arc::new(|_| {}))?;
        let part = Part::stream_with_length(reqwest::Body::wrap_stream(body), length).file_name(name.to_owned());
        let mut request = self
            .0
            .http
            .post(self.url(path))
            .timeout(UPLOAD)
            .multipart(Form::new().part("bits", part));
        if let Some(token) = self.token().await? {
            request = request.bearer_auth(token.expose());
        }
        let request_name = format!("POST {path}");
        self.ui().trace(&format!("> {request_name} [{length} bytes]"));
        self.finish(request, request_name, UPLOAD, false).await
    }

    /// Saves what is at `path` as `file`, and says its size in bytes.
    ///
    /// # Errors
    /// A refusal, a broken connection, or a file that can't be written.
    pub(super) async fn download(&self, path: &str, file: &Path) -> Result<u64, Error> {
        let name = format!("GET {path}");
        // A refusal is read as any other; only then is the token known to be good.
        let mut request = self.0.http.get(self.url(path)).timeout(UPLOAD);
        if let Some(token) = self.token().await? {
            request = request.bearer_auth(token.expose());
        }
        let broken = |error: reqwest::Error| self.broken(&error, &name, UPLOAD, true);
        let response = request.send().await.map_err(broken)?;
        if !response.status().is_success() {
            return Err(self.refused(response, &name).await);
        }
        let unwritable = |error: std::io::Error| Error::file("write", file, &error);
        let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty());
        let made = tempfile::NamedTempFile::new_in(folder.unwrap_or(Path::new(".")));
        let mut made = made.map_err(unwritable)?;
        let mut written = 0;
        let mut chunks = response.bytes_stream();
        while let Some(chunk) = chunks.next().await {
            let chunk = chunk.map_err(broken)?;
            made.write_all(&chunk).map_err(unwritable)?;
            written += chunk.len() as u64;
        }
        made.persist(file).map_err(|error| unwritable(error.error))?;
        Ok(written)
    }
}

/// What is left to send.
struct Rest {
    file: std::fs::File,
    sent: u64,
    progress: Arc<dyn Fn(u64) + Send + Sync>,
}

/// The file from its beginning, piece by piece.
fn chunks(
    mut file: std::fs::File,
    progress: Arc<dyn Fn(u64) + Send + Sync>,
) -> Result<impl futures_util::Stream<Item = std::io::Result<Bytes>> + Send + 'static, Error> {
    file.rewind()
        .map_err(|error| Error::file("read", "the package", &error))?;
    Ok(stream::try_unfold(
        Rest {
            file,
            sent: 0,
            progress,
        },
        |mut rest| async move {
            let (buffer, mut rest) = tokio::task::spawn_blocking(move || {
                let mut buffer = vec![0; CHUNK];
                let count = rest.file.read(&mut buffer)?;
                buffer.truncate(count);
                Ok::<_, std::io::Error>((buffer, rest))
            })
            .await
            .map_err(std::io::Error::other)??;
            if buffer.is_empty() {
                return Ok(None);
            }
            rest.sent += buffer.len() as u64;
            (rest.progress)(rest.sent);
            Ok(Some((Bytes::from(buffer), rest)))
        },
    ))
}
