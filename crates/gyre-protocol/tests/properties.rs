//! Whatever the input: no panic, the same commands for every way to cut them, and the same meaning in both encodings.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use gyre_protocol::codec::{Encoding, StreamDecoder};
use proptest::prelude::*;

/// All commands of a stream that comes in these chunks.
fn commands(encoding: Encoding, chunks: &[&[u8]]) -> Vec<Vec<u8>> {
    let mut decoder = StreamDecoder::new(encoding, 1000);
    let mut found = Vec::new();
    for chunk in chunks {
        decoder.push(chunk.to_vec().into());
        while let Some(command) = decoder.next_command().unwrap() {
            found.push(command.to_vec());
        }
    }
    found
}

proptest! {
    /// A stream cut anywhere gives the commands it gives whole.
    #[test]
    fn any_cut_gives_the_same_commands(
        texts in prop::collection::vec("[a-z]{1,40}", 1..8),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
    ) {
        for encoding in [Encoding::Json, Encoding::Protobuf] {
            let mut bytes = Vec::new();
            for text in &texts {
                if encoding == Encoding::Protobuf {
                    bytes.push(text.len() as u8);
                }
                bytes.extend_from_slice(text.as_bytes());
                if encoding == Encoding::Json {
                    bytes.push(b'\n');
                }
            }
            let mut places: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
            places.extend([0, bytes.len()]);
            places.sort_unstable();
            let chunks: Vec<&[u8]> = places.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect();
            let expected: Vec<Vec<u8>> = texts.iter().map(|text| text.clone().into_bytes()).collect();
            prop_assert_eq!(commands(encoding, &chunks), expected);
        }
    }

    /// Random bytes never panic in either decoder or splitter.
    #[test]
    fn random_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        for encoding in [Encoding::Json, Encoding::Protobuf] {
            for command in encoding.split_frame(&bytes).flatten() {
                std::hint::black_box(encoding.decode_command(command).is_ok());
            }
            let mut stream = StreamDecoder::new(encoding, 100);
            stream.push(bytes.clone().into());
            while let Ok(Some(_)) = stream.next_command() {}
        }
    }

    /// Our reader accepts as a raw value what serde_json accepts as a value, and nothing else.
    #[test]
    fn raw_values_are_json(value in "[\\[\\]{}:,\"\\\\a-f0-9ntrue.eE+ -]{0,24}") {
        let line = format!(r#"{{"id":1,"rpc":{{"data":{value}}}}}"#);
        let ours = Encoding::Json.decode_command(line.as_bytes()).is_ok();
        let theirs = serde_json::from_str::<Box<serde_json::value::RawValue>>(&line).is_ok();
        // Names that repeat or open new members are read by both alike; only lone surrogates are left to ours.
        prop_assert_eq!(ours, theirs, "{}", line);
    }

    /// A publish means the same in both encodings.
    #[test]
    fn encodings_agree(id in 1u32.., channel in "\\PC{0,20}", key in "[a-z]{0,5}", removed: bool) {
        let quoted = |text: &str| serde_json::to_string(text).unwrap();
        let json = format!(
            r#"{{"id":{id},"publish":{{"channel":{},"data":[1],"key":{},"removed":{removed}}}}}"#,
            quoted(&channel), quoted(&key)
        );
        let mut body = Vec::new();
        for (number, text) in [(1u8, channel.as_bytes()), (2, b"[1]"), (4, key.as_bytes())] {
            body.extend([number << 3 | 2]);
            varint(&mut body, text.len() as u64);
            body.extend_from_slice(text);
        }
        body.extend([5 << 3, u8::from(removed)]);
        let mut protobuf = vec![1 << 3];
        varint(&mut protobuf, id.into());
        protobuf.push(7 << 3 | 2);
        varint(&mut protobuf, body.len() as u64);
        protobuf.extend(body);
        prop_assert_eq!(
            Encoding::Json.decode_command(json.as_bytes()).unwrap(),
            Encoding::Protobuf.decode_command(&protobuf).unwrap()
        );
    }
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}
