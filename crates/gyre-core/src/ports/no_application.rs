//! The ports of an application where there is none.

use std::sync::Arc;

use gyre_protocol::{ClientError, Payload};

use crate::{
    channel::ChannelName,
    ports::{
        Answer, Authenticator, Caller, ChannelStateEvent, ClientHooks, ConnectGrant, ConnectQuestion,
        ConnectionClaims, Delivery, DisconnectEvent, EventHooks, HookRefusal, MapHookGrant, MapHookRequest,
        MapHooks, OpenStream, PollError, Polled, PublishGrant, Refreshed, SharedPollBackend, StreamRequest,
        SubscribeGrant, SubscriptionClaims, SubscriptionStreams, TokenError, TrackRequest,
    },
};

/// An application that is not there: every token has expired, every hook refuses, no key has data. For nodes that
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

impl SubscriptionStreams for NoApplication {
    fn open(&self, _: &str, _: Caller, _: StreamRequest) -> Answer<Result<OpenStream, HookRefusal>> {
        Answer::Ready(Err(NO_HOOK))
    }
}

impl EventHooks for NoApplication {
    fn cache_empty(&self, _: &str, _: &ChannelName) -> Answer<bool> {
        Answer::Ready(false)
    }

    fn channel_states(&self, _: &str, _: Vec<ChannelStateEvent>) -> Answer<Delivery> {
        Answer::Ready(Delivery::Done)
    }

    fn disconnected(&self, _: &str, _: DisconnectEvent) -> Answer<Delivery> {
        Answer::Ready(Delivery::Done)
    }
}

/// The answer of a hook that is not there.
const NO_HOOK: HookRefusal = HookRefusal::Error(ClientError::NOT_AVAILABLE);

impl ClientHooks for NoApplication {
    fn connect(
        &self,
        _: &str,
        _: Caller,
        _: ConnectQuestion,
    ) -> Answer<Result<Option<Box<ConnectGrant>>, HookRefusal>> {
        Answer::Ready(Err(NO_HOOK))
    }

    fn refresh(&self, _: &str, _: Caller) -> Answer<Option<Refreshed>> {
        Answer::Ready(Some(Refreshed::Expired))
    }

    fn subscribe(
        &self,
        _: &str,
        _: Caller,
        _: ChannelName,
        _: Payload,
    ) -> Answer<Result<SubscribeGrant, HookRefusal>> {
        Answer::Ready(Err(NO_HOOK))
    }

    fn publish(
        &self,
        _: &str,
        _: Caller,
        _: ChannelName,
        _: Payload,
    ) -> Answer<Result<PublishGrant, HookRefusal>> {
        Answer::Ready(Err(NO_HOOK))
    }

    fn rpc(&self, _: &str, _: Caller, _: Box<str>, _: Payload) -> Answer<Result<Payload, HookRefusal>> {
        Answer::Ready(Err(NO_HOOK))
    }

    fn sub_refresh(&self, _: &str, _: Caller, _: ChannelName) -> Answer<Option<Refreshed>> {
        Answer::Ready(Some(Refreshed::Expired))
    }
}

impl MapHooks for NoApplication {
    fn ask(&self, _: &str, _: Caller, _: MapHookRequest) -> Answer<Result<MapHookGrant, HookRefusal>> {
        Answer::Ready(Err(NO_HOOK))
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
