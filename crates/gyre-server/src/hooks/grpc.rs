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

/// The request of a call. What belongs to gRPC itself is not replaced by metadata.
pub(super) fn request(
    target: &Target,
    path: &'static str,
    mut metadata: HeaderMap,
    credentials: &Option<(HeaderName, HeaderValue)>,
    compresses: bool,
    message: &[u8],
) -> Request<Full<Bytes>> {
    if let Some((name, value)) = credentials {
        metadata.insert(name.clone(), value.clone());
    }
    metadata.insert(header::TE, HeaderValue::from_static("trailers"));
    metadata.insert(ACCEPT_ENCODING, GZIP);
    metadata.remove(ENCODING);
    // At most eight digits: a longer time does not matter.
    let milliseconds = target.timeout.as_millis().clamp(1, 99_999_999);
    if let Ok(timeout) = HeaderValue::try_from(format!("{milliseconds}m")) {
        metadata.insert(TIMEOUT, timeout);
    }
    let body = if compresses {
        metadata.insert(ENCODING, GZIP);
        framed_gzip(message)
    } else {
        framed(|out| out.extend_from_slice(message))
    };
    let mut request = Request::new(Full::new(Bytes::from(body)));
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
    if response.status() != StatusCode::OK {
        return Err(CallError::Status(response.status()));
    }
    // An answer without message may have its status at the front.
    status(response.headers()).unwrap_or(Ok(()))?;
    let is_gzip = response.headers().get(ENCODING) == Some(&GZIP);
    let body = Limited::new(response.into_body(), bytes_max).collect().await;
    let body = body.map_err(|error| CallError::Body(error.to_string()))?;
    match body.trailers().and_then(status) {
        Some(ended) => ended?,
        None => return Err(CallError::Body("it has no gRPC status".into())),
    }
    let message = only_message(body.to_bytes(), is_gzip, bytes_max);
    message.map_err(|status| CallError::Body(status.message.into_owned()))
}

/// How a call ended, if these headers tell.
fn status(headers: &HeaderMap) -> Option<Result<(), CallError>> {
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
