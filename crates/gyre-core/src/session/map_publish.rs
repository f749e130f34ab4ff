//! Changes of maps: by publish commands of clients, and by their coming and going.

use std::sync::Arc;

use gyre_protocol::{ClientError, ClientInfo, PublishRequest};

use super::{
    BusyCommand, Effect, MapChange, Question, Refusal, Session,
    subscribe::received,
    subscription::{MapKeys, MapRef, Subscription, SubscriptionState},
};
use crate::{
    channel::{Asker, ChannelName, ChannelOptions, ClientKey, DataFormat, MapStorage, SubscriptionKind},
    limits::KEY_BYTES_MAX,
    ports::{HookRefusal, MapHookGrant, MapHookRequest, NewEntry},
    rules::Context,
};

impl Session {
    /// A publish command of type 1: sets or removes a key.
    ///
    /// Spec: client protocol, "Map subscriptions", publish and remove.
    pub(super) fn publish_map(
        &mut self,
        cx: &Context<'_>,
        id: u32,
        request: &PublishRequest<'_>,
        options: &ChannelOptions,
    ) -> Result<(), Refusal> {
        let channel = &*request.channel;
        let Some(live) = self.live() else { return Ok(()) };
        let asker = Asker { user: &live.user, is_subscribed: live.subscriptions.is_active(channel) };
        let (rights, hook) = match (&options.map, request.removed) {
            (None, _) => Default::default(),
            (Some(map), false) => (map.publish, map.publish_hook.clone()),
            (Some(map), true) => (map.remove, map.remove_hook.clone()),
        };
        if hook.is_none() && !cx.rules.may_call(rights, asker) {
            return Err(ClientError::PERMISSION_DENIED.into());
        }
        let Some(map) = &options.map else { return Err(ClientError::NOT_AVAILABLE.into()) };
        let key: Box<str> = match map.client_key {
            ClientKey::Given => request.key.as_ref().into(),
            ClientKey::ClientId => live.info.client.clone(),
            ClientKey::UserId if live.user.is_empty() => return Err(ClientError::PERMISSION_DENIED.into()),
            ClientKey::UserId => (*live.user).into(),
        };
        let data = received(self.encoding, &request.data);
        // Keys may say enough by being there, so nothing is demanded where no format is.
        let has_format = options.data_format != DataFormat::NonEmpty && !request.removed;
        if has_format && !options.data_format.accepts(&data) {
            return Err(ClientError::BAD_REQUEST.into());
        }
        let change = if request.removed {
            MapChange::Remove { key, idempotency_key: Box::default() }
        } else {
            let info = live.subscriptions.get(channel).map_or(&live.info, |subscription| &subscription.info);
            let (info, delta) = (Some(info.clone()), options.delta_publish);
            MapChange::Publish(Box::new(NewEntry { key, data, info, delta, ..NewEntry::default() }))
        };
        let asked = Asked { id, channel: ChannelName::new(channel), change, storage: map.storage };
        match hook {
            Some(hook) => {
                let question = Question::Map(asked.question());
                self.ask(hook, question, BusyCommand::MapHook(Box::new(asked)));
                Ok(())
            }
            None => self.change_map(asked),
        }
    }

    /// The application has judged a change.
    pub(super) fn map_hook_answered(
        &mut self,
        mut asked: Asked,
        answer: Result<Box<MapHookGrant>, HookRefusal>,
    ) -> Result<(), Refusal> {
        asked.change.apply(*answer?);
        self.change_map(asked)
    }

    fn change_map(&mut self, asked: Asked) -> Result<(), Refusal> {
        let Asked { id, channel, change, storage } = asked;
        let key = change.key();
        if key.is_empty() || key.len() > KEY_BYTES_MAX {
            return Err(ClientError::BAD_REQUEST.into());
        }
        self.wait_for(Effect::ChangeMap { channel, change, storage }, BusyCommand::Publish { id });
        Ok(())
    }

    /// Puts a new subscriber into the maps of who is there.
    ///
    /// Spec: client protocol, "Presence as maps".
    pub(super) fn enter_maps(&mut self, cx: &Context<'_>, channel: &ChannelName) {
        let Some(options) = cx.rules.namespaces.options(channel) else { return };
        let presence = |prefix: &str, kind: SubscriptionKind| {
            if prefix.is_empty() {
                return None;
            }
            let name = format!("{prefix}{channel}");
            let options = cx.rules.namespaces.options(&name).filter(|options| options.kind == kind)?;
            Some(MapRef { channel: ChannelName::new(&name), storage: options.map.as_ref()?.storage })
        };
        let own = options.map.as_ref().filter(|map| map.remove_client_on_unsubscribe);
        let keys = MapKeys {
            clients: presence(&options.clients_presence_prefix, SubscriptionKind::MapClients),
            users: presence(&options.users_presence_prefix, SubscriptionKind::MapUsers),
            own: own.map(|map| MapRef { channel: channel.clone(), storage: map.storage }),
        };
        if keys.is_empty() {
            return;
        }
        let Some(live) = self.live_mut() else { return };
        let Some(subscription) = live.subscriptions.get_mut(channel) else { return };
        let effects = keys.enter_effects(&subscription.info);
        subscription.map_keys = Some(Box::new(keys));
        for effect in effects {
            self.effect(effect);
        }
    }

    /// Gives back what a subscription holds, wherever it holds something.
    pub(super) fn give_back(&mut self, channel: ChannelName, mut subscription: Subscription) {
        if let Some(keys) = subscription.map_keys.take() {
            let client = &subscription.info.client;
            for MapRef { channel, storage } in [keys.clients, keys.own].into_iter().flatten() {
                self.effect(Effect::LeaveMap { channel, key: client.clone(), storage });
            }
        }
        if let Some(stream) = subscription.stream {
            self.effect(Effect::EndStream { stream });
        }
        let state = std::mem::replace(&mut subscription.state, SubscriptionState::Active);
        match state {
            SubscriptionState::Polled(tracked) if !tracked.is_empty() => {
                self.effect(Effect::Untrack { channel: channel.clone(), keys: tracked.into_keys() });
            }
            state => subscription.state = state,
        }
        let effect = subscription.unsubscribe_effect(channel);
        self.effect(effect);
    }
}

/// A change the application is being asked about.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) id: u32,
    channel: ChannelName,
    change: MapChange,
    storage: MapStorage,
}

impl Asked {
    fn question(&self) -> MapHookRequest {
        let (key, data) = match &self.change {
            MapChange::Publish(entry) => (entry.key.clone(), Some(entry.data.clone())),
            MapChange::Remove { key, .. } => (key.clone(), None),
        };
        MapHookRequest { channel: self.channel.clone(), key, data }
    }
}

impl MapChange {
    fn key(&self) -> &str {
        match self {
            Self::Publish(entry) => &entry.key,
            Self::Remove { key, .. } => key,
        }
    }

    /// Makes the change as the application wants it.
    fn apply(&mut self, grant: MapHookGrant) {
        match self {
            Self::Publish(entry) => {
                let key = if grant.key.is_empty() { std::mem::take(&mut entry.key) } else { grant.key };
                **entry = NewEntry {
                    key,
                    data: grant.data.unwrap_or_else(|| std::mem::take(&mut entry.data)),
                    info: entry.info.take(),
                    tags: grant.tags,
                    score: grant.score,
                    key_mode: grant.key_mode,
                    idempotency_key: grant.idempotency_key,
                    delta: grant.delta,
                    version: grant.version,
                    version_epoch: grant.version_epoch,
                };
            }
            Self::Remove { key, idempotency_key } => {
                if !grant.key.is_empty() {
                    *key = grant.key;
                }
                *idempotency_key = grant.idempotency_key;
            }
        }
    }
}

impl MapKeys {
    fn is_empty(&self) -> bool {
        self.clients.is_none() && self.users.is_none() && self.own.is_none()
    }

    /// The effects that set, or renew, the keys of a subscriber.
    pub(super) fn enter_effects(&self, info: &Arc<ClientInfo>) -> Vec<Effect> {
        let enter = |map: &MapRef, key: &str, info: Option<Arc<ClientInfo>>| Effect::EnterMap {
            channel: map.channel.clone(),
            key: key.into(),
            info,
            storage: map.storage,
        };
        let client = self.clients.as_ref().map(|map| enter(map, &info.client, Some(info.clone())));
        let user = self.users.as_ref().filter(|_| !info.user.is_empty());
        client.into_iter().chain(user.map(|map| enter(map, &info.user, None))).collect()
    }
}

impl Subscription {
    /// The effects that keep the subscriber's keys in maps alive.
    pub(super) fn renew_effects(&self) -> Vec<Effect> {
        match (&self.state, &self.map_keys) {
            (SubscriptionState::Active, Some(keys)) => keys.enter_effects(&self.info),
            _ => Vec::new(),
        }
    }
}
