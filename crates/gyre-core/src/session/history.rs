//! The history command.

use gyre_protocol::{
    ClientError, Disconnect, Epoch, HistoryRequest, HistoryResult, ReplyBody, StreamPosition,
};

use super::{BusyCommand, Effect, Refusal, Session};
use crate::{
    channel::{Asker, ChannelName},
    ports::{EngineError, History, HistoryFilter},
    rules::Context,
};

impl Session {
    pub(super) fn history(
        &mut self,
        cx: &Context<'_>,
        id: u32,
        request: &HistoryRequest<'_>,
    ) -> Result<(), Refusal> {
        let channel = &*request.channel;
        if channel.is_empty() {
            return Err(Disconnect::BAD_REQUEST.into());
        }
        let options = cx.rules.client_channel(channel)?;
        let Some(history) = options.history else { return Err(ClientError::NOT_AVAILABLE.into()) };
        let Some(live) = self.live() else { return Ok(()) };
        let asker = Asker { user: &live.user, is_subscribed: live.subscriptions.is_active(channel) };
        if !cx.rules.may_call(options.history_call, asker) {
            return Err(ClientError::PERMISSION_DENIED.into());
        }
        let since = request
            .since
            .as_ref()
            .map(|(offset, epoch)| StreamPosition { offset: *offset, epoch: Epoch::new(epoch) });
        if request.reverse && since.as_ref().is_some_and(|since| since.offset == 0) {
            return Err(ClientError::BAD_REQUEST.into());
        }
        let cap = cx.rules.limits.history_publications_max;
        let limit = usize::try_from(request.limit).map_or(cap, |limit| limit.min(cap));
        let filter = HistoryFilter { since, limit: Some(limit), reverse: request.reverse };
        let channel = ChannelName::new(channel);
        let effect = Effect::History { channel, filter, meta_ttl: history.meta_ttl };
        self.wait_for(effect, BusyCommand::History { id });
        Ok(())
    }
}

/// The reply to a history command.
pub(super) fn reply(result: Result<History, EngineError>) -> ReplyBody {
    match result {
        Ok(History { publications, top }) => {
            ReplyBody::History(HistoryResult { publications, epoch: top.epoch, offset: top.offset })
        }
        Err(EngineError::UnrecoverablePosition) => ReplyBody::Error(ClientError::UNRECOVERABLE_POSITION),
        Err(error) => super::internal_error(error),
    }
}
