//! The unsubscribe command.

use gyre_protocol::{Disconnect, ReplyBody};

use super::{
    Live, Refusal, Session,
    busy::{BusyCommand, NO_EFFECT},
};
use crate::channel::ChannelName;

impl Session {
    /// Succeeds also for channels the session is not subscribed to. No push of the channel follows the reply. A subscribe
    /// of the channel that runs beside it is waited for.
    pub(super) fn unsubscribe(&mut self, id: u32, channel: &str) -> Result<(), Refusal> {
        if channel.is_empty() {
            return Err(Disconnect::BAD_REQUEST.into());
        }
        if let Some(live) = self.live_mut()
            && live.is_subscribing(channel)
        {
            live.wait(NO_EFFECT, BusyCommand::Unsubscribe { id, channel: ChannelName::new(channel) });
            return Ok(());
        }
        self.drop_subscription(channel);
        self.reply(id, ReplyBody::Unsubscribe);
        Ok(())
    }

    /// Carries out the unsubscribe that waits, if what it waits for is settled.
    pub(super) fn unsubscribe_held(&mut self) {
        if let Some((id, channel)) = self.live_mut().and_then(Live::take_unsubscribe) {
            self.drop_subscription(&channel);
            self.reply(id, ReplyBody::Unsubscribe);
        }
    }
}
