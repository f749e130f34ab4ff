//! Says in the log why a token was refused. Clients learn a code only.
//!
//! What a refused token claims is not proven, but tells who should look into it. The token itself is never written.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Instant,
};

use gyre_core::ports::TokenError;

use super::{claims::RegisteredClaims, jwt::Jwt};
use crate::rate::RateLimit;

/// Lines a second at most: clients cause them.
const LINES_PER_SECOND: usize = 20;
/// Bytes of a claim that are written.
const TEXT_BYTES_MAX: usize = 128;

/// The kinds of tokens.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    Connection,
    Subscription,
}

/// Writes refusals, and not too many of them.
pub(super) struct RefusalLog {
    rate: RateLimit,
    /// Lines left out since the last one.
    left_out: AtomicU64,
}

impl Default for RefusalLog {
    fn default() -> Self {
        Self { rate: RateLimit::new(LINES_PER_SECOND, Instant::now()), left_out: AtomicU64::new(0) }
    }
}

impl RefusalLog {
    /// A token was refused. That tokens expire is the rule, so only those who look closely are told.
    pub(super) fn log(&self, kind: Kind, token: &str, error: &TokenError) {
        let is_expected = matches!(error, TokenError::Expired);
        if is_expected && !tracing::enabled!(tracing::Level::DEBUG) {
            return;
        }
        if !self.rate.admits(Instant::now()) {
            self.left_out.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let left_out = Some(self.left_out.swap(0, Ordering::Relaxed)).filter(|&count| count > 0);
        let kind = match kind {
            Kind::Connection => "connection",
            Kind::Subscription => "subscription",
        };
        let Origin { algorithm, key, issuer, user, id } = Origin::of(token);
        match is_expected {
            true => {
                tracing::debug!(kind, %error, algorithm, kid = key, issuer, user, jti = id, left_out, "token refused");
            }
            false => {
                tracing::info!(kind, %error, algorithm, kid = key, issuer, user, jti = id, left_out, "token refused");
            }
        }
    }
}

/// What a token says of itself, as far as it can be read.
#[derive(Debug, Default, PartialEq, Eq)]
struct Origin {
    algorithm: Option<String>,
    key: Option<String>,
    issuer: Option<String>,
    user: Option<String>,
    id: Option<String>,
}

impl Origin {
    fn of(token: &str) -> Self {
        let Ok(jwt) = Jwt::parse(token) else { return Self::default() };
        let (algorithm, key) = match jwt.header() {
            Ok(header) => (shown(&header.alg), header.kid.as_deref().and_then(shown)),
            Err(_) => (None, None),
        };
        let claims: Option<RegisteredClaims<'_>> = jwt.claims().ok();
        let claims = claims.as_ref();
        Self {
            algorithm,
            key,
            issuer: claims.and_then(|claims| shown(claims.iss.as_deref()?)),
            user: claims.and_then(|claims| shown(&claims.sub)),
            id: claims.and_then(|claims| shown(claims.jti.as_deref()?)),
        }
    }
}

/// A claim in one line, and not too long.
fn shown(text: &str) -> Option<String> {
    let text = &text[..text.floor_char_boundary(TEXT_BYTES_MAX)];
    (!text.is_empty()).then(|| text.escape_debug().to_string())
}

#[cfg(test)]
mod tests {
    use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

    use super::*;

    /// What can be read is told, in one line each and cut; nothing is told of what is no token.
    #[test]
    fn origins_are_told() {
        let token = |header: &str, claims: &str| {
            format!("{}.{}.", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims))
        };
        let whole = token(r#"{"alg":"HS256","kid":"k"}"#, r#"{"sub":"a\nb","iss":"i","jti":"t"}"#);
        let text = |text: &str| Some(text.to_owned());
        let expected = Origin {
            algorithm: text("HS256"),
            key: text("k"),
            issuer: text("i"),
            user: text("a\\nb"),
            id: text("t"),
        };
        assert_eq!(Origin::of(&whole), expected);
        assert_eq!(
            Origin::of(&token("no", r#"{"sub":"u"}"#)),
            Origin { user: text("u"), ..Origin::default() }
        );
        assert_eq!(Origin::of("a.b"), Origin::default());
        let long = token("{}", &format!(r#"{{"sub":"{}"}}"#, "x".repeat(1000)));
        assert_eq!(Origin::of(&long).user.map(|user| user.len()), Some(TEXT_BYTES_MAX));
    }
}
