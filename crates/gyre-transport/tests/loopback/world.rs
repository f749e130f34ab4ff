//! A node with one shard, and every endpoint of this crate that leads to a session on one port.

use std::{
    future::Future,
    num::NonZeroU32,
    pin::Pin,
    rc::Rc,
    sync::{Arc, mpsc},
    thread,
    time::{Duration, Instant},
};

use gyre_core::{
    hub::{Deflate, WINDOW_BITS_MAX},
    limits::Limits,
    ports::NoApplication,
    rules::{ConnectRules, Rules},
};
use gyre_engine::memory::MemoryEngine;
use gyre_node::{Directory, LocalShard, Node, NodeInfo, Ports, run_shards};
use gyre_transport::{
    http::{Front, OriginPolicy, Request, Response, Service, bind_tcp, serve_listener},
    streaming::grpc,
    tls::ServerTls,
    websocket,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    time::timeout,
};

/// `message_size_limit` of the tests.
pub(crate) const MESSAGE_BYTES_MAX: usize = 60_000;
/// `client.queue_max_size` of the tests: room for what a late reader is owed.
const QUEUE_BYTES_MAX: usize = 32 << 20;
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// It serves everybody.
pub(crate) struct World {
    pub(crate) port: u16,
    pub(crate) stop: watch::Sender<bool>,
    node: Arc<Node>,
    threads: Vec<thread::JoinHandle<()>>,
}

impl World {
    pub(crate) fn start(tls: Option<Arc<ServerTls>>) -> Self {
        Self::with_limits(tls, Limits::default())
    }

    pub(crate) fn with_limits(tls: Option<Arc<ServerTls>>, limits: Limits) -> Self {
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
            streams: Arc::new(NoApplication),
            events: Arc::new(NoApplication),
            polls: Arc::new(NoApplication),
        };
        let connect = ConnectRules { insecure: true, ..ConnectRules::default() };
        let limits = Limits { queue_bytes_max: QUEUE_BYTES_MAX, ..limits };
        let rules = Rules { limits, connect, ..Rules::default() };
        let info = NodeInfo { uid: "uid".into(), name: "node".into(), version: "0".into() };
        let node = Node::new(info, rules, ports, directory, tokio::runtime::Handle::current());
        let (stop, shutdown) = watch::channel(false);
        let (bound, port) = mpsc::sync_channel(1);
        let threads = run_shards(
            &node,
            Arc::new(move |shard| {
                let front = Front { tls: tls.clone(), accepts_h2c: true, ..Front::default() };
                Box::pin(serve_shard(shard, front, shutdown.clone(), bound.clone()))
            }),
        )
        .unwrap();
        Self { port: port.recv().unwrap(), stop, node, threads }
    }

    /// How many connections were ended with that code.
    pub(crate) async fn disconnects(&self, code: u32) -> u64 {
        let snapshots = self.node.snapshots().await;
        snapshots.iter().filter_map(|shard| shard.counters.disconnects.get(&code)).sum()
    }

    pub(crate) async fn tcp(&self) -> TcpStream {
        TcpStream::connect(("127.0.0.1", self.port)).await.unwrap()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.stop.send_replace(true);
        for thread in self.threads.drain(..) {
            assert!(thread.join().is_ok() || thread::panicking(), "the shard panicked");
        }
    }
}

async fn serve_shard(
    shard: LocalShard,
    front: Front,
    mut shutdown: watch::Receiver<bool>,
    bound: mpsc::SyncSender<u16>,
) {
    let listener = bind_tcp(([127, 0, 0, 1], 0).into()).unwrap();
    let listener = TcpListener::from_std(listener).unwrap();
    bound.send(listener.local_addr().unwrap().port()).unwrap();
    let service = Rc::new(Endpoints::new(shard.clone()));
    tokio::join!(serve_listener(listener, front, service, shutdown.clone()), async {
        drop(shutdown.wait_for(|stop| *stop).await);
        shard.begin_shutdown();
    });
    drop(timeout(PATIENCE, shard.drained()).await);
}

struct Endpoints {
    shard: LocalShard,
    websocket: websocket::Settings,
    joined: websocket::UnidirectionalSettings,
}

impl Endpoints {
    fn new(shard: LocalShard) -> Self {
        let websocket = websocket::Settings {
            message_bytes_max: MESSAGE_BYTES_MAX,
            origins: OriginPolicy::new(|origin| origin == "https://allowed.example"),
            compression: Some(websocket::Compression {
                deflate: Deflate { level: 1, bytes_min: 100, window_bits: WINDOW_BITS_MAX },
                inflated_bytes_max: NonZeroU32::MAX,
            }),
        };
        let joined = websocket::UnidirectionalSettings {
            message_bytes_max: MESSAGE_BYTES_MAX,
            compression: None,
            origins: OriginPolicy::new(|_| true),
            has_closing_handshake: true,
            announces_disconnect: true,
            joins_pushes: true,
        };
        Self { shard, websocket, joined }
    }
}

impl Service for Endpoints {
    fn call(self: Rc<Self>, request: Request) -> Pin<Box<dyn Future<Output = Response>>> {
        Box::pin(async move {
            match request.uri().path() {
                "/connection/joined" => {
                    websocket::serve_unidirectional(request, &self.shard, &self.joined, Default::default())
                }
                // Packages of services have dots.
                path if !path.contains('.') => {
                    websocket::serve(request, &self.shard, &self.websocket, Default::default())
                }
                _ => {
                    let is_full = request.uri().query() == Some("full");
                    let settings = grpc::Settings { message_bytes_max: MESSAGE_BYTES_MAX };
                    let admit = |_: &_| (!is_full).then(Default::default);
                    grpc::serve(request, &self.shard, &settings, admit).await
                }
            }
        })
    }
}
