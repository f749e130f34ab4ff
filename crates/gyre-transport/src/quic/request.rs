//! Plain requests over HTTP/3, given to the one HTTP service.

use std::{
    cell::RefCell,
    collections::VecDeque,
    future::Future,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use ::http::{HeaderName, HeaderValue, Method, Uri};
use bytes::Bytes;
use gyre_h3::{RequestHead, ResponseHead, StreamId};
use http_body::{Body as _, Frame};
use http_body_util::BodyExt;

use super::connection::Connection;
use crate::http::{Body, BodyError, Request, Service};

/// Bytes of a response given to QUIC at a time.
const PIECE_BYTES: usize = 64 * 1024;
/// A peer that does not take a piece for this long gets the stream reset.
///
/// Spec: configuration `http_server`, write timeout.
const STALL_TIMEOUT: Duration = Duration::from_secs(10);

/// Bytes of a body that wait to be read; its stream is read on when they are fewer.
const BODY_AHEAD_BYTES: usize = 64 * 1024;

/// The body of a request on its way to the service.
pub(super) struct BodyQueue {
    queue: Rc<RefCell<Queue>>,
    /// Told when there is room again.
    taken: Rc<dyn Fn()>,
}

#[derive(Debug, Default)]
struct Queue {
    data: VecDeque<Bytes>,
    bytes: usize,
    /// Nobody reads it.
    is_unwanted: bool,
    end: Option<End>,
    waker: Option<Waker>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Complete,
    Cancelled,
}

impl BodyQueue {
    /// `taken` is called whenever there may be room again.
    pub(super) fn new(taken: Rc<dyn Fn()>) -> Self {
        Self { queue: Rc::default(), taken }
    }

    pub(super) fn push(&self, data: Bytes) {
        self.change(|queue| {
            if !queue.is_unwanted {
                queue.bytes += data.len();
                queue.data.push_back(data);
            }
        });
    }

    /// True if more may be pushed.
    pub(super) fn has_room(&self) -> bool {
        self.queue.borrow().bytes < BODY_AHEAD_BYTES
    }

    pub(super) fn end(&self) {
        self.change(|queue| queue.end = Some(End::Complete));
    }

    pub(super) fn cancel(&self) {
        self.change(|queue| queue.end = queue.end.or(Some(End::Cancelled)));
    }

    fn change(&self, change: impl FnOnce(&mut Queue)) {
        let mut queue = self.queue.borrow_mut();
        change(&mut queue);
        if let Some(waker) = queue.waker.take() {
            waker.wake();
        }
    }
}

struct QueueBody {
    queue: Rc<RefCell<Queue>>,
    taken: Rc<dyn Fn()>,
}

impl Drop for QueueBody {
    fn drop(&mut self) {
        *self.queue.borrow_mut() = Queue { is_unwanted: true, ..Queue::default() };
        (self.taken)();
    }
}

impl http_body::Body for QueueBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let mut queue = self.queue.borrow_mut();
        if let Some(data) = queue.data.pop_front() {
            queue.bytes -= data.len();
            (self.taken)();
            return Poll::Ready(Some(Ok(Frame::data(data))));
        }
        match queue.end {
            Some(End::Complete) => Poll::Ready(None),
            Some(End::Cancelled) => {
                let reason = "the request was cancelled".to_owned();
                Poll::Ready(Some(Err(BodyError::Incomplete { reason })))
            }
            None => {
                queue.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

/// Has a request answered and sends the answer, piece by piece as the peer takes it. Dropped when the peer wants no
/// more, and with it the body.
pub(super) async fn answer(
    connection: Rc<Connection>,
    service: Rc<dyn Service>,
    stream: StreamId,
    head: Box<RequestHead>,
    body: Rc<BodyQueue>,
) {
    let response =
        match to_request(&head, Box::pin(QueueBody { queue: body.queue.clone(), taken: body.taken.clone() }))
        {
            Some(mut request) => {
                request.extensions_mut().insert(connection.peer);
                service.call(request).await
            }
            None => crate::http::status(::http::StatusCode::BAD_REQUEST, "malformed request\n"),
        };
    let (parts, body) = response.into_parts();
    let is_over = head.method == "HEAD" || body.is_end_stream();
    connection.respond(stream, &response_head(&parts, body.size_hint().exact()), is_over);
    let sent = if is_over { Ok(()) } else { send_body(&connection, stream, body).await };
    if sent.is_err() {
        connection.abort_response(stream);
    }
}

/// The answer cannot be completed.
struct Broken;

async fn send_body(connection: &Rc<Connection>, stream: StreamId, mut body: Body) -> Result<(), Broken> {
    loop {
        let frame = body.frame().await;
        let Some(frame) = frame else { break };
        let Ok(mut data) = frame.map_err(|_| Broken)?.into_data() else { continue };
        while !data.is_empty() {
            let piece = data.split_to(data.len().min(PIECE_BYTES));
            connection.send_body(stream, &piece, false);
            in_time(connection.written(stream)).await?;
        }
    }
    connection.send_body(stream, &[], true);
    // The body lives until its last bytes have arrived: a connection that is one must not be gone before.
    in_time(connection.finished(stream)).await
}

async fn in_time(progress: impl Future<Output = ()>) -> Result<(), Broken> {
    tokio::time::timeout(STALL_TIMEOUT, progress).await.map_err(|_| Broken)
}

/// Fields of the hop before are none of the peer's business.
///
/// Spec: RFC 9114 section 4.2
fn response_head(parts: &::http::response::Parts, length: Option<u64>) -> ResponseHead {
    let is_hop = |name: &HeaderName| matches!(name.as_str(), "connection" | "upgrade" | "transfer-encoding");
    let mut fields: Vec<(Vec<u8>, Vec<u8>)> = parts
        .headers
        .iter()
        .filter(|(name, _)| !is_hop(name))
        .map(|(name, value)| (name.as_str().as_bytes().to_vec(), value.as_bytes().to_vec()))
        .collect();
    let has_length = parts.headers.contains_key(::http::header::CONTENT_LENGTH);
    if let Some(length) = length.filter(|_| !has_length && parts.status != ::http::StatusCode::NO_CONTENT) {
        fields.push((b"content-length".to_vec(), length.to_string().into_bytes()));
    }
    ResponseHead { status: parts.status.as_u16(), fields }
}

fn to_request(head: &RequestHead, body: Body) -> Option<Request> {
    let mut request = Request::new(body);
    *request.method_mut() = Method::from_bytes(head.method.as_bytes()).ok()?;
    *request.uri_mut() = head.path.parse::<Uri>().ok()?;
    *request.version_mut() = ::http::Version::HTTP_3;
    if let Some(protocol) = &head.protocol {
        request.extensions_mut().insert(hyper::ext::Protocol::from(&**protocol));
    }
    let headers = request.headers_mut();
    for (name, value) in &head.fields {
        let (name, value) = (HeaderName::from_bytes(name).ok()?, HeaderValue::from_bytes(value).ok()?);
        headers.append(name, value);
    }
    headers.insert(::http::header::HOST, HeaderValue::from_str(&head.authority).ok()?);
    Some(request)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    /// A body that is not read stops its stream at the bound, until it is read on; one that nobody wants keeps nothing.
    #[tokio::test]
    async fn bodies_are_read_ahead_by_a_bound() {
        let piece = Bytes::from(vec![0; BODY_AHEAD_BYTES]);
        let told = Rc::new(Cell::new(0));
        let queue = BodyQueue::new(Rc::new({
            let told = told.clone();
            move || told.set(told.get() + 1)
        }));
        let mut body = QueueBody { queue: queue.queue.clone(), taken: queue.taken.clone() };
        assert!(queue.has_room());
        queue.push(piece.clone());
        assert!(!queue.has_room());
        assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), piece);
        assert!(queue.has_room() && told.get() == 1);
        queue.push(piece.clone());
        assert!(!queue.has_room());
        drop(body);
        assert!(queue.has_room() && told.get() == 2);
        queue.push(piece);
        assert!(queue.has_room());
        assert!(queue.queue.borrow().data.is_empty());
    }
}
