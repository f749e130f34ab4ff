//! Certificates from an authority that asks nothing but a proof that the names are ours.
//!
//! One task obtains them, one name after the other, renews them in time, and puts them where handshakes of TCP and QUIC
//! find them. Names are those that are configured; without any, whatever clients ask for.
//!
//! Spec: RFC 8555; RFC 8737 (TLS-ALPN-01)

mod cache;
mod connection;
mod http;
mod order;

use std::{
    io,
    sync::Arc,
    time::{Duration, SystemTime},
};

use gyre_transport::tls::{NamedCertificates, Wanted};
use hashbrown::HashMap;
use instant_acme::{Account, ChallengeType, ExternalAccountKey, NewAccount};
use x509_parser::pem::Pem;

use self::{
    cache::Cache,
    connection::Connection,
    order::{ObtainError, Obtained},
};
pub use self::{
    connection::ConnectionError,
    http::{Http01, Tokens},
};
use crate::secret::Secret;

/// Names without configured ones; another takes the place of one that has no certificate, or has to wait.
const NAMES_MAX: usize = 100;
/// Pause after a failure, doubled with each that follows.
const RETRY_PAUSE: Duration = Duration::from_secs(60);
const RETRY_PAUSE_MAX: Duration = Duration::from_secs(3600);
/// A certificate is renewed this long before its end, or for the last third of its validity if that is shorter.
const RENEWAL_MAX: Duration = Duration::from_secs(30 * 24 * 3600);
/// How often it is looked what is due; sleeping machines miss longer timers.
const LOOK_INTERVAL: Duration = Duration::from_secs(60);

/// What is configured of it.
#[derive(Clone, Debug)]
pub struct Options {
    /// `host_whitelist`; without any, clients decide.
    pub names: Vec<String>,
    /// `cache_dir`.
    pub cache_folder: Option<String>,
    /// `email`.
    pub email: Option<String>,
    /// `server_name`.
    pub server_name: Option<String>,
    /// Host and port of `http_addr`, if `http` is on.
    pub http: Option<(String, u16)>,
    /// `directory_url`.
    pub directory_url: String,
    /// `directory_ca_pem`.
    pub directory_authorities: Option<Vec<u8>>,
    /// `eab_key_id` and `eab_hmac_key`.
    pub external_account: Option<(String, Secret<Vec<u8>>)>,
}

/// Why it cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum AcmeError {
    /// The folder cannot be used.
    #[error(
        "http_server.tls_autocert.cache_dir: {folder}: {error} (name a folder that the server may write)"
    )]
    Cache {
        /// The folder.
        folder: String,
        /// What the system says.
        error: io::Error,
    },
    /// The authority cannot be talked to.
    #[error("http_server.tls_autocert: {0}")]
    Connection(#[from] ConnectionError),
}

/// Obtains certificates.
pub struct Acme {
    options: Options,
    cache: Option<Cache>,
    connection: Connection,
    account: Option<Account>,
    named: Arc<NamedCertificates>,
    tokens: Tokens,
    wanted: Wanted,
    names: HashMap<Box<str>, Name>,
}

/// What is known of a name.
#[derive(Clone, Copy, Debug)]
struct Name {
    due: SystemTime,
    failures: u32,
    has_certificate: bool,
}

impl Acme {
    /// Loads what was obtained earlier.
    ///
    /// # Errors
    /// If the cache cannot be used, or no connection to the authority can be made at all.
    pub fn prepare(options: Options) -> Result<Self, AcmeError> {
        let cache = options.cache_folder.as_ref().map(|folder| {
            Cache::open(folder).map_err(|error| AcmeError::Cache { folder: folder.clone(), error })
        });
        let connection = Connection::new(options.directory_authorities.clone())?;
        let (named, wanted) = NamedCertificates::new(options.server_name.as_deref());
        let mut acme = Self {
            cache: cache.transpose()?,
            connection,
            account: None,
            named,
            tokens: Tokens::default(),
            wanted,
            names: HashMap::new(),
            options,
        };
        for name in acme.options.names.clone() {
            acme.add(&name);
        }
        Ok(acme)
    }

    /// Where handshakes find the certificates.
    pub fn certificates(&self) -> Arc<NamedCertificates> {
        self.named.clone()
    }

    /// What is shown over HTTP.
    pub fn tokens(&self) -> Tokens {
        self.tokens.clone()
    }

    /// Does what is due, for as long as the server runs.
    pub async fn run(mut self) {
        loop {
            // No more than wait at a time: who asks for many names must not keep what is due from being done.
            for _ in 0..NAMES_MAX {
                let Ok(name) = self.wanted.try_recv() else { break };
                self.admit(&name);
            }
            let next = self.names.iter().min_by_key(|(_, state)| state.due);
            let next = next.map(|(name, state)| (name.clone(), state.due));
            let pause = match next {
                None => LOOK_INTERVAL,
                Some((name, due)) => match due.duration_since(SystemTime::now()) {
                    Ok(pause) => pause.min(LOOK_INTERVAL),
                    Err(_) => {
                        self.renew(&name).await;
                        continue;
                    }
                },
            };
            tokio::select! {
                wanted = self.wanted.recv() => match wanted {
                    Some(name) => self.admit(&name),
                    None => return,
                },
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// A client has asked for a name that has no certificate.
    fn admit(&mut self, name: &str) {
        if self.names.contains_key(name) || !self.options.names.is_empty() || !is_public_name(name) {
            return;
        }
        if self.names.len() >= NAMES_MAX {
            let failed = self.names.iter().filter(|(_, state)| !state.has_certificate && state.failures > 0);
            let Some(worst) = failed.max_by_key(|(_, state)| state.failures).map(|(name, _)| name.clone())
            else {
                return tracing::warn!(name, limit = NAMES_MAX, "too many names: no certificate is obtained");
            };
            self.names.remove(&worst);
        }
        self.add(name);
    }

    /// From the cache, or else as soon as possible.
    fn add(&mut self, name: &str) {
        let now = SystemTime::now();
        let name: Box<str> = name.trim_end_matches('.').to_ascii_lowercase().into();
        let mut state = Name { due: now, failures: 0, has_certificate: false };
        if let Some(obtained) = self.cache.as_ref().and_then(|cache| cache.load(&name))
            && let Some(due) = self.serve(&name, &obtained, now)
        {
            state = Name { due, has_certificate: true, ..state };
        }
        self.names.insert(name, state);
    }

    /// Serves a certificate that is valid; returns when it is to be renewed.
    fn serve(&self, name: &str, obtained: &Obtained, now: SystemTime) -> Option<SystemTime> {
        let Some((begin, end)) = validity(obtained.chain.as_bytes()).filter(|(_, end)| *end > now) else {
            tracing::warn!(name, "the certificate that was kept is not valid any more");
            return None;
        };
        if let Err(error) =
            self.named.serve(name, obtained.chain.as_bytes(), obtained.key.expose().as_bytes())
        {
            tracing::warn!(name, %error, "a certificate cannot be used");
            return None;
        }
        let third = end.duration_since(begin).unwrap_or_default() / 3;
        Some(end - third.min(RENEWAL_MAX))
    }

    async fn renew(&mut self, name: &str) {
        let outcome = self.obtain(name).await;
        let now = SystemTime::now();
        let due = outcome.and_then(|obtained| {
            // Kept first: what clients have seen must not be lost by a crash.
            self.keep(name, &obtained);
            self.serve(name, &obtained, now).ok_or(ObtainError::Unusable)
        });
        let Some(state) = self.names.get_mut(name) else { return };
        match due {
            Ok(due) => {
                tracing::info!(name, "a certificate was obtained");
                *state = Name { due, failures: 0, has_certificate: true };
            }
            Err(error) => {
                let pause = (RETRY_PAUSE * 2_u32.saturating_pow(state.failures)).min(RETRY_PAUSE_MAX);
                state.failures = (state.failures + 1).min(16);
                state.due = now + pause;
                let fix = error.fix();
                let retry = pause.as_secs();
                tracing::error!(name, %error, fix, retry_seconds = retry, "no certificate could be obtained");
            }
        }
    }

    fn keep(&self, name: &str, obtained: &Obtained) {
        if let Some(cache) = &self.cache
            && let Err(error) = cache.save(name, obtained)
        {
            tracing::error!(name, %error, "a certificate could not be kept: it is obtained again after a restart");
        }
    }

    /// Proves that the name is ours, by TLS, and if that fails and may be, over HTTP.
    async fn obtain(&mut self, name: &str) -> Result<Obtained, ObtainError> {
        let account = self.account().await?;
        let first = order::obtain(&account, name, ChallengeType::TlsAlpn01, &self.named, &self.tokens).await;
        match first {
            Err(error) if self.options.http.is_some() && error.is_about_proof() => {
                tracing::info!(name, %error, "the proof by TLS failed: it is tried over HTTP");
                order::obtain(&account, name, ChallengeType::Http01, &self.named, &self.tokens).await
            }
            first => first,
        }
    }

    /// The account that was kept, or a new one.
    async fn account(&mut self) -> Result<Account, ObtainError> {
        if let Some(account) = &self.account {
            return Ok(account.clone());
        }
        let directory = &self.options.directory_url;
        let builder = || Account::builder_with_http(Box::new(self.connection.clone()));
        if let Some(credentials) = self.cache.as_ref().and_then(|cache| cache.load_account(directory)) {
            let account = builder().from_credentials(credentials).await?;
            self.account = Some(account.clone());
            return Ok(account);
        }
        let contact = self.options.email.as_ref().map(|email| format!("mailto:{email}"));
        let contact: Vec<&str> = contact.as_deref().into_iter().collect();
        // Who turns this on agrees to the terms: the documentation says so.
        let wanted =
            NewAccount { contact: &contact, terms_of_service_agreed: true, only_return_existing: false };
        let external = self.options.external_account.as_ref();
        let external = external.map(|(id, key)| ExternalAccountKey::new(id.clone(), key.expose()));
        let (account, credentials) = builder().create(&wanted, directory.clone(), external.as_ref()).await?;
        if let Some(cache) = &self.cache
            && let Err(error) = cache.save_account(directory, &credentials)
        {
            tracing::error!(%error, "the account with the authority could not be kept");
        }
        self.account = Some(account.clone());
        Ok(account)
    }
}

/// True if a public authority could give a certificate for the name: a host's, of more than one label.
pub fn is_public_name(name: &str) -> bool {
    name.trim_end_matches('.').contains('.') && is_host_name(name)
}

/// True if some authority could give a certificate for the name: labels, and no address.
pub fn is_host_name(name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name);
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let is_number =
        name.rsplit('.').next().is_some_and(|last| last.bytes().all(|byte| byte.is_ascii_digit()));
    name.len() <= 253 && name.split('.').all(is_label) && !is_number
}

/// When the first certificate of a chain begins and ends to be valid.
fn validity(chain: &[u8]) -> Option<(SystemTime, SystemTime)> {
    let pem =
        Pem::iter_from_buffer(chain).find(|pem| pem.as_ref().is_ok_and(|pem| pem.label == "CERTIFICATE"))?;
    let pem = pem.ok()?;
    let validity = pem.parse_x509().ok()?.validity().clone();
    let time =
        |seconds: i64| SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds.try_into().ok()?));
    Some((time(validity.not_before.timestamp())?, time(validity.not_after.timestamp())?))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Names an authority would refuse are not asked for.
    #[test]
    fn only_public_names_are_asked_for() {
        for name in ["example.com", "a.b-c.example.com.", "xn--e1afmkfd.example"] {
            assert!(is_public_name(name), "{name}");
        }
        let long = format!("{}.com", "a".repeat(64));
        let others = [
            "",
            "localhost",
            "127.0.0.1",
            "*.example.com",
            "example..com",
            "-a.com",
            "a b.com",
            "../a.com",
            &long,
        ];
        for name in others {
            assert!(!is_public_name(name), "{name}");
        }
    }

    /// The validity is that of the first certificate, wherever the key stands.
    #[test]
    fn validity_is_that_of_the_first_certificate() {
        let params = |end: i64| {
            let mut params = rcgen::CertificateParams::new(["a.example".to_owned()]).unwrap();
            params.not_before = time::OffsetDateTime::from_unix_timestamp(1_000).unwrap();
            params.not_after = time::OffsetDateTime::from_unix_timestamp(end).unwrap();
            params
        };
        let key = rcgen::KeyPair::generate().unwrap();
        let leaf = params(5_000).self_signed(&key).unwrap();
        let issuer = params(9_000).self_signed(&key).unwrap();
        let text = format!("{}{}{}", key.serialize_pem(), leaf.pem(), issuer.pem());
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        assert_eq!(validity(text.as_bytes()), Some((at(1_000), at(5_000))));
        assert_eq!(validity(key.serialize_pem().as_bytes()), None);
    }
}
