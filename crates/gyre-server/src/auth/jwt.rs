//! The compact form of JSON Web Signatures.
//!
//! Spec: RFC 7515 section 7.1, RFC 7519

use aws_lc_rs::hmac;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::Deserialize;

/// Bytes of a token at most; more is invalid.
const TOKEN_BYTES_MAX: usize = 16 * 1024;

/// A token taken apart.
#[derive(Debug)]
pub(super) struct Jwt<'a> {
    /// What the signature is over.
    pub(super) signed: &'a str,
    pub(super) algorithm: String,
    pub(super) signature: Vec<u8>,
    /// The claims as JSON text.
    pub(super) claims: Vec<u8>,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
}

impl<'a> Jwt<'a> {
    /// Takes a token apart.
    ///
    /// # Errors
    /// What is malformed.
    pub(super) fn parse(token: &'a str) -> Result<Self, &'static str> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err("the token is too long");
        }
        let (signed, signature) = token.rsplit_once('.').ok_or("a token has three parts")?;
        let (header, claims) = signed.split_once('.').ok_or("a token has three parts")?;
        let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).map_err(|_| "a part is not base64url");
        let header: Header =
            serde_json::from_slice(&decode(header)?).map_err(|_| "the header is malformed")?;
        Ok(Self { signed, algorithm: header.alg, signature: decode(signature)?, claims: decode(claims)? })
    }
}

/// Makes a token signed with HS256.
pub fn sign_hs256(secret: &str, claims: &serde_json::Value) -> String {
    let header = URL_SAFE_NO_PAD.encode(br#"{"alg":"HS256","typ":"JWT"}"#);
    let signed = format!("{header}.{}", URL_SAFE_NO_PAD.encode(claims.to_string()));
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    let signature = URL_SAFE_NO_PAD.encode(hmac::sign(&key, signed.as_bytes()));
    format!("{signed}.{signature}")
}
