//! A byte stream inside one request of HTTP/2 or HTTP/3, with the readiness of a socket.
//!
//! A socket says when it is ready, and is then read and written without waiting. A stream of HTTP says so only to whom
//! has tried: so a failed attempt leaves a waker that notes the readiness, and wakes the connection's task.
//!
//! Spec: RFC 8441 section 5; RFC 9220 section 3

use std::{
    cell::RefCell,
    io::{self, IoSlice},
    pin::Pin,
    rc::Rc,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker, ready},
};

use bytes::{Buf, Bytes};
use http_body::Frame;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::http::{Body, BodyError};

/// Bytes given to HTTP at a time.
const WRITE_BYTES_MAX: usize = 16 * 1024;

/// Both directions of such a stream.
pub(crate) trait Duplex: AsyncRead + AsyncWrite + Unpin {}

impl<T: AsyncRead + AsyncWrite + Unpin> Duplex for T {}

/// Held for as long as the stream is; its HTTP connection is not idle until then.
#[derive(Clone, Debug, Default)]
pub(crate) struct InUse(Arc<()>);

impl InUse {
    /// True if there is another one.
    pub(crate) fn is_shared(&self) -> bool {
        Arc::strong_count(&self.0) > 1
    }
}

pub(crate) struct Tunnel {
    stream: RefCell<Box<dyn Duplex>>,
    readable: Arc<Readiness>,
    writable: Arc<Readiness>,
    _in_use: Option<InUse>,
}

impl std::fmt::Debug for Tunnel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tunnel")
    }
}

impl Tunnel {
    pub(crate) fn new(stream: Box<dyn Duplex>, in_use: Option<InUse>) -> Self {
        let (readable, writable) = (Arc::default(), Arc::default());
        Self { stream: RefCell::new(stream), readable, writable, _in_use: in_use }
    }

    pub(crate) fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut buffer = ReadBuf::new(buffer);
        let read = self.readable.attempt(|cx| self.with_stream(|stream| stream.poll_read(cx, &mut buffer)));
        read.map(|()| buffer.filled().len())
    }

    /// Takes a part of what is there: HTTP keeps a copy.
    pub(crate) fn try_write_vectored(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let write = |bytes: &[u8]| {
            let bytes = &bytes[..bytes.len().min(WRITE_BYTES_MAX)];
            self.writable.attempt(|cx| self.with_stream(|stream| stream.poll_write(cx, bytes)))
        };
        if let [slice] = slices {
            return write(slice);
        }
        let mut joined = Vec::new();
        for slice in slices {
            joined.extend_from_slice(&slice[..slice.len().min(WRITE_BYTES_MAX - joined.len())]);
        }
        write(&joined)
    }

    pub(crate) fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.readable.poll(cx)
    }

    pub(crate) fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.writable.poll(cx)
    }

    /// Ends the stream behind what was written.
    pub(crate) fn shutdown(&self) {
        let ended = self.with_stream(|stream| stream.poll_shutdown(&mut Context::from_waker(Waker::noop())));
        if let Poll::Ready(Err(error)) = ended {
            tracing::trace!(%error, "the stream was gone before it was ended");
        }
    }

    fn with_stream<T>(&self, call: impl FnOnce(Pin<&mut dyn Duplex>) -> T) -> T {
        call(Pin::new(&mut **self.stream.borrow_mut()))
    }
}

/// Whether the next attempt may succeed, and whose task is to be told.
struct Readiness {
    is_ready: AtomicBool,
    task: Mutex<Option<Waker>>,
}

impl Default for Readiness {
    fn default() -> Self {
        // Only an attempt can tell.
        Self { is_ready: AtomicBool::new(true), task: Mutex::default() }
    }
}

impl Readiness {
    /// Not ready from before the attempt until it succeeds, or its waker is called.
    fn attempt<T>(
        self: &Arc<Self>,
        attempt: impl FnOnce(&mut Context<'_>) -> Poll<io::Result<T>>,
    ) -> io::Result<T> {
        self.is_ready.store(false, Ordering::Release);
        let waker = Waker::from(self.clone());
        match attempt(&mut Context::from_waker(&waker)) {
            Poll::Ready(result) => {
                self.is_ready.store(true, Ordering::Release);
                result
            }
            Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    fn poll(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        *self.task.lock().unwrap_or_else(PoisonError::into_inner) = Some(cx.waker().clone());
        match self.is_ready.load(Ordering::Acquire) {
            true => Poll::Ready(Ok(())),
            false => Poll::Pending,
        }
    }
}

impl Wake for Readiness {
    fn wake(self: Arc<Self>) {
        self.is_ready.store(true, Ordering::Release);
        let task = self.task.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(task) = task {
            task.wake();
        }
    }
}

/// A stream made of the bodies of a request and of its answer.
pub(crate) struct Bodies {
    request: Body,
    /// Received and not read.
    rest: Bytes,
    answer: Rc<RefCell<Answer>>,
}

/// What is on its way into the body of the answer.
#[derive(Default)]
struct Answer {
    next: Bytes,
    is_complete: bool,
    /// Nobody takes anything any more.
    is_gone: bool,
    body: Option<Waker>,
    writer: Option<Waker>,
}

impl Answer {
    fn complete(&mut self) {
        self.is_complete = true;
        if let Some(body) = self.body.take() {
            body.wake();
        }
    }
}

impl Bodies {
    /// A stream that reads the request's body, and the body to answer with.
    pub(crate) fn new(request: Body) -> (Self, Body) {
        let answer = Rc::<RefCell<Answer>>::default();
        let body = AnswerBody(answer.clone());
        (Self { request, rest: Bytes::new(), answer }, Box::pin(body))
    }
}

impl AsyncRead for Bodies {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while self.rest.is_empty() {
            match ready!(self.request.as_mut().poll_frame(cx)) {
                // Trailers are nothing to a byte stream.
                Some(Ok(frame)) => self.rest = frame.into_data().unwrap_or_default(),
                Some(Err(error)) => return Poll::Ready(Err(io::Error::other(error))),
                None => return Poll::Ready(Ok(())),
            }
        }
        let size = self.rest.len().min(buffer.remaining());
        buffer.put_slice(&self.rest[..size]);
        self.rest.advance(size);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Bodies {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let mut answer = self.answer.borrow_mut();
        if answer.is_gone || answer.is_complete {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        if !answer.next.is_empty() {
            answer.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        answer.next = Bytes::copy_from_slice(bytes);
        if let Some(body) = answer.body.take() {
            body.wake();
        }
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.answer.borrow_mut().complete();
        Poll::Ready(Ok(()))
    }
}

impl Drop for Bodies {
    fn drop(&mut self) {
        self.answer.borrow_mut().complete();
    }
}

struct AnswerBody(Rc<RefCell<Answer>>);

impl http_body::Body for AnswerBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let mut answer = self.0.borrow_mut();
        let next = std::mem::take(&mut answer.next);
        if !next.is_empty() {
            if let Some(writer) = answer.writer.take() {
                writer.wake();
            }
            return Poll::Ready(Some(Ok(Frame::data(next))));
        }
        if answer.is_complete {
            return Poll::Ready(None);
        }
        answer.body = Some(cx.waker().clone());
        Poll::Pending
    }
}

impl Drop for AnswerBody {
    fn drop(&mut self) {
        let mut answer = self.0.borrow_mut();
        answer.is_gone = true;
        if let Some(writer) = answer.writer.take() {
            writer.wake();
        }
    }
}
