//! What holds for all inputs: no cut changes the outcome, nothing panics, and outputs stay in order.

use std::{collections::HashMap, time::Duration};

use gyre_h3::{Code, Config, Event, Reading, ResponseHead, Transmit};
use proptest::prelude::*;

use crate::peer::*;

/// Inputs that between them hold every kind of stream, frame and capsule, and errors; for each the stream, all its bytes,
/// and whether it ends.
fn inputs() -> Vec<(u64, Vec<u8>, bool)> {
    let post = [&GET[..], &[("content-length", "5"), ("cookie", "a"), ("cookie", "b")]].concat();
    let body =
        [headers(&post), frame(0x21, b"grease"), frame(0x00, b"he"), frame(0x00, b""), frame(0x00, b"llo")];
    let control =
        [settings(), frame(0x0d, &varint(70)), frame(0xf0700, b"0u=1"), frame(0x07, &varint(1 << 20))];
    let session = [
        connect(&[("sec-webtransport-http3-draft02", "1")]),
        capsule(0xdead_beef_cafe, b"grease"),
        capsule(0x190b_4d3d, &varint(1 << 30)),
        frame(0x00, &[frame(0x00, b"datagram"), frame(0x78ae, b""), frame(0x00, b"")].concat()),
        frame(0x40, b"unknown"),
    ];
    let long = [varint(0x01), varint(20_000), vec![0; 100]].concat();
    vec![
        (2, control.concat(), false),
        (2, [settings(), frame(0x07, &[1]), frame(0x07, &[2])].concat(), false),
        (2, [settings(), frame(0x07, &[1, 1])].concat(), false),
        (2, settings(), true),
        (6, vec![0x02, 0x20, 0x20, 0x20], false),
        (6, vec![0x02, 0x20, 0x3f, 0xbd, 0x01], false),
        (6, vec![0x03, 0x44, 0x7f, 0x85, 0x01, 0x40, 0x84], false),
        (6, vec![0x40, 0x77, 1, 2, 3], true),
        (6, [&[0x40, 0x54, 0x00], &b"raw bytes"[..]].concat(), true),
        (4, [stream_header(0), b"raw bytes".to_vec()].concat(), true),
        (4, [stream_header(3), b"raw bytes".to_vec()].concat(), false),
        (4, body.concat(), true),
        (4, [body.concat(), headers(&[("trailer", "x")])].concat(), true),
        (4, [body.concat(), frame(0x00, b"too long")].concat(), true),
        (4, [headers(&GET), headers(&[(":path", "x")]), frame(0x21, b"")].concat(), false),
        (4, [headers(&GET), frame(0x04, b"")].concat(), false),
        (4, frame(0x01, &[0x00, 0x00, 0xff, 0x24]), true),
        (4, [headers(&GET), stream_header(0)].concat(), true),
        (4, long, true),
        (4, headers(&[&GET[..], &[("te", "gzip")]].concat()), true),
        (4, connect(&[]), false),
        (0, session.concat(), true),
        (0, [session.concat(), close(77, b"bye")].concat(), true),
        (0, [session.concat(), close(77, b"bye"), capsule(0x00, b"")].concat(), true),
        (0, [session.concat(), capsule(0x2843, b"abc")].concat(), false),
        (0, [session.concat(), frame(0x00, &[0x68])].concat(), true),
        (0, [session.concat(), headers(&[])].concat(), true),
    ]
}

#[derive(Debug, Default, PartialEq)]
struct Outcome {
    result: Option<Code>,
    events: Vec<Event>,
    transmits: Vec<Transmit>,
}

/// Hands in one stream in pieces like a driver, which takes what is left of a session's stream to its reader, and joins
/// what is only in pieces by the way it was cut. Session 0 is there for other streams, and accepted if it is the input.
fn outcome(stream: u64, pieces: &[&[u8]], fin: bool) -> Outcome {
    let mut peer = match stream {
        CONTROL => Peer::new(Config::default()),
        SESSION => Peer::with_settings(),
        _ => Peer::with_session(),
    };
    let (mut outcome, mut is_reading) = (Outcome::default(), true);
    let last = pieces.len() - 1;
    for (i, piece) in pieces.iter().enumerate() {
        let is_end = fin && i == last;
        if is_reading {
            match peer.send(stream, piece.to_vec(), is_end) {
                Ok(reading) => is_reading = reading == Reading::Continue,
                Err(code) => outcome.result = Some(code),
            }
        } else if let Some(Event::SessionStream { data, fin, .. }) = outcome.events.last_mut() {
            *data = [data, *piece].concat().into();
            *fin = is_end;
        }
        for event in peer.events() {
            match (outcome.events.last_mut(), event) {
                (_, Event::SessionRequest { session, head }) => {
                    peer.connection.accept_session(session, Vec::new(), &head);
                    outcome.events.push(Event::SessionRequest { session, head });
                }
                (Some(Event::Body { data, .. }), Event::Body { data: more, .. }) => {
                    *data = [&data[..], &more].concat().into();
                }
                (_, event) => outcome.events.push(event),
            }
        }
        outcome.transmits.extend(peer.transmits());
        if outcome.result.is_some() {
            break;
        }
    }
    // Its acceptance comes at the first piece or at a later one.
    outcome.events.extend(peer.events());
    outcome
}

/// Events and transmits each in their order: a driver takes one kind after the other.
fn assert_same(stream: u64, whole: &[u8], pieces: &[&[u8]], fin: bool) {
    let expected = outcome(stream, &accepted_first(stream, whole), fin);
    assert_eq!(outcome(stream, pieces, fin), expected, "stream {stream}, {pieces:02x?}");
}

/// One piece; of a session its CONNECT apart, so that it is accepted before the rest is read, as it is if cut anywhere.
fn accepted_first(stream: u64, whole: &[u8]) -> Vec<&[u8]> {
    let head = connect(&[("sec-webtransport-http3-draft02", "1")]).len();
    match stream == SESSION {
        true => vec![&whole[..head], &whole[head..]],
        false => vec![whole],
    }
}

/// Every input cut in two at every byte, and into single bytes, has the same outcome as in one piece.
#[test]
fn no_cut_changes_the_outcome() {
    for (stream, bytes, fin) in inputs() {
        // Behind the head of a session, which is accepted there.
        let first = accepted_first(stream, &bytes);
        let start = if first.len() > 1 { first[0].len() } else { 0 };
        for cut in 0..=bytes.len() {
            let mut pieces = vec![&bytes[..cut.min(start)], &bytes[cut.min(start)..cut.max(start)]];
            pieces.push(&bytes[cut.max(start)..]);
            pieces.retain(|piece| !piece.is_empty());
            assert_same(stream, &bytes, &pieces, fin);
            if fin {
                pieces.push(&[]);
                assert_same(stream, &bytes, &pieces, fin);
            }
        }
        let single: Vec<&[u8]> = bytes.chunks(1).collect();
        assert_same(stream, &bytes, &single, fin);
    }
}

/// Something that happens to a connection.
#[derive(Clone, Debug)]
enum Step {
    Stream { id: u64, bytes: Vec<u8>, fin: bool },
    Reset(u64),
    Stop(u64),
    Datagram(Vec<u8>),
    Pass(u64),
    Accept,
    Respond { id: u64, status: u16, fin: bool },
    Body { id: u64, fin: bool },
    Close(u64),
    EndQuietly(u64),
    Drain,
    GoAway,
}

fn step() -> impl Strategy<Value = Step> {
    let id = 0..40u64;
    let known = prop::sample::select(inputs().into_iter().map(|(_, bytes, _)| bytes).collect::<Vec<_>>());
    let bytes = prop_oneof![
        4 => known.clone(),
        // A valid input with its end cut off, or with a byte changed.
        2 => (known.clone(), any::<prop::sample::Index>()).prop_map(|(mut bytes, at)| {
            bytes.truncate(at.index(bytes.len()));
            bytes
        }),
        2 => (known, any::<prop::sample::Index>(), any::<u8>()).prop_map(|(mut bytes, at, byte)| {
            let at = at.index(bytes.len());
            bytes[at] = byte;
            bytes
        }),
        1 => (0..3u64).prop_map(|index| stream_header(4 * index)),
        1 => prop::collection::vec(any::<u8>(), 0..60),
        1 => Just(Vec::new()),
    ];
    prop_oneof![
        8 => (id.clone(), bytes, prop::bool::weighted(0.3)).prop_map(|(id, bytes, fin)| Step::Stream { id, bytes, fin }),
        1 => id.clone().prop_map(Step::Reset),
        1 => id.clone().prop_map(Step::Stop),
        1 => prop::collection::vec(0..4u8, 0..6).prop_map(Step::Datagram),
        1 => (0..6000u64).prop_map(Step::Pass),
        3 => Just(Step::Accept),
        1 => (id.clone(), 200..600u16, any::<bool>()).prop_map(|(id, status, fin)| Step::Respond { id, status, fin }),
        1 => (id.clone(), any::<bool>()).prop_map(|(id, fin)| Step::Body { id, fin }),
        1 => id.clone().prop_map(Step::Close),
        1 => id.prop_map(Step::EndQuietly),
        1 => Just(Step::Drain),
        1 => Just(Step::GoAway),
    ]
}

/// Follows what a connection puts out, and knows what must not follow what.
#[derive(Default)]
struct Watch {
    /// Streams on which nothing more may be written.
    finished: Vec<u64>,
    is_closed: bool,
    /// Sessions asked for, and whether they are over.
    sessions: HashMap<u64, bool>,
    requests: Vec<u64>,
}

impl Watch {
    fn event(&mut self, event: &Event) {
        match event {
            Event::SessionRequest { session, .. } => {
                assert_eq!(self.sessions.insert(*session, false), None, "a session is asked for once");
            }
            Event::SessionStream { session, .. } | Event::SessionDatagram { session, .. } => {
                assert_eq!(self.sessions.get(session), Some(&false), "a session must be open");
            }
            Event::SessionEnded { session, .. } => {
                assert_eq!(self.sessions.insert(*session, true), Some(false), "a session ends once");
            }
            Event::Request { stream, .. } => {
                assert!(!self.requests.contains(stream), "a request comes once");
                self.requests.push(*stream);
            }
            Event::Body { stream, .. } => assert!(self.requests.contains(stream)),
            Event::End { stream } | Event::Cancelled { stream } => assert!(self.requests.contains(stream)),
            Event::GoAway => {}
        }
    }

    fn transmit(&mut self, transmit: &Transmit) {
        match transmit {
            Transmit::Write { stream, fin, .. } => {
                assert!(!self.finished.contains(stream), "written behind the end of {stream}");
                if *fin {
                    self.finished.push(*stream);
                }
            }
            Transmit::Reset { stream, .. } => self.finished.push(*stream),
            Transmit::Close { .. } => assert!(!std::mem::replace(&mut self.is_closed, true), "closed once"),
            Transmit::OpenControl(_) | Transmit::Control(_) | Transmit::Stop { .. } => {}
        }
    }
}

fn apply(peer: &mut Peer, offered: &mut Vec<Event>, stopped: &mut Vec<u64>, step: Step) -> Result<(), Code> {
    let now = peer.now;
    match step {
        // A driver hands in no more of a stream that it was told to leave.
        Step::Stream { id, .. } if stopped.contains(&id) => {}
        Step::Stream { id, bytes, fin } => {
            if fin || peer.send(id, bytes, fin)? == Reading::Stop {
                stopped.push(id);
            }
        }
        Step::Reset(id) if stopped.contains(&id) => {}
        Step::Reset(id) => {
            stopped.push(id);
            peer.reset(id)?;
        }
        Step::Stop(id) => peer.connection.handle_stop(now, id),
        Step::Datagram(bytes) => peer.datagram(&bytes)?,
        Step::Pass(millis) => peer.pass(Duration::from_millis(millis))?,
        Step::Accept => {
            if let Some(Event::SessionRequest { session, head }) = offered.pop() {
                peer.connection.accept_session(session, Vec::new(), &head);
            }
        }
        Step::Respond { id, status, fin } => {
            peer.connection.respond(now, id, &ResponseHead::status(status), fin);
        }
        Step::Body { id, fin } => peer.connection.send_body(now, id, b"body", fin),
        Step::Close(id) => peer.connection.close_session(now, id, 3000, "reason"),
        Step::EndQuietly(id) => peer.connection.end_session_quietly(now, id),
        Step::Drain => peer.connection.drain(),
        Step::GoAway => peer.connection.go_away(),
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// Whatever happens in whatever order: nothing panics, nothing is written behind an end, sessions begin and end
    /// once, and a deadline is never left behind.
    #[test]
    fn any_sequence_is_survived(steps in prop::collection::vec(step(), 1..40), sessions_max in 1..3usize) {
        let mut peer = Peer::new(Config { sessions_max, ..Config::default() });
        let (mut watch, mut offered, mut stopped) = (Watch::default(), Vec::new(), Vec::new());
        for step in steps {
            let result = apply(&mut peer, &mut offered, &mut stopped, step);
            for event in peer.events() {
                watch.event(&event);
                if matches!(event, Event::SessionRequest { .. }) {
                    offered.push(event);
                }
            }
            peer.transmits().iter().for_each(|transmit| watch.transmit(transmit));
            if result.is_err() || watch.is_closed {
                return Ok(());
            }
        }
        // An hour on, every bounded wait is over.
        prop_assert!(peer.pass(Duration::from_secs(3600)).is_ok() || peer.connection.dialect().is_none());
        peer.events().iter().for_each(|event| watch.event(event));
        peer.transmits().iter().for_each(|transmit| watch.transmit(transmit));
        let left = peer.connection.poll_timeout();
        // What was begun by that: the linger of a connection whose last session it ended.
        prop_assert!(left.is_none_or(|at| at > peer.now || peer.connection.dialect().is_none()), "{left:?}");
    }
}
