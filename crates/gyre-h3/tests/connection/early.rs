//! What comes before its session.
//! Spec: draft-ietf-webtrans-http3, "Buffering Incoming Streams and Datagrams"

use std::time::Duration;

use bytes::Bytes;
use gyre_h3::{Code, Config, Event, Reading, ResponseHead};

use crate::peer::*;

fn session_stream(stream: u64, data: &'static [u8]) -> Event {
    Event::SessionStream { session: SESSION, stream, data: Bytes::from_static(data), fin: false }
}

fn session_datagram(data: &'static [u8]) -> Event {
    Event::SessionDatagram { session: SESSION, data: Bytes::from_static(data) }
}

/// A stream, datagrams and a capsule that overtake CONNECT, SETTINGS or the answer are delivered once it is accepted,
/// in whatever order the rest comes.
#[test]
fn early_arrivals_are_delivered_after_acceptance() {
    let steps: [fn(&mut Peer); 5] = [
        |peer| assert!(peer.send(CONTROL, settings(), false).is_ok()),
        |peer| assert!(peer.send(SESSION, [connect(&[]), capsule(0x00, b"capsule")].concat(), false).is_ok()),
        |peer| {
            assert_eq!(peer.send(4, [stream_header(SESSION), vec![b'b']].concat(), false), Ok(Reading::Stop))
        },
        |peer| assert!(peer.send(6, [&[0x40, 0x54, 0x00], &b"u"[..]].concat(), false).is_ok()),
        |peer| peer.datagram(b"\x00quic").unwrap(),
    ];
    // All orders of five steps, by Lehmer code.
    for order in 0..120 {
        let (mut left, mut code) = ((0..5).collect::<Vec<usize>>(), order);
        let mut peer = Peer::new(Config::default());
        for radix in (1..=5).rev() {
            steps[left.remove(code % radix)](&mut peer);
            code /= radix;
        }
        assert_eq!(peer.accept(), [], "nothing before the acceptance, order {order}");
        let events = peer.events();
        let expected = [
            session_stream(4, b"b"),
            session_stream(6, b"u"),
            session_datagram(b"capsule"),
            session_datagram(b"quic"),
        ];
        assert_eq!(events.len(), expected.len(), "{events:?}");
        assert!(expected.iter().all(|event| events.contains(event)), "{events:?}");
        assert!(peer.transmits().iter().all(|t| matches!(t, gyre_h3::Transmit::Write { .. })));
    }
}

/// Sixteen streams are held, the seventeenth is rejected; those that waited for nobody go after five seconds.
#[test]
fn early_streams_are_bounded() {
    let mut peer = Peer::new(Config::default());
    for i in 1..=16 {
        peer.send(4 * i, stream_header(SESSION), false).unwrap();
    }
    assert_eq!(peer.transmits(), []);
    peer.send(68, stream_header(SESSION), false).unwrap();
    let code = Code::WT_BUFFERED_STREAM_REJECTED;
    assert_eq!(peer.transmits(), [stop(68, code), reset(68, code)]);
    assert_eq!(peer.connection.poll_timeout(), Some(peer.now + Duration::from_secs(5)));
    peer.pass(Duration::from_secs(5)).unwrap();
    let expired: Vec<_> = (1..=16).flat_map(|i| [stop(4 * i, code), reset(4 * i, code)]).collect();
    assert_eq!(peer.transmits(), expired);
    assert_eq!(peer.connection.poll_timeout(), None);
    peer.send(CONTROL, settings(), false).unwrap();
    peer.send(SESSION, connect(&[]), false).unwrap();
    peer.accept();
    assert_eq!(peer.events(), []);
}

/// Sixteen datagrams, or sixteen kilobytes of them, are held; more are dropped, and all after five seconds.
#[test]
fn early_datagrams_are_bounded() {
    let accepted = |peer: &mut Peer| {
        peer.send(CONTROL, settings(), false).unwrap();
        peer.send(SESSION, connect(&[]), false).unwrap();
        peer.accept();
        peer.events().len()
    };
    let mut peer = Peer::new(Config::default());
    (0..20).for_each(|_| peer.datagram(b"\x00d").unwrap());
    assert_eq!(accepted(&mut peer), 16);
    let mut peer = Peer::new(Config::default());
    (0..20).for_each(|_| peer.datagram(&[0; 4001]).unwrap());
    assert_eq!(accepted(&mut peer), 4);
    let mut peer = Peer::new(Config::default());
    peer.datagram(b"\x00d").unwrap();
    peer.send(CONTROL, vec![], false).unwrap();
    peer.pass(Duration::from_secs(5)).unwrap();
    assert_eq!(accepted(&mut peer), 0);
}

/// A refusal, whoever decides it, sends away what waited.
#[test]
fn refused_sessions_take_their_streams_along() {
    let mut peer = Peer::new(Config::default());
    peer.send(4, stream_header(SESSION), false).unwrap();
    peer.datagram(b"\x00d").unwrap();
    peer.send(CONTROL, settings(), false).unwrap();
    peer.send(SESSION, connect(&[]), false).unwrap();
    peer.events();
    peer.connection.respond(peer.now, SESSION, &ResponseHead::status(404), true);
    assert!(peer.transmits().contains(&reset(4, Code::WT_SESSION_GONE)));
    assert_eq!(peer.events(), []);

    let mut peer = Peer::with_session();
    peer.send(8, stream_header(4), false).unwrap();
    peer.send(4, connect(&[]), false).unwrap();
    let transmits = peer.transmits();
    assert!(transmits.contains(&reset(4, Code::H3_REQUEST_REJECTED)));
    assert!(transmits.contains(&reset(8, Code::WT_SESSION_GONE)));

    let mut peer = Peer::new(Config::default());
    peer.send(4, stream_header(SESSION), false).unwrap();
    peer.reset(SESSION).unwrap();
    assert!(peer.transmits().contains(&reset(4, Code::WT_SESSION_GONE)), "CONNECT was reset unseen");
}

/// The peer gives up while the application decides: it is told, and its answer goes nowhere.
#[test]
fn session_can_end_before_it_is_accepted() {
    let mut peer = Peer::new(Config::default());
    peer.send(CONTROL, settings(), false).unwrap();
    peer.send(SESSION, [connect(&[]), close(7, b"no")].concat(), false).unwrap();
    let mut events = peer.events();
    assert_eq!(events.pop(), Some(ended(Some((7, "no")))));
    let Some(Event::SessionRequest { session, head }) = events.pop() else { panic!("no request") };
    assert_eq!(peer.transmits(), [reset(SESSION, Code::H3_REQUEST_CANCELLED)]);
    peer.connection.accept_session(session, Vec::new(), &head);
    assert_eq!(peer.transmits(), []);
}
