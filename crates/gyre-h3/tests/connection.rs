//! A connection driven by a scripted peer: what it answers to good and bad input.
#![expect(clippy::disallowed_methods, reason = "a test is where time comes from")]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![expect(unused_must_use, reason = "only some tests look at whether reading goes on")]

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use gyre_h3::{Code, Config, Connection, Event, Reading, ResponseHead, Transmit};

const CONTROL: u64 = 2;
const SESSION: u64 = 0;

/// A frame of a short payload.
fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
    assert!(payload.len() < 64);
    [&[kind, payload.len() as u8], payload].concat()
}

/// A field section of literals.
fn section(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut out = vec![0, 0];
    for (name, value) in fields {
        // Names and values below 127 bytes; names of 7 bytes or more continue in a second byte.
        match name.len() {
            short @ 0..7 => out.push(0x20 | short as u8),
            long => out.extend([0x27, long as u8 - 7]),
        }
        out.extend_from_slice(name.as_bytes());
        out.push(value.len() as u8);
        out.extend_from_slice(value.as_bytes());
    }
    out
}

fn headers(fields: &[(&str, &str)]) -> Vec<u8> {
    let section = section(fields);
    let mut out = vec![0x01];
    out.extend((0x4000 | section.len() as u16).to_be_bytes());
    out.extend(section);
    out
}

/// Control stream with the SETTINGS a browser sends: datagrams, and draft 02.
fn settings() -> Vec<u8> {
    [&[0x00][..], &frame(0x04, &[0x33, 0x01, 0xab, 0x60, 0x37, 0x42, 0x01])].concat()
}

fn connect(more: &[(&str, &str)]) -> Vec<u8> {
    let base = [
        (":method", "CONNECT"),
        (":protocol", "webtransport"),
        (":scheme", "https"),
        (":authority", "localhost"),
        (":path", "/wt"),
    ];
    headers(&[&base[..], more].concat())
}

struct Peer {
    connection: Connection,
    now: Instant,
}

impl Peer {
    fn new(config: Config) -> Self {
        let now = Instant::now();
        let mut peer = Self { connection: Connection::new(Arc::new(config), now), now };
        assert!(matches!(peer.connection.poll_transmit(), Some(Transmit::OpenControl(_))));
        peer
    }

    fn send(&mut self, stream: u64, bytes: impl Into<Bytes>, fin: bool) -> Result<Reading, Code> {
        self.connection.handle_stream(self.now, stream, bytes.into(), fin).map_err(|error| error.code)
    }

    fn events(&mut self) -> Vec<Event> {
        std::iter::from_fn(|| self.connection.poll_event()).collect()
    }

    fn transmits(&mut self) -> Vec<Transmit> {
        std::iter::from_fn(|| self.connection.poll_transmit()).collect()
    }

    /// Passes time, to the next deadline at most.
    fn pass(&mut self, time: Duration) -> Result<(), Code> {
        self.now += time;
        self.connection.handle_timeout(self.now).map_err(|error| error.code)
    }

    /// A connection with one accepted session.
    fn with_session() -> Self {
        let mut peer = Self::new(Config::default());
        peer.send(CONTROL, settings(), false).unwrap();
        peer.send(SESSION, connect(&[]), false).unwrap();
        let Some(Event::SessionRequest { session, head }) = peer.connection.poll_event() else {
            panic!("no request")
        };
        peer.connection.accept_session(session, Vec::new(), &head);
        peer.transmits();
        peer
    }
}

/// What a control stream must not hold, each with its error.
#[test]
fn control_stream_rules_have_their_errors() {
    let error = |bytes: &[u8]| Peer::new(Config::default()).send(CONTROL, bytes.to_vec(), false).err();
    let after_settings = |more: &[u8]| error(&[&settings()[..], more].concat());
    assert_eq!(error(&[0x00, 0x07, 0x01, 0x00]), Some(Code::H3_MISSING_SETTINGS));
    assert_eq!(after_settings(&frame(0x04, &[])), Some(Code::H3_FRAME_UNEXPECTED), "SETTINGS twice");
    for kind in [0x00, 0x01, 0x05, 0x02, 0x06, 0x08, 0x09] {
        assert_eq!(after_settings(&frame(kind, &[])), Some(Code::H3_FRAME_UNEXPECTED), "{kind:#x}");
    }
    assert_eq!(after_settings(&frame(0x03, &[0])), Some(Code::H3_ID_ERROR), "CANCEL_PUSH");
    assert_eq!(after_settings(&frame(0x07, &[0, 0])), Some(Code::H3_FRAME_ERROR), "bytes behind the id");
    let goaways = [frame(0x07, &[4]), frame(0x07, &[8])].concat();
    assert_eq!(after_settings(&goaways), Some(Code::H3_ID_ERROR), "GOAWAY increased");
    assert_eq!(after_settings(&frame(0x21, b"grease")), None, "unknown frames are passed over");
    assert_eq!(error(&[0x01]), Some(Code::H3_STREAM_CREATION_ERROR), "a push stream");
}

/// There is one stream of each critical kind, and it stays open; unknown kinds are stopped alone.
#[test]
fn critical_streams_are_single_and_stay() {
    let mut peer = Peer::new(Config::default());
    peer.send(CONTROL, settings(), false).unwrap();
    peer.send(6, vec![0x02], false).unwrap();
    assert_eq!(peer.send(10, vec![0x02], false).err(), Some(Code::H3_STREAM_CREATION_ERROR));
    assert_eq!(peer.send(14, vec![0x40, 0x77], false), Ok(Reading::Stop));
    let stop = Transmit::Stop { stream: 14, code: Code::H3_STREAM_CREATION_ERROR };
    assert!(peer.transmits().contains(&stop));
    assert_eq!(peer.send(6, vec![], true).err(), Some(Code::H3_CLOSED_CRITICAL_STREAM));
    let reset = peer.connection.handle_reset(peer.now, CONTROL).map_err(|error| error.code);
    assert_eq!(reset, Err(Code::H3_CLOSED_CRITICAL_STREAM));
}

/// A request with a body is delivered the same however its bytes are cut, and its answer is framed.
#[test]
fn requests_are_delivered_however_they_are_cut() {
    let fields = [
        (":method", "POST"),
        (":scheme", "https"),
        (":authority", "a"),
        (":path", "/api"),
        ("content-length", "5"),
    ];
    let bytes = [headers(&fields), frame(0x21, b"grease"), frame(0x00, b"he"), frame(0x00, b"llo")].concat();
    for cut in 0..=bytes.len() {
        let mut peer = Peer::new(Config::default());
        peer.send(4, bytes[..cut].to_vec(), false).unwrap();
        peer.send(4, bytes[cut..].to_vec(), true).unwrap();
        let events = peer.events();
        assert!(
            matches!(&events[0], Event::Request { stream: 4, head } if head.path == "/api"),
            "cut at {cut}"
        );
        let body: Vec<u8> = events
            .iter()
            .filter_map(|event| if let Event::Body { data, .. } = event { Some(&data[..]) } else { None })
            .flatten()
            .copied()
            .collect();
        assert_eq!(body, b"hello", "cut at {cut}");
        assert_eq!(events.last(), Some(&Event::End { stream: 4 }), "cut at {cut}");
        peer.connection.respond(peer.now, 4, &ResponseHead::status(200), false);
        peer.connection.send_body(peer.now, 4, b"ok", true);
        let written: Vec<u8> = peer
            .transmits()
            .iter()
            .filter_map(|t| if let Transmit::Write { data, .. } = t { Some(&data[..]) } else { None })
            .flatten()
            .copied()
            .collect();
        assert_eq!(written, [&[0x01, 0x03, 0x00, 0x00, 0xd9][..], &frame(0x00, b"ok")].concat());
    }
}

/// Requests that break the rules, each with what becomes of it.
#[test]
fn broken_requests_have_their_outcomes() {
    let get = [(":method", "GET"), (":scheme", "https"), (":authority", "a"), (":path", "/")];
    let send = |bytes: Vec<u8>, fin: bool| {
        let mut peer = Peer::new(Config::default());
        let result = peer.send(4, bytes, fin);
        (result.err(), peer.transmits())
    };
    let reset = |code| Transmit::Reset { stream: 4, code };
    assert_eq!(send(frame(0x00, b"x"), false).0, Some(Code::H3_FRAME_UNEXPECTED), "DATA first");
    assert_eq!(send(frame(0x04, b""), false).0, Some(Code::H3_FRAME_UNEXPECTED), "SETTINGS");
    assert_eq!(send([headers(&get), vec![0x40, 0x41]].concat(), false).0, None, "half a frame");
    assert_eq!(send([headers(&get), vec![0x40, 0x41, 0x00]].concat(), false).0, Some(Code::H3_FRAME_ERROR));
    assert_eq!(send(headers(&get)[..9].to_vec(), true).0, Some(Code::H3_FRAME_ERROR), "cut frame");
    assert_eq!(send(frame(0x01, &[0x01, 0x00]), false).0, Some(Code::QPACK_DECOMPRESSION_FAILED));
    let malformed = headers(&[&get[..], &[("Upper", "x")]].concat());
    assert!(send(malformed, false).1.contains(&reset(Code::H3_MESSAGE_ERROR)));
    let short = [headers(&[&get[..], &[("content-length", "9")]].concat()), frame(0x00, b"x")].concat();
    assert!(send(short, true).1.contains(&reset(Code::H3_MESSAGE_ERROR)), "content-length");
    let (error, transmits) = send(vec![0x01, 0x80, 0x01, 0x00, 0x00], false);
    assert_eq!(error, None);
    let answered =
        |t: &Transmit| matches!(t, Transmit::Write { data, fin: true, .. } if data.ends_with(b"431"));
    assert!(transmits.iter().any(answered), "64 KiB of headers are answered with 431: {transmits:?}");
}

/// A session is asked for, accepted in the dialect asked for, and its stream handed over with what came behind the header.
#[test]
fn sessions_are_established() {
    let mut peer = Peer::new(Config::default());
    peer.send(SESSION, connect(&[("sec-webtransport-http3-draft02", "1")]), false).unwrap();
    assert_eq!(peer.events(), [], "held until SETTINGS are here");
    peer.send(CONTROL, settings(), false).unwrap();
    let Some(Event::SessionRequest { session: SESSION, head }) = peer.connection.poll_event() else {
        panic!("no request")
    };
    // A stream may overtake the answer.
    assert_eq!(peer.send(4, vec![0x40, 0x41, 0x00, b'h', b'i'], false), Ok(Reading::Stop));
    assert_eq!(peer.events(), []);
    peer.connection.accept_session(SESSION, Vec::new(), &head);
    let Some(Transmit::Write { stream: SESSION, data, fin: false }) = peer.connection.poll_transmit() else {
        panic!("no answer")
    };
    assert!(data.windows(7).any(|part| part == b"draft02"));
    let data = Bytes::from_static(b"hi");
    assert_eq!(peer.events(), [Event::SessionStream { session: SESSION, stream: 4, data, fin: false }]);
    peer.connection.handle_datagram(Bytes::from_static(&[0x00, b'd'])).unwrap();
    let data = Bytes::from_static(b"d");
    assert_eq!(peer.events(), [Event::SessionDatagram { session: SESSION, data }]);
    assert!(peer.connection.handle_datagram(Bytes::new()).is_err());
}

/// Requests for sessions that must not be: each with its answer, and the connection lives.
#[test]
fn sessions_are_refused() {
    let refused = |fields: &[(&str, &str)], config: Config| {
        let mut peer = Peer::new(config);
        peer.send(CONTROL, settings(), false).unwrap();
        peer.send(SESSION, headers(fields), false).unwrap();
        assert_eq!(peer.events(), []);
        peer.transmits()
    };
    let base = |protocol: &'static str, scheme: &'static str| {
        [
            (":method", "CONNECT"),
            (":protocol", protocol),
            (":scheme", scheme),
            (":authority", "a"),
            (":path", "/"),
        ]
    };
    let has_501 = |transmits: &[Transmit]| {
        transmits.iter().any(|t| matches!(t, Transmit::Write { data, .. } if data.ends_with(b"501")))
    };
    assert!(has_501(&refused(&base("websocket", "https"), Config::default())));
    assert!(has_501(&refused(&base("webtransport-h3", "https"), Config::default())));
    let off = Config { dialects: gyre_h3::Dialects::NONE, ..Config::default() };
    assert!(has_501(&refused(&base("webtransport", "https"), off)));
    let reset = Transmit::Reset { stream: SESSION, code: Code::H3_MESSAGE_ERROR };
    assert!(refused(&base("webtransport", "http"), Config::default()).contains(&reset));

    let mut peer = Peer::with_session();
    peer.send(4, connect(&[]), false).unwrap();
    let reset = Transmit::Reset { stream: 4, code: Code::H3_REQUEST_REJECTED };
    assert!(peer.transmits().contains(&reset), "one session a connection");
    peer.send(8, vec![0x40, 0x41, 0x00], false).unwrap();
    assert!(
        matches!(peer.events()[..], [Event::SessionStream { stream: 8, .. }]),
        "the first one is unharmed"
    );
    assert_eq!(
        peer.send(12, vec![0x40, 0x41, 0x01], false).err(),
        Some(Code::H3_ID_ERROR),
        "not a request's id"
    );

    let mut peer = Peer::new(Config::default());
    peer.send(SESSION, connect(&[]), false).unwrap();
    assert_eq!(peer.pass(Duration::from_secs(5)), Err(Code::H3_MISSING_SETTINGS));
    let mut peer = Peer::new(Config::default());
    peer.send(CONTROL, [&[0x00][..], &frame(0x04, &[])].concat(), false).unwrap();
    peer.send(SESSION, connect(&[]), false).unwrap();
    let reset = Transmit::Reset { stream: SESSION, code: Code::H3_MESSAGE_ERROR };
    assert!(peer.transmits().contains(&reset), "a peer without datagrams");
}

/// Streams for sessions that never come are bounded.
#[test]
fn early_streams_are_bounded() {
    let mut peer = Peer::new(Config::default());
    for i in 0..17 {
        peer.send(4 + 4 * i, vec![0x40, 0x41, 0x40 | 0x01, 0x00], false).unwrap();
    }
    let stop = Transmit::Stop { stream: 4 + 4 * 16, code: Code::WT_BUFFERED_STREAM_REJECTED };
    assert!(peer.transmits().contains(&stop));
}

/// Our close: capsule and end together, then the peer's end, then, after a pause, the end of the connection.
#[test]
fn we_close_in_order() {
    let mut peer = Peer::with_session();
    peer.connection.close_session(peer.now, SESSION, 3001, "shutdown");
    let mut expected = vec![0x00, 0x0f, 0x68, 0x43, 0x0c, 0x00, 0x00, 0x0b, 0xb9];
    expected.extend_from_slice(b"shutdown");
    assert_eq!(peer.transmits(), [Transmit::Write { stream: SESSION, data: expected.into(), fin: true }]);
    peer.send(SESSION, vec![], true).unwrap();
    assert_eq!(peer.events(), [Event::SessionEnded { session: SESSION, close: None }]);
    peer.pass(Duration::from_millis(249)).unwrap();
    assert_eq!(peer.transmits(), []);
    peer.pass(Duration::from_millis(1)).unwrap();
    assert_eq!(peer.transmits(), [Transmit::Close { code: Code::H3_NO_ERROR }]);

    let mut silent = Peer::with_session();
    silent.connection.close_session(silent.now, SESSION, 3001, "");
    silent.pass(Duration::from_secs(1)).unwrap();
    assert_eq!(
        silent.events(),
        [Event::SessionEnded { session: SESSION, close: None }],
        "a peer that never answers"
    );
}

/// The peer's close: code and reason are told, its end is answered, and the connection is reaped.
#[test]
fn the_peer_closes() {
    let mut peer = Peer::with_session();
    peer.send(SESSION, frame(0x00, &[0x68, 0x43, 0x07, 0, 0, 0, 77, b'b', b'y', b'e']), true).unwrap();
    let close = Some((77, "bye".to_owned()));
    assert_eq!(peer.events(), [Event::SessionEnded { session: SESSION, close }]);
    assert_eq!(peer.transmits(), [Transmit::Write { stream: SESSION, data: Bytes::new(), fin: true }]);
    peer.pass(Duration::from_millis(250)).unwrap();
    assert_eq!(peer.transmits(), [Transmit::Close { code: Code::H3_NO_ERROR }]);

    let mut abrupt = Peer::with_session();
    abrupt.connection.handle_reset(abrupt.now, SESSION).unwrap();
    assert_eq!(abrupt.events(), [Event::SessionEnded { session: SESSION, close: None }]);
    abrupt.send(8, vec![0x40, 0x41, 0x00], false).unwrap();
    let gone = Transmit::Stop { stream: 8, code: Code::WT_SESSION_GONE };
    assert!(abrupt.transmits().contains(&gone), "a stream of a session that is over");
}

/// Draining tells the peer and every session, once.
#[test]
fn draining_is_told_once() {
    let mut peer = Peer::with_session();
    peer.connection.drain();
    peer.connection.drain();
    let goaway = vec![0x07, 0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xfc];
    let capsule = Bytes::from_static(&[0x00, 0x05, 0x80, 0x00, 0x78, 0xae, 0x00]);
    let write = Transmit::Write { stream: SESSION, data: capsule, fin: false };
    assert_eq!(peer.transmits(), [Transmit::Control(goaway), write]);
}

/// Floods end the connection and nothing else: unknown frames, and requests that are reset.
#[test]
fn floods_end_the_connection() {
    let mut peer = Peer::new(Config::default());
    let flood: Vec<u8> = (0..1001).flat_map(|_| frame(0x21, &[])).collect();
    let error = peer.send(CONTROL, [settings(), flood].concat(), false).err();
    assert_eq!(error, Some(Code::H3_EXCESSIVE_LOAD));
    let mut peer = Peer::new(Config::default());
    let get = headers(&[(":method", "GET"), (":scheme", "https"), (":authority", "a"), (":path", "/")]);
    let reset = |peer: &mut Peer, i: u64| {
        peer.send(4 * i, get.clone(), false).unwrap();
        peer.connection.handle_reset(peer.now, 4 * i).map_err(|error| error.code)
    };
    for i in 1..=100 {
        assert_eq!(reset(&mut peer, i), Ok(()));
    }
    assert_eq!(reset(&mut peer, 101), Err(Code::H3_EXCESSIVE_LOAD));
}

mod random {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Random bytes on any stream never panic.
        #[test]
        fn random_bytes_are_survived(
            inputs in prop::collection::vec((0u64..12, prop::collection::vec(any::<u8>(), 0..60), any::<bool>()), 1..12),
        ) {
            let mut peer = Peer::with_session();
            for (stream, bytes, fin) in inputs {
                if peer.send(stream, bytes, fin).is_err() {
                    break;
                }
                peer.events();
                peer.transmits();
            }
        }
    }
}
