//! Where the server listens, and what is served there.

use std::{
    io,
    net::SocketAddr,
    rc::Rc,
    sync::{Arc, Mutex, PoisonError},
};

use gyre_node::LocalShard;
use gyre_transport::{
    http::{
        self, Addresses, Front, Shutdown, bind_check, bind_tcp, bind_udp, grpc::CALLS_MAX, serve_listener,
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
    config::{GrpcOptions, InternalTls, Resolved, TlsOptions},
    routes::{Http3, Router, Routes, Scope, UniGrpc},
    wiring::StartError,
};

/// Where to listen, with what.
pub(crate) struct Listeners {
    /// The sockets of each shard, until it takes them. All are bound before any is served: the kernel spreads clients
    /// over the sockets of a port, and one that joined later would take over the packets of QUIC connections.
    sockets: Vec<Mutex<ShardSockets>>,
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
        let mut external = http::resolve(&server.address, server.port)?;
        add_addresses(&mut external, &server.addresses)?;
        let internal = match (&server.internal, &*server.internal_addresses) {
            (None, []) => None,
            (host, more) => {
                let host = host.as_ref().map(|(host, port)| http::resolve(host, *port)).transpose()?;
                let mut internal =
                    host.unwrap_or_else(|| Addresses { required: Vec::new(), optional: Vec::new() });
                add_addresses(&mut internal, more)?;
                Some(internal)
            }
        };
        check(&mut external, has_http3)?;
        let internal = match internal {
            Some(mut internal) => {
                check(&mut internal, false)?;
                Some(internal)
            }
            None => None,
        };
        let (uni_grpc, uni_grpc_addresses) = GrpcListener::new(resolved.uni_grpc.as_ref())?.unzip();
        let (grpc_api, grpc_api_addresses) = GrpcListener::new(resolved.grpc_api.as_ref())?.unzip();
        let http01 = match server.autocert.as_ref().and_then(|options| options.http.as_ref()) {
            Some((host, port)) => {
                let mut addresses = http::resolve(host, *port)?;
                check(&mut addresses, false)?;
                Some(addresses)
            }
            None => None,
        };
        let bound =
            Bound { http01, external, internal, uni_grpc: uni_grpc_addresses, grpc_api: grpc_api_addresses };
        Ok(Self {
            front: Front {
                tls,
                accepts_both,
                accepts_h2c: server.h2c,
                proxy_protocol: server.proxy_protocol.clone(),
                ..Front::default()
            },
            internal_front: Front { tls: internal_tls, ..Front::default() },
            has_internal: bound.internal.is_some(),
            sockets: bound.bind_all(has_http3, shards)?,
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
    fn new(options: Option<&GrpcOptions<S>>) -> Result<Option<(Self, Addresses)>, StartError> {
        let Some(options) = options else { return Ok(None) };
        let mut addresses = http::resolve(&options.address, options.port)?;
        check(&mut addresses, false)?;
        let tls = options.tls.as_ref().map(server_tls).transpose()?;
        let front = Front { tls, accepts_h2c: true, h2_requests_max: Some(CALLS_MAX), ..Front::default() };
        Ok(Some((Self { front, settings: options.settings.clone() }, addresses)))
    }
}

/// The sockets of one shard.
#[derive(Default)]
struct ShardSockets {
    http01: Vec<std::net::TcpListener>,
    external: Vec<std::net::TcpListener>,
    quic: Vec<std::net::UdpSocket>,
    internal: Vec<std::net::TcpListener>,
    uni_grpc: Vec<std::net::TcpListener>,
    grpc_api: Vec<std::net::TcpListener>,
}

/// What is to be bound.
struct Bound {
    http01: Option<Addresses>,
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
            shard.http01 = bind(&self.http01)?;
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

fn server_tls(options: &TlsOptions) -> Result<Arc<ServerTls>, TlsError> {
    ServerTls::new(options.identity(), None)
}

/// Addresses that are listed beside host and port.
fn add_addresses(addresses: &mut Addresses, listed: &[(String, u16)]) -> io::Result<()> {
    for (host, port) in listed {
        let Addresses { required, optional } = http::resolve(host, *port)?;
        addresses.required.extend(required);
        addresses.optional.extend(optional);
    }
    Ok(())
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
    for listener in sockets.external {
        // HTTP/3 is on the UDP port of the same number.
        let alt_svc_port = listeners.has_http3.then(|| listener.local_addr().map(|address| address.port()));
        let front = Front { alt_svc_port: alt_svc_port.transpose()?, ..listeners.front.clone() };
        spawn_listener(&mut serving, listener, &front, &router, shutdown)?;
    }
    if let Some(tls) = listeners.front.tls.as_ref().filter(|_| listeners.has_http3) {
        for socket in sockets.quic {
            let handler = Rc::new(Http3(router.clone()));
            let endpoint = quic::endpoint(socket, tls, h3.clone(), handler)?;
            serving.spawn_local(endpoint.serve(shutdown.clone()));
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
    let http01 = Rc::new(Http01(listeners.tokens.clone()));
    for listener in sockets.http01 {
        spawn_listener(&mut serving, listener, &Front::default(), &http01, shutdown)?;
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
