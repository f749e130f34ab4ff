//! Establishment of sessions, their streams and datagrams.

use std::time::Duration;

use bytes::Bytes;
use gyre_h3::{Code, Config, Dialect, Dialects, Event, Reading, RequestHead, ResponseHead, Transmit};

use crate::peer::*;

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
    let websocket = Config { websocket: true, dialects: gyre_h3::Dialects::NONE, ..Config::default() };
    let mut peer = Peer::new(websocket);
    peer.send(SESSION, headers(&base("websocket", "https")), false).unwrap();
    let events = peer.events();
    let is_websocket = |head: &RequestHead| head.protocol.as_deref() == Some("websocket");
    assert!(matches!(&events[..], [Event::Request { head, .. }] if is_websocket(head)), "{events:?}");
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

/// The answer says draft 02 exactly to those who asked for it, and what else the application adds.
#[test]
fn answer_names_the_draft_if_asked() {
    let answer = |fields: &[(&str, &str)]| {
        let mut peer = Peer::new(Config::default());
        peer.send(CONTROL, settings(), false).unwrap();
        peer.send(SESSION, connect(fields), false).unwrap();
        peer.accept();
        peer.transmits()
    };
    // `:status` 200, and a literal field.
    let draft = b"\x00\x00\xd9\x27\x15sec-webtransport-http3-draft\x07draft02";
    let asked = answer(&[("sec-webtransport-http3-draft02", "1")]);
    assert_eq!(asked, [write(SESSION, frame(0x01, draft), false)]);
    assert_eq!(answer(&[]), [write(SESSION, frame(0x01, &[0x00, 0x00, 0xd9]), false)]);
}

/// The dialect of a connection is the highest both sides declared; a peer that declares none speaks draft 07.
#[test]
fn dialect_is_the_highest_common_one() {
    let dialect = |payload: &[u8], dialects: Dialects| {
        let mut peer = Peer::new(Config { dialects, ..Config::default() });
        assert_eq!(peer.connection.dialect(), None);
        peer.send(CONTROL, [vec![0x00], frame(0x04, payload)].concat(), false).unwrap();
        peer.connection.dialect()
    };
    let draft02 = [varint(0x2b60_3742), varint(1)].concat();
    let draft13 = [varint(0x14e9_cd29), varint(1)].concat();
    let both = [&draft02[..], &draft13].concat();
    assert_eq!(dialect(&draft02, Dialects::ALL), Some(Dialect::Draft02));
    assert_eq!(dialect(&both, Dialects::ALL), Some(Dialect::Draft13));
    assert_eq!(dialect(&both, Dialects { draft13: false, ..Dialects::ALL }), Some(Dialect::Draft02));
    assert_eq!(dialect(&[], Dialects::ALL), Some(Dialect::Draft07));
}

/// QUIC's word that there are no datagrams counts like that of the SETTINGS.
#[test]
fn peer_without_datagrams_has_no_session() {
    let mut peer = Peer::new(Config::default());
    peer.connection.without_datagrams();
    // In any order.
    peer.send(SESSION, connect(&[]), false).unwrap();
    peer.send(4, stream_header(SESSION), false).unwrap();
    peer.send(CONTROL, settings(), false).unwrap();
    assert_eq!(peer.events(), []);
    let transmits = peer.transmits();
    assert!(transmits.contains(&reset(SESSION, Code::H3_MESSAGE_ERROR)));
    assert!(transmits.contains(&reset(4, Code::WT_SESSION_GONE)), "a stream that waited");
    peer.send(8, headers(&GET), true).unwrap();
    assert!(matches!(peer.events()[0], Event::Request { .. }), "requests are served");
}

/// A request that was given up before SETTINGS leaves no deadline behind, and the application never hears of it.
#[test]
fn held_request_can_be_given_up() {
    for give_up in [
        (|peer| peer.reset(SESSION).unwrap()) as fn(&mut Peer),
        |peer| assert!(peer.send(SESSION, vec![], true).is_ok()),
        |peer| assert!(peer.send(SESSION, close(0, b""), false).is_ok()),
        |peer| peer.connection.handle_stop(peer.now, SESSION),
    ] {
        let mut peer = Peer::new(Config::default());
        peer.send(SESSION, connect(&[]), false).unwrap();
        give_up(&mut peer);
        assert!(peer.transmits().contains(&reset(SESSION, Code::H3_REQUEST_CANCELLED)));
        assert_eq!(peer.pass(Duration::from_secs(60)), Ok(()));
        peer.send(CONTROL, settings(), false).unwrap();
        assert_eq!(peer.events(), []);
    }
}

/// Session ids that are no request's, in both kinds of streams.
/// Spec: draft-ietf-webtrans-http3, "Session IDs"
#[test]
fn session_ids_are_those_of_requests() {
    for id in [1, 2, 3, 5] {
        let mut peer = Peer::with_session();
        assert_eq!(peer.send(4, stream_header(id), false), Err(Code::H3_ID_ERROR));
        let mut peer = Peer::with_session();
        assert_eq!(peer.send(6, [vec![0x40, 0x54], varint(id)].concat(), false), Err(Code::H3_ID_ERROR));
    }
    let far = 4 * 1000;
    assert_eq!(Peer::with_session().send(4, stream_header(far), false), Err(Code::H3_ID_ERROR));
    assert_eq!(Peer::with_session().datagram(&varint(far / 4)), Err(Code::H3_ID_ERROR));
}

/// A datagram names a quarter of its session's id; a cut one ends the connection, one for nobody is dropped.
/// Spec: RFC 9297 section 2.1
#[test]
fn datagrams_are_sorted_by_quarter_ids() {
    let mut peer = Peer::new(Config { sessions_max: 2, ..Config::default() });
    peer.send(CONTROL, settings(), false).unwrap();
    peer.send(0, connect(&[]), false).unwrap();
    peer.accept();
    peer.send(4, connect(&[]), false).unwrap();
    peer.accept();
    peer.datagram(b"\x00zero").unwrap();
    peer.datagram(b"\x01four").unwrap();
    peer.datagram(b"\x40\x01").unwrap();
    let datagram = |session, data: &'static [u8]| Event::SessionDatagram { session, data: data.into() };
    assert_eq!(peer.events(), [datagram(0, b"zero"), datagram(4, b"four"), datagram(4, b"")]);
    assert_eq!(peer.connection.encode_datagram(4, b"hi").as_deref(), Some(&b"\x01hi"[..]));
    assert_eq!(peer.connection.encode_datagram(8, b"hi"), None);
    peer.reset(4).unwrap();
    peer.events();
    peer.datagram(b"\x01late").unwrap();
    assert_eq!(peer.events(), []);
    for cut in [&[][..], &[0x40], &[0xc0, 0, 0]] {
        assert_eq!(peer.datagram(cut), Err(Code::H3_DATAGRAM_ERROR));
    }
    assert_eq!(peer.datagram(&[0xd0, 0, 0, 0, 0, 0, 0, 0]), Err(Code::H3_DATAGRAM_ERROR), "2^60");
}

/// A session whose peer has not declared datagrams cannot be sent any.
#[test]
fn no_datagram_before_it_is_accepted() {
    let mut peer = Peer::new(Config::default());
    peer.send(CONTROL, settings(), false).unwrap();
    peer.send(SESSION, connect(&[]), false).unwrap();
    assert_eq!(peer.connection.encode_datagram(SESSION, b"x"), None);
    peer.accept();
    assert!(peer.connection.encode_datagram(SESSION, b"x").is_some());
}

/// The application refuses: the status goes out, nothing is stopped unless the peer goes on, and a second session can
/// be asked for.
#[test]
fn application_refuses() {
    let mut peer = Peer::new(Config::default());
    peer.send(CONTROL, settings(), false).unwrap();
    peer.send(SESSION, connect(&[]), false).unwrap();
    peer.events();
    peer.connection.respond(peer.now, SESSION, &ResponseHead::status(403), true);
    assert_eq!(peer.transmits(), [write(SESSION, frame(0x01, &[0, 0, 0xff, 0x05]), true)]);
    peer.send(SESSION, capsule(0x21, b""), false).unwrap();
    assert_eq!(peer.transmits(), [stop(SESSION, Code::H3_NO_ERROR)]);
    peer.send(4, connect(&[]), false).unwrap();
    assert!(matches!(peer.events()[..], [Event::SessionRequest { session: 4, .. }]));
    assert_eq!(peer.connection.poll_timeout(), None, "no session was had, nothing is reaped");
}

/// Bytes of a stream are handed over as they are, and without a copy.
#[test]
fn stream_bytes_are_not_copied() {
    let mut peer = Peer::with_session();
    let bytes = Bytes::from([stream_header(SESSION), vec![b'x'; 1000]].concat());
    peer.send(4, bytes.clone(), false).unwrap();
    let Event::SessionStream { data, .. } = peer.events().remove(0) else { panic!("no stream") };
    assert_eq!(data.as_ptr(), bytes[3..].as_ptr());
    let mut peer = Peer::new(Config::default());
    let body = Bytes::from([headers(&GET), frame(0x00, &[b'x'; 1000])].concat());
    peer.send(0, body.clone(), false).unwrap();
    let Event::Body { data, .. } = peer.events().remove(1) else { panic!("no body") };
    assert_eq!(data.as_ptr(), body[body.len() - 1000..].as_ptr());
}
