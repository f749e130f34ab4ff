//! One JSON Web Key: a public key that tokens are verified with.
//!
//! Spec: RFC 7517 section 4; RFC 7518 section 6; RFC 8037 section 2 (Ed25519). Symmetric keys are not taken: what is
//! published is no secret.

use aws_lc_rs::{
    encoding::{AsDer, PublicKeyX509Der},
    rsa::PublicKeyComponents,
    signature::{ED25519, ParsedPublicKey},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::Deserialize;

use super::keys::{EcdsaKey, RsaKey, SignatureError};

/// A key as it is published.
#[derive(Deserialize)]
#[serde(default)]
#[derive(Default)]
pub(super) struct Jwk {
    pub(super) kid: Option<Box<str>>,
    kty: String,
    #[serde(rename = "use")]
    usage: Option<String>,
    alg: Option<Box<str>>,
    n: String,
    e: String,
    crv: String,
    x: String,
    y: String,
}

/// A key to verify with.
pub(super) struct PublicKey {
    /// The only algorithm it is for, if it says so.
    algorithm: Option<Box<str>>,
    family: Family,
}

enum Family {
    Rsa(RsaKey),
    Ecdsa(EcdsaKey),
    Ed25519(ParsedPublicKey),
}

impl Jwk {
    /// Prepares the key; `None` if it is not for signatures, or of a kind that is not known.
    pub(super) fn prepare(&self) -> Option<PublicKey> {
        if self.usage.as_deref() != Some("sig") {
            return None;
        }
        let family = match (&*self.kty, &*self.crv) {
            ("RSA", _) => Family::Rsa(self.rsa()?),
            ("EC", "P-256") => Family::Ecdsa(self.ecdsa(32)?),
            ("EC", "P-384") => Family::Ecdsa(self.ecdsa(48)?),
            ("EC", "P-521") => Family::Ecdsa(self.ecdsa(66)?),
            ("OKP", "Ed25519") => Family::Ed25519(ParsedPublicKey::new(&ED25519, decode(&self.x)?).ok()?),
            _ => return None,
        };
        Some(PublicKey { algorithm: self.alg.clone().filter(|alg| !alg.is_empty()), family })
    }

    fn rsa(&self) -> Option<RsaKey> {
        let (n, e) = (decode(&self.n)?, decode(&self.e)?);
        let components = PublicKeyComponents { n: without_zeros(&n), e: without_zeros(&e) };
        let spki: PublicKeyX509Der<'_> = components.as_der().ok()?;
        RsaKey::new(spki.as_ref())
    }

    /// Coordinates have the length of the curve.
    ///
    /// Spec: RFC 7518 section 6.2.1.2
    fn ecdsa(&self, coordinate_bytes: usize) -> Option<EcdsaKey> {
        const UNCOMPRESSED: u8 = 4;
        let (x, y) = (decode(&self.x)?, decode(&self.y)?);
        if x.len() != coordinate_bytes || y.len() != coordinate_bytes {
            return None;
        }
        EcdsaKey::new(&[&[UNCOMPRESSED], &*x, &*y].concat())
    }
}

impl PublicKey {
    /// Verifies a signature made with the algorithm a token's header names. The key's own algorithm, if it has one,
    /// must be the same.
    ///
    /// Spec: RFC 8725 section 3.1
    pub(super) fn verify(
        &self,
        algorithm: &str,
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), SignatureError> {
        if self.algorithm.as_deref().is_some_and(|own| own != algorithm) {
            return Err(SignatureError::NoKey);
        }
        let key = match &self.family {
            Family::Rsa(key) => key.of(algorithm),
            Family::Ecdsa(key) => key.of(algorithm),
            Family::Ed25519(key) => (algorithm == "EdDSA").then_some(key),
        };
        let key = key.ok_or(SignatureError::NoKey)?;
        key.verify_sig(message, signature).map_err(|_| SignatureError::Mismatch)
    }
}

fn decode(text: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text).ok()
}

/// Some publish numbers with zeros before them.
fn without_zeros(number: &[u8]) -> &[u8] {
    let first = number.iter().position(|byte| *byte != 0).unwrap_or(number.len());
    &number[first..]
}
