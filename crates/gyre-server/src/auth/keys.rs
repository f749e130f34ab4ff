//! Keys that tokens are verified with. Each is parsed and prepared once.
//!
//! Why not one of the JWT crates: `docs/decisions/001-jwt-with-aws-lc.md`.

use aws_lc_rs::{
    hmac,
    rsa::PublicEncryptingKey,
    signature::{
        ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ECDSA_P521_SHA512_FIXED, ED25519, ParsedPublicKey,
        RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512,
        VerificationAlgorithm,
    },
};
use rustls::{
    pki_types::{
        CertificateDer,
        pem::{PemObject, SectionKind},
    },
    server::ParsedCertificate,
};

/// Why a configured key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The value is not PEM.
    #[error("{option}: not a PEM public key or certificate: {reason}")]
    Pem {
        /// Name of the option.
        option: &'static str,
        /// What the PEM reader says.
        reason: rustls::pki_types::pem::Error,
    },
    /// The value is PEM of something else, a private key for example.
    #[error("{option}: neither a public key nor a certificate")]
    NotPublicKey {
        /// Name of the option.
        option: &'static str,
    },
    /// The certificate cannot be read.
    #[error("{option}: the certificate cannot be read: {reason}")]
    Certificate {
        /// Name of the option.
        option: &'static str,
        /// What the certificate reader says.
        reason: rustls::Error,
    },
    /// Published keys cannot be fetched over TLS.
    #[error("jwks_public_endpoint: cannot set up TLS: {0}")]
    Tls(#[from] crate::hooks::ClientTlsError),
    /// The key is none of RSA with 2,048 to 8,192 bits.
    #[error("rsa_public_key: not an RSA key of 2048 to 8192 bits")]
    Rsa,
    /// The key is none of ECDSA on P-256, P-384 or P-521.
    #[error("ecdsa_public_key: not an ECDSA key on P-256, P-384 or P-521")]
    Ecdsa,
    /// The key is none of Ed25519.
    #[error("ed25519_public_key: not an Ed25519 key")]
    Ed25519,
}

/// Why a signature does not count.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum SignatureError {
    #[error("signature algorithm is not supported")]
    UnknownAlgorithm,
    #[error("no key is configured for the signature algorithm")]
    NoKey,
    #[error("signature does not match")]
    Mismatch,
}

/// The configured keys. An algorithm only ever meets keys of its own family, so that a public key can never be taken
/// for an HMAC secret.
///
/// Spec: RFC 7518 section 3.1; RFC 8725 section 3.1.
#[derive(Default)]
pub(super) struct KeySet {
    /// The present secret and the previous one, tried in this order.
    hmac: Vec<HmacSecret>,
    rsa: Option<RsaKey>,
    ecdsa: Option<EcdsaKey>,
    ed25519: Option<ParsedPublicKey>,
}

struct HmacSecret {
    sha256: hmac::Key,
    sha384: hmac::Key,
    sha512: hmac::Key,
    /// Last Unix second at which it counts.
    valid_until: Option<i64>,
}

pub(super) struct RsaKey {
    sha256: ParsedPublicKey,
    sha384: ParsedPublicKey,
    sha512: ParsedPublicKey,
}

pub(super) struct EcdsaKey {
    /// The one algorithm that belongs to the key's curve.
    algorithm: &'static str,
    key: ParsedPublicKey,
}

impl KeySet {
    pub(super) fn add_hmac(&mut self, secret: &str, valid_until: Option<i64>) {
        let key = |algorithm| hmac::Key::new(algorithm, secret.as_bytes());
        self.hmac.push(HmacSecret {
            sha256: key(hmac::HMAC_SHA256),
            sha384: key(hmac::HMAC_SHA384),
            sha512: key(hmac::HMAC_SHA512),
            valid_until,
        });
    }

    pub(super) fn set_rsa(&mut self, pem: &str) -> Result<(), KeyError> {
        let spki = public_key("rsa_public_key", pem)?;
        self.rsa = Some(RsaKey::new(&spki).ok_or(KeyError::Rsa)?);
        Ok(())
    }

    pub(super) fn set_ecdsa(&mut self, pem: &str) -> Result<(), KeyError> {
        let spki = public_key("ecdsa_public_key", pem)?;
        self.ecdsa = Some(EcdsaKey::new(&spki).ok_or(KeyError::Ecdsa)?);
        Ok(())
    }

    pub(super) fn set_ed25519(&mut self, pem: &str) -> Result<(), KeyError> {
        let spki = public_key("ed25519_public_key", pem)?;
        self.ed25519 = Some(ParsedPublicKey::new(&ED25519, spki).map_err(|_| KeyError::Ed25519)?);
        Ok(())
    }

    /// Verifies a signature. `now` is Unix time in seconds.
    pub(super) fn verify(
        &self,
        algorithm: &str,
        message: &[u8],
        signature: &[u8],
        now: f64,
    ) -> Result<(), SignatureError> {
        let hmac = |pick: fn(&HmacSecret) -> &hmac::Key| {
            if self.hmac.is_empty() {
                return Err(SignatureError::NoKey);
            }
            let mut keys = self.hmac.iter().filter(|key| key.is_valid(now)).map(pick);
            match keys.any(|key| hmac::verify(key, message, signature).is_ok()) {
                true => Ok(()),
                false => Err(SignatureError::Mismatch),
            }
        };
        let public = |key: Option<&ParsedPublicKey>| {
            let key = key.ok_or(SignatureError::NoKey)?;
            key.verify_sig(message, signature).map_err(|_| SignatureError::Mismatch)
        };
        match algorithm {
            "HS256" => hmac(|key| &key.sha256),
            "HS384" => hmac(|key| &key.sha384),
            "HS512" => hmac(|key| &key.sha512),
            "RS256" | "RS384" | "RS512" => public(self.rsa.as_ref().and_then(|key| key.of(algorithm))),
            "ES256" | "ES384" | "ES512" => public(self.ecdsa.as_ref().and_then(|key| key.of(algorithm))),
            "EdDSA" => public(self.ed25519.as_ref()),
            _ => Err(SignatureError::UnknownAlgorithm),
        }
    }
}

impl RsaKey {
    /// A key from its SubjectPublicKeyInfo (DER); `None` if it is none of a size that is accepted.
    pub(super) fn new(spki: &[u8]) -> Option<Self> {
        // Verifying would refuse a key of another size, but only token by token.
        PublicEncryptingKey::from_der(spki).ok()?;
        let key = |algorithm| ParsedPublicKey::new(algorithm, spki).ok();
        Some(Self {
            sha256: key(&RSA_PKCS1_2048_8192_SHA256)?,
            sha384: key(&RSA_PKCS1_2048_8192_SHA384)?,
            sha512: key(&RSA_PKCS1_2048_8192_SHA512)?,
        })
    }

    /// The key for an algorithm, if it is one of RSA.
    pub(super) fn of(&self, algorithm: &str) -> Option<&ParsedPublicKey> {
        match algorithm {
            "RS256" => Some(&self.sha256),
            "RS384" => Some(&self.sha384),
            "RS512" => Some(&self.sha512),
            _ => None,
        }
    }
}

impl EcdsaKey {
    /// A key from its SubjectPublicKeyInfo (DER) or its uncompressed point; `None` if it is on no curve that is known.
    pub(super) fn new(key: &[u8]) -> Option<Self> {
        // A key is accepted for its own curve only, so the first that takes it is the right one.
        CURVES.iter().find_map(|&(algorithm, curve)| {
            ParsedPublicKey::new(curve, key).ok().map(|key| Self { algorithm, key })
        })
    }

    /// The key for an algorithm, if it is the one of its curve.
    pub(super) fn of(&self, algorithm: &str) -> Option<&ParsedPublicKey> {
        (self.algorithm == algorithm).then_some(&self.key)
    }
}

impl HmacSecret {
    fn is_valid(&self, now: f64) -> bool {
        self.valid_until.is_none_or(|until| now <= until as f64)
    }
}

/// Spec: RFC 7518 section 3.4.
static CURVES: [(&str, &'static dyn VerificationAlgorithm); 3] = [
    ("ES256", &ECDSA_P256_SHA256_FIXED),
    ("ES384", &ECDSA_P384_SHA384_FIXED),
    ("ES512", &ECDSA_P521_SHA512_FIXED),
];

/// The SubjectPublicKeyInfo (DER) of a PEM public key or certificate.
fn public_key(option: &'static str, pem: &str) -> Result<Vec<u8>, KeyError> {
    let (kind, der) = <(SectionKind, Vec<u8>)>::from_pem_slice(pem.as_bytes())
        .map_err(|reason| KeyError::Pem { option, reason })?;
    match kind {
        SectionKind::PublicKey => Ok(der),
        SectionKind::Certificate => {
            let certificate = CertificateDer::from(der);
            let parsed = ParsedCertificate::try_from(&certificate)
                .map_err(|reason| KeyError::Certificate { option, reason })?;
            Ok(parsed.subject_public_key_info().to_vec())
        }
        _ => Err(KeyError::NotPublicKey { option }),
    }
}
