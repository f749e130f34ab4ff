//! Commands of clients whose stream runs one way only: each request carries some for the session it names.
//!
//! The session's secret is all the authorization there is. What the commands bring about comes by the session's stream;
//! the answer here says no more than that they were handed in.
//!
//! Spec: client protocol, "SSE and HTTP streaming", `/emulation`

use ::http::{Method, StatusCode};
use bytes::Bytes;
use gyre_core::hub::Direction;
use gyre_node::{Node, Received};
use gyre_protocol::codec::Encoding;

use super::{is_octet_stream, method_not_allowed, preflight, unread};
use crate::http::{Request, Response, read_body, status};

/// What is configured of the endpoint.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `emulation.max_request_body_size`: bytes of a request's body; more is answered with 413.
    pub request_bytes_max: usize,
}

/// Answers a request to the endpoint once its commands are handed in.
///
/// A session nobody knows gets the same answer as one that is there: clients rely on it, and nothing is told to those
/// who guess.
pub async fn serve(request: Request, node: &Node, settings: &Settings) -> Response {
    match *request.method() {
        Method::POST => {}
        Method::OPTIONS => return preflight(),
        _ => return method_not_allowed("POST, OPTIONS"),
    }
    let encoding = if is_octet_stream(&request) { Encoding::Protobuf } else { Encoding::Json };
    let body = match read_body(request.into_body(), settings.request_bytes_max).await {
        Ok(body) => body,
        Err(error) => return unread(&error, Direction::Bidirectional),
    };
    let request = match encoding.decode_emulation_request(&body) {
        Ok(request) => request,
        Err(error) => {
            tracing::debug!(%error, "undecodable emulation request");
            return status(StatusCode::BAD_REQUEST, "malformed emulation request\n");
        }
    };
    if *request.node != *node.info.uid {
        return status(StatusCode::NOT_FOUND, "unknown node\n");
    }
    if let Some(commands) = request.data {
        let received = node.receive(&request.session, Bytes::from(commands.into_owned())).await;
        if received == Received::Unknown {
            tracing::debug!("commands for a session that is not here");
        }
    }
    status(StatusCode::NO_CONTENT, "")
}
