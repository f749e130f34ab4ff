//! What a connection gives back.

use bytes::Bytes;

use crate::{error::Code, headers::RequestHead};

/// Id of a QUIC stream; its two lowest bits tell who opened it and whether it is unidirectional.
///
/// Spec: RFC 9000 section 2.1
pub type StreamId = u64;

/// Something for the application.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A request; its body follows.
    Request {
        /// Answer here.
        stream: StreamId,
        /// What is asked.
        head: Box<RequestHead>,
    },
    /// A part of a request's body.
    Body {
        /// The request.
        stream: StreamId,
        /// Never empty.
        data: Bytes,
    },
    /// The request is complete.
    End {
        /// The request.
        stream: StreamId,
    },
    /// The peer no longer wants the answer, or cut the request short.
    Cancelled {
        /// The request.
        stream: StreamId,
    },
    /// A WebTransport session is asked for: [`crate::Connection::accept_session`] or [`crate::Connection::respond`] with a refusal.
    SessionRequest {
        /// Names the session.
        session: StreamId,
        /// What is asked.
        head: Box<RequestHead>,
    },
    /// A stream of an accepted session. From here on the driver reads and writes it by itself.
    SessionStream {
        /// The session.
        session: StreamId,
        /// The stream.
        stream: StreamId,
        /// What came behind its header.
        data: Bytes,
        /// The stream has ended already.
        fin: bool,
    },
    /// A datagram of an accepted session.
    SessionDatagram {
        /// The session.
        session: StreamId,
        /// Its payload.
        data: Bytes,
    },
    /// The session is over. Whatever is open of its streams has to be reset and stopped with
    /// [`Code::WT_SESSION_GONE`].
    SessionEnded {
        /// The session.
        session: StreamId,
        /// Code and reason, if the peer closed it and gave some; (0, "") if it only ended the stream.
        close: Option<(u32, String)>,
    },
    /// The peer goes away: it will begin nothing more.
    GoAway,
}

/// Something to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Transmit {
    /// Open a unidirectional stream, write this, and keep it open.
    OpenControl(Vec<u8>),
    /// Write on the control stream.
    Control(Vec<u8>),
    /// Write on a request's or session's stream.
    Write {
        /// The stream.
        stream: StreamId,
        /// May be empty.
        data: Bytes,
        /// Finish the stream.
        fin: bool,
    },
    /// Reset a stream's sending side.
    Reset {
        /// The stream.
        stream: StreamId,
        /// With this code.
        code: Code,
    },
    /// Stop a stream's receiving side.
    Stop {
        /// The stream.
        stream: StreamId,
        /// With this code.
        code: Code,
    },
    /// Close the QUIC connection: there is nothing left to do on it.
    Close {
        /// With this code.
        code: Code,
    },
}

/// Whether the driver goes on reading a stream for the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Reading {
    /// Hand in what comes.
    Continue,
    /// Leave the rest unread: it belongs to [`Event::SessionStream`], or to nobody.
    Stop,
}
