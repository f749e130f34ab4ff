//! One connection as streams see it: shared by the driver, HTTP/3 and the tasks of sessions, all on one thread.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    task::{Context, Poll, Waker},
    time::Instant,
};

use bytes::Bytes;
use quinn_proto::{Chunk, ClosedStream, ConnectionHandle, Dir, FinishError, StreamId, VarInt, WriteError};

/// A QUIC connection, and who waits for it.
pub(super) struct Link {
    pub(super) handle: ConnectionHandle,
    pub(super) quic: RefCell<quinn_proto::Connection>,
    waiting: RefCell<Waiting>,
    /// No more events will come.
    is_lost: Cell<bool>,
    is_dirty: Cell<bool>,
    dirty: Rc<Dirty>,
}

/// Connections with something to send or to look at, until the driver's next turn.
#[derive(Default)]
pub(super) struct Dirty {
    links: RefCell<Vec<ConnectionHandle>>,
    driver: RefCell<Option<Waker>>,
}

/// Tasks that wait for a stream. A session has one stream, so these lists hold one entry or none.
#[derive(Default)]
struct Waiting {
    readers: Vec<(StreamId, Option<Waker>)>,
    writers: Vec<(StreamId, Option<Waker>)>,
    openers: Vec<Waker>,
}

/// Why a stream can be read no further.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadError {
    /// The peer gave the stream up.
    Reset,
    /// The stream or the connection is gone.
    Closed,
}

impl Dirty {
    /// Takes the connections that are dirty; otherwise the task is woken when one becomes so.
    pub(super) fn poll(&self, cx: &mut Context<'_>, taken: &mut Vec<ConnectionHandle>) -> Poll<()> {
        let mut links = self.links.borrow_mut();
        if links.is_empty() {
            self.driver.borrow_mut().get_or_insert_with(|| cx.waker().clone()).clone_from(cx.waker());
            return Poll::Pending;
        }
        taken.append(&mut links);
        Poll::Ready(())
    }

    pub(super) fn take(&self, taken: &mut Vec<ConnectionHandle>) {
        taken.append(&mut self.links.borrow_mut());
    }
}

impl Link {
    pub(super) fn new(handle: ConnectionHandle, quic: quinn_proto::Connection, dirty: Rc<Dirty>) -> Self {
        Self {
            handle,
            quic: RefCell::new(quic),
            waiting: RefCell::default(),
            is_lost: Cell::new(false),
            is_dirty: Cell::new(false),
            dirty,
        }
    }

    /// Has the driver look at the connection in its next turn.
    pub(super) fn mark(&self) {
        if self.is_dirty.replace(true) {
            return;
        }
        self.dirty.links.borrow_mut().push(self.handle);
        if let Some(driver) = self.dirty.driver.borrow_mut().take() {
            driver.wake();
        }
    }

    /// The driver looks at it now.
    pub(super) fn unmark(&self) {
        self.is_dirty.set(false);
    }

    /// Closes the connection with an error of the application.
    pub(super) fn close(&self, code: VarInt, reason: &[u8]) {
        self.quic.borrow_mut().close(Instant::now(), code, Bytes::copy_from_slice(reason));
        self.mark();
    }

    /// What can be read of a stream now; `None` at its end.
    pub(super) fn read(&self, stream: StreamId, max: usize) -> Poll<Result<Option<Chunk>, ReadError>> {
        let mut quic = self.quic.borrow_mut();
        let mut receive = quic.recv_stream(stream);
        let Ok(mut chunks) = receive.read(true) else { return Poll::Ready(Err(ReadError::Closed)) };
        let read = chunks.next(max);
        if chunks.finalize().should_transmit() {
            self.mark();
        }
        match read {
            Ok(chunk) => Poll::Ready(Ok(chunk)),
            Err(quinn_proto::ReadError::Blocked) => Poll::Pending,
            Err(quinn_proto::ReadError::Reset(_)) => Poll::Ready(Err(ReadError::Reset)),
        }
    }

    /// Writes what fits; returns how many chunks were taken whole. A chunk taken in part is shortened.
    pub(super) fn write(&self, stream: StreamId, chunks: &mut [Bytes]) -> Result<usize, WriteError> {
        let written = self.quic.borrow_mut().send_stream(stream).write_chunks(chunks)?;
        self.mark();
        Ok(written.chunks)
    }

    /// Ends a stream's sending side.
    pub(super) fn finish(&self, stream: StreamId) -> Result<(), FinishError> {
        self.mark();
        self.quic.borrow_mut().send_stream(stream).finish()
    }

    /// Gives up a stream's sending side.
    pub(super) fn reset(&self, stream: StreamId, code: VarInt) -> Result<(), ClosedStream> {
        self.mark();
        self.quic.borrow_mut().send_stream(stream).reset(code)
    }

    /// Wants no more of a stream's receiving side.
    pub(super) fn stop(&self, stream: StreamId, code: VarInt) -> Result<(), ClosedStream> {
        self.mark();
        self.quic.borrow_mut().recv_stream(stream).stop(code)
    }

    /// Opens a unidirectional stream, if the peer lets the server.
    pub(super) fn open(&self) -> Option<StreamId> {
        self.quic.borrow_mut().streams().open(Dir::Uni)
    }

    /// Opens a unidirectional stream as soon as the peer lets the server; `None` if the connection is gone.
    pub(super) fn poll_open(&self, cx: &Context<'_>) -> Poll<Option<StreamId>> {
        if self.is_lost.get() {
            return Poll::Ready(None);
        }
        match self.open() {
            Some(stream) => Poll::Ready(Some(stream)),
            None => {
                self.waiting.borrow_mut().openers.push(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    /// The peer lets the server open streams.
    pub(super) fn opening(&self) {
        let openers = std::mem::take(&mut self.waiting.borrow_mut().openers);
        openers.into_iter().for_each(Waker::wake);
    }

    /// Wakes the task that reads a stream; false if none has taken it over.
    pub(super) fn wake_reader(&self, stream: StreamId) -> bool {
        wake(&mut self.waiting.borrow_mut().readers, stream)
    }

    /// Wakes the task that writes a stream; false if none has taken it over.
    pub(super) fn wake_writer(&self, stream: StreamId) -> bool {
        wake(&mut self.waiting.borrow_mut().writers, stream)
    }

    /// The connection is gone: whoever waits finds out.
    pub(super) fn lose(&self) {
        self.is_lost.set(true);
        let mut waiting = self.waiting.borrow_mut();
        let Waiting { readers, writers, openers } = &mut *waiting;
        let streams = readers.iter_mut().chain(writers).filter_map(|(_, waker)| waker.take());
        streams.chain(openers.drain(..)).for_each(Waker::wake);
    }
}

fn wake(waiting: &mut [(StreamId, Option<Waker>)], stream: StreamId) -> bool {
    let found = waiting.iter_mut().find(|(id, _)| *id == stream);
    found.map(|(_, waker)| waker.take().map(Waker::wake)).is_some()
}

/// Keeps the waker of the task that has taken the stream over.
fn wait(waiting: &mut [(StreamId, Option<Waker>)], stream: StreamId, cx: &Context<'_>) {
    if let Some((_, waker)) = waiting.iter_mut().find(|(id, _)| *id == stream) {
        *waker = Some(cx.waker().clone());
    }
}

/// The sending side of a stream. Dropped, the stream is finished.
pub struct SendStream {
    link: Rc<Link>,
    id: StreamId,
    is_over: bool,
}

/// The receiving side of a stream. Dropped, the rest is not wanted.
pub struct RecvStream {
    link: Rc<Link>,
    id: StreamId,
    is_over: bool,
}

impl SendStream {
    /// Takes over a stream: what happens to it wakes the task that waits for it.
    pub(super) fn new(link: Rc<Link>, id: StreamId) -> Self {
        link.waiting.borrow_mut().writers.push((id, None));
        Self { link, id, is_over: false }
    }

    /// Writes what fits; returns how many chunks were taken whole. A chunk taken in part is shortened. An error is the
    /// end of the stream.
    pub fn poll_write(&mut self, cx: &Context<'_>, chunks: &mut [Bytes]) -> Poll<Result<usize, WriteError>> {
        if self.link.is_lost.get() {
            return Poll::Ready(Err(WriteError::ClosedStream));
        }
        match self.link.write(self.id, chunks) {
            Err(WriteError::Blocked) => {
                wait(&mut self.link.waiting.borrow_mut().writers, self.id, cx);
                Poll::Pending
            }
            written => Poll::Ready(written),
        }
    }

    /// Ends the stream; false if the peer wants no more of it.
    pub fn finish(&mut self) -> bool {
        self.is_over = true;
        self.link.finish(self.id).is_ok()
    }

    /// Gives the stream up, whatever was written.
    pub fn reset(&mut self, code: u64) {
        self.is_over = true;
        // Fails only if the stream has ended by itself.
        _ = self.link.reset(self.id, VarInt::from_u64(code).unwrap_or(VarInt::MAX));
    }

    /// Ready when a finished stream is acknowledged to its end, the peer wants no more of it, or the connection is gone.
    pub fn poll_settled(&self, cx: &Context<'_>) -> Poll<()> {
        let is_open = matches!(self.link.quic.borrow_mut().send_stream(self.id).stopped(), Ok(None));
        if !is_open || self.link.is_lost.get() {
            return Poll::Ready(());
        }
        wait(&mut self.link.waiting.borrow_mut().writers, self.id, cx);
        Poll::Pending
    }
}

impl Drop for SendStream {
    fn drop(&mut self) {
        self.link.waiting.borrow_mut().writers.retain(|(id, _)| *id != self.id);
        if !self.is_over {
            // Fails only if the peer has stopped the stream.
            _ = self.link.finish(self.id);
        }
    }
}

impl RecvStream {
    /// Takes over a stream: what happens to it wakes the task that waits for it.
    pub(super) fn new(link: Rc<Link>, id: StreamId) -> Self {
        link.waiting.borrow_mut().readers.push((id, None));
        Self { link, id, is_over: false }
    }

    /// What came, at most `max` bytes of it; `None` at the end of the stream.
    pub fn poll_read(&mut self, cx: &Context<'_>, max: usize) -> Poll<Result<Option<Bytes>, ReadError>> {
        let read = match self.link.read(self.id, max) {
            Poll::Pending if self.link.is_lost.get() => Poll::Ready(Err(ReadError::Closed)),
            Poll::Pending => {
                wait(&mut self.link.waiting.borrow_mut().readers, self.id, cx);
                return Poll::Pending;
            }
            read => read,
        };
        self.is_over = !matches!(read, Poll::Ready(Ok(Some(_))));
        read.map_ok(|chunk| chunk.map(|chunk| chunk.bytes))
    }

    /// Wants no more of it.
    pub fn stop(&mut self, code: u64) {
        self.is_over = true;
        // Fails only if the stream has ended by itself.
        _ = self.link.stop(self.id, VarInt::from_u64(code).unwrap_or(VarInt::MAX));
    }
}

impl Drop for RecvStream {
    fn drop(&mut self) {
        self.link.waiting.borrow_mut().readers.retain(|(id, _)| *id != self.id);
        if !self.is_over {
            // Fails only if the stream has ended by itself.
            _ = self.link.stop(self.id, VarInt::from_u32(0));
        }
    }
}
