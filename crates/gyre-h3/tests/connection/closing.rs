//! The end of sessions and connections.

use std::time::Duration;

use bytes::Bytes;
use gyre_h3::{Code, Event, Reading, ResponseHead, Transmit};

use crate::peer::*;

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

/// The bound on the peer's answer grows with the path; the first close wins; nothing but capsule and end is sent.
#[test]
fn our_close_waits_for_slow_peers() {
    let mut peer = Peer::with_session();
    peer.connection.set_probe_timeout(Duration::from_millis(700));
    peer.connection.close_session(peer.now, SESSION, 3001, "first");
    peer.connection.close_session(peer.now, SESSION, 3002, "second");
    peer.connection.end_session_quietly(peer.now, SESSION);
    assert_eq!(peer.transmits(), [write(SESSION, close(3001, b"first"), true)]);
    // A stream that comes in the meantime waits, and what the peer does to CONNECT's other side means nothing.
    peer.send(4, stream_header(SESSION), false).unwrap();
    peer.connection.handle_stop(peer.now, SESSION);
    peer.pass(Duration::from_millis(2099)).unwrap();
    assert_eq!((peer.events(), peer.transmits()), (vec![], vec![]));
    peer.pass(Duration::from_millis(1)).unwrap();
    assert_eq!(peer.events(), [ended(None)]);
    let gone = Code::WT_SESSION_GONE;
    assert_eq!(peer.transmits(), [stop(SESSION, gone), stop(4, gone), reset(4, gone)]);
    peer.pass(Duration::from_millis(250)).unwrap();
    assert_eq!(peer.transmits(), [Transmit::Close { code: Code::H3_NO_ERROR }]);
    peer.pass(Duration::from_secs(60)).unwrap();
    assert_eq!((peer.transmits(), peer.connection.poll_timeout()), (vec![], None), "once");
}

/// A close of the peer that crosses ours: its end of the stream is what ends the session.
#[test]
fn closes_may_cross() {
    let mut peer = Peer::with_session();
    peer.connection.close_session(peer.now, SESSION, 3001, "");
    peer.transmits();
    peer.send(SESSION, close(0, b""), false).unwrap();
    assert_eq!((peer.events(), peer.transmits()), (vec![], vec![]));
    peer.send(SESSION, vec![], true).unwrap();
    assert_eq!((peer.events(), peer.transmits()), (vec![ended(None)], vec![]));
}

/// The peer left on its own stream first: we end CONNECT without a capsule.
#[test]
fn quiet_end_is_an_end_alone() {
    let mut peer = Peer::with_session();
    peer.connection.end_session_quietly(peer.now, SESSION);
    assert_eq!(peer.transmits(), [fin(SESSION)]);
    peer.reset(SESSION).unwrap();
    assert_eq!((peer.events(), peer.transmits()), (vec![ended(None)], vec![]));
}

/// What may come behind the peer's close is the end of the stream; anything else is malformed. Both are seen in one
/// chunk, in a later one, and behind a close that crossed ours.
#[test]
fn nothing_may_follow_a_close() {
    for more in [capsule(0x21, b""), frame(0x21, b""), frame(0x00, b""), vec![0x00]] {
        let code = Code::H3_MESSAGE_ERROR;
        let refused = [stop(SESSION, code), reset(SESSION, code)];
        let mut peer = Peer::with_session();
        assert_eq!(peer.send(SESSION, [close(7, b""), more.clone()].concat(), false), Ok(Reading::Stop));
        assert_eq!(peer.transmits()[1..], refused);
        let mut peer = Peer::with_session();
        assert_eq!(peer.send(SESSION, close(7, b""), false), Ok(Reading::Continue));
        assert_eq!(peer.transmits(), [fin(SESSION)], "answered at once");
        assert_eq!(peer.send(SESSION, more.clone(), false), Ok(Reading::Stop));
        assert_eq!(peer.transmits(), refused);
        assert_eq!(peer.events(), [ended(Some((7, "")))]);
        let mut peer = Peer::with_session();
        peer.connection.close_session(peer.now, SESSION, 3001, "");
        peer.transmits();
        peer.send(SESSION, [close(7, b""), more].concat(), false).unwrap();
        assert_eq!((peer.events(), peer.transmits()), (vec![ended(None)], refused.to_vec()));
    }
    let in_one_frame = frame(0x00, &[&close(7, b"")[2..], &[0x21, 0x00]].concat());
    let mut peer = Peer::with_session();
    peer.send(SESSION, in_one_frame, false).unwrap();
    assert!(peer.transmits().contains(&reset(SESSION, Code::H3_MESSAGE_ERROR)));
}

/// The end of CONNECT without a capsule is a close with code 0; a reset or a stop is no close, and ends both sides.
#[test]
fn ends_without_a_capsule() {
    let mut peer = Peer::with_session();
    peer.send(SESSION, vec![], true).unwrap();
    assert_eq!((peer.events(), peer.transmits()), (vec![ended(Some((0, "")))], vec![fin(SESSION)]));
    let mut peer = Peer::with_session();
    peer.reset(SESSION).unwrap();
    let code = Code::H3_REQUEST_CANCELLED;
    assert_eq!((peer.events(), peer.transmits()), (vec![ended(None)], vec![reset(SESSION, code)]));
    let mut peer = Peer::with_session();
    peer.connection.handle_stop(peer.now, SESSION);
    assert_eq!(peer.events(), [ended(None)]);
    assert_eq!(peer.transmits(), [stop(SESSION, code), reset(SESSION, code)]);
}

/// Streams and datagrams of a session that is over concern nobody, and do not keep the connection.
#[test]
fn late_streams_do_not_keep_the_connection() {
    let mut peer = Peer::with_session();
    peer.send(SESSION, close(0, b""), true).unwrap();
    peer.events();
    peer.transmits();
    let deadline = peer.connection.poll_timeout();
    assert_eq!(deadline, Some(peer.now + Duration::from_millis(250)));
    peer.pass(Duration::from_millis(100)).unwrap();
    peer.send(4, stream_header(SESSION), false).unwrap();
    peer.send(6, vec![0x40, 0x54, 0x00], false).unwrap();
    peer.datagram(b"\x00late").unwrap();
    let gone = Code::WT_SESSION_GONE;
    assert_eq!(peer.transmits(), [stop(4, gone), reset(4, gone), stop(6, gone)]);
    assert_eq!(peer.events(), []);
    assert_eq!(peer.connection.poll_timeout(), deadline);
}

/// A connection is kept while a request is being answered, and while another session is asked for.
#[test]
fn connection_is_kept_while_something_is_open() {
    let mut peer = Peer::with_session();
    peer.send(4, headers(&GET), true).unwrap();
    peer.send(SESSION, close(0, b""), true).unwrap();
    assert_eq!(peer.connection.poll_timeout(), None);
    peer.connection.respond(peer.now, 4, &ResponseHead::status(200), false);
    assert_eq!(peer.connection.poll_timeout(), None);
    peer.connection.send_body(peer.now, 4, b"", true);
    assert_eq!(peer.connection.poll_timeout(), Some(peer.now + Duration::from_millis(250)));
    peer.send(8, connect(&[]), false).unwrap();
    assert_eq!(peer.connection.poll_timeout(), None);
    peer.events();
    peer.connection.respond(peer.now, 8, &ResponseHead::status(503), true);
    assert!(peer.connection.poll_timeout().is_some());
}

/// Several sessions of one connection end one by one.
#[test]
fn sessions_end_apart() {
    let mut peer = Peer::with_session_and(gyre_h3::Config { sessions_max: 3, ..Default::default() });
    for id in [4, 8] {
        peer.send(id, connect(&[]), false).unwrap();
        peer.accept();
    }
    peer.transmits();
    peer.connection.close_session(peer.now, 4, 3001, "");
    peer.send(4, vec![], true).unwrap();
    assert_eq!(peer.events(), [Event::SessionEnded { session: 4, close: None }]);
    peer.send(12, stream_header(8), false).unwrap();
    peer.send(16, stream_header(0), false).unwrap();
    assert!(matches!(
        peer.events()[..],
        [Event::SessionStream { session: 8, .. }, Event::SessionStream { session: 0, .. }]
    ));
    assert_eq!(peer.connection.poll_timeout(), None);
}

/// Draining rejects sessions; the final GOAWAY names the first request that is not served.
/// Spec: RFC 9114 section 5.2
#[test]
fn going_away_in_two_steps() {
    let mut peer = Peer::with_session();
    peer.connection.drain();
    peer.transmits();
    peer.send(4, connect(&[]), false).unwrap();
    assert!(peer.transmits().contains(&reset(4, Code::H3_REQUEST_REJECTED)));
    peer.send(8, headers(&GET)[..4].to_vec(), false).unwrap();
    peer.connection.go_away();
    peer.connection.go_away();
    peer.connection.drain();
    assert_eq!(peer.transmits(), [Transmit::Control(frame(0x07, &[12]))]);
    peer.send(8, headers(&GET)[4..].to_vec(), true).unwrap();
    assert!(matches!(peer.events()[0], Event::Request { stream: 8, .. }), "heard of before");
    peer.send(12, headers(&GET), true).unwrap();
    assert_eq!(peer.events(), []);
    assert!(peer.transmits().contains(&reset(12, Code::H3_REQUEST_REJECTED)));
}

/// A session that is accepted while the server drains is told so.
#[test]
fn drain_reaches_sessions_that_were_being_decided() {
    let mut peer = Peer::new(gyre_h3::Config::default());
    peer.send(CONTROL, settings(), false).unwrap();
    peer.send(SESSION, connect(&[]), false).unwrap();
    peer.connection.drain();
    peer.transmits();
    peer.accept();
    let drain = write(SESSION, capsule(0x78ae, b""), false);
    assert_eq!(peer.transmits()[1..], [drain]);
}
