//! The publish command.

use gyre_protocol::{ClientError, Disconnect, Payload, PublishRequest, Tags};

use super::{BusyCommand, Effect, Question, Refusal, Session, subscribe::received};
use crate::{
    channel::{Asker, ChannelName, HistoryOptions, SubscriptionKind},
    ports::{HookRefusal, NewPublication, PublishGrant, PublishOptions},
    rules::Context,
};

/// `type` of changes of maps.
const KIND_MAP: i32 = 1;

/// A publish the application is being asked about.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) id: u32,
    channel: ChannelName,
    data: Payload,
    history: Option<HistoryOptions>,
}

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
        if let Some(hook) = &options.publish_hook {
            if options.kind != SubscriptionKind::Stream {
                return Err(ClientError::NOT_AVAILABLE.into());
            }
            let channel = ChannelName::new(channel);
            let question = Question::Publish { channel: channel.clone(), data: data.clone() };
            let asked = Asked { id, channel, data, history: options.history };
            self.ask(hook.clone(), question, BusyCommand::AskPublish(Box::new(asked)));
            return Ok(());
        }
        if let Some(hook) = &options.stream_hook {
            if !hook.is_bidirectional {
                return Err(ClientError::NOT_AVAILABLE.into());
            }
            return self.publish_to_stream(id, channel, data);
        }
        let Some(live) = self.live() else { return Ok(()) };
        let asker = Asker { user: &live.user, is_subscribed: live.subscriptions.is_active(channel) };
        if !cx.rules.may_call(options.publish, asker) {
            return Err(ClientError::PERMISSION_DENIED.into());
        }
        if options.kind != SubscriptionKind::Stream {
            return Err(ClientError::NOT_AVAILABLE.into());
        }
        let options = PublishOptions {
            history: options.history,
            delta: options.delta_publish,
            ..PublishOptions::default()
        };
        self.publish_now(id, ChannelName::new(channel), data, Tags::default(), options);
        Ok(())
    }

    /// The application has judged a publish. Whether it is a delta is its decision too.
    pub(super) fn publish_answered(
        &mut self,
        asked: Asked,
        answer: Result<Box<PublishGrant>, HookRefusal>,
    ) -> Result<(), Refusal> {
        let grant = *answer?;
        let options = PublishOptions {
            history: asked.history.filter(|_| !grant.skip_history),
            idempotency_key: grant.idempotency_key,
            delta: grant.delta,
            version: grant.version,
            version_epoch: grant.version_epoch,
        };
        let data = grant.data.unwrap_or(asked.data);
        self.publish_now(asked.id, asked.channel, data, grant.tags, options);
        Ok(())
    }

    fn publish_now(
        &mut self,
        id: u32,
        channel: ChannelName,
        data: Payload,
        tags: Tags,
        options: PublishOptions,
    ) {
        let Some(live) = self.live() else { return };
        let info = live.subscriptions.get(&channel).map_or(&live.info, |subscription| &subscription.info);
        let publication = NewPublication { data, info: Some(info.clone()), tags };
        self.wait_for(Effect::Publish { channel, publication, options }, BusyCommand::Publish { id });
    }
}
