//! Bytes on the wire, against messages recorded from the reference and the examples of the protocol's description.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;

use gyre_protocol::{
    ChannelRequest, ClientError, Command, ConnectResult, Disconnect, Epoch, Expiry, Payload, Publication,
    Push, PushBody, Reply, ReplyBody, Request, SubscribeResult, Unsubscribe,
    codec::{DecodeError, EncodeError, EncodeOptions, Encoding, StreamDecoder},
};

fn hex(text: &str) -> Vec<u8> {
    text.split_whitespace().map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect()
}

fn delimited(encode: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut body = Vec::new();
    encode(&mut body);
    assert!(body.len() < 128);
    [&[body.len() as u8], &body[..]].concat()
}

fn reply(reply: &Reply) -> Vec<u8> {
    let options = EncodeOptions::default();
    delimited(|out| Encoding::Protobuf.encode_reply(reply, &options, out).unwrap())
}

fn push(channel: &str, body: PushBody) -> Push {
    Push { channel: channel.into(), id: 0, body }
}

fn json_reply(reply: &Reply, ascii: bool) -> String {
    let mut out = Vec::new();
    let options = EncodeOptions { ascii, ..EncodeOptions::default() };
    Encoding::Json.encode_reply(reply, &options, &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

fn json_push(push: &Push, options: EncodeOptions) -> Result<String, EncodeError> {
    let mut out = Vec::new();
    Encoding::Json.encode_push(push, &options, &mut out)?;
    Ok(String::from_utf8(out).unwrap())
}

fn publication(data: &str, offset: u64) -> Arc<Publication> {
    let data = Payload::json(data.to_owned());
    Arc::new(Publication { data, offset, epoch: Epoch::new("ab"), ..Publication::default() })
}

/// Replies and pushes have the bytes of the reference's Protobuf: compared one by one.
#[test]
fn protobuf_messages_have_the_recorded_bytes() {
    let connect = ConnectResult {
        client: "c1".into(),
        version: "v".into(),
        ping: 25,
        pong: true,
        ..Default::default()
    };
    let recorded = "0f 08 01 2a 0b 0a 02 63 31 12 01 76 38 19 40 01";
    assert_eq!(reply(&Reply { id: 1, body: ReplyBody::Connect(Box::new(connect)) }), hex(recorded));

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
    let recorded = "1a 08 02 32 16 18 01 32 02 61 62 3a 06 22 02 7b 7d 30 04 40 01 48 03 50 01 60 01";
    assert_eq!(reply(&Reply { id: 2, body: ReplyBody::Subscribe(Box::new(subscribe)) }), hex(recorded));

    let denied = Reply { id: 3, body: ReplyBody::Error(ClientError::PERMISSION_DENIED) };
    let recorded = "19 08 03 12 15 08 67 12 11 70 65 72 6d 69 73 73 69 6f 6e 20 64 65 6e 69 65 64";
    assert_eq!(reply(&denied), hex(recorded));

    let encode = |push: &Push| {
        delimited(|out| Encoding::Protobuf.encode_push(push, &EncodeOptions::default(), out).unwrap())
    };
    let published = push("ch", PushBody::Publication(publication(r#"{"a":1}"#, 5)));
    let recorded = "13 22 11 12 02 63 68 22 0b 22 07 7b 22 61 22 3a 31 7d 30 05";
    assert_eq!(encode(&published), hex(recorded));
    let ended = push("", PushBody::Disconnect(Disconnect::EXPIRED));
    let recorded = "1b 22 19 5a 17 08 bd 17 12 12 63 6f 6e 6e 65 63 74 69 6f 6e 20 65 78 70 69 72 65 64";
    assert_eq!(encode(&ended), hex(recorded));
    let lost = push("ch", PushBody::Unsubscribe(Unsubscribe::INSUFFICIENT_STATE));
    let recorded =
        "1f 22 1d 12 02 63 68 3a 17 10 c4 13 1a 12 69 6e 73 75 66 66 69 63 69 65 6e 74 20 73 74 61 74 65";
    assert_eq!(encode(&lost), hex(recorded));
}

/// Commands recorded in Protobuf decode to what they say.
#[test]
fn protobuf_commands_decode() {
    let bytes = hex("0b 08 01 22 07 0a 01 54 22 02 6a 73");
    let frame = Encoding::Protobuf.split_frame(&bytes).next().unwrap().unwrap();
    let command = Encoding::Protobuf.decode_command(frame).unwrap();
    let Some(Request::Connect(connect)) = command.request else { panic!("{command:?}") };
    assert_eq!((command.id, &*connect.token, &*connect.name), (1, "T", "js"));

    let bytes = hex("08 02 2a 0e 0a 02 63 68 18 01 32 02 61 62 38 03 70 01");
    let command = Encoding::Protobuf.decode_command(&bytes).unwrap();
    let Some(Request::Subscribe(subscribe)) = command.request else { panic!("{command:?}") };
    assert_eq!(
        (&*subscribe.channel, subscribe.recover, subscribe.offset, subscribe.flag),
        ("ch", true, 3, 1)
    );

    let bytes = hex("08 05 7a 11 0a 01 6b 18 01 22 0a 0a 01 53 12 05 0a 01 61 10 07");
    let command = Encoding::Protobuf.decode_command(&bytes).unwrap();
    let Some(Request::SubRefresh(track)) = command.request else { panic!("{command:?}") };
    assert_eq!((track.kind, &*track.track[0].signature, track.track[0].items[0].1), (1, "S", 7));
}

/// The shapes of JSON that clients rely on: order of keys, omitted zeros, keys that are always there, raw payloads.
#[test]
fn json_has_the_shapes_clients_rely_on() {
    let connect = ConnectResult {
        client: "c1".into(),
        version: "6.9.1 OSS".into(),
        expiry: Expiry { expires: true, ttl: 3600 },
        ping: 25,
        pong: true,
        ..Default::default()
    };
    assert_eq!(
        json_reply(&Reply { id: 1, body: ReplyBody::Connect(Box::new(connect)) }, false),
        r#"{"id":1,"connect":{"client":"c1","version":"6.9.1 OSS","expires":true,"ttl":3600,"ping":25,"pong":true}}"#
    );
    assert_eq!(
        json_reply(&Reply { id: 2, body: ReplyBody::Unsubscribe }, false),
        r#"{"id":2,"unsubscribe":{}}"#
    );
    let history = gyre_protocol::HistoryResult { epoch: Epoch::new("ab"), offset: 5, ..Default::default() };
    assert_eq!(
        json_reply(&Reply { id: 5, body: ReplyBody::History(history) }, false),
        r#"{"id":5,"history":{"publications":[],"epoch":"ab","offset":5}}"#
    );
    let options = EncodeOptions::default();
    let spread = push("c", PushBody::Publication(publication("{\n\"n\": 1\n}", 1)));
    assert_eq!(
        json_push(&spread, options).unwrap(),
        r#"{"push":{"channel":"c","pub":{"data":{"n": 1},"offset":1,"epoch":"ab"}}}"#,
        "line feeds between tokens are left out, the first publication carries its epoch"
    );
    let binary = Publication { data: Payload::new(&b"\x00\x01"[..]), ..Publication::default() };
    let binary = push("c", PushBody::Publication(Arc::new(binary)));
    assert_eq!(json_push(&binary, options), Err(EncodeError::NotJson));
    let delta = EncodeOptions { delta: true, ..options };
    let text = push("t", PushBody::Publication(publication(r#"{"unit":"C"}"#, 7)));
    assert_eq!(
        json_push(&text, delta).unwrap(),
        r#"{"push":{"channel":"t","pub":{"data":"{\"unit\":\"C\"}","offset":7}}}"#
    );
}

/// Escaped output is pure ASCII and means the same: compared after parsing, with characters of every length.
#[test]
fn ascii_output_means_the_same() {
    let data = r#"{"text":"aé⟳😀","é":["\u00e9"]}"#;
    let message = push("кан", PushBody::Publication(publication(data, 2)));
    let plain = json_push(&message, EncodeOptions::default()).unwrap();
    let escaped = json_push(&message, EncodeOptions { ascii: true, ..EncodeOptions::default() }).unwrap();
    assert!(escaped.is_ascii() && !plain.is_ascii());
    let parse = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
    assert_eq!(parse(&plain), parse(&escaped));
}

/// Each rule on received JSON, one command for each.
#[test]
fn json_commands_follow_the_rules() {
    let decode = |text: &'static str| Encoding::Json.decode_command(text.as_bytes());
    let unsubscribe = |channel: &'static str| {
        Ok(Command { id: 2, request: Some(Request::Unsubscribe(ChannelRequest { channel: channel.into() })) })
    };
    assert_eq!(decode(r#" {"unsubscribe": {"channel":"a","x":[{}]} ,"id":2 ,"y":null}"#), unsubscribe("a"));
    assert_eq!(decode(r#"{"ID":2,"Unsubscribe":{"Channel":"a"}}"#), unsubscribe("a"), "names in any case");
    assert_eq!(
        decode(r#"{"id":1,"id":2,"unsubscribe":{"channel":"b","channel":"a"}}"#),
        unsubscribe("a"),
        "last wins"
    );
    assert_eq!(decode(r#"{"id":2,"unsubscribe":{"channel":"\u0061\ud83d\ude00"}}"#), unsubscribe("a😀"));
    assert_eq!(decode(r#"{"id":2,"unsubscribe":{"channel":null}}"#), unsubscribe(""), "null is absent");
    assert_eq!(decode("{}"), Ok(Command::default()), "a pong");
    assert_eq!(decode(r#"{"id":2,"unsubscribe":null}"#), Ok(Command { id: 2, request: None }));
    let both = decode(r#"{"id":2,"publish":{"channel":"c"},"subscribe":{"channel":"c"}}"#).unwrap();
    assert!(matches!(both.request, Some(Request::Subscribe(_))), "the first in the order of the protocol");
    let Ok(Command { request: Some(Request::Publish(publish)), .. }) =
        decode(r#"{"id":1,"publish":{"channel":"c","data": null }}"#)
    else {
        panic!("publish")
    };
    assert_eq!(&*publish.data, b"null", "raw values keep their bytes");
    for bad in [
        r#"{"id":"2"}"#,
        r#"{"id":-1}"#,
        r#"{"id":1.5}"#,
        r#"{"id":4294967296}"#,
        r#"{"id":01}"#,
        "[{}]",
        "null",
        r#"{"id":2"#,
        r#"{"id":2,}"#,
        r#"{"id":2} x"#,
        "\u{feff}{}",
        r#"{"id":2,"x":"\q"}"#,
        "{\"id\":2,\"x\":\"\n\"}",
    ] {
        assert!(decode(bad).is_err(), "{bad}");
    }
    let deep = format!(r#"{{"id":1,"rpc":{{"data":{}{}}}}}"#, "[".repeat(65), "]".repeat(65));
    assert!(Encoding::Json.decode_command(deep.as_bytes()).is_err(), "too deep");
}

/// Frames and lengths: what is no command ends with an error, and no length is believed.
#[test]
fn frames_are_split_and_bounded() {
    let split =
        |frame: &[u8]| Encoding::Json.split_frame(frame).map(|c| c.map(<[u8]>::len)).collect::<Vec<_>>();
    assert_eq!(split(b"{}\n{ }\n"), [Ok(2), Ok(3)]);
    assert_eq!(split(b""), [Err(DecodeError::NoCommand)]);
    assert_eq!(split(b"{}\n\n{}"), [Ok(2), Err(DecodeError::NoCommand)]);
    let hostile = hex("ff ff ff ff ff ff ff ff 7f 00");
    assert!(Encoding::Protobuf.split_frame(&hostile).next().unwrap().is_err());
    let mut stream = StreamDecoder::new(Encoding::Protobuf, 100);
    stream.push(hostile.into());
    assert_eq!(stream.next_command(), Err(DecodeError::TooLarge { limit: 100 }));
    let mut stream = StreamDecoder::new(Encoding::Json, 3);
    stream.push("{ }".into());
    assert_eq!(stream.next_command(), Ok(None), "exactly the limit");
    stream.push(" ".into());
    assert_eq!(stream.next_command(), Err(DecodeError::TooLarge { limit: 3 }));
}
