//! channels, info, and the figures behind metrics.

use globset::GlobBuilder;
use gyre_core::channel::ChannelName;
use hashbrown::HashMap;

use super::ApiError;
use crate::{node::Node, shard::ShardSnapshot};

/// What `info` tells of a node.
#[derive(Clone, Debug, Default)]
pub struct NodeSummary {
    /// Connected clients.
    pub clients: usize,
    /// Distinct users; all anonymous connections count as one.
    pub users: usize,
    /// Channels with subscribers.
    pub channels: usize,
    /// Subscriptions.
    pub subscriptions: usize,
}

impl Node {
    /// The channels with subscribers whose names match the pattern (empty for all), and how many subscribers each has.
    ///
    /// # Errors
    /// 100 for a bad pattern, as the reference answers.
    pub async fn channels(&self, pattern: &str) -> Result<HashMap<String, u32>, ApiError> {
        let matcher = match pattern {
            "" => None,
            pattern => {
                let glob = GlobBuilder::new(pattern).literal_separator(false).build();
                Some(glob.map_err(|_| ApiError::INTERNAL)?.compile_matcher())
            }
        };
        let lists = self.on_every_shard(move |shard| {
            let wanted = |name: &str| matcher.as_ref().is_none_or(|matcher| matcher.is_match(name));
            let found = shard.hub.channels().filter(|(name, _)| wanted(name));
            found.map(|(name, count)| (name.to_string(), count as u32)).collect::<Vec<_>>()
        });
        let mut channels = HashMap::new();
        for (name, count) in lists.await.into_iter().flatten() {
            *channels.entry(name).or_default() += count;
        }
        Ok(channels)
    }

    /// True if somebody on this node is subscribed to the channel.
    pub fn has_subscribers(&self, channel: &str) -> bool {
        self.directory.has_interest(&ChannelName::new(channel))
    }

    /// Channels with subscribers; unlike [`Self::channels`] without their names.
    pub fn channel_count(&self) -> usize {
        self.directory.channel_count()
    }

    /// How many clients, users, channels and subscriptions this node has.
    pub async fn summary(&self) -> NodeSummary {
        let channels = self.channels("").await.map_or(0, |channels| channels.len());
        let mut summary = NodeSummary { channels, users: self.user_count(), ..NodeSummary::default() };
        for shard in self.snapshots().await {
            summary.clients += shard.clients;
            summary.subscriptions += shard.subscriptions;
        }
        summary
    }

    /// The figures of every shard.
    pub async fn snapshots(&self) -> Vec<ShardSnapshot> {
        self.on_every_shard(|shard| shard.snapshot()).await
    }
}
