//! Unidirectional WebSocket connections: the client sends one connect request, by the query or as its first message,
//! and listens from then on.
//!
//! Spec: client protocol, "Unidirectional transports"

use std::{
    cell::Cell,
    io::{self, IoSlice},
    rc::Rc,
};

use ::http::StatusCode;
use bytes::{Buf, Bytes};
use gyre_core::{
    hub::{Deflate, Direction, Framing, WireForm, websocket_frame},
    session::Pings,
};
use gyre_node::{
    ConnectionId, ConnectionOptions, Fed, Flushed, Link, LocalShard, OpeningRequest, Queue, TransportKind,
};
use gyre_protocol::{
    Disconnect, Push, PushBody,
    codec::{Encoding, json::decode_connect_request},
};

use super::{Compression, Connection, Decoder, Ending, Shared, SocketLink, handshake};
use crate::{
    http::{OriginPolicy, Request, Response, status, upgrade},
    streaming::{CONNECT_PARAMETER, connect_command, parameter},
};

const FORM: WireForm = WireForm {
    encoding: Encoding::Json,
    framing: Framing::WebSocket,
    direction: Direction::Unidirectional,
    ascii: false,
    deflate: None,
};

/// What the queue of a connection with joined messages holds.
const LINES: WireForm = WireForm { framing: Framing::Stream, ..FORM };
/// First byte of a final text frame.
const TEXT: u8 = 0x81;
/// Bytes of joined messages, but for the last one.
const JOINED_BYTES_MAX: usize = 64 * 1024;

/// What is configured of the endpoint.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `uni_websocket.message_size_limit`: bytes of a message; more closes with 1009.
    pub message_bytes_max: usize,
    /// `uni_websocket.compression` and what belongs to it.
    pub compression: Option<Compression>,
    /// `client.allowed_origins`.
    pub origins: OriginPolicy,
    /// Unless `uni_websocket.disable_closing_handshake`: a close frame, and time for the client's.
    pub has_closing_handshake: bool,
    /// Unless `uni_websocket.disable_disconnect_push`.
    pub announces_disconnect: bool,
    /// `uni_websocket.join_push_messages`: what waits goes out as one message, a push on each line.
    pub joins_pushes: bool,
}

/// Answers a request to the endpoint, and serves the connection it becomes.
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
    handshake.subprotocol = None;
    let compression = handshake.agree_on(settings.compression);
    let connect = parameter(request.uri().query().unwrap_or(""), CONNECT_PARAMETER);
    let connect = connect.filter(|connect| !connect.is_empty());
    if connect.as_ref().is_some_and(|connect| decode_connect_request(connect).is_err()) {
        return status(StatusCode::BAD_REQUEST, "malformed connect request\n");
    }
    let Some((upgrade, body)) = upgrade(&mut request) else {
        return status(StatusCode::BAD_REQUEST, "no way from here to WebSocket\n");
    };
    let deflate = compression.map(|compression| compression.deflate);
    let form = if settings.joins_pushes { LINES } else { WireForm { deflate, ..FORM } };
    let options = ConnectionOptions {
        transport: TransportKind::UniWebSocket,
        form,
        announces_disconnect: false,
        pings: Pings::Protocol,
        opening,
    };
    let inflated_max = compression.map(|compression| compression.inflated_bytes_max);
    let decoder = Decoder::new(settings.message_bytes_max, inflated_max);
    let (shard, settings) = (shard.clone(), settings.clone());
    tokio::task::spawn_local(async move {
        if let Some((socket, received)) = upgrade.socket().await {
            let times = shard.ping_times();
            let mut connection = open(shard, Shared::new(socket), options, decoder, &settings, deflate);
            connection.ping_natively(times);
            if let (Some(connect), Some(unidirectional)) = (connect, &mut connection.unidirectional) {
                unidirectional.receive(&connection.shard, connection.id, &connect);
            }
            tokio::task::spawn_local(connection.run(received));
        }
    });
    handshake.response(body)
}

fn open(
    shard: LocalShard,
    shared: Rc<Shared>,
    options: ConnectionOptions,
    decoder: Decoder,
    settings: &Settings,
    deflate: Option<Deflate>,
) -> Connection {
    let announces = Rc::new(Cell::new(false));
    let link = UnidirectionalLink {
        socket: SocketLink(shared.clone()),
        form: options.form,
        announces: announces.clone(),
        has_closing_handshake: settings.has_closing_handshake,
        joining: settings.joins_pushes.then(|| Box::new(Joining { deflate, begun: Bytes::new() })),
    };
    let mut connection = Connection::with_link(shard, shared, options, decoder, Box::new(link));
    connection.unidirectional = Some(Box::new(Unidirectional {
        awaits_connect: true,
        announces: settings.announces_disconnect.then_some(announces),
        has_closing_handshake: settings.has_closing_handshake,
    }));
    connection
}

/// What the reading half of a unidirectional connection knows.
pub(super) struct Unidirectional {
    awaits_connect: bool,
    /// To be set once the client has sent a connect request, unless disconnects are not announced.
    announces: Option<Rc<Cell<bool>>>,
    pub(super) has_closing_handshake: bool,
}

impl Unidirectional {
    /// Takes a message: the first one is the connect request, others are discarded.
    pub(super) fn receive(&mut self, shard: &LocalShard, id: ConnectionId, message: &[u8]) {
        if !std::mem::replace(&mut self.awaits_connect, false) {
            return;
        }
        match decode_connect_request(message) {
            Ok(request) => {
                if let Some(announces) = &self.announces {
                    announces.set(true);
                }
                // Whatever it says: there is no further command.
                let (Fed::Open | Fed::Busy | Fed::Over) = shard.command(id, connect_command(request));
            }
            Err(error) => {
                tracing::debug!(%error, "undecodable connect request");
                shard.disconnect(id, &Disconnect::BAD_REQUEST);
            }
        }
    }
}

/// The writing half: says by a push, too, why the connection ends.
struct UnidirectionalLink {
    socket: SocketLink,
    form: WireForm,
    announces: Rc<Cell<bool>>,
    has_closing_handshake: bool,
    joining: Option<Box<Joining>>,
}

impl Link for UnidirectionalLink {
    fn flush(&mut self, queue: &mut Queue) -> Flushed {
        match &mut self.joining {
            None => self.socket.flush(queue),
            Some(joining) => joining.flush(&self.socket, queue),
        }
    }

    fn close(&mut self, disconnect: &Disconnect, queue: &mut Queue) {
        let is_gone = disconnect.code == Disconnect::CONNECTION_CLOSED.code;
        if self.announces.get() && !is_gone {
            let body = PushBody::Disconnect(disconnect.clone());
            let push = Push { channel: "".into(), id: 0, body };
            if let Ok(frame) = self.form.push(&push) {
                queue.push(frame);
            }
        }
        match self.has_closing_handshake {
            true => self.socket.close(disconnect, queue),
            false => self.socket.end(Ending::Closed),
        }
    }

    fn finish(&mut self) {
        self.socket.finish();
    }
}

/// Makes one frame of the lines that wait.
struct Joining {
    deflate: Option<Deflate>,
    /// What is left of a frame on its way, which is not in the queue any more.
    begun: Bytes,
}

impl Joining {
    fn flush(&mut self, link: &SocketLink, queue: &mut Queue) -> Flushed {
        loop {
            if self.begun.is_empty() {
                match self.next(queue) {
                    Some(frame) => self.begun = frame,
                    None if link.0.socket.has_unsent() => return link.blocked(),
                    None => return Flushed::Done,
                }
            }
            match link.0.socket.try_write_vectored(&[IoSlice::new(&self.begun)]) {
                Ok(written) => self.begun.advance(written),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return link.blocked(),
                Err(_) => return Flushed::Failed,
            }
        }
    }

    /// The next frame: of lines, or one of the WebSocket layer as it is.
    fn next(&self, queue: &mut Queue) -> Option<Bytes> {
        let mut lines = Vec::new();
        while lines.len() < JOINED_BYTES_MAX
            && let Some(frame) = queue.pop()
        {
            if frame.first() == Some(&b'{') {
                lines.extend_from_slice(&frame);
            } else if lines.is_empty() {
                return Some(frame);
            } else {
                queue.put_back(frame);
                break;
            }
        }
        // Line ends are between messages, not behind the last one.
        lines.pop().map(|_| websocket_frame(TEXT, &lines, self.deflate))
    }
}
