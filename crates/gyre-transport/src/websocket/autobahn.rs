//! Autobahn's fuzzing client against an endpoint that sends every message back.
//!
//! The endpoint is a WebSocket connection like any other, on a real shard; only what becomes of its messages differs.

use std::{
    fmt::Write as _,
    fs,
    num::NonZeroU32,
    path::Path,
    pin::Pin,
    process::Command,
    rc::Rc,
    sync::{Arc, mpsc},
    time::{Duration, Instant},
};

use bytes::Bytes;
use gyre_core::{
    hub::{Deflate, Direction, Framing, WINDOW_BITS_MAX, WireForm, websocket_frame},
    limits::Limits,
    ports::NoApplication,
    rules::Rules,
    session::Pings,
};
use gyre_engine::memory::MemoryEngine;
use gyre_node::{ConnectionOptions, Directory, LocalShard, Node, NodeInfo, Ports, TransportKind, run_shards};
use gyre_protocol::codec::Encoding;
use tokio::{net::TcpListener, sync::watch};

use super::{Compression, Connection, Event, frame::Decoder, handshake};
use crate::http::{Front, OriginPolicy, Request, Response, Service, bind_tcp, serve_listener, upgrade};

/// The largest message of the cases.
const MESSAGE_BYTES_MAX: usize = 16 << 20;
/// What a case may leave unread.
const QUEUE_BYTES_MAX: usize = 256 << 20;
/// The longest case takes less.
const CASE_TIME_MAX: Duration = Duration::from_secs(600);

/// Sends messages back.
pub(super) struct Echo(Option<Deflate>);

impl Echo {
    /// The frame that repeats a message.
    pub(super) fn answer(&self, event: &Event<'_>) -> Option<Bytes> {
        match event {
            Event::Text(message) => Some(websocket_frame(0x81, message, self.0)),
            Event::Binary(message) => Some(websocket_frame(0x82, message, self.0)),
            Event::Ping(_) | Event::Pong | Event::Close(_) => None,
        }
    }
}

struct Endpoint(LocalShard);

impl Service for Endpoint {
    fn call(self: Rc<Self>, request: Request) -> Pin<Box<dyn Future<Output = Response>>> {
        Box::pin(async move { serve(request, &self.0) })
    }
}

fn serve(mut request: Request, shard: &LocalShard) -> Response {
    let mut handshake = match handshake::admit(&request, &OriginPolicy::new(|_| true)) {
        Ok(handshake) => handshake,
        Err(refusal) => return *refusal,
    };
    let compression = handshake.agree_on(Some(Compression {
        deflate: Deflate { level: 1, bytes_min: 0, window_bits: WINDOW_BITS_MAX },
        inflated_bytes_max: NonZeroU32::MAX,
    }));
    let deflate = compression.map(|compression| compression.deflate);
    let options = ConnectionOptions {
        transport: TransportKind::WebSocket,
        form: WireForm {
            encoding: Encoding::Json,
            framing: Framing::WebSocket,
            direction: Direction::Bidirectional,
            ascii: false,
            deflate,
        },
        announces_disconnect: false,
        pings: Pings::Protocol,
        opening: Default::default(),
    };
    let decoder =
        Decoder::new(MESSAGE_BYTES_MAX, compression.map(|compression| compression.inflated_bytes_max));
    let (upgrade, body) = upgrade(&mut request).unwrap();
    let shard = shard.clone();
    tokio::task::spawn_local(async move {
        let (socket, received) = upgrade.socket().await.unwrap();
        let mut connection = Connection::new(shard, socket, options, decoder);
        connection.echo = Some(Echo(deflate));
        connection.run(received).await;
    });
    handshake.response(body)
}

/// Runs `test` beside a shard that serves the endpoint; it is given the port.
fn with_endpoint(test: impl FnOnce(u16)) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let directory = Arc::new(Directory::new(1));
    let clock = Arc::new(Instant::now);
    let engine = Arc::new(MemoryEngine::new(directory.clone(), clock, Duration::from_secs(60)));
    let ports = Ports {
        broker: engine.clone(),
        maps: engine.clone(),
        presence: engine,
        authenticator: Arc::new(NoApplication),
        hooks: Arc::new(NoApplication),
        map_hooks: Arc::new(NoApplication),
        streams: Arc::new(NoApplication),
        events: Arc::new(NoApplication),
        polls: Arc::new(NoApplication),
    };
    // No session connects, and none is to be closed for it.
    let limits =
        Limits { queue_bytes_max: QUEUE_BYTES_MAX, stale_close_delay: CASE_TIME_MAX, ..Limits::default() };
    let rules = Rules { limits, ..Rules::default() };
    let info = NodeInfo { uid: "uid".into(), name: "node".into(), version: "0".into() };
    let node = Node::new(info, rules, ports, directory, runtime.handle().clone());
    let (stop, shutdown) = watch::channel(false);
    let (bound, port) = mpsc::sync_channel(1);
    let threads = run_shards(
        &node,
        Arc::new(move |shard| {
            let (shutdown, bound) = (shutdown.clone(), bound.clone());
            Box::pin(async move {
                let listener = TcpListener::from_std(bind_tcp(([127, 0, 0, 1], 0).into()).unwrap()).unwrap();
                bound.send(listener.local_addr().unwrap().port()).unwrap();
                serve_listener(listener, Front::default(), Rc::new(Endpoint(shard)), shutdown).await;
            })
        }),
    )
    .unwrap();
    test(port.recv().unwrap());
    stop.send_replace(true);
    for thread in threads {
        thread.join().unwrap();
    }
}

/// Every case of the suite ends well, those of compression included. `AUTOBAHN` names the suite's program `wstest`,
/// which needs Python 2.7.
#[test]
#[ignore = "needs Autobahn's wstest, named by the variable AUTOBAHN; takes minutes"]
fn every_case_ends_well() {
    let program = std::env::var("AUTOBAHN").expect("AUTOBAHN names wstest");
    let folder = std::env::temp_dir().join(format!("gyre-autobahn-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    with_endpoint(|port| {
        let specification = format!(
            r#"{{"outdir": "reports", "servers": [{{"agent": "gyre", "url": "ws://127.0.0.1:{port}"}}],
                "cases": ["*"], "exclude-cases": [], "exclude-agent-cases": {{}}}}"#
        );
        fs::write(folder.join("specification.json"), specification).unwrap();
        let mut command = Command::new(program);
        command.args(["--mode", "fuzzingclient", "--spec", "specification.json"]).current_dir(&folder);
        assert!(command.status().unwrap().success());
    });
    let (count, failed) = results(&folder.join("reports/index.json"));
    println!("{count} cases; reports are in {}", folder.display());
    assert!(count > 500, "{count} cases");
    assert!(failed.is_empty(), "{failed}");
}

/// The number of cases, and those that neither passed nor are for information only, one a line.
fn results(index: &Path) -> (usize, String) {
    let index: serde_json::Value = serde_json::from_slice(&fs::read(index).unwrap()).unwrap();
    let cases = index["gyre"].as_object().unwrap();
    let mut failed = String::new();
    for (name, case) in cases {
        let is_well = |key: &str| matches!(case[key].as_str(), Some("OK" | "INFORMATIONAL"));
        if !is_well("behavior") || !is_well("behaviorClose") {
            writeln!(failed, "{name}: {} {}", case["behavior"], case["behaviorClose"]).unwrap();
        }
    }
    (cases.len(), failed)
}
