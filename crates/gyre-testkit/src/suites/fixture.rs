//! An engine under test and what a case does with it.

use std::{
    collections::HashMap,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use gyre_core::{
    channel::{ChannelName, HistoryOptions},
    ports::{
        Answer, Broker, ChannelEvent, EngineError, EventSink, History, HistoryFilter, MapStore,
        NewPublication, PresenceEvent, PresenceStore, PublishOptions, Published,
    },
};
use gyre_protocol::{ClientInfo, Payload, Publication};

/// How long a case waits for a delivery before it fails. Only failing cases wait so long.
const DELIVERY_TIMEOUT: Duration = Duration::from_secs(10);

/// Deliveries give way to other threads 0, 1, 2... times below this, so that some are slower than others.
const YIELDS: u64 = 13;

/// An engine under test.
pub struct Fixture {
    /// Publications.
    pub broker: Arc<dyn Broker>,
    /// Maps; often the same engine.
    pub maps: Arc<dyn MapStore>,
    /// Presence; often the same engine.
    pub presence: Arc<dyn PresenceStore>,
    /// Time to live of presence entries the engine was made with.
    pub presence_ttl: Duration,
    /// Where the engine delivers.
    pub sink: Arc<RecordingSink>,
    /// Lets time pass for the engine.
    pub advance: Box<dyn Fn(Duration) + Send + Sync>,
    /// Begins the name of every channel, so that cases can share a backend.
    pub prefix: String,
}

impl Fixture {
    /// A channel of that name, subscribed.
    pub fn channel(&self, name: &str) -> ChannelName {
        let channel = ChannelName::new(&format!("{}{name}", self.prefix));
        done(self.broker.subscribe(&channel));
        channel
    }

    /// Lets time pass.
    pub fn advance(&self, by: Duration) {
        (self.advance)(by);
    }

    /// Publishes some text.
    pub fn publish(&self, channel: &ChannelName, data: &str, options: PublishOptions) -> Published {
        let publication = NewPublication { data: payload(data), ..NewPublication::default() };
        done(self.broker.publish(channel, publication, options))
    }

    /// Publishes some text into the history, and returns the offset.
    pub fn append(&self, channel: &ChannelName, data: &str, history: HistoryOptions) -> u64 {
        let published = self.publish(channel, data, with_history(history));
        assert!(!published.is_suppressed, "nothing suppresses this publication");
        published.position.offset
    }

    /// Reads history and keeps the position for `meta_ttl`.
    ///
    /// # Errors
    /// The engine's.
    pub fn read(
        &self,
        channel: &ChannelName,
        filter: HistoryFilter,
        meta_ttl: Duration,
    ) -> Result<History, EngineError> {
        answered(self.broker.history(channel, filter, meta_ttl))
    }

    /// All of a channel's history.
    pub fn all(&self, channel: &ChannelName, history: HistoryOptions) -> History {
        match self.read(channel, HistoryFilter::default(), history.meta_ttl) {
            Ok(history) => history,
            Err(error) => panic!("the engine failed: {error}"),
        }
    }

    /// Everything delivered to a channel since the last call, nothing missing and nothing on its way.
    pub fn delivered(&self, channel: &ChannelName) -> Vec<ChannelEvent> {
        let marker = self.sink.new_marker();
        done(self.broker.publish_presence(channel, PresenceEvent::Leave(marker.clone())));
        self.sink.take_until(channel, &ChannelEvent::Leave(marker))
    }

    /// Like [`Fixture::delivered`], where only publications are expected.
    pub fn delivered_publications(&self, channel: &ChannelName) -> Vec<Arc<Publication>> {
        let only_publication = |event| match event {
            ChannelEvent::Publication(publication) | ChannelEvent::DeltaPublication(publication) => {
                publication
            }
            other => panic!("only publications were made, {other:?} was delivered"),
        };
        self.delivered(channel).into_iter().map(only_publication).collect()
    }
}

/// Keeps what is delivered, by channel and in order.
#[derive(Debug, Default)]
pub struct RecordingSink {
    events: Mutex<HashMap<ChannelName, Vec<ChannelEvent>>>,
    delivered: Condvar,
    markers: AtomicU64,
    deliveries: AtomicU64,
}

impl RecordingSink {
    fn new_marker(&self) -> Arc<ClientInfo> {
        let number = self.markers.fetch_add(1, Ordering::Relaxed);
        Arc::new(ClientInfo { client: format!("marker {number}").into(), ..ClientInfo::default() })
    }

    /// Waits for `last`, and takes what came before it.
    pub(super) fn take_until(&self, channel: &ChannelName, last: &ChannelEvent) -> Vec<ChannelEvent> {
        let is_waiting = |events: &mut HashMap<ChannelName, Vec<ChannelEvent>>| {
            events.get(channel).is_none_or(|events| !events.contains(last))
        };
        let waited = self.delivered.wait_timeout_while(self.lock(), DELIVERY_TIMEOUT, is_waiting);
        let (mut events, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
        assert!(!timeout.timed_out(), "{last:?} was not delivered to {channel}");
        let mut events = events.remove(channel).unwrap_or_default();
        assert_eq!(events.pop().as_ref(), Some(last), "the marker was published last");
        events
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ChannelName, Vec<ChannelEvent>>> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl EventSink for RecordingSink {
    fn deliver(&self, channel: &ChannelName, event: ChannelEvent) {
        // An engine that does not hold the channel's order while it delivers is overtaken here.
        for _ in 0..self.deliveries.fetch_add(1, Ordering::Relaxed) % YIELDS {
            std::thread::yield_now();
        }
        self.lock().entry(channel.clone()).or_default().push(event);
        self.delivered.notify_all();
    }
}

/// A clock that stands still until it is advanced.
#[derive(Clone, Debug)]
pub struct VirtualClock(Arc<Mutex<Instant>>);

impl Default for VirtualClock {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(Instant::now())))
    }
}

impl VirtualClock {
    /// The time.
    pub fn now(&self) -> Instant {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets time pass.
    pub fn advance(&self, by: Duration) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) += by;
    }
}

/// Waits for a port's answer. An engine that answers later does its work elsewhere than on this thread.
pub fn answered<T>(answer: Answer<T>) -> T {
    let later = match answer {
        Answer::Ready(value) => return value,
        Answer::Later(later) => later,
    };
    match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime.block_on(later),
        Err(error) => panic!("no runtime to wait on: {error}"),
    }
}

/// Waits for an answer that must be a success.
pub(super) fn done<T>(answer: Answer<Result<T, EngineError>>) -> T {
    match answered(answer) {
        Ok(value) => value,
        Err(error) => panic!("the engine failed: {error}"),
    }
}

pub(super) fn payload(data: &str) -> Payload {
    Payload::new(data.as_bytes().to_vec())
}

pub(super) fn with_history(history: HistoryOptions) -> PublishOptions {
    PublishOptions { history: Some(history), ..PublishOptions::default() }
}

/// A history of that many publications, kept for a minute, its position for ten.
pub(super) const fn history_of(size: usize) -> HistoryOptions {
    let Some(size) = std::num::NonZeroUsize::new(size) else { panic!("a history has a size") };
    HistoryOptions { size, ttl: Duration::from_secs(60), meta_ttl: Duration::from_secs(600) }
}

pub(super) fn client(client: &str, user: &str) -> Arc<ClientInfo> {
    Arc::new(ClientInfo { client: client.into(), user: user.into(), ..ClientInfo::default() })
}

pub(super) fn offsets(publications: &[Arc<Publication>]) -> Vec<u64> {
    publications.iter().map(|publication| publication.offset).collect()
}
