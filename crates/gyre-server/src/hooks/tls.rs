//! TLS towards backends.

use std::sync::Arc;

use hyper_rustls::{ConfigBuilderExt, FixedServerNameResolver, HttpsConnector, HttpsConnectorBuilder};
use rustls::{
    ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{WebPkiSupportedAlgorithms, aws_lc_rs, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject},
};

use super::dial::Dialer;
use crate::secret::Secret;

/// TLS as it is configured for one backend.
#[derive(Clone, Debug, Default)]
pub struct ClientTls {
    /// `server_ca_pem`: authorities the backend is verified with, instead of the system's.
    pub authorities: Option<Vec<u8>>,
    /// `cert_pem` and `key_pem`: the certificate we show.
    pub identity: Option<(Vec<u8>, Secret<Vec<u8>>)>,
    /// `server_name`: expected instead of the host of the URL.
    pub server_name: Option<String>,
    /// `insecure_skip_verify`: whoever answers is believed.
    pub skips_verification: bool,
}

impl ClientTls {
    /// Believes no certificate at all.
    pub(super) fn trusting_nobody() -> Self {
        Self { authorities: Some(Vec::new()), ..Self::default() }
    }
}

/// What is spoken over it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Version {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2 only.
    Http2,
}

/// Why it cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ClientTlsError {
    /// A certificate or key is not one.
    #[error("malformed PEM: {0}")]
    Pem(#[from] rustls::pki_types::pem::Error),
    /// A certificate, key or authority cannot be used.
    #[error("{0}")]
    Unusable(#[from] rustls::Error),
    /// The authorities of the system cannot be read.
    #[error("no certificate authorities: {0}")]
    Authorities(#[from] std::io::Error),
    /// `server_name` is none.
    #[error("server_name is not a host name")]
    ServerName,
}

pub(crate) type Connector = HttpsConnector<Dialer>;

/// Verifies with the authorities of the system.
///
/// # Errors
/// If TLS cannot be set up at all.
pub(super) fn system() -> Result<Connector, ClientTlsError> {
    configured(&ClientTls::default(), Version::Http1, Dialer::tcp()).or_else(|error| {
        // Most systems call no hook over TLS: those that do will see their calls fail.
        tracing::warn!(%error, "hooks over https will fail");
        configured(&ClientTls::trusting_nobody(), Version::Http1, Dialer::tcp())
    })
}

/// Does what is configured.
///
/// # Errors
/// If something of it cannot be used.
pub(crate) fn configured(
    settings: &ClientTls,
    version: Version,
    dialer: Dialer,
) -> Result<Connector, ClientTlsError> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder =
        ClientConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions()?;
    let builder = match &settings.authorities {
        _ if settings.skips_verification => {
            let verifier = Arc::new(Believing(provider.signature_verification_algorithms));
            builder.dangerous().with_custom_certificate_verifier(verifier)
        }
        None => builder.with_native_roots()?,
        Some(pem) => builder.with_root_certificates(roots(pem)?),
    };
    let config = match &settings.identity {
        None => builder.with_no_client_auth(),
        Some((certificates, key)) => {
            let chain = CertificateDer::pem_slice_iter(certificates).collect::<Result<_, _>>()?;
            builder.with_client_auth_cert(chain, PrivateKeyDer::from_pem_slice(key.expose())?)?
        }
    };
    let mut builder = HttpsConnectorBuilder::new().with_tls_config(config).https_or_http();
    if let Some(name) = &settings.server_name {
        let name = ServerName::try_from(name.clone()).map_err(|_| ClientTlsError::ServerName)?;
        builder = builder.with_server_name_resolver(FixedServerNameResolver::new(name));
    }
    Ok(match version {
        Version::Http1 => builder.enable_http1().wrap_connector(dialer),
        Version::Http2 => builder.enable_http2().wrap_connector(dialer),
    })
}

fn roots(pem: &[u8]) -> Result<RootCertStore, ClientTlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        roots.add(certificate?)?;
    }
    Ok(roots)
}

/// Believes every certificate: `insecure_skip_verify` asks for it.
#[derive(Debug)]
struct Believing(WebPkiSupportedAlgorithms);

impl ServerCertVerifier for Believing {
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
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.0)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;
    use rustls::ServerConfig;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;
    use crate::hooks::http::HttpClient;

    /// A server with that certificate, which wants one of its clients if `wants_identity`; answers every request.
    async fn backend(made: &rcgen::CertifiedKey<rcgen::KeyPair>, wants_identity: bool) -> u16 {
        let key = PrivateKeyDer::from_pem_slice(made.signing_key.serialize_pem().as_bytes()).unwrap();
        let provider = Arc::new(aws_lc_rs::default_provider());
        let builder = ServerConfig::builder_with_provider(provider.clone());
        let builder = builder.with_safe_default_protocol_versions().unwrap();
        let roots = Arc::new(roots(made.cert.pem().as_bytes()).unwrap());
        let builder = match wants_identity {
            true => builder.with_client_cert_verifier(
                rustls::server::WebPkiClientVerifier::builder_with_provider(roots, provider).build().unwrap(),
            ),
            false => builder.with_no_client_auth(),
        };
        let config = builder.with_single_cert(vec![made.cert.der().clone()], key).unwrap();
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let Ok(mut tls) = acceptor.accept(socket).await else { continue };
                drop(tls.read(&mut [0; 1024]).await);
                drop(tls.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}").await);
            }
        });
        port
    }

    /// Who is believed and who we say we are, by what is configured; tried against a server with its own certificate.
    #[tokio::test]
    async fn backends_are_verified_as_configured() {
        let made = rcgen::generate_simple_self_signed(vec!["backend.test".into()]).unwrap();
        let (ordinary, strict) = (backend(&made, false).await, backend(&made, true).await);
        let call = async |port: u16, settings: ClientTls| {
            let mut target = crate::hooks::tests::target(&format!("https://127.0.0.1:{port}/"));
            target.timeout = Duration::from_secs(10);
            let client = HttpClient::new(configured(&settings, Version::Http1, Dialer::tcp()).unwrap());
            client.post(&target, http::HeaderMap::new(), Bytes::from_static(b"{}")).await.ok()
        };
        let pem = Some(made.cert.pem().into_bytes());
        let known = ClientTls {
            authorities: pem.clone(),
            server_name: Some("backend.test".into()),
            ..ClientTls::default()
        };
        let key = Secret::new(made.signing_key.serialize_pem().into_bytes());
        let identified = ClientTls { identity: pem.clone().map(|pem| (pem, key)), ..known.clone() };
        let believing = ClientTls { skips_verification: true, ..ClientTls::default() };
        let answer = Some(Bytes::from_static(b"{}"));
        assert_eq!(call(ordinary, known.clone()).await, answer);
        assert_eq!(call(ordinary, believing).await, answer);
        assert_eq!(
            call(ordinary, ClientTls { server_name: None, ..known.clone() }).await,
            None,
            "its name differs"
        );
        assert_eq!(call(ordinary, ClientTls { authorities: Some(Vec::new()), ..known.clone() }).await, None);
        assert_eq!(call(strict, known).await, None, "we show no certificate");
        assert_eq!(call(strict, identified).await, answer);
        let settings = ClientTls { server_name: Some("a b".into()), ..ClientTls::default() };
        assert!(configured(&settings, Version::Http1, Dialer::tcp()).is_err());
    }
}
