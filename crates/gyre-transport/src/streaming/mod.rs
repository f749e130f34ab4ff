//! Connections over plain HTTP: server-sent events and HTTP streaming, bidirectional and unidirectional.
//!
//! The response is one long body ([`body`]) fed from the connection's queue. The client's first commands come with the
//! request; the later ones of a bidirectional connection come by requests of their own ([`emulation`]). All of it is
//! independent of the HTTP version.
//!
//! Spec: client protocol, "SSE and HTTP streaming", "Unidirectional transports"; WHATWG HTML section 9.2

mod body;
pub mod emulation;
pub mod grpc;
mod query;

use ::http::{HeaderName, HeaderValue, Method, StatusCode, Version, header};
use bytes::Bytes;
use gyre_core::{
    hub::{Direction, Framing, WireForm},
    session::Pings,
};
use gyre_node::{ConnectionOptions, LocalShard, OpeningRequest, TransportKind};
use gyre_protocol::{
    Command, ConnectRequest, Disconnect, Request as CommandRequest,
    codec::{Encoding, json::decode_connect_request},
};

use crate::http::{BodyError, Request, Response, full, read_body, status};
use body::{Opening, StreamBody};

pub(crate) use query::parameter;

/// Query parameter that carries what a client without a body sends first.
pub(crate) const CONNECT_PARAMETER: &str = "cf_connect";
/// What an event stream begins with, so that the client sees the answer before there is an event.
const EVENT_STREAM_PREAMBLE: &[u8] = b"\r\n";
/// The client ended its request early; nobody is left to read the status.
const CLIENT_CLOSED_REQUEST: u16 = 499;

/// The endpoints of this module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is the transport of that name")]
pub enum Kind {
    Sse,
    HttpStream,
    UniSse,
    UniHttpStream,
}

/// What is configured of an endpoint.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Which one it is.
    pub kind: Kind,
    /// `max_request_body_size`: bytes of a request's body; more is answered with 413.
    pub request_bytes_max: usize,
    /// `connect_code_to_http_response`, if enabled: a refused connect is answered without a stream.
    pub refusals: Option<Refusals>,
}

/// How refused connects are answered.
#[derive(Clone, Debug, Default)]
pub struct Refusals(pub Vec<Refusal>);

/// The answer to a connect refused with one code.
#[derive(Clone, Debug)]
pub struct Refusal {
    /// Disconnect code.
    pub code: u32,
    /// Status of the answer.
    pub status: StatusCode,
    /// Its body; the reason of the disconnect if empty.
    pub body: Box<str>,
}

impl Refusals {
    fn answer(&self, disconnect: &Disconnect) -> Response {
        let Some(refusal) = self.0.iter().find(|refusal| refusal.code == disconnect.code) else {
            return status(StatusCode::INTERNAL_SERVER_ERROR, "Internal Server Error\n");
        };
        let text = if refusal.body.is_empty() { &*disconnect.reason } else { &*refusal.body };
        let mut response = Response::new(full(text.to_owned()));
        *response.status_mut() = refusal.status;
        response
    }
}

impl Kind {
    fn is_event_stream(self) -> bool {
        matches!(self, Self::Sse | Self::UniSse)
    }

    fn transport(self) -> TransportKind {
        match self {
            Self::Sse => TransportKind::Sse,
            Self::HttpStream => TransportKind::HttpStream,
            Self::UniSse => TransportKind::UniSse,
            Self::UniHttpStream => TransportKind::UniHttpStream,
        }
    }

    fn direction(self) -> Direction {
        match self {
            Self::Sse | Self::HttpStream => Direction::Bidirectional,
            Self::UniSse | Self::UniHttpStream => Direction::Unidirectional,
        }
    }

    fn form(self, encoding: Encoding) -> WireForm {
        WireForm {
            encoding,
            framing: if self.is_event_stream() { Framing::EventStream } else { Framing::Stream },
            direction: self.direction(),
            // Readers of a byte stream may decode each chunk by itself; those of events decode the stream.
            ascii: !self.is_event_stream() && encoding == Encoding::Json,
            deflate: None,
        }
    }

    /// Answers a request that is no connection. `None` if it is one.
    fn refuse_method(self, method: &Method) -> Option<Response> {
        match (*method == Method::POST, self.is_event_stream()) {
            (true, _) => None,
            (false, true) if *method == Method::GET => None,
            (false, true) => Some(method_not_allowed("GET, POST")),
            (false, false) if *method == Method::OPTIONS => Some(preflight()),
            (false, false) => Some(method_not_allowed("POST, OPTIONS")),
        }
    }
}

/// True if the request asks what it may do, and opens no connection.
pub fn is_preflight(method: &Method) -> bool {
    *method == Method::OPTIONS
}

/// Answers a request to one of the endpoints; its body is the connection.
pub async fn serve(
    request: Request,
    shard: &LocalShard,
    settings: &Settings,
    opening: OpeningRequest,
) -> Response {
    let kind = settings.kind;
    if let Some(response) = kind.refuse_method(request.method()) {
        return response;
    }
    let version = request.version();
    let is_protobuf = kind == Kind::HttpStream && is_octet_stream(&request);
    let encoding = if is_protobuf { Encoding::Protobuf } else { Encoding::Json };
    let first = match first_data(request, settings).await {
        Ok(first) => first,
        Err(response) => return *response,
    };
    let options = ConnectionOptions {
        transport: kind.transport(),
        form: kind.form(encoding),
        announces_disconnect: false,
        pings: Pings::Protocol,
        opening,
    };
    let opening = Opening {
        options,
        trailers: None,
        preamble: if kind.is_event_stream() { EVENT_STREAM_PREAMBLE } else { b"" },
        answers_refusals: settings.refusals.is_some(),
    };
    let stream = match kind.direction() {
        Direction::Bidirectional => {
            let stream = StreamBody::open(shard, opening);
            stream.receive_first(first);
            stream
        }
        Direction::Unidirectional => {
            let Ok(request) = decode_connect_request(&first) else {
                return status(StatusCode::BAD_REQUEST, "malformed connect request\n");
            };
            let stream = StreamBody::open(shard, opening);
            stream.command(connect_command(request));
            stream
        }
    };
    if let Some(refusals) = &settings.refusals
        && let Err(disconnect) = stream.begun().await
    {
        return refusals.answer(&disconnect);
    }
    head(kind, version, stream)
}

/// The connect request in a query, as JSON that can be decoded; none is an empty one. `None` if it cannot be decoded.
pub fn connect_request(query: &str) -> Option<Bytes> {
    let given = parameter(query, CONNECT_PARAMETER).filter(|given| !given.is_empty());
    let request = given.map_or(Bytes::from_static(b"{}"), Bytes::from);
    decode_connect_request(&request).is_ok().then_some(request)
}

/// The command a unidirectional client means by its connect request.
pub(crate) fn connect_command(request: ConnectRequest<'_>) -> Command<'_> {
    Command { id: 1, request: Some(CommandRequest::Connect(Box::new(request))) }
}

/// What the client sends with its request.
async fn first_data(request: Request, settings: &Settings) -> Result<Bytes, Box<Response>> {
    let kind = settings.kind;
    if *request.method() == Method::POST {
        return read_body(request.into_body(), settings.request_bytes_max)
            .await
            .map_err(|error| Box::new(unread(&error, kind.direction())));
    }
    match parameter(request.uri().query().unwrap_or(""), CONNECT_PARAMETER) {
        Some(value) if !value.is_empty() => Ok(value.into()),
        _ if kind == Kind::UniSse => Ok(Bytes::from_static(b"{}")),
        _ => Err(Box::new(status(StatusCode::BAD_REQUEST, "cf_connect is missing\n"))),
    }
}

/// The answer to a request whose body could not be read.
fn unread(error: &BodyError, direction: Direction) -> Response {
    match (error, direction) {
        (BodyError::TooLarge { .. }, _) => status(StatusCode::PAYLOAD_TOO_LARGE, "request body too large\n"),
        (BodyError::Incomplete { .. }, Direction::Unidirectional) => status(StatusCode::BAD_REQUEST, ""),
        (BodyError::Incomplete { .. }, Direction::Bidirectional) => {
            let status_code = StatusCode::from_u16(CLIENT_CLOSED_REQUEST);
            status(status_code.unwrap_or(StatusCode::BAD_REQUEST), "")
        }
    }
}

/// The head of a stream: not to be cached, and not to be collected by a proxy before it is passed on.
fn head(kind: Kind, version: Version, stream: StreamBody) -> Response {
    const EXPIRE: HeaderName = HeaderName::from_static("expire");
    const ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");
    let mut response = Response::new(Box::pin(stream) as crate::http::Body);
    let headers = response.headers_mut();
    let mut set = |name, value| headers.insert(name, HeaderValue::from_static(value));
    if kind.is_event_stream() {
        set(header::CONTENT_TYPE, "text/event-stream; charset=utf-8");
    }
    if version <= Version::HTTP_11 && kind.is_event_stream() {
        set(header::CONNECTION, "keep-alive");
    }
    set(header::CACHE_CONTROL, "private, no-cache, no-store, must-revalidate, max-age=0");
    set(header::PRAGMA, "no-cache");
    set(EXPIRE, "0");
    set(ACCEL_BUFFERING, "no");
    response
}

/// The answer to a page that asks whether it may send what needs asking.
///
/// Spec: WHATWG Fetch, "CORS-preflight request"
fn preflight() -> Response {
    let mut response = status(StatusCode::NO_CONTENT, "");
    let headers = response.headers_mut();
    headers.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("300"));
    headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("POST, OPTIONS"));
    response
}

fn method_not_allowed(allowed: &'static str) -> Response {
    let mut response = status(StatusCode::METHOD_NOT_ALLOWED, "");
    response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(allowed));
    response
}

/// The type without parameters that selects Protobuf.
fn is_octet_stream(request: &Request) -> bool {
    request.headers().get(header::CONTENT_TYPE).is_some_and(|kind| kind == "application/octet-stream")
}
