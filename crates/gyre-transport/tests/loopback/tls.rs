//! Certificates: what is refused, and how one is replaced.

use std::sync::Arc;

use gyre_transport::tls::{CertificateResolver, TlsError, quic_config, tcp_config};
use rustls::HandshakeKind;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use crate::certificate::{Certificate, connect_tls};

type ServerStream = TlsStream<TcpStream>;
type ClientStream = tokio_rustls::client::TlsStream<TcpStream>;

/// Does a handshake between these settings.
async fn handshake(
    server: Arc<rustls::ServerConfig>,
    client: rustls::ClientConfig,
) -> (std::io::Result<ServerStream>, std::io::Result<ClientStream>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let tcp = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (accepted, _) = listener.accept().await.unwrap();
    tokio::join!(TlsAcceptor::from(server).accept(accepted), connect_tls(tcp, client))
}

/// Each kind of unusable PEM has its own error.
#[test]
fn unusable_pem_is_refused() {
    let (certificate, other) = (Certificate::new(), Certificate::new());
    let (pem, key) = (certificate.pem(), certificate.key_pem());
    let error =
        |pem: &str, key: &str| CertificateResolver::from_pem(pem.as_bytes(), key.as_bytes()).unwrap_err();
    assert!(matches!(error("", &key), TlsError::NoCertificate));
    assert!(matches!(error(&key, &key), TlsError::NoCertificate));
    assert!(matches!(error(&pem, ""), TlsError::NoKey));
    assert!(matches!(error(&pem, &pem), TlsError::NoKey));
    assert!(matches!(error(&pem, &other.key_pem()), TlsError::KeyMismatch));
    assert!(matches!(error(&pem[..pem.len() / 2], &key), TlsError::Pem(_)));
    let no_authorities = tcp_config(certificate.resolver(), Some(b""));
    assert!(matches!(no_authorities, Err(TlsError::ClientAuthorities(_))));
}

/// TCP offers HTTP/2 and HTTP/1.1, QUIC only HTTP/3 and never early data.
#[test]
fn each_transport_offers_its_protocols() {
    let certificate = Certificate::new();
    let tcp = tcp_config(certificate.resolver(), None).unwrap();
    assert_eq!(tcp.alpn_protocols, [b"h2".to_vec(), b"http/1.1".to_vec()]);
    let quic = quic_config(certificate.resolver(), None).unwrap();
    assert_eq!(quic.alpn_protocols, [b"h3".to_vec()]);
    assert_eq!(quic.max_early_data_size, 0);
}

/// A replaced certificate is used by the next handshake; a connection made before goes on. One that cannot be used
/// changes nothing.
#[tokio::test]
async fn a_certificate_is_replaced_under_open_connections() {
    let (old, new) = (Certificate::new(), Certificate::new());
    let resolver = old.resolver();
    let config = tcp_config(resolver.clone(), None).unwrap();
    let (server, client) = handshake(config.clone(), old.client(&[])).await;
    let (mut server, mut client) = (server.unwrap(), client.unwrap());

    assert!(resolver.replace(new.pem().as_bytes(), old.key_pem().as_bytes()).is_err());
    handshake(config.clone(), old.client(&[])).await.1.unwrap();
    resolver.replace(new.pem().as_bytes(), new.key_pem().as_bytes()).unwrap();
    handshake(config.clone(), new.client(&[])).await.1.unwrap();
    assert!(handshake(config, old.client(&[])).await.1.is_err());

    client.write_all(b"still here").await.unwrap();
    let mut read = [0; 10];
    server.read_exact(&mut read).await.unwrap();
    assert_eq!(&read, b"still here");
}

/// A client that comes back resumes its session, with TLS 1.3 and 1.2.
#[tokio::test]
async fn sessions_are_resumed() {
    for version in [&rustls::version::TLS13, &rustls::version::TLS12] {
        let certificate = Certificate::new();
        let config = certificate.tcp_config();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut roots = rustls::RootCertStore::empty();
        roots.add(certificate.certificate.cert.der().clone()).unwrap();
        let client = rustls::ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[version])
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let mut kinds = Vec::new();
        for _ in 0..2 {
            let (server, stream) = handshake(config.clone(), client.clone()).await;
            let (mut server, mut stream) = (server.unwrap(), stream.unwrap());
            // Tickets of TLS 1.3 come with the first data.
            server.write_all(b"x").await.unwrap();
            stream.read_exact(&mut [0]).await.unwrap();
            kinds.push(stream.get_ref().1.handshake_kind().unwrap());
        }
        assert!(kinds[0] != HandshakeKind::Resumed, "{version:?}");
        assert_eq!(kinds[1], HandshakeKind::Resumed, "{version:?}");
    }
}

/// With client authorities a client without a certificate of theirs is refused, and one with it gets in.
#[tokio::test]
async fn client_certificates_are_demanded() {
    let certificate = Certificate::new();
    let (key, authority) = client_authority();
    let config = tcp_config(certificate.resolver(), Some(authority.pem().as_bytes())).unwrap();
    assert!(handshake(config.clone(), certificate.client(&[])).await.0.is_err());

    let client_key = rcgen::KeyPair::generate().unwrap();
    let issuer = rcgen::Issuer::from_params(&key.0, &key.1);
    let leaf = rcgen::CertificateParams::new(["client".to_owned()]).unwrap();
    let leaf = leaf.signed_by(&client_key, &issuer).unwrap();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(certificate.certificate.cert.der().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let client = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_client_auth_cert(
            vec![leaf.der().clone()],
            rustls::pki_types::PrivateKeyDer::try_from(client_key.serialize_der()).unwrap(),
        )
        .unwrap();
    handshake(config, client).await.0.unwrap();
}

/// A certificate authority.
fn client_authority() -> ((rcgen::CertificateParams, rcgen::KeyPair), rcgen::Certificate) {
    let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = params.self_signed(&key).unwrap();
    ((params, key), certificate)
}
