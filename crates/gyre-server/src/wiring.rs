//! Construction of everything, in order; no logic of its own.

use std::{
    io,
    net::SocketAddr,
    rc::Rc,
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use gyre_core::{hub::Direction, session::ClientId};
use gyre_engine::memory::MemoryEngine;
use gyre_node::{Directory, LocalShard, Node, NodeInfo, Ports, run_shards};
use gyre_transport::{
    http::{
        self, Addresses, Front, Shutdown, bind_check, bind_tcp, bind_udp, grpc::CALLS_MAX, serve_listener,
    },
    quic,
    streaming::{emulation, grpc},
    tls::{self, CertificateResolver},
    websocket,
};
use serde_json::Value;
use tokio::{
    net::TcpListener,
    runtime::{Handle, Runtime},
    sync::watch,
    task::JoinSet,
    time::timeout,
};

use crate::{
    admin::Admin,
    api::{ApiOptions, GrpcApi, GrpcApiOptions, HttpApi},
    auth::{KeyError, TokenAuthenticator, TokenVerifier, TrackKeys, Verifiers},
    config::{GrpcOptions, Pem, Resolved},
    health::Health,
    hooks::{HookSetupError, Hooks},
    metrics::{Graphite, Metrics},
    rate::RateLimit,
    routes::{Extra, Http3, Prefixed, Router, Routes, Scope, UniGrpc, WebTransportSettings},
    telemetry::{Telemetry, TelemetryOptions},
};

/// How long presence entries live after their last renewal.
const PRESENCE_TTL: Duration = Duration::from_secs(60);
/// How often expired streams and members are freed.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);
/// How long a server that ends goes on telling the application what has ended with it.
const TELLING_TIME: Duration = Duration::from_secs(3);

/// How long the end of the process waits for traces to be exported.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(3);

/// A server that runs.
pub struct Server {
    /// The node, for operations from outside.
    pub node: Arc<Node>,
    health: Arc<Health>,
    telemetry: Telemetry,
    authenticator: Arc<TokenAuthenticator>,
    hooks: Hooks,
    admin: Option<Arc<Admin>>,
    resolver: Option<Arc<CertificateResolver>>,
    uni_grpc_resolver: Option<Arc<CertificateResolver>>,
    grpc_api_resolver: Option<Arc<CertificateResolver>>,
    stop: watch::Sender<bool>,
    threads: Vec<thread::JoinHandle<()>>,
    shutdown_timeout: Duration,
    control: Handle,
}

/// What the development mode adds.
#[derive(Default)]
pub struct Additions {
    /// Endpoints beside the server's own.
    pub extra: Option<Arc<dyn Extra>>,
    /// Plain text and TLS on one port.
    pub accepts_both: bool,
}

/// Why a server cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A listener cannot be bound.
    #[error("cannot listen on {address}: {error} (is another server running there?)")]
    Bind {
        /// The address.
        address: String,
        /// What the system says.
        error: io::Error,
    },
    /// TLS cannot be set up.
    #[error("tls: {0}")]
    Tls(#[from] tls::TlsError),
    /// A token key cannot be used.
    #[error("{0}")]
    Key(#[from] KeyError),
    /// Hooks cannot be called over TLS.
    #[error("{0}")]
    Hooks(#[from] HookSetupError),
    /// Traces cannot be exported.
    #[error("opentelemetry: {0}")]
    Telemetry(String),
    /// The system refuses something else.
    #[error("cannot start: {0}")]
    Io(#[from] io::Error),
}

/// Makes the verifiers of both kinds of tokens.
///
/// # Errors
/// If a key cannot be used.
pub fn verifiers(resolved: &Resolved) -> Result<Verifiers, KeyError> {
    Ok(Verifiers {
        connection: TokenVerifier::new(resolved.connection_token.clone())?,
        subscription: resolved.subscription_token.clone().map(TokenVerifier::new).transpose()?,
        track: TrackKeys::new(
            resolved.track.hmac_secret_key.expose(),
            resolved.track.hmac_previous_secret_key.expose(),
            resolved.track.hmac_previous_secret_key_valid_until,
        ),
    })
}

/// Binds, builds and starts everything.
///
/// # Errors
/// If something cannot be bound or used; nothing runs then.
pub fn start(resolved: &Resolved, additions: Additions, control: &Runtime) -> Result<Server, StartError> {
    let authenticator = Arc::new(TokenAuthenticator::new(verifiers(resolved)?));
    let shards = thread::available_parallelism().map_or(1, |cores| cores.get());
    let listeners = Listeners::new(resolved, additions.accepts_both, shards)?;
    let directory = Arc::new(Directory::new(shards));
    let engine = Arc::new(MemoryEngine::new(directory.clone(), Arc::new(Instant::now), PRESENCE_TTL));
    let telemetry = telemetry(resolved, control)?;
    let hooks = Hooks::traced(resolved.hooks.clone(), telemetry.clone())?;
    let ports = Ports {
        broker: engine.clone(),
        maps: engine.clone(),
        presence: engine.clone(),
        authenticator: authenticator.clone(),
        hooks: Arc::new(hooks.clone()),
        map_hooks: Arc::new(hooks.clone()),
        streams: Arc::new(hooks.clone()),
        events: Arc::new(hooks.clone()),
        polls: Arc::new(hooks.clone()),
    };
    let info = node_info(resolved);
    let node = Node::new(info, resolved.rules.clone(), ports, directory, control.handle().clone());
    control.spawn(sweep(engine));

    let health = Arc::new(Health::new(listeners.certificates()));
    let seeing = Seeing { health: health.clone(), telemetry: telemetry.clone() };
    let routes = Arc::new(routes(resolved, &node, hooks.clone(), seeing, additions.extra));
    if let Some(options) = resolved.operation.graphite.clone() {
        let graphite = Graphite::new(options, &node.info.name);
        control.spawn(send_metrics(graphite, routes.clone(), node.clone()));
    }
    let admin = routes.admin.clone();
    let (stop, shutdown) = watch::channel(false);
    let h3 = Arc::new(h3_config(resolved));
    let resolver = listeners.resolver.clone();
    let uni_grpc_resolver = listeners.uni_grpc.as_ref().and_then(|grpc| grpc.resolver.clone());
    let grpc_api_resolver = listeners.grpc_api.as_ref().and_then(|grpc| grpc.resolver.clone());
    let listeners = Arc::new(listeners);
    let timeout = resolved.shutdown_timeout;
    let threads = run_shards(
        &node,
        Arc::new(move |shard| {
            let (listeners, routes, h3) = (listeners.clone(), routes.clone(), h3.clone());
            Box::pin(serve_shard(shard, listeners, routes, h3, shutdown.clone(), timeout))
        }),
    )?;
    Ok(Server {
        node,
        health,
        telemetry,
        authenticator,
        hooks,
        admin,
        resolver,
        uni_grpc_resolver,
        grpc_api_resolver,
        stop,
        threads,
        control: control.handle().clone(),
        shutdown_timeout: timeout,
    })
}

impl Server {
    /// Takes over what can change without a restart: rules, namespaces, token keys, hooks, the certificate.
    ///
    /// # Errors
    /// If a key or certificate cannot be used; nothing is changed then.
    pub fn reload(&self, resolved: &Resolved) -> Result<(), StartError> {
        let verifiers = verifiers(resolved)?;
        let hooks = self.hooks.prepare(resolved.hooks.clone())?;
        let uni_grpc = resolved.uni_grpc.as_ref().and_then(|grpc| grpc.tls.as_ref());
        let grpc_api = resolved.grpc_api.as_ref().and_then(|grpc| grpc.tls.as_ref());
        let certificates = [
            (&self.resolver, resolved.server.tls.as_ref()),
            (&self.uni_grpc_resolver, uni_grpc),
            (&self.grpc_api_resolver, grpc_api),
        ];
        for (resolver, pem) in certificates {
            if let (Some(resolver), Some(pem)) = (resolver, pem) {
                resolver.replace(&pem.certificates, pem.key.expose())?;
            }
        }
        self.authenticator.replace(verifiers);
        self.hooks.replace(hooks);
        self.node.set_rules(resolved.rules.clone());
        Ok(())
    }

    /// Shows operators this configuration, as [`crate::config::shown`] has made it.
    pub fn show_configuration(&self, shown: Value) {
        if let Some(admin) = &self.admin {
            admin.show_configuration(&shown);
        }
    }

    /// Where the certificate is replaced, if the server has TLS.
    pub fn certificate(&self) -> Option<Arc<CertificateResolver>> {
        self.resolver.clone()
    }

    /// Stops accepting, tells every client (3001) and waits for them to leave. False if some did not in time.
    pub fn stop(self) -> bool {
        self.health.begin_draining();
        self.stop.send_replace(true);
        let deadline = Instant::now() + self.shutdown_timeout;
        let is_clean = self.threads.into_iter().all(|thread| thread.join().is_ok());
        let is_in_time = Instant::now() < deadline;
        let told = self
            .control
            .block_on(async { tokio::time::timeout(TELLING_TIME, self.node.settle_events()).await });
        if told.is_err() {
            tracing::warn!("the application could not be told of everything that has ended");
        }
        // Whatever the collector does, the process ends.
        drop(self.control.block_on(async { timeout(FLUSH_TIMEOUT, self.telemetry.flush()).await }));
        is_clean && is_in_time
    }
}

/// Where to listen, with what.
struct Listeners {
    /// The sockets of each shard, until it takes them. All are bound before any is served: the kernel spreads clients
    /// over the sockets of a port, and one that joined later would take over the packets of QUIC connections.
    sockets: Vec<Mutex<ShardSockets>>,
    has_internal: bool,
    front: Front,
    internal_front: Front,
    resolver: Option<Arc<CertificateResolver>>,
    quic: Option<rustls::ServerConfig>,
    uni_grpc: Option<GrpcListener<grpc::Settings>>,
    grpc_api: Option<GrpcListener<GrpcApiOptions>>,
    /// What the external port serves besides endpoints for clients.
    api_is_external: bool,
    admin_is_external: bool,
}

impl Listeners {
    /// Checks every address before anything is bound for good.
    fn new(resolved: &Resolved, accepts_both: bool, shards: usize) -> Result<Self, StartError> {
        let server = &resolved.server;
        let tls = server.tls.as_ref().map(tcp_tls).transpose()?;
        let internal_tls = server.internal_tls.as_ref().map(tcp_tls).transpose()?;
        let quic = match (&server.tls, &tls) {
            (Some(pem), Some((resolver, _))) if server.http3 => {
                Some(tls::quic_config(resolver.clone(), pem.client_authorities.as_deref())?)
            }
            _ => None,
        };
        let mut external = http::resolve(&server.address, server.port)?;
        let internal = match &server.internal {
            Some((address, port)) => Some(http::resolve(address, *port)?),
            None => None,
        };
        check(&mut external, quic.is_some())?;
        let internal = match internal {
            Some(mut internal) => {
                check(&mut internal, false)?;
                Some(internal)
            }
            None => None,
        };
        let (uni_grpc, uni_grpc_addresses) = GrpcListener::new(resolved.uni_grpc.as_ref())?.unzip();
        let (grpc_api, grpc_api_addresses) = GrpcListener::new(resolved.grpc_api.as_ref())?.unzip();
        let resolver = tls.as_ref().map(|(resolver, _)| resolver.clone());
        let bound = Bound { external, internal, uni_grpc: uni_grpc_addresses, grpc_api: grpc_api_addresses };
        Ok(Self {
            front: Front {
                tls: tls.map(|(_, config)| config),
                accepts_both,
                accepts_h2c: server.h2c,
                alt_svc_port: quic.as_ref().map(|_| server.port),
                ..Front::default()
            },
            internal_front: Front { tls: internal_tls.map(|(_, config)| config), ..Front::default() },
            has_internal: bound.internal.is_some(),
            sockets: bound.bind_all(quic.is_some(), shards)?,
            resolver,
            quic,
            uni_grpc,
            grpc_api,
            api_is_external: resolved.api.external,
            admin_is_external: resolved.admin.as_ref().is_some_and(|admin| admin.external),
        })
    }

    /// The certificates whose end is watched.
    fn certificates(&self) -> Vec<(&'static str, Arc<CertificateResolver>)> {
        let uni_grpc = self.uni_grpc.as_ref().and_then(|grpc| grpc.resolver.clone());
        let grpc_api = self.grpc_api.as_ref().and_then(|grpc| grpc.resolver.clone());
        let all = [
            ("http_server.tls", self.resolver.clone()),
            ("uni_grpc.tls", uni_grpc),
            ("grpc_api.tls", grpc_api),
        ];
        all.into_iter().filter_map(|(name, resolver)| Some((name, resolver?))).collect()
    }

    fn external_scope(&self) -> Scope {
        let is_only_port = !self.has_internal;
        Scope {
            client: true,
            api: is_only_port || self.api_is_external,
            admin: is_only_port || self.admin_is_external,
            operation: is_only_port,
        }
    }
}

/// A listener for gRPC, and what its service needs to know.
struct GrpcListener<S> {
    front: Front,
    resolver: Option<Arc<CertificateResolver>>,
    settings: S,
}

impl<S: Clone> GrpcListener<S> {
    /// Checks its addresses, if there is one.
    fn new(options: Option<&GrpcOptions<S>>) -> Result<Option<(Self, Addresses)>, StartError> {
        let Some(options) = options else { return Ok(None) };
        let mut addresses = http::resolve(&options.address, options.port)?;
        check(&mut addresses, false)?;
        let (resolver, tls) = options.tls.as_ref().map(tcp_tls).transpose()?.unzip();
        let front = Front { tls, accepts_h2c: true, h2_requests_max: Some(CALLS_MAX), ..Front::default() };
        Ok(Some((Self { front, resolver, settings: options.settings.clone() }, addresses)))
    }
}

/// The sockets of one shard.
#[derive(Default)]
struct ShardSockets {
    external: Vec<std::net::TcpListener>,
    quic: Vec<std::net::UdpSocket>,
    internal: Vec<std::net::TcpListener>,
    uni_grpc: Vec<std::net::TcpListener>,
    grpc_api: Vec<std::net::TcpListener>,
}

/// What is to be bound.
struct Bound {
    external: Addresses,
    internal: Option<Addresses>,
    uni_grpc: Option<Addresses>,
    grpc_api: Option<Addresses>,
}

impl Bound {
    /// Binds every socket of every shard; those of QUIC first, because a client that reaches TCP may try UDP next.
    fn bind_all(&self, with_quic: bool, shards: usize) -> Result<Vec<Mutex<ShardSockets>>, StartError> {
        let mut sockets: Vec<ShardSockets> = (0..shards).map(|_| ShardSockets::default()).collect();
        for shard in sockets.iter_mut().filter(|_| with_quic) {
            shard.quic = Self::bind(&self.external, bind_udp)?;
        }
        let bind = |addresses: &Option<Addresses>| {
            addresses.as_ref().map_or(Ok(Vec::new()), |addresses| Self::bind(addresses, bind_tcp))
        };
        for shard in &mut sockets {
            shard.external = Self::bind(&self.external, bind_tcp)?;
            shard.internal = bind(&self.internal)?;
            shard.uni_grpc = bind(&self.uni_grpc)?;
            shard.grpc_api = bind(&self.grpc_api)?;
        }
        Ok(sockets.into_iter().map(Mutex::new).collect())
    }

    fn bind<T>(
        addresses: &Addresses,
        bind: impl Fn(SocketAddr) -> io::Result<T>,
    ) -> Result<Vec<T>, StartError> {
        let all = addresses.required.iter().chain(&addresses.optional);
        all.map(|address| {
            bind(*address).map_err(|error| StartError::Bind { address: address.to_string(), error })
        })
        .collect()
    }
}

fn tcp_tls(pem: &Pem) -> Result<(Arc<CertificateResolver>, Arc<rustls::ServerConfig>), tls::TlsError> {
    let resolver = CertificateResolver::from_pem(&pem.certificates, pem.key.expose())?;
    let config = tls::tcp_config(resolver.clone(), pem.client_authorities.as_deref())?;
    Ok((resolver, config))
}

/// Required addresses must be free; optional ones that cannot be had are left out.
fn check(addresses: &mut Addresses, with_udp: bool) -> Result<(), StartError> {
    for address in &addresses.required {
        bind_check(*address, with_udp)
            .map_err(|error| StartError::Bind { address: address.to_string(), error })?;
    }
    let mut available = Vec::new();
    for address in &addresses.optional {
        match bind_check(*address, with_udp) {
            Ok(()) => available.push(*address),
            // Another server there would take half of the clients.
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                return Err(StartError::Bind { address: address.to_string(), error });
            }
            Err(error) => tracing::warn!(%address, %error, "an optional address is not available"),
        }
    }
    addresses.optional = available;
    Ok(())
}

async fn serve_shard(
    shard: LocalShard,
    listeners: Arc<Listeners>,
    routes: Arc<Routes>,
    h3: Arc<gyre_h3::Config>,
    mut shutdown: Shutdown,
    timeout: Duration,
) {
    let mut serving = match listen(&shard, &listeners, &routes, &h3, &shutdown) {
        Ok(serving) => {
            routes.health_state.shard_listens();
            serving
        }
        Err(error) => {
            tracing::error!(%error, shard = shard.index(), "cannot listen");
            return;
        }
    };
    // An error means that the server itself is gone, which ends the shard as well.
    drop(shutdown.wait_for(|stop| *stop).await);
    shard.begin_shutdown();
    let ended = async {
        shard.drained().await;
        while serving.join_next().await.is_some() {}
    };
    if tokio::time::timeout(timeout, ended).await.is_err() {
        tracing::warn!(shard = shard.index(), "clients did not leave in time");
    }
}

/// Starts every listener of one shard. Those of TCP end when the server stops and their requests are answered.
fn listen(
    shard: &LocalShard,
    listeners: &Listeners,
    routes: &Arc<Routes>,
    h3: &Arc<gyre_h3::Config>,
    shutdown: &Shutdown,
) -> io::Result<JoinSet<()>> {
    let mut serving = JoinSet::new();
    let sockets = match listeners.sockets.get(shard.index()) {
        Some(sockets) => std::mem::take(&mut *sockets.lock().unwrap_or_else(PoisonError::into_inner)),
        None => return Ok(serving),
    };
    let router = Router::new(routes.clone(), listeners.external_scope(), shard.clone());
    for listener in sockets.external {
        spawn_listener(&mut serving, listener, &listeners.front, &router, shutdown)?;
    }
    if let Some(tls) = &listeners.quic {
        for socket in sockets.quic {
            let endpoint = quic::endpoint(socket, tls.clone())?;
            let handler = Rc::new(Http3(router.clone()));
            tokio::task::spawn_local(quic::serve_endpoint(endpoint, h3.clone(), handler, shutdown.clone()));
        }
    }
    if let Some(grpc) = &listeners.uni_grpc {
        let service = Rc::new(UniGrpc { router: router.clone(), settings: grpc.settings.clone() });
        for listener in sockets.uni_grpc {
            spawn_listener(&mut serving, listener, &grpc.front, &service, shutdown)?;
        }
    }
    if let Some(grpc) = &listeners.grpc_api {
        let (node, settings) = (shard.node().clone(), grpc.settings.clone());
        let api = GrpcApi::new(node, settings, routes.api_metrics.clone(), routes.telemetry.clone());
        let service = Rc::new(api);
        for listener in sockets.grpc_api {
            spawn_listener(&mut serving, listener, &grpc.front, &service, shutdown)?;
        }
    }
    let scope = Scope { client: false, api: true, admin: true, operation: true };
    let router = Router::new(routes.clone(), scope, shard.clone());
    for listener in sockets.internal {
        spawn_listener(&mut serving, listener, &listeners.internal_front, &router, shutdown)?;
    }
    Ok(serving)
}

fn spawn_listener<S: http::Service + 'static>(
    serving: &mut JoinSet<()>,
    listener: std::net::TcpListener,
    front: &Front,
    service: &Rc<S>,
    shutdown: &Shutdown,
) -> io::Result<()> {
    let listener = TcpListener::from_std(listener)?;
    serving.spawn_local(serve_listener(listener, front.clone(), service.clone(), shutdown.clone()));
    Ok(())
}

fn node_info(resolved: &Resolved) -> NodeInfo {
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let name = resolved.node_name.clone().unwrap_or_else(|| format!("{host}_{}", resolved.server.port));
    NodeInfo {
        uid: ClientId::from_random(rand::random()).to_string().into(),
        name: name.into(),
        version: resolved.rules.version.clone(),
    }
}

/// What shows the server from outside.
struct Seeing {
    health: Arc<Health>,
    telemetry: Telemetry,
}

/// Traces, if they are enabled and the environment does not say otherwise.
fn telemetry(resolved: &Resolved, control: &Runtime) -> Result<Telemetry, StartError> {
    let Some(traces) = resolved.operation.traces else { return Ok(Telemetry::default()) };
    let options = TelemetryOptions::from_environment(traces.api, |name| std::env::var(name).ok());
    match options.map_err(StartError::Telemetry)? {
        None => Ok(Telemetry::default()),
        Some(options) => Telemetry::start(options, control.handle())
            .map_err(|error| StartError::Telemetry(error.to_string())),
    }
}

async fn send_metrics(graphite: Graphite, routes: Arc<Routes>, node: Arc<Node>) {
    graphite.run(|| routes.metrics.gather(&node, &routes.hooks, &routes.health_state, &routes.quic)).await;
}

fn routes(
    resolved: &Resolved,
    node: &Arc<Node>,
    hooks: Hooks,
    seeing: Seeing,
    extra: Option<Arc<dyn Extra>>,
) -> Routes {
    let metrics = Arc::new(Metrics::new(resolved.operation.metrics));
    let api_metrics = metrics.api.clone();
    let quic = Arc::<quic::Statistics>::default();
    let has_quic = resolved.server.http3 && resolved.server.tls.is_some();
    let quic_shown = has_quic.then(|| quic.clone());
    let api = &resolved.api;
    let api_options =
        ApiOptions { key: api.key.clone(), insecure: api.insecure, transport_errors: api.transport_errors };
    Routes {
        websocket: resolved.websocket.as_ref().map(|options| Prefixed {
            prefix: options.prefix.clone(),
            served: websocket::Settings {
                message_bytes_max: options.message_bytes_max,
                origins: resolved.origins.clone(),
                compression: options.compression,
            },
        }),
        uni_websocket: resolved.uni_websocket.as_ref().map(|options| Prefixed {
            prefix: options.socket.prefix.clone(),
            served: websocket::UnidirectionalSettings {
                compression: options.socket.compression,
                message_bytes_max: options.socket.message_bytes_max,
                origins: resolved.origins.clone(),
                has_closing_handshake: !options.disable_closing_handshake,
                announces_disconnect: !options.disable_disconnect_push,
                joins_pushes: options.join_push_messages,
            },
        }),
        streaming: resolved
            .streaming
            .iter()
            .map(|options| Prefixed { prefix: options.prefix.clone(), served: options.settings.clone() })
            .collect(),
        emulation: resolved.emulation.as_ref().map(|options| Prefixed {
            prefix: options.prefix.clone(),
            served: emulation::Settings { request_bytes_max: options.request_bytes_max },
        }),
        webtransport: webtransport_routes(resolved),
        api: api.prefix.clone().map(|prefix| Prefixed {
            prefix,
            served: HttpApi::new(node.clone(), api_options, api_metrics.clone()),
        }),
        admin: resolved
            .admin
            .clone()
            .map(|options| Arc::new(Admin::new(node.clone(), options, api_metrics.clone(), quic_shown))),
        health: resolved.health.clone(),
        init: resolved.init.clone(),
        prometheus: resolved.prometheus.clone(),
        origins: resolved.origins.clone(),
        user_header: resolved.user_header.clone(),
        hooks,
        connection_rate: RateLimit::new(resolved.rules.limits.connection_rate_limit, Instant::now()),
        api_metrics,
        metrics,
        health_state: seeing.health,
        debug: resolved.operation.debug.clone(),
        telemetry: seeing.telemetry,
        quic,
        extra,
    }
}

fn webtransport_routes(resolved: &Resolved) -> Vec<Prefixed<WebTransportSettings>> {
    let options = &resolved.webtransport;
    let both = [
        (&options.prefix, Direction::Bidirectional),
        (&options.unidirectional_prefix, Direction::Unidirectional),
    ];
    let enabled = both.into_iter().filter_map(|(prefix, direction)| Some((prefix.clone()?, direction)));
    enabled
        .map(|(prefix, direction)| Prefixed {
            prefix,
            served: WebTransportSettings {
                direction,
                message_bytes_max: options.message_bytes_max,
                stream_open_timeout: options.stream_open_timeout,
                close_timeout: options.close_timeout,
                close_linger: options.close_linger,
                ascii_json: options.ascii_json,
                refused_user_agents: options.refused_user_agents.clone(),
            },
        })
        .collect()
}

fn h3_config(resolved: &Resolved) -> gyre_h3::Config {
    let defaults = gyre_h3::Config { websocket: true, grease: rand::random(), ..gyre_h3::Config::default() };
    let options = &resolved.webtransport;
    match options.is_enabled() {
        false => gyre_h3::Config { dialects: gyre_h3::Dialects::NONE, ..defaults },
        true => {
            gyre_h3::Config { dialects: options.dialects, sessions_max: options.session_limit, ..defaults }
        }
    }
}

async fn sweep(engine: Arc<MemoryEngine>) {
    let mut interval = tokio::time::interval(SWEEP_INTERVAL);
    loop {
        interval.tick().await;
        engine.sweep();
    }
}
