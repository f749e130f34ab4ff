//! The subscriptions of one session.

use std::sync::Arc;

use gyre_protocol::{ClientInfo, StreamPosition, SubscribeResult};
use hashbrown::HashMap;

use crate::{
    channel::{ChannelName, MapStorage},
    hub::Activation,
    session::{Effect, EffectId, map::CatchUp, shared_poll::Tracked},
};

/// The subscriptions of one session by channel; allocates nothing while there are none. Boxed, because most sessions
/// have one or two, and the smallest table has room for three more.
#[derive(Debug, Default)]
pub(crate) struct Subscriptions(HashMap<ChannelName, Box<Subscription>>);

/// One subscription, made or being made.
#[derive(Debug)]
pub(crate) struct Subscription {
    pub(crate) state: SubscriptionState,
    /// The subscriber as others see it.
    pub(crate) info: Arc<ClientInfo>,
    /// Unix time of expiry.
    pub(crate) expire_at: Option<i64>,
    pub(crate) features: Features,
    /// Keys it has in maps; few have any.
    pub(crate) map_keys: Option<Box<MapKeys>>,
    /// The question whether it may go on, while it is not answered.
    pub(crate) refreshing: Option<EffectId>,
    /// The stream of the application that feeds it, by the effect that opened it.
    pub(crate) stream: Option<EffectId>,
}

/// Where a subscriber has keys while it is there.
#[derive(Debug)]
pub(crate) struct MapKeys {
    /// Its client id, with its information.
    pub(crate) clients: Option<MapRef>,
    /// Its user id, which others may hold as well and which therefore only ends.
    pub(crate) users: Option<MapRef>,
    /// The channel itself, from which the client id is removed when it leaves.
    pub(crate) own: Option<MapRef>,
}

/// A map and what it keeps.
#[derive(Debug)]
pub(crate) struct MapRef {
    pub(crate) channel: ChannelName,
    pub(crate) storage: MapStorage,
}

/// What a subscription does besides receiving publications.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Features {
    /// Made by the server: cannot be refreshed by the client, and a lost position ends the connection.
    pub(crate) is_server_side: bool,
    /// Member of the channel's presence.
    pub(crate) presence: bool,
    /// Its join and leave are published.
    pub(crate) join_leave: bool,
    /// Keeps a position.
    pub(crate) positioned: bool,
}

#[derive(Debug)]
pub(crate) enum SubscriptionState {
    /// Hub and engine are being asked.
    Pending(Box<PendingSubscription>),
    /// A map is being read, page by page.
    CatchUp(Box<CatchUp>),
    /// Keys are tracked; nothing else flows.
    Polled(Box<Tracked>),
    /// Publications flow.
    Active,
}

#[derive(Debug)]
pub(crate) struct PendingSubscription {
    pub(crate) effect: EffectId,
    pub(crate) origin: Origin,
    /// What is known of the result so far.
    pub(crate) result: SubscribeResult,
    pub(crate) recovery: Recovery,
    /// The stream's top when it was read: what the client will have seen once it has the result.
    pub(crate) top: StreamPosition,
    /// How it goes on once the client has the result; the position is set then.
    pub(crate) activation: Activation,
    pub(crate) reject_unrecovered: bool,
}

/// What is to be recovered, where recovery is on and was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Recovery {
    None,
    /// Everything after the position.
    Stream(StreamPosition),
    /// The latest publication, unless the client holds it.
    Cache(StreamPosition),
}

/// Who wanted a subscription, and thus how its result is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// A subscribe command: a reply.
    Command { id: u32 },
    /// The connect: part of its result.
    Connect,
    /// The application at run time: a push.
    Server,
}

impl Subscription {
    /// The effect that undoes this subscription. Joins and leaves are published for finished subscriptions only.
    pub(crate) fn unsubscribe_effect(self, channel: ChannelName) -> Effect {
        let is_active = matches!(self.state, SubscriptionState::Active);
        Effect::Unsubscribe {
            channel,
            presence: self.features.presence.then(|| self.info.clone()),
            leave: (is_active && self.features.join_leave).then_some(self.info),
        }
    }

    /// True if the session's tick has something to do for it.
    pub(crate) fn needs_tick(&self) -> bool {
        let is_busy = match &self.state {
            SubscriptionState::CatchUp(_) => true,
            SubscriptionState::Polled(tracked) => !tracked.is_empty(),
            SubscriptionState::Pending(_) | SubscriptionState::Active => false,
        };
        self.features.presence
            || self.features.positioned
            || self.expire_at.is_some()
            || self.map_keys.is_some()
            || is_busy
    }
}

impl Subscriptions {
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn contains(&self, channel: &str) -> bool {
        self.0.contains_key(channel)
    }

    pub(crate) fn is_pending(&self, channel: &str) -> bool {
        let state = self.0.get(channel).map(|subscription| &subscription.state);
        matches!(state, Some(SubscriptionState::Pending(_)))
    }

    pub(crate) fn is_active(&self, channel: &str) -> bool {
        let state = self.0.get(channel).map(|subscription| &subscription.state);
        matches!(state, Some(SubscriptionState::Active | SubscriptionState::Polled(_)))
    }

    pub(crate) fn get(&self, channel: &str) -> Option<&Subscription> {
        self.0.get(channel).map(Box::as_ref)
    }

    pub(crate) fn get_mut(&mut self, channel: &str) -> Option<&mut Subscription> {
        self.0.get_mut(channel).map(Box::as_mut)
    }

    pub(crate) fn insert(&mut self, channel: ChannelName, subscription: Subscription) {
        self.0.insert(channel, Box::new(subscription));
    }

    pub(crate) fn remove(&mut self, channel: &str) -> Option<(ChannelName, Subscription)> {
        self.0.remove_entry(channel).map(|(channel, subscription)| (channel, *subscription))
    }

    pub(crate) fn channels(&self) -> impl Iterator<Item = &ChannelName> {
        self.0.keys()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&ChannelName, &Subscription)> {
        self.0.iter().map(|(channel, subscription)| (channel, &**subscription))
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (&ChannelName, &mut Subscription)> {
        self.0.iter_mut().map(|(channel, subscription)| (channel, &mut **subscription))
    }

    pub(crate) fn into_iter(self) -> impl Iterator<Item = (ChannelName, Subscription)> {
        self.0.into_iter().map(|(channel, subscription)| (channel, *subscription))
    }
}
