//! Self-signed certificates, and clients that trust them.

use std::sync::Arc;

use gyre_transport::tls::{CertificateResolver, Identity, ServerTls, tcp_config};
use rustls::{ClientConfig, RootCertStore, ServerConfig, crypto::aws_lc_rs, pki_types::ServerName};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};

/// A certificate for `localhost` with its key.
pub(crate) struct Certificate {
    pub(crate) certificate: rcgen::CertifiedKey<rcgen::KeyPair>,
}

impl Certificate {
    pub(crate) fn new() -> Self {
        Self { certificate: rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap() }
    }

    pub(crate) fn pem(&self) -> String {
        self.certificate.cert.pem()
    }

    pub(crate) fn key_pem(&self) -> String {
        self.certificate.signing_key.serialize_pem()
    }

    pub(crate) fn resolver(&self) -> Arc<CertificateResolver> {
        CertificateResolver::from_pem(self.pem().as_bytes(), self.key_pem().as_bytes()).unwrap()
    }

    pub(crate) fn tls(&self) -> Arc<ServerTls> {
        let (chain, key) = (self.pem(), self.key_pem());
        let certificate = Some((chain.as_bytes(), key.as_bytes()));
        ServerTls::new(Identity { certificate, client_authorities: None }, None).unwrap()
    }

    pub(crate) fn tcp_config(&self) -> Arc<ServerConfig> {
        tcp_config(self.resolver(), None).unwrap()
    }

    /// A client that trusts this certificate and offers these protocols.
    pub(crate) fn client(&self, alpn: &[&str]) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.cert.der().clone()).unwrap();
        let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap();
        let mut config = builder.with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        config
    }
}

/// Does a client's handshake on a connection.
pub(crate) async fn connect_tls(
    tcp: TcpStream,
    config: ClientConfig,
) -> std::io::Result<TlsStream<TcpStream>> {
    let name = ServerName::try_from("localhost").unwrap();
    TlsConnector::from(Arc::new(config)).connect(name, tcp).await
}
