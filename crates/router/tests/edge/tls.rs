//! TLS towards clients: certificates by domain, their change, versions, client certificates; and what load balancers in
//! front put before it.

use crate::kit::*;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, Issuer, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// An authority that both sides trust.
struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::<String>::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        Self(CertifiedIssuer::self_signed(params, key).expect("signed"))
    }

    /// A certificate for a name and its key, as PEM.
    fn issue(&self, name: &str) -> (rcgen::Certificate, KeyPair) {
        let params = CertificateParams::new(vec![name.to_owned()]).expect("a name");
        let key = KeyPair::generate().expect("a key");
        let issuer: &Issuer<'_, KeyPair> = &self.0;
        (params.signed_by(&key, issuer).expect("signed"), key)
    }

    fn write(&self, folder: &Path, file: &str, name: &str) {
        let (certificate, key) = self.issue(name);
        std::fs::write(folder.join(format!("{file}.crt")), certificate.pem()).expect("written");
        std::fs::write(folder.join(format!("{file}.key")), key.serialize_pem()).expect("written");
    }

    fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(self.0.der().clone()).expect("sound");
        roots
    }
}

fn client_config(
    authority: &Authority,
    versions: &[&'static rustls::SupportedProtocolVersion],
) -> rustls::ConfigBuilder<ClientConfig, rustls::client::WantsClientCert> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider);
    builder
        .with_protocol_versions(versions)
        .expect("known")
        .with_root_certificates(authority.roots())
}

async fn connect(address: SocketAddr, name: &str, config: ClientConfig) -> std::io::Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(address).await?;
    let name = ServerName::try_from(name.to_owned()).expect("a name");
    TlsConnector::from(Arc::new(config)).connect(name, stream).await
}

async fn ask(stream: &mut (impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin), head: &str) -> String {
    stream.write_all(head.as_bytes()).await.expect("sent");
    let mut answer = Vec::new();
    let read = tokio::time::timeout(DEADLINE, stream.read_to_end(&mut answer)).await;
    let _ = read.expect("closed in time");
    String::from_utf8_lossy(&answer).into_owned()
}

fn tls(config: &mut router::Config, folder: &Path) {
    config.listen.tls = Some("127.0.0.1:0".parse().expect("an address"));
    config.tls = Some(router::TlsSettings {
        certificates: folder.to_owned(),
        only_1_3: false,
        client_auth: router::ClientAuth::None,
        client_authorities: None,
    });
}

const GET: &str = "GET / HTTP/1.1\r\nhost: a.test\r\nconnection: close\r\n\r\n";

#[tokio::test]
async fn certificates_are_those_of_their_domains_and_change_at_once() {
    let (authority, folder) = (Authority::new(), tempfile::tempdir().expect("a folder"));
    authority.write(folder.path(), "a.test", "a.test");
    authority.write(folder.path(), "_.wild.test", "*.wild.test");
    let edge = edge_with(|config| tls(config, folder.path())).await;
    edge.controller
        .set(vec![route("a.test", &[(1, echo("one").await)])])
        .await;
    let address = edge.tls.expect("listens");
    let plain = || client_config(&authority, rustls::DEFAULT_VERSIONS).with_no_client_auth();
    let mut stream = connect(address, "a.test", plain()).await.expect("a certificate");
    let answer = ask(&mut stream, GET).await;
    assert!(
        answer.starts_with("HTTP/1.1 200") && answer.contains("x-forwarded-proto: https"),
        "{answer}"
    );
    connect(address, "b.wild.test", plain())
        .await
        .expect("that of the wildcard");
    assert!(connect(address, "none.test", plain()).await.is_err());

    let first = stream.get_ref().1.peer_certificates().expect("shown")[0]
        .clone()
        .into_owned();
    authority.write(folder.path(), "a.test", "a.test");
    authority.write(folder.path(), "none.test", "none.test");
    std::fs::write(folder.path().join("bad.test.crt"), "no certificate").expect("written");
    let began = Instant::now();
    loop {
        assert!(began.elapsed() < DEADLINE, "the certificates did not change");
        let stream = connect(address, "a.test", plain()).await.expect("a certificate");
        let second = stream.get_ref().1.peer_certificates().expect("shown")[0]
            .clone()
            .into_owned();
        if second != first && connect(address, "none.test", plain()).await.is_ok() {
            break;
        }
        tokio::task::yield_now().await;
    }
    edge.stop().await;
}

#[tokio::test]
async fn http_2_is_agreed_on_and_old_versions_are_refused() {
    let (authority, folder) = (Authority::new(), tempfile::tempdir().expect("a folder"));
    authority.write(folder.path(), "default", "a.test");
    let edge = edge_with(|config| {
        tls(config, folder.path());
        config.tls.as_mut().expect("set").only_1_3 = true;
    })
    .await;
    let address = edge.tls.expect("listens");
    let old = client_config(&authority, &[&rustls::version::TLS12]).with_no_client_auth();
    assert!(connect(address, "a.test", old).await.is_err());
    let mut new = client_config(&authority, rustls::DEFAULT_VERSIONS).with_no_client_auth();
    new.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let stream = connect(address, "a.test", new).await.expect("1.3");
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    edge.stop().await;
}

#[tokio::test]
async fn certificates_of_clients_are_shown_to_apps_and_spoofed_ones_are_not() {
    let (authority, folder) = (Authority::new(), tempfile::tempdir().expect("a folder"));
    let others = Authority::new();
    authority.write(folder.path(), "default", "a.test");
    let authorities = folder.path().join("authorities");
    std::fs::write(&authorities, authority.0.pem()).expect("written");
    let edge = edge_with(|config| {
        tls(config, folder.path());
        let tls = config.tls.as_mut().expect("set");
        tls.client_auth = router::ClientAuth::Request;
        tls.client_authorities = Some(authorities);
    })
    .await;
    edge.controller
        .set(vec![route("a.test", &[(1, echo("one").await)])])
        .await;
    let address = edge.tls.expect("listens");
    let head = GET.replace("connection", "x-forwarded-client-cert: spoofed\r\nconnection");
    let with = |issuer: &Authority| {
        let (certificate, key) = issuer.issue("client");
        let der: CertificateDer<'static> = certificate.der().clone();
        let key = PrivateKeyDer::try_from(key.serialize_der()).expect("sound");
        let builder = client_config(&authority, rustls::DEFAULT_VERSIONS);
        (
            certificate.pem(),
            builder.with_client_auth_cert(vec![der], key).expect("sound"),
        )
    };
    let plain = client_config(&authority, rustls::DEFAULT_VERSIONS).with_no_client_auth();
    let mut stream = connect(address, "a.test", plain).await.expect("not required");
    assert!(!ask(&mut stream, &head).await.contains("x-forwarded-client-cert"));
    let (pem, config) = with(&authority);
    let mut stream = connect(address, "a.test", config).await.expect("sound");
    let answer = ask(&mut stream, &head).await;
    let lines: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
    assert!(
        answer.contains(&format!("x-forwarded-client-cert: {lines}")),
        "{answer}"
    );
    // In TLS 1.3 the client learns of it with the first read.
    let (_, config) = with(&others);
    let refused = match connect(address, "a.test", config).await {
        Ok(mut stream) => {
            let _ = stream.write_all(head.as_bytes()).await;
            !matches!(stream.read(&mut [0; 16]).await, Ok(read) if read > 0)
        }
        Err(_) => true,
    };
    assert!(refused);
    edge.stop().await;
}

#[tokio::test]
async fn plain_http_is_told_to_come_by_tls() {
    let (authority, folder) = (Authority::new(), tempfile::tempdir().expect("a folder"));
    authority.write(folder.path(), "default", "a.test");
    let edge = edge_with(|config| {
        tls(config, folder.path());
        config.redirect = Some(8443);
    })
    .await;
    edge.controller
        .set(vec![route("a.test", &[(1, echo("one").await)])])
        .await;
    let answer = edge
        .raw(b"GET /x?y=1 HTTP/1.1\r\nhost: a.test:80\r\nconnection: close\r\n\r\n")
        .await;
    assert!(
        answer.starts_with("HTTP/1.1 308") && answer.contains("location: https://a.test:8443/x?y=1\r\n"),
        "{answer}"
    );
    edge.stop().await;
}

#[tokio::test]
async fn the_proxy_protocol_names_the_client() {
    let edge = edge_with(|config| config.proxy_protocol = true).await;
    edge.controller
        .set(vec![route("a.test", &[(1, echo("one").await)])])
        .await;
    let answer = edge
        .raw(format!("PROXY TCP4 192.0.2.9 127.0.0.1 5 80\r\n{GET}").as_bytes())
        .await;
    assert!(answer.contains("x-forwarded-for: 192.0.2.9\n"), "{answer}");
    let binary = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x08\x7f\0\0\x01\0\x05\0\x50";
    let answer = edge.raw(&[&binary[..], GET.as_bytes()].concat()).await;
    assert!(answer.contains("x-forwarded-for: 192.0.2.8\n"), "{answer}");
    assert_eq!(edge.raw(GET.as_bytes()).await, "");
    edge.stop().await;
}
