//! Plain requests.

use bytes::Bytes;
use gyre_h3::{Code, Config, Event, Reading, ResponseHead, Transmit};

use crate::peer::*;

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
    let get = GET;
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

/// A head of the largest size is taken, one byte more is answered with 431, and who goes on so is disconnected.
/// Spec: RFC 9114 section 4.2.2
#[test]
fn field_sections_are_bounded() {
    let of_size = |size: usize| {
        // The other fields and this one's name; its value takes the rest.
        let rest = section(&[&GET[..], &[("x", &"v".repeat(10_000))]].concat()).len() - 10_000;
        let value = "v".repeat(size - rest);
        let head = headers(&[&GET[..], &[("x", &value)]].concat());
        assert_eq!(head.len(), size + 5);
        head
    };
    let is_431 =
        |t: &Transmit| matches!(t, Transmit::Write { data, fin: true, .. } if data.ends_with(b"431"));
    let mut peer = Peer::new(Config::default());
    peer.send(0, of_size(16 * 1024), true).unwrap();
    assert!(matches!(peer.events()[..], [Event::Request { .. }, Event::End { .. }]));
    for i in 1..=8 {
        // With a body behind it, which has no meaning any more.
        let bytes = [of_size(16 * 1024 + 1), frame(0x00, b"body")].concat();
        assert_eq!(peer.send(4 * i, bytes, false), Ok(Reading::Stop));
        let transmits = peer.transmits();
        assert!(transmits.iter().any(is_431) && transmits.contains(&stop(4 * i, Code::H3_NO_ERROR)));
    }
    assert_eq!(peer.events(), []);
    assert_eq!(peer.send(36, of_size(16 * 1024 + 1), false), Err(Code::H3_EXCESSIVE_LOAD));

    let mut peer = Peer::new(Config::default());
    peer.send(0, headers(&[&GET[..], &[("x", "y"); 97]].concat()), true).unwrap();
    assert!(peer.transmits().iter().any(is_431), "101 fields");
    assert_eq!(peer.events(), []);
}

/// What comes behind an answer that did not wait for it is stopped, and never taken for another request.
/// Spec: RFC 9114 section 4.1
#[test]
fn rest_of_an_answered_request_is_not_read() {
    let mut peer = Peer::new(Config::default());
    let post = headers(&[&GET[..], &[("content-length", "1000")]].concat());
    peer.send(0, post, false).unwrap();
    peer.events();
    peer.connection.respond(peer.now, 0, &ResponseHead::status(404), true);
    assert!(peer.transmits().contains(&stop(0, Code::H3_NO_ERROR)));
    // The body holds what looks like a request.
    assert_eq!(peer.send(0, headers(&GET), false), Ok(Reading::Stop));
    assert_eq!(peer.events(), []);
    assert_eq!(peer.transmits(), [stop(0, Code::H3_NO_ERROR)]);
}

/// A peer that wants no answer any more: the application is told, and what it answers afterwards goes nowhere.
/// Spec: RFC 9114 section 4.1.1
#[test]
fn requests_are_cancelled() {
    let cancelled = [Event::Cancelled { stream: 0 }];
    let mut peer = Peer::new(Config::default());
    peer.send(0, headers(&GET), true).unwrap();
    peer.events();
    peer.connection.handle_stop(peer.now, 0);
    assert_eq!(peer.events(), cancelled, "the answer was stopped");
    assert!(peer.transmits().contains(&reset(0, Code::H3_REQUEST_CANCELLED)));
    peer.connection.respond(peer.now, 0, &ResponseHead::status(200), false);
    peer.connection.send_body(peer.now, 0, b"late", true);
    assert_eq!(peer.transmits(), []);

    let mut peer = Peer::new(Config::default());
    peer.send(0, headers(&GET), false).unwrap();
    peer.events();
    peer.reset(0).unwrap();
    assert_eq!(peer.events(), cancelled, "the request was reset");

    let mut peer = Peer::new(Config::default());
    peer.send(0, headers(&GET)[..7].to_vec(), false).unwrap();
    peer.reset(0).unwrap();
    assert_eq!(peer.events(), [], "nobody knew of it");
    assert!(peer.transmits().contains(&reset(0, Code::H3_REQUEST_CANCELLED)));
}

/// A stream that ends before a whole head is no request; only a cut frame concerns the connection.
/// Spec: RFC 9114 sections 4.1 and 7.1
#[test]
fn incomplete_requests_are_reset() {
    for bytes in [vec![], frame(0x21, b"grease")] {
        let mut peer = Peer::new(Config::default());
        assert_eq!(peer.send(0, bytes, true), Ok(Reading::Stop));
        assert_eq!(peer.transmits(), [reset(0, Code::H3_REQUEST_INCOMPLETE)]);
        assert_eq!(peer.events(), []);
    }
    for cut in 1..headers(&GET).len() {
        let mut peer = Peer::new(Config::default());
        assert_eq!(peer.send(0, headers(&GET)[..cut].to_vec(), true), Err(Code::H3_FRAME_ERROR), "{cut}");
    }
}

/// Each frame a request must not hold, at its beginning and behind its head.
/// Spec: RFC 9114 section 7.2
#[test]
fn frames_of_other_streams_are_unexpected() {
    for kind in [0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 0x08, 0x09, 0x0d] {
        for before in [vec![], headers(&GET), frame(0x21, b"")] {
            let mut peer = Peer::new(Config::default());
            let result = peer.send(0, [before, frame(kind, &[0])].concat(), false);
            assert_eq!(result, Err(Code::H3_FRAME_UNEXPECTED), "{kind:#x}");
        }
    }
}

/// Trailers end a body, are no place for pseudo-fields, and are not delivered.
/// Spec: RFC 9114 sections 4.1 and 4.3
#[test]
fn trailers_are_checked_and_dropped() {
    let send = |frames: &[Vec<u8>]| {
        let mut peer = Peer::new(Config::default());
        let result = peer.send(0, [headers(&GET), frames.concat()].concat(), true);
        let events: Vec<_> = peer.events().into_iter().skip(1).collect();
        (result.err(), events, peer.transmits())
    };
    let data = Event::Body { stream: 0, data: Bytes::from_static(b"x") };
    let (error, events, _) = send(&[frame(0x00, b"x"), headers(&[("checksum", "1")])]);
    assert_eq!((error, events), (None, vec![data, Event::End { stream: 0 }]));
    let (_, events, transmits) = send(&[headers(&[(":path", "/")])]);
    assert_eq!(events, [Event::Cancelled { stream: 0 }]);
    assert!(transmits.contains(&reset(0, Code::H3_MESSAGE_ERROR)));
    let unexpected = Some(Code::H3_FRAME_UNEXPECTED);
    assert_eq!(send(&[headers(&[]), frame(0x00, b"x")]).0, unexpected, "DATA behind trailers");
    assert_eq!(send(&[headers(&[]), headers(&[])]).0, unexpected, "trailers twice");
}

/// A body that is longer than it said is given up before it ends.
/// Spec: RFC 9114 section 4.1.2
#[test]
fn body_must_not_exceed_its_length() {
    let mut peer = Peer::new(Config::default());
    let post = headers(&[&GET[..], &[("content-length", "2")]].concat());
    let bytes = [post, frame(0x00, b"ab"), frame(0x00, b"c")].concat();
    assert_eq!(peer.send(0, bytes, false), Ok(Reading::Stop));
    assert!(peer.transmits().contains(&reset(0, Code::H3_MESSAGE_ERROR)));
    assert_eq!(peer.events().last(), Some(&Event::Cancelled { stream: 0 }));
}

/// A response that breaks off in its body is reset, and whatever is sent afterwards goes nowhere; the rest of the
/// request is not wanted either.
/// Spec: RFC 9114 section 4.1
#[test]
fn responses_can_be_aborted() {
    let mut peer = Peer::new(Config::default());
    peer.send(0, headers(&GET), false).unwrap();
    peer.events();
    peer.connection.respond(peer.now, 0, &ResponseHead::status(200), false);
    peer.connection.send_body(peer.now, 0, b"part", false);
    peer.transmits();
    peer.connection.abort_response(peer.now, 0);
    assert_eq!(peer.transmits(), [reset(0, Code::H3_INTERNAL_ERROR), stop(0, Code::H3_NO_ERROR)]);
    peer.connection.send_body(peer.now, 0, b"late", true);
    peer.connection.abort_response(peer.now, 0);
    assert_eq!((peer.transmits(), peer.events()), (vec![], vec![]));
}
