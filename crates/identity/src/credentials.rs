//! A machine's key and certificate, as a host keeps them.

use crate::Error;
use api::machine::{Blobs, Joined};
use model::machine::Machine;
use model::{Secret, Timestamp};
use rcgen::{CertificateParams, KeyPair};
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use serde::{Deserialize, Serialize};

/// What a machine proves itself by, and what it was told with it. For its owner's eyes alone.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Credentials {
    /// Who it is.
    pub machine: Machine,
    /// The platform's authority (PEM).
    pub authority: String,
    /// Its certificate (PEM).
    pub certificate: String,
    /// Its key (PEM).
    pub key: Secret,
    /// When the certificate begins.
    #[serde(with = "time::serde::rfc3339")]
    pub from: Timestamp,
    /// When it ends.
    #[serde(with = "time::serde::rfc3339")]
    pub until: Timestamp,
    /// Where controllers are.
    pub controllers: Vec<String>,
    /// Where blobs are.
    pub blobs: Option<Blobs>,
}

/// A key that no certificate is of yet, and what asks for one.
pub struct Request {
    key: KeyPair,
    /// The certificate request (PEM).
    pub pem: String,
}

impl Request {
    /// With a fresh key; or with that of `earlier`, where the host was this machine before.
    ///
    /// # Errors
    /// Where no key can be made, or the earlier one is damaged.
    pub fn new(earlier: Option<&Credentials>) -> Result<Self, Error> {
        let failed = |source| Error::Make {
            what: "a certificate request",
            source,
        };
        let key = match earlier {
            None => KeyPair::generate().map_err(failed)?,
            Some(known) => KeyPair::from_pem(known.key.expose()).map_err(|error| Error::read("the key", error))?,
        };
        let params = CertificateParams::new(Vec::new()).map_err(failed)?;
        let pem = params.serialize_request(&key).and_then(|request| request.pem());
        Ok(Self {
            pem: pem.map_err(failed)?,
            key,
        })
    }

    /// Key and certificate together.
    ///
    /// # Errors
    /// Where the certificate is another key's, or no certificate.
    pub fn credentials(self, joined: Joined) -> Result<Credentials, Error> {
        let credentials = Credentials {
            machine: joined.machine,
            authority: joined.authority,
            certificate: joined.certificate,
            key: Secret::new(self.key.serialize_pem()),
            from: joined.from,
            until: joined.until,
            controllers: joined.controllers,
            blobs: joined.blobs,
        };
        credentials.certified()?.keys_match().map_err(Error::Tls)?;
        credentials.roots()?;
        Ok(credentials)
    }
}

impl Credentials {
    /// When the next certificate is due: after a third of its life, so that controllers may be away for the rest.
    #[must_use]
    pub fn renewal(&self) -> Timestamp {
        self.from + (self.until - self.from) / 3
    }

    pub(crate) fn certified(&self) -> Result<CertifiedKey, Error> {
        let unreadable = |error: rustls::pki_types::pem::Error| Error::read("the certificate", error);
        // The authority goes with it: hosts that join know it by its fingerprint.
        let chain = [&self.certificate, &self.authority];
        let chain = chain.map(|pem| CertificateDer::from_pem_slice(pem.as_bytes()).map_err(unreadable));
        let key = PrivateKeyDer::from_pem_slice(self.key.expose().as_bytes())
            .map_err(|error| Error::read("the key", error))?;
        let chain = chain.into_iter().collect::<Result<Vec<_>, _>>()?;
        CertifiedKey::from_der(chain, key, &crate::provider()).map_err(Error::Tls)
    }

    pub(crate) fn roots(&self) -> Result<RootCertStore, Error> {
        let authority = CertificateDer::from_pem_slice(self.authority.as_bytes())
            .map_err(|error| Error::read("the authority", error))?;
        let mut roots = RootCertStore::empty();
        roots.add(authority).map_err(Error::Tls)?;
        Ok(roots)
    }
}
