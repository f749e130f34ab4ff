//! Plain requests over HTTP/3, given to the one HTTP service.

use std::{
    collections::VecDeque,
    pin::Pin,
    rc::Rc,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, Waker},
};

use ::http::{HeaderName, HeaderValue, Method, Uri};
use bytes::Bytes;
use gyre_h3::{RequestHead, ResponseHead, StreamId};
use http_body::Frame;
use http_body_util::BodyExt;

use super::connection::Shared;
use crate::http::{Body, BodyError, Request, Service};

/// The body of a request on its way to the service. QUIC's windows bound what waits in it.
#[derive(Debug, Default)]
pub(super) struct BodyQueue(Arc<Mutex<Queue>>);

#[derive(Debug, Default)]
struct Queue {
    data: VecDeque<Bytes>,
    end: Option<End>,
    waker: Option<Waker>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Complete,
    Cancelled,
}

impl BodyQueue {
    pub(super) fn push(&self, data: Bytes) {
        self.change(|queue| queue.data.push_back(data));
    }

    pub(super) fn end(&self) {
        self.change(|queue| queue.end = Some(End::Complete));
    }

    pub(super) fn cancel(&self) {
        self.change(|queue| queue.end = queue.end.or(Some(End::Cancelled)));
    }

    fn change(&self, change: impl FnOnce(&mut Queue)) {
        let mut queue = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut queue);
        if let Some(waker) = queue.waker.take() {
            waker.wake();
        }
    }
}

struct QueueBody(Arc<Mutex<Queue>>);

impl http_body::Body for QueueBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let mut queue = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(data) = queue.data.pop_front() {
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

/// Has a request answered and sends the answer.
pub(super) async fn answer(
    shared: Rc<Shared>,
    service: Rc<dyn Service>,
    stream: StreamId,
    head: Box<RequestHead>,
    body: Rc<BodyQueue>,
) {
    let body = QueueBody(body.0.clone()).boxed_unsync();
    let response = match to_request(&head, body) {
        Some(mut request) => {
            request.extensions_mut().insert(shared.peer);
            service.call(request).await
        }
        None => crate::http::status(::http::StatusCode::BAD_REQUEST, "malformed request\n"),
    };
    let (parts, body) = response.into_parts();
    let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let is_hop = |name: &HeaderName| matches!(name.as_str(), "connection" | "upgrade" | "transfer-encoding");
    let mut fields: Vec<(Vec<u8>, Vec<u8>)> = parts
        .headers
        .iter()
        .filter(|(name, _)| !is_hop(name))
        .map(|(name, value)| (name.as_str().as_bytes().to_vec(), value.as_bytes().to_vec()))
        .collect();
    fields.push((b"content-length".to_vec(), body.len().to_string().into_bytes()));
    let is_head = head.method == "HEAD";
    let body = if is_head { &[][..] } else { &body };
    shared.respond(stream, &ResponseHead { status: parts.status.as_u16(), fields }, body);
}

fn to_request(head: &RequestHead, body: Body) -> Option<Request> {
    let mut request = Request::new(body);
    *request.method_mut() = Method::from_bytes(head.method.as_bytes()).ok()?;
    *request.uri_mut() = head.path.parse::<Uri>().ok()?;
    *request.version_mut() = ::http::Version::HTTP_3;
    let headers = request.headers_mut();
    for (name, value) in &head.fields {
        let (name, value) = (HeaderName::from_bytes(name).ok()?, HeaderValue::from_bytes(value).ok()?);
        headers.append(name, value);
    }
    headers.insert(::http::header::HOST, HeaderValue::from_str(&head.authority).ok()?);
    Some(request)
}
