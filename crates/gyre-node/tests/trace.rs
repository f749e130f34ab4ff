//! Looking on: what is seen, what it costs others (nothing), and how it ends.
#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

use std::{
    future::Future,
    pin::pin,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use gyre_core::{
    channel::{CallRights, ChannelName, ChannelOptions, Namespaces, SubscribeRights},
    hub::{Direction, Framing, WireForm},
    ports::{Answer, ChannelEvent, NoApplication},
    rules::Rules,
    session::Pings,
};
use gyre_engine::memory::MemoryEngine;
use gyre_node::{
    Activity, ConnectionId, ConnectionOptions, Directory, Fed, Flushed, Link, Node, NodeInfo, OpeningRequest,
    Ports, Queue, SimulatedShard, TRACE_EVENTS_MAX, TRACES_MAX, Trace, TraceError, TraceEvent, TraceSubject,
    TransportKind, ops::PublishRequest,
};
use gyre_protocol::{Disconnect, Payload, codec::Encoding};

struct Silent;

impl Link for Silent {
    fn flush(&mut self, queue: &mut Queue) -> Flushed {
        while queue.pop().is_some() {}
        Flushed::Done
    }

    fn close(&mut self, _: &Disconnect, _: &mut Queue) {}

    fn finish(&mut self) {}
}

/// A node with one shard, whose turns the test takes.
struct World {
    node: Arc<Node>,
    shard: SimulatedShard,
    _runtime: tokio::runtime::Runtime,
}

impl World {
    fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let directory = Arc::new(Directory::new(1));
        let engine =
            Arc::new(MemoryEngine::new(directory.clone(), Arc::new(Instant::now), Duration::from_secs(60)));
        let ports = Ports {
            broker: engine.clone(),
            maps: engine.clone(),
            presence: engine,
            authenticator: Arc::new(NoApplication),
            hooks: Arc::new(NoApplication),
            map_hooks: Arc::new(NoApplication),
            polls: Arc::new(NoApplication),
        };
        let options = ChannelOptions {
            join_leave: true,
            subscribe: SubscribeRights { client: true, anonymous: false },
            publish: CallRights { client: true, ..CallRights::default() },
            ..ChannelOptions::default()
        };
        let namespaces = Namespaces { without_namespace: Arc::new(options), ..Namespaces::default() };
        let rules = Rules { namespaces, ..Rules::default() };
        let info = NodeInfo { uid: "uid".into(), name: "node".into(), version: "0".into() };
        let node = Node::new(info, rules, ports, directory, runtime.handle().clone());
        let shard = SimulatedShard::new(&node, 0);
        Self { node, shard, _runtime: runtime }
    }

    /// Takes turns until the work is done.
    fn run<T>(&mut self, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        loop {
            match work.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                Poll::Ready(value) => return value,
                Poll::Pending => assert!(self.shard.apply(9), "nothing is left that could end it"),
            }
        }
    }

    fn trace(&mut self, subject: TraceSubject) -> Result<Trace, TraceError> {
        let node = self.node.clone();
        self.run(async move { node.trace(subject).await })
    }

    fn channel(&mut self, name: &str) -> Trace {
        self.trace(TraceSubject::Channel(ChannelName::new(name))).unwrap()
    }

    fn publish(&self, channel: &str, text: &str) {
        let data = Payload::json(format!("\"{text}\""));
        let request = PublishRequest { data, ..PublishRequest::default() };
        let Answer::Ready(published) = self.node.publish(channel, request) else {
            panic!("answered at once")
        };
        assert!(published.is_ok());
    }

    fn connect(&self, user: &str) -> ConnectionId {
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
            opening: OpeningRequest { user: Some(user.into()), headers: None },
        };
        let id = self.shard.local().open(options, Box::new(Silent));
        self.command(id, r#"{"id":1,"connect":{}}"#);
        id
    }

    fn command(&self, id: ConnectionId, command: &str) {
        let command = Encoding::Json.decode_command(command.as_bytes()).unwrap();
        assert_eq!(self.shard.local().command(id, command), Fed::Open);
    }
}

/// What has been seen so far, in words.
fn seen(trace: &mut Trace) -> Vec<String> {
    let mut seen = Vec::new();
    while let Poll::Ready(Some(event)) = pin!(trace.next()).poll(&mut Context::from_waker(Waker::noop())) {
        seen.push(match event {
            TraceEvent::Channel(ChannelEvent::Publication(publication)) => {
                String::from_utf8_lossy(publication.data.bytes()).into_owned()
            }
            TraceEvent::Channel(ChannelEvent::Join(info)) => format!("join {}", info.user),
            TraceEvent::Channel(ChannelEvent::Leave(info)) => format!("leave {}", info.user),
            TraceEvent::Channel(event) => format!("{event:?}"),
            TraceEvent::Connection { activity, .. } => match activity {
                Activity::Connected => "connected".into(),
                Activity::Command { command, subject, data } => {
                    let data = String::from_utf8_lossy(data.bytes()).into_owned();
                    format!("{} {subject} {data}", command.name()).trim_end().to_owned()
                }
                Activity::Refused { command, code } => format!("{} refused {code}", command.name()),
                Activity::Subscribed { channel } => format!("subscribed {}", &*channel),
                Activity::Unsubscribed { channel } => format!("unsubscribed {}", &*channel),
                Activity::Push(push) => format!("push {:?}", push.body),
                Activity::Disconnected(disconnect) => format!("disconnected {}", disconnect.code),
            },
        });
    }
    seen
}

/// A channel is seen without any subscriber, with those who come and go, and no longer once nobody looks; others are not.
#[test]
fn a_channel_is_seen() {
    let mut world = World::new();
    let mut trace = world.channel("a");
    world.publish("a", "one");
    world.publish("b", "other");
    let id = world.connect("ada");
    world.command(id, r#"{"id":2,"subscribe":{"channel":"a"}}"#);
    world.publish("a", "two");
    world.shard.local().release(id);
    assert_eq!(seen(&mut trace), ["\"one\"", "join ada", "\"two\"", "leave ada"]);
    drop(trace);
    world.publish("a", "three");
    let mut again = world.channel("a");
    assert_eq!(seen(&mut again), [""; 0]);
}

/// Everything a user's connections do is seen, from their connect to their end, and nothing of others.
#[test]
fn a_user_is_seen() {
    let mut world = World::new();
    let mut trace = world.trace(TraceSubject::User("ada".into())).unwrap();
    let other = world.connect("grace");
    let id = world.connect("ada");
    world.command(other, r#"{"id":2,"subscribe":{"channel":"a"}}"#);
    world.command(id, r#"{"id":2,"subscribe":{"channel":"a"}}"#);
    world.command(id, r#"{"id":3,"publish":{"channel":"a","data":{"x":1}}}"#);
    world.command(id, r#"{"id":4,"presence":{"channel":"a"}}"#);
    world.command(id, r#"{"id":5,"unsubscribe":{"channel":"a"}}"#);
    world.shard.local().disconnect(id, &Disconnect::FORCE_RECONNECT);
    let expected = [
        "connected",
        "subscribe a",
        "subscribed a",
        r#"publish a {"x":1}"#,
        "presence a",
        "presence refused 108",
        "unsubscribe a",
        "unsubscribed a",
        "disconnected 3011",
    ];
    assert_eq!(seen(&mut trace), expected);
    drop(trace);
    while world.shard.apply(9) {}
    world.command(other, r#"{"id":3,"presence":{"channel":"a"}}"#);
}

/// A reader that does not read misses events and is told how many; nothing waits for it, and no more than the limit is kept.
#[test]
fn a_slow_reader_is_told_what_it_missed() {
    let mut world = World::new();
    let mut trace = world.channel("a");
    (0..TRACE_EVENTS_MAX + 7).for_each(|i| world.publish("a", &i.to_string()));
    assert_eq!(seen(&mut trace).len(), TRACE_EVENTS_MAX);
    assert_eq!((trace.take_missed(), trace.take_missed()), (7, 0));
}

/// No more than the limit look at a time, one that ends makes room, and channels that cannot be had take none.
#[test]
fn traces_are_limited() {
    let mut world = World::new();
    let unknown = TraceSubject::Channel(ChannelName::new("unknown:x"));
    for _ in 0..TRACES_MAX + 1 {
        assert!(matches!(world.trace(unknown.clone()), Err(TraceError::Channel(error)) if error.code == 102));
    }
    let mut traces: Vec<_> = (0..TRACES_MAX).map(|_| world.channel("a")).collect();
    let subject = TraceSubject::User("ada".into());
    assert!(matches!(world.trace(subject.clone()), Err(TraceError::TooMany)));
    traces.pop();
    assert!(world.trace(subject).is_ok());
}

/// A node that stops ends what looks on, so that it need not wait for it.
#[test]
fn stopping_ends_traces() {
    let mut world = World::new();
    let mut channel = world.channel("a");
    let mut user = world.trace(TraceSubject::User("ada".into())).unwrap();
    world.shard.local().begin_shutdown();
    for trace in [&mut channel, &mut user] {
        assert!(world.run(trace.next()).is_none());
    }
}
