//! The presence and presence_stats commands.

use gyre_protocol::{ClientError, Disconnect};

use super::{BusyCommand, Effect, Refusal, Session};
use crate::{
    channel::{Asker, ChannelName},
    rules::Context,
};

/// What is asked of a channel's presence.
#[derive(Clone, Copy, Debug)]
pub(super) enum Wanted {
    Members,
    Stats,
}

impl Session {
    pub(super) fn presence(
        &mut self,
        cx: &Context<'_>,
        id: u32,
        channel: &str,
        wanted: Wanted,
    ) -> Result<(), Refusal> {
        if channel.is_empty() {
            return Err(Disconnect::BAD_REQUEST.into());
        }
        let options = cx.rules.client_channel(channel)?;
        if !options.presence {
            return Err(ClientError::NOT_AVAILABLE.into());
        }
        let Some(live) = self.live() else { return Ok(()) };
        let asker = Asker { user: &live.user, is_subscribed: live.subscriptions.is_active(channel) };
        if !cx.rules.may_call(options.presence_call, asker) {
            return Err(ClientError::PERMISSION_DENIED.into());
        }
        let channel = ChannelName::new(channel);
        let effect = match wanted {
            Wanted::Members => Effect::Presence { channel },
            Wanted::Stats => Effect::PresenceStats { channel },
        };
        self.wait_for(effect, BusyCommand::Presence { id });
        Ok(())
    }
}
