//! Unidirectional connections over gRPC: one call, whose request is the connect request and whose answer is the stream of
//! pushes.
//!
//! Frames have the prefix of gRPC's messages from the hub already. A gRPC library would want bodies that may change
//! threads, and would copy every message once more; here a call is a response like other streams, on its shard.
//!
//! Spec: gRPC over HTTP/2 (grpc/grpc doc/PROTOCOL-HTTP2.md); client protocol, "Unidirectional transports"

use ::http::{HeaderMap, HeaderValue, header};
use gyre_core::{
    hub::{Direction, Framing, WireForm},
    session::Pings,
};
use gyre_node::{ConnectionOptions, LocalShard, OpeningRequest, TransportKind};
use gyre_protocol::codec::{Encoding, protobuf::decode_connect_request};

use super::{
    body::{Opening, StreamBody},
    connect_command,
};
use crate::http::{
    Request, Response,
    grpc::{self, CONTENT_TYPE, Code, STATUS, Status},
};

/// The only call.
const CONSUME: &str = "/centrifugal.centrifugo.unistream.CentrifugoUniStream/Consume";
/// The node takes no more connections.
const FULL: Status = Status::new(Code::Unavailable, "connection limit reached");

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
    if let Some(response) = grpc::refuse(&request) {
        return response;
    }
    if request.uri().path() != CONSUME {
        return Status::UNKNOWN_METHOD.response();
    }
    let Some(opening) = admit(request.headers()) else {
        return FULL.response();
    };
    let message = grpc::read_message(request, settings.message_bytes_max).await;
    let connect = message.as_deref().map_err(Clone::clone).and_then(|message| {
        decode_connect_request(message).map_err(|error| {
            tracing::debug!(%error, "undecodable connect request");
            Status::MALFORMED
        })
    });
    match connect {
        Ok(connect) => {
            let stream = StreamBody::open(shard, stream(opening));
            stream.command(connect_command(connect));
            let mut response = Response::new(Box::pin(stream) as crate::http::Body);
            response.headers_mut().insert(header::CONTENT_TYPE, CONTENT_TYPE);
            response
        }
        Err(status) => status.response(),
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
