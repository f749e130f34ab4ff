//! The opening handshake.
//!
//! Spec: RFC 6455 section 4.2; RFC 8441 and RFC 9220 for HTTP/2 and 3

use ::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use aws_lc_rs::digest;
use base64::{Engine, engine::general_purpose::STANDARD};

use super::{Compression, deflate::Offer};
use crate::http::{Body, OriginPolicy, Request, Response, connect_protocol, status};

/// Subprotocols of the Centrifuge protocol; the second one selects Protobuf.
const SUBPROTOCOLS: [&str; 2] = ["centrifuge-json", super::PROTOBUF_SUBPROTOCOL];

/// A handshake that may be accepted.
#[derive(Debug)]
pub(super) struct Handshake {
    /// Of HTTP/1.1: its clients want to know that the server has read their key.
    accept: Option<HeaderValue>,
    pub(super) subprotocol: Option<&'static str>,
    /// The compression that the client offers; then what is agreed on.
    compression: Option<Offer>,
}

/// Checks the request and where it comes from.
///
/// # Errors
/// The answer that refuses it.
pub(super) fn admit(request: &Request, origins: &OriginPolicy) -> Result<Handshake, Box<Response>> {
    let handshake = match connect_protocol(request) {
        Some("websocket") => check_connect(request.headers())?,
        Some(_) => return Err(Box::new(status(StatusCode::NOT_IMPLEMENTED, "unknown protocol\n"))),
        None => check_upgrade(request.method(), request.headers())?,
    };
    match origins.allows(request.headers()) {
        true => Ok(handshake),
        false => Err(Box::new(status(StatusCode::FORBIDDEN, "origin not allowed\n"))),
    }
}

/// The handshake of HTTP/2 and 3 has neither a key nor fields of the hop.
///
/// Spec: RFC 8441 section 5
fn check_connect(headers: &HeaderMap) -> Result<Handshake, Box<Response>> {
    check_version(headers)?;
    Ok(Handshake::new(None, headers))
}

fn check_version(headers: &HeaderMap) -> Result<(), Box<Response>> {
    if headers.get(header::SEC_WEBSOCKET_VERSION).is_some_and(|version| version == "13") {
        return Ok(());
    }
    let mut response = status(StatusCode::UPGRADE_REQUIRED, "only WebSocket version 13 is spoken\n");
    response.headers_mut().insert(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
    Err(Box::new(response))
}

fn check_upgrade(method: &Method, headers: &HeaderMap) -> Result<Handshake, Box<Response>> {
    let refuse = |text| Err(Box::new(status(StatusCode::BAD_REQUEST, text)));
    if method != Method::GET {
        let mut response = status(StatusCode::METHOD_NOT_ALLOWED, "");
        response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET"));
        return Err(Box::new(response));
    }
    if !has_token(headers, header::CONNECTION, "upgrade") || !has_token(headers, header::UPGRADE, "websocket")
    {
        return refuse("this endpoint speaks WebSocket: Upgrade and Connection headers are missing\n");
    }
    check_version(headers)?;
    let Some(key) = headers.get(header::SEC_WEBSOCKET_KEY) else {
        return refuse("Sec-WebSocket-Key is missing\n");
    };
    if STANDARD.decode(key.as_bytes()).map_or(0, |key| key.len()) != 16 {
        return refuse("Sec-WebSocket-Key is not 16 bytes in base64\n");
    }
    let Ok(accept) = HeaderValue::try_from(accept_value(key.as_bytes())) else {
        return refuse("Sec-WebSocket-Key is malformed\n");
    };
    Ok(Handshake::new(Some(accept), headers))
}

impl Handshake {
    fn new(accept: Option<HeaderValue>, headers: &HeaderMap) -> Self {
        Self {
            accept,
            subprotocol: choose_subprotocol(headers),
            compression: super::deflate::offered(headers),
        }
    }

    /// What is agreed on if this is configured.
    pub(super) fn agree_on(&mut self, compression: Option<Compression>) -> Option<Compression> {
        self.compression = self.compression.filter(|_| compression.is_some());
        let offer = self.compression?;
        compression.map(|compression| offer.settle(compression))
    }

    /// The answer that accepts it, with the body that the upgrade wants.
    pub(super) fn response(self, body: Body) -> Response {
        let mut response = Response::new(body);
        if let Some(accept) = self.accept {
            *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
            let headers = response.headers_mut();
            headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
            headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
            headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
        }
        let headers = response.headers_mut();
        if let Some(subprotocol) = self.subprotocol {
            headers.insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(subprotocol));
        }
        if let Some(offer) = self.compression {
            headers.insert(header::SEC_WEBSOCKET_EXTENSIONS, offer.accepted());
        }
        response
    }
}

/// Spec: RFC 6455 section 4.2.2, item 5.4
fn accept_value(key: &[u8]) -> String {
    let mut context = digest::Context::new(&digest::SHA1_FOR_LEGACY_USE_ONLY);
    context.update(key);
    context.update(b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    STANDARD.encode(context.finish())
}

/// The first subprotocol the client lists that the server knows.
fn choose_subprotocol(headers: &HeaderMap) -> Option<&'static str> {
    let offered = headers.get_all(header::SEC_WEBSOCKET_PROTOCOL);
    let mut names = offered.iter().filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(','));
    names.find_map(|name| SUBPROTOCOLS.into_iter().find(|known| *known == name.trim()))
}

fn has_token(headers: &HeaderMap, name: HeaderName, token: &str) -> bool {
    let values = headers.get_all(name);
    let mut tokens = values.iter().filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(','));
    tokens.any(|value| value.trim().eq_ignore_ascii_case(token))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The accept value of the example in RFC 6455 section 1.3.
    #[test]
    fn accept_value_is_the_one_of_the_rfc() {
        assert_eq!(accept_value(b"dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }
}
