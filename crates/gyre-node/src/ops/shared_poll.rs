//! shared_poll_publish.

use gyre_core::{channel::ChannelName, limits::KEY_BYTES_MAX};
use gyre_protocol::{Epoch, Payload};

use super::ApiError;
use crate::node::Node;

impl Node {
    /// Publishes a version of a key to those who track it, without waiting for the next poll.
    ///
    /// # Errors
    /// 107 (name, kind of channel, key, version), 102, 108 unless the namespace allows it.
    pub fn shared_poll_publish(
        &self,
        channel: &str,
        key: &str,
        data: Payload,
        version: u64,
        epoch: &Epoch,
    ) -> Result<(), ApiError> {
        let options = self.api_channel(channel)?;
        let poll = options.shared_poll.as_ref().ok_or(ApiError::BAD_REQUEST)?;
        if key.is_empty() || key.len() > KEY_BYTES_MAX || version == 0 {
            return Err(ApiError::BAD_REQUEST);
        }
        if !poll.publish_enabled {
            return Err(ApiError::NOT_AVAILABLE);
        }
        self.polls.publish(&ChannelName::new(channel), key, data, version, epoch);
        Ok(())
    }
}
