//! WebSocket connections: the handshake, the reading task of a connection, and its writing [`Link`].
//!
//! A connection is one small task that waits for readiness and holds no buffer while idle: it reads into a buffer all
//! connections of the thread share. Frames are written by the shard's flush, straight from their shared bytes.
//!
//! Spec: RFC 6455; client protocol, "WebSocket".

#[cfg(test)]
mod autobahn;
mod deflate;
mod frame;
mod handshake;
mod unidirectional;

use std::{
    cell::{Cell, RefCell},
    future::poll_fn,
    io::{self, IoSlice},
    num::NonZeroU32,
    rc::Rc,
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use ::http::StatusCode;
use bytes::Bytes;
use gyre_core::{
    hub::{Deflate, Direction, Framing, WireForm},
    session::Pings,
};
use gyre_node::{
    ConnectionId, ConnectionOptions, Fed, Flushed, Link, LocalShard, OpeningRequest, PingTimes, Queue,
    TransportKind,
};
use gyre_protocol::{Disconnect, codec::Encoding};
use tokio::time::timeout;

use crate::{
    http::{OriginPolicy, Request, Response, status, upgrade},
    pump::{Pumped, pump_frame},
    socket::Socket,
};
use frame::{Decoder, Event, FrameError};

pub use handshake_settings::{Compression, Settings};
use unidirectional::Unidirectional;
pub use unidirectional::{Settings as UnidirectionalSettings, serve as serve_unidirectional};

/// Subprotocol that selects Protobuf.
const PROTOBUF_SUBPROTOCOL: &str = "centrifuge-protobuf";
/// How long the server waits for the peer's close frame, and for a refused client to leave.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);
/// Shared by all connections of a thread while they read.
const READ_BUFFER_BYTES: usize = 64 * 1024;
/// Frames given to the kernel in one call.
const SLICES: usize = 64;

mod handshake_settings {
    use std::num::NonZeroU32;

    use super::{Deflate, OriginPolicy};

    /// What is configured of the WebSocket endpoint.
    #[derive(Clone, Debug)]
    pub struct Settings {
        /// `websocket.message_size_limit`: bytes of a message; more closes with 1009.
        pub message_bytes_max: usize,
        /// `client.allowed_origins`.
        pub origins: OriginPolicy,
        /// `websocket.compression`: offered to clients that ask for it.
        pub compression: Option<Compression>,
    }

    /// What is configured of permessage-deflate.
    #[derive(Clone, Copy, Debug)]
    pub struct Compression {
        /// How messages to clients are compressed.
        pub deflate: Deflate,
        /// `websocket.decompressed_message_size_limit`: bytes of an inflated message of a client; more closes with 1009.
        pub inflated_bytes_max: NonZeroU32,
    }
}

/// Decodes what a client may send, in two pieces, with and without compression: nothing but to find panics, and memory
/// beyond the limits.
#[doc(hidden)]
pub fn fuzz_frames(bytes: &[u8], cut: usize) {
    const LIMIT: usize = 1 << 12;
    for inflated_max in [None, NonZeroU32::new(LIMIT as u32 * 2)] {
        let mut decoder = Decoder::new(LIMIT, inflated_max);
        let (first, second) = bytes.split_at(cut.min(bytes.len()));
        for piece in [first, second] {
            let (mut buffer, mut at) = (piece.to_vec(), 0);
            loop {
                match decoder.next(&mut buffer, &mut at) {
                    Ok(Some(Event::Text(message) | Event::Binary(message))) => {
                        assert!(message.len() <= LIMIT * 2)
                    }
                    Ok(Some(_)) => {}
                    Ok(None) => break,
                    Err(_) => return,
                }
            }
        }
    }
}

/// Answers a request to the WebSocket endpoint, and serves the connection it becomes.
pub fn serve(
    mut request: Request,
    shard: &LocalShard,
    settings: &Settings,
    opening: OpeningRequest,
) -> Response {
    let mut handshake = match handshake::admit(&request, &settings.origins) {
        Ok(handshake) => handshake,
        Err(refusal) => return *refusal,
    };
    let Some((upgrade, body)) = upgrade(&mut request) else {
        return status(StatusCode::BAD_REQUEST, "no way from here to WebSocket\n");
    };
    let query = request.uri().query().unwrap_or("");
    let has = |wanted: &str| query.split('&').any(|pair| pair == wanted);
    let is_protobuf = handshake.subprotocol == Some(PROTOBUF_SUBPROTOCOL)
        || has("format=protobuf")
        || has("cf_protocol=protobuf");
    let encoding = if is_protobuf { Encoding::Protobuf } else { Encoding::Json };
    let compression = handshake.agree_on(settings.compression);
    let form = WireForm {
        encoding,
        framing: Framing::WebSocket,
        direction: Direction::Bidirectional,
        ascii: false,
        deflate: compression.map(|compression| compression.deflate),
    };
    let native_pings = has("cf_ws_frame_ping_pong=true").then(|| shard.ping_times());
    let pings = if native_pings.is_some() { Pings::Transport } else { Pings::Protocol };
    let options = ConnectionOptions {
        transport: TransportKind::WebSocket,
        form,
        announces_disconnect: false,
        pings,
        opening,
    };
    let decoder = Decoder::new(
        settings.message_bytes_max,
        compression.map(|compression| compression.inflated_bytes_max),
    );
    let shard = shard.clone();
    tokio::task::spawn_local(async move {
        if let Some((socket, received)) = upgrade.socket().await {
            // The task of the upgrade ends here: what runs on is the connection's own, small one.
            let connection = Connection::new(shard, socket, options, decoder);
            if let Some(times) = native_pings {
                connection.ping_natively(times);
            }
            tokio::task::spawn_local(connection.run(received));
        }
    });
    handshake.response(body)
}

/// What the reading task and the writing link share.
struct Shared {
    socket: Socket,
    /// The socket took no more; the task waits until it does.
    is_blocked: Cell<bool>,
    ending: Cell<Option<Ending>>,
    waker: Cell<Option<Waker>>,
    /// A native ping is answered.
    has_pong: Cell<bool>,
}

/// Why the task stops handing in commands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ending {
    /// The session is over; its last frames are in the queue.
    Closed,
    /// The connect was refused; the client is expected to leave.
    Refused,
    /// Nothing that the client still sends can be read.
    Broken,
}

impl Shared {
    fn new(socket: Socket) -> Rc<Self> {
        Rc::new(Self {
            socket,
            is_blocked: Cell::new(false),
            ending: Cell::new(None),
            waker: Cell::new(None),
            has_pong: Cell::new(false),
        })
    }

    fn wake(&self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// Ready when there is something for the task to do.
    fn poll(&self, cx: &mut Context<'_>, is_ending: bool) -> Poll<io::Result<Wake>> {
        self.waker.set(Some(cx.waker().clone()));
        if !is_ending && self.ending.get().is_some() {
            return Poll::Ready(Ok(Wake::Ending));
        }
        if self.is_blocked.get() && self.socket.poll_write_ready(cx)?.is_ready() {
            self.is_blocked.set(false);
            return Poll::Ready(Ok(Wake::Writable));
        }
        ready!(self.socket.poll_read_ready(cx))?;
        Poll::Ready(Ok(Wake::Readable))
    }
}

enum Wake {
    Readable,
    Writable,
    Ending,
}

/// The writing half.
struct SocketLink(Rc<Shared>);

impl Link for SocketLink {
    fn flush(&mut self, queue: &mut Queue) -> Flushed {
        while !queue.is_empty() {
            let written = match queue.only_frame() {
                // By far the most common: clearing room for many slices costs two hundred instructions.
                Some(frame) => self.0.socket.try_write_vectored(&[IoSlice::new(frame)]),
                None => {
                    let mut slices = [IoSlice::new(&[]); SLICES];
                    let used = queue.fill(&mut slices);
                    self.0.socket.try_write_vectored(&slices[..used])
                }
            };
            match written {
                Ok(written) => {
                    queue.advance(written);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return self.blocked(),
                Err(_) => return Flushed::Failed,
            }
        }
        if self.0.socket.has_unsent() { self.blocked() } else { Flushed::Done }
    }

    fn close(&mut self, disconnect: &Disconnect, queue: &mut Queue) {
        if disconnect.code != Disconnect::CONNECTION_CLOSED.code {
            queue.push(frame::close_frame(disconnect.code as u16, &disconnect.reason));
        }
        self.end(Ending::Closed);
    }

    fn finish(&mut self) {
        self.end(Ending::Refused);
    }
}

impl SocketLink {
    fn end(&self, ending: Ending) {
        self.0.ending.set(Some(ending));
        self.0.wake();
    }

    fn blocked(&self) -> Flushed {
        self.0.is_blocked.set(true);
        self.0.wake();
        Flushed::Blocked
    }
}

/// The reading half.
struct Connection {
    shard: LocalShard,
    id: ConnectionId,
    encoding: Encoding,
    shared: Rc<Shared>,
    decoder: Decoder,
    /// Set if it is unidirectional.
    unidirectional: Option<Box<Unidirectional>>,
    #[cfg(test)]
    echo: Option<autobahn::Echo>,
}

/// What a session that waits has not taken yet.
struct Left {
    /// Commands of the current message.
    commands: Vec<u8>,
    /// Bytes behind it.
    bytes: Vec<u8>,
}

/// What became of a buffer.
enum Consumed {
    /// Read on.
    All,
    /// The session waits.
    Busy(Left),
    /// The client said goodbye, or nothing more can be read from it.
    Ended,
}

impl Connection {
    fn new(shard: LocalShard, socket: Socket, options: ConnectionOptions, decoder: Decoder) -> Self {
        let shared = Shared::new(socket);
        let link = Box::new(SocketLink(shared.clone()));
        Self::with_link(shard, shared, options, decoder, link)
    }

    fn with_link(
        shard: LocalShard,
        shared: Rc<Shared>,
        options: ConnectionOptions,
        decoder: Decoder,
        link: Box<dyn Link>,
    ) -> Self {
        let encoding = options.form.encoding;
        let id = shard.open(options, link);
        Self {
            shard,
            id,
            encoding,
            shared,
            decoder,
            unidirectional: None,
            #[cfg(test)]
            echo: None,
        }
    }

    /// Starts pings of the WebSocket layer, unless pings are disabled.
    fn ping_natively(&self, times: PingTimes) {
        if !times.interval.is_zero() {
            let pings = NativePings { shared: self.shared.clone(), shard: self.shard.clone(), times };
            tokio::task::spawn_local(pings.run(self.id));
        }
    }

    async fn run(mut self, received: Vec<u8>) {
        let has_left = self.read(received).await.is_err();
        if !has_left {
            // A peer that does not answer in time is dropped.
            drop(timeout(CLOSE_TIMEOUT, self.say_goodbye()).await);
        }
        self.shared.socket.shutdown();
        self.shard.release(self.id);
    }

    /// Hands in what the client sends until the session ends. An error if the client left first.
    async fn read(&mut self, mut received: Vec<u8>) -> Result<(), ()> {
        self.consume(&mut received).await?;
        drop(received);
        loop {
            match poll_fn(|cx| self.shared.poll(cx, false)).await {
                Ok(Wake::Ending) => return Ok(()),
                Ok(Wake::Writable) => {
                    self.shard.flush(self.id);
                }
                Ok(Wake::Readable) => {
                    if let Some(left) = self.read_once()? {
                        self.resume(left).await?;
                    }
                }
                Err(_) => return Err(()),
            }
        }
    }

    /// Reads and handles what is there now. Returns what is left if the session has to be waited for.
    fn read_once(&mut self) -> Result<Option<Left>, ()> {
        thread_local! {
            static BUFFER: RefCell<Box<[u8]>> = RefCell::new(vec![0; READ_BUFFER_BYTES].into());
        }
        BUFFER.with_borrow_mut(|buffer| {
            let read = match self.shared.socket.try_read(buffer) {
                Ok(0) => return Err(()),
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(_) => return Err(()),
            };
            match self.consume_now(&mut buffer[..read]) {
                Consumed::All => Ok(None),
                Consumed::Busy(left) => Ok(Some(left)),
                Consumed::Ended => Err(()),
            }
        })
    }

    async fn consume(&mut self, bytes: &mut [u8]) -> Result<(), ()> {
        match self.consume_now(bytes) {
            Consumed::All => Ok(()),
            Consumed::Busy(left) => self.resume(left).await,
            Consumed::Ended => Err(()),
        }
    }

    /// Goes on when the session takes commands again.
    async fn resume(&mut self, mut left: Left) -> Result<(), ()> {
        loop {
            let fed = poll_fn(|cx| self.shard.poll_idle(self.id, cx)).await;
            if fed == Fed::Over {
                return Ok(());
            }
            if !left.commands.is_empty() {
                match pump_frame(&self.shard, self.id, self.encoding, &left.commands) {
                    Pumped::Open => {}
                    Pumped::Over => return Ok(()),
                    Pumped::Busy(rest) => {
                        left.commands.drain(..left.commands.len() - rest);
                        continue;
                    }
                }
            }
            match self.consume_now(&mut left.bytes) {
                Consumed::All => return Ok(()),
                Consumed::Ended => return Err(()),
                Consumed::Busy(rest) => left = rest,
            }
        }
    }

    /// Handles the frames of a buffer.
    fn consume_now(&mut self, buffer: &mut [u8]) -> Consumed {
        let mut at = 0;
        loop {
            let event = match self.decoder.next(buffer, &mut at) {
                Ok(Some(event)) => event,
                Ok(None) => return Consumed::All,
                Err(error) => return self.broken(error),
            };
            #[cfg(test)]
            if let Some(frame) = self.echo.as_ref().and_then(|echo| echo.answer(&event)) {
                self.shard.enqueue(self.id, frame);
                continue;
            }
            let pumped = match event {
                Event::Text(message) | Event::Binary(message) => match &mut self.unidirectional {
                    Some(unidirectional) => {
                        unidirectional.receive(&self.shard, self.id, &message);
                        Ok(())
                    }
                    None => pump_frame(&self.shard, self.id, self.encoding, &message)
                        .map_busy(|left| message[message.len() - left..].to_vec()),
                },
                Event::Ping(payload) => {
                    self.shard.enqueue(self.id, frame::pong_frame(&payload));
                    Ok(())
                }
                Event::Pong => {
                    self.shared.has_pong.set(true);
                    Ok(())
                }
                Event::Close(code) => {
                    self.answer_close(code);
                    return Consumed::Ended;
                }
            };
            if let Err(commands) = pumped {
                return Consumed::Busy(Left { commands, bytes: buffer[at..].to_vec() });
            }
            if self.shared.ending.get().is_some() {
                return Consumed::All;
            }
        }
    }

    /// The client's frames cannot be read: it is told why, and the session ends as if it had left.
    fn broken(&mut self, error: FrameError) -> Consumed {
        tracing::debug!(%error, "WebSocket framing broken");
        let code = error.close_code();
        self.shard.enqueue(self.id, frame::close_frame(code, ""));
        self.shard.count_close(self.id, code.into());
        self.shard.flush(self.id);
        self.shard.disconnect(self.id, &Disconnect::CONNECTION_CLOSED);
        self.shared.ending.set(Some(Ending::Broken));
        Consumed::All
    }

    /// Repeats the client's close code, as the protocol asks.
    fn answer_close(&mut self, code: Option<u16>) {
        let frame = match code {
            Some(code) => frame::close_frame(code, ""),
            None => Bytes::from_static(&[0x88, 0]),
        };
        self.shard.enqueue(self.id, frame);
        self.shard.flush(self.id);
    }

    /// Writes what is queued, and waits for the client to leave.
    async fn say_goodbye(&mut self) {
        let is_short = self.unidirectional.as_ref().is_some_and(|uni| !uni.has_closing_handshake);
        let mut is_broken = self.shared.ending.get() == Some(Ending::Broken);
        loop {
            let flushed = self.shard.flush(self.id);
            if flushed == Flushed::Failed || (is_short && flushed == Flushed::Done) {
                return;
            }
            if is_broken && flushed == Flushed::Done {
                is_broken = false;
                // The close frame is the end, whether the client answers it or not.
                self.shared.socket.shutdown();
            }
            match poll_fn(|cx| self.shared.poll(cx, true)).await {
                // One read at a time: a peer that floods the socket must not keep the thread from its other work.
                Ok(Wake::Readable) if self.has_left() => return,
                Ok(_) => {}
                Err(_) => return,
            }
        }
    }

    /// Reads once after the end: true if the client is gone or said goodbye. No part of the task's future, whose size
    /// every idle connection pays.
    fn has_left(&self) -> bool {
        let mut scratch = [0; 1024];
        match self.shared.socket.try_read(&mut scratch) {
            Ok(0) => true,
            Ok(read) => is_close(&scratch[..read]),
            Err(error) => error.kind() != io::ErrorKind::WouldBlock,
        }
    }
}

/// Pings of the WebSocket layer instead of the protocol's, for clients like command-line tools. Rare, so each such
/// connection may have a task of its own for them.
struct NativePings {
    shared: Rc<Shared>,
    shard: LocalShard,
    times: PingTimes,
}

impl NativePings {
    async fn run(self, id: ConnectionId) {
        loop {
            tokio::time::sleep(self.times.interval).await;
            if self.shared.ending.get().is_some() || !self.shard.enqueue(id, Bytes::from_static(&[0x89, 0])) {
                return;
            }
            self.shared.has_pong.set(false);
            tokio::time::sleep(self.times.pong_timeout).await;
            if !self.shared.has_pong.get() {
                return self.shard.disconnect(id, &Disconnect::NO_PONG);
            }
        }
    }
}

/// True if these bytes begin with a close frame: enough to end the wait early; the deadline covers the rest.
fn is_close(bytes: &[u8]) -> bool {
    bytes.first() == Some(&0x88)
}

impl Pumped {
    /// The commands that are left, if the session is busy.
    fn map_busy(self, rest: impl FnOnce(usize) -> Vec<u8>) -> Result<(), Vec<u8>> {
        match self {
            Self::Busy(left) => Err(rest(left)),
            Self::Open | Self::Over => Ok(()),
        }
    }
}
