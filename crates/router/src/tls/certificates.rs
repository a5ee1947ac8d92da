//! Certificates by domain, from a folder: `shop.example.com.crt` and `shop.example.com.key`, or one `.pem` with both.
//! `_.example.com` is for `*.example.com`, and `default` for whatever has none and for clients that name nothing.

use arc_swap::ArcSwap;
use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Name of the certificate for whatever has none.
const DEFAULT: &str = "default";
/// Stands for `*` in the names of files.
const WILDCARD: &str = "_.";
/// Files that are looked at.
const MAX_FILES: usize = 200_000;

type ByName = HashMap<Box<str>, Arc<CertifiedKey>>;

/// The certificates that there are now.
pub struct Certificates {
    folder: PathBuf,
    by_name: ArcSwap<ByName>,
}

/// A certificate could not be taken; the others are.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// The folder can't be read.
    #[error("failed to read the folder of certificates")]
    Folder(#[source] std::io::Error),
    /// A file can't be read, or is no PEM of what it should be.
    #[error("failed to read {path}")]
    Read {
        /// Of the file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: rustls::pki_types::pem::Error,
    },
    /// Certificate and key don't belong together, or are of a kind that is not supported.
    #[error("failed to use the certificate for {name}")]
    Use {
        /// Its domain.
        name: String,
        /// What is wrong with it.
        #[source]
        source: rustls::Error,
    },
}

impl Certificates {
    /// Of a folder, which is read once.
    pub fn new(folder: PathBuf) -> Self {
        let certificates = Self {
            folder,
            by_name: ArcSwap::default(),
        };
        certificates.reload();
        certificates
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Reads the folder again. What can't be read is logged; where that was there before, it stays.
    pub fn reload(&self) {
        let mut fresh = ByName::new();
        let old = self.by_name.load();
        let names = names(&self.folder).unwrap_or_else(|error| {
            tracing::error!(folder = %self.folder.display(), error = %CertificateError::Folder(error), "certificates stay");
            old.keys().map(|name| name.to_string()).collect()
        });
        for name in names {
            match self.read(&name) {
                Ok(certificate) => {
                    fresh.insert(name.into(), Arc::new(certificate));
                }
                Err(error) => {
                    let cause = std::error::Error::source(&error).map(ToString::to_string);
                    tracing::error!(%error, cause, "certificate not taken");
                    if let Some(certificate) = old.get(name.as_str()) {
                        fresh.insert(name.into(), Arc::clone(certificate));
                    }
                }
            }
        }
        tracing::info!(certificates = fresh.len(), "certificates read");
        self.by_name.store(Arc::new(fresh));
    }

    /// The certificate for a name, in lower case: its own, else that of its wildcard, else the default.
    fn find(&self, name: Option<&str>) -> Option<Arc<CertifiedKey>> {
        let by_name = self.by_name.load();
        let own = name.and_then(|name| by_name.get(name));
        let wildcard = || {
            let (_, parent) = name?.split_once('.')?;
            by_name.get(format!("{WILDCARD}{parent}").as_str())
        };
        own.or_else(wildcard).or_else(|| by_name.get(DEFAULT)).cloned()
    }

    fn read(&self, name: &str) -> Result<CertifiedKey, CertificateError> {
        let both = self.folder.join(format!("{name}.pem"));
        let (certificates, key) = if both.exists() {
            (both.clone(), both)
        } else {
            let path = |kind| self.folder.join(format!("{name}.{kind}"));
            (path("crt"), path("key"))
        };
        let failed = |path: &Path, source| CertificateError::Read {
            path: path.to_owned(),
            source,
        };
        let chain = CertificateDer::pem_file_iter(&certificates)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .map_err(|source| failed(&certificates, source))?;
        let secret = PrivateKeyDer::from_pem_file(&key).map_err(|source| failed(&key, source))?;
        let unusable = |source| CertificateError::Use {
            name: name.to_owned(),
            source,
        };
        let certified = CertifiedKey::new(chain, any_supported_type(&secret).map_err(unusable)?);
        certified.keys_match().map_err(unusable)?;
        Ok(certified)
    }
}

/// Names of the certificates in a folder.
fn names(folder: &Path) -> std::io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder)?.take(MAX_FILES) {
        let path = entry?.path();
        let kind = path.extension().and_then(|kind| kind.to_str());
        if matches!(kind, Some("crt" | "pem"))
            && let Some(name) = path.file_stem().and_then(|name| name.to_str())
        {
            names.push(name.to_ascii_lowercase());
        }
    }
    Ok(names)
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.find(hello.server_name())
    }
}

impl std::fmt::Debug for Certificates {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Certificates")
            .field("folder", &self.folder)
            .finish_non_exhaustive()
    }
}
