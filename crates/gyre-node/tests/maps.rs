//! Whatever happens between subscribing to a map and following it, a client ends up with what the store holds, in the order
//! of the map; with delta, out of patches that each have their base.
#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

#[path = "../../gyre-core/src/delta/apply.rs"]
mod patch_reader;

use std::{
    cell::RefCell,
    cmp::Reverse,
    collections::BTreeMap,
    num::NonZeroUsize,
    rc::Rc,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use gyre_core::{
    channel::{
        ChannelOptions, ClientKey, HistoryOptions, MapOptions, MapRetention, MapStorage, Namespaces,
        PageSizes, SubscribeRights, SubscriptionKind,
    },
    hub::{Direction, Framing, WireForm},
    limits::Limits,
    ports::NoApplication,
    rules::{ConnectRules, Rules},
    session::Pings,
};
use gyre_engine::memory::MemoryEngine;
use gyre_node::{
    ConnectionId, ConnectionOptions, Directory, Fed, Flushed, Link, Node, NodeInfo, Ports, Queue,
    SimulatedShard, TransportKind,
    ops::{MapPublishRequest, StatePage},
};
use gyre_protocol::{Disconnect, Payload, codec::Encoding};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use serde_json::{Value, json};

const KEY_TTL: Duration = Duration::from_secs(60);
const KEYS: u32 = 12;
/// Few, so that many are equal.
const SCORES: [i64; 6] = [i64::MIN, -7, -1, 0, 3, i64::MAX];

/// How often something happened, so that a test that never gets to the point is noticed.
#[derive(Debug, Default)]
struct Seen {
    live: u64,
    recovered: u64,
    state_pages: u64,
    stream_pages: u64,
    unrecoverable: u64,
    insufficient: u64,
    removals: u64,
    patches: u64,
    /// Keys set while the client was between two pages of state.
    between_pages: u64,
}

/// What the server wrote to the client.
#[derive(Default)]
struct Wire(Vec<u8>);

struct WireLink(Rc<RefCell<Wire>>);

impl Link for WireLink {
    fn flush(&mut self, queue: &mut Queue) -> Flushed {
        while let Some(frame) = queue.pop() {
            self.0.borrow_mut().0.extend_from_slice(&frame);
        }
        Flushed::Done
    }

    fn close(&mut self, disconnect: &Disconnect, _: &mut Queue) {
        assert_eq!(disconnect.code, 3000, "the server closed: {disconnect:?}");
    }

    fn finish(&mut self) {
        panic!("every connect is accepted");
    }
}

/// What a client does next.
#[derive(Clone, Debug, PartialEq)]
enum Phase {
    /// Ask for the first page.
    Start,
    /// Ask for the next page.
    State {
        cursor: String,
    },
    /// Ask for changes.
    Stream {
        is_recovering: bool,
    },
    Live,
}

/// A client that follows one map as the SDKs do.
struct Client {
    id: ConnectionId,
    wire: Rc<RefCell<Wire>>,
    phase: Phase,
    keys: BTreeMap<String, (i64, Value)>,
    /// The order pages are asked for in, where the map has two.
    is_ascending: bool,
    /// The last entry of the pages so far; the next one has to follow it.
    page_end: Option<(i64, String)>,
    /// With delta, the text of each key as it was received.
    texts: Option<BTreeMap<String, Vec<u8>>>,
    offset: u64,
    epoch: String,
    last_id: u64,
    /// The subscribe that is not answered yet; nothing else is asked meanwhile.
    waits_for: Option<u64>,
}

struct World {
    generator: StdRng,
    node: Arc<Node>,
    engine: Arc<MemoryEngine>,
    shard: SimulatedShard,
    time: Arc<Mutex<Instant>>,
    channel: &'static str,
    client: Client,
    last_value: u64,
    seen: Seen,
    _runtime: tokio::runtime::Runtime,
}

fn namespace(storage: MapStorage) -> Arc<ChannelOptions> {
    Arc::new(ChannelOptions {
        subscribe: SubscribeRights { client: true, anonymous: true },
        allow_delta_fossil: true,
        kind: SubscriptionKind::Map,
        map: Some(MapOptions {
            storage,
            publish: Default::default(),
            remove: Default::default(),
            publish_hook: None,
            remove_hook: None,
            client_key: ClientKey::Given,
            remove_client_on_unsubscribe: false,
            pages: PageSizes { default: 3, min: 1, max: 10 },
            live_publications_max: 4,
            catch_up_timeout: None,
        }),
        ..ChannelOptions::default()
    })
}

fn rules() -> Rules {
    let stream = |meta_ttl| HistoryOptions {
        size: NonZeroUsize::new(8).unwrap(),
        ttl: Duration::from_secs(40),
        meta_ttl,
    };
    let named = [
        ("rec", MapRetention::Recoverable { key_ttl: KEY_TTL, stream: stream(2 * KEY_TTL) }),
        ("eph", MapRetention::Ephemeral { key_ttl: KEY_TTL }),
        ("per", MapRetention::Persistent { stream: stream(Duration::MAX) }),
    ];
    let named = named.into_iter().flat_map(|(name, retention)| {
        let by_key = (name.into(), namespace(MapStorage::by_key(retention)));
        [by_key, (format!("{name}-score").into(), namespace(MapStorage::by_score(retention)))]
    });
    Rules {
        limits: Limits { subscribe_buffer_max: 16, ..Limits::default() },
        namespaces: Namespaces { named: named.collect(), ..Namespaces::default() },
        connect: ConnectRules { allow_anonymous_without_token: true, ..ConnectRules::default() },
        ..Rules::default()
    }
}

impl World {
    fn new(channel: &'static str, seed: u64, has_delta: bool) -> Self {
        let mut generator = StdRng::seed_from_u64(seed);
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let directory = Arc::new(Directory::new(1));
        let time = Arc::new(Mutex::new(Instant::now()));
        let clock = time.clone();
        let engine = Arc::new(MemoryEngine::with_generator(
            directory.clone(),
            Arc::new(move || *clock.lock().unwrap()),
            KEY_TTL,
            StdRng::seed_from_u64(generator.random()),
        ));
        let ports = Ports {
            broker: engine.clone(),
            maps: engine.clone(),
            presence: engine.clone(),
            authenticator: Arc::new(NoApplication),
            hooks: Arc::new(NoApplication),
            map_hooks: Arc::new(NoApplication),
            streams: Arc::new(NoApplication),
            events: Arc::new(NoApplication),
            polls: Arc::new(NoApplication),
        };
        let info = NodeInfo { uid: "uid".into(), name: "node".into(), version: "0".into() };
        let node = Node::new(info, rules(), ports, directory, runtime.handle().clone());
        let shard = SimulatedShard::new(&node, 0);
        let client = Client::connect(&shard, has_delta);
        let (last_value, seen) = (0, Seen::default());
        Self { generator, node, engine, shard, time, channel, client, last_value, seen, _runtime: runtime }
    }

    fn run(mut self) -> Seen {
        for _ in 0..8 {
            for _ in 0..self.generator.random_range(1..120) {
                self.step();
            }
            self.calm_down();
        }
        self.seen
    }

    fn step(&mut self) {
        match self.generator.random_range(0..100) {
            0..30 => self.publish(),
            30..40 => {
                let key = self.any_key();
                self.remove(&key);
            }
            40..44 => *self.time.lock().unwrap() += Duration::from_secs(self.generator.random_range(1..25)),
            44..48 => self.engine.sweep(),
            48..70 => {
                let most = self.generator.random_range(1..4);
                self.shard.apply(most);
                self.read();
            }
            70..96 => self.ask(),
            96 => self.unsubscribe(),
            97 | 98 => {
                self.shard.local().release(self.client.id);
                // The SDK does so after some errors, and comes back to where it was all the same.
                if self.generator.random_bool(0.5)
                    && let Some(texts) = &mut self.client.texts
                {
                    texts.clear();
                }
                self.client.reconnect(&self.shard);
            }
            _ if self.generator.random_bool(0.3) => {
                let cleared = self.node.map_clear(self.channel);
                now(cleared);
            }
            _ => {}
        }
    }

    fn any_key(&mut self) -> String {
        format!("k{}", self.generator.random_range(0..KEYS))
    }

    fn publish(&mut self) {
        self.last_value += 1;
        let text = format!(r#"{{"text":"some quite long and constant text","n":{}}}"#, self.last_value);
        let (key, data) = (self.any_key().into(), Payload::json(text));
        let delta = self.generator.random_bool(0.8);
        let score = SCORES[self.generator.random_range(0..SCORES.len())];
        self.seen.between_pages += u64::from(matches!(self.client.phase, Phase::State { .. }));
        let request = MapPublishRequest { key, data, delta, score, ..Default::default() };
        now(self.node.map_publish(self.channel, request));
    }

    fn remove(&mut self, key: &str) {
        now(self.node.map_remove(self.channel, key, ""));
    }

    /// The client asks for what it needs next.
    fn ask(&mut self) {
        if self.client.waits_for.is_some() {
            return;
        }
        if self.client.phase == Phase::Start {
            self.client.is_ascending = self.generator.random_bool(0.3);
        }
        let Client { phase, offset, epoch, is_ascending, .. } = &self.client;
        let (channel, limit) = (self.channel, self.generator.random_range(0..5));
        let mut request = match phase {
            Phase::Live => return,
            Phase::Start => json!({"channel": channel, "type": 1, "phase": 2, "limit": limit,
                "asc": is_ascending}),
            Phase::State { cursor } => json!({"channel": channel, "type": 1, "phase": 2, "limit": limit,
                "asc": is_ascending, "cursor": cursor, "offset": offset, "epoch": epoch}),
            Phase::Stream { is_recovering } => {
                json!({"channel": channel, "type": 1, "phase": 1, "limit": limit,
                "offset": offset, "epoch": epoch, "recover": is_recovering})
            }
        };
        if self.client.texts.is_some() {
            request["delta"] = "fossil".into();
        }
        self.client.waits_for = Some(self.client.last_id + 1);
        self.client.send(&self.shard, &json!({"subscribe": request}));
        self.read();
    }

    fn unsubscribe(&mut self) {
        if self.client.waits_for.is_some() {
            return;
        }
        self.client.send(&self.shard, &json!({"unsubscribe": {"channel": self.channel}}));
        self.read();
        self.client.start();
    }

    /// The client takes in what the server wrote.
    fn read(&mut self) {
        while self.shard.flush(16) {}
        let bytes = std::mem::take(&mut self.client.wire.borrow_mut().0);
        for line in bytes.split(|&byte| byte == b'\n').filter(|line| !line.is_empty()) {
            let message: Value = serde_json::from_slice(line).unwrap();
            self.client.receive(&message, self.channel.contains("score"), &mut self.seen);
        }
    }

    /// Everything on its way arrives; then the client's keys are those of the store.
    fn calm_down(&mut self) {
        for _ in 0..100 {
            self.engine.sweep();
            while self.shard.apply(16) {}
            self.read();
            self.ask();
        }
        assert_eq!(self.client.phase, Phase::Live, "{}", self.channel);
        let state =
            now(self.node.map_read_state(self.channel, StatePage { limit: -1, ..Default::default() }));
        let kept = state.entries.iter().map(|entry| {
            let value: Value = serde_json::from_slice(entry.data.bytes()).unwrap();
            (entry.key.to_string(), (entry.score, value))
        });
        let mut keys: Vec<_> = self.client.keys.clone().into_iter().collect();
        if self.channel.contains("score") {
            keys.sort_by_cached_key(|(key, (score, _))| Reverse((*score, key.clone())));
        }
        assert_eq!(keys, kept.collect::<Vec<_>>(), "{}", self.channel);
    }
}

/// The memory engine answers at once.
fn now<T: std::fmt::Debug>(answer: gyre_node::ops::ApiAnswer<T>) -> T {
    match answer {
        gyre_core::ports::Answer::Ready(result) => result.unwrap(),
        gyre_core::ports::Answer::Later(_) => panic!("the memory engine answers at once"),
    }
}

impl Client {
    fn connect(shard: &SimulatedShard, has_delta: bool) -> Self {
        let (id, wire) = open(shard);
        let mut client = Self {
            id,
            wire,
            phase: Phase::Start,
            keys: BTreeMap::new(),
            is_ascending: false,
            page_end: None,
            texts: has_delta.then(BTreeMap::new),
            offset: 0,
            epoch: String::new(),
            last_id: 0,
            waits_for: None,
        };
        client.send(shard, &json!({"connect": {}}));
        client
    }

    /// Comes back over another connection, with what it knows.
    fn reconnect(&mut self, shard: &SimulatedShard) {
        (self.id, self.wire) = open(shard);
        self.waits_for = None;
        self.send(shard, &json!({"connect": {}}));
        self.subscribe_again();
    }

    fn start(&mut self) {
        *self = Self {
            phase: Phase::Start,
            keys: BTreeMap::new(),
            page_end: None,
            texts: self.texts.is_some().then(BTreeMap::new),
            offset: 0,
            epoch: String::new(),
            wire: self.wire.clone(),
            ..*self
        };
    }

    fn subscribe_again(&mut self) {
        match self.phase {
            Phase::Live if self.offset > 0 => self.phase = Phase::Stream { is_recovering: true },
            Phase::Stream { is_recovering: true } => {}
            _ => self.start(),
        }
    }

    fn send(&mut self, shard: &SimulatedShard, request: &Value) {
        self.last_id += 1;
        let mut command = request.clone();
        command["id"] = self.last_id.into();
        let text = command.to_string();
        let command = Encoding::Json.decode_command(text.as_bytes()).unwrap();
        let is_subscribe = self.waits_for == Some(self.last_id);
        let fed = shard.local().command(self.id, command);
        assert!(fed == Fed::Open || (fed == Fed::Busy && is_subscribe), "{fed:?}: {text}");
    }

    fn receive(&mut self, message: &Value, is_ordered: bool, seen: &mut Seen) {
        if let Some(push) = message.get("push") {
            if let Some(publication) = push.get("pub") {
                assert_eq!(self.phase, Phase::Live, "nothing comes before the live reply: {message}");
                return self.apply(publication, seen);
            }
            assert_eq!(push["unsubscribe"]["code"], 2500, "{message}");
            seen.insufficient += 1;
            return self.subscribe_again();
        }
        if message["id"].as_u64() == self.waits_for {
            self.waits_for = None;
        }
        if let Some(error) = message.get("error") {
            assert_eq!(error["code"], 112, "{message} in {:?}", self.phase);
            seen.unrecoverable += 1;
            return self.start();
        }
        if let Some(result) = message.get("subscribe") {
            self.subscribed(result, is_ordered, seen);
        }
    }

    fn subscribed(&mut self, result: &Value, is_ordered: bool, seen: &mut Seen) {
        assert_eq!(result["type"], 1);
        if self.phase == Phase::Start {
            self.epoch = result["epoch"].as_str().unwrap().into();
            self.offset = result["offset"].as_u64().unwrap_or(0);
        }
        for entry in result["state"].as_array().into_iter().flatten() {
            assert!(entry["delta"].is_null(), "{entry}");
            let value = self.data_of(entry, seen);
            let (key, score) = (entry["key"].as_str().unwrap(), score_of(entry));
            let place = (if is_ordered { score } else { 0 }, key.to_owned());
            let follows = self.page_end.as_ref().is_none_or(|end| match is_ordered && !self.is_ascending {
                true => place < *end,
                false => place > *end,
            });
            assert!(follows, "{entry} does not follow {:?}", self.page_end);
            self.page_end = Some(place);
            let known = self.keys.insert(key.into(), (score, value));
            assert!(known.is_none() || entry["offset"].is_null(), "with a stream, {entry} comes once");
        }
        for publication in result["publications"].as_array().into_iter().flatten() {
            self.apply(publication, seen);
        }
        assert_eq!(result["delta"] == true, self.texts.is_some(), "{result}");
        let offset = result["offset"].as_u64().unwrap_or(0);
        self.phase = match (result["phase"].as_i64(), result["cursor"].as_str()) {
            (None, _) => {
                seen.live += 1;
                seen.recovered += u64::from(result["recovered"] == true);
                assert_eq!(self.offset, offset, "the reply's publications lead up to its offset");
                Phase::Live
            }
            (Some(2), Some(cursor)) => {
                seen.state_pages += 1;
                assert_eq!(self.offset, offset, "the offset is frozen");
                Phase::State { cursor: cursor.into() }
            }
            (Some(2), None) => Phase::Stream { is_recovering: false },
            (Some(1), None) => {
                seen.stream_pages += 1;
                assert_eq!(self.offset, offset);
                Phase::Stream { is_recovering: matches!(self.phase, Phase::Stream { is_recovering: true }) }
            }
            other => panic!("unknown phase {other:?}"),
        };
    }

    fn apply(&mut self, publication: &Value, seen: &mut Seen) {
        if let Some(offset) = publication["offset"].as_u64() {
            assert_eq!(offset, self.offset + 1, "no gap, nothing twice");
            self.offset = offset;
        }
        let key = publication["key"].as_str().unwrap();
        let value = self.data_of(publication, seen);
        if publication["removed"] == true {
            seen.removals += 1;
            self.keys.remove(key);
        } else {
            self.keys.insert(key.into(), (score_of(publication), value));
        }
    }

    /// What an entry or change says of its key. With delta it is text to be parsed, of removals too, or a patch.
    fn data_of(&mut self, publication: &Value, seen: &mut Seen) -> Value {
        let Some(texts) = &mut self.texts else { return publication["data"].clone() };
        let key = publication["key"].as_str().unwrap();
        let mut text = publication["data"].as_str().unwrap().as_bytes().to_vec();
        if publication["delta"] == true {
            seen.patches += 1;
            text = patch_reader::apply(&texts[key], &text).unwrap();
        }
        let value = serde_json::from_slice(&text).unwrap();
        match publication["removed"] == true {
            true => texts.remove(key),
            false => texts.insert(key.into(), text),
        };
        value
    }
}

fn score_of(publication: &Value) -> i64 {
    publication["score"].as_i64().unwrap_or(0)
}

fn open(shard: &SimulatedShard) -> (ConnectionId, Rc<RefCell<Wire>>) {
    let wire = Rc::new(RefCell::new(Wire::default()));
    let options = ConnectionOptions {
        transport: TransportKind::WebTransport,
        form: WireForm {
            encoding: Encoding::Json,
            framing: Framing::Stream,
            direction: Direction::Bidirectional,
            ascii: false,
            deflate: None,
        },
        announces_disconnect: true,
        pings: Pings::Protocol,
        opening: Default::default(),
    };
    let id = shard.local().open(options, Box::new(WireLink(wire.clone())));
    (id, wire)
}

/// Runs worlds of all three modes in both orders: publications, new scores, removals, ends of keys, clearing, lost connections and unsubscribing
/// fall between the pages of a client, which is compared with the store whenever everything has arrived. Every offset is
/// checked on its way, and what the test is about has to happen often. Clients with delta apply every patch to what they
/// hold, and some have forgotten that when they come back. Entries of
/// state have to follow each other in the order asked for, from page to page.
#[test]
fn client_ends_up_with_the_state_of_the_store() {
    let channels = [
        ("rec:m", true),
        ("eph:m", false),
        ("per:m", true),
        ("rec-score:m", true),
        ("eph-score:m", false),
        ("per-score:m", true),
    ];
    for ((channel, has_stream), has_delta) in channels.into_iter().flat_map(|c| [(c, false), (c, true)]) {
        let mut total = Seen::default();
        for seed in 0..100 {
            let world = World::new(channel, seed, has_delta);
            let seen = match std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| world.run())) {
                Ok(seen) => seen,
                Err(failure) => {
                    eprintln!("{channel}, delta {has_delta}, seed {seed}");
                    std::panic::resume_unwind(failure);
                }
            };
            total.live += seen.live;
            total.recovered += seen.recovered;
            total.state_pages += seen.state_pages;
            total.stream_pages += seen.stream_pages;
            total.unrecoverable += seen.unrecoverable;
            total.insufficient += seen.insufficient;
            total.removals += seen.removals;
            total.patches += seen.patches;
            total.between_pages += seen.between_pages;
        }
        let Seen {
            live,
            recovered,
            state_pages,
            stream_pages,
            unrecoverable,
            insufficient,
            removals,
            patches,
            between_pages,
        } = total;
        assert!(if has_delta { patches > 500 } else { patches == 0 }, "{channel} {total:?}");
        let often = [live, state_pages, removals, insufficient, between_pages];
        assert!(often.iter().all(|&n| n > 80), "{channel} {total:?}");
        assert!(unrecoverable > 5, "{channel} {total:?}");
        let of_streams = [recovered, stream_pages];
        assert!(of_streams.iter().all(|&n| if has_stream { n > 50 } else { n == 0 }), "{channel} {total:?}");
    }
}
