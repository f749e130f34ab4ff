//! Certificates by the name of the host they are for, and answers to an authority that asks whether the name is ours.
//!
//! Who obtains them puts them in; handshakes find them here, and ask for names that are missing.

use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use hashbrown::HashMap;
use rustls::{
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use tokio::sync::mpsc;

use super::{TlsError, certified_key, unchecked_key};

/// The protocol an authority asks for when it looks whether a name is ours.
///
/// Spec: RFC 8737 section 4
pub const CHALLENGE_PROTOCOL: &[u8] = b"acme-tls/1";
/// Names that were asked for and wait to be looked at; more are forgotten, and asked for again.
const WANTED_MAX: usize = 16;

/// Names that were asked for, and had no certificate.
pub type Wanted = mpsc::Receiver<Box<str>>;

type ByName = HashMap<Box<str>, Arc<CertifiedKey>>;

/// Certificates by name.
#[derive(Debug)]
pub struct NamedCertificates {
    served: ArcSwap<ByName>,
    challenges: ArcSwap<ByName>,
    /// One writer at a time; readers never wait.
    writing: Mutex<()>,
    /// The name that clients mean who give none.
    default_name: Option<Box<str>>,
    wanted: mpsc::Sender<Box<str>>,
}

impl NamedCertificates {
    /// None yet. `default_name` is assumed for clients that give no name.
    pub fn new(default_name: Option<&str>) -> (Arc<Self>, Wanted) {
        let (wanted, receiver) = mpsc::channel(WANTED_MAX);
        let named = Self {
            served: ArcSwap::default(),
            challenges: ArcSwap::default(),
            writing: Mutex::default(),
            default_name: default_name.map(|name| normal(name).into()),
            wanted,
        };
        (Arc::new(named), receiver)
    }

    /// Serves a certificate for a name from now on; both as PEM.
    ///
    /// # Errors
    /// If chain and key are malformed or do not belong together; an earlier certificate then stays.
    pub fn serve(&self, name: &str, chain: &[u8], key: &[u8]) -> Result<(), TlsError> {
        let certificate = certified_key(chain, key)?;
        self.change(&self.served, |served| drop(served.insert(normal(name).into(), certificate.clone())));
        Ok(())
    }

    /// Answers an authority that looks whether a name is ours. Whether chain and key belong together is not checked: the
    /// certificate has an extension that only authorities know.
    ///
    /// # Errors
    /// If they are malformed.
    pub fn answer_challenge(&self, name: &str, chain: &[u8], key: &[u8]) -> Result<(), TlsError> {
        let certificate = Arc::new(unchecked_key(chain, key)?);
        self.change(&self.challenges, |open| drop(open.insert(normal(name).into(), certificate.clone())));
        Ok(())
    }

    /// The authority has seen it, or will not come.
    pub fn end_challenge(&self, name: &str) {
        self.change(&self.challenges, |open| drop(open.remove(&*normal(name))));
    }

    /// The certificate for a name; if there is none, it is asked for.
    pub(super) fn find(&self, name: Option<&str>) -> Option<Arc<CertifiedKey>> {
        let name = name.map(normal).or_else(|| self.default_name.as_deref().map(normal))?;
        let found = self.served.load().get(&*name).cloned();
        if found.is_none() && self.wanted.try_send(name.into()).is_err() {
            tracing::debug!("too many names without certificate are asked for");
        }
        found
    }

    fn change(&self, map: &ArcSwap<ByName>, change: impl Fn(&mut ByName)) {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut next = ByName::clone(&map.load());
        change(&mut next);
        map.store(Arc::new(next));
    }
}

/// Shows an authority what it asked for.
#[derive(Debug)]
pub(super) struct Challenges(pub(super) Arc<NamedCertificates>);

impl ResolvesServerCert for Challenges {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let name = normal(hello.server_name()?);
        self.0.challenges.load().get(&*name).cloned()
    }
}

/// Names differ neither by case nor by the dot of the root.
fn normal(name: &str) -> String {
    name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()
}
