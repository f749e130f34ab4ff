//! Who is connected, page by page, while others come and go.
#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

use std::{
    collections::{BTreeMap, BTreeSet},
    future::Future,
    pin::pin,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use gyre_core::{
    channel::{ChannelOptions, Namespaces, SubscribeRights},
    hub::{Direction, Framing, WireForm},
    ports::NoApplication,
    rules::Rules,
    session::Pings,
};
use gyre_engine::memory::MemoryEngine;
use gyre_node::{
    ConnectionId, ConnectionOptions, Directory, Fed, Flushed, Link, Node, NodeInfo, OpeningRequest, Ports,
    Queue, SimulatedShard, TransportKind,
    ops::{ConnectionList, ConnectionPage},
};
use gyre_protocol::{Disconnect, codec::Encoding};
use rand::{RngExt, SeedableRng, rngs::StdRng};

struct Silent;

impl Link for Silent {
    fn flush(&mut self, queue: &mut Queue) -> Flushed {
        while queue.pop().is_some() {}
        Flushed::Done
    }

    fn close(&mut self, _: &Disconnect, _: &mut Queue) {}

    fn finish(&mut self) {
        panic!("every connect is accepted");
    }
}

/// Two shards, and who is connected to them: user and channel of each.
struct World {
    generator: StdRng,
    node: Arc<Node>,
    shards: [SimulatedShard; 2],
    connected: BTreeMap<String, (usize, ConnectionId, &'static str, &'static str)>,
    _runtime: tokio::runtime::Runtime,
}

impl World {
    fn new(seed: u64) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let directory = Arc::new(Directory::new(2));
        let engine = Arc::new(MemoryEngine::with_generator(
            directory.clone(),
            Arc::new(Instant::now),
            Duration::from_secs(60),
            StdRng::seed_from_u64(seed),
        ));
        let ports = Ports {
            broker: engine.clone(),
            maps: engine.clone(),
            presence: engine,
            authenticator: Arc::new(NoApplication),
            hooks: Arc::new(NoApplication),
            map_hooks: Arc::new(NoApplication),
            polls: Arc::new(NoApplication),
            streams: Arc::new(NoApplication),
            events: Arc::new(NoApplication),
        };
        let options = ChannelOptions {
            subscribe: SubscribeRights { client: true, anonymous: false },
            ..ChannelOptions::default()
        };
        let namespaces = Namespaces { without_namespace: Arc::new(options), ..Namespaces::default() };
        let rules = Rules { namespaces, ..Rules::default() };
        let info = NodeInfo { uid: "uid".into(), name: "node".into(), version: "0".into() };
        let node = Node::new(info, rules, ports, directory, runtime.handle().clone());
        let shards = [0, 1].map(|index| SimulatedShard::new(&node, index));
        let generator = StdRng::seed_from_u64(seed);
        Self { generator, node, shards, connected: BTreeMap::new(), _runtime: runtime }
    }

    /// A client of one of three users connects and subscribes to one of two channels.
    fn connect(&mut self) {
        let at = self.generator.random_range(0..2);
        let user = ["a", "b", "c"][self.generator.random_range(0..3)];
        let channel = ["x", "y"][self.generator.random_range(0..2)];
        let shard = self.shards[at].local().clone();
        let form = WireForm {
            encoding: Encoding::Json,
            framing: Framing::Stream,
            direction: Direction::Bidirectional,
            ascii: false,
            deflate: None,
        };
        let options = ConnectionOptions {
            transport: TransportKind::WebSocket,
            form,
            announces_disconnect: false,
            pings: Pings::Transport,
            opening: OpeningRequest { user: Some(user.into()), ..OpeningRequest::default() },
        };
        let id = shard.open(options, Box::new(Silent));
        let commands = format!(
            r#"{{"id":1,"connect":{{"name":"app","version":"1"}}}}{}{{"id":2,"subscribe":{{"channel":"{channel}"}}}}"#,
            "\n"
        );
        for command in commands.lines() {
            let command = Encoding::Json.decode_command(command.as_bytes()).unwrap();
            assert_eq!(shard.command(id, command), Fed::Open);
        }
        let known: BTreeSet<String> = self.connected.keys().cloned().collect();
        let all = self.pages(&ConnectionPage { limit: 1000, ..ConnectionPage::default() }, false);
        let client = all.into_iter().find(|client| !known.contains(client)).unwrap();
        self.connected.insert(client, (at, id, user, channel));
    }

    fn leave(&mut self) {
        let at = self.generator.random_range(0..self.connected.len());
        let client = self.connected.keys().nth(at).unwrap().clone();
        let (shard, id, ..) = self.connected.remove(&client).unwrap();
        self.shards[shard].local().release(id);
    }

    fn page(&mut self, page: ConnectionPage) -> ConnectionList {
        let node = self.node.clone();
        let mut asked = pin!(node.connections(page));
        loop {
            match asked.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                Poll::Ready(list) => return list.unwrap(),
                Poll::Pending => assert!(self.shards.iter_mut().any(|shard| shard.apply(9))),
            }
        }
    }

    /// The clients in all pages; in between, others may come and go.
    fn pages(&mut self, wanted: &ConnectionPage, is_lively: bool) -> BTreeSet<String> {
        let (mut found, mut page) = (BTreeSet::new(), wanted.clone());
        loop {
            let list = self.page(page.clone());
            assert!(list.connections.len() <= wanted.limit);
            for connection in list.connections {
                assert!(wanted.user.is_empty() || *connection.user == *wanted.user);
                let mut channels = connection.channels.iter();
                assert!(
                    wanted.channel.is_empty() || channels.any(|channel| *channel.name == *wanted.channel)
                );
                found.insert(connection.client);
            }
            if list.cursor.is_empty() {
                return found;
            }
            page.cursor = list.cursor.into();
            if is_lively {
                self.change();
            }
        }
    }

    fn change(&mut self) {
        match self.generator.random_bool(0.5) || self.connected.is_empty() {
            true => self.connect(),
            false => self.leave(),
        }
    }
}

/// Whoever is connected from the first page to the last is in one of them, whichever filter is set and whoever comes and
/// goes meanwhile.
#[test]
fn pages_miss_nobody() {
    let mut found_in_all = 0;
    for seed in 0..40 {
        let mut world = World::new(seed);
        (0..40).for_each(|_| world.connect());
        for _ in 0..12 {
            let pick = |generator: &mut StdRng, among: &[&str]| -> Box<str> {
                among[generator.random_range(0..among.len())].into()
            };
            let page = ConnectionPage {
                user: pick(&mut world.generator, &["", "", "a", "b"]),
                channel: pick(&mut world.generator, &["", "", "x", "y"]),
                limit: world.generator.random_range(1..6),
                ..ConnectionPage::default()
            };
            let before = world.connected.clone();
            let found = world.pages(&page, true);
            for (client, (_, _, user, channel)) in &before {
                let is_meant = (page.user.is_empty() || *page.user == **user)
                    && (page.channel.is_empty() || *page.channel == **channel);
                if is_meant && world.connected.contains_key(client) {
                    assert!(found.contains(client), "{seed} {page:?} {client}");
                    found_in_all += 1;
                }
            }
        }
    }
    assert!(found_in_all > 1000, "the filters leave enough: {found_in_all}");
}

/// What is told of a connection; one that is asked for by its id comes alone; a cursor that is none is refused.
#[test]
fn a_connection_is_described() {
    let mut world = World::new(1);
    (0..20).for_each(|_| world.connect());
    let (client, (_, _, user, channel)) = world.connected.iter().next().unwrap();
    let (client, user, channel) = (client.clone(), *user, *channel);
    let list = world.page(ConnectionPage { client: client.as_str().into(), ..ConnectionPage::default() });
    let [found] = &list.connections[..] else { panic!("{list:?}") };
    assert_eq!((&*found.client, &*found.user, &*list.cursor), (&*client, user, ""));
    assert_eq!((&*found.app_name, &*found.app_version, &*found.node), ("app", "1", "uid"));
    assert_eq!((found.transport, found.protocol, found.status), ("websocket", "json", "connected"));
    assert_eq!((&*found.channels[0].name, found.num_channels, found.channels.len()), (channel, 1, 1));
    assert!(!found.channels[0].is_server_side && found.connected_at_ms > 1_700_000_000_000);
    for cursor in ["x", "1.x", "-1", "."] {
        let page = ConnectionPage { cursor: cursor.into(), ..ConnectionPage::default() };
        let mut asked = pin!(world.node.connections(page));
        let answer = asked.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        assert!(matches!(answer, Poll::Ready(Err(error)) if error.code == 107), "{cursor}");
    }
    assert!(
        world.page(ConnectionPage { cursor: "7".into(), ..ConnectionPage::default() }).connections.is_empty()
    );
}
