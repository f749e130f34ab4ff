//! Traces for OpenTelemetry: requests of the server API with what they publish, and calls of hooks.
//!
//! Spans go into a bounded queue and are exported by a task on the control runtime ([`otlp`]). A collector that is slow or
//! gone costs dropped spans and nothing else. Where traces are off, every call here is a look at an empty option.
//!
//! Spec: opentelemetry.io, "Tracing API"; W3C Trace Context

mod context;
mod options;
mod otlp;

use std::{
    borrow::Cow,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{SystemTime, UNIX_EPOCH},
};

use gyre_core::ports::Caller;
use gyre_protocol::api::Request;
use http::HeaderMap;
use tokio::{
    runtime::Handle,
    sync::{mpsc, oneshot},
};

pub use self::{
    context::TraceContext,
    options::{Protocol, Sampler, TelemetryOptions},
};
use crate::hooks::ClientTlsError;

/// Channels of one broadcast that have a span of their own; the others are told by their number.
const BROADCAST_SPANS_MAX: usize = 32;

/// `opentelemetry`, where it is enabled; the rest is in the environment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traces {
    /// `api`: requests of the server API are traced.
    pub api: bool,
}

/// Records spans, or nothing. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Telemetry(Option<Arc<Inner>>);

#[derive(Debug)]
struct Inner {
    queue: mpsc::Sender<Item>,
    sampler: Sampler,
    traces_api: bool,
    dropped: Arc<AtomicU64>,
}

/// What the exporter is given.
#[derive(Debug)]
enum Item {
    Span(Box<SpanData>),
    /// Everything before it is to be exported now.
    Flush(oneshot::Sender<()>),
}

/// A span that has ended.
#[derive(Debug)]
struct SpanData {
    context: TraceContext,
    parent: Option<[u8; 8]>,
    name: Cow<'static, str>,
    kind: SpanKind,
    start_unix_ns: u64,
    end_unix_ns: u64,
    attributes: Vec<(&'static str, Attribute)>,
    /// What went wrong.
    error: Option<String>,
}

/// What an attribute says.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Attribute {
    Text(Cow<'static, str>),
    Number(i64),
}

impl From<&'static str> for Attribute {
    fn from(text: &'static str) -> Self {
        Self::Text(Cow::Borrowed(text))
    }
}

impl From<String> for Attribute {
    fn from(text: String) -> Self {
        Self::Text(Cow::Owned(text))
    }
}

impl From<i64> for Attribute {
    fn from(number: i64) -> Self {
        Self::Number(number)
    }
}

/// Which side of what a span is. The numbers are those of OTLP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SpanKind {
    Internal = 1,
    Server = 2,
    Client = 3,
    Producer = 4,
}

tokio::task_local! {
    /// The request this task answers.
    static CURRENT: (Telemetry, TraceContext);
}

/// A span that is under way; recorded when it is dropped.
#[derive(Debug, Default)]
pub struct Span(Option<Box<Active>>);

#[derive(Debug)]
struct Active {
    telemetry: Telemetry,
    context: TraceContext,
    data: Mutex<Option<Box<SpanData>>>,
}

impl Span {
    /// What others refer to it by; `None` where nothing is recorded and nobody asked.
    pub fn context(&self) -> Option<&TraceContext> {
        self.0.as_ref().map(|active| &active.context)
    }

    /// It went wrong.
    pub fn fail(&self, reason: &str) {
        self.change(|data| data.error = Some(reason.to_owned()));
    }

    /// Adds what is known of it.
    fn attribute(&self, name: &'static str, value: impl Into<Attribute>) {
        self.change(|data| data.attributes.push((name, value.into())));
    }

    fn change(&self, change: impl FnOnce(&mut SpanData)) {
        if let Some(active) = &self.0
            && let Some(data) = active.data.lock().unwrap_or_else(PoisonError::into_inner).as_mut()
        {
            change(data);
        }
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        if let Some(mut data) = self.data.get_mut().unwrap_or_else(PoisonError::into_inner).take() {
            data.end_unix_ns = unix_ns();
            self.telemetry.record(data);
        }
    }
}

impl Telemetry {
    /// Records, and exports on that runtime.
    ///
    /// # Errors
    /// If the collector's authorities cannot be used.
    pub fn start(options: TelemetryOptions, control: &Handle) -> Result<Self, ClientTlsError> {
        let (queue, items) = mpsc::channel(options.queue_max);
        let dropped = Arc::<AtomicU64>::default();
        let inner =
            Inner { queue, sampler: options.sampler, traces_api: options.api, dropped: dropped.clone() };
        let exporter = otlp::Exporter::new(options, dropped)?;
        drop(control.spawn(exporter.run(items)));
        Ok(Self(Some(Arc::new(inner))))
    }

    /// Has everything exported that has ended by now.
    pub async fn flush(&self) {
        let Some(inner) = &self.0 else { return };
        let (done, flushed) = oneshot::channel();
        if inner.queue.send(Item::Flush(done)).await.is_ok() {
            // An exporter that is gone has nothing to wait for.
            drop(flushed.await);
        }
    }

    /// Answers a request of the server API within a span, below the one its headers name. `path` is that of an endpoint.
    pub async fn serve<T>(
        &self,
        protocol: &'static str,
        path: String,
        headers: &HeaderMap,
        answer: impl Future<Output = T>,
        status: impl FnOnce(&T) -> u16,
    ) -> T {
        if !self.0.as_ref().is_some_and(|inner| inner.traces_api) {
            return answer.await;
        }
        let parent = TraceContext::read(headers);
        let span = self.span(path, SpanKind::Server, parent.as_ref());
        span.attribute("rpc.system", protocol);
        let Some(context) = span.context().cloned() else { return answer.await };
        let answer = CURRENT.scope((self.clone(), context), answer).await;
        let status = status(&answer);
        if status != 0 {
            span.attribute("http.response.status_code", i64::from(status));
        }
        if status >= 500 {
            span.fail("the request failed");
        }
        answer
    }

    /// The call of a hook, below what the client's own request was part of, if that is known.
    pub fn hook(
        &self,
        kind: &'static str,
        name: &str,
        protocol: &'static str,
        caller: Option<&Caller>,
    ) -> Span {
        if self.0.is_none() {
            return Span::default();
        }
        let parent = caller.and_then(trace_of);
        let span = self.span(format!("hook {kind}"), SpanKind::Client, parent.as_ref());
        span.attribute("rpc.system", protocol);
        span.attribute("centrifugo.proxy.name", name.to_owned());
        if let Some(caller) = caller {
            span.attribute("centrifugo.client", caller.client.to_string());
            span.attribute("centrifugo.transport", caller.transport);
        }
        span
    }

    fn span(
        &self,
        name: impl Into<Cow<'static, str>>,
        kind: SpanKind,
        parent: Option<&TraceContext>,
    ) -> Span {
        let Some(inner) = &self.0 else { return Span::default() };
        let trace_id = parent.map_or_else(|| nonzero(rand::random), |parent| parent.trace_id);
        let is_sampled = inner.sampler.samples(&trace_id, parent.map(|parent| parent.is_sampled));
        let state = parent.and_then(|parent| parent.state.clone());
        let context = TraceContext { trace_id, span_id: nonzero(rand::random), is_sampled, state };
        let data = is_sampled.then(|| {
            Box::new(SpanData {
                context: context.clone(),
                parent: parent.map(|parent| parent.span_id),
                name: name.into(),
                kind,
                start_unix_ns: unix_ns(),
                end_unix_ns: 0,
                attributes: Vec::new(),
                error: None,
            })
        });
        let telemetry = self.clone();
        Span(Some(Box::new(Active { telemetry, context, data: Mutex::new(data) })))
    }

    fn record(&self, data: Box<SpanData>) {
        if let Some(inner) = &self.0
            && inner.queue.try_send(Item::Span(data)).is_err()
        {
            inner.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// What an operation of the API does, as spans below the request; `None` outside a traced one. A publication is a span of
/// its own, each channel of a broadcast as well.
pub(crate) fn operation(request: &Request<'_>) -> Option<Operation> {
    let (telemetry, parent) = CURRENT.try_with(Clone::clone).ok()?;
    let span = telemetry.span(request.method().name(), SpanKind::Internal, Some(&parent));
    let publish = |channel: &str| {
        let publication = telemetry.span("publication", SpanKind::Producer, span.context());
        publication.attribute("messaging.system", "centrifugo");
        publication.attribute("messaging.destination.name", channel.to_owned());
        publication
    };
    let publications = match request {
        Request::Publish(request) => vec![publish(&request.channel)],
        Request::Broadcast(request) => {
            span.attribute("messaging.batch.message_count", request.channels.len() as i64);
            request.channels.iter().take(BROADCAST_SPANS_MAX).map(|channel| publish(channel)).collect()
        }
        _ => Vec::new(),
    };
    Some(Operation { publications, span })
}

/// An operation that is under way.
#[derive(Debug)]
pub(crate) struct Operation {
    /// They end with it, and before it.
    publications: Vec<Span>,
    span: Span,
}

impl Operation {
    /// It went wrong.
    pub(crate) fn fail(&self, reason: &str) {
        self.span.fail(reason);
        self.publications.iter().for_each(|publication| publication.fail(reason));
    }
}

/// The trace that a client's own request was part of, if hooks may see it: listed in `http_headers` or `grpc_metadata`,
/// or given by the connect command.
fn trace_of(caller: &Caller) -> Option<TraceContext> {
    let headers = caller.headers.as_deref()?;
    let request = headers.request.iter().chain(&headers.metadata);
    let request = request.map(|(name, value)| (&**name, &**value));
    let emulated = headers.emulated.iter().map(|(name, value)| (&**name, value.as_bytes()));
    let mut all = request.chain(emulated);
    all.find(|(name, _)| *name == "traceparent").and_then(|(_, value)| TraceContext::parse(value))
}

/// A random id; zero is none.
fn nonzero<const N: usize>(random: impl Fn() -> [u8; N]) -> [u8; N] {
    loop {
        let id = random();
        if id != [0; N] {
            return id;
        }
    }
}

fn unix_ns() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
