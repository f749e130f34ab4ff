//! Effects on shared polls, and the updates of keys.

use std::sync::Arc;

use gyre_core::{
    channel::ChannelName,
    hub::{Holding, Slot, Subscriber},
    ports::{ChannelEvent, TrackRequest},
    rules::Now,
    session::{Effect, Outcome},
};
use gyre_protocol::Publication;

use crate::shard::ShardState;

impl ShardState {
    /// Does the work of one effect on a shared poll; all are answered at once or not at all.
    pub(crate) fn execute_poll(&mut self, slot: Slot, effect: Effect, now: Now) -> Option<Outcome> {
        let node = self.node.clone();
        match effect {
            Effect::JoinPoll { channel, options } => {
                // Its gate stays closed: keys are delivered, not the channel.
                self.enter_channel(&channel, Subscriber::unpositioned(slot, false));
                self.keyed.open(&channel);
                Some(Outcome::PollJoined(node.polls.join(&channel, options, &node.control)))
            }
            Effect::VerifyTrack { channel, user, batches } => {
                let now = (now.unix_ms / 1000) as i64;
                let verified = batches.iter().map(|batch| {
                    let (keys, signature) = (&batch.keys, &batch.signature);
                    let request = TrackRequest { user: &user, channel: &channel, keys, signature };
                    node.ports.authenticator.track(request, now)
                });
                Some(Outcome::TrackVerified(verified.collect()))
            }
            Effect::Track { channel, keys, delta } => {
                for (key, version) in &keys {
                    self.keyed.track(&channel, key, slot, Holding::named(*version, delta));
                }
                node.polls.track(&channel, &keys, self.index);
                None
            }
            Effect::Untrack { channel, keys } => {
                for key in keys {
                    if self.keyed.untrack(&channel, &key, slot) {
                        node.polls.untrack(&channel, &key, self.index);
                    }
                }
                None
            }
            _ => None,
        }
    }

    /// Delivers what a poll has found to the connections that track the key.
    pub(crate) fn deliver_polled(&mut self, channel: &ChannelName, event: ChannelEvent) {
        match event {
            ChannelEvent::Publication(publication) | ChannelEvent::DeltaPublication(publication) => {
                self.deliver_key(channel, publication, None)
            }
            ChannelEvent::DeltaChange { publication, base } => {
                self.deliver_key(channel, publication, Some(base))
            }
            // Versions count anew, or updates were lost on the way: everybody has to begin again.
            ChannelEvent::Lost => {
                let subscribers: Vec<Slot> = self.hub.subscribers(channel).collect();
                for slot in subscribers {
                    self.with_session(slot, |session, _| session.handle_lost_position(channel));
                }
            }
            ChannelEvent::Join(_) | ChannelEvent::Leave(_) => {}
        }
    }

    fn deliver_key(
        &mut self,
        channel: &ChannelName,
        publication: Arc<Publication>,
        base: Option<Arc<Publication>>,
    ) {
        let ended = self.keyed.deliver(channel, publication.clone(), base, &mut self.connections);
        self.settle_deliveries();
        for slot in ended {
            self.with_session(slot, |session, _| {
                session.handle_removed_key(channel, &publication.key);
                Ok(())
            });
        }
    }

    /// The last subscriber of a channel on this shard has left. True if it is a polled one.
    pub(crate) fn close_polled(&mut self, channel: &ChannelName) -> bool {
        let is_polled = self.keyed.contains(channel);
        if is_polled {
            self.keyed.close(channel);
            self.node.polls.left(channel);
        }
        is_polled
    }
}
