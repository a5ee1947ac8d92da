//! TLS towards clients: one certificate for each domain, from a folder whose changes hold at once; client certificates
//! where they are asked for.

mod certificates;
mod watch;

pub use certificates::Certificates;
pub use watch::follow;

use crate::proxy::Tls;
use crate::{ClientAuth, Error, TlsSettings};
use base64::Engine as _;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::server::{ServerConfig, ServerConnection, WebPkiClientVerifier};
use rustls::{RootCertStore, SupportedProtocolVersion, version};
use std::path::Path;
use std::sync::Arc;
use tokio_rustls::TlsAcceptor;

const ONLY_1_3: &[&SupportedProtocolVersion] = &[&version::TLS13];
const FROM_1_2: &[&SupportedProtocolVersion] = &[&version::TLS13, &version::TLS12];

/// What accepts connections with those certificates.
///
/// # Errors
/// Where the authorities of client certificates can't be read.
pub fn acceptor(settings: &TlsSettings, certificates: &Arc<Certificates>) -> Result<TlsAcceptor, Error> {
    let failed = |source: Box<dyn std::error::Error + Send + Sync>| Error::Tls { source };
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let versions = if settings.only_1_3 { ONLY_1_3 } else { FROM_1_2 };
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(versions)
        .map_err(|error| failed(error.into()))?;
    let builder = match (&settings.client_auth, &settings.client_authorities) {
        (ClientAuth::None, _) | (_, None) => builder.with_no_client_auth(),
        (auth, Some(path)) => {
            let roots = Arc::new(authorities(path).map_err(failed)?);
            let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider);
            let verifier = match auth {
                ClientAuth::Require => verifier,
                _ => verifier.allow_unauthenticated(),
            };
            builder.with_client_cert_verifier(verifier.build().map_err(|error| failed(error.into()))?)
        }
    };
    let mut config = builder.with_cert_resolver(Arc::clone(certificates) as Arc<_>);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

fn authorities(path: &Path) -> Result<RootCertStore, Box<dyn std::error::Error + Send + Sync>> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(path)? {
        roots.add(certificate?)?;
    }
    Ok(roots)
}

impl Tls {
    /// What the handshake brought.
    pub fn of(session: &ServerConnection) -> Self {
        let certificate = session.peer_certificates().and_then(<[_]>::first);
        Self {
            sni: session.server_name().map(Into::into),
            certificate: certificate.map(|der| base64::engine::general_purpose::STANDARD.encode(der)),
        }
    }
}
