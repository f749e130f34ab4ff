use std::num::NonZeroUsize;

use gyre_core::channel::HistoryOptions;
use rand::SeedableRng;

use super::*;

struct Nowhere;

impl EventSink for Nowhere {
    fn deliver(&self, _channel: &ChannelName, _event: ChannelEvent) {}
}

/// An engine with a clock that the test moves.
struct World {
    engine: MemoryEngine,
    now: Arc<Mutex<Instant>>,
}

const HISTORY: HistoryOptions = HistoryOptions {
    size: NonZeroUsize::new(10).unwrap(),
    ttl: Duration::from_secs(60),
    meta_ttl: Duration::from_secs(600),
};
const PRESENCE_TTL: Duration = Duration::from_secs(30);

impl World {
    fn new(seed: u64) -> Self {
        let now = Arc::new(Mutex::new(Instant::now()));
        let clock = now.clone();
        let engine = MemoryEngine::with_generator(
            Arc::new(Nowhere),
            Arc::new(move || *clock.lock().unwrap()),
            PRESENCE_TTL,
            StdRng::seed_from_u64(seed),
        );
        Self { engine, now }
    }

    fn advance(&self, by: Duration) {
        *self.now.lock().unwrap() += by;
    }

    fn publish(&self, channel: &str, history: HistoryOptions) -> StreamPosition {
        let options = PublishOptions { history: Some(history), ..PublishOptions::default() };
        let channel = ChannelName::new(channel);
        match self.engine.publish(&channel, NewPublication::default(), options) {
            Answer::Ready(Ok(published)) => published.position,
            _ => panic!("the memory engine answers at once"),
        }
    }

    fn read(&self, channel: &str) -> History {
        let history =
            self.engine.history(&ChannelName::new(channel), HistoryFilter::default(), HISTORY.meta_ttl);
        match history {
            Answer::Ready(Ok(history)) => history,
            _ => panic!("the memory engine answers at once"),
        }
    }

    fn add(&self, channel: &str, client: &str) {
        let info = ClientInfo { client: client.into(), ..ClientInfo::default() };
        let Answer::Ready(Ok(())) = self.engine.add(&ChannelName::new(channel), Arc::new(info)) else {
            panic!("the memory engine answers at once")
        };
    }

    /// Sums over all stripes of what `count` finds in one.
    fn count(&self, count: impl Fn(&Stripe) -> (usize, usize)) -> (usize, usize) {
        let counts = self.engine.stripes.iter().map(|stripe| count(&lock(stripe)));
        counts.fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1))
    }

    fn streams(&self) -> (usize, usize) {
        self.count(|stripe| stripe.streams.sizes())
    }

    fn presence(&self) -> (usize, usize) {
        self.count(|stripe| stripe.presence.sizes())
    }

    /// Publications held in memory, seen or not.
    fn held(&self, channel: &str) -> bool {
        let channel = ChannelName::new(channel);
        let (stripe, _) = self.engine.stripe(&channel);
        stripe.streams.find(&channel).is_some_and(Stream::has_publications)
    }
}

/// Two readings of one history hand out the same publications, which is what lets those who recover them share patches.
#[test]
fn readings_share_publications() {
    let world = World::new(0);
    for _ in 0..3 {
        world.publish("c", HISTORY);
    }
    let (first, second) = (world.read("c").publications, world.read("c").publications);
    assert_eq!(first.len(), 3);
    assert!(first.iter().zip(&second).all(|(one, other)| Arc::ptr_eq(one, other)));
}

/// A busy channel has one place in the agenda, however often it is published, read, and swept, and with times to live
/// that change; counts places over many periods.
#[test]
fn agenda_has_one_place_per_channel() {
    let world = World::new(1);
    for round in 0..5_000 {
        let ttl = Duration::from_secs(1 + round * 7 % 90);
        let meta_ttl = Duration::from_secs(100 + round * 13 % 700);
        world.publish("busy", HistoryOptions { ttl, meta_ttl, ..HISTORY });
        world.read("busy");
        world.add("busy", &(round % 3).to_string());
        world.advance(Duration::from_millis(700));
        world.engine.sweep();
        assert_eq!((world.streams(), world.presence()), ((1, 1), (1, 1)), "round {round}");
    }
}

/// The sweep frees publications at their time and the whole channel with its position; asks what is in memory, not
/// what is seen.
#[test]
fn sweep_frees_what_has_ended() {
    let world = World::new(1);
    world.publish("a", HISTORY);
    world.advance(HISTORY.ttl - Duration::from_millis(1));
    world.engine.sweep();
    assert!(world.held("a"));
    world.advance(Duration::from_millis(1));
    world.engine.sweep();
    assert!(!world.held("a"));
    assert_eq!(world.streams(), (1, 1));
    world.advance(HISTORY.meta_ttl - HISTORY.ttl);
    world.engine.sweep();
    assert_eq!(world.streams(), (0, 0));
}

/// A time to live that became shorter is honoured by the sweep at once; the first reading books a far place, which the
/// publication must bring forward.
#[test]
fn sweep_honours_a_deadline_that_came_nearer() {
    let world = World::new(1);
    world.read("a");
    world.publish("a", HISTORY);
    world.advance(HISTORY.ttl);
    world.engine.sweep();
    assert!(!world.held("a"));
    assert_eq!(world.streams(), (1, 1));
}

/// One sweep looks at a bounded number of channels and the next ones do the rest; counts what is left of more than
/// fits, and sees that the rest is hidden although it is still in memory.
#[test]
fn sweep_is_bounded() {
    let world = World::new(1);
    let channels = STRIPES * SWEEP_LOOKS_MAX * 3 / 2;
    for n in 0..channels {
        world.publish(&n.to_string(), HISTORY);
    }
    world.advance(HISTORY.meta_ttl);
    world.engine.sweep();
    let (left, _) = world.streams();
    assert!(left >= channels - STRIPES * SWEEP_LOOKS_MAX && left < channels, "{left} left");
    let old = (0..channels).map(|n| n.to_string()).find(|name| world.held(name)).expect("some are left");
    assert_eq!(world.read(&old).top.offset, 0);
    world.engine.sweep();
    assert_eq!(world.streams(), (1, 1));
}

/// Presence of clients that vanished is freed within one and a half times their time to live; one client keeps
/// renewing and stays.
#[test]
fn sweep_frees_vanished_members() {
    let world = World::new(1);
    world.add("a", "vanishes");
    world.add("b", "vanishes");
    for _ in 0..3 {
        world.advance(PRESENCE_TTL / 2);
        world.add("a", "stays");
        world.engine.sweep();
    }
    assert_eq!(world.presence(), (1, 1));
    let channel = ChannelName::new("a");
    let (stripe, _) = world.engine.stripe(&channel);
    assert_eq!(stripe.presence.find(&channel).map(Members::held), Some(1));
}

/// Removing the last member frees the channel and its place in the agenda.
#[test]
fn last_member_takes_the_channel_along() {
    let world = World::new(1);
    world.add("a", "1");
    world.add("a", "2");
    for (client, left) in [("1", (1, 1)), ("2", (0, 0))] {
        let info = ClientInfo { client: client.into(), ..ClientInfo::default() };
        assert!(matches!(world.engine.remove(&ChannelName::new("a"), Arc::new(info)), Answer::Ready(Ok(()))));
        assert_eq!(world.presence(), left);
    }
}

/// The same seed makes the same epochs, eight letters each, another one others.
#[test]
fn epochs_come_from_the_generator() {
    let epochs = |seed| {
        let world = World::new(seed);
        ["a", "b", "c"].map(|channel| world.publish(channel, HISTORY).epoch)
    };
    assert_eq!(epochs(1), epochs(1));
    assert_ne!(epochs(1), epochs(2));
    for epoch in epochs(3) {
        assert_eq!(epoch.as_str().len(), 8);
        assert!(epoch.as_str().bytes().all(|letter| letter.is_ascii_alphabetic()));
    }
}

/// Times to live beyond what the clock can count are forever, not a panic.
#[test]
fn endless_times_to_live_are_forever() {
    let world = World::new(1);
    let endless = HistoryOptions { ttl: Duration::MAX, meta_ttl: Duration::MAX, ..HISTORY };
    world.publish("a", endless);
    world.advance(Duration::from_secs(100 * 365 * 24 * 3600));
    world.engine.sweep();
    assert!(world.held("a"));
    assert_eq!(world.streams(), (1, 0));
}
