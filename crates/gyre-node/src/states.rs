//! Telling the application which channels have subscribers on this node.
//!
//! What is told is the difference between what a channel is now and what was told of it last: so a hook that is down or
//! slow costs one entry a channel, whatever happens meanwhile, and events of one channel never change places. A batch is
//! repeated until the application has answered, before the next one goes out.
//!
//! Lock order: a hook's lock may be held while a stripe of the directory is taken, never the other way round.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use gyre_core::{
    channel::ChannelName,
    ports::{ChannelStateEvent, Delivery, EventHooks},
    rules::Now,
};
use hashbrown::HashMap;
use tokio::{
    sync::Notify,
    time::{sleep, sleep_until},
};

use crate::{directory::Directory, retry::Backoff};

/// Events in one call at most.
const BATCH_MAX: usize = 100;
/// Channels waiting to be told of at most, for each hook; further changes are dropped and logged.
const WAITING_MAX: usize = 100_000;

/// The hooks that are told of channels.
pub(crate) struct States {
    hooks: Mutex<HashMap<Box<str>, Arc<HookStates>>>,
    application: Arc<dyn EventHooks>,
    directory: Arc<Directory>,
}

/// What one hook is told.
struct HookStates {
    name: Box<str>,
    inner: Mutex<Inner>,
    changed: Notify,
}

#[derive(Default)]
struct Inner {
    channels: HashMap<ChannelName, ChannelState>,
    /// Channels to tell of, by when.
    waiting: BTreeMap<(Instant, u64), ChannelName>,
    sequence: u64,
    /// Events that are being told.
    on_the_way: usize,
}

/// A channel that has subscribers, or of which something is to be told.
#[derive(Default)]
struct ChannelState {
    /// What was told last.
    is_told_occupied: bool,
    /// When it became what it is, Unix time in milliseconds.
    since_ms: u64,
    /// Its entry in [`Inner::waiting`].
    waiting: Option<(Instant, u64)>,
}

impl States {
    pub(crate) fn new(application: Arc<dyn EventHooks>, directory: Arc<Directory>) -> Self {
        Self { hooks: Mutex::default(), application, directory }
    }

    /// A shard's interest in the channel has begun or ended; the directory knows of it already.
    pub(crate) fn note(
        &self,
        hook: &str,
        channel: &ChannelName,
        vacated_delay: Duration,
        now: Now,
        control: &tokio::runtime::Handle,
    ) {
        let states = self.hook(hook, control);
        let mut inner = states.lock();
        // Read under the lock: whoever notes last sees the latest.
        let is_occupied = self.directory.has_interest(channel);
        if inner.note(channel, is_occupied, vacated_delay, now) {
            states.changed.notify_one();
        }
    }

    fn hook(&self, name: &str, control: &tokio::runtime::Handle) -> Arc<HookStates> {
        let mut hooks = lock(&self.hooks);
        if let Some(states) = hooks.get(name) {
            return states.clone();
        }
        let states =
            Arc::new(HookStates { name: name.into(), inner: Mutex::default(), changed: Notify::new() });
        hooks.insert(name.into(), states.clone());
        drop(control.spawn(run(states.clone(), self.application.clone(), self.directory.clone())));
        states
    }

    /// Tells at once what waits, and returns when nothing does any more.
    pub(crate) async fn settle(&self) {
        let hooks: Vec<_> = lock(&self.hooks).values().cloned().collect();
        for states in &hooks {
            states.lock().hurry();
            states.changed.notify_one();
        }
        while hooks.iter().any(|states| states.lock().is_busy()) {
            sleep(Duration::from_millis(10)).await;
        }
    }
}

impl HookStates {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        lock(&self.inner)
    }
}

impl Inner {
    /// Enters a change, or takes back what has become untrue; true if something new waits.
    fn note(&mut self, channel: &ChannelName, is_occupied: bool, vacated_delay: Duration, now: Now) -> bool {
        let state = self.channels.entry(channel.clone()).or_default();
        if let Some(waiting) = state.waiting.take() {
            self.waiting.remove(&waiting);
        }
        if state.is_told_occupied == is_occupied {
            if !is_occupied {
                self.channels.remove(channel);
            }
            return false;
        }
        if self.waiting.len() >= WAITING_MAX {
            tracing::warn!(channel = &**channel, "too many channels changed: a state event is dropped");
            // As if it had been told: the next change is told again.
            state.is_told_occupied = is_occupied;
            if !is_occupied {
                self.channels.remove(channel);
            }
            return false;
        }
        let due = if is_occupied { now.instant } else { now.instant + vacated_delay };
        self.sequence += 1;
        state.since_ms = now.unix_ms;
        state.waiting = Some((due, self.sequence));
        self.waiting.insert((due, self.sequence), channel.clone());
        true
    }

    /// What is to be told now; the channels count as told.
    fn take_due(
        &mut self,
        now: Instant,
        is_occupied: impl Fn(&ChannelName) -> bool,
    ) -> Vec<ChannelStateEvent> {
        let mut events = Vec::new();
        while events.len() < BATCH_MAX
            && let Some(entry) = self.waiting.first_entry()
            && entry.key().0 <= now
        {
            let channel = entry.remove();
            let Some(state) = self.channels.get_mut(&channel) else { continue };
            state.waiting = None;
            let (is_occupied, time_ms) = (is_occupied(&channel), state.since_ms);
            let is_news = state.is_told_occupied != is_occupied;
            state.is_told_occupied = is_occupied;
            if !is_occupied {
                self.channels.remove(&channel);
            }
            if is_news {
                events.push(ChannelStateEvent { channel, is_occupied, time_ms });
            }
        }
        self.on_the_way = events.len();
        events
    }

    fn next_due(&self) -> Option<Instant> {
        self.waiting.first_key_value().map(|((due, _), _)| *due)
    }

    /// Makes everything due that waits.
    fn hurry(&mut self) {
        let Some(due) = self.next_due().map(|due| due.min(Instant::now())) else { return };
        for ((_, sequence), channel) in std::mem::take(&mut self.waiting) {
            if let Some(state) = self.channels.get_mut(&channel) {
                state.waiting = Some((due, sequence));
            }
            self.waiting.insert((due, sequence), channel);
        }
    }

    fn is_busy(&self) -> bool {
        self.on_the_way > 0 || !self.waiting.is_empty()
    }
}

/// Tells one hook, for as long as the node lives.
async fn run(states: Arc<HookStates>, application: Arc<dyn EventHooks>, directory: Arc<Directory>) {
    loop {
        let due = states.lock().next_due();
        match due {
            Some(due) if due <= Instant::now() => {}
            Some(due) => {
                tokio::select! {
                    () = states.changed.notified() => continue,
                    () = sleep_until(due.into()) => {}
                }
            }
            None => {
                states.changed.notified().await;
                continue;
            }
        }
        let events = states.lock().take_due(Instant::now(), |channel| directory.has_interest(channel));
        if !events.is_empty() {
            tell(&*application, &states.name, events).await;
            states.lock().on_the_way = 0;
        }
    }
}

async fn tell(application: &dyn EventHooks, hook: &str, events: Vec<ChannelStateEvent>) {
    let mut backoff = Backoff::default();
    while application.channel_states(hook, events.clone()).wait().await == Delivery::Failed {
        sleep(backoff.next()).await;
    }
}

impl std::fmt::Debug for States {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("States").field("hooks", &lock(&self.hooks).len()).finish_non_exhaustive()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Every change is made in steps that cannot panic half way.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DELAY: Duration = Duration::from_secs(1);

    fn at(begin: Instant, ms: u64) -> Now {
        Now { instant: begin + Duration::from_millis(ms), unix_ms: ms }
    }

    fn told(inner: &mut Inner, now: Now, is_occupied: bool) -> Vec<(bool, u64)> {
        let events = inner.take_due(now.instant, |_| is_occupied);
        events.into_iter().map(|event| (event.is_occupied, event.time_ms)).collect()
    }

    /// First and last subscribers are told in order, a short absence is not told at all, and nothing is kept of channels
    /// without subscribers; by hand, with times made up.
    #[test]
    fn differences_are_told() {
        let (begin, channel) = (Instant::now(), ChannelName::new("c"));
        let mut inner = Inner::default();
        assert!(inner.note(&channel, true, DELAY, at(begin, 5)));
        assert_eq!(told(&mut inner, at(begin, 5), true), [(true, 5)]);
        assert!(inner.note(&channel, false, DELAY, at(begin, 10)));
        assert_eq!(told(&mut inner, at(begin, 900), false), [], "it may come back");
        assert!(!inner.note(&channel, true, DELAY, at(begin, 950)), "it did");
        assert_eq!(told(&mut inner, at(begin, 5000), true), []);
        assert!(inner.note(&channel, false, DELAY, at(begin, 6000)));
        inner.hurry();
        assert_eq!(told(&mut inner, at(begin, 7000), false), [(false, 6000)]);
        assert!(inner.channels.is_empty() && inner.waiting.is_empty());
        assert!(inner.note(&channel, true, DELAY, at(begin, 8000)));
        assert!(!inner.note(&channel, false, DELAY, at(begin, 8001)), "nobody was told that there was one");
        assert!(inner.channels.is_empty() && inner.waiting.is_empty());
    }

    /// However many channels change while a hook is down, no more than the limit wait.
    #[test]
    fn waiting_channels_are_bounded() {
        let (begin, mut inner) = (Instant::now(), Inner::default());
        for i in 0..=WAITING_MAX {
            let is_news = inner.note(&ChannelName::new(&i.to_string()), true, DELAY, at(begin, 1));
            assert_eq!(is_news, i < WAITING_MAX);
        }
        assert_eq!(inner.waiting.len(), WAITING_MAX);
        assert_eq!(told(&mut inner, at(begin, 1), true).len(), BATCH_MAX);
        assert!(inner.note(&ChannelName::new("other"), true, DELAY, at(begin, 1)));
    }
}
