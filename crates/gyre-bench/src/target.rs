//! Where the server is, and how its certificate is checked.

use std::{fs, path::PathBuf, sync::Arc};

use http::Uri;
use rustls::{
    ClientConfig, RootCertStore,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, WebPkiSupportedAlgorithms, aws_lc_rs},
    pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject},
};

use crate::ClientError;

/// Which transport an address means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// `ws://` and `wss://`.
    WebSocket,
    /// `https://`: WebTransport over HTTP/3.
    WebTransport,
}

/// An endpoint for clients.
#[derive(Debug, Clone)]
pub struct Target {
    /// The whole address.
    pub uri: Uri,
    /// What it is spoken to with.
    pub transport: Transport,
    /// Whether TLS is spoken.
    pub is_secure: bool,
    /// Host without brackets.
    pub host: String,
    /// Port, given or usual.
    pub port: u16,
}

impl Target {
    /// Reads `ws://`, `wss://` (WebSocket) and `https://` (WebTransport) addresses.
    ///
    /// # Errors
    /// [`ClientError::Target`] for anything else.
    pub fn parse(url: &str) -> Result<Self, ClientError> {
        let fail = |problem| ClientError::Target { url: url.to_owned(), problem };
        let uri: Uri = url.parse().map_err(|_| fail("is not an address"))?;
        let (transport, is_secure, usual) = match uri.scheme_str() {
            Some("ws") => (Transport::WebSocket, false, 80),
            Some("wss") => (Transport::WebSocket, true, 443),
            Some("https") => (Transport::WebTransport, true, 443),
            _ => {
                return Err(fail(
                    "begins with none of ws://, wss:// (WebSocket) and https:// (WebTransport)",
                ));
            }
        };
        let host = uri.host().ok_or_else(|| fail("has no host"))?;
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let port = uri.port_u16().unwrap_or(usual);
        Ok(Self { transport, is_secure, host, port, uri })
    }
}

/// How the certificate of a server is checked.
#[derive(Debug, Clone, Default)]
pub enum Trust {
    /// By the authorities the system trusts.
    #[default]
    System,
    /// By the certificates in a file in PEM form: authorities, or the server's own.
    File(PathBuf),
    /// Not at all.
    Anything,
}

impl Trust {
    /// A TLS configuration that checks this way.
    ///
    /// # Errors
    /// [`ClientError::Certificates`] if there is nothing to check against.
    pub fn tls(&self, protocols: &[&[u8]]) -> Result<ClientConfig, ClientError> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider));
        let builder = builder.with_safe_default_protocol_versions();
        let builder = builder.map_err(|error| ClientError::Certificates(error.to_string()))?;
        let mut config = match self {
            Self::Anything => {
                let verifier = Arc::new(AnyCertificate::new(&provider));
                builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth()
            }
            trust => builder.with_root_certificates(trust.roots()?).with_no_client_auth(),
        };
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
        Ok(config)
    }

    fn roots(&self) -> Result<RootCertStore, ClientError> {
        let mut roots = RootCertStore::empty();
        let Self::File(path) = self else {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            return Ok(roots);
        };
        let fail = |problem: String| ClientError::Certificates(format!("{}: {problem}", path.display()));
        let pem = fs::read(path).map_err(|error| fail(error.to_string()))?;
        for certificate in CertificateDer::pem_slice_iter(&pem) {
            let certificate = certificate.map_err(|error| fail(error.to_string()))?;
            roots.add(certificate).map_err(|error| fail(error.to_string()))?;
        }
        if roots.is_empty() { Err(fail("holds no certificate".into())) } else { Ok(roots) }
    }
}

/// Takes every certificate; that its owner has the key is still checked.
#[derive(Debug)]
struct AnyCertificate {
    algorithms: WebPkiSupportedAlgorithms,
}

impl AnyCertificate {
    fn new(provider: &CryptoProvider) -> Self {
        Self { algorithms: provider.signature_verification_algorithms }
    }
}

impl ServerCertVerifier for AnyCertificate {
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
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The scheme alone decides about transport, TLS and usual port; other schemes are refused with the fix.
    #[test]
    fn addresses() {
        let target = Target::parse("ws://localhost:8000/connection/websocket").unwrap();
        let parts = (target.transport, target.is_secure, &*target.host, target.port);
        assert_eq!(parts, (Transport::WebSocket, false, "localhost", 8000));
        let target = Target::parse("wss://[::1]/x").unwrap();
        assert_eq!((target.is_secure, &*target.host, target.port), (true, "::1", 443));
        let target = Target::parse("https://example.com/connection/webtransport").unwrap();
        assert_eq!((target.transport, target.port), (Transport::WebTransport, 443));
        for bad in ["localhost:8000", "http://localhost/", "ftp://a/", "/path", "ws://"] {
            assert!(Target::parse(bad).is_err(), "{bad}");
        }
    }
}
