//! Unidirectional connections over gRPC: one call, whose request is the connect request and whose answer is the stream of
//! pushes.
//!
//! What gRPC adds to HTTP/2 for that is a prefix before each message, which frames have from the hub already, and a status
//! in the trailers. A gRPC library would want bodies that may change threads, and would copy every message once more;
//! here a call is a response like other streams, on its shard.
//!
//! Spec: gRPC over HTTP/2 (grpc/grpc doc/PROTOCOL-HTTP2.md); client protocol, "Unidirectional transports"

use ::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version, header};
use bytes::Bytes;
use gyre_core::{
    hub::{Direction, Framing, WireForm},
    session::Pings,
};
use gyre_node::{ConnectionOptions, LocalShard, OpeningRequest, TransportKind};
use gyre_protocol::codec::{Encoding, protobuf::decode_connect_request};

use super::{
    body::{Opening, StreamBody},
    connect_command, method_not_allowed,
};
use crate::http::{BodyError, Request, Response, full, read_body, status};

/// Calls on one HTTP/2 connection at a time; a client has to wait, or to open another connection.
pub const CALLS_MAX: u32 = 4096;
/// The only call.
const CONSUME: &str = "/centrifugal.centrifugo.unistream.CentrifugoUniStream/Consume";
/// A byte of flags, four of length.
const PREFIX_BYTES: usize = 5;
const CONTENT_TYPE: &str = "application/grpc";
const STATUS: HeaderName = HeaderName::from_static("grpc-status");
const MESSAGE: HeaderName = HeaderName::from_static("grpc-message");

const FORM: WireForm = WireForm {
    encoding: Encoding::Protobuf,
    framing: Framing::Grpc,
    direction: Direction::Unidirectional,
    ascii: false,
    deflate: None,
};

/// What is configured of the service.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `uni_grpc.max_receive_message_size`: bytes of the connect request; more is answered with RESOURCE_EXHAUSTED.
    pub message_bytes_max: usize,
}

/// Answers a call; its response is the connection. `admit` is asked before the request is read: what is to be known of
/// it, or `None` if there is no room.
pub async fn serve(
    request: Request,
    shard: &LocalShard,
    settings: &Settings,
    admit: impl FnOnce(&HeaderMap) -> Option<OpeningRequest>,
) -> Response {
    if let Some(response) = refuse(&request) {
        return response;
    }
    if request.uri().path() != CONSUME {
        return Refusal::UNKNOWN_METHOD.response();
    }
    let Some(opening) = admit(request.headers()) else {
        return Refusal::FULL.response();
    };
    let body = read_body(request.into_body(), PREFIX_BYTES.saturating_add(settings.message_bytes_max)).await;
    let message = body.map_err(Refusal::unread).and_then(only_message);
    let connect = message.as_deref().map_err(|refusal| *refusal).and_then(|message| {
        decode_connect_request(message).map_err(|error| {
            tracing::debug!(%error, "undecodable connect request");
            Refusal::MALFORMED
        })
    });
    match connect {
        Ok(connect) => {
            let stream = StreamBody::open(shard, stream(opening));
            stream.command(connect_command(connect));
            let mut response = Response::new(Box::pin(stream) as crate::http::Body);
            response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(CONTENT_TYPE));
            response
        }
        Err(refusal) => refusal.response(),
    }
}

fn stream(opening: OpeningRequest) -> Opening {
    Opening {
        options: ConnectionOptions {
            transport: TransportKind::UniGrpc,
            form: FORM,
            announces_disconnect: false,
            pings: Pings::Protocol,
            opening,
        },
        preamble: b"",
        // Why the connection ended was its last message: the call itself went well.
        trailers: Some(HeaderMap::from_iter([(STATUS, HeaderValue::from_static("0"))])),
        answers_refusals: false,
    }
}

/// Answers a request that is no gRPC, in words of HTTP.
fn refuse(request: &Request) -> Option<Response> {
    if request.version() < Version::HTTP_2 {
        return Some(status(StatusCode::HTTP_VERSION_NOT_SUPPORTED, "gRPC needs HTTP/2\n"));
    }
    if *request.method() != Method::POST {
        return Some(method_not_allowed("POST"));
    }
    let kind = request.headers().get(header::CONTENT_TYPE).map_or(&b""[..], |kind| kind.as_bytes());
    let is_grpc = kind.strip_prefix(CONTENT_TYPE.as_bytes()).is_some_and(|rest| match rest {
        [] | [b';', ..] => true,
        // The format of the messages: there is only one.
        [b'+', format @ ..] => format.starts_with(b"proto"),
        _ => false,
    });
    (!is_grpc)
        .then(|| status(StatusCode::UNSUPPORTED_MEDIA_TYPE, "the content type is not application/grpc\n"))
}

/// The message of a body that has exactly one.
fn only_message(body: Bytes) -> Result<Bytes, Refusal> {
    let Some((&[flags, a, b, c, d], message)) = body.split_first_chunk::<PREFIX_BYTES>() else {
        return Err(Refusal::MALFORMED);
    };
    match flags {
        0 if u32::from_be_bytes([a, b, c, d]) as usize == message.len() => Ok(body.slice(PREFIX_BYTES..)),
        1 => Err(Refusal::COMPRESSED),
        _ => Err(Refusal::MALFORMED),
    }
}

/// A call that gets no stream: its status.
///
/// Spec: grpc/grpc doc/statuscodes.md
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Refusal {
    code: u8,
    message: &'static str,
}

impl Refusal {
    const TOO_LARGE: Self = Self { code: 8, message: "the connect request exceeds the limit" };
    const UNKNOWN_METHOD: Self = Self { code: 12, message: "unknown method" };
    const COMPRESSED: Self = Self { code: 12, message: "compressed messages are not supported" };
    const MALFORMED: Self = Self { code: 13, message: "malformed connect request" };
    const FULL: Self = Self { code: 14, message: "connection limit reached" };

    fn unread(error: BodyError) -> Self {
        match error {
            BodyError::TooLarge { .. } => Self::TOO_LARGE,
            BodyError::Incomplete { .. } => Self::MALFORMED,
        }
    }

    /// An answer that consists of trailers only.
    fn response(self) -> Response {
        let mut response = Response::new(full(""));
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(CONTENT_TYPE));
        headers.insert(STATUS, HeaderValue::from(u16::from(self.code)));
        headers.insert(MESSAGE, HeaderValue::from_static(self.message));
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A body with one whole, uncompressed message gives it; all others have the status they deserve.
    #[test]
    fn a_body_has_one_message() {
        let message = |body: &'static [u8]| only_message(Bytes::from_static(body));
        assert_eq!(message(b"\0\0\0\0\0"), Ok(Bytes::new()));
        assert_eq!(message(b"\0\0\0\0\x02ab"), Ok(Bytes::from_static(b"ab")));
        assert_eq!(message(b"\x01\0\0\0\x02ab"), Err(Refusal::COMPRESSED));
        let malformed: [&[u8]; 5] =
            [b"", b"\0\0\0\0", b"\0\0\0\0\x02a", b"\0\0\0\0\x01ab", b"\x02\0\0\0\x02ab"];
        for body in malformed {
            assert_eq!(message(body), Err(Refusal::MALFORMED), "{body:?}");
        }
    }
}
