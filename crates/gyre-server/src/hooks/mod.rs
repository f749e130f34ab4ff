//! The application's hooks: questions to its backend as JSON over HTTP or Protobuf over gRPC, each bounded in time and
//! size.
//!
//! A hook is a file with what it asks and how it reads the answer ([`Hook`]); how it is called exists once, here. Calls
//! run on the control runtime, never on a shard.
//!
//! Spec: centrifugal.dev, "Proxy events from clients to the backend"; centrifugo `internal/proxy`.

mod cache_misses;
mod connect;
pub(crate) mod dial;
mod events;
mod grant;
mod grpc;
mod http;
mod map;
mod message;
mod ports;
mod publish;
mod refresh;
mod rpc;
mod shared_poll;
mod stream;
mod subscribe;
pub(crate) mod tls;

use std::{
    collections::HashMap,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use ::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri};
use arc_swap::ArcSwap;
use gyre_core::ports::{Answer, Caller, ConnectionHeaders, HookRefusal, RequestHeaders};
use gyre_protocol::ClientError;
use serde::Deserialize;
use tokio::{sync::Semaphore, time::timeout};

pub(crate) use self::http::HttpClient;
use self::message::{Failure, Fields, GrpcCall, Question, Reply, Unusable};
use self::{cache_misses::CacheMisses, dial::Dialer, stream::StreamClients, tls::Version};
pub use self::{
    http::CallError,
    tls::{ClientTls, ClientTlsError},
};
use crate::{metrics::HookMetrics, rate::RateLimit};

/// Lines logged a second about calls that fail: a backend that is down fails all of them.
const FAILURES_LOGGED_PER_SECOND: usize = 1;
/// Calls of one target that are under way at the same time, unless `concurrency_limit` says otherwise. Further ones wait
/// for their turn, within their own time.
const CALLS_MAX: usize = 4096;

/// Where and how a hook is called.
#[derive(Clone, Debug)]
pub struct Target {
    /// `endpoint`, with scheme `http` or `https`; over gRPC it says whether there is TLS, and has no path.
    pub endpoint: Uri,
    /// `endpoint`, if it names the path of a unix socket; over gRPC only.
    pub socket: Option<Arc<Path>>,
    /// `timeout`: from the first byte sent to the last one received.
    pub timeout: Duration,
    /// `concurrency_limit`: calls under way at the same time, and open subscription streams; 0 for the default.
    pub concurrency_limit: usize,
    /// `http.static_headers` or `grpc.static_metadata`.
    pub static_headers: HeaderMap,
    /// `http_headers`: headers of the client's request that are passed on.
    pub http_headers: Vec<HeaderName>,
    /// `grpc_metadata`: metadata of the client's gRPC call that is passed on.
    pub grpc_metadata: Vec<HeaderName>,
    /// `emulated_headers`: headers of the connect command that are passed on.
    pub emulated_headers: Vec<HeaderName>,
    /// `binary_encoding`: data is carried in base64.
    pub is_binary: bool,
    /// `include_connection_meta`.
    pub includes_meta: bool,
    /// `http.tls` or `grpc.tls`, if enabled.
    pub tls: Option<ClientTls>,
    /// How questions are carried, with what is configured of it alone.
    pub protocol: Protocol,
}

/// How questions get to the application.
#[derive(Clone, Debug)]
pub enum Protocol {
    /// JSON over HTTP.
    Http {
        /// `http.status_to_code_transforms`: statuses that are answers.
        transforms: Vec<(StatusCode, HookRefusal)>,
    },
    /// Protobuf over gRPC.
    Grpc {
        /// `grpc.credentials_key` and `grpc.credentials_value`: metadata that nothing replaces.
        credentials: Option<(HeaderName, HeaderValue)>,
        /// `grpc.compression`: questions are compressed.
        compresses: bool,
    },
}

impl Protocol {
    /// What metrics call it.
    fn name(&self) -> &'static str {
        match self {
            Self::Http { .. } => "http",
            Self::Grpc { .. } => "grpc",
        }
    }
}

/// Targets by the names that the rules refer to.
pub type Targets = HashMap<Box<str>, Target>;

/// Why targets cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("cannot set up TLS for the hook \"{hook}\": {error}")]
pub struct HookSetupError {
    /// Which target.
    pub hook: String,
    /// What is wrong.
    pub error: ClientTlsError,
}

impl HookSetupError {
    fn new(hook: &str, error: ClientTlsError) -> Self {
        Self { hook: hook.into(), error }
    }
}

/// One kind of question to the application.
trait Hook: Send + Sync + 'static {
    /// What it is called in logs and metrics.
    const NAME: &'static str;
    /// `result` of an answer.
    type Result<'a>: Deserialize<'a> + Fields<'a>;
    /// What the answer comes to.
    type Grant: Send + 'static;

    /// Adds what is asked to what every question says.
    fn ask<'a>(&'a self, question: Question<'a>) -> Question<'a>;

    /// How it is asked over gRPC.
    fn grpc(&self) -> GrpcCall;

    /// Reads an answer.
    fn read(reply: Reply<Self::Result<'_>>) -> Result<Self::Grant, Failure>;
}

/// A client that verifies hosts with TLS against the system's authorities.
pub(crate) fn system_client() -> Result<HttpClient, ClientTlsError> {
    tls::system().map(HttpClient::new)
}

/// Calls hooks. Cheap to clone.
#[derive(Clone)]
pub struct Hooks(Arc<Inner>);

struct Inner {
    client: HttpClient,
    table: ArcSwap<Table>,
    metrics: HookMetrics,
    failures_logged: RateLimit,
    cache_misses: CacheMisses,
}

/// Targets that can be used.
pub struct PreparedTargets(Table);

/// The targets in force.
struct Table {
    targets: HashMap<Box<str>, Arc<Called>>,
    /// Headers of requests that some target wants passed on.
    visible: Vec<HeaderName>,
    /// The same of metadata.
    visible_metadata: Vec<HeaderName>,
}

/// A target and the client it is called with.
struct Called {
    target: Target,
    client: HttpClient,
    /// One for each call that may be under way.
    permits: Semaphore,
    /// Over gRPC only.
    streams: Option<StreamClients>,
}

impl Hooks {
    /// A caller of these targets. Hosts with TLS are verified against the system's authorities, unless the target says
    /// otherwise.
    ///
    /// # Errors
    /// If TLS cannot be set up for a target.
    pub fn new(targets: Targets) -> Result<Self, HookSetupError> {
        let client = system_client().map_err(|error| HookSetupError::new("", error))?;
        let table = ArcSwap::from_pointee(Table::new(targets, &client)?);
        let failures_logged = RateLimit::new(FAILURES_LOGGED_PER_SECOND, Instant::now());
        Ok(Self(Arc::new(Inner {
            client,
            table,
            metrics: HookMetrics::default(),
            failures_logged,
            cache_misses: CacheMisses::default(),
        })))
    }

    /// Prepares other targets.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn prepare(&self, targets: Targets) -> Result<PreparedTargets, HookSetupError> {
        Ok(PreparedTargets(Table::new(targets, &self.0.client)?))
    }

    /// Uses other targets from now on. Calls under way end as they began.
    pub fn replace(&self, targets: PreparedTargets) {
        self.0.table.store(Arc::new(targets.0));
    }

    fn cache_misses(&self) -> &CacheMisses {
        &self.0.cache_misses
    }

    /// What is counted of calls.
    pub fn metrics(&self) -> &HookMetrics {
        &self.0.metrics
    }

    /// The headers of a request that opens a connection which hooks may see, if there are any.
    pub fn visible(&self, headers: &HeaderMap) -> Option<Arc<ConnectionHeaders>> {
        let request = select(headers, &self.0.table.load().visible);
        (!request.is_empty()).then(|| Arc::new(ConnectionHeaders { request, ..ConnectionHeaders::default() }))
    }

    /// The metadata of a gRPC call that opens a connection which hooks may see, if there is any.
    pub fn visible_metadata(&self, metadata: &HeaderMap) -> Option<Arc<ConnectionHeaders>> {
        let metadata = select(metadata, &self.0.table.load().visible_metadata);
        (!metadata.is_empty())
            .then(|| Arc::new(ConnectionHeaders { metadata, ..ConnectionHeaders::default() }))
    }

    /// Asks, and answers with error 100 where there is no usable answer.
    fn ask<H: Hook>(&self, name: &str, caller: Caller, hook: H) -> Answer<Result<H::Grant, HookRefusal>> {
        let (hooks, name): (_, Box<str>) = (self.clone(), name.into());
        Answer::Later(Box::pin(async move {
            hooks.call(&name, Some(&caller), &hook).await.map_err(|failure| match failure {
                Failure::Refused(refusal) => refusal,
                Failure::Unusable(_) => HookRefusal::Error(ClientError::INTERNAL),
            })
        }))
    }

    /// Asks. Failures are logged and counted here.
    async fn call<H: Hook>(
        &self,
        name: &str,
        caller: Option<&Caller>,
        hook: &H,
    ) -> Result<H::Grant, Failure> {
        let called = self.0.table.load().targets.get(name).cloned();
        let protocol = called.as_ref().map_or("http", |called| called.target.protocol.name());
        let calling = self.0.metrics.begin(protocol, H::NAME, name);
        let answer = match called {
            Some(called) => called.call(caller, hook).await,
            None => Err(Unusable(format!("the hook \"{name}\" is not configured")).into()),
        };
        if let Err(Failure::Unusable(Unusable(reason))) = &answer {
            calling.failed();
            if self.0.failures_logged.admits(Instant::now()) {
                tracing::warn!(hook = H::NAME, name, reason, "a hook gave no usable answer");
            }
        }
        answer
    }
}

/// The headers of these names, with all their values.
fn select(headers: &HeaderMap, names: &[HeaderName]) -> RequestHeaders {
    let values = |name| headers.get_all(name).iter().map(move |value| (name, value));
    let selected = names.iter().flat_map(values);
    selected.map(|(name, value)| (name.as_str().into(), value.as_bytes().into())).collect()
}

/// Each name once.
fn distinct<'a>(names: impl Iterator<Item = &'a HeaderName>) -> Vec<HeaderName> {
    let mut distinct: Vec<HeaderName> = Vec::new();
    for name in names {
        if !distinct.contains(name) {
            distinct.push(name.clone());
        }
    }
    distinct
}

impl Table {
    fn new(targets: Targets, client: &HttpClient) -> Result<Self, HookSetupError> {
        let visible = distinct(targets.values().flat_map(|target| &target.http_headers));
        let visible_metadata = distinct(targets.values().flat_map(|target| &target.grpc_metadata));
        let called = |(name, target): (Box<str>, Target)| {
            let unusable = |error| HookSetupError::new(&name, error);
            let mut streams = None;
            let client = match (&target.protocol, &target.tls) {
                (Protocol::Http { .. }, None) => client.clone(),
                (Protocol::Http { .. }, Some(settings)) => HttpClient::new(
                    tls::configured(settings, Version::Http1, Dialer::tcp()).map_err(unusable)?,
                ),
                // Without TLS no authority is asked for anything.
                (Protocol::Grpc { .. }, settings) => {
                    let settings = settings.clone().unwrap_or_else(ClientTls::trusting_nobody);
                    let connector =
                        tls::configured(&settings, Version::Http2, Dialer::of(target.socket.as_ref()))
                            .map_err(unusable)?;
                    streams = Some(StreamClients::new(connector.clone(), target.concurrency_limit));
                    HttpClient::http2(connector)
                }
            };
            let calls_max = match target.concurrency_limit {
                0 => CALLS_MAX,
                limit => limit.min(Semaphore::MAX_PERMITS),
            };
            let permits = Semaphore::new(calls_max);
            Ok((name, Arc::new(Called { target, client, permits, streams })))
        };
        let targets = targets.into_iter().map(called).collect::<Result<_, HookSetupError>>()?;
        Ok(Self { targets, visible, visible_metadata })
    }
}

impl Called {
    /// Calls when it is its turn. Whoever waits for that waits no longer than a call may take.
    async fn call<H: Hook>(&self, caller: Option<&Caller>, hook: &H) -> Result<H::Grant, Failure> {
        let began = Instant::now();
        // Never closed.
        let permit = timeout(self.target.timeout, self.permits.acquire()).await;
        let _permit = permit.map_err(|_| Unusable("too many calls are under way".into()))?;
        let left = self.target.timeout.saturating_sub(began.elapsed());
        match timeout(left, self.call_now(caller, hook)).await {
            Ok(answer) => answer,
            Err(_) => Err(Unusable(CallError::TimedOut(self.target.timeout).to_string()).into()),
        }
    }

    async fn call_now<H: Hook>(&self, caller: Option<&Caller>, hook: &H) -> Result<H::Grant, Failure> {
        let target = &self.target;
        let question = hook.ask(Question::about(caller, target));
        let headers = http::headers(target, caller.and_then(|caller| caller.headers.as_deref()));
        match &target.protocol {
            Protocol::Http { transforms } => {
                match self.client.post(target, headers, question.to_json()?).await {
                    Ok(answer) => H::read(Reply::parse(&answer)?),
                    Err(CallError::Status(status)) => {
                        match transforms.iter().find(|(known, _)| *known == status) {
                            Some((_, refusal)) => H::read(Reply::refusing(refusal.clone())),
                            None => Err(Unusable(CallError::Status(status).to_string()).into()),
                        }
                    }
                    Err(error) => Err(Unusable(error.to_string()).into()),
                }
            }
            Protocol::Grpc { credentials, compresses } => {
                let call = hook.grpc();
                let question = question.to_protobuf(&call);
                let request = grpc::request(target, call.path, headers, credentials, *compresses, &question);
                match self.client.call(request, target.timeout).await {
                    Ok(answer) => H::read(Reply::parse_protobuf(&answer)?),
                    Err(error) => Err(Unusable(error.to_string()).into()),
                }
            }
        }
    }
}

impl std::fmt::Debug for Hooks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hooks").field("targets", &self.0.table.load().targets.keys()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
