//! Makes tokens, for the `gentoken` and `gensubtoken` commands.

use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Map, Value, json};

use super::{Signer, SignerError};

/// A token to be made. Holds a key, therefore no `Debug`.
#[derive(Clone, Copy)]
pub struct TokenRequest<'a> {
    /// What signs it.
    pub signer: &'a Signer,
    /// Names the key in the header (`kid`).
    pub key_id: Option<&'a str>,
    /// Names the issuer (`iss`).
    pub issuer: Option<&'a str>,
    /// Whom it is for (`aud`).
    pub audience: Option<&'a str>,
    /// User id; empty for an anonymous user.
    pub user: &'a str,
    /// `user_id_claim`: a claim that gets the user as well.
    pub user_id_claim: Option<&'a str>,
    /// The channel of a subscription token; `None` makes a connection token.
    pub channel: Option<&'a str>,
    /// Unix time in seconds.
    pub issued_at: i64,
    /// Time until it expires, in whole seconds; `None` makes a token that never does.
    pub ttl: Option<Duration>,
}

impl TokenRequest<'_> {
    /// The token.
    ///
    /// # Errors
    /// If the key cannot sign.
    ///
    /// Spec: RFC 7515 section 7.1
    pub fn sign(&self) -> Result<String, SignerError> {
        let mut header = json!({"alg": self.signer.algorithm(), "typ": "JWT"});
        if let Some(key_id) = self.key_id {
            header["kid"] = key_id.into();
        }
        let (header, claims) = (header.to_string(), Value::Object(self.claims()).to_string());
        let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
        let signature = self.signer.sign(signed.as_bytes())?;
        Ok(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }

    fn claims(&self) -> Map<String, Value> {
        let mut claims = Map::new();
        let mut insert = |name: &str, value| claims.insert(name.to_owned(), value);
        insert("sub", self.user.into());
        insert("iat", self.issued_at.into());
        if let Some(ttl) = self.ttl {
            let ttl = i64::try_from(ttl.as_secs()).unwrap_or(i64::MAX);
            insert("exp", self.issued_at.saturating_add(ttl).into());
        }
        let texts = [("channel", self.channel), ("iss", self.issuer), ("aud", self.audience)];
        for (name, text) in texts {
            if let Some(text) = text {
                insert(name, text.into());
            }
        }
        if let Some(name) = self.user_id_claim.filter(|name| !name.is_empty()) {
            insert(name, self.user.into());
        }
        claims
    }
}
