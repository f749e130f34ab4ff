//! publish, and broadcast as many of them.

use gyre_core::{
    channel::{ChannelName, SubscriptionKind},
    ports::{Answer, NewPublication, PublishOptions, Published},
};
use gyre_protocol::{Payload, Tags};

use super::{ApiAnswer, ApiError};
use crate::node::Node;

/// A publication of the application, for one channel or many.
#[derive(Clone, Debug, Default)]
pub struct PublishRequest {
    /// Application data.
    pub data: Payload,
    /// Deliver only, leave the history alone.
    pub skip_history: bool,
    /// Tags for filters.
    pub tags: Tags,
    /// See [`PublishOptions::idempotency_key`].
    pub idempotency_key: Box<str>,
    /// Deliver as a delta; the namespace's `delta_publish` has the same effect.
    pub delta: bool,
    /// See [`PublishOptions::version`].
    pub version: u64,
    /// See [`PublishOptions::version_epoch`].
    pub version_epoch: Box<str>,
}

impl Node {
    /// Publishes into one channel.
    ///
    /// # Errors
    /// 107 (name, kind of channel, data), 102, 100.
    pub fn publish(&self, channel: &str, request: PublishRequest) -> ApiAnswer<Published> {
        match self.api_channel(channel) {
            Ok(options) if options.kind != SubscriptionKind::Stream => {
                Answer::Ready(Err(ApiError::BAD_REQUEST))
            }
            _ => self.publish_any(channel, request),
        }
    }

    /// Publishes into one of a broadcast's channels, whose kind is not looked at.
    ///
    /// # Errors
    /// 107 (name, data), 102, 100.
    pub fn publish_any(&self, channel: &str, request: PublishRequest) -> ApiAnswer<Published> {
        let options = match self.api_channel(channel) {
            Ok(options) => options,
            Err(error) => return Answer::Ready(Err(error)),
        };
        if !options.data_format.accepts(&request.data) {
            return Answer::Ready(Err(ApiError::BAD_REQUEST));
        }
        let publication = NewPublication { data: request.data, info: None, tags: request.tags };
        let history = options.history.filter(|_| !request.skip_history);
        let options = PublishOptions {
            history,
            idempotency_key: request.idempotency_key,
            delta: request.delta || options.delta_publish,
            version: if history.is_some() { request.version } else { 0 },
            version_epoch: request.version_epoch,
        };
        let channel = ChannelName::new(channel);
        let published = self.ports.broker.publish(&channel, publication, options);
        published.map(|result| result.map_err(ApiError::from))
    }
}
