//! Subscriptions that are fed by a stream of the application's own.
//!
//! Spec: centrifugal.dev, "Proxy subscription streams"; centrifugo `internal/proxy/subscribe_stream_handler.go`

use std::sync::Arc;

use gyre_protocol::{ClientError, Disconnect, Payload, Publication, PushBody, Unsubscribe};

use super::{
    BusyCommand, Effect, EffectId, Refusal, Session,
    subscribe::{Intent, Wishes},
};
use crate::{
    channel::ChannelName,
    ports::{HookRefusal, StreamEnd, SubscribeGrant},
    rules::Context,
};

impl Session {
    /// The application has answered on a stream. If nobody waits for it any more, it ends.
    pub(super) fn stream_opened(
        &mut self,
        cx: &Context<'_>,
        stream: EffectId,
        answer: Result<Box<SubscribeGrant>, HookRefusal>,
    ) -> Result<(), Disconnect> {
        let is_open = answer.is_ok();
        let command = self.live_mut().and_then(|live| live.take_busy(stream));
        let outcome = match command {
            Some(BusyCommand::OpenStream { id, intent }) => {
                self.working_on = super::CommandKind::Subscribe;
                let channel = intent.channel.clone();
                let outcome = self.subscribe_streamed(cx, id, intent, answer);
                let subscription = self
                    .live_mut()
                    .and_then(|live| live.subscriptions.get_mut(&channel))
                    .filter(|_| outcome.is_ok());
                match subscription {
                    Some(subscription) => subscription.stream = Some(stream),
                    None if is_open => drop(self.effect(Effect::EndStream { stream })),
                    None => {}
                }
                self.settle(id, outcome)
            }
            _ if is_open => {
                self.effect(Effect::EndStream { stream });
                Ok(())
            }
            _ => Ok(()),
        };
        self.unsubscribe_held();
        outcome
    }

    /// Such a subscription has no position, and nothing the client wished for.
    fn subscribe_streamed(
        &mut self,
        cx: &Context<'_>,
        id: u32,
        mut intent: Intent,
        answer: Result<Box<SubscribeGrant>, HookRefusal>,
    ) -> Result<(), Refusal> {
        let SubscribeGrant { expire_at, mut grant } = *answer?;
        grant.overrides.force_recovery = Some(false);
        grant.overrides.force_positioning = Some(false);
        intent.wishes = Wishes::default();
        self.begin_granted(cx, id, intent, grant, Some(expire_at))
    }

    /// Publications have come by a subscription's stream. What belongs to an older subscription is dropped.
    ///
    /// # Errors
    /// None; for the caller's sake.
    pub fn handle_streamed(
        &mut self,
        stream: EffectId,
        channel: &ChannelName,
        publications: Vec<Publication>,
    ) -> Result<(), Disconnect> {
        if self.feeds(stream, channel) {
            for publication in publications {
                self.push(Some(channel), PushBody::Publication(Arc::new(publication)));
            }
        }
        Ok(())
    }

    /// A subscription's stream has ended, and with it the subscription.
    ///
    /// # Errors
    /// None; for the caller's sake.
    pub fn handle_stream_end(
        &mut self,
        stream: EffectId,
        channel: &ChannelName,
        end: StreamEnd,
    ) -> Result<(), Disconnect> {
        if self.feeds(stream, channel) {
            let reason = match end {
                StreamEnd::Complete => Unsubscribe::SERVER,
                StreamEnd::Broken => Unsubscribe::INSUFFICIENT_STATE,
            };
            self.drop_subscription(channel);
            self.push(Some(channel), PushBody::Unsubscribe(reason));
        }
        Ok(())
    }

    fn feeds(&self, stream: EffectId, channel: &ChannelName) -> bool {
        self.live()
            .and_then(|live| live.subscriptions.get(channel))
            .is_some_and(|subscription| subscription.stream == Some(stream))
    }

    /// A publish to a channel whose subscriptions have streams: it goes up the client's own.
    pub(super) fn publish_to_stream(&mut self, id: u32, channel: &str, data: Payload) -> Result<(), Refusal> {
        let subscription = self
            .live()
            .filter(|live| live.subscriptions.is_active(channel))
            .and_then(|live| live.subscriptions.get(channel));
        let Some(stream) = subscription.and_then(|subscription| subscription.stream) else {
            return Err(ClientError::PERMISSION_DENIED.into());
        };
        self.wait_for(Effect::PublishToStream { stream, data }, BusyCommand::Publish { id });
        Ok(())
    }
}
