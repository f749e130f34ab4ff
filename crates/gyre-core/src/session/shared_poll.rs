//! Shared poll subscriptions: a channel without data of its own, and the keys a client tracks in it.
//!
//! Spec: client protocol, "Shared poll"; centrifuge `client_shared_poll.go`.

use std::sync::Arc;

use gyre_protocol::{ClientError, ReplyBody, SubRefreshRequest, SubRefreshResult, SubscribeResult};
use hashbrown::HashMap;

use super::{
    BusyCommand, Effect, Refusal, Session, TrackBatch,
    connect::expiry,
    subscribe::{Grant, told_expiry},
    subscription::{Features, Subscription, SubscriptionState},
};
use crate::{
    channel::{ChannelName, SharedPollOptions},
    limits::KEY_BYTES_MAX,
    ports::TokenError,
    rules::Context,
};

/// `type` of shared poll subscriptions.
pub(super) const KIND_SHARED_POLL: i32 = 4;
/// `type` of the sub_refresh command: what it does.
pub(super) const REFRESH_TRACK: i32 = 1;
pub(super) const REFRESH_UNTRACK: i32 = 2;

/// The keys a subscription tracks.
#[derive(Debug)]
pub(crate) struct Tracked {
    options: Arc<SharedPollOptions>,
    /// Updates may go out as patches.
    delta: bool,
    /// Unix time at which the signature of each expires.
    keys: HashMap<Box<str>, Option<i64>, foldhash::fast::RandomState>,
}

/// A track command whose signatures are being verified.
#[derive(Debug)]
pub(super) struct TrackCommand {
    pub(super) id: u32,
    channel: ChannelName,
    /// Keys, the version the client holds, and the batch each came in.
    wanted: Vec<(Box<str>, u64, usize)>,
    unwanted: Vec<Box<str>>,
}

impl Tracked {
    pub(super) fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Takes out the keys whose signature, and the grace after it, has passed.
    pub(super) fn take_expired(&mut self, unix_seconds: i64) -> Vec<Box<str>> {
        let grace = self.options.expired_extra_delay.as_secs() as i64;
        let has_expired = |at: Option<i64>| at.is_some_and(|at| unix_seconds > at.saturating_add(grace));
        self.keys.extract_if(|_, at| has_expired(*at)).map(|(key, _)| key).collect()
    }

    pub(super) fn into_keys(self) -> Vec<Box<str>> {
        self.keys.into_keys().collect()
    }
}

impl Session {
    /// Enters an authorised subscription; the engine of polls tells the epoch.
    pub(super) fn begin_polled(
        &mut self,
        id: u32,
        channel: ChannelName,
        granted: Grant,
        options: Arc<SharedPollOptions>,
    ) {
        let delta = granted.wishes.delta && options.delta;
        let tracked = Tracked { options: options.clone(), delta, keys: HashMap::default() };
        let Some(live) = self.live_mut() else { return };
        let subscription = Subscription {
            state: SubscriptionState::Polled(Box::new(tracked)),
            info: live.info.clone(),
            expire_at: granted.expire_at,
            features: Features::default(),
            map_keys: None,
            refreshing: None,
            stream: None,
        };
        live.subscriptions.insert(channel.clone(), subscription);
        let data = granted.grant.data;
        let effect = Effect::JoinPoll { channel: channel.clone(), options };
        self.wait_for(effect, BusyCommand::JoinPoll { id, channel, data });
    }

    /// The channel is being polled.
    pub(super) fn poll_joined(
        &mut self,
        cx: &Context<'_>,
        id: u32,
        channel: &ChannelName,
        result: SubscribeResult,
    ) {
        let jitter = self.jitter;
        let Some(live) = self.live_mut() else { return };
        let Some(subscription) = live.subscriptions.get(channel) else {
            // Ended by the application meanwhile.
            self.effect(Effect::Unsubscribe { channel: channel.clone(), presence: None, leave: None });
            return self.reply(id, ReplyBody::Error(ClientError::INTERNAL));
        };
        let expire_at = subscription.expire_at;
        if expire_at.is_some() {
            live.timers.start_tick(&cx.now, &cx.rules.limits, jitter);
        }
        let delta = self.tracked_mut(channel).is_some_and(|tracked| tracked.delta);
        let expiry = told_expiry(expire_at, channel, cx);
        let result = SubscribeResult { kind: KIND_SHARED_POLL, expiry, delta, ..result };
        self.reply(id, ReplyBody::Subscribe(Box::new(result)));
    }

    /// A sub_refresh command of type 1: tracks keys, once their signatures are verified.
    pub(super) fn track(&mut self, id: u32, request: &SubRefreshRequest<'_>) -> Result<(), Refusal> {
        let tracked = self.tracked_mut(&request.channel).ok_or(ClientError::BAD_REQUEST)?;
        let is_key = |key: &str| !key.is_empty() && key.len() <= KEY_BYTES_MAX;
        let is_sound = |batch: &gyre_protocol::TrackBatch<'_>| {
            !batch.items.is_empty() && batch.items.iter().all(|(key, _)| is_key(key))
        };
        if request.track.is_empty() || !request.track.iter().all(is_sound) {
            return Err(ClientError::BAD_REQUEST.into());
        }
        // Counted before they are told apart: a frame holds few, and whoever repeats keys gets nothing for it.
        let named = request.track.iter().flat_map(|batch| &batch.items);
        let new = named.filter(|(key, _)| !tracked.keys.contains_key(&**key)).count();
        if tracked.keys.len() + new > tracked.options.keys_max {
            return Err(ClientError::LIMIT_EXCEEDED.into());
        }
        let unwanted: Vec<Box<str>> = request.untrack.iter().map(|key| key.as_ref().into()).collect();
        let mut wanted = Vec::with_capacity(new);
        for (at, batch) in request.track.iter().enumerate() {
            wanted.extend(batch.items.iter().map(|(key, version)| (key.as_ref().into(), *version, at)));
        }
        let batches = request.track.iter().map(|batch| TrackBatch {
            signature: batch.signature.as_ref().into(),
            keys: batch.items.iter().map(|(key, _)| key.as_ref().into()).collect(),
        });
        let channel = ChannelName::new(&request.channel);
        let batches = batches.collect();
        let Some(live) = self.live() else { return Ok(()) };
        let effect = Effect::VerifyTrack { channel: channel.clone(), user: live.user.clone(), batches };
        self.wait_for(effect, BusyCommand::Track(TrackCommand { id, channel, wanted, unwanted }));
        Ok(())
    }

    /// The signatures of a track command have been judged: `expiries` has one entry for each batch.
    pub(super) fn track_verified(
        &mut self,
        cx: &Context<'_>,
        command: TrackCommand,
        expiries: Result<Vec<Option<i64>>, TokenError>,
    ) -> Result<(), Refusal> {
        let expiries = expiries.map_err(|error| match error {
            TokenError::Expired => ClientError::TOKEN_EXPIRED,
            _ => ClientError::PERMISSION_DENIED,
        })?;
        let TrackCommand { id, channel, wanted, unwanted } = command;
        let tracked = self.tracked_mut(&channel).ok_or(ClientError::PERMISSION_DENIED)?;
        let mut versions: HashMap<Box<str>, u64> = HashMap::with_capacity(wanted.len());
        for (key, version, batch) in wanted {
            tracked.keys.insert(key.clone(), expiries.get(batch).copied().flatten());
            versions.insert(key, version);
        }
        let delta = tracked.delta;
        let mut dropped = Vec::new();
        for key in unwanted {
            tracked.keys.remove(&key);
            // Of a key that is new in this request, hub and poll know nothing yet; forgetting it again is harmless.
            versions.remove(&key);
            dropped.push(key);
        }
        let expiry = expiry(expiries.iter().copied().flatten().min(), &cx.now);
        self.reply(id, ReplyBody::SubRefresh(SubRefreshResult { expiry, items: Vec::new() }));
        if !dropped.is_empty() {
            self.effect(Effect::Untrack { channel: channel.clone(), keys: dropped });
        }
        self.effect(Effect::Track { channel, keys: versions.into_iter().collect(), delta });
        let jitter = self.jitter;
        if let Some(live) = self.live_mut() {
            live.timers.start_tick(&cx.now, &cx.rules.limits, jitter);
        }
        Ok(())
    }

    /// A sub_refresh command of type 2: tracks keys no longer; those it did not track are ignored.
    pub(super) fn untrack(&mut self, id: u32, request: &SubRefreshRequest<'_>) -> Result<(), Refusal> {
        let tracked = self.tracked_mut(&request.channel).ok_or(ClientError::BAD_REQUEST)?;
        if request.untrack.is_empty() {
            return Err(ClientError::BAD_REQUEST.into());
        }
        let removed = request.untrack.iter().filter_map(|key| tracked.keys.remove_entry(&**key));
        let keys: Vec<Box<str>> = removed.map(|(key, _)| key).collect();
        self.reply(id, ReplyBody::SubRefresh(SubRefreshResult::default()));
        if !keys.is_empty() {
            self.effect(Effect::Untrack { channel: ChannelName::new(&request.channel), keys });
        }
        Ok(())
    }

    /// A key is no more; the client has been told.
    pub fn handle_removed_key(&mut self, channel: &ChannelName, key: &str) {
        if let Some(tracked) = self.tracked_mut(channel) {
            tracked.keys.remove(key);
        }
    }

    fn tracked_mut(&mut self, channel: &str) -> Option<&mut Tracked> {
        match &mut self.live_mut()?.subscriptions.get_mut(channel)?.state {
            SubscriptionState::Polled(tracked) => Some(tracked),
            _ => None,
        }
    }
}
