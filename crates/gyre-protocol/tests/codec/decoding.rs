//! What is accepted as a command and what is not.
//!
//! Spec: RFC 8259; centrifugal/protocol `decode_stream.go`, client.proto; protobuf.dev, "Encoding".

use std::borrow::Cow;

use bytes::Bytes;
use gyre_protocol::{
    client::*,
    codec::{DEPTH_MAX, DecodeError, Encoding, StreamDecoder},
};

use super::tree::{varint, with_length};

fn decode(line: &str) -> Result<Command<'_>, DecodeError> {
    Encoding::Json.decode_command(line.as_bytes())
}

#[track_caller]
fn request(line: &str) -> Request<'_> {
    decode(line).unwrap().request.unwrap()
}

#[track_caller]
fn rpc_data(line: &str) -> String {
    let Request::Rpc(rpc) = request(line) else { panic!("not an rpc") };
    String::from_utf8(rpc.data.into_owned()).unwrap()
}

#[track_caller]
fn rpc_method(line: &str) -> String {
    let Request::Rpc(rpc) = request(line) else { panic!("not an rpc") };
    rpc.method.into_owned()
}

fn split(encoding: Encoding, frame: &[u8]) -> Vec<Result<Vec<u8>, ()>> {
    encoding.split_frame(frame).map(|item| item.map(<[u8]>::to_vec).map_err(|_| ())).collect()
}

/// Goal: examples of the documentation decode. Method: compare a few fields of each.
#[test]
fn json_examples() {
    let Request::Connect(connect) = request(r#"{"connect":{"token":"eyJ","name":"js"},"id":1}"#) else {
        panic!("not a connect")
    };
    assert_eq!((&*connect.token, &*connect.name), ("eyJ", "js"));
    let line = r#"{"id":2,"subscribe":{"channel":"ch","flag":1,"recover":true,"offset":3,"epoch":"ab"}}"#;
    let Request::Subscribe(subscribe) = request(line) else { panic!("not a subscribe") };
    let expected = SubscribeRequest {
        channel: "ch".into(),
        flag: 1,
        recover: true,
        offset: 3,
        epoch: "ab".into(),
        ..Default::default()
    };
    assert_eq!(*subscribe, expected);
    let line = r#"{"id":4,"history":{"channel":"chat","limit":-1,"since":{"offset":3,"epoch":"old"}}}"#;
    let expected =
        HistoryRequest { channel: "chat".into(), limit: -1, since: Some((3, "old".into())), reverse: false };
    assert_eq!(request(line), Request::History(expected));
    assert_eq!(decode("{}"), Ok(Command::default()));
    assert_eq!(decode(r#"{"id":3,"ping":{}}"#), Ok(Command { id: 3, request: Some(Request::Ping) }));
    assert_eq!(decode(r#"{"id":2,"foo":{}}"#), Ok(Command { id: 2, request: None }));
}

/// Goal: raw fields keep their bytes. Method: values of every kind, with inner whitespace; `null` and a missing key.
#[test]
fn json_raw_is_verbatim() {
    for value in
        ["{ \"a\" : [ 1 ] }", "[]", "{}", "-0.5e+3", "\"\\u00e9\\/é\"", "true", "null", "[[],{\"\":0}]"]
    {
        assert_eq!(rpc_data(&format!(r#"{{"rpc":{{"data": {value} ,"method":"m"}}}}"#)), value);
    }
    assert_eq!(rpc_data(r#"{"rpc":{}}"#), "");
}

/// Goal: `null` is an absent field. Method: it changes nothing, for every type of field.
#[test]
fn json_null_is_absent() {
    let line =
        r#"{"id":null,"connect":null,"publish":{"channel":null,"type":null,"removed":null},"rpc":null}"#;
    assert_eq!(decode(line), Ok(Command { id: 0, request: Some(Request::Publish(Default::default())) }));
    let line = r#"{"subscribe":{"tf":null,"offset":null},"sub_refresh":{"track":null,"untrack":null}}"#;
    assert_eq!(request(line), Request::Subscribe(Box::default()));
    assert_eq!(request(r#"{"history":{"since":null}}"#), Request::History(Default::default()));
    assert_eq!(
        request(r#"{"connect":{"subs":null,"headers":null,"flag":null}}"#),
        Request::Connect(Box::default())
    );
}

/// Goal: keys match in any case, the last of equal ones wins, unknown ones are skipped. Method: one line for each.
#[test]
fn json_keys() {
    assert_eq!(decode(r#"{"ID":5,"RPC":{"Method":"m"}}"#).unwrap().id, 5);
    assert_eq!(rpc_method(r#"{"Rpc":{"METHOD":"m"}}"#), "m");
    assert_eq!(rpc_method(r#"{"rpc":{"method":"a","method":"b"}}"#), "b");
    assert_eq!(rpc_method(r#"{"rpc":{"method":"a"},"rpc":{"method":"b"}}"#), "b");
    assert_eq!(rpc_method(r#"{"r\u0070c":{"m\u0065thod":"b"}}"#), "b");
    assert_eq!(rpc_method(r#"{"x":[{"rpc":1}],"rpc":{"y":"\"}","method":"b","z":null},"":-1.5e3}"#), "b");
    assert_eq!(rpc_method("\r\n\t {\r\"rpc\" : { \"method\"\t:\"b\" } } \r"), "b");
}

/// Goal: entries of a map are unique, the last of equal keys stands, in both encodings. Method: a repeated key.
#[test]
fn equal_keys_of_maps() {
    let line =
        r#"{"connect":{"headers":{"b":"1","a":"2","b":"3"},"subs":{"x":{"offset":1},"x":{"offset":2}}}}"#;
    let entry = |number: u8, value: &[u8]| [&[number, value.len() as u8][..], value].concat();
    let connect = [
        entry(0x32, b"\x0a\x01b\x12\x011"),
        entry(0x32, b"\x0a\x01a\x12\x012"),
        entry(0x32, b"\x0a\x01b\x12\x013"),
        entry(0x1a, b"\x0a\x01x\x12\x02\x38\x01"),
        entry(0x1a, b"\x0a\x01x\x12\x02\x38\x02"),
    ]
    .concat();
    let message = entry(0x22, &connect);
    for command in [decode(line), Encoding::Protobuf.decode_command(&message)] {
        let Some(Request::Connect(mut connect)) = command.unwrap().request else { panic!("not a connect") };
        connect.headers.sort();
        assert_eq!(connect.headers, [("a".into(), "2".into()), ("b".into(), Cow::from("3"))]);
        assert_eq!(connect.subs.len(), 1);
        assert_eq!(connect.subs[0].1.offset, 2);
    }
}

/// Goal: of several requests the first in the order of dispatch is kept, wherever it stands. Method: both orders, in
/// both encodings.
#[test]
fn precedence_of_requests() {
    let names = [
        ("connect", 4),
        ("subscribe", 5),
        ("unsubscribe", 6),
        ("publish", 7),
        ("presence", 8),
        ("presence_stats", 9),
        ("history", 10),
        ("rpc", 13),
        ("send", 12),
        ("refresh", 14),
        ("sub_refresh", 15),
        ("ping", 11u8),
    ];
    for pair in names.windows(2) {
        let [(first, first_number), (second, second_number)] = *pair else { panic!("pairs") };
        let alone = format!(r#"{{"{first}":{{}}}}"#);
        let expected = request(&alone);
        let forward = format!(r#"{{"{first}":{{}},"{second}":{{}}}}"#);
        let backward = format!(r#"{{"{second}":{{}},"{first}":{{}}}}"#);
        assert_eq!(request(&forward), expected);
        assert_eq!(request(&backward), expected);
        for numbers in [[first_number, second_number], [second_number, first_number]] {
            let message = [numbers[0] << 3 | 2, 0, numbers[1] << 3 | 2, 0];
            let command = Encoding::Protobuf.decode_command(&message).unwrap();
            assert_eq!(command.request, Some(expected.clone()));
        }
    }
}

/// Goal: only integers in range are numbers. Method: the limits of every type, and just beyond.
#[test]
fn json_integers() {
    let accepted = [
        r#"{"id":4294967295}"#,
        r#"{"id":0}"#,
        r#"{"subscribe":{"offset":18446744073709551615}}"#,
        r#"{"subscribe":{"flag":-9223372036854775808,"limit":-2147483648}}"#,
        r#"{"subscribe":{"flag":9223372036854775807,"limit":2147483647}}"#,
    ];
    for line in accepted {
        decode(line).unwrap_or_else(|error| panic!("{line}: {error}"));
    }
    let refused = [
        r#"{"id":4294967296}"#,
        r#"{"id":-1}"#,
        r#"{"id":1.5}"#,
        r#"{"id":1.0}"#,
        r#"{"id":1e3}"#,
        r#"{"id":"2"}"#,
        r#"{"id":true}"#,
        r#"{"id":01}"#,
        r#"{"id":-}"#,
        r#"{"id":+1}"#,
        r#"{"id":99999999999999999999999999999999999999999999}"#,
        r#"{"subscribe":{"offset":18446744073709551616}}"#,
        r#"{"subscribe":{"offset":-1}}"#,
        r#"{"subscribe":{"flag":9223372036854775808}}"#,
        r#"{"subscribe":{"flag":-9223372036854775809}}"#,
        r#"{"subscribe":{"limit":2147483648}}"#,
        r#"{"subscribe":{"limit":-2147483649}}"#,
    ];
    for line in refused {
        assert!(decode(line).is_err(), "{line}");
    }
}

/// Goal: what is not one JSON object of the right shape is refused. Method: one line for each way to be wrong.
#[test]
fn json_refused() {
    let refused = [
        "",
        " ",
        "[{}]",
        "1",
        "null",
        "\"\"",
        "{",
        "{}{}",
        "{} x",
        "{\"id\":1,}",
        "{,}",
        "{\"id\"}",
        "{\"id\":}",
        "{id:1}",
        "{'id':1}",
        "{\"id\":1 \"x\":2}",
        "\u{feff}{}",
        "{\"rpc\":[]}",
        "{\"rpc\":\"\"}",
        "{\"rpc\":{\"method\":1}}",
        "{\"rpc\":{\"data\":}}",
        "{\"rpc\":{\"data\":[1,]}}",
        "{\"rpc\":{\"data\":[1}}",
        "{\"rpc\":{\"data\":{]}}",
        "{\"rpc\":{\"data\":{\"a\" 1}}}",
        "{\"rpc\":{\"data\":nul}}",
        "{\"rpc\":{\"data\":01}}",
        "{\"rpc\":{\"data\":1.}}",
        "{\"rpc\":{\"data\":.5}}",
        "{\"rpc\":{\"data\":1e}}",
        "{\"rpc\":{\"data\":\"\\x\"}}",
        "{\"rpc\":{\"data\":\"\\u12g4\"}}",
        "{\"rpc\":{\"method\":\"\\u12\"}}",
        "{\"rpc\":{\"method\":\"\u{1}\"}}",
        "{\"rpc\":{\"method\":\"a\nb\"}}",
        "{\"rpc\":{\"method\":\"a}}",
        "{\"rpc\":{\"method\":\"a\\",
        "{\"unknown\":[1,}",
        "{\"subscribe\":{\"recover\":1}}",
        "{\"subscribe\":{\"recover\":tru}}",
        "{\"sub_refresh\":{\"untrack\":{}}}",
        "{\"connect\":{\"headers\":[]}}",
    ];
    for line in refused {
        assert!(decode(line).is_err(), "{line}");
    }
    assert!(Encoding::Json.decode_command(b"{\"rpc\":{\"method\":\"\xff\"}}").is_err());
    assert!(Encoding::Json.decode_command(b"{\"rpc\":{\"data\":\"\xc3\"}}").is_err());
}

/// Goal: escapes are resolved. Method: every kind, at every place within eight bytes, beside a plain prefix.
#[test]
fn json_string_escapes() {
    let cases = [
        (r#"\"\\\/\b\f\n\r\t"#, "\"\\/\u{8}\u{c}\n\r\t"),
        (r"\u00e9\u20AC\ud83d\ude00", "é€😀"),
        (r"\ud83d", "\u{fffd}"),
        (r"\ude00x", "\u{fffd}x"),
        (r"\ud83d\u0041", "\u{fffd}A"),
        (r"\ud83dA\ud83d\ud83d\ude00", "\u{fffd}A\u{fffd}😀"),
        (r"é\né", "é\né"),
    ];
    for (escaped, expected) in cases {
        for length in 0..17 {
            let plain = "p".repeat(length);
            assert_eq!(
                rpc_method(&format!(r#"{{"rpc":{{"method":"{plain}{escaped}{plain}"}}}}"#)),
                format!("{plain}{expected}{plain}")
            );
        }
    }
}

/// Goal: nesting is followed to the limit and refused beyond, without recursion into the input. Method: raw values,
/// skipped values and filters at the limit, one deeper, and very deep.
#[test]
fn json_depth() {
    let nested =
        |open: &str, close: &str, depth: usize| format!("{}1{}", open.repeat(depth), close.repeat(depth));
    for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
        for key in ["data", "unknown"] {
            let line = |depth| format!(r#"{{"rpc":{{"{key}":{}}}}}"#, nested(open, close, depth));
            assert!(decode(&line(DEPTH_MAX)).is_ok());
            assert!(decode(&line(DEPTH_MAX + 1)).is_err());
            assert!(decode(&line(100_000)).is_err());
        }
    }
    let filter = |depth: usize| {
        format!(r#"{{"subscribe":{{"tf":{}}}}}"#, nested("{\"nodes\":[", "]}", depth).replace('1', ""))
    };
    assert!(decode(&filter(32)).is_ok());
    assert!(decode(&filter(10_000)).is_err());
}

/// Goal: frames are lines, of which the last may be ended. Method: all ways to have blank lines.
#[test]
fn json_frames() {
    let line = |text: &str| Ok(text.as_bytes().to_vec());
    assert_eq!(split(Encoding::Json, b"{}"), [line("{}")]);
    assert_eq!(split(Encoding::Json, b"{}\n"), [line("{}")]);
    assert_eq!(split(Encoding::Json, b"{}\n{\"id\":1}\n"), [line("{}"), line("{\"id\":1}")]);
    assert_eq!(split(Encoding::Json, b"{}\n\n{}"), [line("{}"), Err(())]);
    assert_eq!(split(Encoding::Json, b"{}\n\n"), [line("{}"), Err(())]);
    assert_eq!(split(Encoding::Json, b"\n{}"), [Err(())]);
    assert_eq!(split(Encoding::Json, b"\n"), [Err(())]);
    assert_eq!(Encoding::Json.split_frame(b"").collect::<Vec<_>>(), [Err(DecodeError::NoCommand)]);
}

/// Goal: no length is believed that the frame does not hold. Method: frames cut short and lengths beyond any memory.
#[test]
fn protobuf_frames() {
    assert_eq!(split(Encoding::Protobuf, &[0]), [Ok(vec![])]);
    assert_eq!(split(Encoding::Protobuf, &[0, 2, 8, 1, 0]), [Ok(vec![]), Ok(vec![8, 1]), Ok(vec![])]);
    assert_eq!(split(Encoding::Protobuf, &[2, 8, 1, 2, 8]), [Ok(vec![8, 1]), Err(())]);
    assert_eq!(split(Encoding::Protobuf, &[0x80]), [Err(())]);
    assert_eq!(Encoding::Protobuf.split_frame(b"").collect::<Vec<_>>(), [Err(DecodeError::NoCommand)]);
    for length in [2, 1 << 32, i64::MAX as u64, u64::MAX] {
        let mut frame = Vec::new();
        varint(&mut frame, length);
        frame.push(0);
        assert_eq!(split(Encoding::Protobuf, &frame), [Err(())]);
    }
    assert_eq!(split(Encoding::Protobuf, &[0xff; 11]), [Err(())]);
    assert_eq!(split(Encoding::Protobuf, b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02"), [Err(())]);
}

/// Goal: unknown fields are skipped, known ones must have their type. Method: fields of every wire type.
#[test]
fn protobuf_fields() {
    let command =
        |bytes: &[u8]| Encoding::Protobuf.decode_command(bytes).map(|command| command.id).map_err(|_| ());
    let unknown: &[&[u8]] =
        &[b"\x98\x06\x96\x01", b"\x99\x0612345678", b"\x9a\x06\x03abc", b"\x9d\x061234", b"\x9a\x06\x00"];
    for field in unknown {
        assert_eq!(command(&[field, &b"\x08\x05"[..]].concat()), Ok(5));
        assert_eq!(command(&[&b"\x08\x05"[..], field].concat()), Ok(5));
        assert_eq!(command(&[&b"\x08\x05"[..], &field[..field.len() - 1]].concat()), Err(()), "{field:?}");
    }
    assert_eq!(command(b"\x08\x05\x08\x06"), Ok(6), "the last scalar wins");
    assert_eq!(command(b"\x08\x85\x80\x80\x80\x00"), Ok(5), "longer than necessary");
    let refused: &[&[u8]] = &[
        b"\x0a\x01a",
        b"\x0d1234",
        b"\x09" as &[u8],
        b"\x20\x01",
        b"\x08",
        b"\x08\x80",
        b"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x7f",
        b"\x00\x01",
        b"\x0b\x0c",
        b"\x0e",
        b"\x22\x05\x0a",
        b"\x22\x02\x0a\x05token",
        b"\x22\x03\x0a\x01\xff",
        b"\x22\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
    ];
    for bytes in refused {
        assert_eq!(command(bytes), Err(()), "{bytes:02x?}");
    }
}

/// Goal: negative numbers come as ten bytes. Method: a history request with limit -1.
#[test]
fn protobuf_negative_numbers() {
    let history = b"\x38\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01";
    let message = [&[0x52, history.len() as u8][..], history].concat();
    let command = Encoding::Protobuf.decode_command(&message).unwrap();
    assert_eq!(command.request, Some(Request::History(HistoryRequest { limit: -1, ..Default::default() })));
}

/// Goal: filters nest to a limit. Method: filters at a sensible depth and very deep ones, which must not overflow.
#[test]
fn protobuf_depth() {
    let filter = |depth: usize| {
        let mut message = Vec::new();
        for number in std::iter::repeat_n(6, depth).chain([13, 5]) {
            let content = with_length(&message);
            message = [&[number << 3 | 2][..], &content].concat();
        }
        message
    };
    assert!(Encoding::Protobuf.decode_command(&filter(32)).is_ok());
    assert!(Encoding::Protobuf.decode_command(&filter(DEPTH_MAX + 1)).is_err());
    assert!(Encoding::Protobuf.decode_command(&filter(2_000)).is_err());
}

/// Goal: the limit is on the command alone, exactly. Method: commands at the limit and one above, whole and in pieces.
#[test]
fn stream_limit() {
    let command = format!(r#"{{"rpc":{{"method":"{}"}}}}"#, "m".repeat(80));
    let line = format!("{command}\n").into_bytes();
    let message = with_length(command.as_bytes());
    for (encoding, bytes) in [(Encoding::Json, &line), (Encoding::Protobuf, &message)] {
        for piece in [1, 7, bytes.len()] {
            let read = |limit| {
                let mut decoder = StreamDecoder::new(encoding, limit);
                for chunk in bytes.chunks(piece) {
                    decoder.push(Bytes::copy_from_slice(chunk));
                    if let Some(command) = decoder.next_command()? {
                        return Ok(Some(command));
                    }
                }
                Ok::<_, DecodeError>(None)
            };
            assert_eq!(read(command.len()).unwrap().unwrap(), command.as_bytes());
            assert!(read(command.len() - 1).is_err());
        }
    }
}

/// Goal: a hostile length ends the stream at once. Method: a prefix of 4 GiB or more, with nothing behind it.
#[test]
fn stream_declared_length() {
    for length in [65_537, 1 << 32, u64::MAX] {
        let mut prefix = Vec::new();
        varint(&mut prefix, length);
        let mut decoder = StreamDecoder::new(Encoding::Protobuf, 65_536);
        decoder.push(prefix.into());
        assert!(decoder.next_command().is_err());
    }
    let mut decoder = StreamDecoder::new(Encoding::Protobuf, 65_536);
    decoder.push(Bytes::from_static(&[0xff; 10]));
    assert!(decoder.next_command().is_err());
}

/// Goal: a blank line ends a JSON stream, an empty message is a pong on Protobuf. Method: one of each.
#[test]
fn stream_without_content() {
    for text in ["\n", "{}\n\n"] {
        let mut decoder = StreamDecoder::new(Encoding::Json, 100);
        decoder.push(Bytes::from_static(text.as_bytes()));
        if text.len() > 1 {
            assert_eq!(decoder.next_command().unwrap().unwrap(), "{}");
        }
        assert!(decoder.next_command().is_err());
    }
    let mut decoder = StreamDecoder::new(Encoding::Protobuf, 100);
    decoder.push(Bytes::from_static(&[0, 0]));
    assert_eq!(decoder.next_command(), Ok(Some(Bytes::new())));
    assert_eq!(decoder.next_command(), Ok(Some(Bytes::new())));
    assert_eq!(decoder.next_command(), Ok(None));
}

/// Goal: whole commands are not copied. Method: what comes out points into what was pushed.
#[test]
fn stream_does_not_copy() {
    let commands = [r#"{"id":1}"#, r#"{"id":2}"#];
    let lines = Bytes::from(format!("{}\n{}\n", commands[0], commands[1]));
    let messages = Bytes::from(commands.map(|command| with_length(command.as_bytes())).concat());
    for (encoding, chunk) in [(Encoding::Json, lines), (Encoding::Protobuf, messages)] {
        let mut decoder = StreamDecoder::new(encoding, 100);
        decoder.push(chunk.clone());
        for command in commands {
            let taken = decoder.next_command().unwrap().unwrap();
            assert_eq!(taken, command);
            assert!(chunk.as_ptr_range().contains(&taken.as_ptr()));
        }
    }
}

/// A connect request without a command around it, as unidirectional clients send it: examples, and what is refused.
/// Spec: client protocol, "Unidirectional transports"
#[test]
fn connect_requests_alone() {
    use gyre_protocol::codec::json::decode_connect_request;
    assert_eq!(decode_connect_request(b"null"), Ok(ConnectRequest::default()));
    assert_eq!(decode_connect_request(b" {} "), Ok(ConnectRequest::default()));
    let request =
        decode_connect_request(br#"{"token":"t","subs":{"c":{"recover":true,"offset":7}}}"#).unwrap();
    assert_eq!(request.token, "t");
    assert_eq!((&*request.subs[0].0, request.subs[0].1.recover, request.subs[0].1.offset), ("c", true, 7));
    for refused in ["", "{", "[]", "1", "{} {}", r#"{"token":1}"#] {
        assert!(decode_connect_request(refused.as_bytes()).is_err(), "{refused}");
    }
}

/// Emulation requests in both encodings: JSON carries the commands in a string, and anything else there is none.
/// Spec: client protocol, "SSE and HTTP streaming", `/emulation`
#[test]
fn emulation_requests() {
    let decode = |text: &'static str| Encoding::Json.decode_emulation_request(text.as_bytes());
    let request = decode(r#"{"session":"s","node":"n","data":"{\"id\":2}\n{\"id\":3}"}"#).unwrap();
    assert_eq!((&*request.session, &*request.node), ("s", "n"));
    assert_eq!(request.data.as_deref(), Some(&b"{\"id\":2}\n{\"id\":3}"[..]));
    assert_eq!(decode(r#"{"data":""}"#).unwrap().data.as_deref(), Some(&b""[..]));
    for no_string in [r#"{}"#, r#"{"data":null}"#, r#"{"data":{"id":1}}"#, r#"{"data":["x"]}"#] {
        assert_eq!(decode(no_string).unwrap().data, None, "{no_string}");
    }
    for refused in ["", "{", "null", "[]", r#"{"node":1}"#, r#"{} x"#] {
        assert!(decode(refused).is_err(), "{refused}");
    }
    let bytes = b"\x0a\x01n\x12\x01s\x1a\x03\x02\x08\x01";
    let request = Encoding::Protobuf.decode_emulation_request(bytes).unwrap();
    assert_eq!((&*request.session, &*request.node), ("s", "n"));
    assert_eq!(request.data.as_deref(), Some(&b"\x02\x08\x01"[..]));
    assert!(Encoding::Protobuf.decode_emulation_request(&bytes[..9]).is_err());
}
