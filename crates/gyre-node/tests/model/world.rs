//! Two shards, their clients, the engine, and the generator that decides what happens next.

use std::{
    collections::BTreeMap,
    ops::AddAssign,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use gyre_core::{
    channel::{CallRights, ChannelOptions, HistoryOptions, Namespaces, SubscribeRights},
    limits::Limits,
    ports::NoApplication,
    rules::{ConnectRules, Rules},
};
use gyre_engine::memory::MemoryEngine;
use gyre_node::{Directory, LocalShard, Node, NodeInfo, Ports, SimulatedShard, ops::PublishRequest};
use gyre_protocol::Payload;
use rand::{RngExt, SeedableRng, rngs::StdRng};

use crate::{
    client::{CHANNELS, Client},
    engine::{Filter, Model, SlowEngine},
};

const SHARDS: usize = 2;
const CLIENTS: usize = 4;
const HISTORY_TTL: Duration = Duration::from_secs(60);
const POSITION_TTL: Duration = Duration::from_secs(300);
/// Operations after which everything on its way arrives, and nothing may be missing.
const CALM_INTERVAL: usize = 400;

/// How often something happened, so that a test that never gets to the point is noticed.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) publications: u64,
    pub(crate) recovered: u64,
    pub(crate) recovered_publications: u64,
    pub(crate) unrecovered: u64,
    pub(crate) insufficient: u64,
    pub(crate) disconnects: BTreeMap<u32, u64>,
}

impl AddAssign for Seen {
    fn add_assign(&mut self, other: Self) {
        self.publications += other.publications;
        self.recovered += other.recovered;
        self.recovered_publications += other.recovered_publications;
        self.unrecovered += other.unrecovered;
        self.insufficient += other.insufficient;
        for (code, count) in other.disconnects {
            *self.disconnects.entry(code).or_default() += count;
        }
    }
}

impl Seen {
    /// Everything that can happen has happened.
    pub(crate) fn assert_complete(&self) {
        let counts = [
            self.publications,
            self.recovered,
            self.recovered_publications,
            self.unrecovered,
            self.insufficient,
        ];
        assert!(counts.iter().all(|&count| count > 100) && !self.disconnects.is_empty(), "{self:?}");
    }
}

pub(crate) struct World {
    generator: StdRng,
    runtime: tokio::runtime::Runtime,
    node: Arc<Node>,
    shards: Vec<SimulatedShard>,
    clients: Vec<Client>,
    engine: Arc<SlowEngine>,
    model: Arc<Mutex<Model>>,
    /// Clients that read nothing for now.
    asleep: [bool; CLIENTS],
    /// Milliseconds since the world began.
    time: Arc<AtomicU64>,
    begin: Instant,
    last_number: u64,
    seen: Seen,
}

impl World {
    pub(crate) fn new(seed: u64) -> Self {
        let mut generator = StdRng::seed_from_u64(seed);
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let directory = Arc::new(Directory::new(SHARDS));
        let (begin, time) = (Instant::now(), Arc::new(AtomicU64::new(0)));
        let clock = {
            let time = time.clone();
            move || begin + Duration::from_millis(time.load(Ordering::Relaxed))
        };
        let epochs = StdRng::seed_from_u64(generator.random());
        let filter = Arc::new(Filter::new(directory.clone()));
        let memory = Arc::new(MemoryEngine::with_generator(
            filter.clone(),
            Arc::new(clock),
            Duration::from_secs(60),
            epochs,
        ));
        let model = Arc::new(Mutex::new(Model { now: Some(begin), ..Model::default() }));
        let engine = Arc::new(SlowEngine::new(memory.clone(), filter, model.clone(), generator.random()));
        let ports = Ports {
            broker: engine.clone(),
            maps: memory.clone(),
            presence: memory,
            authenticator: Arc::new(NoApplication),
            hooks: Arc::new(NoApplication),
            map_hooks: Arc::new(NoApplication),
            streams: Arc::new(NoApplication),
            events: Arc::new(NoApplication),
            polls: Arc::new(NoApplication),
        };
        let info = NodeInfo { uid: "uid".into(), name: "node".into(), version: "0".into() };
        let node = Node::new(info, rules(), ports, directory, runtime.handle().clone());
        let shards = (0..SHARDS).map(|index| SimulatedShard::new(&node, index)).collect();
        let clients = (0..CLIENTS).map(|_| Client::default()).collect();
        Self {
            generator,
            runtime,
            node,
            shards,
            clients,
            engine,
            model,
            asleep: Default::default(),
            time,
            begin,
            last_number: 0,
            seen: Seen::default(),
        }
    }

    /// Does that many things, and returns what was seen.
    pub(crate) fn run(mut self, operations: usize) -> Seen {
        for number in 1..=operations {
            self.step();
            if number % CALM_INTERVAL == 0 {
                self.calm_down();
            }
        }
        self.seen
    }

    fn step(&mut self) {
        let client = self.generator.random_range(0..CLIENTS);
        let channel = self.generator.random_range(0..CHANNELS.len());
        if !self.clients[client].is_connected() && self.generator.random_bool(0.3) {
            let shard = self.generator.random_range(0..SHARDS);
            self.clients[client].connect(self.shards[shard].local(), &mut self.generator);
        }
        match self.generator.random_range(0..200) {
            0..25 => self.publish(channel),
            25..30 => {
                self.last_number += 1;
                self.clients[client].publish(channel, self.last_number);
            }
            30 => self.asleep[client] = !self.asleep[client],
            31..80 if self.asleep[client] => {}
            31..80 => {
                let most = *[usize::MAX, 1, 50, 300].get(self.generator.random_range(0..4)).unwrap_or(&1);
                self.read(client, most);
            }
            80..120 => {
                self.feed(client);
            }
            120..145 => {
                let (shard, most) =
                    (self.generator.random_range(0..SHARDS), self.generator.random_range(1..4));
                self.shards[shard].apply(most);
            }
            145..165 => {
                let shard = self.generator.random_range(0..SHARDS);
                self.shards[shard].flush(2);
            }
            165..180 => {
                self.answer_one();
            }
            180..188 => self.clients[client].subscribe(channel, &mut self.generator),
            188..191 => self.clients[client].unsubscribe(channel),
            191..198 if self.generator.random_bool(0.3) => {
                if let Some(local) = self.local(client) {
                    self.clients[client].lose_connection(&local);
                }
            }
            198 if self.generator.random_bool(0.2) => self.advance(),
            199 => drop(self.runtime.spawn(self.node.history_remove(CHANNELS[channel]).wait())),
            _ => {}
        }
        self.let_tasks_run();
    }

    fn publish(&mut self, channel: usize) {
        self.last_number += 1;
        let data = Payload::json(self.last_number.to_string());
        let answer =
            self.node.publish(CHANNELS[channel], PublishRequest { data, ..PublishRequest::default() });
        drop(self.runtime.spawn(answer.wait()));
    }

    fn advance(&mut self) {
        let longest = if self.generator.random_bool(0.2) { POSITION_TTL } else { HISTORY_TTL };
        let by = self.generator.random_range(0..longest.as_millis() as u64 * 3 / 2);
        let now = self.time.fetch_add(by, Ordering::Relaxed) + by;
        self.model.lock().unwrap().now = Some(self.begin + Duration::from_millis(now));
    }

    fn local(&self, client: usize) -> Option<LocalShard> {
        Some(self.shards[self.clients[client].shard()?].local().clone())
    }

    fn feed(&mut self, client: usize) -> bool {
        self.local(client).is_some_and(|local| self.clients[client].feed(&local))
    }

    fn read(&mut self, client: usize, most: usize) -> bool {
        let Some(local) = self.local(client) else { return false };
        self.clients[client].read(&local, most, &self.model.lock().unwrap(), &mut self.seen)
    }

    fn answer_one(&mut self) -> bool {
        let has_answered = self.engine.answer_one(&mut self.generator);
        self.let_tasks_run();
        has_answered
    }

    fn let_tasks_run(&self) {
        self.runtime.block_on(async {
            for _ in 0..3 {
                tokio::task::yield_now().await;
            }
        });
    }

    /// Lets everything arrive, and checks that nothing is missing.
    fn calm_down(&mut self) {
        loop {
            let mut is_moving = self.answer_one();
            for shard in &mut self.shards {
                is_moving |= shard.apply(usize::MAX);
                while shard.flush(usize::MAX) {}
            }
            for client in 0..CLIENTS {
                is_moving |= self.feed(client) | self.read(client, usize::MAX);
            }
            if !is_moving {
                break;
            }
        }
        let model = self.model.lock().unwrap();
        self.clients.iter().for_each(|client| client.check_complete(&model));
    }
}

/// Small limits, so that all of them are met often.
fn rules() -> Rules {
    let history = HistoryOptions { size: 8.try_into().unwrap(), ttl: HISTORY_TTL, meta_ttl: POSITION_TTL };
    let plain = ChannelOptions {
        subscribe: SubscribeRights { client: true, anonymous: true },
        publish: CallRights { client: true, anonymous: true, ..CallRights::default() },
        ..ChannelOptions::default()
    };
    let stream = ChannelOptions {
        history: Some(history),
        force_positioning: true,
        force_recovery: true,
        ..plain.clone()
    };
    let named =
        [("plain", plain), ("stream", stream)].map(|(name, options)| (name.into(), Arc::new(options)));
    Rules {
        namespaces: Namespaces {
            named: named.into_iter().collect(),
            history_meta_ttl: POSITION_TTL,
            ..Namespaces::default()
        },
        limits: Limits {
            queue_bytes_max: 1_500,
            recovery_publications_max: 6,
            subscribe_buffer_max: 4,
            ..Limits::default()
        },
        connect: ConnectRules { insecure: true, ..ConnectRules::default() },
        ..Rules::default()
    }
}
