//! Construction of everything, in order; no logic of its own.

use std::{
    io,
    net::SocketAddr,
    rc::Rc,
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use gyre_core::session::ClientId;
use gyre_engine::memory::MemoryEngine;
use gyre_node::{Directory, LocalShard, Node, NodeInfo, Ports, run_shards};
use gyre_transport::{
    http::{self, Addresses, Front, Shutdown, bind_check, bind_tcp, bind_udp, serve_listener},
    quic,
    streaming::emulation,
    tls::{self, CertificateResolver},
    websocket,
};
use tokio::{net::TcpListener, runtime::Runtime, sync::watch, task::JoinSet};

use crate::{
    api::{ApiOptions, HttpApi},
    auth::{KeyError, TokenAuthenticator, TokenVerifier, TrackKeys, Verifiers},
    config::{Pem, Resolved},
    hooks::{HookSetupError, Hooks},
    metrics::ApiMetrics,
    rate::RateLimit,
    routes::{Extra, Http3, Prefixed, Router, Routes, Scope, WebTransportSettings},
};

/// How long presence entries live after their last renewal.
const PRESENCE_TTL: Duration = Duration::from_secs(60);
/// How often expired streams and members are freed.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);

/// A server that runs.
pub struct Server {
    /// The node, for operations from outside.
    pub node: Arc<Node>,
    authenticator: Arc<TokenAuthenticator>,
    hooks: Hooks,
    resolver: Option<Arc<CertificateResolver>>,
    stop: watch::Sender<bool>,
    threads: Vec<thread::JoinHandle<()>>,
    shutdown_timeout: Duration,
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
    #[error("http_server.tls: {0}")]
    Tls(#[from] tls::TlsError),
    /// A token key cannot be used.
    #[error("{0}")]
    Key(#[from] KeyError),
    /// Hooks cannot be called over TLS.
    #[error("{0}")]
    Hooks(#[from] HookSetupError),
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
    let hooks = Hooks::new(resolved.hooks.clone())?;
    let ports = Ports {
        broker: engine.clone(),
        maps: engine.clone(),
        presence: engine.clone(),
        authenticator: authenticator.clone(),
        hooks: Arc::new(hooks.clone()),
        map_hooks: Arc::new(hooks.clone()),
        polls: Arc::new(hooks.clone()),
    };
    let info = node_info(resolved);
    let node = Node::new(info, resolved.rules.clone(), ports, directory, control.handle().clone());
    control.spawn(sweep(engine));

    let routes = Arc::new(routes(resolved, &node, hooks.clone(), additions.extra));
    let (stop, shutdown) = watch::channel(false);
    let h3 = Arc::new(h3_config(resolved));
    let resolver = listeners.resolver.clone();
    let listeners = Arc::new(listeners);
    let timeout = resolved.shutdown_timeout;
    let threads = run_shards(
        &node,
        Arc::new(move |shard| {
            let (listeners, routes, h3) = (listeners.clone(), routes.clone(), h3.clone());
            Box::pin(serve_shard(shard, listeners, routes, h3, shutdown.clone(), timeout))
        }),
    )?;
    Ok(Server { node, authenticator, hooks, resolver, stop, threads, shutdown_timeout: timeout })
}

impl Server {
    /// Takes over what can change without a restart: rules, namespaces, token keys, hooks, the certificate.
    ///
    /// # Errors
    /// If a key or certificate cannot be used; nothing is changed then.
    pub fn reload(&self, resolved: &Resolved) -> Result<(), StartError> {
        let verifiers = verifiers(resolved)?;
        if let (Some(resolver), Some(pem)) = (&self.resolver, &resolved.server.tls) {
            resolver.replace(&pem.certificates, pem.key.expose())?;
        }
        self.hooks.replace(resolved.hooks.clone())?;
        self.authenticator.replace(verifiers);
        self.node.set_rules(resolved.rules.clone());
        Ok(())
    }

    /// Where the certificate is replaced, if the server has TLS.
    pub fn certificate(&self) -> Option<Arc<CertificateResolver>> {
        self.resolver.clone()
    }

    /// Stops accepting, tells every client (3001) and waits for them to leave. False if some did not in time.
    pub fn stop(self) -> bool {
        self.stop.send_replace(true);
        let deadline = Instant::now() + self.shutdown_timeout;
        let is_clean = self.threads.into_iter().all(|thread| thread.join().is_ok());
        is_clean && Instant::now() < deadline
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
    /// What the external port serves besides endpoints for clients.
    api_is_external: bool,
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
        let resolver = tls.as_ref().map(|(resolver, _)| resolver.clone());
        Ok(Self {
            front: Front {
                tls: tls.map(|(_, config)| config),
                accepts_both,
                accepts_h2c: server.h2c,
                alt_svc_port: quic.as_ref().map(|_| server.port),
            },
            internal_front: Front {
                tls: internal_tls.map(|(_, config)| config),
                accepts_both: false,
                accepts_h2c: false,
                alt_svc_port: None,
            },
            has_internal: internal.is_some(),
            sockets: bind_all(&external, internal.as_ref(), quic.is_some(), shards)?,
            resolver,
            quic,
            api_is_external: resolved.api.external,
        })
    }

    fn external_scope(&self) -> Scope {
        let is_only_port = !self.has_internal;
        Scope { client: true, api: is_only_port || self.api_is_external, operation: is_only_port }
    }
}

/// The sockets of one shard.
#[derive(Default)]
struct ShardSockets {
    external: Vec<std::net::TcpListener>,
    quic: Vec<std::net::UdpSocket>,
    internal: Vec<std::net::TcpListener>,
}

/// Binds every socket of every shard; those of QUIC first, because a client that reaches TCP may try UDP next.
fn bind_all(
    external: &Addresses,
    internal: Option<&Addresses>,
    with_quic: bool,
    shards: usize,
) -> Result<Vec<Mutex<ShardSockets>>, StartError> {
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
    let mut sockets: Vec<ShardSockets> = (0..shards).map(|_| ShardSockets::default()).collect();
    for shard in sockets.iter_mut().filter(|_| with_quic) {
        shard.quic = bind(external, bind_udp)?;
    }
    for shard in &mut sockets {
        shard.external = bind(external, bind_tcp)?;
        shard.internal = internal.map_or(Ok(Vec::new()), |internal| bind(internal, bind_tcp))?;
    }
    Ok(sockets.into_iter().map(Mutex::new).collect())
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
        Ok(serving) => serving,
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
    let scope = Scope { client: false, api: true, operation: true };
    let router = Router::new(routes.clone(), scope, shard.clone());
    for listener in sockets.internal {
        spawn_listener(&mut serving, listener, &listeners.internal_front, &router, shutdown)?;
    }
    Ok(serving)
}

fn spawn_listener(
    serving: &mut JoinSet<()>,
    listener: std::net::TcpListener,
    front: &Front,
    router: &Rc<Router>,
    shutdown: &Shutdown,
) -> io::Result<()> {
    let listener = TcpListener::from_std(listener)?;
    serving.spawn_local(serve_listener(listener, front.clone(), router.clone(), shutdown.clone()));
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

fn routes(resolved: &Resolved, node: &Arc<Node>, hooks: Hooks, extra: Option<Arc<dyn Extra>>) -> Routes {
    let api_metrics = Arc::<ApiMetrics>::default();
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
        webtransport: resolved.webtransport.as_ref().map(|options| Prefixed {
            prefix: options.prefix.clone(),
            served: WebTransportSettings {
                message_bytes_max: options.message_bytes_max,
                stream_open_timeout: options.stream_open_timeout,
                close_timeout: options.close_timeout,
                close_linger: options.close_linger,
                ascii_json: options.ascii_json,
                refused_user_agents: options.refused_user_agents.clone(),
            },
        }),
        api: api.prefix.clone().map(|prefix| Prefixed {
            prefix,
            served: HttpApi::new(node.clone(), api_options, api_metrics.clone()),
        }),
        health: resolved.health.clone(),
        init: resolved.init.clone(),
        prometheus: resolved.prometheus.clone(),
        origins: resolved.origins.clone(),
        user_header: resolved.user_header.clone(),
        hooks,
        connection_rate: RateLimit::new(resolved.rules.limits.connection_rate_limit, Instant::now()),
        api_metrics,
        extra,
    }
}

fn h3_config(resolved: &Resolved) -> gyre_h3::Config {
    let defaults = gyre_h3::Config { grease: rand::random(), ..gyre_h3::Config::default() };
    match &resolved.webtransport {
        None => gyre_h3::Config { dialects: gyre_h3::Dialects::NONE, ..defaults },
        Some(options) => {
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
