//! The contract of the ports, as checks that every engine has to pass unchanged.

use std::{
    num::NonZeroUsize,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use gyre_core::{
    channel::{ChannelName, HistoryOptions},
    ports::{
        Answer, Broker, ChannelEvent, EngineError, EventSink, History, HistoryFilter, IDEMPOTENCY_TTL,
        NewPublication, PresenceStore, PublishOptions, Published,
    },
};
use gyre_protocol::{ClientInfo, Epoch, Payload, StreamPosition};

/// A clock that moves only when told.
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
    pub fn pass(&self, time: Duration) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) += time;
    }
}

/// Keeps what an engine delivers.
#[derive(Debug, Default)]
pub struct RecordingSink(Mutex<Vec<(ChannelName, ChannelEvent)>>);

impl EventSink for RecordingSink {
    fn deliver(&self, channel: &ChannelName, event: ChannelEvent) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push((channel.clone(), event));
    }
}

impl RecordingSink {
    /// Offsets of the publications of a channel, in the order of their delivery.
    pub fn offsets(&self, channel: &ChannelName) -> Vec<u64> {
        let events = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let of_channel = events.iter().filter(|(name, _)| name == channel);
        let publications = of_channel.filter_map(|(_, event)| match event {
            ChannelEvent::Publication(publication) => Some(publication.offset),
            _ => None,
        });
        publications.collect()
    }
}

/// An engine under test, its clock and its sink.
pub struct Setup<E> {
    /// The engine.
    pub engine: Arc<E>,
    /// The clock it reads.
    pub clock: VirtualClock,
    /// Where it delivers.
    pub sink: Arc<RecordingSink>,
}

/// The value of an answer; engines under test answer at once or within the test's runtime.
fn ready<T>(answer: Answer<T>) -> T {
    match answer {
        Answer::Ready(value) => value,
        Answer::Later(_) => panic!("run suites of waiting engines in a runtime"),
    }
}

const TTL: Duration = Duration::from_secs(60);
const META_TTL: Duration = Duration::from_secs(3600);

/// Options with that much history.
pub fn with_history(size: usize) -> PublishOptions {
    let history = NonZeroUsize::new(size).map(|size| HistoryOptions { size, ttl: TTL, meta_ttl: META_TTL });
    PublishOptions { history, ..PublishOptions::default() }
}

fn publish<E: Broker>(engine: &E, channel: &ChannelName, options: PublishOptions) -> Published {
    let publication = NewPublication { data: Payload::json("1"), ..NewPublication::default() };
    ready(engine.publish(channel, publication, options)).unwrap_or_default()
}

fn read<E: Broker>(engine: &E, channel: &ChannelName, filter: HistoryFilter) -> Result<History, EngineError> {
    ready(engine.history(channel, filter, META_TTL))
}

fn offsets(history: &History) -> Vec<u64> {
    history.publications.iter().map(|publication| publication.offset).collect()
}

/// Publishers on several threads: every channel is delivered in the order of its offsets, without a gap.
pub fn deliveries_follow_offsets<E: Broker>(setup: &Setup<E>) {
    let channels: Vec<ChannelName> = (0..3).map(|i| ChannelName::new(&format!("order:{i}"))).collect();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..100 {
                    channels
                        .iter()
                        .for_each(|channel| drop(publish(&*setup.engine, channel, with_history(10))));
                }
            });
        }
    });
    for channel in &channels {
        assert_eq!(setup.sink.offsets(channel), (1..=400).collect::<Vec<u64>>());
    }
}

/// Every filter on a stream of which the oldest part is gone, against what the contract says.
pub fn history_is_read_by_filters<E: Broker>(setup: &Setup<E>) {
    let channel = ChannelName::new("history");
    let position = (0..8).map(|_| publish(&*setup.engine, &channel, with_history(5)).position).last();
    let epoch = position.map(|position| position.epoch).unwrap_or_default();
    // Offsets 4 to 8 are kept.
    let since = |offset| Some(StreamPosition { offset, epoch: epoch.clone() });
    let filter = |since, limit, reverse| HistoryFilter { since, limit, reverse };
    for (filter, expected) in [
        (filter(None, Some(0), false), vec![]),
        (filter(None, None, false), vec![4, 5, 6, 7, 8]),
        (filter(None, Some(2), true), vec![8, 7]),
        (filter(since(5), Some(2), false), vec![6, 7]),
        (filter(since(1), None, false), vec![4, 5, 6, 7, 8]),
        (filter(since(8), None, false), vec![]),
        (filter(since(99), None, false), vec![]),
        (filter(since(7), None, true), vec![6, 5, 4]),
        (filter(since(9), Some(1), true), vec![8]),
        (filter(since(4), None, true), vec![]),
        (filter(since(99), None, true), vec![]),
    ] {
        let history = read(&*setup.engine, &channel, filter.clone());
        let history = history.unwrap_or_else(|error| panic!("{filter:?}: {error}"));
        assert_eq!(offsets(&history), expected, "{filter:?}");
        assert_eq!(history.top.offset, 8);
    }
    let foreign = StreamPosition { offset: 5, epoch: Epoch::new("other") };
    let refused = read(&*setup.engine, &channel, filter(Some(foreign), None, false));
    assert_eq!(refused, Err(EngineError::UnrecoverablePosition));
    assert_eq!(ready(setup.engine.remove_history(&channel)), Ok(()));
    let removed = read(&*setup.engine, &channel, filter(None, None, false)).unwrap_or_default();
    assert_eq!((offsets(&removed), removed.top.offset, removed.top.epoch), (vec![], 8, epoch.clone()));
}

/// Publications expire before their position does; the epoch changes if and only if the position was lost.
pub fn streams_expire<E: Broker>(setup: &Setup<E>) {
    let channel = ChannelName::new("expiry");
    let first = publish(&*setup.engine, &channel, with_history(5)).position;
    setup.clock.pass(TTL);
    let history = read(&*setup.engine, &channel, HistoryFilter::default()).unwrap_or_default();
    assert_eq!((offsets(&history), &history.top), (vec![], &first));
    assert_eq!(publish(&*setup.engine, &channel, with_history(5)).position.offset, 2);
    setup.clock.pass(META_TTL);
    let again = publish(&*setup.engine, &channel, with_history(5)).position;
    assert_eq!(again.offset, 1);
    assert_ne!(again.epoch, first.epoch);
}

/// A key makes one publication, for its time; an outdated version makes none.
pub fn repeated_publications_are_suppressed<E: Broker>(setup: &Setup<E>) {
    let channel = ChannelName::new("once");
    let keyed = || PublishOptions { idempotency_key: "k".into(), ..with_history(5) };
    let first = publish(&*setup.engine, &channel, keyed());
    let second = publish(&*setup.engine, &channel, keyed());
    assert_eq!((second.is_suppressed, &second.position), (true, &first.position));
    assert!(!publish(&*setup.engine, &ChannelName::new("other"), keyed()).is_suppressed);
    setup.clock.pass(IDEMPOTENCY_TTL);
    assert!(!publish(&*setup.engine, &channel, keyed()).is_suppressed);

    let channel = ChannelName::new("versions");
    let version =
        |version, epoch: &str| PublishOptions { version, version_epoch: epoch.into(), ..with_history(5) };
    let is_suppressed = |options| publish(&*setup.engine, &channel, options).is_suppressed;
    assert!(!is_suppressed(version(5, "a")));
    assert!(
        is_suppressed(version(4, "a")) && is_suppressed(version(5, "a")) && is_suppressed(version(5, ""))
    );
    assert!(!is_suppressed(version(4, "b")), "another epoch");
    assert!(!is_suppressed(version(0, "")), "no version");
    assert_eq!(setup.sink.offsets(&channel), [1, 2, 3]);
}

/// Members are counted by client and user until they leave or expire.
pub fn members_come_and_go<E: PresenceStore>(setup: &Setup<E>, ttl: Duration) {
    let channel = ChannelName::new("presence");
    let member = |user: &str, client: &str| {
        Arc::new(ClientInfo { user: user.into(), client: client.into(), ..ClientInfo::default() })
    };
    let count = || {
        let stats = ready(setup.engine.stats(&channel)).unwrap_or_default();
        let members = ready(setup.engine.members(&channel)).unwrap_or_default();
        assert_eq!(members.len(), stats.num_clients as usize);
        (stats.num_clients, stats.num_users)
    };
    for (user, client) in [("u", "1"), ("u", "2"), ("v", "3")] {
        assert_eq!(ready(setup.engine.add(&channel, member(user, client))), Ok(()));
    }
    assert_eq!(count(), (3, 2));
    assert_eq!(ready(setup.engine.remove(&channel, member("u", "1"))), Ok(()));
    assert_eq!(count(), (2, 2));
    setup.clock.pass(ttl / 2);
    assert_eq!(ready(setup.engine.add(&channel, member("v", "3"))), Ok(()));
    setup.clock.pass(ttl / 2);
    assert_eq!(count(), (1, 1), "only the one that was renewed");
}
