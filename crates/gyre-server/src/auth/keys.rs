//! Keys that signatures are verified with, each bound to its algorithms.

use aws_lc_rs::{
    hmac,
    signature::{self, EcdsaVerificationAlgorithm, ParsedPublicKey, RsaParameters, UnparsedPublicKey},
};
use rustls::{
    pki_types::{CertificateDer, SubjectPublicKeyInfoDer, pem::PemObject},
    server::ParsedCertificate,
};

/// A configured key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// No public key or certificate in PEM.
    #[error("{key} is neither a public key nor a certificate in PEM")]
    NotPem {
        /// The configuration key.
        key: &'static str,
    },
    /// A key of another kind.
    #[error("{key} is not a key of that kind, or of an unsupported size or curve")]
    WrongKind {
        /// The configuration key.
        key: &'static str,
    },
}

/// An HMAC secret, prepared for each hash.
#[derive(Debug)]
pub(super) struct HmacKey([hmac::Key; 3]);

impl HmacKey {
    pub(super) fn new(secret: &str) -> Self {
        Self(
            [hmac::HMAC_SHA256, hmac::HMAC_SHA384, hmac::HMAC_SHA512]
                .map(|hash| hmac::Key::new(hash, secret.as_bytes())),
        )
    }

    pub(super) fn verify(&self, hash: Hash, message: &[u8], signature: &[u8]) -> bool {
        hmac::verify(&self.0[hash as usize], message, signature).is_ok()
    }
}

/// The hash of an algorithm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hash {
    Sha256,
    Sha384,
    Sha512,
}

/// An RSA public key.
#[derive(Debug)]
pub(super) struct RsaKey(Vec<u8>);

impl RsaKey {
    pub(super) fn new(pem: &str) -> Result<Self, KeyError> {
        const KEY: &str = "client.token.rsa_public_key";
        let der = public_key_info(pem).ok_or(KeyError::NotPem { key: KEY })?;
        match ParsedPublicKey::new(&signature::RSA_PKCS1_2048_8192_SHA256, &der) {
            Ok(_) => Ok(Self(der)),
            Err(_) => Err(KeyError::WrongKind { key: KEY }),
        }
    }

    pub(super) fn verify(&self, hash: Hash, message: &[u8], given: &[u8]) -> bool {
        let algorithm: &'static RsaParameters = match hash {
            Hash::Sha256 => &signature::RSA_PKCS1_2048_8192_SHA256,
            Hash::Sha384 => &signature::RSA_PKCS1_2048_8192_SHA384,
            Hash::Sha512 => &signature::RSA_PKCS1_2048_8192_SHA512,
        };
        UnparsedPublicKey::new(algorithm, &self.0).verify(message, given).is_ok()
    }
}

/// An ECDSA public key; its curve decides the hash.
#[derive(Debug)]
pub(super) struct EcdsaKey {
    der: Vec<u8>,
    hash: Hash,
    algorithm: &'static EcdsaVerificationAlgorithm,
}

impl EcdsaKey {
    pub(super) fn new(pem: &str) -> Result<Self, KeyError> {
        const KEY: &str = "client.token.ecdsa_public_key";
        let der = public_key_info(pem).ok_or(KeyError::NotPem { key: KEY })?;
        let curves: [(Hash, &'static EcdsaVerificationAlgorithm); 3] = [
            (Hash::Sha256, &signature::ECDSA_P256_SHA256_FIXED),
            (Hash::Sha384, &signature::ECDSA_P384_SHA384_FIXED),
            (Hash::Sha512, &signature::ECDSA_P521_SHA512_FIXED),
        ];
        let fits =
            |algorithm: &'static EcdsaVerificationAlgorithm| ParsedPublicKey::new(algorithm, &der).is_ok();
        match curves.into_iter().find(|&(_, algorithm)| fits(algorithm)) {
            Some((hash, algorithm)) => Ok(Self { der, hash, algorithm }),
            None => Err(KeyError::WrongKind { key: KEY }),
        }
    }

    pub(super) fn verify(&self, hash: Hash, message: &[u8], given: &[u8]) -> bool {
        hash == self.hash && UnparsedPublicKey::new(self.algorithm, &self.der).verify(message, given).is_ok()
    }
}

/// The public key of PEM text, which may be a certificate.
fn public_key_info(pem: &str) -> Option<Vec<u8>> {
    if let Ok(key) = SubjectPublicKeyInfoDer::from_pem_slice(pem.as_bytes()) {
        return Some(key.to_vec());
    }
    let certificate = CertificateDer::from_pem_slice(pem.as_bytes()).ok()?;
    let parsed = ParsedCertificate::try_from(&certificate).ok()?;
    Some(parsed.subject_public_key_info().to_vec())
}
