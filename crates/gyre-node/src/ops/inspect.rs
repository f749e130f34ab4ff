//! What an operator looks at: the connections of this node, one page after another.

use std::sync::Arc;

use gyre_core::{channel::ChannelName, hub::Slot};

use crate::{
    node::Node,
    shard::{Connection, ShardState, TransportKind},
};

/// Channels shown of one connection; the count is of all.
const CHANNELS_SHOWN_MAX: usize = 128;

/// Which connections are wanted; what is `None` does not matter.
#[derive(Clone, Debug, Default)]
pub struct ConnectionFilter {
    /// Those of this user; the empty one for the anonymous ones.
    pub user: Option<Box<str>>,
    /// The one of this client id.
    pub client: Option<Box<str>>,
    /// Those subscribed to this channel.
    pub channel: Option<ChannelName>,
}

/// A place in the list of all connections: where a page begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct PlaceInList {
    /// Number of the shard.
    pub shard: usize,
    /// Place on it.
    pub slot: u32,
}

/// One connection.
#[derive(Clone, Debug)]
pub struct ConnectionView {
    /// Where it is in the list.
    pub place: PlaceInList,
    /// Client id.
    pub client: String,
    /// User; empty for anonymous.
    pub user: Arc<str>,
    /// Transport.
    pub transport: TransportKind,
    /// Encoding.
    pub protocol: &'static str,
    /// Bytes that wait to be written.
    pub queued_bytes: usize,
    /// Channels it is subscribed to.
    pub channel_count: usize,
    /// Some of them.
    pub channels: Vec<ChannelName>,
}

/// Connections in the order of the list.
#[derive(Clone, Debug, Default)]
pub struct ConnectionsPage {
    /// As many as were wanted, at most.
    pub connections: Vec<ConnectionView>,
    /// Where the next page begins; `None` if there is none.
    pub next: Option<PlaceInList>,
}

impl Node {
    /// Channels with subscribers; unlike [`Self::channels`] without their names.
    pub fn channel_count(&self) -> usize {
        self.directory.channel_count()
    }

    /// Connected clients from a place on, `limit` at most.
    pub async fn connections(
        &self,
        filter: ConnectionFilter,
        from: PlaceInList,
        limit: usize,
    ) -> ConnectionsPage {
        let filter = Arc::new(filter);
        let lists = self.on_every_shard(move |shard| shard.list(&filter, from, limit + 1));
        let mut connections: Vec<_> = lists.await.into_iter().flatten().collect();
        let next = connections.get(limit).map(|next| next.place);
        connections.truncate(limit);
        ConnectionsPage { connections, next }
    }
}

impl ShardState {
    fn list(&self, filter: &ConnectionFilter, from: PlaceInList, limit: usize) -> Vec<ConnectionView> {
        let first = match self.index.cmp(&from.shard) {
            std::cmp::Ordering::Less => return Vec::new(),
            std::cmp::Ordering::Equal => from.slot,
            std::cmp::Ordering::Greater => 0,
        };
        // The smallest set that holds all that are wanted.
        let slots: Option<Vec<Slot>> = match (&filter.user, &filter.channel) {
            (Some(user), _) => Some(self.users.get(&**user).cloned().unwrap_or_default()),
            (None, Some(channel)) => Some(self.hub.subscribers(channel).collect()),
            (None, None) => None,
        };
        match slots {
            None => self.views(self.connections.from_slot(first), filter).take(limit).collect(),
            Some(mut slots) => {
                slots.retain(|slot| *slot >= first);
                slots.sort_unstable();
                let connections = slots.iter().filter_map(|&slot| Some((slot, self.connections.at(slot)?)));
                self.views(connections, filter).take(limit).collect()
            }
        }
    }

    fn views<'a>(
        &'a self,
        connections: impl Iterator<Item = (Slot, &'a Connection)>,
        filter: &ConnectionFilter,
    ) -> impl Iterator<Item = ConnectionView> {
        let wanted = connections.filter(|(_, connection)| {
            let session = &connection.session;
            let is_in = |channel: &ChannelName| self.hub.find(&connection.places, channel).is_some();
            session.is_connected()
                && filter.client.as_ref().is_none_or(|client| session.client().is(client))
                && filter.user.as_deref().is_none_or(|user| session.user().is_some_and(|own| **own == *user))
                && filter.channel.as_ref().is_none_or(is_in)
        });
        wanted.map(|(slot, connection)| self.view(slot, connection))
    }

    fn view(&self, slot: Slot, connection: &Connection) -> ConnectionView {
        let shown = connection.places.iter().take(CHANNELS_SHOWN_MAX);
        let mut channels: Vec<_> = shown.map(|place| self.hub.channel_at(*place).clone()).collect();
        channels.sort_unstable();
        ConnectionView {
            place: PlaceInList { shard: self.index, slot },
            client: connection.session.client().to_string(),
            user: connection.session.user().cloned().unwrap_or_default(),
            transport: connection.transport,
            protocol: connection.protocol(),
            queued_bytes: connection.queued_bytes(),
            channel_count: connection.places.len(),
            channels,
        }
    }
}
