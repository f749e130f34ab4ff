use proptest::prelude::*;

use super::*;

/// A masked client frame.
fn client_frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mask = [1, 2, 3, 4];
    let mut frame = vec![first];
    match payload.len() {
        short @ 0..126 => frame.push(0x80 | short as u8),
        middle @ 126..=0xffff => {
            frame.push(0x80 | 126);
            frame.extend_from_slice(&(middle as u16).to_be_bytes());
        }
        long => {
            frame.push(0x80 | 127);
            frame.extend_from_slice(&(long as u64).to_be_bytes());
        }
    }
    frame.extend_from_slice(&mask);
    frame.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}

/// Feeds chunks and collects what they hold, as text. What is kept is all that was not yet handed out, and no more.
fn decode<'a>(chunks: impl Iterator<Item = &'a [u8]>, limit: usize) -> Result<Vec<String>, FrameError> {
    let mut decoder = Decoder::new(limit, None);
    let mut seen = Vec::new();
    for chunk in chunks {
        let (mut buffer, mut at) = (chunk.to_vec(), 0);
        while let Some(event) = decoder.next(&mut buffer, &mut at)? {
            seen.push(match event {
                Event::Text(message) | Event::Binary(message) => {
                    format!("message {}", String::from_utf8_lossy(&message))
                }
                Event::Ping(payload) => format!("ping {}", String::from_utf8_lossy(&payload)),
                Event::Pong => "pong".into(),
                Event::Close(code) => format!("close {code:?}"),
            });
        }
        assert_eq!(at, chunk.len(), "everything is taken in");
        assert!(decoder.partial.len() <= limit.max(CONTROL_BYTES_MAX as usize) + HEADER_BYTES_MAX);
    }
    Ok(seen)
}

/// A conversation with fragments, control frames between them, and messages of all three kinds of length.
fn conversation() -> (Vec<u8>, Vec<String>) {
    let (middle, long) = ("x".repeat(300), "é".repeat(35_000));
    let mut bytes = client_frame(0x81, b"one");
    bytes.extend(client_frame(0x01, b"tw\xc3"));
    bytes.extend(client_frame(0x89, b"?"));
    bytes.extend(client_frame(0x00, b""));
    bytes.extend(client_frame(0x80, b"\xb6"));
    bytes.extend(client_frame(0x82, middle.as_bytes()));
    bytes.extend(client_frame(0x8a, b""));
    bytes.extend(client_frame(0x81, long.as_bytes()));
    bytes.extend(client_frame(0x82, b""));
    bytes.extend(client_frame(0x88, &3000u16.to_be_bytes()));
    let (middle, long) = (format!("message {middle}"), format!("message {long}"));
    let seen =
        ["message one", "ping ?", "message twö", &middle, "pong", &long, "message ", "close Some(3000)"];
    (bytes, seen.map(String::from).to_vec())
}

/// However the bytes are cut, the same events come out: the conversation is cut in two at many places (all around the
/// small frames), and into pieces of one size down to single bytes.
#[test]
fn any_cut_gives_the_same_events() {
    let (bytes, expected) = conversation();
    let small = (0..500).chain(bytes.len() - 100..=bytes.len());
    for cut in small.chain((500..bytes.len()).step_by(997)) {
        let (a, b) = bytes.split_at(cut);
        assert_eq!(decode([a, b].into_iter(), 70_000).as_ref(), Ok(&expected), "cut at {cut}");
    }
    for size in [1, 2, 3, 7, 64, 4096] {
        assert_eq!(decode(bytes.chunks(size), 70_000).as_ref(), Ok(&expected), "pieces of {size}");
    }
}

/// A frame that is all there is handed out where it lies; nothing is kept after it, nor after a message in pieces.
#[test]
fn a_whole_frame_is_not_copied_and_nothing_is_kept() {
    let mut decoder = Decoder::new(100, None);
    let (mut buffer, mut at) = (client_frame(0x81, b"whole"), 0);
    let event = decoder.next(&mut buffer, &mut at);
    assert!(matches!(event, Ok(Some(Event::Text(Cow::Borrowed(b"whole"))))), "{event:?}");

    let mut start = client_frame(0x81, b"pieces");
    let mut end = start.split_off(8);
    assert_eq!(decoder.next(&mut start, &mut 0), Ok(None));
    assert_eq!(decoder.next(&mut end, &mut 0), Ok(Some(Event::Text(Cow::Owned(b"pieces".to_vec())))));
    assert_eq!(decoder.partial.capacity(), 0, "the buffer left with the message");
    assert!(decoder.fragments.is_none());
}

/// A message of exactly the limit is taken, whole or in fragments.
#[test]
fn a_message_at_the_limit_is_taken() {
    let mut bytes = client_frame(0x81, b"1234567890");
    bytes.extend(client_frame(0x01, b"12345"));
    bytes.extend(client_frame(0x80, b"67890"));
    let expected = vec!["message 1234567890".to_owned(); 2];
    assert_eq!(decode([&bytes[..]].into_iter(), 10), Ok(expected));
}

/// Text must be UTF-8, in one frame or in many, and is refused by the first fragment no continuation can mend; binary
/// messages are not looked at.
///
/// Spec: RFC 6455 section 8.1
#[test]
fn text_is_utf8() {
    let refused = |frames: &[(u8, &[u8])]| {
        let bytes: Vec<u8> =
            frames.iter().flat_map(|(first, payload)| client_frame(*first, payload)).collect();
        decode([&bytes[..]].into_iter(), 100).map_err(FrameError::close_code)
    };
    assert_eq!(refused(&[(0x81, b"\xff")]), Err(1007));
    assert_eq!(refused(&[(0x81, b"\xc3")]), Err(1007), "cut character at the end");
    assert_eq!(refused(&[(0x01, b"a\xff")]), Err(1007), "before the last fragment");
    assert_eq!(refused(&[(0x01, b"\xc3"), (0x80, b"x")]), Err(1007));
    assert_eq!(refused(&[(0x01, b"a\xc3"), (0x80, b"")]), Err(1007), "the end cuts a character");
    assert_eq!(refused(&[(0x88, b"\x0b\xb8\xff")]), Err(1007), "close reason");
    assert_eq!(
        refused(&[(0x01, b"\xf0\x9f"), (0x00, b"\x98"), (0x80, b"\x80")]),
        Ok(vec!["message 😀".into()])
    );
    assert_eq!(refused(&[(0x82, b"\xff")]), Ok(vec!["message \u{fffd}".into()]));
    assert_eq!(refused(&[(0x02, b"\xff"), (0x80, b"\xc3")]), Ok(vec!["message \u{fffd}\u{fffd}".into()]));
}

/// Each way to break the framing is refused with its close code, from the header alone.
#[test]
fn broken_frames_are_refused() {
    let refused = |bytes: &[u8]| decode([bytes].into_iter(), 10).map_err(FrameError::close_code);
    assert_eq!(refused(&[0x81, 0x02, b'h', b'i']), Err(1002), "not masked");
    assert_eq!(refused(&client_frame(0xc1, b"x")), Err(1002), "reserved bit");
    assert_eq!(refused(&client_frame(0x83, b"x")), Err(1002), "unknown opcode");
    assert_eq!(refused(&client_frame(0x80, b"x")), Err(1002), "continuation of nothing");
    assert_eq!(refused(&client_frame(0x09, b"x")), Err(1002), "fragmented ping");
    assert_eq!(refused(&client_frame(0x89, &[0; 126])), Err(1002), "long ping");
    assert_eq!(
        refused(&[client_frame(0x01, b"x"), client_frame(0x81, b"x")].concat()),
        Err(1002),
        "a message inside a message"
    );
    assert_eq!(refused(&client_frame(0x88, b"x")), Err(1002), "close of one byte");
    assert_eq!(refused(&client_frame(0x88, &2999u16.to_be_bytes())), Err(1002), "unassigned close code");
    assert_eq!(refused(&client_frame(0x88, &1005u16.to_be_bytes())), Err(1002), "close code never sent");
    assert_eq!(
        refused(&client_frame(0x81, b"12345678901")[..6]),
        Err(1009),
        "too large, known from the header"
    );
    let mut fragmented = client_frame(0x01, b"123456");
    fragmented.extend(client_frame(0x80, b"78901"));
    assert_eq!(refused(&fragmented), Err(1009), "too large in fragments");
}

/// "Hello" compressed, whole and in fragments (RFC 7692 section 7.2.3): only the first frame is marked, control frames
/// and continuations must not be, and nothing may be where it was not agreed on. Text is checked inflated.
#[test]
fn compressed_messages_are_inflated() {
    let decode = |frames: &[(u8, &[u8])], inflated_max| {
        let mut decoder = Decoder::new(10, NonZeroU32::new(inflated_max));
        let mut bytes: Vec<u8> =
            frames.iter().flat_map(|(first, payload)| client_frame(*first, payload)).collect();
        match decoder.next(&mut bytes, &mut 0) {
            Ok(Some(Event::Text(message) | Event::Binary(message))) => Ok(message.into_owned()),
            Ok(other) => panic!("{other:?}"),
            Err(error) => Err(error.close_code()),
        }
    };
    let hello = [0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00];
    assert_eq!(decode(&[(0xc1, &hello)], 5), Ok(b"Hello".to_vec()));
    assert_eq!(
        decode(&[(0x41, &hello[..3]), (0x00, &hello[3..5]), (0x80, &hello[5..])], 5),
        Ok(b"Hello".to_vec())
    );
    assert_eq!(decode(&[(0x81, b"plain")], 5), Ok(b"plain".to_vec()));
    assert_eq!(decode(&[(0xc1, &hello)], 4), Err(1009), "inflated beyond the limit");
    assert_eq!(decode(&[(0x41, &hello[..3]), (0x00, &[0; 8])], 5), Err(1009), "too long on the wire");
    assert_eq!(decode(&[(0xc1, &[0xff; 5])], 100), Err(1002), "not deflated");
    assert_eq!(decode(&[(0xc1, &[0x00, 1, 0, 0xfe, 0xff, 0xff, 0])], 100), Err(1007), "not UTF-8 inside");
    assert_eq!(decode(&[(0x41, &hello[..3]), (0xc0, &hello[3..])], 5), Err(1002), "a marked continuation");
    assert_eq!(decode(&[(0xc9, b"")], 5), Err(1002), "a marked ping");
    assert_eq!(decode(&[(0xa1, b"")], 5), Err(1002), "another reserved bit");
    assert_eq!(decode(&[(0xc1, &hello)], 0), Err(1002), "not agreed on");
}

/// A length of 2^63 and more neither overflows nor allocates.
#[test]
fn an_absurd_length_is_refused() {
    let header = [0x82, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 2, 3, 4];
    assert_eq!(decode([&header[..]].into_iter(), 1 << 20), Err(FrameError::TooLarge));
    let mut decoder = Decoder::new(usize::MAX, None);
    assert_eq!(decoder.next(&mut header.to_vec(), &mut 0), Ok(None));
    assert!(decoder.partial.capacity() < 100);
}

/// A close frame's reason is cut between characters to what a control frame can hold.
#[test]
fn a_close_frame_fits() {
    let frame = close_frame(3000, &"é".repeat(100));
    assert_eq!(frame[..4], [0x88, 124, 0x0b, 0xb8]);
    assert_eq!(&frame[4..], "é".repeat(61).as_bytes());
}

/// Header of a masked frame at most.
const HEADER_BYTES_MAX: usize = 14;

proptest! {
    /// Random bytes in random pieces never panic, give the same result as in one piece, and keep no more than the
    /// limit (checked while decoding).
    #[test]
    fn random_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..600), size in 1usize..50) {
        let whole = decode([&bytes[..]].into_iter(), 100);
        let pieces = decode(bytes.chunks(size), 100);
        prop_assert_eq!(whole, pieces);
    }

    /// The same for frames that are almost right: masked, with every opcode and bit.
    #[test]
    fn random_frames_are_survived(
        frames in proptest::collection::vec((any::<u8>(), proptest::collection::vec(any::<u8>(), 0..130)), 0..8),
        size in 1usize..50,
    ) {
        let bytes: Vec<u8> = frames
            .iter()
            .flat_map(|(first, payload)| client_frame(first & 0x8f, payload))
            .collect();
        let whole = decode([&bytes[..]].into_iter(), 100);
        let pieces = decode(bytes.chunks(size), 100);
        prop_assert_eq!(whole, pieces);
    }

    /// Unmasking by eight bytes equals unmasking by one.
    #[test]
    fn unmasking_is_the_definition(payload in proptest::collection::vec(any::<u8>(), 0..100), mask: [u8; 4]) {
        let expected: Vec<u8> = payload.iter().enumerate().map(|(i, byte)| byte ^ mask[i % 4]).collect();
        let mut unmasked = payload;
        unmask(&mut unmasked, mask);
        prop_assert_eq!(unmasked, expected);
    }
}
