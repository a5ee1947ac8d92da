//! Giving a registry an image: the blobs that it lacks, then the manifest.

use super::{Ask, Client, PUSH, nothing};
use crate::layout::Documents;
use crate::{Descriptor, Error, Reference};
use std::fs::File;
use std::io;
use std::path::Path;
use ureq::SendBody;
use ureq::http::{Method, Response, StatusCode, header};

/// How a blob came to the registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sent {
    /// It was there.
    Known,
    /// It was sent.
    New,
}

impl Client {
    /// Sees to it that the registry has the blob in `file`.
    ///
    /// # Errors
    /// Where access is refused or the registry does not take it.
    pub fn push_blob(&self, reference: &Reference, blob: &Descriptor, file: &Path) -> Result<Sent, Error> {
        let path = file.to_owned();
        self.push(reference, blob, move || {
            Ok(SendBody::from_owned_reader(File::open(&path)?))
        })
    }

    /// Sees to it that the registry has configuration and manifest, and calls the image by the reference's tag.
    ///
    /// # Errors
    /// As [`Self::push_blob`].
    pub fn push_documents(&self, reference: &Reference, documents: &Documents) -> Result<(), Error> {
        let (descriptor, text) = &documents.config;
        self.push(reference, descriptor, || Ok(body_of(text)))?;
        let (descriptor, text) = &documents.manifest;
        let version = reference.tag.clone().unwrap_or_else(|| descriptor.digest.to_string());
        let ask = Ask {
            method: Method::PUT,
            url: format!("{}/v2/{}/manifests/{version}", self.base, reference.repository),
            repository: &reference.repository,
            actions: PUSH,
            headers: vec![
                (header::CONTENT_TYPE, descriptor.media_type.clone()),
                (header::CONTENT_LENGTH, text.len().to_string()),
            ],
        };
        let response = self.ask(&ask, || Ok(body_of(text)))?;
        self.taken(response, reference).map(drop)
    }

    fn push(
        &self,
        reference: &Reference,
        blob: &Descriptor,
        body: impl Fn() -> io::Result<SendBody<'static>>,
    ) -> Result<Sent, Error> {
        let repository = reference.repository.as_str();
        let ask = |method: Method, url: String, headers| Ask {
            method,
            url,
            repository,
            actions: PUSH,
            headers,
        };
        let blobs = format!("{}/v2/{repository}/blobs", self.base);
        let known = self.ask(
            &ask(Method::HEAD, format!("{blobs}/{}", blob.digest), Vec::new()),
            nothing,
        )?;
        if known.status() == StatusCode::OK {
            return Ok(Sent::Known);
        }
        let length = vec![(header::CONTENT_LENGTH, "0".to_owned())];
        let begun = self.ask(&ask(Method::POST, format!("{blobs}/uploads/"), length), nothing)?;
        let begun = self.taken(begun, reference)?;
        let location = begun
            .headers()
            .get(header::LOCATION)
            .and_then(|value| value.to_str().ok());
        let Some(location) = location else {
            return Err(self.answer(begun));
        };
        let mark = if location.contains('?') { '&' } else { '?' };
        let url = format!("{}{mark}digest={}", self.absolute(location), blob.digest);
        let headers = vec![
            (header::CONTENT_TYPE, "application/octet-stream".to_owned()),
            (header::CONTENT_LENGTH, blob.size.to_string()),
        ];
        let response = self.ask(&ask(Method::PUT, url, headers), body)?;
        self.taken(response, reference)?;
        Ok(Sent::New)
    }

    /// An address as registries give it: whole, or below their own.
    fn absolute(&self, location: &str) -> String {
        if location.starts_with('/') {
            format!("{}{location}", self.base)
        } else {
            location.to_owned()
        }
    }

    fn taken(&self, response: Response<ureq::Body>, reference: &Reference) -> Result<Response<ureq::Body>, Error> {
        match response.status() {
            StatusCode::CREATED | StatusCode::ACCEPTED | StatusCode::OK | StatusCode::NO_CONTENT => Ok(response),
            StatusCode::FORBIDDEN => Err(self.unauthorized(&reference.repository)),
            _ => Err(self.answer(response)),
        }
    }
}

fn body_of(text: &[u8]) -> SendBody<'static> {
    SendBody::from_owned_reader(io::Cursor::new(text.to_vec()))
}
