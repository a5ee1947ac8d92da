//! Downloads: HTTPS with the platform's certificate bundle and proxies, every file verified against its published digest.

use crate::dns::Resolver as Names;
use crate::{Failure, Result, Variables, output};
use base64::Engine as _;
use sha2::{Sha256, Sha512};
use std::io::{self, Read};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use ureq::config::Config;
use ureq::http::Uri;
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{DefaultConnector, NextTimeout};
use ureq::{Agent, Body};

/// How often a download is tried.
const ATTEMPTS: u32 = 3;
/// Between two tries, times the number of tries so far.
const PAUSE: Duration = Duration::from_millis(500);
/// Longest wait for a connection, for the head of a response, and for the next bytes of a body.
const CONNECT: Duration = Duration::from_secs(15);
const RESPOND: Duration = Duration::from_secs(60);
/// Longest time for one whole file.
const WHOLE: Duration = Duration::from_secs(900);
/// Largest index of a registry.
const INDEX_BYTES: u64 = 64 * 1024 * 1024;
/// Where stacks keep their certificates.
const BUNDLES: &[&str] = &[
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/cert.pem",
];

/// What a registry publishes of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Integrity {
    /// SHA-512, raw.
    Sha512(Vec<u8>),
    /// SHA-256, raw.
    Sha256(Vec<u8>),
}

impl Integrity {
    /// From a subresource integrity text, such as `sha512-…=`: the strongest of those given.
    #[must_use]
    pub fn from_sri(text: &str) -> Option<Self> {
        let find = |prefix: &str| {
            let encoded = text.split_whitespace().find_map(|part| part.strip_prefix(prefix))?;
            base64::engine::general_purpose::STANDARD.decode(encoded).ok()
        };
        find("sha512-")
            .filter(|bytes| bytes.len() == 64)
            .map(Self::Sha512)
            .or_else(|| find("sha256-").filter(|bytes| bytes.len() == 32).map(Self::Sha256))
    }

    /// From the hexadecimal digits of a SHA-256.
    #[must_use]
    pub fn from_sha256_hex(text: &str) -> Option<Self> {
        hex::decode(text)
            .ok()
            .filter(|bytes| bytes.len() == 32)
            .map(Self::Sha256)
    }

    /// From the hexadecimal digits of a SHA-512.
    #[must_use]
    pub fn from_sha512_hex(text: &str) -> Option<Self> {
        hex::decode(text)
            .ok()
            .filter(|bytes| bytes.len() == 64)
            .map(Self::Sha512)
    }

    fn verify(&self, reader: impl Read, unpack: &mut impl FnMut(&mut dyn Read) -> io::Result<()>) -> io::Result<()> {
        match self {
            Self::Sha512(expected) => verified::<Sha512>(reader, expected, unpack),
            Self::Sha256(expected) => verified::<Sha256>(reader, expected, unpack),
        }
    }
}

/// The address of what an operator configured: a folder may be written as its path.
#[must_use]
pub fn address(text: &str) -> String {
    let text = text.trim_end_matches('/');
    if text.starts_with('/') {
        format!("file://{text}")
    } else {
        text.to_owned()
    }
}

/// The path that a `file://` address means.
#[must_use]
pub fn local(url: &str) -> Option<&Path> {
    url.strip_prefix("file://").map(Path::new)
}

fn content_type(path: &Path) -> &'static str {
    match path.extension().and_then(|end| end.to_str()) {
        Some("json") => "application/json",
        Some("html") => "text/html",
        _ => "application/octet-stream",
    }
}

fn unreadable(path: &Path) -> impl FnOnce(io::Error) -> Failure {
    let path = path.display().to_string();
    move |error| {
        let remedy = match error.kind() {
            io::ErrorKind::NotFound => {
                "The operator adds it to the mirror folder of staging (BP_MIRROR), or corrects that setting."
            }
            io::ErrorKind::InvalidData => "The operator replaces the damaged file in the mirror folder of staging.",
            _ => "Try again; if it persists, raise the staging disk limit.",
        };
        Failure::new(format!("could not take {path} from the mirror: {error}"), remedy)
    }
}

/// A client for the registries of one build.
#[derive(Debug)]
pub struct Client {
    agent: Agent,
}

/// A whole answer.
#[derive(Debug)]
pub struct Answer {
    /// Without parameters.
    pub content_type: String,
    /// At most 64 MiB.
    pub body: Vec<u8>,
}

impl Client {
    /// With the certificate bundle that `SSL_CERT_FILE` names, else the stack's, else one built in; and the proxies of the
    /// environment.
    ///
    /// # Errors
    /// Where the named bundle cannot be read.
    pub fn new(variables: &Variables) -> Result<Self> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = TlsConfig::builder()
            .root_certs(roots(variables)?)
            .unversioned_rustls_crypto_provider(provider)
            .build();
        let config = Agent::config_builder()
            .tls_config(tls)
            .user_agent(concat!("paas-buildpack/", env!("CARGO_PKG_VERSION")))
            .timeout_connect(Some(CONNECT))
            .timeout_recv_response(Some(RESPOND))
            .timeout_per_read(Some(RESPOND))
            .timeout_global(Some(WHOLE))
            .build();
        Ok(Self {
            agent: Agent::with_parts(config, DefaultConnector::default(), SystemNames),
        })
    }

    /// What speaks HTTP here, for clients of other protocols above it.
    #[must_use]
    pub fn agent(&self) -> Agent {
        self.agent.clone()
    }

    /// The answer to `GET url`, which accepts `accept`.
    ///
    /// # Errors
    /// Where the registry cannot be reached or refuses.
    pub fn get(&self, url: &str, accept: &str) -> Result<Answer> {
        if let Some(path) = local(url) {
            let mut body = Vec::new();
            let read = std::fs::File::open(path).and_then(|file| file.take(INDEX_BYTES).read_to_end(&mut body));
            let content_type = content_type(path).to_owned();
            return read.map(|_| Answer { content_type, body }).map_err(unreadable(path));
        }
        self.retry(url, |client| {
            let mut response = client.agent.get(url).header("accept", accept).call()?;
            let content_type = response.body().mime_type().unwrap_or_default().to_owned();
            let body = response.body_mut().with_config().limit(INDEX_BYTES).read_to_vec()?;
            Ok(Answer { content_type, body })
        })
    }

    /// Streams the file at `url` through `unpack`, which may be called again after a failure, and verifies what came through.
    ///
    /// # Errors
    /// Where it cannot be had, or its digest is another: then what was unpacked must not be used.
    pub fn download(
        &self,
        url: &str,
        integrity: &Integrity,
        mut unpack: impl FnMut(&mut dyn Read) -> io::Result<()>,
    ) -> Result<()> {
        if let Some(path) = local(url) {
            let file = std::fs::File::open(path).map_err(unreadable(path))?;
            return integrity.verify(file, &mut unpack).map_err(unreadable(path));
        }
        self.retry(url, |client| {
            let response = client.agent.get(url).call()?;
            let body: Body = response.into_body();
            let reader = body.into_with_config().limit(u64::MAX).reader();
            integrity.verify(reader, &mut unpack).map_err(ureq::Error::Io)
        })
    }

    /// Saves what `url` answers as `file`, at most `limit` bytes of it, and says its SHA-256.
    ///
    /// # Errors
    /// Where it cannot be had or is larger, or the file cannot be written.
    pub fn save(&self, url: &str, file: &Path, limit: u64) -> Result<[u8; 32]> {
        self.retry(url, |client| {
            let body: Body = client.agent.get(url).call()?.into_body();
            let mut hashing = Hashing::<_, Sha256> {
                inner: body.into_with_config().limit(limit).reader(),
                hash: sha2::Digest::new(),
            };
            let mut output = std::fs::File::create(file).map_err(ureq::Error::Io)?;
            io::copy(&mut hashing, &mut output).map_err(ureq::Error::Io)?;
            Ok(sha2::Digest::finalize(hashing.hash).into())
        })
    }

    fn retry<T>(&self, url: &str, mut attempt: impl FnMut(&Self) -> std::result::Result<T, ureq::Error>) -> Result<T> {
        let mut tries = 1;
        loop {
            match attempt(self) {
                Ok(value) => return Ok(value),
                Err(error) if tries < ATTEMPTS && is_transient(&error) => {
                    output::detail(&format!("{error}; trying again"));
                    std::thread::sleep(PAUSE * tries);
                    tries += 1;
                }
                Err(error) => return Err(failure(url, &error)),
            }
        }
    }
}

fn is_transient(error: &ureq::Error) -> bool {
    match error {
        ureq::Error::StatusCode(status) => *status >= 500 || *status == 429,
        ureq::Error::Io(error) => error.kind() != io::ErrorKind::StorageFull,
        ureq::Error::Timeout(_) | ureq::Error::ConnectionFailed | ureq::Error::Protocol(_) => true,
        _ => false,
    }
}

fn failure(url: &str, error: &ureq::Error) -> Failure {
    let host = url
        .parse::<Uri>()
        .ok()
        .and_then(|uri| uri.host().map(str::to_owned))
        .unwrap_or_default();
    let remedy = match error {
        ureq::Error::Io(error) if error.kind() == io::ErrorKind::StorageFull => "Raise the staging disk limit.",
        ureq::Error::StatusCode(404) => "See whether this version exists, and whether the configured mirror has it.",
        ureq::Error::StatusCode(401 | 403) => {
            "The registry refuses access: ask the operator for a mirror that does not."
        }
        _ => {
            "Try again; if it persists, the operator checks the egress policy, the proxy and the mirror settings of staging."
        }
    };
    Failure::new(format!("could not get {url} from {host}: {error}"), remedy)
}

/// Passes everything through `unpack` and to the end, then compares.
fn verified<D: sha2::Digest>(
    reader: impl Read,
    expected: &[u8],
    unpack: &mut impl FnMut(&mut dyn Read) -> io::Result<()>,
) -> io::Result<()> {
    let mut hashing = Hashing::<_, D> {
        inner: reader,
        hash: D::new(),
    };
    unpack(&mut hashing)?;
    // Padding after the end of an archive belongs to the file too.
    io::copy(&mut hashing, &mut io::sink())?;
    if hashing.hash.finalize().as_slice() == expected {
        return Ok(());
    }
    Err(io::Error::new(
        io::ErrorKind::InvalidData,
        "the file is not the one that the registry describes",
    ))
}

struct Hashing<R, D> {
    inner: R,
    hash: D,
}

impl<R: Read, D: sha2::Digest> Read for Hashing<R, D> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.hash.update(&buffer[..read]);
        Ok(read)
    }
}

fn roots(variables: &Variables) -> Result<RootCerts> {
    let named = variables.get("SSL_CERT_FILE");
    let found = match named {
        Some(path) => Some(std::fs::read(path).map_err(|error| {
            Failure::new(
                format!("the certificate bundle {path} (SSL_CERT_FILE) cannot be read: {error}"),
                "The operator repairs the certificate setting of staging.",
            )
        })?),
        None => BUNDLES.iter().find_map(|path| std::fs::read(path).ok()),
    };
    let certificates: Vec<Certificate<'static>> = found
        .iter()
        .flat_map(|pem| parse_pem(pem))
        .filter_map(|item| match item {
            Ok(PemItem::Certificate(certificate)) => Some(certificate),
            _ => None,
        })
        .collect();
    if certificates.is_empty() {
        return Ok(RootCerts::WebPki);
    }
    Ok(RootCerts::Specific(Arc::new(certificates)))
}

/// Our own name resolution, as the client wants it.
#[derive(Debug)]
struct SystemNames;

impl Resolver for SystemNames {
    fn resolve(
        &self,
        uri: &Uri,
        _config: &Config,
        _timeout: NextTimeout,
    ) -> std::result::Result<ResolvedSocketAddrs, ureq::Error> {
        let host = uri.host().ok_or(ureq::Error::HostNotFound)?;
        let port = uri
            .port_u16()
            .unwrap_or(if uri.scheme_str() == Some("http") { 80 } else { 443 });
        let mut addresses = self.empty();
        for address in Names::of_the_system()
            .resolve(host)
            .map_err(ureq::Error::Io)?
            .into_iter()
            .take(8)
        {
            addresses.push(SocketAddr::new(address, port));
        }
        Ok(addresses)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sha2::Digest as _;
    use std::io::Write as _;
    use std::net::TcpListener;

    /// Answers each connection with the next of `answers`.
    fn server(answers: Vec<&'static str>) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/x", listener.local_addr().unwrap());
        std::thread::spawn(move || {
            for answer in answers {
                let (mut stream, _) = listener.accept().unwrap();
                let mut head = [0; 2048];
                let _ = stream.read(&mut head).unwrap();
                stream.write_all(answer.as_bytes()).unwrap();
            }
        });
        url
    }

    const OK: &str = "HTTP/1.1 200 OK\r\ncontent-type: text/plain; charset=utf-8\r\ncontent-length: 5\r\nconnection: close\r\n\r\nhello";
    const BUSY: &str = "HTTP/1.1 503 Busy\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
    const MISSING: &str = "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";

    fn client() -> Client {
        Client::new(&Variables::default()).unwrap()
    }

    #[test]
    fn a_passing_fault_is_tried_again() {
        let answer = client().get(&server(vec![BUSY, OK]), "*/*").unwrap();
        assert_eq!(
            (answer.content_type.as_str(), answer.body.as_slice()),
            ("text/plain", &b"hello"[..])
        );
    }

    #[test]
    fn what_is_not_there_is_not_asked_for_again() {
        let failure = client().get(&server(vec![MISSING]), "*/*").unwrap_err();
        assert!(failure.remedy.contains("mirror"), "{failure:?}");
    }

    #[test]
    fn a_file_is_verified() {
        let right = Integrity::Sha256(Sha256::digest("hello").to_vec());
        let mut text = String::new();
        let unpack = |reader: &mut dyn Read| {
            text.clear();
            reader.take(2).read_to_string(&mut text).map(drop)
        };
        client().download(&server(vec![OK]), &right, unpack).unwrap();
        assert_eq!(text, "he");
        let wrong = Integrity::Sha256(vec![0; 32]);
        let failure = client().download(&server(vec![OK; 3]), &wrong, |_| Ok(())).unwrap_err();
        assert!(failure.cause.contains("not the one"), "{failure:?}");
    }

    #[test]
    fn a_folder_is_as_good_as_a_server() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a.json"), "hello").unwrap();
        let base = address(&format!("{}/", folder.path().display()));
        assert_eq!(client().get(&format!("{base}/a.json"), "*/*").unwrap().body, b"hello");
        let right = Integrity::Sha256(Sha256::digest("hello").to_vec());
        client()
            .download(&format!("{base}/a.json"), &right, |_| Ok(()))
            .unwrap();
        let wrong = Integrity::Sha256(vec![0; 32]);
        assert!(
            client()
                .download(&format!("{base}/a.json"), &wrong, |_| Ok(()))
                .is_err()
        );
        assert!(
            client()
                .get(&format!("{base}/b.json"), "*/*")
                .unwrap_err()
                .remedy
                .contains("BP_MIRROR")
        );
    }

    #[test]
    fn integrity_is_read_as_registries_write_it() {
        let encoded = base64::engine::general_purpose::STANDARD.encode([7; 64]);
        let text = format!("sha1-AAAA sha512-{encoded}");
        assert_eq!(Integrity::from_sri(&text), Some(Integrity::Sha512(vec![7; 64])));
        assert_eq!(Integrity::from_sri("sha1-AAAA"), None);
        assert_eq!(Integrity::from_sha256_hex("00"), None);
    }
}
