//! Streams of gRPC that feed subscriptions, and take what their clients publish.
//!
//! A stream is read only as fast as its client takes what comes: HTTP/2 holds the application back meanwhile. Streams
//! have connections of their own, so that neither they nor unary calls wait for one another.
//!
//! Spec: centrifugo `internal/proxyproto/proxy.proto`, SubscribeUnidirectional and SubscribeBidirectional; gRPC over
//! HTTP/2 (grpc/grpc doc/PROTOCOL-HTTP2.md)

use std::{
    collections::BTreeMap,
    convert::Infallible,
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::{Duration, Instant},
};

use bytes::{Buf, Bytes, BytesMut};
use gyre_core::ports::{
    Answer, Caller, EngineError, HookRefusal, OpenStream, StreamEnd, StreamRequest, StreamSink, StreamSource,
    SubscriptionStreams,
};
use gyre_protocol::{
    ClientError, Payload, Publication,
    codec::{
        DecodeError,
        protobuf::wire::{Message, each_field},
    },
};
use gyre_transport::http::grpc::{ENCODING, GZIP, MESSAGE_BYTES_MAX, framed, framed_gzip, only_message};
use http_body::{Body, Frame};
use hyper::body::Incoming;
use hyper_util::{
    client::legacy::Client,
    rt::{TokioExecutor, TokioTimer},
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    time::timeout,
};

use super::{
    Called, Hook, Hooks, Protocol, grpc,
    http::{self, CallError, KEEP_ALIVE_INTERVAL},
    message::{Failure, Question, Reply, Unusable, add_tag},
    subscribe::Subscribe,
    tls::Connector,
};

/// Streams that one target may have open, unless `concurrency_limit` says otherwise.
const STREAMS_MAX: usize = 65_536;
/// Streams on one connection: as many as every server of HTTP/2 is expected to allow.
///
/// Spec: RFC 9113 section 6.5.2
const STREAMS_PER_CONNECTION: usize = 100;
/// What a stream may send before it is read; a connection has room for all of its streams, so that one whose client is
/// slow does not hold the others.
const WINDOW_BYTES: u32 = 64 << 10;
/// Publications of a client that wait for the application at most.
const UPWARD_MAX: usize = 16;
/// Bytes before a message of gRPC.
const PREFIX_BYTES: usize = 5;

type StreamClient = Client<Connector, Upward>;

/// The connections of one target's streams.
pub(super) struct StreamClients {
    connector: Connector,
    /// One connection each; as many streams as there are references beside the first.
    clients: Mutex<Vec<Arc<StreamClient>>>,
    permits: Arc<Semaphore>,
}

impl StreamClients {
    /// Connections as the connector makes them, for `limit` streams; 0 stands for the default.
    pub(super) fn new(connector: Connector, limit: usize) -> Self {
        let limit = if limit == 0 { STREAMS_MAX } else { limit.min(Semaphore::MAX_PERMITS) };
        Self { connector, clients: Mutex::default(), permits: Arc::new(Semaphore::new(limit)) }
    }

    /// A connection with room for a stream.
    fn client(&self) -> Arc<StreamClient> {
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        // Whoever was not needed for the last stream is not needed at all: the pool closes it.
        let mut kept = 0;
        clients.retain(|client| Arc::strong_count(client) > 1 || std::mem::replace(&mut kept, 1) == 0);
        if let Some(client) =
            clients.iter().find(|client| Arc::strong_count(client) <= STREAMS_PER_CONNECTION)
        {
            return client.clone();
        }
        let client = Client::builder(TokioExecutor::new())
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            .http2_only(true)
            .http2_keep_alive_interval(KEEP_ALIVE_INTERVAL)
            .http2_initial_stream_window_size(WINDOW_BYTES)
            .http2_initial_connection_window_size(WINDOW_BYTES * STREAMS_PER_CONNECTION as u32)
            .build(self.connector.clone());
        let client = Arc::new(client);
        clients.push(client.clone());
        client
    }
}

impl SubscriptionStreams for Hooks {
    fn open(
        &self,
        hook: &str,
        caller: Caller,
        request: StreamRequest,
    ) -> Answer<Result<OpenStream, HookRefusal>> {
        let (hooks, name): (_, Box<str>) = (self.clone(), hook.into());
        Answer::Later(Box::pin(async move {
            hooks.open_stream(&name, &caller, request).await.map_err(|failure| match failure {
                Failure::Refused(refusal) => refusal,
                Failure::Unusable(_) => HookRefusal::Error(ClientError::INTERNAL),
            })
        }))
    }
}

/// What streams are called in logs and metrics.
const NAME: &str = "subscribe_stream";

impl Hooks {
    async fn open_stream(
        &self,
        name: &str,
        caller: &Caller,
        request: StreamRequest,
    ) -> Result<OpenStream, Failure> {
        let called = self.0.table.load().targets.get(name).cloned();
        let calling = self.0.metrics.begin("grpc", NAME, name);
        let opened = match called {
            Some(called) => called.open_stream(caller, request).await,
            None => Err(Unusable(format!("the hook \"{name}\" is not configured")).into()),
        };
        if let Err(Failure::Unusable(Unusable(reason))) = &opened {
            calling.failed();
            if self.0.failures_logged.admits(Instant::now()) {
                tracing::warn!(hook = NAME, name, reason, "a hook gave no usable answer");
            }
        }
        opened
    }
}

impl Called {
    async fn open_stream(&self, caller: &Caller, request: StreamRequest) -> Result<OpenStream, Failure> {
        let target = &self.target;
        let (Some(streams), Protocol::Grpc { credentials, compresses }) = (&self.streams, &target.protocol)
        else {
            return Err(Unusable("streams need a gRPC endpoint".into()).into());
        };
        let permit = streams.permits.clone().try_acquire_owned();
        let permit = permit.map_err(|_| Unusable("as many streams are open as may be".into()))?;
        let client = streams.client();

        let hook = Subscribe { channel: request.channel, data: request.data };
        let call = hook.grpc();
        let mut question = hook.ask(Question::about(Some(caller), target)).to_protobuf(&call);
        let method = if request.is_bidirectional { BIDIRECTIONAL } else { UNIDIRECTIONAL };
        if request.is_bidirectional {
            question = nested(1, &question);
        }
        let (upward, rest) = mpsc::channel(UPWARD_MAX);
        let body = Upward {
            first: Some(prefixed(&question, *compresses)),
            rest: request.is_bidirectional.then_some(rest),
        };
        let headers = http::headers(target, caller.headers.as_deref());
        let opening = grpc::stream(target, method, headers, credentials, *compresses, body);
        let opened = timeout(target.timeout, async {
            let sent = client.request(opening).await;
            let response = sent.map_err(|error| CallError::Unreachable(http::causes(&error)))?;
            let is_gzip = response.headers().get(ENCODING) == Some(&GZIP);
            let body = grpc::opened(response)?;
            let mut messages = Messages { body, is_gzip, buffer: BytesMut::new(), end: None };
            let first = messages.first().await?;
            Ok::<_, CallError>((messages, first))
        });
        let opened = opened.await.unwrap_or(Err(CallError::TimedOut(target.timeout)));
        let (messages, first) = opened.map_err(|error| Unusable(error.to_string()))?;
        let answer = answer_in(&first)?;
        let grant = Subscribe::read(Reply::parse_protobuf(&answer)?)?;
        let sink = request.is_bidirectional.then(|| {
            let sink = Sink { upward, timeout: target.timeout, compresses: *compresses };
            Arc::new(sink) as Arc<dyn StreamSink>
        });
        let source = Box::new(Source { messages, _client: client, _permit: permit });
        Ok(OpenStream { grant, source, sink })
    }
}

const UNIDIRECTIONAL: &str = "/centrifugal.centrifugo.proxy.CentrifugoProxy/SubscribeUnidirectional";
const BIDIRECTIONAL: &str = "/centrifugal.centrifugo.proxy.CentrifugoProxy/SubscribeBidirectional";

/// A message within another one's field.
fn nested(number: u64, message: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(message.len() + 8);
    Message::new(&mut out).bytes(number, message);
    out
}

fn prefixed(message: &[u8], compresses: bool) -> Bytes {
    Bytes::from(match compresses {
        true => framed_gzip(message),
        false => framed(|out| out.extend_from_slice(message)),
    })
}

/// The answer in a stream's first message.
fn answer_in(message: &Bytes) -> Result<Bytes, Unusable> {
    let mut answer = None;
    let read = each_field(message, |number, value| {
        if number == 1 {
            answer = Some(message.slice_ref(value.bytes()?));
        }
        Ok(())
    });
    read.map_err(|error| Unusable(format!("the answer cannot be read: {error}")))?;
    answer.ok_or_else(|| Unusable("the stream's first message is no answer".into()))
}

/// The publication in a later message, if there is one.
fn publication_in(message: &[u8]) -> Result<Option<Publication>, DecodeError> {
    let mut publication = None;
    each_field(message, |number, value| {
        if number == 2 {
            let (mut data, mut tags) = (Payload::default(), BTreeMap::new());
            each_field(value.bytes()?, |number, value| {
                match number {
                    4 => data = Payload::new(value.bytes()?.to_vec()),
                    7 => add_tag(&mut tags, value)?,
                    _ => {}
                }
                Ok(())
            })?;
            publication =
                Some(Publication { data, tags: tags.into_iter().collect(), ..Publication::default() });
        }
        Ok(())
    })?;
    Ok(publication)
}

/// What comes by a stream, message by message.
struct Messages {
    body: Incoming,
    is_gzip: bool,
    buffer: BytesMut,
    end: Option<StreamEnd>,
}

impl Messages {
    async fn first(&mut self) -> Result<Bytes, CallError> {
        loop {
            if let Some(message) = self.take()? {
                return Ok(message);
            }
            if self.end.is_some() {
                return Err(CallError::Body("the stream ended before its answer".into()));
            }
            self.read().await?;
        }
    }

    /// A message that is there as a whole.
    fn take(&mut self) -> Result<Option<Bytes>, CallError> {
        let Some(&[_, a, b, c, d]) = self.buffer.first_chunk::<PREFIX_BYTES>() else { return Ok(None) };
        let length = u32::from_be_bytes([a, b, c, d]) as usize;
        if length > MESSAGE_BYTES_MAX {
            return Err(CallError::Body("a message is too long".into()));
        }
        if self.buffer.len() < PREFIX_BYTES + length {
            return Ok(None);
        }
        let framed = self.buffer.split_to(PREFIX_BYTES + length).freeze();
        let message = only_message(framed, self.is_gzip, MESSAGE_BYTES_MAX);
        message.map(Some).map_err(|status| CallError::Body(status.message.into_owned()))
    }

    /// Reads on, or to the end.
    async fn read(&mut self) -> Result<(), CallError> {
        let frame = std::future::poll_fn(|cx| Pin::new(&mut self.body).poll_frame(cx)).await;
        match frame {
            None => Err(CallError::Body("it has no gRPC status".into())),
            Some(Err(error)) => Err(CallError::Body(error.to_string())),
            Some(Ok(frame)) => match frame.into_data() {
                Ok(data) => {
                    self.buffer.extend_from_slice(data.chunk());
                    Ok(())
                }
                Err(frame) => {
                    let trailers = frame.into_trailers().unwrap_or_default();
                    grpc::status(&trailers)
                        .unwrap_or_else(|| Err(CallError::Body("it has no gRPC status".into())))?;
                    self.end = Some(StreamEnd::Complete);
                    Ok(())
                }
            },
        }
    }

    /// Everything that is there.
    fn publications(&mut self) -> Result<Vec<Publication>, CallError> {
        let mut publications = Vec::new();
        while let Some(message) = self.take()? {
            let read = publication_in(&message);
            publications.extend(read.map_err(|error| CallError::Body(error.to_string()))?);
        }
        Ok(publications)
    }

    async fn next(&mut self) -> Result<Vec<Publication>, StreamEnd> {
        loop {
            if let Some(end) = self.end.filter(|_| self.buffer.is_empty()) {
                return Err(end);
            }
            let publications = match self.publications() {
                Ok(publications) if publications.is_empty() && self.end.is_none() => {
                    match self.read().await {
                        Ok(()) => continue,
                        Err(error) => Err(error),
                    }
                }
                // What is left is half a message.
                Ok(publications) if publications.is_empty() && !self.buffer.is_empty() => {
                    Err(CallError::Body("it breaks off".into()))
                }
                other => other,
            };
            match publications {
                Ok(publications) if publications.is_empty() => {}
                Ok(publications) => return Ok(publications),
                Err(error) => {
                    tracing::debug!(%error, "a subscription stream broke");
                    self.buffer.clear();
                    self.end = Some(StreamEnd::Broken);
                }
            }
        }
    }
}

struct Source {
    messages: Messages,
    /// Counted by its references.
    _client: Arc<StreamClient>,
    _permit: OwnedSemaphorePermit,
}

impl StreamSource for Source {
    fn next(&mut self) -> Pin<Box<dyn Future<Output = Result<Vec<Publication>, StreamEnd>> + Send + '_>> {
        Box::pin(self.messages.next())
    }
}

struct Sink {
    upward: mpsc::Sender<Bytes>,
    timeout: Duration,
    compresses: bool,
}

impl StreamSink for Sink {
    fn send(&self, data: Payload) -> Answer<Result<(), EngineError>> {
        // StreamSubscribeRequest { publication (2): { data (4) } }
        let message = nested(2, &nested(4, data.bytes()));
        let message = prefixed(&message, self.compresses);
        let unavailable = |reason: &str| EngineError::Unavailable { reason: reason.into() };
        match self.upward.try_send(message) {
            Ok(()) => Answer::Ready(Ok(())),
            Err(mpsc::error::TrySendError::Closed(_)) => {
                Answer::Ready(Err(unavailable("the stream has ended")))
            }
            Err(mpsc::error::TrySendError::Full(message)) => {
                let (upward, limit) = (self.upward.clone(), self.timeout);
                Answer::Later(Box::pin(async move {
                    match timeout(limit, upward.send(message)).await {
                        Ok(Ok(())) => Ok(()),
                        Ok(Err(_)) => Err(unavailable("the stream has ended")),
                        Err(_) => Err(unavailable("the stream takes nothing")),
                    }
                }))
            }
        }
    }
}

/// What goes up a stream: the question, then publications, if there may be any.
pub(super) struct Upward {
    first: Option<Bytes>,
    rest: Option<mpsc::Receiver<Bytes>>,
}

impl Body for Upward {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if let Some(first) = self.first.take() {
            return Poll::Ready(Some(Ok(Frame::data(first))));
        }
        let Some(rest) = &mut self.rest else { return Poll::Ready(None) };
        rest.poll_recv(cx).map(|message| message.map(|message| Ok(Frame::data(message))))
    }

    fn is_end_stream(&self) -> bool {
        self.first.is_none() && self.rest.is_none()
    }
}

impl std::fmt::Debug for StreamClients {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let free = self.permits.available_permits();
        f.debug_struct("StreamClients").field("free", &free).finish_non_exhaustive()
    }
}
