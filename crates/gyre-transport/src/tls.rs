//! Certificates and TLS settings, shared by TCP and QUIC.

use std::{io, sync::Arc};

use arc_swap::ArcSwap;
use rustls::{
    RootCertStore, ServerConfig,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier},
    sign::CertifiedKey,
};

/// Why TLS cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The PEM text holds no certificate.
    #[error("no certificate found in the PEM text")]
    NoCertificate,
    /// The PEM text holds no private key.
    #[error("no private key found in the PEM text")]
    NoKey,
    /// The PEM text is malformed.
    #[error("malformed PEM: {0}")]
    Pem(#[from] rustls::pki_types::pem::Error),
    /// The key is another certificate's.
    #[error("the private key does not match the certificate")]
    KeyMismatch,
    /// The certificate is malformed, or the key is of an unsupported kind.
    #[error("the certificate and its key cannot be used: {0}")]
    Unusable(#[from] rustls::Error),
    /// The certificates clients are verified with cannot be used.
    #[error("the client certificate authorities cannot be used: {0}")]
    ClientAuthorities(#[from] rustls::server::VerifierBuilderError),
}

/// The certificate in use. Replaced whole: handshakes begun before go on with the old one.
#[derive(Debug)]
pub struct CertificateResolver(ArcSwap<CertifiedKey>);

impl CertificateResolver {
    /// A resolver that serves a certificate chain with its key, both as PEM.
    ///
    /// # Errors
    /// If they are malformed or do not belong together.
    pub fn from_pem(certificates: &[u8], key: &[u8]) -> Result<Arc<Self>, TlsError> {
        Ok(Arc::new(Self(ArcSwap::new(certified_key(certificates, key)?))))
    }

    /// Serves another certificate from now on.
    ///
    /// # Errors
    /// As [`Self::from_pem`]; the old one then stays.
    pub fn replace(&self, certificates: &[u8], key: &[u8]) -> Result<(), TlsError> {
        self.0.store(certified_key(certificates, key)?);
        Ok(())
    }
}

impl CertificateResolver {
    /// The certificate that is served, as DER.
    pub fn leaf(&self) -> Option<CertificateDer<'static>> {
        Some(self.0.load().cert.first()?.clone().into_owned())
    }
}

impl ResolvesServerCert for CertificateResolver {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load_full())
    }
}

fn certified_key(certificates: &[u8], key: &[u8]) -> Result<Arc<CertifiedKey>, TlsError> {
    let chain: Vec<_> = CertificateDer::pem_slice_iter(certificates).collect::<Result<_, _>>()?;
    if chain.is_empty() {
        return Err(TlsError::NoCertificate);
    }
    let key = match PrivateKeyDer::from_pem_slice(key) {
        Err(rustls::pki_types::pem::Error::NoItemsFound) => return Err(TlsError::NoKey),
        key => key?,
    };
    let key = aws_lc_rs::default_provider().key_provider.load_private_key(key)?;
    let certified = CertifiedKey::new(chain, key);
    match certified.keys_match() {
        Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::KeyMismatch)) => {
            Err(TlsError::KeyMismatch)
        }
        result => Ok(result.map(|()| Arc::new(certified))?),
    }
}

/// TLS 1.2 and 1.3 for TCP: HTTP/2 and HTTP/1.1. With `client_authorities` (PEM) only clients with a certificate of
/// theirs get in.
///
/// # Errors
/// If the authorities cannot be used.
pub fn tcp_config(
    resolver: Arc<CertificateResolver>,
    client_authorities: Option<&[u8]>,
) -> Result<Arc<ServerConfig>, TlsError> {
    let mut config = server_config(resolver, client_authorities, rustls::ALL_VERSIONS)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// TLS 1.3 for QUIC: HTTP/3, never early data.
///
/// Spec: RFC 9001 section 4.2, RFC 9114 section 3.1
///
/// # Errors
/// If the authorities cannot be used.
pub fn quic_config(
    resolver: Arc<CertificateResolver>,
    client_authorities: Option<&[u8]>,
) -> Result<ServerConfig, TlsError> {
    let mut config = server_config(resolver, client_authorities, &[&rustls::version::TLS13])?;
    config.alpn_protocols = vec![b"h3".to_vec()];
    config.max_early_data_size = 0;
    Ok(config)
}

fn server_config(
    resolver: Arc<CertificateResolver>,
    client_authorities: Option<&[u8]>,
    versions: &[&'static rustls::SupportedProtocolVersion],
) -> Result<ServerConfig, TlsError> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(provider.clone()).with_protocol_versions(versions)?;
    let builder = match client_authorities {
        None => builder.with_no_client_auth(),
        Some(pem) => {
            let mut roots = RootCertStore::empty();
            for certificate in CertificateDer::pem_slice_iter(pem) {
                roots.add(certificate?)?;
            }
            builder.with_client_cert_verifier(
                WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build()?,
            )
        }
    };
    let mut config = builder.with_cert_resolver(resolver);
    // Tickets carry the session themselves: resumption costs no memory here and survives a change of certificate.
    config.ticketer = aws_lc_rs::Ticketer::new()?;
    Ok(config)
}

impl From<TlsError> for io::Error {
    fn from(error: TlsError) -> Self {
        Self::new(io::ErrorKind::InvalidInput, error)
    }
}
