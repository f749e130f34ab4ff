//! The unsubscribe command.

use gyre_protocol::{Disconnect, ReplyBody};

use super::{Refusal, Session};

impl Session {
    /// Succeeds also for channels the session is not subscribed to. No push of the channel follows the reply.
    pub(super) fn unsubscribe(&mut self, id: u32, channel: &str) -> Result<(), Refusal> {
        if channel.is_empty() {
            return Err(Disconnect::BAD_REQUEST.into());
        }
        self.drop_subscription(channel);
        self.reply(id, ReplyBody::Unsubscribe);
        Ok(())
    }
}
