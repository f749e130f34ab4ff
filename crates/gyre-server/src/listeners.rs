//! Where the server listens, and what is served there.

use std::{
    io,
    net::SocketAddr,
    path::PathBuf,
    rc::Rc,
    sync::{Arc, Mutex, PoisonError},
};

use gyre_node::LocalShard;
use gyre_transport::{
    http::{
        self, Accept, Addresses, Front, Shutdown, SocketFile, UnixAcceptor, UnixConnections, bind_check,
        bind_tcp, bind_udp, bind_unix, grpc::CALLS_MAX, serve_listener,
    },
    quic,
    streaming::grpc,
    tls::{ServerTls, TlsError},
};
use tokio::{net::TcpListener, task::JoinSet};

use crate::{
    acme::{Acme, Http01, Tokens},
    api::{GrpcApi, GrpcApiOptions},
    certificates::Certificates,
    config::{Address, GrpcOptions, InternalTls, Resolved, TlsOptions},
    routes::{Http3, Router, Routes, Scope, UniGrpc},
    wiring::StartError,
};

/// Where to listen, with what.
pub(crate) struct Listeners {
    /// The sockets of each shard, until it takes them. All are bound before any is served: the kernel spreads clients
    /// over the sockets of a port, and one that joined later would take over the packets of QUIC connections.
    sockets: Vec<Mutex<ShardSockets>>,
    unix: UnixSockets,
    has_internal: bool,
    front: Front,
    internal_front: Front,
    has_http3: bool,
    /// What is shown at the port of ACME over HTTP.
    tokens: Tokens,
    uni_grpc: Option<GrpcListener<grpc::Settings>>,
    grpc_api: Option<GrpcListener<GrpcApiOptions>>,
    /// What the external port serves besides endpoints for clients.
    api_is_external: bool,
    admin_is_external: bool,
}

impl Listeners {
    /// Checks every address before anything is bound for good.
    pub(crate) fn new(
        resolved: &Resolved,
        accepts_both: bool,
        acme: Option<&Acme>,
        shards: usize,
    ) -> Result<Self, StartError> {
        let server = &resolved.server;
        let tls = match (&server.tls, acme) {
            (None, None) => None,
            (options, acme) => {
                let identity = options.as_ref().map(TlsOptions::identity).unwrap_or_default();
                Some(ServerTls::new(identity, acme.map(Acme::certificates))?)
            }
        };
        let internal_tls = match &server.internal_tls {
            InternalTls::Plain => None,
            InternalTls::External => tls.clone(),
            InternalTls::Own(options) => Some(server_tls(options)?),
        };
        let has_http3 = server.http3 && tls.is_some();
        let external = Places::of(&server.addresses, has_http3)?;
        let internal = Places::of(&server.internal_addresses, false)?;
        let (uni_grpc, uni_grpc_places) = GrpcListener::new(resolved.uni_grpc.as_ref())?.unzip();
        let (grpc_api, grpc_api_places) = GrpcListener::new(resolved.grpc_api.as_ref())?.unzip();
        let http01 = match server.autocert.as_ref().and_then(|options| options.http.as_ref()) {
            Some((host, port)) => Places::of(&[Address::Host(host.clone(), *port)], false)?,
            None => Places::default(),
        };
        let bound = Bound {
            http01,
            external,
            internal,
            uni_grpc: uni_grpc_places.unwrap_or_default(),
            grpc_api: grpc_api_places.unwrap_or_default(),
        };
        let (sockets, unix) = bound.bind_all(has_http3, shards, server.unix_socket_mode)?;
        Ok(Self {
            front: Front {
                tls,
                accepts_both,
                accepts_h2c: server.h2c,
                proxy_protocol: server.proxy_protocol.clone(),
                ..Front::default()
            },
            internal_front: Front { tls: internal_tls, ..Front::default() },
            has_internal: !server.internal_addresses.is_empty(),
            sockets,
            unix,
            has_http3,
            tokens: acme.map(Acme::tokens).unwrap_or_default(),
            uni_grpc,
            grpc_api,
            api_is_external: resolved.api.external,
            admin_is_external: resolved.admin.as_ref().is_some_and(|admin| admin.external),
        })
    }

    /// The certificates of all listeners, by the TLS objects of the configuration.
    pub(crate) fn certificates(&self, resolved: &Resolved) -> Certificates {
        let mut certificates = Certificates::default();
        let mut add = |options: Option<&TlsOptions>, front: &Front| {
            if let (Some(options), Some(tls)) = (options, &front.tls) {
                certificates.add(options.clone(), tls.clone());
            }
        };
        add(resolved.server.tls.as_ref(), &self.front);
        if let InternalTls::Own(options) = &resolved.server.internal_tls {
            add(Some(options), &self.internal_front);
        }
        let grpc = resolved.uni_grpc.as_ref().zip(self.uni_grpc.as_ref());
        grpc.inspect(|(options, grpc)| add(options.tls.as_ref(), &grpc.front));
        let grpc = resolved.grpc_api.as_ref().zip(self.grpc_api.as_ref());
        grpc.inspect(|(options, grpc)| add(options.tls.as_ref(), &grpc.front));
        certificates
    }

    /// What accepts on unix sockets for all shards, and the files of the sockets.
    pub(crate) fn take_unix_sockets(&mut self) -> (Vec<UnixAcceptor>, Vec<SocketFile>) {
        let UnixSockets { acceptors, files } = std::mem::take(&mut self.unix);
        (acceptors, files)
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
    settings: S,
}

impl<S: Clone> GrpcListener<S> {
    /// Checks its addresses, if there is one.
    fn new(options: Option<&GrpcOptions<S>>) -> Result<Option<(Self, Places)>, StartError> {
        let Some(options) = options else { return Ok(None) };
        let places = Places::of(std::slice::from_ref(&options.address), false)?;
        let tls = options.tls.as_ref().map(server_tls).transpose()?;
        let front = Front {
            tls,
            accepts_h2c: true,
            h2_requests_max: Some(CALLS_MAX),
            proxy_protocol: options.proxy_protocol.clone(),
            ..Front::default()
        };
        Ok(Some((Self { front, settings: options.settings.clone() }, places)))
    }
}

/// The sockets of one shard.
#[derive(Default)]
struct ShardSockets {
    quic: Vec<std::net::UdpSocket>,
    http01: Listening,
    external: Listening,
    internal: Listening,
    uni_grpc: Listening,
    grpc_api: Listening,
}

/// What one shard listens on for one purpose.
#[derive(Default)]
struct Listening {
    tcp: Vec<std::net::TcpListener>,
    unix: Vec<UnixConnections>,
}

/// Unix sockets of all purposes.
#[derive(Default)]
struct UnixSockets {
    acceptors: Vec<UnixAcceptor>,
    files: Vec<SocketFile>,
}

/// Where to listen for one purpose.
#[derive(Default)]
struct Places {
    addresses: Vec<SocketAddr>,
    unix: Vec<PathBuf>,
}

impl Places {
    /// Finds the addresses of hosts, and checks that they are free.
    fn of(listed: &[Address], with_udp: bool) -> Result<Self, StartError> {
        let mut places = Self::default();
        for address in listed {
            match address {
                Address::Host(host, port) => {
                    places.addresses.extend(available(http::resolve(host, *port)?, with_udp)?);
                }
                Address::Unix(path) => places.unix.push(path.clone()),
            }
        }
        Ok(places)
    }

    fn bind_tcp(&self) -> Result<Listening, StartError> {
        Ok(Listening { tcp: bind(&self.addresses, bind_tcp)?, unix: Vec::new() })
    }
}

/// What is to be bound.
struct Bound {
    http01: Places,
    external: Places,
    internal: Places,
    uni_grpc: Places,
    grpc_api: Places,
}

impl Bound {
    /// Binds every socket of every shard; those of QUIC first, because a client that reaches TCP may try UDP next.
    fn bind_all(
        &self,
        with_quic: bool,
        shards: usize,
        unix_mode: u32,
    ) -> Result<(Vec<Mutex<ShardSockets>>, UnixSockets), StartError> {
        let mut sockets: Vec<ShardSockets> = (0..shards).map(|_| ShardSockets::default()).collect();
        for shard in sockets.iter_mut().filter(|_| with_quic) {
            shard.quic = bind(&self.external.addresses, bind_udp)?;
        }
        for shard in &mut sockets {
            shard.external = self.external.bind_tcp()?;
            shard.http01 = self.http01.bind_tcp()?;
            shard.internal = self.internal.bind_tcp()?;
            shard.uni_grpc = self.uni_grpc.bind_tcp()?;
            shard.grpc_api = self.grpc_api.bind_tcp()?;
        }
        let mut unix = UnixSockets::default();
        let mut listen = |places: &Places, listening: fn(&mut ShardSockets) -> &mut Listening| {
            for path in &places.unix {
                let (listener, file) = bind_unix(path, unix_mode).map_err(|error| StartError::Bind {
                    address: format!("unix:{}", path.display()),
                    error,
                })?;
                let (acceptor, connections) = UnixAcceptor::new(listener, shards);
                unix.acceptors.push(acceptor);
                unix.files.push(file);
                for (shard, connections) in sockets.iter_mut().zip(connections) {
                    listening(shard).unix.push(connections);
                }
            }
            Ok::<_, StartError>(())
        };
        listen(&self.external, |shard| &mut shard.external)?;
        listen(&self.internal, |shard| &mut shard.internal)?;
        listen(&self.uni_grpc, |shard| &mut shard.uni_grpc)?;
        listen(&self.grpc_api, |shard| &mut shard.grpc_api)?;
        Ok((sockets.into_iter().map(Mutex::new).collect(), unix))
    }
}

fn bind<T>(
    addresses: &[SocketAddr],
    bind: impl Fn(SocketAddr) -> io::Result<T>,
) -> Result<Vec<T>, StartError> {
    let bind = |address: &SocketAddr| {
        bind(*address).map_err(|error| StartError::Bind { address: address.to_string(), error })
    };
    addresses.iter().map(bind).collect()
}

fn server_tls(options: &TlsOptions) -> Result<Arc<ServerTls>, TlsError> {
    ServerTls::new(options.identity(), None)
}

/// Required addresses must be free; optional ones that cannot be had are left out.
fn available(addresses: Addresses, with_udp: bool) -> Result<Vec<SocketAddr>, StartError> {
    for address in &addresses.required {
        bind_check(*address, with_udp)
            .map_err(|error| StartError::Bind { address: address.to_string(), error })?;
    }
    let mut available = addresses.required;
    for address in addresses.optional {
        match bind_check(address, with_udp) {
            Ok(()) => available.push(address),
            // Another server there would take half of the clients.
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                return Err(StartError::Bind { address: address.to_string(), error });
            }
            Err(error) => tracing::warn!(%address, %error, "an optional address is not available"),
        }
    }
    Ok(available)
}

/// Starts every listener of one shard. Those of TCP end when the server stops and their requests are answered.
pub(crate) fn listen(
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
    for listener in sockets.external.tcp {
        // HTTP/3 is on the UDP port of the same number.
        let alt_svc_port = listeners.has_http3.then(|| listener.local_addr().map(|address| address.port()));
        let front = Front { alt_svc_port: alt_svc_port.transpose()?, ..listeners.front.clone() };
        spawn_tcp(&mut serving, listener, &front, &router, shutdown)?;
    }
    let unix = Listening { tcp: Vec::new(), unix: sockets.external.unix };
    spawn(&mut serving, unix, &listeners.front, &router, shutdown)?;
    if let Some(tls) = listeners.front.tls.as_ref().filter(|_| listeners.has_http3) {
        for socket in sockets.quic {
            let handler = Rc::new(Http3(router.clone()));
            let endpoint = quic::endpoint(socket, tls, h3.clone(), handler)?;
            serving.spawn_local(endpoint.serve(shutdown.clone()));
        }
    }
    if let Some(grpc) = &listeners.uni_grpc {
        let service = Rc::new(UniGrpc { router: router.clone(), settings: grpc.settings.clone() });
        spawn(&mut serving, sockets.uni_grpc, &grpc.front, &service, shutdown)?;
    }
    if let Some(grpc) = &listeners.grpc_api {
        let (node, settings) = (shard.node().clone(), grpc.settings.clone());
        let api = GrpcApi::new(node, settings, routes.api_metrics.clone(), routes.telemetry.clone());
        let service = Rc::new(api);
        spawn(&mut serving, sockets.grpc_api, &grpc.front, &service, shutdown)?;
    }
    let http01 = Rc::new(Http01(listeners.tokens.clone()));
    spawn(&mut serving, sockets.http01, &Front::default(), &http01, shutdown)?;
    let scope = Scope { client: false, api: true, admin: true, operation: true };
    let router = Router::new(routes.clone(), scope, shard.clone());
    spawn(&mut serving, sockets.internal, &listeners.internal_front, &router, shutdown)?;
    Ok(serving)
}

/// Serves all that is listened on for one purpose. Unix sockets have no TLS, and HTTP/2 as well as HTTP/1.1.
fn spawn<S: http::Service + 'static>(
    serving: &mut JoinSet<()>,
    listening: Listening,
    front: &Front,
    service: &Rc<S>,
    shutdown: &Shutdown,
) -> io::Result<()> {
    for listener in listening.tcp {
        spawn_tcp(serving, listener, front, service, shutdown)?;
    }
    for connections in listening.unix {
        let front = Front { tls: None, accepts_h2c: true, ..front.clone() };
        spawn_listener(serving, connections, front, service, shutdown);
    }
    Ok(())
}

fn spawn_tcp<S: http::Service + 'static>(
    serving: &mut JoinSet<()>,
    listener: std::net::TcpListener,
    front: &Front,
    service: &Rc<S>,
    shutdown: &Shutdown,
) -> io::Result<()> {
    spawn_listener(serving, TcpListener::from_std(listener)?, front.clone(), service, shutdown);
    Ok(())
}

fn spawn_listener<S: http::Service + 'static>(
    serving: &mut JoinSet<()>,
    listener: impl Accept + 'static,
    front: Front,
    service: &Rc<S>,
    shutdown: &Shutdown,
) {
    serving.spawn_local(serve_listener(listener, front, service.clone(), shutdown.clone()));
}
