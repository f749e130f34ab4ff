//! The memory engine behind answers that take as long as the generator likes, and the model of what it holds.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::{Arc, Mutex, MutexGuard},
    time::{Duration, Instant},
};

use gyre_core::{
    channel::{ChannelName, HistoryOptions},
    ports::{
        Answer, Broker, ChannelEvent, EngineError, EventSink, History, HistoryFilter, NewPublication,
        PresenceEvent, PublishOptions, Published,
    },
};
use gyre_engine::memory::MemoryEngine;
use gyre_node::Directory;
use gyre_protocol::StreamPosition;
use rand::{Rng, RngExt, SeedableRng, rngs::StdRng};
use tokio::sync::oneshot;

/// What was published into one channel, and what the engine must still hold of it.
#[derive(Default)]
pub(crate) struct Stream {
    /// Numbers of all publications, in order, whether they are kept or not.
    pub(crate) log: Vec<u64>,
    /// Position of the stream as it is now.
    pub(crate) top: Option<(String, u64)>,
    kept: VecDeque<u64>,
    kept_until: Option<Instant>,
    position_until: Option<Instant>,
}

impl Stream {
    fn expire(&mut self, now: Instant) {
        if self.kept_until.is_some_and(|until| until <= now) {
            self.kept.clear();
            self.kept_until = None;
        }
        if self.position_until.is_some_and(|until| until <= now) {
            self.top = None;
            self.kept.clear();
            (self.kept_until, self.position_until) = (None, None);
        }
    }

    /// True if everything after `since` is there.
    fn can_continue(&self, since: &StreamPosition, limit: usize) -> bool {
        let Some((epoch, top)) = &self.top else { return false };
        let missing = top.saturating_sub(since.offset) as usize;
        since.epoch.as_str() == epoch && since.offset <= *top && missing <= self.kept.len().min(limit)
    }
}

/// Everything the engine should know, by the simplest means.
#[derive(Default)]
pub(crate) struct Model {
    pub(crate) streams: HashMap<String, Stream>,
    /// Number of each publication with a position.
    pub(crate) numbers: HashMap<(String, String, u64), u64>,
    /// The last readings for recovery, and whether each could continue.
    pub(crate) readings: VecDeque<(String, StreamPosition, bool)>,
    pub(crate) now: Option<Instant>,
}

/// Readings that are remembered.
const READINGS_MAX: usize = 256;

impl Model {
    fn stream(&mut self, channel: &str) -> &mut Stream {
        let now = self.now();
        let stream = self.streams.entry(channel.to_owned()).or_default();
        stream.expire(now);
        stream
    }

    pub(crate) fn now(&self) -> Instant {
        self.now.unwrap()
    }

    fn published(
        &mut self,
        channel: &str,
        number: u64,
        options: Option<HistoryOptions>,
        at: &StreamPosition,
    ) {
        let now = self.now();
        let stream = self.stream(channel);
        stream.log.push(number);
        let Some(options) = options else { return };
        let epoch = at.epoch.as_str().to_owned();
        match &mut stream.top {
            Some((known, top)) => {
                assert_eq!((known.as_str(), *top + 1), (&*epoch, at.offset), "the stream goes on");
                *top += 1;
            }
            None => {
                assert_eq!(at.offset, 1, "a new stream");
                stream.top = Some((epoch.clone(), 1));
            }
        }
        stream.kept.push_back(number);
        if stream.kept.len() > options.size.get() {
            stream.kept.pop_front();
        }
        stream.kept_until = Some(now + options.ttl);
        stream.position_until = Some(now + options.meta_ttl);
        self.numbers.insert((channel.to_owned(), epoch, at.offset), number);
    }

    fn read(
        &mut self,
        channel: &str,
        filter: &HistoryFilter,
        meta_ttl: Duration,
        top: Option<&StreamPosition>,
    ) {
        let now = self.now();
        let stream = self.stream(channel);
        if let (Some(since), Some(limit), false) = (&filter.since, filter.limit, filter.reverse) {
            let can_continue = stream.can_continue(since, limit);
            self.readings.push_back((channel.to_owned(), since.clone(), can_continue));
            if self.readings.len() > READINGS_MAX {
                self.readings.pop_front();
            }
        }
        let stream = self.stream(channel);
        if let (Some(top), None) = (top, &stream.top) {
            stream.top = Some((top.epoch.as_str().to_owned(), top.offset));
        }
        stream.position_until = Some(now + meta_ttl);
    }
}

/// What becomes of the node's subscriptions in an engine of its own process.
#[derive(Default)]
struct Delivery {
    wanted: HashSet<ChannelName>,
    active: HashSet<ChannelName>,
}

/// Delivers only what the node is subscribed to, as an engine elsewhere does.
pub(crate) struct Filter {
    directory: Arc<Directory>,
    delivery: Mutex<Delivery>,
}

impl Filter {
    pub(crate) fn new(directory: Arc<Directory>) -> Self {
        Self { directory, delivery: Mutex::default() }
    }
}

impl EventSink for Filter {
    fn deliver(&self, channel: &ChannelName, event: ChannelEvent) {
        if self.delivery.lock().unwrap().active.contains(channel) {
            self.directory.deliver(channel, event);
        }
    }
}

/// The engine as the node sees it.
pub(crate) struct SlowEngine {
    shared: Arc<Shared>,
}

struct Shared {
    engine: Arc<MemoryEngine>,
    filter: Arc<Filter>,
    model: Arc<Mutex<Model>>,
    waiting: Mutex<Vec<oneshot::Sender<()>>>,
    generator: Mutex<StdRng>,
}

impl SlowEngine {
    pub(crate) fn new(
        engine: Arc<MemoryEngine>,
        filter: Arc<Filter>,
        model: Arc<Mutex<Model>>,
        seed: u64,
    ) -> Self {
        let generator = Mutex::new(StdRng::seed_from_u64(seed));
        Self { shared: Arc::new(Shared { engine, filter, model, waiting: Mutex::default(), generator }) }
    }

    /// Lets one of the waiting answers come; false if there is none.
    pub(crate) fn answer_one(&self, generator: &mut impl Rng) -> bool {
        let mut waiting = self.shared.waiting.lock().unwrap();
        if waiting.is_empty() {
            return false;
        }
        let index = generator.random_range(0..waiting.len());
        // Nobody waits any more where the connection is gone.
        let _is_awaited = waiting.swap_remove(index).send(()).is_ok();
        true
    }

    /// Does the work now or later, and tells the result now or later.
    fn slowly<T: Send + 'static>(&self, work: impl FnOnce(&Shared) -> T + Send + 'static) -> Answer<T> {
        match self.shared.generator.lock().unwrap().random_range(0..4) {
            0 | 1 => Answer::Ready(work(&self.shared)),
            2 => {
                let (value, turn) = (work(&self.shared), self.wait());
                Answer::Later(Box::pin(async move {
                    drop(turn.await);
                    value
                }))
            }
            _ => {
                let (shared, turn) = (self.shared.clone(), self.wait());
                Answer::Later(Box::pin(async move {
                    drop(turn.await);
                    work(&shared)
                }))
            }
        }
    }

    fn wait(&self) -> oneshot::Receiver<()> {
        let (sender, receiver) = oneshot::channel();
        self.shared.waiting.lock().unwrap().push(sender);
        receiver
    }
}

impl Shared {
    fn model(&self) -> MutexGuard<'_, Model> {
        self.model.lock().unwrap()
    }
}

fn ready<T>(answer: Answer<T>) -> T {
    match answer {
        Answer::Ready(value) => value,
        Answer::Later(_) => panic!("the memory engine answers at once"),
    }
}

impl Broker for SlowEngine {
    fn subscribe(&self, channel: &ChannelName) -> Answer<Result<(), EngineError>> {
        let channel = channel.clone();
        let mut delivery = self.shared.filter.delivery.lock().unwrap();
        delivery.wanted.insert(channel.clone());
        if delivery.active.contains(&channel) {
            return Answer::Ready(Ok(()));
        }
        drop(delivery);
        self.slowly(move |shared| {
            let mut delivery = shared.filter.delivery.lock().unwrap();
            // An unsubscribe that was called later comes last.
            if delivery.wanted.contains(&channel) {
                delivery.active.insert(channel);
            }
            Ok(())
        })
    }

    fn unsubscribe(&self, channel: &ChannelName) -> Answer<Result<(), EngineError>> {
        let mut delivery = self.shared.filter.delivery.lock().unwrap();
        delivery.wanted.remove(channel);
        delivery.active.remove(channel);
        Answer::Ready(Ok(()))
    }

    fn publish(
        &self,
        channel: &ChannelName,
        publication: NewPublication,
        options: PublishOptions,
    ) -> Answer<Result<Published, EngineError>> {
        let channel = channel.clone();
        self.slowly(move |shared| {
            let number = std::str::from_utf8(publication.data.bytes()).unwrap().parse().unwrap();
            let history = options.history;
            let published = ready(shared.engine.publish(&channel, publication, options))?;
            shared.model().published(&channel, number, history, &published.position);
            Ok(published)
        })
    }

    fn publish_presence(
        &self,
        channel: &ChannelName,
        event: PresenceEvent,
    ) -> Answer<Result<(), EngineError>> {
        let channel = channel.clone();
        self.slowly(move |shared| ready(shared.engine.publish_presence(&channel, event)))
    }

    fn history(
        &self,
        channel: &ChannelName,
        filter: HistoryFilter,
        meta_ttl: Duration,
    ) -> Answer<Result<History, EngineError>> {
        let channel = channel.clone();
        self.slowly(move |shared| {
            let history = ready(shared.engine.history(&channel, filter.clone(), meta_ttl));
            let top = history.as_ref().ok().map(|history| &history.top);
            shared.model().read(&channel, &filter, meta_ttl, top);
            history
        })
    }

    fn remove_history(&self, channel: &ChannelName) -> Answer<Result<(), EngineError>> {
        let channel = channel.clone();
        self.slowly(move |shared| {
            shared.model().stream(&channel).kept.clear();
            ready(shared.engine.remove_history(&channel))
        })
    }
}
