//! Who receives what is published: the subscribers of every channel on one shard.
//!
//! A delivery looks a channel up once, is encoded at most once per wire form, and then costs one look at the gate and
//! one append for each subscriber. The hub knows connections only as slot numbers; what it decides goes to an
//! [`Outbox`]. It never reaches into a session.

mod deflate;
mod fanout;
mod keyed;
mod wire;

use std::sync::Arc;

use bytes::Bytes;
use gyre_protocol::{Publication, StreamPosition};
use hashbrown::HashMap;
use slab::Slab;

pub use deflate::{Deflate, WINDOW_BITS_MAX, WINDOW_BITS_MIN};
pub use keyed::{Holding, KeyedHub};
pub use wire::{Direction, Framing, WireForm, websocket_frame};

use crate::{channel::ChannelName, filter::Filter, ports::ChannelEvent};
use fanout::{Content, Fanout};

/// Names a connection on its shard.
pub type Slot = u32;

/// The subscribers of one shard, by channel.
#[derive(Debug, Default)]
pub struct Hub {
    names: HashMap<ChannelName, u32, foldhash::fast::RandomState>,
    channels: Slab<Channel>,
    last_id: u32,
}

#[derive(Debug)]
struct Channel {
    name: ChannelName,
    subscribers: Vec<Subscriber>,
    /// Its number on this shard; never that of another channel.
    id: u32,
    /// There are or were subscribers with delta.
    keeps_last: bool,
    /// The last publication delivered since then. It is what every subscriber marked [`DeltaState::Based`] has received
    /// last.
    last: Option<Arc<Publication>>,
}

/// One connection's subscription to one channel.
#[derive(Debug)]
pub struct Subscriber {
    /// The connection.
    pub slot: Slot,
    /// Wants joins and leaves.
    pub join_leave: bool,
    /// Builds state from what it receives: it is told of a loss even without a position.
    keeps_state: bool,
    delta: DeltaState,
    is_compact: bool,
    /// What may pass.
    pub gate: Gate,
}

/// Whether a subscriber is sent patches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum DeltaState {
    /// Never.
    Off,
    /// Not for the next publication: it has not received the last one.
    Baseless,
    /// Yes.
    Based,
    /// Of a map: not yet.
    KeysBaseless,
    /// Of a map: yes, against what each key was before.
    KeysBased,
}

/// How a subscription goes on once the client has been told of it.
#[derive(Debug, Default)]
pub struct Activation {
    /// The last position the client will know of: what follows it passes. Without one, everything does.
    pub position: Option<StreamPosition>,
    /// Delta compression.
    pub delta: Delta,
    /// Only publications that match pass. Not together with delta: patches build on one another.
    pub filter: Option<Box<Filter>>,
    /// Pushes name the channel by its number ([`Hub::channel_id`]).
    pub is_compact: bool,
}

/// Where the patches of a subscription begin.
#[derive(Debug, Default)]
pub enum Delta {
    /// There are none.
    #[default]
    Off,
    /// The next publication is sent in full.
    Full,
    /// The client has received this publication last, with the reply.
    From(Arc<Publication>),
    /// A map with a position, up to which the client holds what every key was; of keys whose last change is not after
    /// the offset `since` this is not certain, and their next publication is sent in full.
    Keys {
        /// 0 if the client has received all keys.
        since: u64,
    },
    /// A map without positions: everything is sent in full until [`Hub::begin_patches`].
    KeysLater,
}

/// What may pass to a subscriber.
#[derive(Debug)]
pub enum Gate {
    /// Nothing yet, and nothing is kept: at-most-once delivery before the subscribe reply.
    Closed,
    /// Everything.
    Open,
    /// Nothing yet; publications are kept until the position is known.
    Buffering(Box<Buffer>),
    /// Publications that follow this position.
    Positioned(StreamPosition),
    /// Publications that match a filter.
    Filtered(Box<Filtered>),
    /// Publications that follow a position, of a map whose client has received a part of the keys only.
    Resumed(Box<Resumed>),
}

/// Where the client of a map was, and where it came back; see [`Delta::Keys`].
#[derive(Debug)]
pub struct Resumed {
    position: StreamPosition,
    since: u64,
}

/// What passes a filter. Publications that do not match move the position all the same.
#[derive(Debug)]
pub struct Filtered {
    filter: Box<Filter>,
    position: Option<StreamPosition>,
}

/// Publications held back while a subscription is being made.
#[derive(Debug, Default)]
pub struct Buffer {
    held: Vec<ChannelEvent>,
    max: usize,
    has_overflowed: bool,
}

/// Where a subscriber stands, for its removal. Valid until another subscriber of the channel is removed; the hub then
/// tells whose place has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    channel: u32,
    index: u32,
}

/// What a removal changed.
#[derive(Debug)]
#[must_use]
pub struct Removed {
    /// The connection whose place moved, and its place before and after.
    pub moved: Option<(Slot, Place, Place)>,
    /// The channel, if that was its last subscriber on this shard.
    pub emptied: Option<ChannelName>,
}

/// Whether a subscriber is the first of its channel on this shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Joined {
    /// The shard has to become interested in the channel.
    First,
    /// It is already.
    AlreadyPresent,
}

/// What a gate says to a publication.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// Send it.
    Send,
    /// The subscriber has it already, or must not have it.
    Skip,
    /// Kept for later.
    Buffer,
    /// Something before it is missing.
    Gap,
}

/// Takes what the hub decides for a connection.
pub trait Outbox {
    /// The form of the connection's messages.
    fn form(&self, slot: Slot) -> WireForm;
    /// Appends a ready frame.
    fn send(&mut self, slot: Slot, frame: &Bytes);
    /// The subscriber missed something in this channel.
    fn lost(&mut self, slot: Slot, channel: &ChannelName);
    /// The message cannot be carried by the connection's encoding.
    fn inappropriate(&mut self, slot: Slot);
}

impl Hub {
    /// Number of channels with subscribers.
    pub fn channel_count(&self) -> usize {
        self.channels.len()
    }

    /// The channels with subscribers, and how many each has.
    pub fn channels(&self) -> impl Iterator<Item = (&ChannelName, usize)> {
        self.channels.iter().map(|(_, channel)| (&channel.name, channel.subscribers.len()))
    }

    /// The connections subscribed to a channel.
    pub fn subscribers(&self, channel: &str) -> impl ExactSizeIterator<Item = Slot> {
        let channel = self.names.get(channel).map(|&index| &self.channels[index as usize]);
        let subscribers = channel.map_or(&[][..], |channel| &channel.subscribers);
        subscribers.iter().map(|subscriber| subscriber.slot)
    }

    /// The channel's name as the shard shares it.
    pub fn shared_name(&self, channel: &str) -> Option<&ChannelName> {
        self.names.get_key_value(channel).map(|(name, _)| name)
    }

    /// Adds a subscriber.
    pub fn insert(&mut self, channel: &ChannelName, subscriber: Subscriber) -> (Place, Joined) {
        let (index, joined) = match self.names.get(channel) {
            Some(&index) => (index, Joined::AlreadyPresent),
            None => {
                // 0 is no number.
                self.last_id = self.last_id.wrapping_add(1).max(1);
                let entry = Channel::new(channel.clone(), self.last_id);
                let index = self.channels.insert(entry) as u32;
                self.names.insert(channel.clone(), index);
                (index, Joined::First)
            }
        };
        let subscribers = &mut self.channels[index as usize].subscribers;
        subscribers.push(subscriber);
        (Place { channel: index, index: subscribers.len() as u32 - 1 }, joined)
    }

    /// Removes the subscriber at that place.
    pub fn remove(&mut self, place: Place) -> Removed {
        let channel = &mut self.channels[place.channel as usize];
        channel.subscribers.swap_remove(place.index as usize);
        let last = Place { channel: place.channel, index: channel.subscribers.len() as u32 };
        let moved = channel.subscribers.get(place.index as usize).map(|moved| (moved.slot, last, place));
        let emptied = channel.subscribers.is_empty().then(|| {
            let channel = self.channels.remove(place.channel as usize);
            self.names.remove(&channel.name);
            channel.name
        });
        Removed { moved, emptied }
    }

    /// The one of a connection's places that is in the channel.
    pub fn find(&self, places: &[Place], channel: &str) -> Option<Place> {
        let &index = self.names.get(channel)?;
        places.iter().copied().find(|place| place.channel == index)
    }

    /// The channel's number: from 1, and its own as long as the shard lives.
    pub fn channel_id(&self, place: Place) -> u32 {
        self.channels[place.channel as usize].id
    }

    /// The channel of a place.
    pub fn channel_at(&self, place: Place) -> &ChannelName {
        &self.channels[place.channel as usize].name
    }

    /// The position the subscriber at that place has reached; `None` without positioning.
    pub fn position_at(&self, place: Place) -> Option<&StreamPosition> {
        match &self.channels[place.channel as usize].subscribers[place.index as usize].gate {
            Gate::Positioned(position) => Some(position),
            Gate::Filtered(filtered) => filtered.position.as_ref(),
            Gate::Resumed(resumed) => Some(&resumed.position),
            Gate::Closed | Gate::Open | Gate::Buffering(_) => None,
        }
    }

    /// From now on, keeps what comes to the subscriber at that place, at most `buffer_max` publications.
    pub fn hold(&mut self, place: Place, buffer_max: usize) {
        let subscriber = &mut self.channels[place.channel as usize].subscribers[place.index as usize];
        let buffer = Buffer { max: buffer_max, ..Buffer::default() };
        subscriber.gate = Gate::Buffering(Box::new(buffer));
    }

    /// Opens the gate at that place, and delivers what was held back meanwhile.
    pub fn activate(&mut self, place: Place, activation: Activation, outbox: &mut impl Outbox) {
        self.channels[place.channel as usize].activate(place.index as usize, activation, outbox);
    }

    /// The subscriber at that place ([`Delta::KeysLater`]) holds by now what every key was before what is delivered from
    /// here on.
    pub fn begin_patches(&mut self, place: Place) {
        let subscriber = &mut self.channels[place.channel as usize].subscribers[place.index as usize];
        if subscriber.delta == DeltaState::KeysBaseless {
            subscriber.delta = DeltaState::KeysBased;
        }
    }

    /// Delivers an event to the channel's subscribers.
    pub fn deliver(&mut self, channel: &ChannelName, event: ChannelEvent, outbox: &mut impl Outbox) {
        let Some(&index) = self.names.get(channel) else { return };
        self.channels[index as usize].deliver(event, outbox);
    }
}

impl Channel {
    fn new(name: ChannelName, id: u32) -> Self {
        Self { name, subscribers: Vec::new(), id, keeps_last: false, last: None }
    }

    fn deliver(&mut self, event: ChannelEvent, outbox: &mut impl Outbox) {
        let Some(mut fanout) = Fanout::new(&self.name, self.id, event, self.last.clone()) else {
            for subscriber in &mut self.subscribers {
                subscriber.lose(&self.name, outbox);
            }
            return;
        };
        for subscriber in &mut self.subscribers {
            subscriber.offer(&self.name, &mut fanout, outbox);
        }
        if self.keeps_last
            && let Some(publication) = fanout.publication()
        {
            self.last = Some(publication.clone());
        }
    }

    fn activate(&mut self, index: usize, activation: Activation, outbox: &mut impl Outbox) {
        let Activation { position, delta, filter, is_compact } = activation;
        let subscriber = &mut self.subscribers[index];
        subscriber.is_compact = is_compact;
        let held = match std::mem::replace(&mut subscriber.gate, Gate::new(position, filter, &delta)) {
            Gate::Buffering(buffer) if buffer.has_overflowed => {
                return outbox.lost(subscriber.slot, &self.name);
            }
            Gate::Buffering(buffer) => buffer.held,
            _ => Vec::new(),
        };
        subscriber.delta = DeltaState::of_keys(&delta);
        let (has_delta, mut received) = match delta {
            Delta::Off | Delta::Keys { .. } | Delta::KeysLater => (false, None),
            Delta::Full => (true, None),
            Delta::From(publication) => (true, Some(publication)),
        };
        for event in held {
            let Some(mut fanout) = Fanout::new(&self.name, self.id, event, received.clone()) else {
                return outbox.lost(subscriber.slot, &self.name);
            };
            if has_delta {
                subscriber.delta = DeltaState::after(received.is_some());
            }
            match subscriber.offer(&self.name, &mut fanout, outbox) {
                Admission::Send => received = fanout.publication().cloned(),
                Admission::Gap => return,
                Admission::Skip | Admission::Buffer => {}
            }
        }
        if !has_delta {
            return;
        }
        self.keeps_last = true;
        if self.last.is_none() {
            // As long as there is none, nobody is marked as having received it.
            self.last.clone_from(&received);
        }
        let is_last =
            received.zip(self.last.as_ref()).is_some_and(|(received, last)| is_same(&received, last));
        subscriber.delta = DeltaState::after(is_last);
    }
}

/// True if both are one publication, read by whatever way.
fn is_same(a: &Arc<Publication>, b: &Arc<Publication>) -> bool {
    Arc::ptr_eq(a, b) || (a.offset != 0 && a.offset == b.offset && a.epoch.is_same(&b.epoch))
}

impl DeltaState {
    /// Of a subscriber with delta, by whether it has received the last publication.
    fn after(has_received: bool) -> Self {
        if has_received { Self::Based } else { Self::Baseless }
    }

    /// Of a map, where it does not depend on what was received last.
    fn of_keys(delta: &Delta) -> Self {
        match delta {
            Delta::Keys { .. } => Self::KeysBased,
            Delta::KeysLater => Self::KeysBaseless,
            Delta::Off | Delta::Full | Delta::From(_) => Self::Off,
        }
    }
}

impl Gate {
    /// The gate of an active subscriber.
    fn new(position: Option<StreamPosition>, filter: Option<Box<Filter>>, delta: &Delta) -> Self {
        match (position, filter, delta) {
            (position, Some(filter), _) => Self::Filtered(Box::new(Filtered { filter, position })),
            (Some(position), None, &Delta::Keys { since: since @ 1.. }) => {
                Self::Resumed(Box::new(Resumed { position, since }))
            }
            (Some(position), None, _) => Self::Positioned(position),
            (None, None, _) => Self::Open,
        }
    }
}

impl Filtered {
    fn admit(&mut self, publication: &Publication) -> Admission {
        let admission = match &mut self.position {
            Some(position) => follow(position, publication),
            None => Admission::Send,
        };
        match admission {
            Admission::Send if !self.filter.matches(&publication.tags) => Admission::Skip,
            admission => admission,
        }
    }
}

/// What a position says to a publication; it moves past what is sent.
fn follow(position: &mut StreamPosition, publication: &Publication) -> Admission {
    // Outside the history: delivered at most once, moves nothing.
    if publication.offset == 0 {
        return Admission::Send;
    }
    if !publication.epoch.is_same(&position.epoch) {
        return Admission::Gap;
    }
    match publication.offset.wrapping_sub(position.offset) {
        1 => {
            position.offset = publication.offset;
            Admission::Send
        }
        0 => Admission::Skip,
        _ if publication.offset < position.offset => Admission::Skip,
        _ => Admission::Gap,
    }
}

impl Subscriber {
    /// A subscriber that holds back at most `buffer_max` publications until it is activated.
    pub fn positioned(slot: Slot, join_leave: bool, buffer_max: usize) -> Self {
        let buffer = Buffer { max: buffer_max, ..Buffer::default() };
        Self::new(slot, join_leave, Gate::Buffering(Box::new(buffer)))
    }

    /// A subscriber without position.
    pub fn unpositioned(slot: Slot, join_leave: bool) -> Self {
        Self::new(slot, join_leave, Gate::Closed)
    }

    /// The same, of somebody who builds state from what it receives and must not miss anything unnoticed.
    pub fn keeping_state(self) -> Self {
        Self { keeps_state: true, ..self }
    }

    fn new(slot: Slot, join_leave: bool, gate: Gate) -> Self {
        Self { slot, join_leave, keeps_state: false, delta: DeltaState::Off, is_compact: false, gate }
    }

    /// Offers one event to the subscriber. [`Admission::Gap`] if its subscription is over.
    fn offer(&mut self, channel: &ChannelName, fanout: &mut Fanout, outbox: &mut impl Outbox) -> Admission {
        let admission = self.admit(fanout);
        match admission {
            Admission::Send => {
                let content = self.content(fanout);
                match fanout.frame(outbox.form(self.slot), content, self.is_compact) {
                    Some(frame) => outbox.send(self.slot, frame),
                    None => {
                        outbox.inappropriate(self.slot);
                        return Admission::Gap;
                    }
                }
            }
            Admission::Skip | Admission::Buffer => {}
            Admission::Gap => outbox.lost(self.slot, channel),
        }
        if matches!(self.delta, DeltaState::Baseless | DeltaState::Based) && fanout.publication().is_some() {
            self.delta = DeltaState::after(admission == Admission::Send);
        }
        admission
    }

    fn content(&self, fanout: &Fanout) -> Content {
        match (self.delta, &self.gate) {
            (DeltaState::Off, _) => Content::Plain,
            (DeltaState::Baseless | DeltaState::KeysBaseless, _) => Content::Full,
            // Whatever is not after that was not received in this session.
            (DeltaState::KeysBased, Gate::Resumed(resumed))
                if fanout.base().is_none_or(|base| base.offset <= resumed.since) =>
            {
                Content::Full
            }
            (DeltaState::Based | DeltaState::KeysBased, _) => Content::Patch,
        }
    }

    /// Asks the gate.
    fn admit(&mut self, fanout: &Fanout) -> Admission {
        let Some(publication) = fanout.publication() else {
            return match (&self.gate, self.join_leave) {
                (Gate::Open | Gate::Positioned(_) | Gate::Filtered(_) | Gate::Resumed(_), true) => {
                    Admission::Send
                }
                _ => Admission::Skip,
            };
        };
        match &mut self.gate {
            Gate::Open => Admission::Send,
            Gate::Closed => Admission::Skip,
            Gate::Positioned(position) => follow(position, publication),
            Gate::Filtered(filtered) => filtered.admit(publication),
            Gate::Resumed(resumed) => follow(&mut resumed.position, publication),
            Gate::Buffering(buffer) => {
                if buffer.held.len() < buffer.max {
                    buffer.held.push(fanout.held(publication));
                } else {
                    buffer.has_overflowed = true;
                }
                Admission::Buffer
            }
        }
    }

    /// Events of the channel were lost: only those who keep neither position nor state may go on.
    fn lose(&mut self, channel: &ChannelName, outbox: &mut impl Outbox) {
        match &mut self.gate {
            Gate::Open if self.keeps_state => outbox.lost(self.slot, channel),
            Gate::Open | Gate::Closed => {}
            Gate::Buffering(buffer) => buffer.has_overflowed = true,
            Gate::Filtered(filtered) if filtered.position.is_none() && !self.keeps_state => {}
            Gate::Positioned(_) | Gate::Filtered(_) | Gate::Resumed(_) => outbox.lost(self.slot, channel),
        }
    }
}

/// What a subscription costs in the hub.
const SUBSCRIBER_BYTES_MAX: usize = 40;
const _: () = assert!(size_of::<Subscriber>() <= SUBSCRIBER_BYTES_MAX);

#[cfg(test)]
mod tests;
