//! Tokens: who a client is and what it may subscribe to.
//!
//! A token is taken apart ([`jwt`]), its claims are decoded ([`claims`]), its signature is checked against the
//! configured keys ([`keys`]), and the verdict follows one order of checks ([`TokenVerifier`]). Everything that can be
//! prepared is prepared when the verifier is built, so that verifying allocates the decoded token and what the claims
//! keep, and nothing else.
//!
//! Keys may also be published ([`jwks`]): where one has to be fetched first, the answer comes later.
//!
//! What a verdict means for a connection (which error, which disconnect) is decided by the session, not here.

mod claims;
mod jwk;
mod jwks;
mod jwt;
mod keys;
mod refusal;
mod revocation;
mod signer;
mod token;
mod track;
mod verifier;

use std::sync::Arc;

use arc_swap::ArcSwap;
use gyre_core::ports::{
    Answer, Authenticator, ConnectionClaims, EngineError, Revocation, SubscriptionClaims, TokenError,
    TrackRequest,
};

pub use jwt::TOKEN_BYTES_MAX;
pub use keys::KeyError;
use refusal::{Kind, RefusalLog};
use revocation::Revocations;
pub use signer::{Signer, SignerError};
pub use token::TokenRequest;
pub use track::TrackKeys;
pub use verifier::TokenVerifier;

/// The verifiers of both kinds of tokens.
pub struct Verifiers {
    /// Verifies connection tokens (`client.token`).
    pub connection: TokenVerifier,
    /// Verifies subscription tokens (`client.subscription_token`); `None` leaves them to [`Self::connection`].
    pub subscription: Option<TokenVerifier>,
    /// Verifies signatures of tracked keys (`shared_poll`).
    pub track: TrackKeys,
}

impl Verifiers {
    fn with_revocations(mut self, revocations: &Arc<Revocations>) -> Self {
        for verifier in [Some(&mut self.connection), self.subscription.as_mut()].into_iter().flatten() {
            verifier.set_revocations(revocations.clone());
        }
        self
    }

    fn of_subscriptions(&self) -> &TokenVerifier {
        self.subscription.as_ref().unwrap_or(&self.connection)
    }
}

/// The [`Authenticator`] of the server: verifies tokens with keys that a reload replaces as a whole.
pub struct TokenAuthenticator {
    verifiers: ArcSwap<Verifiers>,
    /// Stays when the keys are replaced.
    revocations: Arc<Revocations>,
    refusals: Arc<RefusalLog>,
}

impl TokenAuthenticator {
    /// An authenticator that starts with these verifiers.
    pub fn new(verifiers: Verifiers) -> Self {
        let revocations = Arc::<Revocations>::default();
        let verifiers = ArcSwap::from_pointee(verifiers.with_revocations(&revocations));
        Self { verifiers, revocations, refusals: Arc::default() }
    }

    /// Uses other verifiers from now on. Tokens being verified at this moment are finished with the old ones.
    pub fn replace(&self, verifiers: Verifiers) {
        self.verifiers.store(Arc::new(verifiers.with_revocations(&self.revocations)));
    }
}

impl TokenAuthenticator {
    /// Verifies at once, or after the token's key was fetched.
    fn verify<C: Send + 'static>(
        &self,
        token: &str,
        verifier: fn(&Verifiers) -> &TokenVerifier,
        verify: impl FnOnce(&TokenVerifier, &str) -> Result<C, TokenError> + Send + 'static,
    ) -> Answer<Result<C, TokenError>> {
        let verifiers = self.verifiers.load();
        if !verifier(&verifiers).needs_preparation(token) {
            return Answer::Ready(verify(verifier(&verifiers), token));
        }
        let (verifiers, token) = (arc_swap::Guard::into_inner(verifiers), token.to_owned());
        Answer::Later(Box::pin(async move {
            verifier(&verifiers).prepare(&token).await;
            verify(verifier(&verifiers), &token)
        }))
    }
}

impl Authenticator for TokenAuthenticator {
    fn connection(&self, token: &str, now: f64) -> Answer<Result<ConnectionClaims, TokenError>> {
        let refusals = self.refusals.clone();
        self.verify(
            token,
            |verifiers| &verifiers.connection,
            move |verifier, token| {
                let claims = verifier.connection(token, now);
                claims.inspect_err(|error| refusals.log(Kind::Connection, token, error))
            },
        )
    }

    fn subscription(&self, token: &str, now: f64) -> Answer<Result<SubscriptionClaims, TokenError>> {
        let refusals = self.refusals.clone();
        self.verify(token, Verifiers::of_subscriptions, move |verifier, token| {
            let claims = verifier.subscription(token, now);
            claims.inspect_err(|error| refusals.log(Kind::Subscription, token, error))
        })
    }

    fn revoke(&self, revocation: Revocation, now: i64) -> Result<(), EngineError> {
        self.revocations.add(revocation, now)
    }

    fn track(&self, request: TrackRequest<'_>, now: i64) -> Result<Option<i64>, TokenError> {
        let verdict = self.verifiers.load().track.verify(request, now);
        if let Err(error) = &verdict {
            tracing::debug!(%error, "signature of tracked keys refused");
        }
        verdict
    }
}

#[cfg(test)]
mod tests;
