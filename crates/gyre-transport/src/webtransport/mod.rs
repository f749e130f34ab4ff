//! WebTransport sessions: one bidirectional stream opened by the client carries the protocol. Of a unidirectional session
//! it is a stream opened by the server, and the connect request is part of the URL.
//!
//! A close in order: what is queued and the disconnect push, then the end of the stream, then its acknowledgement,
//! then the client's own close or, if that does not come, the close capsule with the same code and reason. Each step is
//! an event with a bound; nothing sleeps. Closing earlier would let the browser drop what the page has not read.
//!
//! Spec: draft-ietf-webtrans-http3; client protocol, "WebTransport"

use std::{
    cell::RefCell,
    future::poll_fn,
    rc::Rc,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
    time::Duration,
};

use bytes::Bytes;
use gyre_core::hub::{Direction, WireForm};
use gyre_node::{ConnectionId, ConnectionOptions, Fed, Flushed, Link, LocalShard, Queue};
use gyre_protocol::{
    Disconnect,
    codec::{StreamDecoder, json::decode_connect_request},
};
use tokio::time::timeout;

use crate::{
    pump::{Pumped, pump_stream},
    quic::{ReadError, RecvStream, SendStream, Session},
    streaming::connect_command,
};

/// Bytes read at a time.
const READ_BYTES: usize = 64 * 1024;
/// Frames given to QUIC in one call.
const CHUNKS: usize = 64;
/// How long a client that stopped reading is given to take what was sent.
const SLOW_CLOSE_TIMEOUT: Duration = Duration::from_secs(10);
/// And how long its page to read it: what a browser has acknowledged may be megabytes the page has yet to see.
const SLOW_CLOSE_LINGER: Duration = Duration::from_secs(3);

/// How one session is served.
#[derive(Clone)]
pub struct Options {
    /// Where it lives.
    pub shard: LocalShard,
    /// What its shard needs to know.
    pub connection: ConnectionOptions,
    /// The connect request of a unidirectional session: JSON that can be decoded.
    pub connect: Option<Bytes>,
    /// `webtransport.message_size_limit`: bytes of a command; more closes with 3501.
    pub message_bytes_max: usize,
    /// `webtransport.stream_open_timeout`: for the client's stream; then 3502.
    pub stream_open_timeout: Duration,
    /// `webtransport.close_timeout`: for the acknowledgement of the stream's end.
    pub close_timeout: Duration,
    /// `webtransport.close_linger`: for the client's own close behind it.
    pub close_linger: Duration,
}

impl Options {
    /// True if the client only listens.
    pub(crate) fn is_unidirectional(&self) -> bool {
        self.connection.form.direction == Direction::Unidirectional
    }
}

/// What the reading task and the writing link share.
struct Shared {
    send: RefCell<SendStream>,
    ending: RefCell<Option<Ending>>,
    wakeup: Arc<Wakeup>,
}

/// Wakes the task, and tells it apart when the stream takes more: the flush that was blocked may have been the shard's,
/// not the task's.
#[derive(Default)]
struct Wakeup {
    is_writable: AtomicBool,
    task: Mutex<Option<Waker>>,
}

impl Wakeup {
    fn wake_task(&self) {
        let task = self.task.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(task) = task {
            task.wake();
        }
    }
}

impl Wake for Wakeup {
    fn wake(self: Arc<Self>) {
        self.is_writable.store(true, Ordering::Release);
        self.wake_task();
    }
}

/// Why the task stops handing in commands.
#[derive(Clone, Debug)]
enum Ending {
    /// The session is over; its last frames are in the queue.
    Closed(Disconnect),
    /// The connect was refused; its error reply is in the queue.
    Refused,
}

struct StreamLink(Rc<Shared>);

impl Link for StreamLink {
    fn flush(&mut self, queue: &mut Queue) -> Flushed {
        let waker = Waker::from(self.0.wakeup.clone());
        let mut send = self.0.send.borrow_mut();
        while !queue.is_empty() {
            let mut chunks: [Bytes; CHUNKS] = std::array::from_fn(|_| Bytes::new());
            let mut used = 0;
            while let Some(frame) = (used < CHUNKS).then(|| queue.pop()).flatten() {
                chunks[used] = frame;
                used += 1;
            }
            let written = send.poll_write(&Context::from_waker(&waker), &mut chunks[..used]);
            let done = match &written {
                Poll::Ready(Ok(chunks)) => *chunks,
                _ => 0,
            };
            // What was not taken, in part or whole, goes back in order.
            for chunk in chunks[done..used].iter_mut().rev() {
                queue.put_back(std::mem::take(chunk));
            }
            match written {
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(_)) => return Flushed::Failed,
                Poll::Pending => return Flushed::Blocked,
            }
        }
        Flushed::Done
    }

    fn close(&mut self, disconnect: &Disconnect, _queue: &mut Queue) {
        self.end(Ending::Closed(disconnect.clone()));
    }

    fn finish(&mut self) {
        self.end(Ending::Refused);
    }
}

impl StreamLink {
    fn end(&self, ending: Ending) {
        *self.0.ending.borrow_mut() = Some(ending);
        self.0.wakeup.wake_task();
    }
}

enum Call {
    Writable,
    Ending,
}

impl Shared {
    fn poll(&self, cx: &mut Context<'_>, is_ending: bool) -> Poll<Call> {
        *self.wakeup.task.lock().unwrap_or_else(PoisonError::into_inner) = Some(cx.waker().clone());
        if !is_ending && self.ending.borrow().is_some() {
            return Poll::Ready(Call::Ending);
        }
        if self.wakeup.is_writable.swap(false, Ordering::Acquire) {
            return Poll::Ready(Call::Writable);
        }
        Poll::Pending
    }
}

struct Connection {
    shard: LocalShard,
    id: ConnectionId,
    form: WireForm,
    session: Session,
    shared: Rc<Shared>,
    receive: Option<RecvStream>,
    decoder: StreamDecoder,
    /// The client has no stream: it is there as long as its session.
    is_unidirectional: bool,
}

/// How the conversation ended.
enum Ended {
    /// The client finished its stream, reset it, or closed the session.
    ByClient,
    /// The server closed.
    ByServer,
}

/// Serves a session on its stream; `data` came with the stream's header. Without `receive` the client has finished its
/// side, or, if the session is unidirectional, has none.
pub(crate) async fn serve(
    session: Session,
    options: Options,
    send: SendStream,
    receive: Option<RecvStream>,
    data: Bytes,
) {
    let shared =
        Rc::new(Shared { send: RefCell::new(send), ending: RefCell::new(None), wakeup: Arc::default() });
    let (form, is_unidirectional) = (options.connection.form, options.is_unidirectional());
    let id = options.shard.open(options.connection, Box::new(StreamLink(shared.clone())));
    let decoder = StreamDecoder::new(form.encoding, options.message_bytes_max);
    let shard = options.shard;
    let mut connection = Connection { shard, id, form, session, shared, receive, decoder, is_unidirectional };
    if let Some(connect) = &options.connect {
        connection.connect(connect);
    }
    match connection.converse(data).await {
        Ended::ByClient => connection.client_left().await,
        Ended::ByServer => connection.close(options.close_timeout, options.close_linger).await,
    }
    connection.shard.release(id);
}

impl Connection {
    /// Hands in the only command of a unidirectional session.
    fn connect(&self, request: &[u8]) {
        match decode_connect_request(request) {
            Ok(request) => {
                // Whatever it says: there is no further command.
                let (Fed::Open | Fed::Busy | Fed::Over) =
                    self.shard.command(self.id, connect_command(request));
            }
            Err(error) => {
                tracing::debug!(%error, "undecodable connect request");
                self.shard.disconnect(self.id, &Disconnect::BAD_REQUEST);
            }
        }
    }

    /// Hands in what the client sends until either side ends.
    async fn converse(&mut self, data: Bytes) -> Ended {
        self.decoder.push(data);
        loop {
            if let Some(ended) = self.pump().await {
                return ended;
            }
            let shared = self.shared.clone();
            let wake = poll_fn(|cx| shared.poll(cx, false));
            if self.receive.is_none() && !self.is_unidirectional {
                return self.without_more();
            }
            tokio::select! {
                biased;
                wake = wake => match wake {
                    Call::Ending => return Ended::ByServer,
                    Call::Writable => {
                        self.shard.flush(self.id);
                    }
                },
                _ = self.session.ended() => return Ended::ByClient,
                chunk = next_chunk(&mut self.receive) => match chunk {
                    Ok(Some(bytes)) => self.decoder.push(bytes),
                    // The end of the stream, or its reset: the complete commands have been handed in.
                    Ok(None) | Err(_) => {
                        self.receive = None;
                        return self.without_more();
                    }
                },
            }
        }
    }

    /// Nothing more comes from the client: it has left, unless the server has closed already.
    fn without_more(&self) -> Ended {
        if self.shared.ending.borrow().is_some() { Ended::ByServer } else { Ended::ByClient }
    }

    /// Hands in the complete commands that were received, waiting where the session does.
    async fn pump(&mut self) -> Option<Ended> {
        loop {
            match pump_stream(&self.shard, self.id, self.form.encoding, &mut self.decoder) {
                Pumped::Open => return None,
                Pumped::Over => return Some(self.without_more()),
                Pumped::Busy(_) => {
                    if poll_fn(|cx| self.shard.poll_idle(self.id, cx)).await == Fed::Over {
                        return Some(self.without_more());
                    }
                }
            }
        }
    }

    /// The client left by itself: its stream is answered with an end, its session with another.
    async fn client_left(&mut self) {
        self.shard.disconnect(self.id, &Disconnect::CONNECTION_CLOSED);
        self.shared.send.borrow_mut().finish();
        self.session.end();
        self.session.ended().await;
        self.abandon();
    }

    /// The server closes: in order, and bounded at every step.
    async fn close(&mut self, close_timeout: Duration, close_linger: Duration) {
        let ending = self.shared.ending.borrow().clone();
        let (code, reason) = match &ending {
            Some(Ending::Closed(disconnect)) => (disconnect.code, &*disconnect.reason),
            _ => (0, ""),
        };
        let is_slow = code == Disconnect::SLOW.code || code == Disconnect::NO_PONG.code;
        let bound = if is_slow { SLOW_CLOSE_TIMEOUT } else { close_timeout };
        let linger =
            if code == Disconnect::SLOW.code { close_linger.max(SLOW_CLOSE_LINGER) } else { close_linger };
        let session = self.session.clone();
        tokio::select! {
            _ = timeout(bound, self.write_to_the_end()) => {}
            _ = session.ended() => {}
        }
        if !session.has_ended() {
            tokio::select! {
                _ = timeout(linger, self.read_to_the_end()) => {}
                _ = session.ended() => {}
            }
        }
        if !session.has_ended() {
            session.close(code, reason);
            session.ended().await;
        }
        self.abandon();
    }

    /// Writes what is queued, ends the stream, and waits until all of it is acknowledged.
    async fn write_to_the_end(&mut self) {
        while self.shard.flush(self.id) == Flushed::Blocked {
            let shared = self.shared.clone();
            poll_fn(|cx| shared.poll(cx, true)).await;
        }
        if self.shared.send.borrow_mut().finish() {
            // Acknowledged to its end, or the client wants no more of it.
            poll_fn(|cx| self.shared.send.borrow().poll_settled(cx)).await;
        }
    }

    /// Reads and discards until the client ends its side. One without a side ends its session.
    async fn read_to_the_end(&mut self) {
        if self.receive.is_some() || self.is_unidirectional {
            while let Ok(Some(_)) = next_chunk(&mut self.receive).await {}
        }
    }

    /// The session is over: whatever is open of its stream goes with it.
    fn abandon(&mut self) {
        let code = gyre_h3::Code::WT_SESSION_GONE.0;
        self.shared.send.borrow_mut().reset(code);
        if let Some(receive) = &mut self.receive {
            receive.stop(code);
        }
    }
}

/// What the client sent; never ready without a stream.
async fn next_chunk(receive: &mut Option<RecvStream>) -> Result<Option<Bytes>, ReadError> {
    match receive {
        Some(receive) => poll_fn(|cx| receive.poll_read(cx, READ_BYTES)).await,
        None => std::future::pending().await,
    }
}
