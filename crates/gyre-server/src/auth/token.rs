//! Makes tokens, for the `gentoken` and `gensubtoken` commands.

use std::time::Duration;

use aws_lc_rs::hmac;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Map, Value};

/// A token to be made. Holds a secret, therefore no `Debug`.
#[derive(Clone, Copy)]
pub struct TokenRequest<'a> {
    /// HMAC secret (`hmac_secret_key`).
    pub secret: &'a str,
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
    /// The token, signed with HS256.
    ///
    /// Spec: RFC 7515 section 7.1; RFC 7518 section 3.2.
    pub fn sign(&self) -> String {
        let claims = Value::Object(self.claims()).to_string();
        let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(HEADER), URL_SAFE_NO_PAD.encode(claims));
        let key = hmac::Key::new(hmac::HMAC_SHA256, self.secret.as_bytes());
        let signature = hmac::sign(&key, signed.as_bytes());
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
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
        if let Some(channel) = self.channel {
            insert("channel", channel.into());
        }
        if let Some(name) = self.user_id_claim.filter(|name| !name.is_empty()) {
            insert(name, self.user.into());
        }
        claims
    }
}

const HEADER: &str = r#"{"alg":"HS256","typ":"JWT"}"#;
