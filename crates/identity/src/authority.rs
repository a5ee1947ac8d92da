//! The platform's own certificate authority. It signs certificates of machines and of controllers, nothing else.

use crate::Error;
use crate::credentials::Credentials;
use model::machine::Machine;
use model::{Secret, Timestamp};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PublicKeyData, SerialNumber,
};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::time::Duration;

/// How long the authority itself lasts.
const YEARS: i64 = 20;
/// Clocks of hosts may be that far behind.
const SKEW: Duration = Duration::from_secs(300);
/// Largest request that is read.
const MAX_REQUEST: usize = 16 * 1024;

/// An authority as it is kept: its key is as secret as the platform's encryption key.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Stored {
    /// PEM.
    pub certificate: String,
    /// PEM.
    pub key: Secret,
}

/// An authority that can sign.
pub struct Authority {
    pem: String,
    fingerprint: [u8; 32],
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate that was issued.
#[derive(Debug, Clone)]
pub struct Issued {
    /// PEM.
    pub certificate: String,
    /// SHA-256 of its public key.
    pub key_digest: [u8; 32],
    /// When it begins.
    pub from: Timestamp,
    /// When it ends.
    pub until: Timestamp,
}

impl Authority {
    /// Makes a new one.
    ///
    /// # Errors
    /// Where no key can be made.
    pub fn create(now: Timestamp) -> Result<Stored, Error> {
        let failed = |source| Error::Make {
            what: "the authority",
            source,
        };
        let key = KeyPair::generate().map_err(failed)?;
        let mut params = params(Vec::new(), "platform authority", now, Duration::ZERO).map_err(failed)?;
        params.not_after = now + time::Duration::days(365 * YEARS);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        let certificate = params.self_signed(&key).map_err(failed)?;
        Ok(Stored {
            certificate: certificate.pem(),
            key: Secret::new(key.serialize_pem()),
        })
    }

    /// One that was kept.
    ///
    /// # Errors
    /// Where it is damaged.
    pub fn open(stored: &Stored) -> Result<Self, Error> {
        let unreadable = |error: rcgen::Error| Error::read("the authority", error);
        let key = KeyPair::from_pem(stored.key.expose()).map_err(unreadable)?;
        let certificate = CertificateDer::from_pem_slice(stored.certificate.as_bytes())
            .map_err(|error| Error::read("the authority", error))?;
        Ok(Self {
            fingerprint: fingerprint(&certificate),
            issuer: Issuer::from_ca_cert_der(&certificate, key).map_err(unreadable)?,
            pem: stored.certificate.clone(),
        })
    }

    /// Its certificate.
    #[must_use]
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// SHA-256 of its certificate, by which hosts that join know it.
    #[must_use]
    pub const fn fingerprint(&self) -> [u8; 32] {
        self.fingerprint
    }

    /// Signs the key of a certificate request (PEM) for `machine`. Names and uses are ours, whatever the request says.
    ///
    /// # Errors
    /// Where the request can't be read, or is not signed by its own key.
    pub fn issue(&self, machine: Machine, request: &str, now: Timestamp, life: Duration) -> Result<Issued, Error> {
        if request.len() > MAX_REQUEST {
            return Err(Error::read("the certificate request", "it is too long"));
        }
        let request = CertificateSigningRequestParams::from_pem(request)
            .map_err(|error| Error::read("the certificate request", error))?;
        self.sign(machine, Vec::new(), &request.public_key, now, life)
    }

    /// A key and certificate for a controller, which machines know by `names` and other controllers by its id.
    ///
    /// # Errors
    /// Where a name is none, or no key can be made.
    pub fn controller(
        &self,
        machine: Machine,
        names: Vec<String>,
        now: Timestamp,
        life: Duration,
    ) -> Result<Credentials, Error> {
        let key = KeyPair::generate().map_err(|source| Error::Make {
            what: "a controller's key",
            source,
        })?;
        let issued = self.sign(machine, names, &key, now, life)?;
        Ok(Credentials {
            machine,
            authority: self.pem.clone(),
            certificate: issued.certificate,
            key: Secret::new(key.serialize_pem()),
            from: issued.from,
            until: issued.until,
            controllers: Vec::new(),
            blobs: None,
        })
    }

    fn sign(
        &self,
        machine: Machine,
        mut names: Vec<String>,
        key: &impl PublicKeyData,
        now: Timestamp,
        life: Duration,
    ) -> Result<Issued, Error> {
        let failed = |source| Error::Make {
            what: "a certificate",
            source,
        };
        let serves = !names.is_empty();
        names.push(machine.certificate_name());
        let mut params = params(names, &machine.to_string(), now, life).map_err(failed)?;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        if serves {
            params.extended_key_usages.push(ExtendedKeyUsagePurpose::ServerAuth);
        }
        params.use_authority_key_identifier_extension = true;
        let certificate = params.signed_by(key, &self.issuer).map_err(failed)?;
        Ok(Issued {
            certificate: certificate.pem(),
            key_digest: key_digest(key),
            from: params.not_before + SKEW,
            until: params.not_after,
        })
    }
}

/// SHA-256 of a public key.
pub fn key_digest(key: &impl PublicKeyData) -> [u8; 32] {
    Sha256::digest(key.subject_public_key_info()).into()
}

pub(crate) fn fingerprint(certificate: &CertificateDer<'_>) -> [u8; 32] {
    Sha256::digest(certificate).into()
}

fn params(
    names: Vec<String>,
    subject: &str,
    now: Timestamp,
    life: Duration,
) -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::new(names)?;
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, subject);
    // Certificates have whole seconds.
    let now = now.replace_nanosecond(0).unwrap_or(now);
    params.not_before = now - SKEW;
    params.not_after = now + life;
    params.serial_number = Some(SerialNumber::from_slice(&rand::random::<[u8; 16]>()));
    Ok(params)
}
