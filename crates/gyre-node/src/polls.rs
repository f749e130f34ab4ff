//! Shared polls: one worker for each polled channel asks the backend for the keys that anybody on this node tracks.
//!
//! What is known of a channel (epoch, version of each key) is behind one lock that is held for single steps and while
//! changes are put into mailboxes, so that versions reach every shard in order; never while a backend is asked. A slow
//! backend holds its own calls and nothing else: at most [`CALLS_MAX`] of a channel are on their way, a key is in one of
//! them at most, and each ends with its time.
//!
//! Lock order: the table of channels, then a channel's state, then the directory.

use std::{
    collections::VecDeque,
    hash::BuildHasher,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures_util::{StreamExt, stream::FuturesUnordered};
use gyre_core::{
    channel::{ChannelName, SharedPollOptions, Versions},
    ports::{ChannelEvent, EventSink, PollError, Polled, PolledItem, SharedPollBackend},
};
use gyre_protocol::{Epoch, Payload, Publication};
use hashbrown::HashMap;
use rand::distr::{Alphabetic, SampleString};
use tokio::{
    sync::{Notify, Semaphore},
    time::{Instant, sleep_until, timeout},
};

use crate::directory::Directory;

/// Calls of one channel on their way at most.
const CALLS_MAX: usize = 8;
/// Calls of a node on their way at most, unless configured.
pub const CONCURRENCY: usize = 64;
/// A call that takes longer has failed, whatever its backend's own timeout.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);
/// Letters of an epoch of this server's making.
const EPOCH_LETTERS: usize = 8;

/// The polled channels of a node.
pub(crate) struct Polls {
    channels: Mutex<HashMap<ChannelName, Arc<Channel>>>,
    backend: Arc<dyn SharedPollBackend>,
    directory: Arc<Directory>,
    calls: Semaphore,
    hasher: foldhash::fast::RandomState,
}

struct Channel {
    name: ChannelName,
    options: Arc<SharedPollOptions>,
    state: Mutex<State>,
    /// Keys were prompted for, or the last subscriber of a shard has left.
    changed: Notify,
}

#[derive(Default)]
struct State {
    epoch: Epoch,
    /// The newest version of this server's making.
    counter: u64,
    keys: HashMap<Arc<str>, Key>,
    /// Keys not to be left until their turn.
    prompted: VecDeque<Arc<str>>,
}

#[derive(Default)]
struct Key {
    /// Shards with a connection that tracks it, one bit each.
    shards: u64,
    version: u64,
    /// The newest update, kept where the next one may be a patch against it.
    newest: Option<Arc<Publication>>,
    /// Of the data, where this server counts versions.
    content: Option<u64>,
    /// The oldest version that somebody holds who has not been served since.
    wanted_from: Option<u64>,
    /// A call that asks for it is on its way.
    is_asked: bool,
    /// It was published meanwhile: the next turn may be left out.
    skips_turn: bool,
}

/// What a call asks for: each key and the version it is to be newer than.
type Batch = Vec<(Arc<str>, u64)>;

impl Polls {
    pub(crate) fn new(
        backend: Arc<dyn SharedPollBackend>,
        directory: Arc<Directory>,
        concurrency: usize,
    ) -> Self {
        Self {
            channels: Mutex::default(),
            backend,
            directory,
            calls: Semaphore::new(concurrency.clamp(1, Semaphore::MAX_PERMITS)),
            hasher: foldhash::fast::RandomState::default(),
        }
    }

    /// A connection was put into a channel; tells the epoch of its versions. The directory knows of it already.
    pub(crate) fn join(
        self: &Arc<Self>,
        name: &ChannelName,
        options: Arc<SharedPollOptions>,
        control: &tokio::runtime::Handle,
    ) -> Epoch {
        let mut channels = lock(&self.channels);
        if let Some(channel) = channels.get(name) {
            return lock(&channel.state).epoch.clone();
        }
        let epoch = match options.versions {
            Versions::Ours => Epoch::new(&Alphabetic.sample_string(&mut rand::rng(), EPOCH_LETTERS)),
            Versions::Backend => Epoch::default(),
        };
        let state = Mutex::new(State { epoch: epoch.clone(), ..State::default() });
        let channel = Arc::new(Channel { name: name.clone(), options, state, changed: Notify::new() });
        channels.insert(name.clone(), channel.clone());
        drop(control.spawn(self.clone().run(channel)));
        epoch
    }

    /// How many channels are polled, and how many keys in all of them.
    pub(crate) fn counts(&self) -> (usize, usize) {
        let channels: Vec<_> = lock(&self.channels).values().cloned().collect();
        let keys = channels.iter().map(|channel| lock(&channel.state).keys.len()).sum();
        (channels.len(), keys)
    }

    /// A shard has no subscriber of the channel any more.
    pub(crate) fn left(&self, name: &ChannelName) {
        if let Some(channel) = self.find(name) {
            channel.changed.notify_one();
        }
    }

    /// A connection of the shard tracks keys, each above a version.
    pub(crate) fn track(&self, name: &ChannelName, keys: &[(Box<str>, u64)], shard: usize) {
        let Some(channel) = self.find(name) else { return };
        let mut state = lock(&channel.state);
        let State { keys: known, prompted, .. } = &mut *state;
        for (name, version) in keys {
            let name: Arc<str> = Arc::from(&**name);
            let key = known.entry(name.clone()).or_default();
            key.shards |= 1 << shard;
            // Nobody keeps data here: whoever is behind is served by asking again.
            if key.version == 0 || *version < key.version {
                if key.wanted_from.is_none() {
                    prompted.push_back(name);
                }
                key.wanted_from = Some(key.wanted_from.map_or(*version, |wanted| wanted.min(*version)));
            }
        }
        drop(state);
        channel.changed.notify_one();
    }

    /// No connection of the shard tracks the key any more.
    pub(crate) fn untrack(&self, name: &ChannelName, key: &str, shard: usize) {
        let Some(channel) = self.find(name) else { return };
        let mut state = lock(&channel.state);
        let Some(known) = state.keys.get_mut(key) else { return };
        known.shards &= !(1 << shard);
        if known.shards == 0 {
            state.keys.remove(key);
        }
    }

    /// The application publishes a version of a key. Nothing happens if nobody tracks it.
    pub(crate) fn publish(&self, name: &ChannelName, key: &str, data: Payload, version: u64, epoch: &Epoch) {
        let Some(channel) = self.find(name) else { return };
        let mut state = lock(&channel.state);
        self.enter_epoch(&channel, &mut state, epoch);
        let Some(known) = state.keys.get_mut(key).filter(|known| version > known.version) else { return };
        known.version = version;
        known.wanted_from = None;
        known.skips_turn = true;
        let publication = Publication { key: key.into(), data, version, ..Publication::default() };
        let update = known.update(publication, &channel.options);
        self.deliver(&channel, update);
    }

    fn find(&self, name: &ChannelName) -> Option<Arc<Channel>> {
        lock(&self.channels).get(name).cloned()
    }

    /// To be called under the channel's lock, so that its versions stay in order.
    fn deliver(&self, channel: &Channel, update: ChannelEvent) {
        self.directory.deliver(&channel.name, update);
    }

    /// The life of a channel: asks in turn, and at once where prompted, until nobody is subscribed any more.
    async fn run(self: Arc<Self>, channel: Arc<Channel>) {
        let mut calls = FuturesUnordered::new();
        let mut round = Round::default();
        let mut next_turn = Instant::now() + channel.options.refresh_interval;
        loop {
            let deadline = match self.directory.has_interest(&channel.name) {
                true => next_turn,
                false => Instant::now() + channel.options.shutdown_delay,
            };
            tokio::select! {
                () = channel.changed.notified() => {}
                Some((batch, answer)) = calls.next() => self.take_answer(&channel, &batch, answer),
                () = sleep_until(deadline) => {
                    if !self.directory.has_interest(&channel.name) && self.forget(&channel) {
                        return;
                    }
                }
            }
            while calls.len() < CALLS_MAX
                && let Some(batch) = channel.prompted_batch()
            {
                calls.push(self.call(&channel, batch));
            }
            if Instant::now() >= next_turn && calls.len() < CALLS_MAX {
                let (batch, pause) = round.next(&channel);
                next_turn = Instant::now() + pause;
                if !batch.is_empty() {
                    calls.push(self.call(&channel, batch));
                }
            } else if Instant::now() >= next_turn {
                // As many calls as may be are on their way: the turn waits for one of them.
                next_turn = Instant::now() + channel.options.refresh_interval / 8;
            }
        }
    }

    async fn call(&self, channel: &Channel, batch: Batch) -> (Batch, Result<Polled, PollError>) {
        let failed = |reason: &str| PollError { reason: reason.into() };
        let Ok(permit) = self.calls.acquire().await else { return (batch, Err(failed("shut down"))) };
        // Versions of our making mean nothing to the backend.
        let known = |version| if channel.options.versions == Versions::Backend { version } else { 0 };
        let keys = batch.iter().map(|(key, version)| (key.clone(), known(*version))).collect();
        let answer = self.backend.refresh(&channel.options.backend, &channel.name, keys);
        let answer = timeout(CALL_TIMEOUT, answer.wait()).await;
        drop(permit);
        (batch, answer.unwrap_or_else(|_| Err(failed("it took too long"))))
    }

    /// Applies what a backend has answered.
    fn take_answer(&self, channel: &Channel, batch: &Batch, answer: Result<Polled, PollError>) {
        let mut state = lock(&channel.state);
        let served = answer.is_ok();
        if let Err(error) = &answer {
            tracing::warn!(channel = &*channel.name, %error, "cannot poll");
        }
        let Polled { items, epoch } = answer.unwrap_or_default();
        let is_new_epoch =
            channel.options.versions == Versions::Backend && self.enter_epoch(channel, &mut state, &epoch);
        for (key, asked_from) in batch {
            let State { keys, prompted, .. } = &mut *state;
            let Some(known) = keys.get_mut(key).filter(|known| known.is_asked) else { continue };
            known.is_asked = false;
            match known.wanted_from {
                // Somebody who holds less came while the call was on its way.
                Some(wanted) if served && wanted < *asked_from => prompted.push_back(key.clone()),
                _ => {}
            }
        }
        if is_new_epoch {
            // Everybody subscribes again and asks from the beginning.
            return;
        }
        for item in items {
            self.take_item(channel, &mut state, item);
        }
        if served {
            for (key, asked_from) in batch {
                if let Some(known) = state.keys.get_mut(key)
                    && known.wanted_from.is_some_and(|wanted| wanted >= *asked_from)
                {
                    known.wanted_from = None;
                }
            }
        }
    }

    fn take_item(&self, channel: &Channel, state: &mut State, item: PolledItem) {
        let State { keys, counter, .. } = state;
        let Some(known) = keys.get_mut(&*item.key) else { return };
        let PolledItem { key, data, version, removed } = item;
        if removed {
            keys.remove(&*key);
            let removal = Publication { key, removed, ..Publication::default() };
            return self.deliver(channel, ChannelEvent::Publication(Arc::new(removal)));
        }
        let is_newer = match channel.options.versions {
            Versions::Backend => version > known.version,
            Versions::Ours => {
                let content = self.hasher.hash_one(data.bytes());
                known.content.replace(content) != Some(content)
            }
        };
        if is_newer {
            *counter += 1;
            known.version = if channel.options.versions == Versions::Ours { *counter } else { version };
        }
        // A known version is news to whoever holds none; one from before the newest is none.
        let is_current = channel.options.versions == Versions::Ours || version == known.version;
        if is_newer || (is_current && known.wanted_from.is_some()) {
            let publication = Publication { key, data, version: known.version, ..Publication::default() };
            let update = known.update(publication, &channel.options);
            self.deliver(channel, update);
        }
    }

    /// Versions count anew under another epoch: everybody is made to subscribe again. True if that is so.
    fn enter_epoch(&self, channel: &Channel, state: &mut State, epoch: &Epoch) -> bool {
        if epoch.is_empty() || epoch.is_same(&state.epoch) {
            return false;
        }
        state.epoch = epoch.clone();
        for key in state.keys.values_mut() {
            key.version = 0;
            key.newest = None;
            key.content = None;
            // Who waited begins again as well.
            key.wanted_from = None;
        }
        self.directory.deliver(&channel.name, ChannelEvent::Lost);
        true
    }

    /// Ends a channel, unless somebody has come meanwhile.
    fn forget(&self, channel: &Channel) -> bool {
        let mut channels = lock(&self.channels);
        let is_over = !self.directory.has_interest(&channel.name);
        if is_over {
            channels.remove(&channel.name);
        }
        is_over
    }
}

impl std::fmt::Debug for Polls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Polls").field("channels", &lock(&self.channels).len()).finish_non_exhaustive()
    }
}

impl Key {
    /// The event that tells of an update, with the one before it where patches may be made. One version has one data for
    /// all: whoever holds it is sent patches against just that.
    fn update(&mut self, publication: Publication, options: &SharedPollOptions) -> ChannelEvent {
        if !options.delta {
            return ChannelEvent::Publication(Arc::new(publication));
        }
        match self.newest.take() {
            Some(newest) if newest.version == publication.version => {
                ChannelEvent::Publication(self.newest.insert(newest).clone())
            }
            before => {
                let publication = self.newest.insert(Arc::new(publication)).clone();
                match before {
                    Some(base) => ChannelEvent::DeltaChange { publication, base },
                    None => ChannelEvent::Publication(publication),
                }
            }
        }
    }
}

impl Channel {
    /// The keys to ask for at once; `None` if there are none.
    fn prompted_batch(&self) -> Option<Batch> {
        let mut state = lock(&self.state);
        let State { keys, prompted, .. } = &mut *state;
        let mut batch = Batch::new();
        // A key that is being asked for is looked at again when the answer is there.
        for _ in 0..prompted.len().min(self.options.batch_keys_max) {
            let Some(name) = prompted.pop_front() else { break };
            if let Some(key) = keys.get_mut(&name)
                && !key.is_asked
                && let Some(from) = key.wanted_from
            {
                key.is_asked = true;
                batch.push((name, from));
            }
        }
        (!batch.is_empty()).then_some(batch)
    }
}

/// One round over all keys of a channel, in batches spread over the interval.
#[derive(Default)]
struct Round {
    left: VecDeque<Arc<str>>,
    pause: Duration,
}

impl Round {
    /// The next batch, and how long to wait after it.
    fn next(&mut self, channel: &Channel) -> (Batch, Duration) {
        let options = &channel.options;
        let mut state = lock(&channel.state);
        if self.left.is_empty() {
            self.left = state.keys.keys().cloned().collect();
            let batches = self.left.len().div_ceil(options.batch_keys_max.max(1)).max(1);
            self.pause = options.refresh_interval / u32::try_from(batches).unwrap_or(u32::MAX);
        }
        let mut batch = Batch::new();
        while batch.len() < options.batch_keys_max.max(1)
            && let Some(name) = self.left.pop_front()
        {
            let Some(key) = state.keys.get_mut(&name) else { continue };
            if std::mem::take(&mut key.skips_turn) || key.is_asked {
                continue;
            }
            key.is_asked = true;
            let known = if options.versions == Versions::Backend { key.version } else { 0 };
            batch.push((name, key.wanted_from.unwrap_or(known)));
        }
        (batch, self.pause)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Every change is made in steps that cannot panic half way.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
