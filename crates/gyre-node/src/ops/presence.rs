//! presence and presence_stats.

use std::sync::Arc;

use gyre_core::{channel::ChannelName, ports::Answer};
use gyre_protocol::{ClientInfo, PresenceStats};

use super::{ApiAnswer, ApiError};
use crate::node::Node;

impl Node {
    /// The members of a channel.
    ///
    /// # Errors
    /// 107, 102, 108 without presence, 100.
    pub fn presence(&self, channel: &str) -> ApiAnswer<Vec<Arc<ClientInfo>>> {
        match self.presence_channel(channel) {
            Ok(channel) => self.ports.presence.members(&channel).map(|result| result.map_err(ApiError::from)),
            Err(error) => Answer::Ready(Err(error)),
        }
    }

    /// How many members and users a channel has.
    ///
    /// # Errors
    /// 107, 102, 108 without presence, 100.
    pub fn presence_stats(&self, channel: &str) -> ApiAnswer<PresenceStats> {
        match self.presence_channel(channel) {
            Ok(channel) => self.ports.presence.stats(&channel).map(|result| result.map_err(ApiError::from)),
            Err(error) => Answer::Ready(Err(error)),
        }
    }

    fn presence_channel(&self, channel: &str) -> Result<ChannelName, ApiError> {
        let options = self.api_channel(channel)?;
        if options.presence { Ok(ChannelName::new(channel)) } else { Err(ApiError::NOT_AVAILABLE) }
    }
}
