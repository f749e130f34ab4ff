//! Tokens: JSON Web Tokens that say who a client is and what it may subscribe to.
//!
//! Decoding and checks are our own over the signature primitives of aws-lc-rs: see `docs/decisions/001-tokens.md`.

mod claims;
mod jwt;
mod keys;
mod verifier;

use std::sync::Arc;

use arc_swap::ArcSwap;
use gyre_core::ports::{Answer, Authenticator, ConnectionClaims, SubscriptionClaims, TokenError};

pub use jwt::sign_hs256;
pub use keys::KeyError;
pub use verifier::TokenVerifier;

/// The verifiers in force; replaced whole on reload.
#[derive(Debug)]
pub struct TokenAuthenticator(ArcSwap<Verifiers>);

/// A verifier for each kind of token.
#[derive(Debug)]
pub struct Verifiers {
    /// For connection tokens.
    pub connection: TokenVerifier,
    /// For subscription tokens; without one the other serves both.
    pub subscription: Option<TokenVerifier>,
}

impl TokenAuthenticator {
    /// An authenticator with these verifiers.
    pub fn new(verifiers: Verifiers) -> Self {
        Self(ArcSwap::from_pointee(verifiers))
    }

    /// Replaces the verifiers.
    pub fn replace(&self, verifiers: Verifiers) {
        self.0.store(Arc::new(verifiers));
    }
}

impl Authenticator for TokenAuthenticator {
    fn connection(&self, token: &str, now: f64) -> Answer<Result<ConnectionClaims, TokenError>> {
        let result = self.0.load().connection.connection(token, now);
        Answer::Ready(result.inspect_err(|error| tracing::debug!(%error, "connection token refused")))
    }

    fn subscription(&self, token: &str, now: f64) -> Answer<Result<SubscriptionClaims, TokenError>> {
        let verifiers = self.0.load();
        let verifier = verifiers.subscription.as_ref().unwrap_or(&verifiers.connection);
        let result = verifier.subscription(token, now);
        Answer::Ready(result.inspect_err(|error| tracing::debug!(%error, "subscription token refused")))
    }
}

#[cfg(test)]
mod tests;
