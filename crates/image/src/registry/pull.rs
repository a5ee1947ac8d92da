//! Getting an image: its documents, then its layers one by one.

use super::{Ask, Client, PULL, nothing};
use crate::document::MANIFESTS;
use crate::verify::Verified;
use crate::{BLOB_BYTES, Config, DEPTH, DOCUMENT_BYTES, Document, Error, Image, Layer, Reference};
use model::Digest;
use std::io::Read;
use ureq::Body;
use ureq::http::{Method, Response, StatusCode, header};

impl Client {
    /// The image that `reference` means for this machine.
    ///
    /// # Errors
    /// Where there is none, access is refused, or it is not what its digests say.
    pub fn image(&self, reference: &Reference) -> Result<Image, Error> {
        let mut version = reference.version();
        for _ in 0..=DEPTH {
            let (text, digest) = self.manifest(reference, &version)?;
            match Document::parse(&text)? {
                Document::Index(index) => version = index.choose()?.digest.to_string(),
                Document::Manifest(manifest) => {
                    let config = self.blob(reference, &manifest.config.digest, DOCUMENT_BYTES)?;
                    let config = Config::parse(&self.whole(config)?)?;
                    return Image::new(digest, &manifest, config)?.for_here();
                }
            }
        }
        Err(Error::TooMuch {
            what: "indices within each other",
            limit: DEPTH as u64,
        })
    }

    /// The bytes of a layer as the registry keeps them, verified while they are read.
    ///
    /// # Errors
    /// Where it is not there or access is refused.
    pub fn layer(&self, reference: &Reference, layer: &Layer) -> Result<Box<dyn Read + Send>, Error> {
        Ok(Box::new(self.blob(reference, &layer.blob.digest, BLOB_BYTES)?))
    }

    /// A manifest or an index by tag or digest, with its digest.
    fn manifest(&self, reference: &Reference, version: &str) -> Result<(Vec<u8>, Digest), Error> {
        let ask = Ask {
            method: Method::GET,
            url: format!("{}/v2/{}/manifests/{version}", self.base, reference.repository),
            repository: &reference.repository,
            actions: PULL,
            headers: vec![(header::ACCEPT, MANIFESTS.join(", "))],
        };
        let response = self.found(self.ask(&ask, nothing)?, reference)?;
        let text = self.whole(
            response
                .into_body()
                .into_with_config()
                .limit(DOCUMENT_BYTES + 1)
                .reader(),
        )?;
        let found = crate::digest(&text);
        match version.parse::<Digest>() {
            Ok(expected) if expected != found => Err(Error::Digest { expected, found }),
            _ => Ok((text, found)),
        }
    }

    fn blob(
        &self,
        reference: &Reference,
        digest: &Digest,
        limit: u64,
    ) -> Result<Verified<impl Read + Send + use<>>, Error> {
        let ask = Ask {
            method: Method::GET,
            url: format!("{}/v2/{}/blobs/{digest}", self.base, reference.repository),
            repository: &reference.repository,
            actions: PULL,
            headers: Vec::new(),
        };
        let response = self.found(self.ask(&ask, nothing)?, reference)?;
        let reader = response.into_body().into_with_config().limit(limit + 1).reader();
        Ok(Verified::new(reader, digest.clone(), limit))
    }

    fn found(&self, response: Response<Body>, reference: &Reference) -> Result<Response<Body>, Error> {
        match response.status() {
            StatusCode::OK => Ok(response),
            StatusCode::NOT_FOUND => Err(Error::NotFound {
                reference: reference.to_string(),
            }),
            StatusCode::FORBIDDEN => Err(self.unauthorized(&reference.repository)),
            _ => Err(self.answer(response)),
        }
    }

    fn whole(&self, mut reader: impl Read) -> Result<Vec<u8>, Error> {
        let mut text = Vec::new();
        match reader.read_to_end(&mut text) {
            Ok(_) => Ok(text),
            Err(error) if error.kind() == std::io::ErrorKind::InvalidData => Err(Error::invalid(error.to_string())),
            Err(error) => Err(self.unreachable(error)),
        }
    }
}
