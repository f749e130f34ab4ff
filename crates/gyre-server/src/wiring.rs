//! Construction of everything, in order; no logic of its own.

use std::{
    io,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use gyre_core::{hub::Direction, session::ClientId};
use gyre_engine::memory::MemoryEngine;
use gyre_node::{Directory, LocalShard, Node, NodeInfo, Ports, run_shards};
use gyre_transport::{
    http::{Shutdown, SocketFile},
    quic,
    streaming::emulation,
    tls::{self, CertificateResolver},
    websocket,
};
use serde_json::Value;
use tokio::{
    runtime::{Handle, Runtime},
    sync::watch,
    time::timeout,
};

use crate::{
    acme::{Acme, AcmeError},
    admin::Admin,
    api::{ApiOptions, HttpApi},
    auth::{KeyError, TokenAuthenticator, TokenVerifier, TrackKeys, Verifiers},
    certificates::Certificates,
    config::Resolved,
    health::Health,
    hooks::{HookSetupError, Hooks},
    listeners::{Listeners, listen},
    metrics::{Graphite, Metrics},
    rate::RateLimit,
    routes::{Extra, Prefixed, Routes, WebTransportSettings},
    swagger::Swagger,
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
    routes: Arc<Routes>,
    certificates: Arc<Certificates>,
    socket_files: Vec<SocketFile>,
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
    /// Certificates cannot be obtained.
    #[error("{0}")]
    Acme(#[from] AcmeError),
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
    let acme = resolved.server.autocert.clone().map(Acme::prepare).transpose()?;
    let mut listeners = Listeners::new(resolved, additions.accepts_both, acme.as_ref(), shards)?;
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

    let certificates = Arc::new(listeners.certificates(resolved));
    control.spawn(certificates.clone().watch());
    let health = Arc::new(Health::new(certificates.resolvers()));
    let seeing = Seeing { health: health.clone(), telemetry: telemetry.clone() };
    let routes = Arc::new(routes(resolved, &node, hooks.clone(), seeing, additions.extra));
    if let Some(options) = resolved.operation.graphite.clone() {
        let graphite = Graphite::new(options, &node.info.name);
        control.spawn(send_metrics(graphite, routes.clone(), node.clone()));
    }
    let admin = routes.admin.clone();
    let (stop, shutdown) = watch::channel(false);
    let h3 = Arc::new(h3_config(resolved));
    let (acceptors, socket_files) = listeners.take_unix_sockets();
    for acceptor in acceptors {
        control.spawn(acceptor.run(shutdown.clone()));
    }
    let listeners = Arc::new(listeners);
    let served = routes.clone();
    let timeout = resolved.shutdown_timeout;
    let threads = run_shards(
        &node,
        Arc::new(move |shard| {
            let (listeners, routes, h3) = (listeners.clone(), routes.clone(), h3.clone());
            Box::pin(serve_shard(shard, listeners, routes, h3, shutdown.clone(), timeout))
        }),
    )?;
    if let Some(acme) = acme {
        control.spawn(acme.run());
    }
    Ok(Server {
        node,
        health,
        telemetry,
        authenticator,
        hooks,
        admin,
        routes: served,
        certificates,
        socket_files,
        stop,
        threads,
        control: control.handle().clone(),
        shutdown_timeout: timeout,
    })
}

impl Server {
    /// Takes over what can change without a restart: rules, namespaces, token keys, hooks, origins, the certificate.
    ///
    /// # Errors
    /// If a key or certificate cannot be used; nothing is changed then.
    pub fn reload(&self, resolved: &Resolved) -> Result<(), StartError> {
        let verifiers = verifiers(resolved)?;
        let hooks = self.hooks.prepare(resolved.hooks.clone())?;
        let certificates = self.certificates.prepare(resolved)?;
        self.authenticator.replace(verifiers);
        self.hooks.replace(hooks);
        self.routes.take_over(resolved);
        self.certificates.apply(certificates);
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
        self.certificates.external()
    }

    /// Stops accepting, tells every client (3001) and waits for them to leave. False if some did not in time.
    pub fn stop(self) -> bool {
        self.health.begin_draining();
        // While they are listened on nobody takes a file of that name for one that was left.
        drop(self.socket_files);
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
    let quic_shown = resolved.server.http3.then(|| quic.clone());
    let api = &resolved.api;
    let api_options = ApiOptions {
        key: api.key.clone(),
        insecure: api.insecure,
        transport_errors: api.transport_errors,
        lists_connections: api.lists_connections,
    };
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
        swagger: resolved
            .swagger
            .clone()
            .map(|prefix| Swagger::new(prefix, api.prefix.as_deref().unwrap_or("/api"))),
        origins: resolved.origins.clone(),
        policy: resolved.server.policy.clone(),
        user_header: ArcSwap::from_pointee(resolved.user_header.clone()),
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
