//! Server reflection: generic clients such as grpcurl ask what the gRPC API has.
//!
//! Questions and answers go to and fro on one call; each answer is made when its question is complete, and one question
//! is kept at a time. What is told is public: no key is asked for, as with the reference.
//!
//! Spec: grpc/grpc-proto `grpc/reflection/v1/reflection.proto`, and v1alpha, which has the same messages

use std::{
    pin::Pin,
    sync::LazyLock,
    task::{Context, Poll, ready},
};

use ::http::{HeaderMap, HeaderValue, header};
use bytes::{Bytes, BytesMut};
use gyre_protocol::codec::protobuf::wire::{Message, Value, each_field};
use gyre_transport::http::{
    Body, BodyError, Request, Response,
    grpc::{self, Code, Status},
};
use http_body::Frame;

use super::descriptor::{self, FILE, PACKAGE, SERVICE};

const PATHS: [&str; 2] = [
    "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
];
/// Bytes of a question at most.
const QUESTION_BYTES_MAX: usize = 4096;
/// A byte of flags, four of length.
const PREFIX_BYTES: usize = 5;

static DESCRIPTOR: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut out = Vec::new();
    descriptor::write_file(&mut Message::new(&mut out));
    out
});

/// True if the path is that of reflection.
pub(super) fn is_path(path: &str) -> bool {
    PATHS.contains(&path)
}

/// Answers a call.
pub(super) fn call(request: Request) -> Response {
    let is_gzip = request.headers().get(grpc::ENCODING) == Some(&grpc::GZIP);
    let dialogue = Dialogue { questions: Some(request.into_body()), is_gzip, received: BytesMut::new() };
    let mut response = Response::new(Box::pin(dialogue) as Body);
    response.headers_mut().insert(header::CONTENT_TYPE, grpc::CONTENT_TYPE);
    response
}

/// The body of an answer, made while the questions come.
struct Dialogue {
    /// `None` once the call has ended.
    questions: Option<Body>,
    is_gzip: bool,
    received: BytesMut,
}

impl Dialogue {
    /// The next question, if it has come whole.
    fn question(&mut self) -> Result<Option<Bytes>, Status> {
        let Some(&[_, a, b, c, d]) = self.received.first_chunk::<PREFIX_BYTES>() else { return Ok(None) };
        let length = u32::from_be_bytes([a, b, c, d]) as usize;
        if length > QUESTION_BYTES_MAX {
            return Err(Status::new(Code::ResourceExhausted, "the question exceeds the limit"));
        }
        if self.received.len() < PREFIX_BYTES + length {
            return Ok(None);
        }
        let message = self.received.split_to(PREFIX_BYTES + length).freeze();
        grpc::only_message(message, self.is_gzip, QUESTION_BYTES_MAX).map(Some)
    }

    fn end(&mut self, status: &Status) -> Frame<Bytes> {
        self.questions = None;
        let mut trailers = HeaderMap::new();
        trailers.insert(grpc::STATUS, HeaderValue::from(status.code as u16));
        if let Ok(message) = HeaderValue::from_str(&status.message) {
            trailers.insert(grpc::MESSAGE, message);
        }
        Frame::trailers(trailers)
    }
}

impl http_body::Body for Dialogue {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        loop {
            if this.questions.is_none() {
                return Poll::Ready(None);
            }
            let answered = this.question().and_then(|question| question.map(|q| answer(&q)).transpose());
            match answered {
                Ok(Some(answer)) => return Poll::Ready(Some(Ok(Frame::data(answer)))),
                Ok(None) => {}
                Err(status) => return Poll::Ready(Some(Ok(this.end(&status)))),
            }
            let Some(questions) = &mut this.questions else { return Poll::Ready(None) };
            match ready!(questions.as_mut().poll_frame(cx)) {
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        this.received.extend_from_slice(&data);
                    }
                }
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => return Poll::Ready(Some(Ok(this.end(&Status::new(Code::Ok, ""))))),
            }
        }
    }
}

/// The answer to a question, behind its prefix.
fn answer(question: &[u8]) -> Result<Bytes, Status> {
    let (mut host, mut asked) = ("".into(), None);
    let read = each_field(question, |number, value: Value<'_>| {
        match number {
            1 => host = value.string()?,
            // Of several, the last one is meant. That of extensions is a message.
            3 | 4 | 6 | 7 => asked = Some((number, value.string()?)),
            5 => asked = Some((number, "".into())),
            _ => {}
        }
        Ok(())
    });
    read.map_err(|_| Status::MALFORMED)?;
    Ok(grpc::framed(|out| {
        let mut m = Message::new(out);
        m.string(1, &host);
        m.bytes(2, question);
        match asked.as_ref().map(|(number, text)| (*number, &**text)) {
            Some((3, FILE)) => write_file(&mut m),
            Some((4, symbol)) if is_symbol(symbol) => write_file(&mut m),
            Some((6, name)) if is_symbol(name) => m.message(5, |m| m.string(1, name)),
            Some((7, _)) => m.message(6, |m| m.message(1, |m| m.string(1, &format!("{PACKAGE}.{SERVICE}")))),
            Some(_) => write_error(&mut m, Code::NotFound, "not found"),
            None => write_error(&mut m, Code::InvalidArgument, "no question"),
        }
    })
    .into())
}

/// True for a message or the service, and whatever is in one.
fn is_symbol(symbol: &str) -> bool {
    let name = symbol.strip_prefix(PACKAGE).and_then(|rest| rest.strip_prefix('.'));
    name.and_then(|name| name.split('.').next()).is_some_and(descriptor::has)
}

fn write_file(m: &mut Message<'_>) {
    m.message(4, |m| m.bytes(1, &DESCRIPTOR));
}

fn write_error(m: &mut Message<'_>, code: Code, message: &str) {
    m.message(7, |m| {
        m.uint(1, code as u64);
        m.string(2, message);
    });
}
