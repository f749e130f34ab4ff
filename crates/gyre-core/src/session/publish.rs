//! The publish command.

use gyre_protocol::{ClientError, Disconnect, PublishRequest};

use super::{BusyCommand, Effect, Refusal, Session, subscribe::received};
use crate::{
    channel::{Asker, ChannelName, SubscriptionKind},
    ports::{NewPublication, PublishOptions},
    rules::Context,
};

/// `type` of changes of maps.
const KIND_MAP: i32 = 1;

impl Session {
    pub(super) fn publish(
        &mut self,
        cx: &Context<'_>,
        id: u32,
        request: &PublishRequest<'_>,
    ) -> Result<(), Refusal> {
        let channel = &*request.channel;
        if channel.is_empty() {
            return Err(Disconnect::BAD_REQUEST.into());
        }
        let options = cx.rules.client_channel(channel)?;
        match request.kind {
            0 => {}
            KIND_MAP => return self.publish_map(cx, id, request, options),
            _ => return Err(ClientError::NOT_AVAILABLE.into()),
        }
        let data = received(self.encoding, &request.data);
        if !options.data_format.accepts(&data) {
            return Err(ClientError::BAD_REQUEST.into());
        }
        let Some(live) = self.live() else { return Ok(()) };
        let asker = Asker { user: &live.user, is_subscribed: live.subscriptions.is_active(channel) };
        if !cx.rules.may_call(options.publish, asker) {
            return Err(ClientError::PERMISSION_DENIED.into());
        }
        if options.kind != SubscriptionKind::Stream {
            return Err(ClientError::NOT_AVAILABLE.into());
        }
        let info = live.subscriptions.get(channel).map_or(&live.info, |subscription| &subscription.info);
        let publication = NewPublication { data, info: Some(info.clone()), tags: Default::default() };
        let options = PublishOptions {
            history: options.history,
            delta: options.delta_publish,
            ..PublishOptions::default()
        };
        let channel = ChannelName::new(channel);
        self.wait_for(Effect::Publish { channel, publication, options }, BusyCommand::Publish { id });
        Ok(())
    }
}
