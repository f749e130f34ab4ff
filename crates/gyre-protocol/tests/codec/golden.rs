//! Worked bytes of the protocol's documentation.
//!
//! Spec: centrifugal/protocol client.proto; protobuf.dev, "Encoding".

use std::sync::Arc;

use gyre_protocol::{
    client::*,
    codec::{EncodeOptions, Encoding},
    codes::*,
};

fn bytes(hex: &str) -> Vec<u8> {
    hex.split(' ').map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect()
}

/// The one command of a Protobuf frame.
fn command(frame: &[u8]) -> Command<'_> {
    let commands: Vec<_> = Encoding::Protobuf.split_frame(frame).collect::<Result<_, _>>().unwrap();
    assert_eq!(commands.len(), 1);
    Encoding::Protobuf.decode_command(commands[0]).unwrap()
}

fn with_length(encode: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut message = Vec::new();
    encode(&mut message);
    super::tree::with_length(&message)
}

fn reply(id: u32, body: ReplyBody) -> Vec<u8> {
    with_length(|out| {
        Encoding::Protobuf.encode_reply(&Reply { id, body }, &EncodeOptions::default(), out).unwrap();
    })
}

fn push(channel: &str, body: PushBody) -> Push {
    Push { channel: channel.into(), id: 0, body }
}

fn push_bytes(push: &Push) -> Vec<u8> {
    with_length(|out| Encoding::Protobuf.encode_push(push, &EncodeOptions::default(), out).unwrap())
}

fn publication(data: &'static str, offset: u64) -> Arc<Publication> {
    Arc::new(Publication { data: Payload::new(data), offset, ..Default::default() })
}

/// Goal: commands recorded as bytes mean what they say. Method: decode each and compare with the value written down.
#[test]
fn protobuf_commands() {
    let frame = bytes("0b 08 01 22 07 0a 01 54 22 02 6a 73");
    let connect = ConnectRequest { token: "T".into(), name: "js".into(), ..Default::default() };
    assert_eq!(command(&frame), Command { id: 1, request: Some(Request::Connect(Box::new(connect))) });

    let frame = bytes("12 08 02 2a 0e 0a 02 63 68 18 01 32 02 61 62 38 03 70 01");
    let subscribe = SubscribeRequest {
        channel: "ch".into(),
        recover: true,
        epoch: "ab".into(),
        offset: 3,
        flag: 1,
        ..Default::default()
    };
    assert_eq!(command(&frame), Command { id: 2, request: Some(Request::Subscribe(Box::new(subscribe))) });

    let frame = bytes("15 08 05 7a 11 0a 01 6b 18 01 22 0a 0a 01 53 12 05 0a 01 61 10 07");
    let track = vec![TrackBatch { signature: "S".into(), items: vec![("a".into(), 7)] }];
    let sub_refresh = SubRefreshRequest { channel: "k".into(), kind: 1, track, ..Default::default() };
    assert_eq!(command(&frame), Command { id: 5, request: Some(Request::SubRefresh(Box::new(sub_refresh))) });

    let frame = bytes("08 08 02 2a 04 0a 02 63 68");
    let subscribe = SubscribeRequest { channel: "ch".into(), ..Default::default() };
    assert_eq!(command(&frame), Command { id: 2, request: Some(Request::Subscribe(Box::new(subscribe))) });

    assert_eq!(command(&[0]), Command::default());
}

/// Goal: replies have the recorded bytes. Method: encode the values written down, with the length before them.
#[test]
fn protobuf_replies() {
    let connect = ConnectResult {
        client: "c1".into(),
        version: "v".into(),
        ping: 25,
        pong: true,
        ..Default::default()
    };
    assert_eq!(
        reply(1, ReplyBody::Connect(Box::new(connect))),
        bytes("0f 08 01 2a 0b 0a 02 63 31 12 01 76 38 19 40 01")
    );
    let subscribe = SubscribeResult {
        recoverable: true,
        epoch: Epoch::new("ab"),
        publications: vec![publication("{}", 4)],
        recovered: true,
        offset: 3,
        positioned: true,
        was_recovering: true,
        ..Default::default()
    };
    assert_eq!(
        reply(2, ReplyBody::Subscribe(Box::new(subscribe))),
        bytes("1a 08 02 32 16 18 01 32 02 61 62 3a 06 22 02 7b 7d 30 04 40 01 48 03 50 01 60 01")
    );
    assert_eq!(
        reply(3, ReplyBody::Error(ClientError::PERMISSION_DENIED)),
        bytes("19 08 03 12 15 08 67 12 11 70 65 72 6d 69 73 73 69 6f 6e 20 64 65 6e 69 65 64")
    );
}

/// Goal: pushes have the recorded bytes in both directions. Method: as for replies; the bare form has no length.
#[test]
fn protobuf_pushes() {
    let publication = push("ch", PushBody::Publication(publication(r#"{"a":1}"#, 5)));
    assert_eq!(
        push_bytes(&publication),
        bytes("13 22 11 12 02 63 68 22 0b 22 07 7b 22 61 22 3a 31 7d 30 05")
    );
    let mut bare = Vec::new();
    let options = EncodeOptions { unidirectional: true, ..Default::default() };
    Encoding::Protobuf.encode_push(&publication, &options, &mut bare).unwrap();
    assert_eq!(bare, bytes("12 02 63 68 22 0b 22 07 7b 22 61 22 3a 31 7d 30 05"));

    assert_eq!(
        push_bytes(&push("ch", PushBody::Unsubscribe(Unsubscribe::INSUFFICIENT_STATE))),
        bytes(
            "1f 22 1d 12 02 63 68 3a 17 10 c4 13 1a 12 69 6e 73 75 66 66 69 63 69 65 6e 74 20 73 74 61 74 65"
        )
    );
    assert_eq!(
        push_bytes(&push("", PushBody::Disconnect(Disconnect::EXPIRED))),
        bytes("1b 22 19 5a 17 08 bd 17 12 12 63 6f 6e 6e 65 63 74 69 6f 6e 20 65 78 70 69 72 65 64")
    );
}

/// Goal: scores are zig-zag numbers. Method: publications with nothing else, whose bytes end in the field.
#[test]
fn protobuf_score() {
    for (score, field) in [(-1, "68 01"), (5, "68 0a")] {
        let publication = Arc::new(Publication { score, ..Default::default() });
        let bytes_written = push_bytes(&push("", PushBody::Publication(publication)));
        assert_eq!(bytes_written, bytes(&format!("06 22 04 22 02 {field}")));
    }
}
