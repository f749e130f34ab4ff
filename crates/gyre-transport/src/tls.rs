//! Certificates and TLS settings, shared by TCP and QUIC.

mod named;

use std::{
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use arc_swap::{ArcSwap, ArcSwapOption};
use rustls::{
    RootCertStore, ServerConfig,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier},
    sign::CertifiedKey,
};
use tokio::sync::watch;

pub use named::{CHALLENGE_PROTOCOL, NamedCertificates, Wanted};

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

/// The certificates in use. Replaced whole: handshakes begun before go on with the old ones.
#[derive(Debug)]
pub struct CertificateResolver {
    /// Shown where none is named for the host that the client asks for.
    default: ArcSwapOption<CertifiedKey>,
    named: Option<Arc<NamedCertificates>>,
}

impl CertificateResolver {
    /// A resolver that serves a certificate chain with its key, both as PEM.
    ///
    /// # Errors
    /// If they are malformed or do not belong together.
    pub fn from_pem(certificates: &[u8], key: &[u8]) -> Result<Arc<Self>, TlsError> {
        let default = ArcSwapOption::from(Some(certified_key(certificates, key)?));
        Ok(Arc::new(Self { default, named: None }))
    }

    /// Serves another certificate from now on.
    ///
    /// # Errors
    /// As [`Self::from_pem`]; the old one then stays.
    pub fn replace(&self, certificates: &[u8], key: &[u8]) -> Result<(), TlsError> {
        self.default.store(Some(certified_key(certificates, key)?));
        Ok(())
    }

    /// The certificate that is shown where none is named for a host, as DER.
    pub fn leaf(&self) -> Option<CertificateDer<'static>> {
        Some(self.default.load().as_ref()?.cert.first()?.clone().into_owned())
    }
}

impl ResolvesServerCert for CertificateResolver {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let named = self.named.as_ref().and_then(|named| named.find(hello.server_name()));
        named.or_else(|| self.default.load_full())
    }
}

/// The TLS of a listener, TCP and QUIC. All of it can be exchanged while connections are open: they go on as they are.
#[derive(Debug)]
pub struct ServerTls {
    resolver: Arc<CertificateResolver>,
    /// What is below was made with these.
    client_authorities: Mutex<Option<Vec<u8>>>,
    tcp: ArcSwap<ServerConfig>,
    quic: watch::Sender<Arc<ServerConfig>>,
    /// For connections of an authority that looks whether a name is ours.
    challenges: Option<Arc<ServerConfig>>,
}

/// What is shown to clients, and what is asked of them.
#[derive(Clone, Copy, Debug, Default)]
pub struct Identity<'a> {
    /// A certificate chain and its private key, as PEM.
    pub certificate: Option<(&'a [u8], &'a [u8])>,
    /// Authorities of client certificates, as PEM; the certificates are mandatory then.
    pub client_authorities: Option<&'a [u8]>,
}

/// An identity that can be used; what [`ServerTls::apply`] takes over.
#[derive(Debug)]
pub struct Prepared {
    certificate: Option<Arc<CertifiedKey>>,
    client_authorities: Option<Vec<u8>>,
    /// Nothing if the authorities stay: tickets of earlier connections count on.
    settings: Option<(Arc<ServerConfig>, Arc<ServerConfig>)>,
}

impl ServerTls {
    /// TLS with that identity, and with certificates that are named for hosts.
    ///
    /// # Errors
    /// If the identity cannot be used.
    pub fn new(identity: Identity<'_>, named: Option<Arc<NamedCertificates>>) -> Result<Arc<Self>, TlsError> {
        let certificate = identity.certificate.map(|(chain, key)| certified_key(chain, key)).transpose()?;
        let challenges = named.clone().map(challenge_config).transpose()?;
        let resolver = Arc::new(CertificateResolver { default: ArcSwapOption::from(certificate), named });
        let (tcp, quic) = both_configs(&resolver, identity.client_authorities)?;
        Ok(Arc::new(Self {
            resolver,
            client_authorities: Mutex::new(identity.client_authorities.map(Into::into)),
            tcp: ArcSwap::new(tcp),
            quic: watch::Sender::new(quic),
            challenges,
        }))
    }

    /// Checks another identity; nothing is changed yet.
    ///
    /// # Errors
    /// If it cannot be used.
    pub fn prepare(&self, identity: Identity<'_>) -> Result<Prepared, TlsError> {
        let certificate = identity.certificate.map(|(chain, key)| certified_key(chain, key)).transpose()?;
        let client_authorities = identity.client_authorities.map(Vec::from);
        let is_same = *self.authorities() == client_authorities;
        let settings = match is_same {
            true => None,
            false => Some(both_configs(&self.resolver, identity.client_authorities)?),
        };
        Ok(Prepared { certificate, client_authorities, settings })
    }

    /// Handshakes from now on use it.
    pub fn apply(&self, prepared: Prepared) {
        self.resolver.default.store(prepared.certificate);
        if let Some((tcp, quic)) = prepared.settings {
            *self.authorities() = prepared.client_authorities;
            self.tcp.store(tcp);
            self.quic.send_replace(quic);
        }
    }

    /// Where the certificate alone is replaced.
    pub fn resolver(&self) -> &Arc<CertificateResolver> {
        &self.resolver
    }

    /// Settings of the next handshake over TCP.
    pub fn tcp(&self) -> Arc<ServerConfig> {
        self.tcp.load_full()
    }

    /// Settings of handshakes over QUIC, and their changes.
    pub fn quic(&self) -> watch::Receiver<Arc<ServerConfig>> {
        self.quic.subscribe()
    }

    /// Settings of handshakes that ask for [`CHALLENGE_PROTOCOL`], if there may be some.
    pub(crate) fn challenges(&self) -> Option<&Arc<ServerConfig>> {
        self.challenges.as_ref()
    }

    fn authorities(&self) -> MutexGuard<'_, Option<Vec<u8>>> {
        self.client_authorities.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn both_configs(
    resolver: &Arc<CertificateResolver>,
    client_authorities: Option<&[u8]>,
) -> Result<(Arc<ServerConfig>, Arc<ServerConfig>), TlsError> {
    let tcp = tcp_config(resolver.clone(), client_authorities)?;
    let quic = quic_config(resolver.clone(), client_authorities)?;
    Ok((tcp, Arc::new(quic)))
}

/// Nobody is asked for a certificate, and nothing follows the handshake.
fn challenge_config(named: Arc<NamedCertificates>) -> Result<Arc<ServerConfig>, TlsError> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let mut config = builder.with_no_client_auth().with_cert_resolver(Arc::new(named::Challenges(named)));
    config.alpn_protocols = vec![CHALLENGE_PROTOCOL.to_vec()];
    Ok(Arc::new(config))
}

fn certified_key(certificates: &[u8], key: &[u8]) -> Result<Arc<CertifiedKey>, TlsError> {
    let certified = unchecked_key(certificates, key)?;
    match certified.keys_match() {
        Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::KeyMismatch)) => {
            Err(TlsError::KeyMismatch)
        }
        result => Ok(result.map(|()| Arc::new(certified))?),
    }
}

/// A certificate with a key that nobody has compared.
fn unchecked_key(certificates: &[u8], key: &[u8]) -> Result<CertifiedKey, TlsError> {
    let chain: Vec<_> = CertificateDer::pem_slice_iter(certificates).collect::<Result<_, _>>()?;
    if chain.is_empty() {
        return Err(TlsError::NoCertificate);
    }
    let key = match PrivateKeyDer::from_pem_slice(key) {
        Err(rustls::pki_types::pem::Error::NoItemsFound) => return Err(TlsError::NoKey),
        key => key?,
    };
    Ok(CertifiedKey::new(chain, aws_lc_rs::default_provider().key_provider.load_private_key(key)?))
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
