//! Credentials in use: TLS on both sides, with a certificate that is replaced while connections go on.

use crate::credentials::Credentials;
use crate::{Error, provider};
use arc_swap::ArcSwap;
use model::Secret;
use model::machine::Machine;
use rustls::client::{ResolvesClientCert, Resumption};
use rustls::pki_types::CertificateDer;
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, RootCertStore, ServerConfig, SignatureScheme};
use std::sync::Arc;

/// What both sides speak inside TLS: requests carry upgrades, which HTTP/2 has not.
const PROTOCOLS: [&[u8]; 1] = [b"http/1.1"];

/// What a machine shows controllers. Clones share it.
#[derive(Debug, Clone)]
pub enum Proof {
    /// A secret that all machines of a platform share.
    Shared(Secret),
    /// A certificate of its own.
    Certificate(Held),
}

impl From<Secret> for Proof {
    fn from(secret: Secret) -> Self {
        Self::Shared(secret)
    }
}

impl From<Held> for Proof {
    fn from(held: Held) -> Self {
        Self::Certificate(held)
    }
}

impl Proof {
    /// Makes a client show it.
    ///
    /// # Errors
    /// Where TLS can't be set up.
    pub fn client(&self, builder: reqwest::ClientBuilder) -> Result<reqwest::ClientBuilder, Error> {
        match self {
            Self::Shared(_) => Ok(builder),
            Self::Certificate(held) => Ok(builder.tls_backend_preconfigured(held.client()?)),
        }
    }

    /// Puts it into a request, where it goes there.
    pub fn request(&self, request: reqwest::RequestBuilder) -> reqwest::RequestBuilder {
        match self {
            Self::Shared(secret) => request.bearer_auth(secret.expose()),
            Self::Certificate(_) => request,
        }
    }
}

/// A machine's own credentials. Clones share them.
#[derive(Debug, Clone)]
pub struct Held(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    machine: Machine,
    key: ArcSwap<CertifiedKey>,
    roots: Arc<RootCertStore>,
}

impl Held {
    /// Takes credentials into use.
    ///
    /// # Errors
    /// Where they are damaged.
    pub fn new(credentials: &Credentials) -> Result<Self, Error> {
        Ok(Self(Arc::new(Inner {
            machine: credentials.machine,
            key: ArcSwap::from_pointee(credentials.certified()?),
            roots: Arc::new(credentials.roots()?),
        })))
    }

    /// Who it is.
    #[must_use]
    pub fn machine(&self) -> Machine {
        self.0.machine
    }

    /// New connections show these from now on.
    ///
    /// # Errors
    /// Where they are damaged: the earlier ones stay.
    pub fn replace(&self, credentials: &Credentials) -> Result<(), Error> {
        self.0.key.store(Arc::new(credentials.certified()?));
        Ok(())
    }

    /// TLS towards controllers: they have to be of the same authority, and are shown the certificate.
    ///
    /// # Errors
    /// Where it can't be set up.
    pub fn client(&self) -> Result<ClientConfig, Error> {
        let config = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(Error::Tls)?;
        let mut config = config
            .with_root_certificates(self.0.roots.clone())
            .with_client_cert_resolver(self.0.clone());
        // A resumed session would show the certificate of the first.
        config.resumption = Resumption::disabled();
        config.alpn_protocols = PROTOCOLS.map(<[u8]>::to_vec).to_vec();
        Ok(config)
    }

    /// TLS towards machines: those that show a certificate have to be of the same authority. One that shows none is let in,
    /// to join.
    ///
    /// # Errors
    /// Where it can't be set up.
    pub fn server(&self) -> Result<ServerConfig, Error> {
        let verifier = WebPkiClientVerifier::builder_with_provider(self.0.roots.clone(), provider())
            .allow_unauthenticated()
            .build()
            .map_err(|error| Error::read("the authority", error))?;
        let config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(Error::Tls)?;
        let mut config = config
            .with_client_cert_verifier(verifier)
            .with_cert_resolver(self.0.clone());
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        config.alpn_protocols = PROTOCOLS.map(<[u8]>::to_vec).to_vec();
        Ok(config)
    }
}

impl ResolvesClientCert for Inner {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.key.load_full())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

impl ResolvesServerCert for Inner {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.key.load_full())
    }
}

/// Who the peer of a verified connection is, by the chain that it showed; `None` where its certificate names no machine,
/// or more than one.
#[must_use]
pub fn machine_of(chain: &[CertificateDer<'_>]) -> Option<Machine> {
    let certificate = webpki::EndEntityCert::try_from(chain.first()?).ok()?;
    let mut machines = certificate.valid_dns_names().filter_map(Machine::of_certificate_name);
    let machine = machines.next()?;
    machines.next().is_none().then_some(machine)
}
