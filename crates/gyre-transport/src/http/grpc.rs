//! Calls of gRPC: what is one, messages behind their prefix, statuses.
//!
//! That is all gRPC adds to HTTP/2, so calls are requests like any other, on the shard that accepted them.
//!
//! Spec: gRPC over HTTP/2 (grpc/grpc doc/PROTOCOL-HTTP2.md)

use std::{
    borrow::Cow,
    future::ready,
    io::{Read, Write},
};

use ::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version, header};
use base64::{Engine, engine::general_purpose::STANDARD_NO_PAD};
use bytes::Bytes;
use flate2::{Compression, read::MultiGzDecoder, write::GzEncoder};
use http_body_util::BodyExt;

use super::{Body, BodyError, Request, Response, full, read_body, status};

/// Calls on one HTTP/2 connection at a time; a client has to wait, or to open another connection.
pub const CALLS_MAX: u32 = 4096;
/// Bytes of a message at most unless configured: gRPC's own default.
pub const MESSAGE_BYTES_MAX: usize = 4 << 20;
/// The content type of calls and their answers.
pub const CONTENT_TYPE: HeaderValue = HeaderValue::from_static("application/grpc");
/// How a call ended: a [`Code`] as decimal.
pub const STATUS: HeaderName = HeaderName::from_static("grpc-status");
/// The same in words, percent-encoded.
pub const MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
/// How messages with a flag are compressed.
pub const ENCODING: HeaderName = HeaderName::from_static("grpc-encoding");
/// How they may be compressed.
pub const ACCEPT_ENCODING: HeaderName = HeaderName::from_static("grpc-accept-encoding");
/// The only compression.
pub const GZIP: HeaderValue = HeaderValue::from_static("gzip");

const STATUS_DETAILS: HeaderName = HeaderName::from_static("grpc-status-details-bin");
/// A byte of flags, four of length.
const PREFIX_BYTES: usize = 5;

/// What a status says, of the codes that are used here.
///
/// Spec: grpc/grpc doc/statuscodes.md
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is the code of that name")]
pub enum Code {
    Ok = 0,
    InvalidArgument = 3,
    NotFound = 5,
    AlreadyExists = 6,
    ResourceExhausted = 8,
    OutOfRange = 11,
    Unimplemented = 12,
    Internal = 13,
    Unavailable = 14,
    Unauthenticated = 16,
}

/// How a call ends that has no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// What kind of end.
    pub code: Code,
    /// The same in words, for developers.
    pub message: Cow<'static, str>,
    /// A serialized `google.rpc.Status`, or nothing.
    pub details: Vec<u8>,
}

impl Status {
    /// No such method.
    pub const UNKNOWN_METHOD: Self = Self::new(Code::Unimplemented, "unknown method");
    /// The message cannot be decoded.
    pub const MALFORMED: Self = Self::new(Code::Internal, "malformed message");
    const TOO_LARGE: Self = Self::new(Code::ResourceExhausted, "the message exceeds the limit");
    const COMPRESSED: Self = Self::new(Code::Unimplemented, "only gzip is supported");

    /// A status without details.
    pub const fn new(code: Code, message: &'static str) -> Self {
        Self { code, message: Cow::Borrowed(message), details: Vec::new() }
    }

    /// An answer that consists of trailers only.
    pub fn response(&self) -> Response {
        let mut response = Response::new(full(""));
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, CONTENT_TYPE);
        headers.insert(STATUS, HeaderValue::from(self.code as u16));
        headers.insert(ACCEPT_ENCODING, GZIP);
        if let Ok(message) = HeaderValue::try_from(percent_encoded(&self.message)) {
            headers.insert(MESSAGE, message);
        }
        if !self.details.is_empty()
            && let Ok(details) = HeaderValue::try_from(STANDARD_NO_PAD.encode(&self.details))
        {
            headers.insert(STATUS_DETAILS, details);
        }
        response
    }
}

/// Spec: gRPC over HTTP/2, "Percent-Encoded"
fn percent_encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'%' | ..b' ' | 0x7f.. => out += &format!("%{byte:02X}"),
            byte => out.push(byte.into()),
        }
    }
    out
}

/// Answers a request that is no call of gRPC, in words of HTTP.
pub fn refuse(request: &Request) -> Option<Response> {
    if request.version() < Version::HTTP_2 {
        return Some(status(StatusCode::HTTP_VERSION_NOT_SUPPORTED, "gRPC needs HTTP/2\n"));
    }
    if *request.method() != Method::POST {
        let mut response = status(StatusCode::METHOD_NOT_ALLOWED, "");
        response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("POST"));
        return Some(response);
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

/// Reads the message of a call that has exactly one.
///
/// # Errors
/// With the status to answer, if it has none or more, or one that is too long.
pub async fn read_message(request: Request, bytes_max: usize) -> Result<Bytes, Status> {
    let is_gzip = request.headers().get(ENCODING) == Some(&GZIP);
    let body = read_body(request.into_body(), PREFIX_BYTES.saturating_add(bytes_max)).await;
    let body = body.map_err(|error| match error {
        BodyError::TooLarge { .. } => Status::TOO_LARGE,
        BodyError::Incomplete { .. } => Status::MALFORMED,
    })?;
    only_message(body, is_gzip, bytes_max)
}

/// The message of a body that has exactly one. Inflated it may be no longer than `bytes_max` either.
///
/// # Errors
/// With the status that a server has for it.
pub fn only_message(body: Bytes, is_gzip: bool, bytes_max: usize) -> Result<Bytes, Status> {
    let Some((&[flags, a, b, c, d], message)) = body.split_first_chunk::<PREFIX_BYTES>() else {
        return Err(Status::MALFORMED);
    };
    if u32::from_be_bytes([a, b, c, d]) as usize != message.len() {
        return Err(Status::MALFORMED);
    }
    match flags {
        0 => Ok(body.slice(PREFIX_BYTES..)),
        1 if is_gzip => inflated(message, bytes_max),
        1 => Err(Status::COMPRESSED),
        _ => Err(Status::MALFORMED),
    }
}

fn inflated(message: &[u8], bytes_max: usize) -> Result<Bytes, Status> {
    let mut out = Vec::new();
    let mut reader = MultiGzDecoder::new(message).take(bytes_max as u64 + 1);
    reader.read_to_end(&mut out).map_err(|_| Status::MALFORMED)?;
    match out.len() > bytes_max {
        true => Err(Status::TOO_LARGE),
        false => Ok(out.into()),
    }
}

/// A message behind its prefix.
pub fn framed(write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = vec![0; PREFIX_BYTES];
    write(&mut out);
    finish(out, 0)
}

/// A compressed message behind its prefix: goes with [`ENCODING`].
pub fn framed_gzip(message: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(vec![0; PREFIX_BYTES], Compression::default());
    // Writing to a vector cannot fail; if it did, the message would go as it is.
    match encoder.write_all(message).and_then(|()| encoder.finish()) {
        Ok(out) => finish(out, 1),
        Err(_) => framed(|out| out.extend_from_slice(message)),
    }
}

fn finish(mut out: Vec<u8>, flags: u8) -> Vec<u8> {
    let length = u32::try_from(out.len() - PREFIX_BYTES).unwrap_or(u32::MAX);
    out[0] = flags;
    out[1..PREFIX_BYTES].copy_from_slice(&length.to_be_bytes());
    out
}

/// The answer of a call that went well, with the message that `write` appends.
pub fn reply(write: impl FnOnce(&mut Vec<u8>)) -> Response {
    let trailers = HeaderMap::from_iter([(STATUS, HeaderValue::from(Code::Ok as u16))]);
    let body = full(framed(write)).with_trailers(ready(Some(Ok(trailers))));
    let mut response = Response::new(Box::pin(body) as Body);
    response.headers_mut().insert(header::CONTENT_TYPE, CONTENT_TYPE);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A body with one whole message gives it, compressed or not; all others have the status they deserve.
    #[test]
    fn a_body_has_one_message() {
        let message = |body: &'static [u8]| only_message(Bytes::from_static(body), false, 9);
        assert_eq!(message(b"\0\0\0\0\0"), Ok(Bytes::new()));
        assert_eq!(message(b"\0\0\0\0\x02ab"), Ok(Bytes::from_static(b"ab")));
        assert_eq!(message(b"\x01\0\0\0\x02ab"), Err(Status::COMPRESSED));
        let malformed: [&[u8]; 5] =
            [b"", b"\0\0\0\0", b"\0\0\0\0\x02a", b"\0\0\0\0\x01ab", b"\x02\0\0\0\x02ab"];
        for body in malformed {
            assert_eq!(message(body), Err(Status::MALFORMED), "{body:?}");
        }
        let text = vec![b'x'; 10_000];
        let compressed = Bytes::from(framed_gzip(&text));
        assert!(compressed.len() < 1000);
        assert_eq!(only_message(compressed.clone(), true, 10_000), Ok(text.into()));
        assert_eq!(only_message(compressed.clone(), true, 9_999), Err(Status::TOO_LARGE));
        assert_eq!(only_message(compressed, false, 10_000), Err(Status::COMPRESSED));
        let broken = Bytes::from_static(b"\x01\0\0\0\x02ab");
        assert_eq!(only_message(broken, true, 9), Err(Status::MALFORMED));
    }

    /// Words of a status reach a header whatever they are.
    ///
    /// Spec: gRPC over HTTP/2, "Percent-Encoded"
    #[test]
    fn messages_are_percent_encoded() {
        assert_eq!(percent_encoded("a b~%\u{e9}\n"), "a b~%25%C3%A9%0A");
    }
}
