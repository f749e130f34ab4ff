//! Sequences of operations on sessions of a real shard with the memory engine.

use std::{
    cell::RefCell,
    rc::Rc,
    sync::{
        Arc, LazyLock,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use arbitrary::{Arbitrary, Unstructured};
use gyre_core::{
    channel::{CallRights, ChannelName, ChannelOptions, HistoryOptions, Namespaces, SubscribeRights},
    hub::{Direction, Framing, WireForm},
    limits::Limits,
    ports::{
        Answer, Authenticator, Caller, ClientHooks, ConnectGrant, ConnectQuestion, ConnectionClaims,
        HookRefusal, NoApplication, PublishGrant, Refreshed, ServerSubscription, SubscribeGrant,
        SubscriptionClaims, TokenError, TrackRequest,
    },
    rules::{ConnectRules, HookRules, RpcRules, Rules},
    session::Pings,
};
use gyre_engine::memory::MemoryEngine;
use gyre_node::{
    ConnectionId, ConnectionOptions, Directory, Flushed, Link, Node, NodeInfo, Ports, Queue, SimulatedShard,
    TransportKind, ops::PublishRequest,
};
use gyre_protocol::{ClientError, Disconnect, Payload, codec::Encoding};
use rand::{SeedableRng, rngs::StdRng};

const CLIENTS: usize = 3;
const OPERATIONS_MAX: usize = 200;
/// `client.queue_max_size` here; a message may exceed it before its connection is closed.
const QUEUE_BYTES_MAX: usize = 4_096;
const CHANNELS: [&str; 6] = ["plain", "stream:a", "stream:b", "$private", "unknown:c", "asked:a"];

/// Something that happens to the shard.
#[derive(Arbitrary, Debug)]
enum Operation<'a> {
    Open {
        client: u8,
        is_protobuf: bool,
    },
    /// Any bytes as a command.
    Raw {
        client: u8,
        bytes: &'a [u8],
    },
    /// A well-formed command with any content.
    Command {
        client: u8,
        kind: u8,
        id: u8,
        channel: u8,
        offset: u8,
        flags: u8,
    },
    Publish {
        channel: u8,
        size: u16,
    },
    Apply {
        most: u8,
    },
    Flush {
        most: u8,
    },
    /// The client starts or stops reading.
    Read {
        client: u8,
        is_reading: bool,
    },
    Disconnect {
        client: u8,
        code: u16,
    },
    Release {
        client: u8,
    },
    Advance {
        seconds: u16,
    },
}

/// The peer of a connection: takes everything or nothing, and counts.
#[derive(Default)]
struct Peer {
    is_asleep: bool,
}

struct PeerLink(Rc<RefCell<Peer>>);

impl Link for PeerLink {
    fn flush(&mut self, queue: &mut Queue) -> Flushed {
        if self.0.borrow().is_asleep {
            return Flushed::Blocked;
        }
        while queue.pop().is_some() {}
        Flushed::Done
    }

    fn close(&mut self, _: &Disconnect, _: &mut Queue) {}

    fn finish(&mut self) {}
}

struct Client {
    id: ConnectionId,
    encoding: Encoding,
    peer: Rc<RefCell<Peer>>,
}

/// Takes every token for what its text says.
struct AnyToken;

impl Authenticator for AnyToken {
    fn connection(&self, token: &str, _: f64) -> Answer<Result<ConnectionClaims, TokenError>> {
        Answer::Ready(match token.len() % 3 {
            0 => Err(TokenError::Expired),
            _ => Ok(ConnectionClaims { user: token.into(), ..ConnectionClaims::default() }),
        })
    }

    fn subscription(&self, token: &str, _: f64) -> Answer<Result<SubscriptionClaims, TokenError>> {
        Answer::Ready(match token.len() % 3 {
            0 => Err(TokenError::Expired),
            _ => Ok(SubscriptionClaims { channel: token.into(), ..SubscriptionClaims::default() }),
        })
    }

    fn track(&self, request: TrackRequest<'_>, _: i64) -> Result<Option<i64>, TokenError> {
        match request.signature.len() % 3 {
            0 => Err(TokenError::Expired),
            _ => Ok(None),
        }
    }
}

/// Answers every question by the length of what it is told.
struct AnyAnswer;

fn answer<T>(data: &Payload, grant: T) -> Answer<Result<T, HookRefusal>> {
    Answer::Ready(match data.bytes().len() % 4 {
        0 => Err(HookRefusal::Error(ClientError::PERMISSION_DENIED)),
        1 => Err(HookRefusal::Disconnect(Disconnect::PERMISSION_DENIED)),
        _ => Ok(grant),
    })
}

impl ClientHooks for AnyAnswer {
    fn connect(
        &self,
        _: &str,
        _: Caller,
        question: ConnectQuestion,
    ) -> Answer<Result<Option<Box<ConnectGrant>>, HookRefusal>> {
        let subs = question.channels.into_iter();
        let subs = subs.map(|channel| ServerSubscription { channel, ..ServerSubscription::default() });
        let claims = ConnectionClaims { subs: subs.collect(), ..ConnectionClaims::default() };
        let grant = ConnectGrant { claims, data: question.data.clone() };
        answer(&question.data, Some(Box::new(grant)))
    }

    fn refresh(&self, _: &str, _: Caller) -> Answer<Option<Refreshed>> {
        Answer::Ready(None)
    }

    fn subscribe(
        &self,
        _: &str,
        _: Caller,
        _: ChannelName,
        data: Payload,
    ) -> Answer<Result<SubscribeGrant, HookRefusal>> {
        answer(&data, SubscribeGrant { expire_at: i64::MAX, ..SubscribeGrant::default() })
    }

    fn publish(
        &self,
        _: &str,
        _: Caller,
        _: ChannelName,
        data: Payload,
    ) -> Answer<Result<PublishGrant, HookRefusal>> {
        let skip_history = data.bytes().len() & 4 != 0;
        answer(&data, PublishGrant { skip_history, delta: !skip_history, ..PublishGrant::default() })
    }

    fn rpc(&self, _: &str, _: Caller, _: Box<str>, data: Payload) -> Answer<Result<Payload, HookRefusal>> {
        answer(&data.clone(), data)
    }

    fn sub_refresh(&self, _: &str, _: Caller, _: ChannelName) -> Answer<Option<Refreshed>> {
        Answer::Ready(Some(Refreshed::Expired))
    }
}

/// Any operations on the sessions of one shard: no panic, and no queue above its limit.
pub fn session(data: &[u8]) {
    static RUNTIME: LazyLock<tokio::runtime::Runtime> = LazyLock::new(|| {
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .build()
            .unwrap_or_else(|error| panic!("{error}"))
    });
    let directory = Arc::new(Directory::new(1));
    let (begin, time) = (Instant::now(), Arc::new(AtomicU64::new(0)));
    let clock = {
        let time = time.clone();
        move || begin + Duration::from_secs(time.load(Ordering::Relaxed))
    };
    let engine = Arc::new(MemoryEngine::with_generator(
        directory.clone(),
        Arc::new(clock),
        Duration::from_secs(60),
        StdRng::seed_from_u64(1),
    ));
    let ports = Ports {
        broker: engine.clone(),
        maps: engine.clone(),
        presence: engine,
        authenticator: Arc::new(AnyToken),
        hooks: Arc::new(AnyAnswer),
        map_hooks: Arc::new(NoApplication),
        streams: Arc::new(NoApplication),
        events: Arc::new(NoApplication),
        polls: Arc::new(NoApplication),
    };
    let info = NodeInfo { uid: "uid".into(), name: "node".into(), version: "0".into() };
    let node = Node::new(info, rules(), ports, directory, RUNTIME.handle().clone());
    let mut world = World { shard: SimulatedShard::new(&node, 0), node, clients: Default::default(), time };
    let mut bytes = Unstructured::new(data);
    for _ in 0..OPERATIONS_MAX {
        let Ok(operation) = Operation::arbitrary(&mut bytes) else { break };
        world.apply(operation);
        if bytes.is_empty() {
            break;
        }
    }
}

struct World {
    node: Arc<Node>,
    shard: SimulatedShard,
    clients: [Option<Client>; CLIENTS],
    time: Arc<AtomicU64>,
}

impl World {
    fn client(&self, number: u8) -> Option<&Client> {
        self.clients[usize::from(number) % CLIENTS].as_ref()
    }

    fn apply(&mut self, operation: Operation<'_>) {
        match operation {
            Operation::Open { client, is_protobuf } => self.open(client, is_protobuf),
            Operation::Raw { client, bytes } => self.command(client, |_| bytes.to_vec()),
            Operation::Command { client, kind, id, channel, offset, flags } => {
                self.command(client, |encoding| match encoding {
                    Encoding::Json => json(kind, id, channel, offset, flags).into_bytes(),
                    Encoding::Protobuf => protobuf(kind, id, channel, offset, flags),
                });
            }
            Operation::Publish { channel, size } => {
                let data = Payload::json(format!("\"{}\"", "x".repeat(usize::from(size) % 2_000)));
                let channel = CHANNELS[usize::from(channel) % CHANNELS.len()];
                drop(self.node.publish(channel, PublishRequest { data, ..PublishRequest::default() }));
            }
            Operation::Apply { most } => drop(self.shard.apply(most.into())),
            Operation::Flush { most } => drop(self.shard.flush(most.into())),
            Operation::Read { client, is_reading } => {
                let Some(client) = self.client(client) else { return };
                client.peer.borrow_mut().is_asleep = !is_reading;
                let _flushed = self.shard.local().flush(client.id);
            }
            Operation::Disconnect { client, code } => {
                let Some(client) = self.client(client) else { return };
                let disconnect = Disconnect { code: code.into(), reason: "fuzzed".into() };
                self.shard.local().disconnect(client.id, &disconnect);
            }
            Operation::Release { client } => {
                if let Some(client) = self.clients[usize::from(client) % CLIENTS].take() {
                    self.shard.local().release(client.id);
                }
            }
            Operation::Advance { seconds } => drop(self.time.fetch_add(seconds.into(), Ordering::Relaxed)),
        }
    }

    fn open(&mut self, number: u8, is_protobuf: bool) {
        let place = usize::from(number) % CLIENTS;
        if self.clients[place].is_some() {
            return;
        }
        let encoding = if is_protobuf { Encoding::Protobuf } else { Encoding::Json };
        let peer = Rc::<RefCell<Peer>>::default();
        let options = ConnectionOptions {
            transport: TransportKind::WebTransport,
            form: WireForm {
                encoding,
                framing: Framing::Stream,
                direction: Direction::Bidirectional,
                ascii: !is_protobuf,
                deflate: None,
            },
            announces_disconnect: true,
            pings: Pings::Protocol,
            opening: Default::default(),
        };
        let id = self.shard.local().open(options, Box::new(PeerLink(peer.clone())));
        self.clients[place] = Some(Client { id, encoding, peer });
    }

    fn command(&mut self, number: u8, bytes: impl FnOnce(Encoding) -> Vec<u8>) {
        let Some(client) = self.client(number) else { return };
        let bytes = bytes(client.encoding);
        if let Ok(command) = client.encoding.decode_command(&bytes) {
            let _fed = self.shard.local().command(client.id, command);
        }
    }
}

const KINDS: [&str; 11] = [
    "connect",
    "subscribe",
    "unsubscribe",
    "publish",
    "presence",
    "presence_stats",
    "history",
    "refresh",
    "sub_refresh",
    "rpc",
    "send",
];

fn json(kind: u8, id: u8, channel: u8, offset: u8, flags: u8) -> String {
    let kind = KINDS[usize::from(kind) % KINDS.len()];
    let channel = CHANNELS[usize::from(channel) % CHANNELS.len()];
    let token = if flags & 1 == 0 { String::new() } else { "t".repeat(usize::from(offset) % 5) };
    let content = match kind {
        "connect" => {
            format!(
                r#""token":"{token}","data":{offset},"subs":{{"{channel}":{{"recover":true,"offset":{offset}}}}}"#
            )
        }
        "subscribe" => format!(
            r#""channel":"{channel}","token":"{token}","recover":{},"offset":{offset},"epoch":"{}","positioned":{},"flag":{},"delta":"{}","type":{},"data":{offset}"#,
            flags & 2 != 0,
            if flags & 4 != 0 { "e" } else { "" },
            flags & 8 != 0,
            flags & 3,
            if flags & 16 != 0 { "fossil" } else { "" },
            flags >> 6,
        ),
        "history" => format!(r#""channel":"{channel}","limit":{offset},"reverse":{}"#, flags & 1 != 0),
        "refresh" => format!(r#""token":"{token}""#),
        "sub_refresh" => format!(r#""channel":"{channel}","token":"{token}""#),
        "publish" => format!(r#""channel":"{channel}","data":{{"n":{offset}}}"#),
        "rpc" => format!(r#""method":"ping","data":{offset}"#),
        "send" => r#""data":{}"#.to_owned(),
        _ => format!(r#""channel":"{channel}""#),
    };
    format!(r#"{{"id":{id},"{kind}":{{{content}}}}}"#)
}

/// The same in Protobuf, as far as one field for the channel or the token goes.
fn protobuf(kind: u8, id: u8, channel: u8, offset: u8, flags: u8) -> Vec<u8> {
    // Numbers of the requests in `Command`, in the order of `KINDS`.
    const FIELDS: [u8; 11] = [4, 5, 6, 7, 8, 9, 10, 13, 14, 12, 11];
    let text = CHANNELS[usize::from(channel) % CHANNELS.len()].as_bytes();
    let mut body = vec![0x0a, text.len() as u8];
    body.extend_from_slice(text);
    body.extend_from_slice(&[flags & 0x78, offset & 0x7f]);
    let field = FIELDS[usize::from(kind) % FIELDS.len()];
    let mut command = vec![0x08, id & 0x7f, field << 3 | 2, body.len() as u8];
    command.extend_from_slice(&body);
    command
}

fn rules() -> Rules {
    let history = HistoryOptions {
        size: std::num::NonZeroUsize::MIN.saturating_add(3),
        ttl: Duration::from_secs(60),
        meta_ttl: Duration::from_secs(300),
    };
    let plain = ChannelOptions {
        presence: true,
        join_leave: true,
        force_push_join_leave: true,
        subscribe: SubscribeRights { client: true, anonymous: true },
        publish: CallRights { client: true, anonymous: true, ..CallRights::default() },
        ..ChannelOptions::default()
    };
    let stream = ChannelOptions {
        history: Some(history),
        allow_positioning: true,
        allow_recovery: true,
        ..plain.clone()
    };
    let asked = ChannelOptions {
        subscribe_hook: Some("hook".into()),
        publish_hook: Some("hook".into()),
        sub_refresh_hook: Some("hook".into()),
        ..stream.clone()
    };
    let named = [("stream".into(), Arc::new(stream)), ("asked".into(), Arc::new(asked))];
    Rules {
        namespaces: Namespaces {
            without_namespace: Arc::new(plain),
            named: named.into_iter().collect(),
            ..Namespaces::default()
        },
        limits: Limits {
            queue_bytes_max: QUEUE_BYTES_MAX,
            subscribe_buffer_max: 4,
            channel_limit: 4,
            ..Limits::default()
        },
        rpc: RpcRules { without_namespace: Some("hook".into()), ..RpcRules::default() },
        hooks: HookRules {
            connect: Some("hook".into()),
            emulated_headers: ["x".into()].into(),
            ..HookRules::default()
        },
        connect: ConnectRules { allow_anonymous_without_token: true, ..ConnectRules::default() },
        ..Rules::default()
    }
}
