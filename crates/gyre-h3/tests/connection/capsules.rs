//! Capsules on the CONNECT stream.
//! Spec: RFC 9297 section 3; draft-ietf-webtrans-http3

use bytes::Bytes;
use gyre_h3::{Code, Event, Reading};

use crate::peer::*;

const DATAGRAM: u64 = 0x00;
const MAX_DATA: u64 = 0x190b_4d3d;

/// Capsules do not care how DATA frames cut them: several in one, one in several, empty ones in between.
#[test]
fn capsules_and_frames_are_cut_apart() {
    let grease = [&[0xc0, 0, 0, 0, 0, 0, 0, 0x41][..], &varint(3), b"abc"].concat();
    let bytes = [grease, frame(DATAGRAM, b"one"), frame(DATAGRAM, b"two")].concat();
    let datagram = |data: &'static [u8]| Event::SessionDatagram { session: SESSION, data: data.into() };
    let expected = [datagram(b"one"), datagram(b"two")];
    for first in 0..=bytes.len() {
        for second in first..=bytes.len() {
            let parts = [&bytes[..first], &bytes[first..second], &bytes[second..]];
            let frames = parts.map(|part| frame(0x00, part)).concat();
            let mut peer = Peer::with_session();
            peer.send(SESSION, frames, false).unwrap();
            assert_eq!(peer.events(), expected, "cut at {first} and {second}");
        }
    }
}

/// Unknown capsules are passed over up to a budget of the session; then the connection ends.
#[test]
fn unknown_capsules_have_a_budget() {
    let mut peer = Peer::with_session();
    let capsule_of = |size: usize| capsule(0x21, &vec![0; size]);
    assert_eq!(peer.send(SESSION, capsule_of(60_000), false), Ok(Reading::Continue));
    assert_eq!(peer.send(SESSION, capsule_of(60_000), false), Err(Code::H3_EXCESSIVE_LOAD));
    let mut peer = Peer::with_session();
    let declared = frame(0x00, &[varint(0x21), varint(1 << 30)].concat());
    assert_eq!(peer.send(SESSION, declared, false), Err(Code::H3_EXCESSIVE_LOAD), "before it comes");
    let mut peer = Peer::with_session();
    let empty = frame(0x00, &frame(0x21, b"").repeat(1000));
    let sent = (0..100).find_map(|_| peer.send(SESSION, empty.clone(), false).err());
    assert_eq!(sent, Some(Code::H3_EXCESSIVE_LOAD), "empty ones are not free");
}

/// Capsules of flow control, which is off, mean nothing: neither their values nor garbage, however many there are.
#[test]
fn flow_control_is_ignored_while_off() {
    let mut peer = Peer::with_session();
    for kind in MAX_DATA..=MAX_DATA + 7 {
        for value in [varint(1 << 20), varint(0), vec![], vec![0xff; 8]] {
            assert_eq!(peer.send(SESSION, capsule(kind, &value), false), Ok(Reading::Continue));
        }
    }
    let updates = frame(0x00, &frame(MAX_DATA, &varint(1 << 40)).repeat(1000));
    for _ in 0..100 {
        assert_eq!(peer.send(SESSION, updates.clone(), false), Ok(Reading::Continue));
    }
    assert_eq!((peer.events(), peer.transmits()), (vec![], vec![]));
    assert_eq!(peer.send(SESSION, capsule(MAX_DATA, &vec![0; 70_000]), false), Err(Code::H3_EXCESSIVE_LOAD));
}

/// A capsule whose value is not what its type demands resets the session's stream, and ends the session only.
#[test]
fn malformed_capsules_end_the_session() {
    let long = [&[0; 4][..], &[b'x'; 1025]].concat();
    for (bytes, what) in [
        (capsule(0x2843, &long), "a reason of 1025 bytes"),
        (close(0, b"\xff"), "a reason that is not UTF-8"),
        (capsule(0x2843, &[0, 0, 1]), "no code"),
        (capsule(0x78ae, &[0]), "a drain with a value"),
        (capsule(DATAGRAM, &vec![0; 8 * 1024 + 1]), "a datagram beyond the limit"),
    ] {
        let mut peer = Peer::with_session();
        assert_eq!(peer.send(SESSION, bytes, false), Ok(Reading::Stop), "{what}");
        assert_eq!(peer.events(), [ended(None)], "{what}");
        let code = Code::H3_MESSAGE_ERROR;
        assert_eq!(peer.transmits(), [stop(SESSION, code), reset(SESSION, code)], "{what}");
        peer.send(4, headers(&GET), true).unwrap();
        assert!(matches!(peer.events()[0], Event::Request { .. }), "the connection lives");
    }
    let mut peer = Peer::with_session();
    peer.send(SESSION, close(9, &[b'x'; 1024]), false).unwrap();
    let reason = "x".repeat(1024);
    assert_eq!(peer.events(), [ended(Some((9, &reason)))], "the longest reason");
}

/// A capsule that is cut by the end of the stream is malformed.
#[test]
fn cut_capsule_is_malformed() {
    let mut peer = Peer::with_session();
    let cut = frame(0x00, &frame(DATAGRAM, b"cut")[..3]);
    peer.send(SESSION, cut, true).unwrap();
    assert_eq!(peer.events(), [ended(None)]);
    let code = Code::H3_MESSAGE_ERROR;
    assert_eq!(peer.transmits(), [stop(SESSION, code), reset(SESSION, code)]);
}

/// Frames other than DATA on CONNECT: the known ones end the connection, unknown ones mean nothing.
#[test]
fn connect_carries_data_only() {
    assert_eq!(
        Peer::with_session().send(SESSION, headers(&[("x", "y")]), false),
        Err(Code::H3_FRAME_UNEXPECTED),
        "no trailers"
    );
    let stream = [vec![0x40, 0x41], varint(0)].concat();
    assert_eq!(Peer::with_session().send(SESSION, stream, false), Err(Code::H3_FRAME_ERROR));
    assert_eq!(Peer::with_session().send(SESSION, frame(0x21, b"x"), false), Ok(Reading::Continue));
}

/// Datagrams in capsules count as datagrams; those behind our close are dropped.
#[test]
fn datagram_capsules_are_datagrams() {
    let mut peer = Peer::with_session();
    peer.send(SESSION, capsule(DATAGRAM, b"d"), false).unwrap();
    let data = Bytes::from_static(b"d");
    assert_eq!(peer.events(), [Event::SessionDatagram { session: SESSION, data }]);
    peer.connection.close_session(peer.now, SESSION, 0, "");
    peer.send(SESSION, capsule(DATAGRAM, b"d"), false).unwrap();
    assert_eq!(peer.events(), []);
}
