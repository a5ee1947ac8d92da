//! Memory of connections that have had a request and wait for the next.

use crate::contender::Contender;
use crate::feed::HOST;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, SignatureScheme};
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

/// Bytes that each of so many idle connections costs.
pub async fn bytes(contender: &Contender, tls: bool, count: usize) -> u64 {
    // What is needed once is there.
    drop(open(contender, tls).await);
    let before = contender.memory_kb();
    let mut held = Vec::with_capacity(count);
    for _ in 0..count {
        held.push(open(contender, tls).await);
    }
    let after = contender.memory_kb();
    after.saturating_sub(before) * 1024 / count as u64
}

async fn open(contender: &Contender, tls: bool) -> Box<dyn Stream> {
    let port = if tls { contender.tls_port } else { contender.port };
    let stream = TcpStream::connect(("127.0.0.1", port)).await.expect("listens");
    let mut stream: Box<dyn Stream> = if tls {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("known")
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Anybody))
            .with_no_client_auth();
        let name = ServerName::try_from("bench.test").expect("a name");
        Box::new(
            TlsConnector::from(Arc::new(config))
                .connect(name, stream)
                .await
                .expect("agreed"),
        )
    } else {
        Box::new(stream)
    };
    let head = format!("GET / HTTP/1.1\r\nhost: {HOST}\r\n\r\n");
    stream.write_all(head.as_bytes()).await.expect("sent");
    let mut answer = Vec::new();
    while !answer.ends_with(b"ok") {
        assert!(stream.read_buf(&mut answer).await.expect("open") > 0, "closed early");
    }
    stream
}

/// Only how long it takes matters here, not with whom.
#[derive(Debug)]
struct Anybody;

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        rustls::crypto::aws_lc_rs::default_provider()
            .signature_verification_algorithms
            .supported_schemes()
    }
}
