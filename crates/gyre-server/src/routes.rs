//! Which endpoint answers which path: the one HTTP service of every listener and HTTP version.

use std::{
    future::Future,
    pin::Pin,
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use ::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use arc_swap::ArcSwap;
use gyre_core::{
    hub::{Direction, Framing, WireForm},
    session::Pings,
};
use gyre_h3::RequestHead;
use gyre_node::{ConnectionOptions, HttpVersion, LocalShard, OpeningRequest, TransportKind};
use gyre_protocol::codec::Encoding;
use gyre_transport::{
    http::{ConnectionEvent, OriginPolicy, Peer, Policy, Request, Response, Service, full, status},
    quic,
    streaming::{self, emulation, grpc},
    websocket, webtransport,
};

use crate::{
    admin::Admin,
    api::{GrpcApi, HttpApi},
    config::Resolved,
    debug,
    health::{Health, Report},
    hooks::Hooks,
    metrics::{self, ApiMetrics, Metrics},
    rate::RateLimit,
    swagger::Swagger,
    telemetry::Telemetry,
};

/// What is served where; shared by all shards.
#[derive(Debug)]
pub struct Routes {
    /// `websocket.handler_prefix`, unless disabled.
    pub websocket: Option<Prefixed<websocket::Settings>>,
    /// `uni_websocket.handler_prefix`, if enabled.
    pub uni_websocket: Option<Prefixed<websocket::UnidirectionalSettings>>,
    /// The prefixes of `sse`, `http_stream`, `uni_sse` and `uni_http_stream`: those that are enabled.
    pub streaming: Vec<Prefixed<streaming::Settings>>,
    /// `emulation.handler_prefix`, if `sse` or `http_stream` is enabled.
    pub emulation: Option<Prefixed<emulation::Settings>>,
    /// The prefixes of `webtransport` and `uni_webtransport`: those that are enabled.
    pub webtransport: Vec<Prefixed<WebTransportSettings>>,
    /// `http_api.handler_prefix`, unless disabled.
    pub api: Option<Prefixed<HttpApi>>,
    /// `admin`, if enabled.
    pub admin: Option<Arc<Admin>>,
    /// `health.handler_prefix`, if enabled.
    pub health: Option<Box<str>>,
    /// `init.handler_prefix`, if enabled.
    pub init: Option<Box<str>>,
    /// `prometheus.handler_prefix`, if enabled.
    pub prometheus: Option<Box<str>>,
    /// `swagger`, if enabled.
    pub swagger: Option<Swagger>,
    /// `client.allowed_origins`.
    pub origins: OriginPolicy,
    /// `http_server.trusted_forwarders` and `http_server.hsts`.
    pub policy: Policy,
    /// `client.user_id_http_header`.
    pub user_header: ArcSwap<Option<Box<str>>>,
    /// Know which headers they may see.
    pub hooks: Hooks,
    /// `client.connection_rate_limit`.
    pub connection_rate: RateLimit,
    /// Counts of the API.
    pub api_metrics: Arc<ApiMetrics>,
    /// Everything that counts.
    pub metrics: Arc<Metrics>,
    /// Whether the server should be sent clients.
    pub health_state: Arc<Health>,
    /// `debug.handler_prefix`, if enabled.
    pub debug: Option<Box<str>>,
    /// Traces.
    pub telemetry: Telemetry,
    /// Counts of HTTP/3.
    pub quic: Arc<quic::Statistics>,
    /// Further endpoints: the development mode's.
    pub extra: Option<Arc<dyn Extra>>,
}

impl Routes {
    /// Takes over what of the configuration can change while they are served.
    pub fn take_over(&self, resolved: &Resolved) {
        self.origins.replace(&resolved.origins);
        self.user_header.store(Arc::new(resolved.user_header.clone()));
        self.connection_rate.set_rate(resolved.rules.limits.connection_rate_limit);
    }
}

/// Endpoints beside the server's own.
pub trait Extra: std::fmt::Debug + Send + Sync {
    /// Answers a request; `None` if the path is not one of them.
    fn answer(&self, request: &Request) -> Option<Response>;
}

/// What is configured of WebTransport.
#[derive(Clone, Debug)]
pub struct WebTransportSettings {
    /// Unidirectional at `uni_webtransport.handler_prefix`.
    pub direction: Direction,
    /// `webtransport.message_size_limit`.
    pub message_bytes_max: usize,
    /// `webtransport.stream_open_timeout`.
    pub stream_open_timeout: Duration,
    /// `webtransport.close_timeout`.
    pub close_timeout: Duration,
    /// `webtransport.close_linger`.
    pub close_linger: Duration,
    /// `webtransport.ascii_json`.
    pub ascii_json: bool,
    /// `webtransport.refused_user_agents`: parts of user agents whose sessions are refused with 501.
    pub refused_user_agents: Vec<String>,
}

/// Something and the path it is served at.
#[derive(Debug)]
pub struct Prefixed<T> {
    /// The path.
    pub prefix: Box<str>,
    /// What is served.
    pub served: T,
}

impl<T> Prefixed<T> {
    fn is_at(&self, path: &str) -> bool {
        *self.prefix == *path
    }
}

/// Which endpoints a listener has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scope {
    /// Endpoints for clients.
    pub client: bool,
    /// The server API.
    pub api: bool,
    /// The admin API.
    pub admin: bool,
    /// Health and metrics.
    pub operation: bool,
}

/// The service of one listener on one shard.
pub struct Router {
    routes: Arc<Routes>,
    scope: Scope,
    shard: LocalShard,
}

impl Router {
    /// A service for the endpoints in `scope`.
    pub fn new(routes: Arc<Routes>, scope: Scope, shard: LocalShard) -> Rc<Self> {
        Rc::new(Self { routes, scope, shard })
    }

    /// Finds out who the client is, which proxies may know better than the connection.
    fn identify(&self, request: &mut Request) -> Option<Peer> {
        let mut peer = *request.extensions().get::<Peer>()?;
        self.routes.policy.apply(&mut peer, request.headers_mut());
        request.extensions_mut().insert(peer);
        Some(peer)
    }

    async fn route(&self, request: Request) -> Response {
        let routes = &*self.routes;
        let path = request.uri().path();
        let is = |prefix: &Option<Box<str>>| prefix.as_deref() == Some(path);
        if self.scope.client {
            if let Some(websocket) = routes.websocket.as_ref().filter(|websocket| websocket.is_at(path)) {
                return self.websocket(request, |request, opening| {
                    websocket::serve(request, &self.shard, &websocket.served, opening)
                });
            }
            if let Some(websocket) = routes.uni_websocket.as_ref().filter(|websocket| websocket.is_at(path)) {
                return self.websocket(request, |request, opening| {
                    websocket::serve_unidirectional(request, &self.shard, &websocket.served, opening)
                });
            }
            if let Some(stream) = routes.streaming.iter().find(|stream| stream.is_at(path)) {
                return self.stream(request, &stream.served).await;
            }
            if let Some(emulation) = routes.emulation.as_ref().filter(|emulation| emulation.is_at(path)) {
                return self.emulation(request, &emulation.served).await;
            }
            if is(&routes.init) {
                return self.init(&request);
            }
            if routes.webtransport.iter().any(|webtransport| webtransport.is_at(path)) {
                return status(StatusCode::BAD_REQUEST, "this endpoint speaks WebTransport over HTTP/3\n");
            }
            if let Some(response) = routes.extra.as_ref().and_then(|extra| extra.answer(&request)) {
                return response;
            }
        }
        if self.scope.operation {
            if let Some(response) = routes.swagger.as_ref().and_then(|swagger| swagger.answer(&request)) {
                return response;
            }
            if is(&routes.health) {
                return json("{}", "application/json");
            }
            if let Some(rest) = routes.health.as_deref().and_then(|prefix| path.strip_prefix(prefix)) {
                let node = self.shard.node();
                match rest {
                    "/live" => return report(&routes.health_state.live(node)),
                    "/ready" => return report(&routes.health_state.ready(node, &routes.hooks)),
                    _ => {}
                }
            }
            if is(&routes.prometheus) {
                let (node, health) = (self.shard.node(), &routes.health_state);
                let exposition = routes.metrics.gather(node, &routes.hooks, health, &routes.quic).await;
                return json(exposition.to_text(), metrics::CONTENT_TYPE);
            }
            if let Some(prefix) = &routes.debug
                && let Some(response) = debug::answer(&request, prefix).await
            {
                return response;
            }
        }
        if self.scope.admin
            && let Some(admin) = &routes.admin
            && let Some(endpoint) = admin.endpoint(path)
        {
            return admin.call(endpoint, request).await;
        }
        if self.scope.api
            && let Some(api) = &routes.api
            && let Some(endpoint) = api.served.endpoint(path, &api.prefix)
        {
            let (name, headers) = (format!("{} {path}", request.method()), request.headers().clone());
            let answer = api.served.call(endpoint, request);
            let status = |response: &Response| response.status().as_u16();
            return routes.telemetry.serve("http", name, &headers, answer, status).await;
        }
        if self.scope.admin
            && let Some(admin) = &routes.admin
            && let Some(response) = admin.rest(&request).await
        {
            return response;
        }
        status(StatusCode::NOT_FOUND, "404 page not found\n")
    }

    fn websocket(
        &self,
        request: Request,
        serve: impl FnOnce(Request, OpeningRequest) -> Response,
    ) -> Response {
        if !self.admits_connection() {
            return status(StatusCode::SERVICE_UNAVAILABLE, "");
        }
        let opening = self.opening(request.headers(), version(&request));
        serve(request, opening)
    }

    /// A connection over plain HTTP. Foreign pages are served, but may not read the answer.
    async fn stream(&self, request: Request, settings: &streaming::Settings) -> Response {
        if !streaming::is_preflight(request.method()) && !self.admits_connection() {
            return status(StatusCode::SERVICE_UNAVAILABLE, "");
        }
        let (headers, opening) =
            (request.headers().clone(), self.opening(request.headers(), version(&request)));
        let mut response = streaming::serve(request, &self.shard, settings, opening).await;
        self.routes.origins.add_cors(&headers, response.headers_mut());
        response
    }

    async fn emulation(&self, request: Request, settings: &emulation::Settings) -> Response {
        let headers = request.headers().clone();
        let mut response = emulation::serve(request, self.shard.node(), settings).await;
        self.routes.origins.add_cors(&headers, response.headers_mut());
        response
    }

    /// Limits of the node on new connections, checked before any protocol.
    pub fn admits_connection(&self) -> bool {
        if !self.shard.has_room() {
            self.shard.count(|counters| counters.refused_by_limit += 1);
            return false;
        }
        let is_in_time = self.routes.connection_rate.admits(Instant::now());
        if !is_in_time {
            self.shard.count(|counters| counters.refused_by_rate += 1);
        }
        is_in_time
    }

    /// What a request that opens a connection says of it: the user a trusted header names, and what hooks may see.
    fn opening(&self, headers: &HeaderMap, version: HttpVersion) -> OpeningRequest {
        let name = self.routes.user_header.load();
        let user = name.as_deref().and_then(|name| headers.get(name)?.to_str().ok());
        OpeningRequest {
            version,
            user: user.filter(|user| !user.is_empty()).map(Into::into),
            headers: self.routes.hooks.visible(headers),
        }
    }

    /// True if some endpoint answers that path.
    fn has_endpoint(&self, path: &str) -> bool {
        let routes = &*self.routes;
        let prefixes = [
            routes.websocket.as_ref().map(|websocket| &websocket.prefix),
            routes.uni_websocket.as_ref().map(|websocket| &websocket.prefix),
            routes.emulation.as_ref().map(|emulation| &emulation.prefix),
            routes.health.as_ref(),
            routes.init.as_ref(),
            routes.prometheus.as_ref(),
        ];
        let is_api = |api: &Prefixed<HttpApi>| api.served.endpoint(path, &api.prefix).is_some();
        prefixes.into_iter().flatten().any(|prefix| **prefix == *path)
            || routes.streaming.iter().any(|stream| stream.is_at(path))
            || routes.api.as_ref().is_some_and(is_api)
            || routes.admin.as_ref().is_some_and(|admin| admin.endpoint(path).is_some())
            || routes.swagger.as_ref().is_some_and(|swagger| swagger.is_at(path))
    }

    /// How a session asked for over HTTP/3 is served.
    fn webtransport(&self, head: &RequestHead, mut peer: Peer) -> Result<webtransport::Options, StatusCode> {
        let (path, query) = head.path.split_once('?').unwrap_or((&head.path, ""));
        let Some(Prefixed { served: settings, .. }) =
            self.routes.webtransport.iter().find(|webtransport| webtransport.is_at(path))
        else {
            return Err(match self.has_endpoint(path) {
                true => StatusCode::METHOD_NOT_ALLOWED,
                false => StatusCode::NOT_FOUND,
            });
        };
        if !self.admits_connection() {
            return Err(StatusCode::SERVICE_UNAVAILABLE);
        }
        let mut headers = header_map(head);
        self.routes.policy.apply(&mut peer, &mut headers);
        if !self.routes.origins.allows(&headers) {
            return Err(StatusCode::FORBIDDEN);
        }
        let agent = headers.get(header::USER_AGENT).and_then(|agent| agent.to_str().ok()).unwrap_or("");
        if settings.refused_user_agents.iter().any(|refused| agent.contains(&**refused)) {
            return Err(StatusCode::NOT_IMPLEMENTED);
        }
        let connect = match settings.direction {
            Direction::Bidirectional => None,
            Direction::Unidirectional => {
                Some(streaming::connect_request(query).ok_or(StatusCode::BAD_REQUEST)?)
            }
        };
        let is_protobuf = query.split('&').any(|pair| pair == "cf_protocol=protobuf");
        let encoding = if is_protobuf { Encoding::Protobuf } else { Encoding::Json };
        let form = WireForm {
            encoding,
            framing: Framing::Stream,
            direction: settings.direction,
            ascii: settings.ascii_json,
            deflate: None,
        };
        let connection = ConnectionOptions {
            transport: match settings.direction {
                Direction::Bidirectional => TransportKind::WebTransport,
                Direction::Unidirectional => TransportKind::UniWebTransport,
            },
            form,
            announces_disconnect: true,
            pings: Pings::Protocol,
            opening: self.opening(&headers, HttpVersion::Http3),
        };
        Ok(webtransport::Options {
            shard: self.shard.clone(),
            connection,
            connect,
            message_bytes_max: settings.message_bytes_max,
            stream_open_timeout: settings.stream_open_timeout,
            close_timeout: settings.close_timeout,
            close_linger: settings.close_linger,
        })
    }

    fn init(&self, request: &Request) -> Response {
        let mut response = match *request.method() {
            Method::GET => json("{}", "application/json; charset=utf-8"),
            _ => status(StatusCode::METHOD_NOT_ALLOWED, ""),
        };
        self.routes.origins.add_cors(request.headers(), response.headers_mut());
        response
    }
}

impl Router {
    /// Answers a request, and counts it where that is configured.
    async fn counted(self: &Rc<Self>, request: Request) -> Response {
        if !self.routes.metrics.options.counts_requests {
            return self.route(request).await;
        }
        let (method, path) = (request.method().clone(), request.uri().path().to_owned());
        let response = self.route(request).await;
        // What no endpoint has is one route: a client may ask for anything.
        let route = if self.has_endpoint(&path) { &path } else { "other" };
        self.routes.metrics.http.request(route, &method, response.status().as_u16());
        response
    }
}

impl Service for Router {
    fn call(self: Rc<Self>, request: Request) -> Pin<Box<dyn Future<Output = Response>>> {
        Box::pin(async move {
            let mut request = request;
            let peer = self.identify(&mut request);
            let mut response = self.counted(request).await;
            if let Some(peer) = peer {
                self.routes.policy.add_transport_security(peer, response.headers_mut());
            }
            response
        })
    }

    fn observe(&self, event: ConnectionEvent) {
        match event {
            ConnectionEvent::Opened | ConnectionEvent::Closed => {}
            ConnectionEvent::Refused => self.shard.count(|counters| counters.sockets_refused += 1),
            ConnectionEvent::AcceptFailed => self.shard.count(|counters| counters.accepts_failed += 1),
        }
    }
}

/// The router of one listener as HTTP/3 sees it.
#[derive(Clone)]
pub struct Http3(pub Rc<Router>);

impl quic::Handler for Http3 {
    fn service(&self) -> Rc<dyn Service> {
        self.0.clone()
    }

    fn statistics(&self) -> &Arc<quic::Statistics> {
        &self.0.routes.quic
    }

    fn session(&self, head: &RequestHead, peer: Peer) -> Result<webtransport::Options, u16> {
        self.0.webtransport(head, peer).map_err(|status| status.as_u16())
    }
}

/// The only service of the listener for gRPC clients.
pub struct UniGrpc {
    /// Its limits on new connections are those of the node.
    pub router: Rc<Router>,
    /// What is configured of `uni_grpc`.
    pub settings: grpc::Settings,
}

impl Service for UniGrpc {
    fn call(self: Rc<Self>, request: Request) -> Pin<Box<dyn Future<Output = Response>>> {
        Box::pin(async move {
            let mut request = request;
            self.router.identify(&mut request);
            // Who trusts a header for the user has a proxy that sets it, and that is one for HTTP.
            let admit = |metadata: &HeaderMap| {
                let headers = self.router.routes.hooks.visible_metadata(metadata);
                self.router.admits_connection().then_some(OpeningRequest {
                    version: HttpVersion::Http2,
                    user: None,
                    headers,
                })
            };
            grpc::serve(request, &self.router.shard, &self.settings, admit).await
        })
    }
}

/// The only service of the listener for the server API over gRPC.
impl Service for GrpcApi {
    fn call(self: Rc<Self>, request: Request) -> Pin<Box<dyn Future<Output = Response>>> {
        Box::pin(async move { GrpcApi::call(&self, request).await })
    }
}

fn version(request: &Request) -> HttpVersion {
    match request.version() {
        ::http::Version::HTTP_2 => HttpVersion::Http2,
        ::http::Version::HTTP_3 => HttpVersion::Http3,
        _ => HttpVersion::Http1,
    }
}

/// 200, or 503 where something is wrong.
fn report(report: &Report) -> Response {
    let body = serde_json::to_vec(report).unwrap_or_default();
    let mut response = json(body, "application/json");
    if !report.is_ok() {
        *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    }
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// The fields of a request head that are valid HTTP header fields.
fn header_map(head: &RequestHead) -> HeaderMap {
    let fields = head.fields.iter().filter_map(|(name, value)| {
        Some((HeaderName::from_bytes(name).ok()?, HeaderValue::from_bytes(value).ok()?))
    });
    fields.collect()
}

fn json(body: impl Into<bytes::Bytes>, content_type: &'static str) -> Response {
    let mut response = Response::new(full(body));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}
