//! The scripted peer, and the bytes it sends.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use gyre_h3::{Code, Config, Connection, Event, Reading, Transmit};

pub(crate) const CONTROL: u64 = 2;
pub(crate) const SESSION: u64 = 0;

/// A varint in its shortest form.
pub(crate) fn varint(value: u64) -> Vec<u8> {
    match value {
        0..0x40 => vec![value as u8],
        0x40..0x4000 => (0x4000 | value as u16).to_be_bytes().to_vec(),
        0x4000..0x4000_0000 => (0x8000_0000 | value as u32).to_be_bytes().to_vec(),
        _ => (0xc000_0000_0000_0000 | value).to_be_bytes().to_vec(),
    }
}

/// A frame, or a capsule.
pub(crate) fn frame(kind: u64, payload: &[u8]) -> Vec<u8> {
    [&varint(kind)[..], &varint(payload.len() as u64), payload].concat()
}

/// A capsule in a DATA frame.
pub(crate) fn capsule(kind: u64, value: &[u8]) -> Vec<u8> {
    frame(0x00, &frame(kind, value))
}

/// A close capsule in a DATA frame.
pub(crate) fn close(code: u32, reason: &[u8]) -> Vec<u8> {
    capsule(0x2843, &[&code.to_be_bytes()[..], reason].concat())
}

/// The header of a bidirectional WebTransport stream.
pub(crate) fn stream_header(session: u64) -> Vec<u8> {
    [vec![0x40, 0x41], varint(session)].concat()
}

/// A field section of literals.
pub(crate) fn section(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut out = vec![0, 0];
    let mut put = |first: u8, mask: usize, text: &str| {
        match text.len().checked_sub(mask) {
            None => out.push(first | text.len() as u8),
            Some(mut rest) => {
                out.push(first | mask as u8);
                while rest >= 0x80 {
                    out.push(rest as u8 | 0x80);
                    rest >>= 7;
                }
                out.push(rest as u8);
            }
        }
        out.extend_from_slice(text.as_bytes());
    };
    for (name, value) in fields {
        put(0x20, 0x07, name);
        put(0x00, 0x7f, value);
    }
    out
}

pub(crate) fn headers(fields: &[(&str, &str)]) -> Vec<u8> {
    frame(0x01, &section(fields))
}

pub(crate) const GET: [(&str, &str); 4] =
    [(":method", "GET"), (":scheme", "https"), (":authority", "a"), (":path", "/")];

/// Control stream with the SETTINGS a browser sends: datagrams, and draft 02.
pub(crate) fn settings() -> Vec<u8> {
    [&[0x00][..], &frame(0x04, &[0x33, 0x01, 0xab, 0x60, 0x37, 0x42, 0x01])].concat()
}

pub(crate) fn connect(more: &[(&str, &str)]) -> Vec<u8> {
    let base = [
        (":method", "CONNECT"),
        (":protocol", "webtransport"),
        (":scheme", "https"),
        (":authority", "localhost"),
        (":path", "/wt"),
    ];
    headers(&[&base[..], more].concat())
}

pub(crate) struct Peer {
    pub(crate) connection: Connection,
    pub(crate) now: Instant,
}

impl Peer {
    pub(crate) fn new(config: Config) -> Self {
        let now = Instant::now();
        let mut peer = Self { connection: Connection::new(Arc::new(config), now), now };
        assert!(matches!(peer.connection.poll_transmit(), Some(Transmit::OpenControl(_))));
        peer
    }

    pub(crate) fn send(&mut self, stream: u64, bytes: impl Into<Bytes>, fin: bool) -> Result<Reading, Code> {
        self.connection.handle_stream(self.now, stream, bytes.into(), fin).map_err(|error| error.code)
    }

    pub(crate) fn datagram(&mut self, bytes: &[u8]) -> Result<(), Code> {
        self.connection.handle_datagram(Bytes::copy_from_slice(bytes)).map_err(|error| error.code)
    }

    pub(crate) fn reset(&mut self, stream: u64) -> Result<(), Code> {
        self.connection.handle_reset(self.now, stream).map_err(|error| error.code)
    }

    pub(crate) fn accept(&mut self) -> Vec<Event> {
        let mut events = self.events();
        let at = events.iter().position(|event| matches!(event, Event::SessionRequest { .. })).unwrap();
        let Event::SessionRequest { session, head } = events.remove(at) else { unreachable!() };
        self.connection.accept_session(session, Vec::new(), &head);
        events
    }

    pub(crate) fn events(&mut self) -> Vec<Event> {
        std::iter::from_fn(|| self.connection.poll_event()).collect()
    }

    pub(crate) fn transmits(&mut self) -> Vec<Transmit> {
        std::iter::from_fn(|| self.connection.poll_transmit()).collect()
    }

    /// Passes time, to the next deadline at most.
    pub(crate) fn pass(&mut self, time: Duration) -> Result<(), Code> {
        self.now += time;
        self.connection.handle_timeout(self.now).map_err(|error| error.code)
    }

    /// A connection with one accepted session.
    pub(crate) fn with_session() -> Self {
        Self::with_session_and(Config::default())
    }

    /// A connection whose peer may ask for sessions.
    pub(crate) fn with_settings() -> Self {
        let mut peer = Self::new(Config::default());
        peer.send(CONTROL, settings(), false).unwrap();
        peer
    }

    pub(crate) fn with_session_and(config: Config) -> Self {
        let mut peer = Self::new(config);
        peer.send(CONTROL, settings(), false).unwrap();
        peer.send(SESSION, connect(&[]), false).unwrap();
        peer.accept();
        peer.transmits();
        peer
    }
}

pub(crate) fn reset(stream: u64, code: Code) -> Transmit {
    Transmit::Reset { stream, code }
}

pub(crate) fn stop(stream: u64, code: Code) -> Transmit {
    Transmit::Stop { stream, code }
}

pub(crate) fn write(stream: u64, data: impl Into<Bytes>, fin: bool) -> Transmit {
    Transmit::Write { stream, data: data.into(), fin }
}

pub(crate) fn fin(stream: u64) -> Transmit {
    write(stream, Bytes::new(), true)
}

pub(crate) fn ended(close: Option<(u32, &str)>) -> Event {
    Event::SessionEnded { session: SESSION, close: close.map(|(code, reason)| (code, reason.to_owned())) }
}
