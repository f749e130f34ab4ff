//! Listing a shard's connections, a few at a time.
//!
//! Candidates are looked at from the last to the first. Users and channels keep their connections in lists from which
//! one is removed by putting the last in its place: going backwards, what is moved has been looked at already. So a
//! connection that is there all the time is never left out, whatever comes and goes between two slices.

use gyre_core::hub::Slot;
use gyre_protocol::api::{Connection as Entry, ConnectionChannel};

use super::{ShardState, state::Connection};

/// Connections looked at before other tasks of the shard get their turn.
const LOOKED_AT_MAX: usize = 1024;
/// Connections described before other tasks of the shard get their turn.
const DESCRIBED_MAX: usize = 128;
/// Channels told of a connection; their number is told beside them.
const CHANNELS_MAX: usize = 100;

/// Which connections are meant; an empty field filters nothing.
#[derive(Clone, Debug, Default)]
pub(crate) struct ConnectionFilter {
    pub(crate) user: Box<str>,
    pub(crate) client: Box<str>,
    pub(crate) channel: Box<str>,
}

/// A slice of the list.
#[derive(Debug)]
pub(crate) struct Listed {
    pub(crate) entries: Vec<Entry>,
    /// How many candidates were looked at.
    pub(crate) looked_at: usize,
    /// Where the next slice ends; `None` if the shard has no more.
    pub(crate) next: Option<usize>,
}

/// Connections to be looked at, if they are there; the last one has the number before `end`.
struct Candidates {
    end: usize,
    slots: Vec<Slot>,
}

impl ShardState {
    /// The connections among the candidates before number `end`, at most `most` of them.
    pub(crate) fn list(&self, filter: &ConnectionFilter, end: usize, most: usize) -> Listed {
        let mut entries = Vec::new();
        let candidates = self.candidates(filter, end);
        let (mut at, mut looked_at) = (candidates.end, 0);
        for slot in candidates.slots.into_iter().rev() {
            if entries.len() == most.min(DESCRIBED_MAX) {
                break;
            }
            (at, looked_at) = (at - 1, looked_at + 1);
            if let Some(connection) = self.connections.at(slot).filter(|found| filter.takes(found)) {
                entries.push(self.describe(connection));
            }
        }
        Listed { entries, looked_at, next: (at > 0).then_some(at) }
    }

    fn candidates(&self, filter: &ConnectionFilter, end: usize) -> Candidates {
        let range = |count: usize| end.min(count).saturating_sub(LOOKED_AT_MAX)..end.min(count);
        match (&*filter.user, &*filter.channel) {
            ("", "") => {
                let range = range(self.connections.slot_count());
                Candidates { end: range.end, slots: range.map(|slot| slot as Slot).collect() }
            }
            ("", channel) => {
                let subscribers = self.hub.subscribers(channel);
                let range = range(subscribers.len());
                let slots = subscribers.skip(range.start).take(range.len()).collect();
                Candidates { end: range.end, slots }
            }
            (user, _) => {
                let slots = self.users.get(user).map_or(&[][..], |slots| slots);
                let range = range(slots.len());
                Candidates { end: range.end, slots: slots[range].to_vec() }
            }
        }
    }

    fn describe(&self, connection: &Connection) -> Entry {
        let session = &connection.session;
        let channels = session.channels().take(CHANNELS_MAX).map(|channel| ConnectionChannel {
            name: channel.name.as_shared().clone(),
            is_server_side: channel.is_server_side,
        });
        let app = connection.app.as_deref();
        Entry {
            client: session.client().to_string(),
            app_name: app.map_or_else(Box::default, |app| app.name.clone()),
            app_version: app.map_or_else(Box::default, |app| app.version.clone()),
            transport: connection.transport.name(),
            protocol: connection.protocol(),
            user: session.user().cloned().unwrap_or_default(),
            channels: channels.collect(),
            num_channels: session.subscription_count() as u32,
            meta: session.meta().cloned().unwrap_or_default(),
            info: session.info().map(|info| info.conn_info.clone()).unwrap_or_default(),
            connected_at_ms: connection.connected_at_ms,
            status: if session.is_connected() { "connected" } else { "connecting" },
            queue_bytes: connection.queued_bytes() as u64,
            node: self.node.info.uid.clone(),
        }
    }
}

impl ConnectionFilter {
    fn takes(&self, connection: &Connection) -> bool {
        let session = &connection.session;
        let Some(user) = session.user() else { return false };
        (self.user.is_empty() || **user == *self.user)
            && (self.client.is_empty() || session.client().is(&self.client))
            && (self.channel.is_empty() || session.is_subscribed(&self.channel))
    }
}
