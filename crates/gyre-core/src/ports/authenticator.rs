//! Tokens: who a client is and what it may subscribe to.

use gyre_protocol::Payload;

use crate::ports::{Answer, EngineError};

/// Verifies connection and subscription tokens.
pub trait Authenticator: Send + Sync + 'static {
    /// Verifies a connection token. `now` is Unix time in seconds (with fraction).
    fn connection(&self, token: &str, now: f64) -> Answer<Result<ConnectionClaims, TokenError>>;

    /// Verifies a subscription token. Whether channel, user and client are the session's own is checked by the session.
    fn subscription(&self, token: &str, now: f64) -> Answer<Result<SubscriptionClaims, TokenError>>;

    /// Verifies the signature of keys a user tracks in a shared poll channel, and tells when it expires (Unix time).
    /// `now` is Unix time in seconds.
    ///
    /// # Errors
    /// [`TokenError::Expired`], or [`TokenError::Invalid`] for any other.
    fn track(&self, request: TrackRequest<'_>, now: i64) -> Result<Option<i64>, TokenError>;

    /// From now on, refuses tokens that are well made. `now` is Unix time in seconds.
    ///
    /// # Errors
    /// [`EngineError::LimitReached`] if too many are refused already, [`EngineError::NotAvailable`] where that cannot be.
    fn revoke(&self, _revocation: Revocation, _now: i64) -> Result<(), EngineError> {
        Err(EngineError::NotAvailable)
    }
}

/// Tokens that count no longer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revocation {
    /// Which.
    pub tokens: RevokedTokens,
    /// Unix time at which this may be forgotten, because the tokens have expired by then; 0 for never.
    pub expire_at: i64,
}

/// Which tokens count no longer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RevokedTokens {
    /// The one of this id (`jti`).
    Id(Box<str>),
    /// Those of a user that were issued (`iat`) before this Unix time, or do not say when.
    OfUser {
        /// User id.
        user: Box<str>,
        /// Only subscription tokens for this channel; empty for all tokens.
        channel: Box<str>,
        /// Unix time.
        issued_before: i64,
    },
}

/// Keys to be tracked, and the signature that allows it.
///
/// Spec: client protocol, "Shared poll", signature.
#[derive(Clone, Copy, Debug)]
pub struct TrackRequest<'a> {
    /// Who tracks; empty for anonymous.
    pub user: &'a str,
    /// In which channel.
    pub channel: &'a str,
    /// Which keys, in the order they were signed in.
    pub keys: &'a [Box<str>],
    /// `iat:exp:hex`.
    pub signature: &'a str,
}

/// What a valid connection token says.
///
/// Spec: centrifugal.dev, "Client JWT authentication", claims.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct ConnectionClaims {
    /// User id; empty for anonymous.
    pub user: Box<str>,
    /// Unix time of the connection's expiry: `expire_at` if present, else `exp`; `None` or 0 is never.
    pub expire_at: Option<i64>,
    /// `info` or `b64info`: goes into presence and publications.
    pub info: Payload,
    /// `meta`: stays on the server.
    pub meta: Payload,
    /// Server-side subscriptions: `subs`, or `channels` without options.
    pub subs: Vec<ServerSubscription>,
}

/// A server-side subscription granted by a token or a hook.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct ServerSubscription {
    /// Channel.
    pub channel: Box<str>,
    /// Options that replace the namespace's.
    pub grant: SubscriptionGrant,
}

/// What a token or hook adds to a subscription.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct SubscriptionGrant {
    /// `info` or `b64info`: `chan_info` of the member.
    pub info: Payload,
    /// `data` or `b64data`: handed to the client.
    pub data: Payload,
    /// Options that replace the namespace's.
    pub overrides: Overrides,
    /// `cache_recover`: the latest publication comes with the subscription, in channels that keep just that.
    pub cache_recover: bool,
}

/// Options of the namespace replaced for one subscription; `None` keeps the namespace's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[expect(missing_docs, reason = "each is the channel option of that name")]
pub struct Overrides {
    pub presence: Option<bool>,
    pub join_leave: Option<bool>,
    pub force_push_join_leave: Option<bool>,
    pub force_recovery: Option<bool>,
    pub force_positioning: Option<bool>,
}

/// What a valid subscription token says.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct SubscriptionClaims {
    /// User the token was made for.
    pub user: Box<str>,
    /// Channel it allows.
    pub channel: Box<str>,
    /// Client id it is bound to; empty for any.
    pub client: Box<str>,
    /// Unix time of the subscription's expiry; `None` or 0 is never.
    pub expire_at: Option<i64>,
    /// Options of the subscription.
    pub grant: SubscriptionGrant,
}

/// Why a token was refused. The client learns only the code; the log says more.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// `exp` has passed, or `nbf` lies ahead.
    #[error("token expired")]
    Expired,
    /// Malformed, badly signed, of another kind, or for another audience.
    #[error("token invalid: {reason}")]
    Invalid {
        /// What is wrong with it.
        reason: String,
    },
    /// A claim that must be decoded cannot be (`b64info`).
    #[error("token claims cannot be decoded: {reason}")]
    Undecodable {
        /// Which claim.
        reason: String,
    },
    /// Anonymous users are not allowed to use tokens (`client.disallow_anonymous_connection_tokens`).
    #[error("anonymous tokens are not allowed")]
    AnonymousNotAllowed,
    /// The verification itself failed (keys unreachable).
    #[error("token verification failed: {reason}")]
    Unverifiable {
        /// What failed.
        reason: String,
    },
}
