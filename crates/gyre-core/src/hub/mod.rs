//! Who receives what is published: the subscribers of every channel on one shard.
//!
//! A delivery looks a channel up once, is encoded at most once per wire form, and then costs one look at the gate and
//! one append for each subscriber. The hub knows connections only as slot numbers; what it decides goes to an
//! [`Outbox`]. It never reaches into a session.

mod deflate;
mod keyed;
mod wire;

use bytes::Bytes;
use gyre_protocol::{Push, PushBody, StreamPosition};
use hashbrown::HashMap;
use slab::Slab;

pub use deflate::Deflate;
pub use keyed::KeyedHub;
pub use wire::{Direction, Framing, WireForm};

use crate::{channel::ChannelName, ports::ChannelEvent};

/// Names a connection on its shard.
pub type Slot = u32;

/// The subscribers of one shard, by channel.
#[derive(Debug, Default)]
pub struct Hub {
    names: HashMap<ChannelName, u32, foldhash::fast::RandomState>,
    channels: Slab<Channel>,
}

#[derive(Debug)]
struct Channel {
    name: ChannelName,
    subscribers: Vec<Subscriber>,
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
    /// What may pass.
    pub gate: Gate,
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

/// Ready frames of one event, one per wire form in use. A shard has few forms, so a linear search beats a map.
#[derive(Debug, Default)]
struct Frames(Vec<(WireForm, Option<Bytes>)>);

impl Frames {
    /// The frame of that form; `None` if the event cannot be carried by it.
    fn of(&mut self, form: WireForm, push: &Push) -> Option<&Bytes> {
        let at = match self.0.iter().position(|(known, _)| *known == form) {
            Some(at) => at,
            None => {
                self.0.push((form, form.push(push).ok()));
                self.0.len() - 1
            }
        };
        self.0[at].1.as_ref()
    }
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
    pub fn subscribers(&self, channel: &str) -> impl Iterator<Item = Slot> {
        let channel = self.names.get(channel).map(|&index| &self.channels[index as usize]);
        channel.into_iter().flat_map(|channel| channel.subscribers.iter().map(|subscriber| subscriber.slot))
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
                let entry = Channel { name: channel.clone(), subscribers: Vec::new() };
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

    /// The position the subscriber at that place has reached; `None` without positioning.
    pub fn position_at(&self, place: Place) -> Option<&StreamPosition> {
        match &self.channels[place.channel as usize].subscribers[place.index as usize].gate {
            Gate::Positioned(position) => Some(position),
            _ => None,
        }
    }

    /// From now on, keeps what comes to the subscriber at that place, at most `buffer_max` publications.
    pub fn hold(&mut self, place: Place, buffer_max: usize) {
        let subscriber = &mut self.channels[place.channel as usize].subscribers[place.index as usize];
        let buffer = Buffer { max: buffer_max, ..Buffer::default() };
        subscriber.gate = Gate::Buffering(Box::new(buffer));
    }

    /// Opens the gate at that place for what follows `position` (everything without one), and delivers what was held
    /// back meanwhile.
    pub fn activate(&mut self, place: Place, position: Option<StreamPosition>, outbox: &mut impl Outbox) {
        let channel = &mut self.channels[place.channel as usize];
        let subscriber = &mut channel.subscribers[place.index as usize];
        let gate = position.map_or(Gate::Open, Gate::Positioned);
        let Gate::Buffering(buffer) = std::mem::replace(&mut subscriber.gate, gate) else { return };
        if buffer.has_overflowed {
            return outbox.lost(subscriber.slot, &channel.name);
        }
        for event in buffer.held {
            let Some(push) = push_of(&channel.name, event) else {
                return outbox.lost(subscriber.slot, &channel.name);
            };
            if !offer(subscriber, &channel.name, &push, &mut Frames::default(), outbox) {
                return;
            }
        }
    }

    /// Delivers an event to the channel's subscribers.
    pub fn deliver(&mut self, channel: &ChannelName, event: ChannelEvent, outbox: &mut impl Outbox) {
        let Some(&index) = self.names.get(channel) else { return };
        let Channel { name, subscribers } = &mut self.channels[index as usize];
        let Some(push) = push_of(name, event) else {
            for subscriber in subscribers {
                subscriber.lose(name, outbox);
            }
            return;
        };
        let mut frames = Frames::default();
        for subscriber in subscribers {
            offer(subscriber, name, &push, &mut frames, outbox);
        }
    }
}

/// The push of an event; `None` if events were lost.
fn push_of(channel: &ChannelName, event: ChannelEvent) -> Option<Push> {
    let body = match event {
        ChannelEvent::Publication(publication) => PushBody::Publication(publication),
        ChannelEvent::Join(info) => PushBody::Join(info),
        ChannelEvent::Leave(info) => PushBody::Leave(info),
        ChannelEvent::Lost => return None,
    };
    Some(Push { channel: channel.as_shared().clone(), id: 0, body })
}

/// Offers one push to one subscriber. False if its subscription is over.
fn offer(
    subscriber: &mut Subscriber,
    channel: &ChannelName,
    push: &Push,
    frames: &mut Frames,
    outbox: &mut impl Outbox,
) -> bool {
    match subscriber.admit(push) {
        Admission::Send => match frames.of(outbox.form(subscriber.slot), push) {
            Some(frame) => outbox.send(subscriber.slot, frame),
            None => {
                outbox.inappropriate(subscriber.slot);
                return false;
            }
        },
        Admission::Skip | Admission::Buffer => {}
        Admission::Gap => {
            outbox.lost(subscriber.slot, channel);
            return false;
        }
    }
    true
}

impl Subscriber {
    /// A subscriber that holds back at most `buffer_max` publications until it is activated.
    pub fn positioned(slot: Slot, join_leave: bool, buffer_max: usize) -> Self {
        let buffer = Buffer { max: buffer_max, ..Buffer::default() };
        Self { slot, join_leave, keeps_state: false, gate: Gate::Buffering(Box::new(buffer)) }
    }

    /// A subscriber without position.
    pub fn unpositioned(slot: Slot, join_leave: bool) -> Self {
        Self { slot, join_leave, keeps_state: false, gate: Gate::Closed }
    }

    /// The same, of somebody who builds state from what it receives and must not miss anything unnoticed.
    pub fn keeping_state(self) -> Self {
        Self { keeps_state: true, ..self }
    }

    /// Asks the gate, and moves the position past what is sent.
    fn admit(&mut self, push: &Push) -> Admission {
        let PushBody::Publication(publication) = &push.body else {
            return match (&self.gate, self.join_leave) {
                (Gate::Open | Gate::Positioned(_), true) => Admission::Send,
                _ => Admission::Skip,
            };
        };
        match &mut self.gate {
            Gate::Open => Admission::Send,
            Gate::Closed => Admission::Skip,
            Gate::Positioned(position) => {
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
            Gate::Buffering(buffer) => {
                if buffer.held.len() < buffer.max {
                    buffer.held.push(ChannelEvent::Publication(publication.clone()));
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
            Gate::Positioned(_) => outbox.lost(self.slot, channel),
        }
    }
}

/// What a subscription costs in the hub.
const SUBSCRIBER_BYTES_MAX: usize = 40;
const _: () = assert!(size_of::<Subscriber>() <= SUBSCRIBER_BYTES_MAX);

#[cfg(test)]
mod tests;
