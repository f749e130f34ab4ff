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

/// Feeds chunks and collects what they hold, as text.
fn decode<'a>(chunks: impl Iterator<Item = &'a [u8]>, limit: usize) -> Result<Vec<String>, FrameError> {
    let mut decoder = Decoder::new(limit);
    let mut seen = Vec::new();
    for chunk in chunks {
        let mut buffer = decoder.join(chunk);
        let mut at = 0;
        while let Some(event) = decoder.next(&mut buffer, &mut at)? {
            seen.push(match event {
                Event::Message(range) => format!("message {}", String::from_utf8_lossy(&buffer[range])),
                Event::Assembled(bytes) => format!("message {}", String::from_utf8_lossy(&bytes)),
                Event::Ping(range) => format!("ping {}", String::from_utf8_lossy(&buffer[range])),
                Event::Pong => "pong".into(),
                Event::Close(code) => format!("close {code:?}"),
            });
        }
        if at < buffer.len() {
            decoder.keep(&buffer[at..]);
        }
    }
    Ok(seen)
}

/// However the bytes are cut, the same events come out: a conversation with fragments, control frames between them and
/// large messages is cut at every place.
#[test]
fn any_cut_gives_the_same_events() {
    let long = "x".repeat(300);
    let mut bytes = client_frame(0x81, b"one");
    bytes.extend(client_frame(0x01, b"tw"));
    bytes.extend(client_frame(0x89, b"?"));
    bytes.extend(client_frame(0x80, b"o"));
    bytes.extend(client_frame(0x82, long.as_bytes()));
    bytes.extend(client_frame(0x8a, b""));
    bytes.extend(client_frame(0x88, &3000u16.to_be_bytes()));
    let long = format!("message {long}");
    let expected = ["message one", "ping ?", "message two", &long, "pong", "close Some(3000)"];
    for cut in 0..=bytes.len() {
        let (a, b) = bytes.split_at(cut);
        assert_eq!(
            decode([a, b].into_iter(), 1000).as_deref(),
            Ok(&expected.map(String::from)[..]),
            "cut at {cut}"
        );
    }
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
    assert_eq!(refused(&client_frame(0x88, b"x")), Err(1002), "close of one byte");
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

proptest! {
    /// Random bytes never panic, and what is kept stays within the limit.
    #[test]
    fn random_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        let mut decoder = Decoder::new(100);
        let mut buffer = bytes;
        let mut at = 0;
        while let Ok(Some(_)) = decoder.next(&mut buffer, &mut at) {}
        prop_assert!(at <= buffer.len());
    }
}
