//! Control stream and its like.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use gyre_h3::{Code, Config, Connection, Event, Reading, Transmit};

use crate::peer::*;

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

/// Floods end the connection and nothing else: unknown frames, and requests that are reset.
#[test]
fn floods_end_the_connection() {
    let mut peer = Peer::new(Config::default());
    let flood: Vec<u8> = (0..1001).flat_map(|_| frame(0x21, &[])).collect();
    let error = peer.send(CONTROL, [settings(), flood].concat(), false).err();
    assert_eq!(error, Some(Code::H3_EXCESSIVE_LOAD));
    let mut peer = Peer::new(Config::default());
    let get = headers(&GET);
    let reset = |peer: &mut Peer, i: u64| {
        peer.send(4 * i, get.clone(), false).unwrap();
        peer.connection.handle_reset(peer.now, 4 * i).map_err(|error| error.code)
    };
    for i in 1..=100 {
        assert_eq!(reset(&mut peer, i), Ok(()));
    }
    assert_eq!(reset(&mut peer, 101), Err(Code::H3_EXCESSIVE_LOAD));
    let mut peer = Peer::new(Config::default());
    for i in 0..100 {
        assert_eq!(peer.reset(4 * i), Ok(()), "before a byte of them was seen");
    }
    assert_eq!(peer.reset(400), Err(Code::H3_EXCESSIVE_LOAD));
    let mut peer = Peer::new(Config::default());
    for i in 0..=100 {
        peer.send(4 * i, get.clone(), true).unwrap();
        peer.connection.handle_stop(peer.now, 4 * i);
    }
    assert!(peer.transmits().contains(&Transmit::Close { code: Code::H3_EXCESSIVE_LOAD }));
    let mut peer = Peer::new(Config::default());
    for i in 0..500 {
        peer.now += Duration::from_secs(1);
        assert_eq!(reset(&mut peer, i), Ok(()), "now and then");
    }
}

/// SETTINGS are the first bytes of the control stream, exactly those browsers were seen to accept, and a reserved one.
/// Spec: RFC 9114 section 6.2.1
#[test]
fn control_stream_begins_with_the_settings() {
    let mut connection = Connection::new(Arc::new(Config::default()), Instant::now());
    let mut expected = vec![0x00, 0x04, 0x40, 0x40];
    expected.extend([0x01, 0x00, 0x06, 0x80, 0x00, 0x40, 0x00, 0x07, 0x00, 0x08, 0x01, 0x33, 0x01]);
    for id in [[0x6b, 0x61], [0x6b, 0x64], [0x6b, 0x65]] {
        expected.extend(id);
        expected.extend([0xd0, 0, 0, 0, 0, 0, 0, 0]);
    }
    expected.extend([0x94, 0xe9, 0xcd, 0x29, 0x01, 0xab, 0x60, 0x37, 0x42, 0x01]);
    expected.extend([0xc0, 0x00, 0x00, 0x00, 0xc6, 0x71, 0x70, 0x6a, 0x01]);
    expected.extend([0x21, 0x00]);
    assert_eq!(connection.poll_transmit(), Some(Transmit::OpenControl(expected)));
    assert_eq!(connection.poll_transmit(), None);
}

/// Settings that must not be; bounded SETTINGS; over-long varints, which are legal.
/// Spec: RFC 9114 section 7.2.4
#[test]
fn settings_rules_have_their_errors() {
    let error = |payload: &[u8]| {
        let bytes = [&[0x00][..], &frame(0x04, payload)].concat();
        Peer::new(Config::default()).send(CONTROL, bytes, false).err()
    };
    assert_eq!(
        error(&[0x06, 0x01, 0x40, 0x06, 0x01]),
        Some(Code::H3_SETTINGS_ERROR),
        "twice, once over-long"
    );
    for reserved in [0x00, 0x02, 0x03, 0x04, 0x05] {
        assert_eq!(error(&[reserved, 0x00]), Some(Code::H3_SETTINGS_ERROR), "{reserved}");
    }
    assert_eq!(error(&[0x33, 0x02]), Some(Code::H3_SETTINGS_ERROR));
    assert_eq!(error(&[0x08, 0x02]), Some(Code::H3_SETTINGS_ERROR));
    assert_eq!(error(&[0x33]), Some(Code::H3_FRAME_ERROR));
    assert_eq!(error(&[0xc0, 0, 0, 0, 0, 0, 0, 0x33, 0x40, 0x01]), None, "over-long varints");
    let declared = [&[0x00, 0x04][..], &varint(4097)].concat();
    let long = Peer::new(Config::default()).send(CONTROL, declared, false).err();
    assert_eq!(long, Some(Code::H3_EXCESSIVE_LOAD));
}

/// Ids of pushes go up only, and are one varint each.
/// Spec: RFC 9114 sections 7.2.3 and 7.2.7
#[test]
fn push_ids_go_up() {
    let after_settings = |frames: &[Vec<u8>]| {
        let bytes = [settings(), frames.concat()].concat();
        Peer::new(Config::default()).send(CONTROL, bytes, false).err()
    };
    assert_eq!(after_settings(&[frame(0x0d, &[4]), frame(0x0d, &[4]), frame(0x0d, &[9])]), None);
    assert_eq!(after_settings(&[frame(0x0d, &[4]), frame(0x0d, &[3])]), Some(Code::H3_ID_ERROR));
    assert_eq!(after_settings(&[frame(0x0d, &[])]), Some(Code::H3_FRAME_ERROR));
    assert_eq!(after_settings(&[frame(0x07, &[0x40])]), Some(Code::H3_FRAME_ERROR), "half an id");
    assert_eq!(after_settings(&[frame(0x07, &[8]), frame(0x07, &[8]), frame(0x07, &[4])]), None);
}

/// QPACK streams of a peer that respects our empty table, and of one that does not.
/// Spec: RFC 9204 sections 4.3 and 4.4
#[test]
fn qpack_streams_are_followed() {
    let error = |kind: u8, rest: &[u8]| {
        Peer::new(Config::default()).send(CONTROL, [&[kind], rest].concat(), false).err()
    };
    assert_eq!(error(0x02, &[0x20]), None, "capacity 0");
    assert_eq!(error(0x02, &[0x3f, 0xbd, 0x01]), Some(Code::QPACK_ENCODER_STREAM_ERROR), "capacity 220");
    assert_eq!(error(0x02, &[0xc0, 0x00]), Some(Code::QPACK_ENCODER_STREAM_ERROR), "insertion");
    assert_eq!(error(0x03, &[0x44, 0x7f, 0x05]), None, "cancellations");
    assert_eq!(error(0x03, &[0x84]), Some(Code::QPACK_DECODER_STREAM_ERROR), "acknowledgement");
    assert_eq!(error(0x03, &[0x01]), Some(Code::QPACK_DECODER_STREAM_ERROR), "increment");
}

/// A stream may end, or be reset, before its type is complete.
/// Spec: RFC 9114 section 6.2
#[test]
fn streams_may_end_before_their_type() {
    let mut peer = Peer::new(Config::default());
    assert_eq!(peer.send(CONTROL, vec![], true), Ok(Reading::Stop));
    assert_eq!(peer.send(6, vec![0x40], true), Ok(Reading::Stop));
    peer.send(10, vec![0x40], false).unwrap();
    assert_eq!(peer.reset(10), Ok(()));
    assert_eq!(peer.transmits(), []);
}

/// Ten megabytes of an unknown frame are passed over, whatever its declared length; unknown frames over a long time
/// are no flood.
#[test]
fn unknown_frames_cost_nothing() {
    let mut peer = Peer::new(Config::default());
    peer.send(CONTROL, settings(), false).unwrap();
    peer.send(CONTROL, [varint(0x21), varint(1 << 30)].concat(), false).unwrap();
    let chunk = Bytes::from(vec![0x04; 64 * 1024]);
    for _ in 0..(1 << 30) / chunk.len() {
        peer.send(CONTROL, chunk.clone(), false).unwrap();
    }
    assert_eq!(peer.send(CONTROL, frame(0x07, &[0]), false), Ok(Reading::Continue));
    assert_eq!(peer.events(), [Event::GoAway], "the frame behind it is read");
    for _ in 0..20 {
        let frames: Vec<u8> = (0..500).flat_map(|_| frame(0xf0700, b"i")).collect();
        peer.now += Config::RATE_WINDOW + Duration::from_millis(1);
        assert_eq!(peer.send(CONTROL, frames, false), Ok(Reading::Continue));
    }
}
