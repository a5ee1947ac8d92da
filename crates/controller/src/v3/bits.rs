//! Archives as bodies: `bits` of a form on their way in, files on their way out. Nothing of them is kept in memory.

use crate::bits::Error;
use crate::context::Context;
use crate::error::{Answer, Failure};
use api::error::Code;
use axum::body::Body;
use axum::extract::Multipart;
use axum::response::{IntoResponse as _, Response};
use http::{HeaderValue, header};
use model::Digest;
use sha2::{Digest as _, Sha256};
use std::io::Write as _;
use tempfile::NamedTempFile;
use tokio_util::io::ReaderStream;

/// Bytes that go out at once.
const CHUNK: usize = 256 << 10;

/// What an upload brought.
pub(super) struct Received {
    pub filename: String,
    pub digest: Digest,
    pub size_bytes: u64,
    pub file: NamedTempFile,
}

/// The `bits` of a form about `what`, at most `limit` bytes.
pub(super) async fn receive(context: &Context, mut form: Multipart, what: &str, limit: u64) -> Answer<Received> {
    let stall = context.config.limits.body_wait;
    let stalled = |_| invalid(what, format!("no bytes for {} s", stall.as_secs()));
    loop {
        let field = tokio::time::timeout(stall, form.next_field()).await.map_err(stalled)?;
        let field = field.map_err(|error| invalid(what, error.body_text()))?;
        let mut field = field.ok_or_else(|| invalid(what, "the form has no \"bits\""))?;
        if field.name() != Some("bits") {
            continue;
        }
        let filename: String = field.file_name().unwrap_or(what).chars().take(255).collect();
        let mut file = context.blobs.temporary().map_err(Failure::internal)?;
        let mut hash = Sha256::new();
        let mut size_bytes = 0;
        while let Some(chunk) = tokio::time::timeout(stall, field.chunk())
            .await
            .map_err(stalled)?
            .map_err(|error| invalid(what, error.body_text()))?
        {
            size_bytes += chunk.len() as u64;
            if size_bytes > limit {
                return Err(Failure::new(
                    Code::PayloadTooLarge,
                    format!("The {what} may not be larger than {limit} bytes"),
                ));
            }
            hash.update(&chunk);
            // Into the page cache: short, unlike a hop to another thread for each chunk.
            file.write_all(&chunk).map_err(Failure::internal)?;
        }
        let digest = Digest::from_sha256(hash.finalize().into());
        return Ok(Received {
            filename,
            digest,
            size_bytes,
            file,
        });
    }
}

pub(super) fn invalid(what: &str, detail: impl std::fmt::Display) -> Failure {
    Failure::refused(format!("The {what} upload is invalid: {detail}"))
}

/// An archive that could not be made or taken in.
pub(super) fn failed(what: &'static str) -> impl Fn(Error) -> Failure {
    move |error| match error {
        Error::Refused { reason } => invalid(what, reason),
        other => Failure::internal(other),
    }
}

/// A file as an answer that browsers save under `name`. Its name goes at once: whatever happens, no file is left.
pub(super) async fn send(file: NamedTempFile, name: &str, kind: &'static str) -> Answer<Response> {
    let file = tokio::fs::File::from_std(file.into_file());
    let length = file.metadata().await.map_err(Failure::internal)?.len();
    let mut file = file;
    tokio::io::AsyncSeekExt::rewind(&mut file)
        .await
        .map_err(Failure::internal)?;
    let disposition = format!("attachment; filename=\"{name}\"");
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static(kind)),
        (header::CONTENT_LENGTH, HeaderValue::from(length)),
        (
            header::CONTENT_DISPOSITION,
            HeaderValue::from_str(&disposition).unwrap_or_else(|_| HeaderValue::from_static("attachment")),
        ),
    ];
    Ok((headers, Body::from_stream(ReaderStream::with_capacity(file, CHUNK))).into_response())
}
