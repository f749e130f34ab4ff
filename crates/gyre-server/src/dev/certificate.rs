//! A certificate of the server's own, of the kind that browsers accept by its hash.
//!
//! Such a certificate may be valid for 14 days at most, so a server that stays up must change it, and clients must
//! know the hash of the next one before it is served. The life of one certificate, in days from its making:
//!
//! ```text
//! 0 ────── announced ────── 2 ────────── served ────────── 12 ── 13 end of validity
//!                                                  10 ── next one made and announced
//! ```
//!
//! (The first one is served at once.) Between the making of the next one and the change both hashes are announced;
//! the change comes a day before the end, so that a client whose clock is wrong by hours still connects.
//!
//! Time comes in as an argument: whoever owns the certificates calls [`Certificates::advance`] at
//! [`Certificates::next_change`].
//!
//! Spec: W3C WebTransport, "verify a certificate hash" and "custom certificate requirements".

use std::time::{Duration, SystemTime};

use aws_lc_rs::digest::{SHA256, digest};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256, PublicKeyData as _,
};
use rustls::{
    pki_types::{CertificateDer, pem::PemObject as _},
    server::ParsedCertificate,
};
use serde::{Deserialize, Serialize};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::state::{StateFolder, StateWarning};

const HOUR: i64 = 3600;
const DAY: i64 = 24 * HOUR;
/// Validity; browsers accept 14 days at most.
const VALIDITY: i64 = 13 * DAY;
/// The validity begins this much before the making, for clients whose clock is slow.
const BACKDATING: i64 = HOUR;
/// The next certificate is made and announced this long before the end of the present one.
const ANNOUNCED_BEFORE_END: i64 = 3 * DAY;
/// The next certificate is served from this long before the end of the present one.
const SERVED_BEFORE_END: i64 = DAY;
/// Names that every certificate has.
const LOOPBACK_NAMES: [&str; 3] = ["localhost", "127.0.0.1", "::1"];
const FILE: &str = "certificate.json";

/// Why no certificate can be made.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// A name cannot be put into a certificate, or making it failed.
    #[error("the certificate cannot be made: {0}")]
    Make(#[from] rcgen::Error),
    /// The clock shows a time that a certificate cannot express.
    #[error("the clock is out of range: {0}")]
    Clock(#[from] time::error::ComponentRange),
    /// What was just made cannot be read back.
    #[error("the certificate just made is not usable: {0}")]
    Unusable(#[from] UnusableCertificate),
}

/// Why a stored certificate cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum UnusableCertificate {
    /// It is not a PEM certificate.
    #[error("malformed PEM: {0}")]
    Pem(#[from] rustls::pki_types::pem::Error),
    /// The certificate cannot be read.
    #[error("the certificate cannot be read: {0}")]
    Certificate(#[from] rustls::Error),
    /// The private key cannot be read.
    #[error("the private key cannot be read: {0}")]
    Key(#[from] rcgen::Error),
    /// The key is not on P-256, or another certificate's.
    #[error("the private key does not belong to the certificate")]
    OtherKey,
    /// The validity is empty or longer than browsers accept.
    #[error("the validity is out of range")]
    Validity,
}

/// What [`Certificates::advance`] did.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Nothing was due.
    Nothing,
    /// The next certificate is announced: [`Certificates::hashes`] has it.
    Announced,
    /// Another certificate is to be served from now on.
    Served,
}

/// The certificate being served, and the next one once it is announced.
#[derive(Debug)]
pub struct Certificates {
    folder: StateFolder,
    names: Vec<String>,
    current: PinnedCertificate,
    next: Option<PinnedCertificate>,
}

/// A self-signed ECDSA P-256 certificate with its private key.
pub struct PinnedCertificate {
    stored: StoredCertificate,
    certificate_hash: [u8; 32],
    key_hash: [u8; 32],
}

/// How a client can name a certificate it trusts.
///
/// Spec: W3C WebTransport, `WebTransportHash`; the other members are for people and tools.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CertificateHash {
    /// Always `sha-256`.
    pub algorithm: &'static str,
    /// Base64 of the SHA-256 of the certificate (DER).
    pub value: String,
    /// Base64 of the SHA-256 of its public key (SubjectPublicKeyInfo), as Chromium's command line takes it.
    pub spki: String,
    /// End of validity, RFC 3339.
    pub not_after: String,
}

#[derive(Serialize, Deserialize)]
struct Stored {
    current: StoredCertificate,
    next: Option<StoredCertificate>,
}

#[derive(Clone, Serialize, Deserialize)]
struct StoredCertificate {
    certificate: String,
    private_key: String,
    /// Names in the certificate beyond the loopback ones.
    names: Vec<String>,
    /// Unix time in seconds.
    not_before: i64,
    not_after: i64,
}

impl Certificates {
    /// The certificates of the state folder, brought up to date; new ones if there are none for these names.
    ///
    /// `names` are host names and addresses beyond `localhost` and the loopback addresses.
    ///
    /// # Errors
    /// If no certificate can be made, because of a name that is none, for example.
    pub fn load_or_create(
        folder: StateFolder,
        names: &[String],
        now: SystemTime,
        warnings: &mut Vec<StateWarning>,
    ) -> Result<Self, CertificateError> {
        let usable = |stored: Stored, warnings: &mut Vec<StateWarning>| {
            let read = PinnedCertificate::read(stored.current)
                .and_then(|current| Ok((current, stored.next.map(PinnedCertificate::read).transpose()?)));
            let unusable = |error: UnusableCertificate| {
                let file = folder.path().join(FILE);
                warnings.push(StateWarning::Replaced { file, reason: error.into() });
            };
            read.map_err(unusable).ok().filter(|(current, next)| {
                current.serves(names, now) && next.as_ref().is_none_or(|next| next.serves(names, now))
            })
        };
        let stored = folder.load(FILE, warnings).and_then(|stored| usable(stored, warnings));
        let is_new = stored.is_none();
        let (current, next) = match stored {
            Some(stored) => stored,
            None => (PinnedCertificate::make(names, now)?, None),
        };
        let mut certificates = Self { folder, names: names.to_vec(), current, next };
        if certificates.advance(now, warnings)? == Change::Nothing && is_new {
            certificates.save(warnings);
        }
        Ok(certificates)
    }

    /// The certificate to serve.
    pub fn current(&self) -> &PinnedCertificate {
        &self.current
    }

    /// Hashes of the certificate being served and, once announced, of the next one.
    pub fn hashes(&self) -> Vec<CertificateHash> {
        [Some(&self.current), self.next.as_ref()].into_iter().flatten().map(PinnedCertificate::hash).collect()
    }

    /// When [`Self::advance`] has something to do.
    pub fn next_change(&self) -> SystemTime {
        let before_end = if self.next.is_none() { ANNOUNCED_BEFORE_END } else { SERVED_BEFORE_END };
        let due = self.current.stored.not_after - before_end;
        SystemTime::UNIX_EPOCH + Duration::from_secs(due.max(0).unsigned_abs())
    }

    /// Does what is due: makes and announces the next certificate, or lets it take over.
    ///
    /// # Errors
    /// If no certificate can be made; the present one then stays, and the call may be repeated.
    pub fn advance(
        &mut self,
        now: SystemTime,
        warnings: &mut Vec<StateWarning>,
    ) -> Result<Change, CertificateError> {
        let unix = unix_seconds(now);
        let mut change = Change::Nothing;
        if unix >= self.current.stored.not_after - SERVED_BEFORE_END {
            // After a long sleep the next one may be as old as the present one.
            let is_fresh = |next: &PinnedCertificate| unix < next.stored.not_after - SERVED_BEFORE_END;
            self.current = match self.next.take().filter(is_fresh) {
                Some(next) => next,
                None => PinnedCertificate::make(&self.names, now)?,
            };
            change = Change::Served;
        }
        if self.next.is_none() && unix >= self.current.stored.not_after - ANNOUNCED_BEFORE_END {
            self.next = Some(PinnedCertificate::make(&self.names, now)?);
            change = if change == Change::Nothing { Change::Announced } else { change };
        }
        if change != Change::Nothing {
            self.save(warnings);
        }
        Ok(change)
    }

    fn save(&self, warnings: &mut Vec<StateWarning>) {
        let stored = Stored {
            current: self.current.stored.clone(),
            next: self.next.as_ref().map(|next| next.stored.clone()),
        };
        self.folder.save(FILE, &stored, warnings);
    }
}

impl PinnedCertificate {
    /// The certificate as PEM.
    pub fn certificate_pem(&self) -> &str {
        &self.stored.certificate
    }

    /// The private key as PEM.
    pub fn private_key_pem(&self) -> &str {
        &self.stored.private_key
    }

    /// How a client names it.
    pub fn hash(&self) -> CertificateHash {
        let not_after = OffsetDateTime::from_unix_timestamp(self.stored.not_after).ok();
        CertificateHash {
            algorithm: "sha-256",
            value: STANDARD.encode(self.certificate_hash),
            spki: STANDARD.encode(self.key_hash),
            not_after: not_after.and_then(|end| end.format(&Rfc3339).ok()).unwrap_or_default(),
        }
    }

    fn make(names: &[String], now: SystemTime) -> Result<Self, CertificateError> {
        // Checked first: the sums below cannot overflow in the range of dates.
        OffsetDateTime::from_unix_timestamp(unix_seconds(now))?;
        let not_before = unix_seconds(now) - BACKDATING;
        let not_after = not_before + VALIDITY;
        let all_names = LOOPBACK_NAMES.into_iter().map(str::to_owned).chain(names.iter().cloned());
        let mut params = CertificateParams::new(all_names.collect::<Vec<_>>())?;
        params.not_before = OffsetDateTime::from_unix_timestamp(not_before)?;
        params.not_after = OffsetDateTime::from_unix_timestamp(not_after)?;
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, "Gyre");
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let certificate = params.self_signed(&key)?.pem();
        let private_key = key.serialize_pem();
        let names = names.to_vec();
        Ok(Self::read(StoredCertificate { certificate, private_key, names, not_before, not_after })?)
    }

    fn read(stored: StoredCertificate) -> Result<Self, UnusableCertificate> {
        let certificate = CertificateDer::from_pem_slice(stored.certificate.as_bytes())?;
        let public_key = ParsedCertificate::try_from(&certificate)?.subject_public_key_info();
        let key = KeyPair::from_pem(&stored.private_key)?;
        let is_p256 = key.is_compatible(&PKCS_ECDSA_P256_SHA256);
        if !is_p256 || key.subject_public_key_info() != public_key.as_ref() {
            return Err(UnusableCertificate::OtherKey);
        }
        if stored.not_after.checked_sub(stored.not_before) != Some(VALIDITY)
            || stored.not_before < -BACKDATING
        {
            return Err(UnusableCertificate::Validity);
        }
        let (certificate_hash, key_hash) = (sha256(&certificate), sha256(&public_key));
        Ok(Self { stored, certificate_hash, key_hash })
    }

    /// True if it has all these names and its validity has begun. (Its end is watched by `advance`.)
    fn serves(&self, names: &[String], now: SystemTime) -> bool {
        self.stored.not_before <= unix_seconds(now)
            && names.iter().all(|name| self.stored.names.contains(name))
    }
}

impl std::fmt::Debug for PinnedCertificate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("PinnedCertificate").field(&self.hash()).finish()
    }
}

/// The answer of the hash endpoint, as JSON.
pub fn hashes_document(hashes: &[CertificateHash]) -> String {
    serde_json::json!({ "hashes": hashes }).to_string()
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, bytes).as_ref());
    hash
}

fn unix_seconds(time: SystemTime) -> i64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
