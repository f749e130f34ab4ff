//! JSON Web Tokens in compact form, taken apart. Signatures and the meaning of claims are judged elsewhere.

use std::borrow::Cow;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use gyre_core::ports::TokenError;
use serde::{Deserialize, de::IgnoredAny};

/// Longest token accepted, in bytes; a longer one is invalid. Bounds all memory a token can claim: every decoded part
/// and collection is smaller than the text it came from.
pub const TOKEN_BYTES_MAX: usize = 16 * 1024;

/// A token whose three parts are decoded, but whose signature has not been looked at.
///
/// Spec: RFC 7515 section 7.1.
pub(super) struct Jwt<'t> {
    /// What the signature covers: header and claims as they were sent.
    signed: &'t [u8],
    /// Header, claims and signature, decoded one after the other into one allocation.
    decoded: Vec<u8>,
    claims_start: usize,
    signature_start: usize,
}

/// The members of the header that matter.
///
/// Spec: RFC 7515 section 4.1.
#[derive(Deserialize)]
pub(super) struct Header<'h> {
    /// Signature algorithm; names are case-sensitive.
    #[serde(borrow)]
    pub(super) alg: Cow<'h, str>,
    /// Names the key, where there are several.
    #[serde(borrow, default)]
    pub(super) kid: Option<Cow<'h, str>>,
    crit: Option<IgnoredAny>,
}

/// Why a token cannot be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum JwtError {
    #[error("longer than {TOKEN_BYTES_MAX} bytes")]
    TooLong,
    #[error("not three parts separated by dots")]
    NotThreeParts,
    #[error("a part is not base64url without padding: {0}")]
    Base64(#[from] base64::DecodeError),
    #[error("header or claims are not a JSON object")]
    NotObject,
    #[error("header or claims cannot be decoded: {0}")]
    Json(#[from] serde_json::Error),
    #[error("the header demands an extension (crit)")]
    CriticalExtension,
}

impl<'t> Jwt<'t> {
    pub(super) fn parse(token: &'t str) -> Result<Self, JwtError> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(JwtError::TooLong);
        }
        let (signed, signature) = token.rsplit_once('.').ok_or(JwtError::NotThreeParts)?;
        let (header, claims) = signed.split_once('.').ok_or(JwtError::NotThreeParts)?;
        if claims.contains('.') {
            return Err(JwtError::NotThreeParts);
        }
        let mut decoded = Vec::with_capacity(token.len());
        URL_SAFE_NO_PAD.decode_vec(header, &mut decoded)?;
        let claims_start = decoded.len();
        URL_SAFE_NO_PAD.decode_vec(claims, &mut decoded)?;
        let signature_start = decoded.len();
        URL_SAFE_NO_PAD.decode_vec(signature, &mut decoded)?;
        Ok(Self { signed: signed.as_bytes(), decoded, claims_start, signature_start })
    }

    /// The header.
    ///
    /// # Errors
    /// If it cannot be decoded, or demands an extension: none is supported, and the sender says that ignoring one is
    /// not safe.
    ///
    /// Spec: RFC 7515 section 4.1.11.
    pub(super) fn header(&self) -> Result<Header<'_>, JwtError> {
        let header: Header<'_> = object(&self.decoded[..self.claims_start])?;
        match header.crit {
            Some(_) => Err(JwtError::CriticalExtension),
            None => Ok(header),
        }
    }

    /// The claims, or those among them that `C` names. Call it once per group of claims.
    pub(super) fn claims<'c, C: Deserialize<'c>>(&'c self) -> Result<C, JwtError> {
        object(&self.decoded[self.claims_start..self.signature_start])
    }

    pub(super) fn signed(&self) -> &'t [u8] {
        self.signed
    }

    pub(super) fn signature(&self) -> &[u8] {
        &self.decoded[self.signature_start..]
    }
}

impl From<JwtError> for TokenError {
    fn from(error: JwtError) -> Self {
        Self::Invalid { reason: error.to_string() }
    }
}

/// Decodes a JSON object. serde would also fill a struct from an array, by position, which no token may rely on.
fn object<'j, T: Deserialize<'j>>(json: &'j [u8]) -> Result<T, JwtError> {
    if json.trim_ascii_start().first() != Some(&b'{') {
        return Err(JwtError::NotObject);
    }
    Ok(serde_json::from_slice(json)?)
}
