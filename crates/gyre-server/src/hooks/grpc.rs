//! One call over gRPC: a request of HTTP/2 whose answer ends with a status.
//!
//! Spec: gRPC over HTTP/2 (grpc/grpc doc/PROTOCOL-HTTP2.md)

use bytes::Bytes;
use gyre_transport::http::grpc::{
    ACCEPT_ENCODING, ENCODING, GZIP, MESSAGE, STATUS, framed, framed_gzip, only_message,
};
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri, header, uri::PathAndQuery,
};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;

use super::{CallError, Target};

const TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");

/// The request of a call with one message, which is given up on both ends when its time is over.
pub(super) fn request(
    target: &Target,
    path: &'static str,
    mut metadata: HeaderMap,
    credentials: &Option<(HeaderName, HeaderValue)>,
    compresses: bool,
    message: &[u8],
) -> Request<Full<Bytes>> {
    // At most eight digits: a longer time does not matter.
    let milliseconds = target.timeout.as_millis().clamp(1, 99_999_999);
    if let Ok(timeout) = HeaderValue::try_from(format!("{milliseconds}m")) {
        metadata.insert(TIMEOUT, timeout);
    }
    let body = match compresses {
        true => framed_gzip(message),
        false => framed(|out| out.extend_from_slice(message)),
    };
    stream(target, path, metadata, credentials, compresses, Full::new(Bytes::from(body)))
}

/// The request of a call, whatever its messages. What belongs to gRPC itself is not replaced by metadata.
pub(super) fn stream<B>(
    target: &Target,
    path: &'static str,
    mut metadata: HeaderMap,
    credentials: &Option<(HeaderName, HeaderValue)>,
    compresses: bool,
    body: B,
) -> Request<B> {
    if let Some((name, value)) = credentials {
        metadata.insert(name.clone(), value.clone());
    }
    metadata.insert(header::TE, HeaderValue::from_static("trailers"));
    metadata.insert(ACCEPT_ENCODING, GZIP);
    match compresses {
        true => drop(metadata.insert(ENCODING, GZIP)),
        false => drop(metadata.remove(ENCODING)),
    }
    let mut request = Request::new(body);
    *request.method_mut() = Method::POST;
    *request.uri_mut() = with_path(&target.endpoint, path);
    *request.headers_mut() = metadata;
    request
}

fn with_path(endpoint: &Uri, path: &'static str) -> Uri {
    let mut parts = endpoint.clone().into_parts();
    parts.path_and_query = Some(PathAndQuery::from_static(path));
    Uri::from_parts(parts).unwrap_or_default()
}

/// The message of an answer.
///
/// # Errors
/// If it has none, ends with another status than 0, or is too long.
pub(super) async fn answer(response: Response<Incoming>, bytes_max: usize) -> Result<Bytes, CallError> {
    let is_gzip = response.headers().get(ENCODING) == Some(&GZIP);
    let body = Limited::new(opened(response)?, bytes_max).collect().await;
    let body = body.map_err(|error| CallError::Body(error.to_string()))?;
    match body.trailers().and_then(status) {
        Some(ended) => ended?,
        None => return Err(CallError::Body("it has no gRPC status".into())),
    }
    let message = only_message(body.to_bytes(), is_gzip, bytes_max);
    message.map_err(|status| CallError::Body(status.message.into_owned()))
}

/// The body of an answer that has not failed at its beginning.
///
/// # Errors
/// If it has.
pub(super) fn opened(response: Response<Incoming>) -> Result<Incoming, CallError> {
    if response.status() != StatusCode::OK {
        return Err(CallError::Status(response.status()));
    }
    // An answer without message may have its status at the front.
    status(response.headers()).unwrap_or(Ok(()))?;
    Ok(response.into_body())
}

/// How a call ended, if these headers tell.
pub(super) fn status(headers: &HeaderMap) -> Option<Result<(), CallError>> {
    let code = headers.get(STATUS)?.to_str().ok().and_then(|code| code.parse().ok());
    // 2: unknown.
    let code = code.unwrap_or(2);
    if code == 0 {
        return Some(Ok(()));
    }
    let message = headers.get(MESSAGE).map_or(&b""[..], |message| message.as_bytes());
    let message = percent_encoding::percent_decode(message).decode_utf8_lossy().into_owned();
    Some(Err(CallError::Grpc { code, message }))
}
