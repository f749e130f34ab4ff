//! The ports of an application where there is none.

use std::sync::Arc;

use gyre_protocol::ClientError;

use crate::{
    channel::ChannelName,
    ports::{
        Answer, Authenticator, ConnectionClaims, HookRefusal, MapHookGrant, MapHookRequest, MapHooks,
        PollError, Polled, SharedPollBackend, SubscriptionClaims, TokenError, TrackRequest,
    },
};

/// An application that is not there: every token has expired, no change is allowed, no key has data. For nodes that
/// need none, such as those of tests.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoApplication;

impl Authenticator for NoApplication {
    fn connection(&self, _: &str, _: f64) -> Answer<Result<ConnectionClaims, TokenError>> {
        Answer::Ready(Err(TokenError::Expired))
    }

    fn subscription(&self, _: &str, _: f64) -> Answer<Result<SubscriptionClaims, TokenError>> {
        Answer::Ready(Err(TokenError::Expired))
    }

    fn track(&self, _: TrackRequest<'_>, _: i64) -> Result<Option<i64>, TokenError> {
        Err(TokenError::Expired)
    }
}

impl MapHooks for NoApplication {
    fn ask(&self, _: &str, _: MapHookRequest) -> Answer<Result<MapHookGrant, HookRefusal>> {
        Answer::Ready(Err(HookRefusal::Error(ClientError::NOT_AVAILABLE)))
    }
}

impl SharedPollBackend for NoApplication {
    fn refresh(
        &self,
        _: &str,
        _: &ChannelName,
        _: Vec<(Arc<str>, u64)>,
    ) -> Answer<Result<Polled, PollError>> {
        Answer::Ready(Ok(Polled::default()))
    }
}
