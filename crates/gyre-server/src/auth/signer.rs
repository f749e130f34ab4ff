//! Signs tokens, for the commands that make them.

use aws_lc_rs::{
    hmac, rand,
    signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, ECDSA_P521_SHA512_FIXED_SIGNING,
        EcdsaKeyPair, EcdsaSigningAlgorithm, Ed25519KeyPair, RSA_PKCS1_SHA256, RSA_PKCS1_SHA384,
        RSA_PKCS1_SHA512, RsaEncoding, RsaKeyPair,
    },
};
use rustls::pki_types::{PrivateKeyDer, pem::PemObject};

/// A key with the algorithm it signs with.
pub struct Signer {
    /// As headers of tokens name it.
    algorithm: &'static str,
    key: Key,
}

enum Key {
    Hmac(Box<hmac::Key>),
    Rsa(Box<RsaKeyPair>, &'static dyn RsaEncoding),
    Ecdsa(EcdsaKeyPair),
    Ed25519(Box<Ed25519KeyPair>),
}

/// Why a key does not sign.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignerError {
    /// No key at all.
    #[error("no private key in PEM: {0}")]
    Pem(String),
    /// A key of another kind.
    #[error("neither an RSA, an ECDSA (P-256, P-384, P-521) nor an Ed25519 key")]
    UnknownKey,
    /// The key is not for the algorithm.
    #[error("the key does not sign with {0}")]
    OtherAlgorithm(String),
    /// Signing failed.
    #[error("the key cannot sign")]
    Failed,
}

impl Signer {
    /// Signs with a secret: with HS256 unless `algorithm` says otherwise.
    ///
    /// # Errors
    /// If that is not an algorithm with secrets.
    pub fn with_secret(secret: &str, algorithm: Option<&str>) -> Result<Self, SignerError> {
        let wanted = algorithm.unwrap_or("HS256");
        let known =
            [("HS256", hmac::HMAC_SHA256), ("HS384", hmac::HMAC_SHA384), ("HS512", hmac::HMAC_SHA512)];
        let known = known.into_iter().find(|(name, _)| *name == wanted);
        let (algorithm, hash) = known.ok_or_else(|| SignerError::OtherAlgorithm(wanted.into()))?;
        Ok(Self { algorithm, key: Key::Hmac(Box::new(hmac::Key::new(hash, secret.as_bytes()))) })
    }

    /// Signs with a private key in PEM (PKCS#8, or the older forms of RSA and ECDSA). Without `algorithm`, an RSA key signs
    /// with RS256, the others with the one they are for.
    ///
    /// # Errors
    /// If it is no such key, or not for the algorithm.
    pub fn with_private_key(pem: &str, algorithm: Option<&str>) -> Result<Self, SignerError> {
        let der = PrivateKeyDer::from_pem_slice(pem.as_bytes());
        let der = der.map_err(|error| SignerError::Pem(error.to_string()))?;
        let signer = Self::rsa(&der, algorithm).or_else(|| Self::ecdsa(&der)).or_else(|| Self::ed25519(&der));
        let signer = signer.ok_or(SignerError::UnknownKey)?;
        match algorithm.filter(|&wanted| wanted != signer.algorithm) {
            Some(wanted) => Err(SignerError::OtherAlgorithm(wanted.into())),
            None => Ok(signer),
        }
    }

    fn rsa(der: &PrivateKeyDer<'_>, algorithm: Option<&str>) -> Option<Self> {
        let key = match der {
            PrivateKeyDer::Pkcs1(der) => RsaKeyPair::from_der(der.secret_pkcs1_der()).ok()?,
            PrivateKeyDer::Pkcs8(der) => RsaKeyPair::from_pkcs8(der.secret_pkcs8_der()).ok()?,
            _ => return None,
        };
        let (algorithm, padding): (_, &'static dyn RsaEncoding) = match algorithm {
            Some("RS384") => ("RS384", &RSA_PKCS1_SHA384),
            Some("RS512") => ("RS512", &RSA_PKCS1_SHA512),
            _ => ("RS256", &RSA_PKCS1_SHA256),
        };
        Some(Self { algorithm, key: Key::Rsa(Box::new(key), padding) })
    }

    fn ecdsa(der: &PrivateKeyDer<'_>) -> Option<Self> {
        let curves: [(_, &'static EcdsaSigningAlgorithm); 3] = [
            ("ES256", &ECDSA_P256_SHA256_FIXED_SIGNING),
            ("ES384", &ECDSA_P384_SHA384_FIXED_SIGNING),
            ("ES512", &ECDSA_P521_SHA512_FIXED_SIGNING),
        ];
        curves.into_iter().find_map(|(algorithm, curve)| {
            let key = match der {
                PrivateKeyDer::Sec1(der) => EcdsaKeyPair::from_private_key_der(curve, der.secret_sec1_der()),
                PrivateKeyDer::Pkcs8(der) => EcdsaKeyPair::from_pkcs8(curve, der.secret_pkcs8_der()),
                _ => return None,
            };
            Some(Self { algorithm, key: Key::Ecdsa(key.ok()?) })
        })
    }

    fn ed25519(der: &PrivateKeyDer<'_>) -> Option<Self> {
        let PrivateKeyDer::Pkcs8(der) = der else { return None };
        // Also keys without their public part, as OpenSSL writes them.
        let key = Ed25519KeyPair::from_pkcs8_maybe_unchecked(der.secret_pkcs8_der()).ok()?;
        Some(Self { algorithm: "EdDSA", key: Key::Ed25519(Box::new(key)) })
    }

    /// The name of the algorithm.
    ///
    /// Spec: RFC 7518 section 3.1; RFC 8037 section 3.1
    pub fn algorithm(&self) -> &'static str {
        self.algorithm
    }

    /// The signature.
    ///
    /// # Errors
    /// If an RSA key is too small for its hash, or the random source fails.
    pub fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SignerError> {
        let random = rand::SystemRandom::new();
        match &self.key {
            Key::Hmac(key) => Ok(hmac::sign(key, message).as_ref().to_vec()),
            Key::Rsa(key, padding) => {
                let mut signature = vec![0; key.public_modulus_len()];
                let signed = key.sign(*padding, &random, message, &mut signature);
                signed.map(|()| signature).map_err(|_| SignerError::Failed)
            }
            Key::Ecdsa(key) => {
                let signature = key.sign(&random, message).map_err(|_| SignerError::Failed)?;
                Ok(signature.as_ref().to_vec())
            }
            Key::Ed25519(key) => Ok(key.sign(message).as_ref().to_vec()),
        }
    }
}
