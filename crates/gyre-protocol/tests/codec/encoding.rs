//! What replies and pushes look like. Each is compared with its JSON text and, through an independent tree of fields,
//! with its Protobuf bytes.
//!
//! Spec: centrifugal/protocol client.proto; `generate.sh` names the fields that JSON always shows.

use std::sync::Arc;

use gyre_protocol::{
    client::*,
    codec::{EncodeError, EncodeOptions, Encoding},
    codes::*,
};

use super::tree::{self, Fields, Node, text};

fn json_reply(reply: &Reply, options: EncodeOptions) -> String {
    let mut out = Vec::new();
    Encoding::Json.encode_reply(reply, &options, &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

fn json_push(push: &Push, options: EncodeOptions) -> String {
    let mut out = Vec::new();
    Encoding::Json.encode_push(push, &options, &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

#[track_caller]
fn check_reply(body: ReplyBody, json: &str, fields: Fields) {
    let reply = Reply { id: 7, body };
    assert_eq!(json_reply(&reply, EncodeOptions::default()), json);
    let mut out = Vec::new();
    Encoding::Protobuf.encode_reply(&reply, &EncodeOptions::default(), &mut out).unwrap();
    let mut expected = vec![(1, "id", Node::Uint(7))];
    expected.extend(fields);
    assert_eq!(out, tree::protobuf(&expected), "{json}");
}

/// Checks both directions; `json` and `fields` are the bare push.
#[track_caller]
fn check_push(channel: &str, body: PushBody, json: &str, fields: Fields) {
    let push = Push { channel: channel.into(), id: 0, body };
    let bare = EncodeOptions { unidirectional: true, ..Default::default() };
    assert_eq!(json_push(&push, bare), json);
    assert_eq!(json_push(&push, EncodeOptions::default()), format!(r#"{{"push":{json}}}"#));
    let mut out = Vec::new();
    Encoding::Protobuf.encode_push(&push, &bare, &mut out).unwrap();
    assert_eq!(out, tree::protobuf(&fields), "{json}");
    out.clear();
    Encoding::Protobuf.encode_push(&push, &EncodeOptions::default(), &mut out).unwrap();
    assert_eq!(out, tree::protobuf(&vec![(4, "push", Node::Message(fields))]), "{json}");
}

fn info(user: &str, client: &str) -> Arc<ClientInfo> {
    Arc::new(ClientInfo { user: user.into(), client: client.into(), ..Default::default() })
}

fn raw(json: &str) -> Node {
    Node::Raw(json.as_bytes().to_vec())
}

fn data_publication(data: &'static str, offset: u64) -> Arc<Publication> {
    Arc::new(Publication { data: Payload::new(data), offset, ..Default::default() })
}

fn message(number: u32, name: &'static str, fields: Fields) -> Fields {
    vec![(number, name, Node::Message(fields))]
}

fn expiring(ttl: u32) -> Expiry {
    Expiry { expires: true, ttl }
}

fn connect_result() -> ConnectResult {
    let sub = SubscribeResult { epoch: Epoch::new("e"), offset: 2, ..Default::default() };
    ConnectResult {
        client: "c".into(),
        version: "v".into(),
        expiry: expiring(60),
        data: Payload::new("[1]"),
        subs: vec![("s".into(), sub)],
        ping: 25,
        pong: true,
        session: "S".into(),
        node: "N".into(),
        time: 300,
    }
}

fn connect_subs() -> Node {
    Node::MessageMap(vec![("s".into(), vec![(6, "epoch", text("e")), (9, "offset", Node::Uint(2))])])
}

/// Goal: results without fields are still present. Method: compare with the text and bytes written down.
#[test]
fn empty_results() {
    check_reply(ReplyBody::Unsubscribe, r#"{"id":7,"unsubscribe":{}}"#, message(7, "unsubscribe", vec![]));
    check_reply(ReplyBody::Publish, r#"{"id":7,"publish":{}}"#, message(8, "publish", vec![]));
    check_reply(
        ReplyBody::Subscribe(Box::default()),
        r#"{"id":7,"subscribe":{}}"#,
        message(6, "subscribe", vec![]),
    );
    check_reply(ReplyBody::Rpc(Payload::default()), r#"{"id":7,"rpc":{}}"#, message(13, "rpc", vec![]));
    check_reply(
        ReplyBody::Refresh(Expiry::default()),
        r#"{"id":7,"refresh":{}}"#,
        message(14, "refresh", vec![]),
    );
    check_reply(
        ReplyBody::SubRefresh(SubRefreshResult::default()),
        r#"{"id":7,"sub_refresh":{}}"#,
        message(15, "sub_refresh", vec![]),
    );
}

/// Goal: every field of a connect result stands under its name and number. Method: a result with all of them.
#[test]
fn connect_reply() {
    check_reply(
        ReplyBody::Connect(Box::new(connect_result())),
        concat!(
            r#"{"id":7,"connect":{"client":"c","version":"v","expires":true,"ttl":60,"data":[1],"#,
            r#""subs":{"s":{"epoch":"e","offset":2}},"ping":25,"pong":true,"session":"S","node":"N","time":300}}"#
        ),
        message(
            5,
            "connect",
            vec![
                (1, "client", text("c")),
                (2, "version", text("v")),
                (3, "expires", Node::Bool(true)),
                (4, "ttl", Node::Uint(60)),
                (5, "data", raw("[1]")),
                (6, "subs", connect_subs()),
                (7, "ping", Node::Uint(25)),
                (8, "pong", Node::Bool(true)),
                (9, "session", text("S")),
                (10, "node", text("N")),
                (11, "time", Node::Int(300)),
            ],
        ),
    );
}

/// Goal: the connect push has numbers of its own. Method: the same result as a push.
///
/// Spec: client.proto, Connect: data 3, subs 4, expires 5, ttl 6.
#[test]
fn connect_push() {
    check_push(
        "",
        PushBody::Connect(Box::new(connect_result())),
        concat!(
            r#"{"connect":{"client":"c","version":"v","data":[1],"subs":{"s":{"epoch":"e","offset":2}},"#,
            r#""expires":true,"ttl":60,"ping":25,"pong":true,"session":"S","node":"N","time":300}}"#
        ),
        message(
            10,
            "connect",
            vec![
                (1, "client", text("c")),
                (2, "version", text("v")),
                (3, "data", raw("[1]")),
                (4, "subs", connect_subs()),
                (5, "expires", Node::Bool(true)),
                (6, "ttl", Node::Uint(60)),
                (7, "ping", Node::Uint(25)),
                (8, "pong", Node::Bool(true)),
                (9, "session", text("S")),
                (10, "node", text("N")),
                (11, "time", Node::Int(300)),
            ],
        ),
    );
}

/// Goal: every field of a subscribe result stands under its name and number. Method: a result with all of them.
#[test]
fn subscribe_reply() {
    let result = SubscribeResult {
        expiry: expiring(9),
        recoverable: true,
        epoch: Epoch::new("e"),
        publications: vec![data_publication("1", 3), data_publication("2", 4)],
        recovered: true,
        offset: 4,
        positioned: true,
        data: Payload::new("{}"),
        was_recovering: true,
        delta: false,
        id: 11,
        kind: 1,
        phase: 2,
        cursor: "k".into(),
        state: vec![data_publication("5", 2)],
    };
    let entry = |data, offset| vec![(4, "data", raw(data)), (6, "offset", Node::Uint(offset))];
    check_reply(
        ReplyBody::Subscribe(Box::new(result)),
        concat!(
            r#"{"id":7,"subscribe":{"expires":true,"ttl":9,"recoverable":true,"epoch":"e","publications":"#,
            r#"[{"data":1,"offset":3},{"data":2,"offset":4}],"recovered":true,"offset":4,"positioned":true,"#,
            r#""data":{},"was_recovering":true,"id":11,"type":1,"phase":2,"cursor":"k","#,
            r#""state":[{"data":5,"offset":2}]}}"#
        ),
        message(
            6,
            "subscribe",
            vec![
                (1, "expires", Node::Bool(true)),
                (2, "ttl", Node::Uint(9)),
                (3, "recoverable", Node::Bool(true)),
                (6, "epoch", text("e")),
                (7, "publications", Node::Messages(vec![entry("1", 3), entry("2", 4)])),
                (8, "recovered", Node::Bool(true)),
                (9, "offset", Node::Uint(4)),
                (10, "positioned", Node::Bool(true)),
                (11, "data", raw("{}")),
                (12, "was_recovering", Node::Bool(true)),
                (14, "id", Node::Int(11)),
                (15, "type", Node::Int(1)),
                (16, "phase", Node::Int(2)),
                (17, "cursor", text("k")),
                (18, "state", Node::Messages(vec![entry("5", 2)])),
            ],
        ),
    );
}

/// Goal: a ttl is told only to those who must refresh. Method: a ttl without `expires` leaves no trace.
#[test]
fn ttl_needs_expires() {
    let expiry = Expiry { expires: false, ttl: 5 };
    check_reply(ReplyBody::Refresh(expiry), r#"{"id":7,"refresh":{}}"#, message(14, "refresh", vec![]));
    check_reply(
        ReplyBody::Refresh(expiring(5)),
        r#"{"id":7,"refresh":{"expires":true,"ttl":5}}"#,
        message(14, "refresh", vec![(3, "expires", Node::Bool(true)), (4, "ttl", Node::Uint(5))]),
    );
    check_push(
        "",
        PushBody::Refresh(expiring(5)),
        r#"{"refresh":{"expires":true,"ttl":5}}"#,
        message(12, "refresh", vec![(1, "expires", Node::Bool(true)), (2, "ttl", Node::Uint(5))]),
    );
}

/// Goal: errors carry code, message and, if set, the retry advice. Method: one of either kind.
#[test]
fn error_reply() {
    check_reply(
        ReplyBody::Error(ClientError::PERMISSION_DENIED),
        r#"{"id":7,"error":{"code":103,"message":"permission denied"}}"#,
        message(2, "error", vec![(1, "code", Node::Uint(103)), (2, "message", text("permission denied"))]),
    );
    check_reply(
        ReplyBody::Error(ClientError::INTERNAL),
        r#"{"id":7,"error":{"code":100,"message":"internal server error","temporary":true}}"#,
        message(
            2,
            "error",
            vec![
                (1, "code", Node::Uint(100)),
                (2, "message", text("internal server error")),
                (3, "temporary", Node::Bool(true)),
            ],
        ),
    );
}

/// Goal: presence is nested twice and always there, as are user and client. Method: none and one client.
#[test]
fn presence_reply() {
    check_reply(
        ReplyBody::Presence(vec![]),
        r#"{"id":7,"presence":{"presence":{}}}"#,
        message(9, "presence", vec![]),
    );
    let full = ClientInfo {
        user: "42".into(),
        client: "c".into(),
        conn_info: Payload::new(r#"{"n":"A"}"#),
        chan_info: Payload::new("2"),
    };
    let fields = vec![
        (1, "user", text("42")),
        (2, "client", text("c")),
        (3, "conn_info", raw(r#"{"n":"A"}"#)),
        (4, "chan_info", raw("2")),
    ];
    check_reply(
        ReplyBody::Presence(vec![Arc::new(full)]),
        r#"{"id":7,"presence":{"presence":{"c":{"user":"42","client":"c","conn_info":{"n":"A"},"chan_info":2}}}}"#,
        message(9, "presence", vec![(1, "presence", Node::MessageMap(vec![("c".into(), fields)]))]),
    );
    check_push(
        "x",
        PushBody::Join(info("", "")),
        r#"{"channel":"x","join":{"info":{"user":"","client":""}}}"#,
        vec![(2, "channel", text("x")), (5, "join", Node::Message(vec![(1, "info", Node::Message(vec![]))]))],
    );
}

/// Goal: zero counts and empty history are shown on JSON. Method: empty and filled results.
#[test]
fn stats_and_history_replies() {
    check_reply(
        ReplyBody::PresenceStats(PresenceStats::default()),
        r#"{"id":7,"presence_stats":{"num_clients":0,"num_users":0}}"#,
        message(10, "presence_stats", vec![]),
    );
    check_reply(
        ReplyBody::PresenceStats(PresenceStats { num_clients: 3, num_users: 2 }),
        r#"{"id":7,"presence_stats":{"num_clients":3,"num_users":2}}"#,
        message(
            10,
            "presence_stats",
            vec![(1, "num_clients", Node::Uint(3)), (2, "num_users", Node::Uint(2))],
        ),
    );
    check_reply(
        ReplyBody::History(HistoryResult::default()),
        r#"{"id":7,"history":{"publications":[],"epoch":"","offset":0}}"#,
        message(11, "history", vec![]),
    );
    let history =
        HistoryResult { publications: vec![data_publication("1", 5)], epoch: Epoch::new("ab"), offset: 5 };
    check_reply(
        ReplyBody::History(history),
        r#"{"id":7,"history":{"publications":[{"data":1,"offset":5}],"epoch":"ab","offset":5}}"#,
        message(
            11,
            "history",
            vec![
                (
                    1,
                    "publications",
                    Node::Messages(vec![vec![(4, "data", raw("1")), (6, "offset", Node::Uint(5))]]),
                ),
                (2, "epoch", text("ab")),
                (3, "offset", Node::Uint(5)),
            ],
        ),
    );
}

fn full_publication() -> Publication {
    Publication {
        data: Payload::new(r#"{"a":1}"#),
        info: Some(info("u", "c")),
        offset: 1,
        tags: [("t".into(), "v".into())].into(),
        delta: false,
        key: "k".into(),
        removed: true,
        score: -3,
        epoch: Epoch::new("e"),
        version: 8,
    }
}

/// Goal: every field of a publication stands under its name and number; the epoch rides on offset 1 only.
/// Method: a publication with all fields, at offset 1 and at offset 300.
#[test]
fn publication_push() {
    for (offset, epoch) in [(1, r#","epoch":"e""#), (300, "")] {
        let publication = Publication { offset, ..full_publication() };
        let mut fields = vec![
            (4, "data", raw(r#"{"a":1}"#)),
            (5, "info", Node::Message(vec![(1, "user", text("u")), (2, "client", text("c"))])),
            (6, "offset", Node::Uint(offset)),
            (7, "tags", Node::TextMap(vec![("t".into(), "v".into())])),
            (11, "key", text("k")),
            (12, "removed", Node::Bool(true)),
            (13, "score", Node::Score(-3)),
        ];
        if offset == 1 {
            fields.push((14, "epoch", text("e")));
        }
        fields.push((16, "version", Node::Uint(8)));
        check_push(
            "x",
            PushBody::Publication(Arc::new(publication)),
            &[
                r#"{"channel":"x","pub":{"data":{"a":1},"info":{"user":"u","client":"c"},"offset":"#,
                &offset.to_string(),
                r#","tags":{"t":"v"},"key":"k","removed":true,"score":-3"#,
                epoch,
                r#","version":8}}"#,
            ]
            .concat(),
            vec![(2, "channel", text("x")), (4, "pub", Node::Message(fields))],
        );
    }
}

/// Goal: the other pushes stand under their names and numbers. Method: one of each.
#[test]
fn other_pushes() {
    let channel = (2, "channel", text("x"));
    let client = Node::Message(vec![(1, "user", text("u")), (2, "client", text("c"))]);
    check_push(
        "x",
        PushBody::Leave(info("u", "c")),
        r#"{"channel":"x","leave":{"info":{"user":"u","client":"c"}}}"#,
        vec![channel.clone(), (6, "leave", Node::Message(vec![(1, "info", client)]))],
    );
    check_push(
        "x",
        PushBody::Unsubscribe(Unsubscribe::INSUFFICIENT_STATE),
        r#"{"channel":"x","unsubscribe":{"code":2500,"reason":"insufficient state"}}"#,
        vec![
            channel.clone(),
            (
                7,
                "unsubscribe",
                Node::Message(vec![(2, "code", Node::Uint(2500)), (3, "reason", text("insufficient state"))]),
            ),
        ],
    );
    check_push(
        "",
        PushBody::Message(Payload::new("[]")),
        r#"{"message":{"data":[]}}"#,
        message(8, "message", vec![(1, "data", raw("[]"))]),
    );
    let subscribe = SubscribePush {
        recoverable: true,
        epoch: Epoch::new("e"),
        offset: 7,
        positioned: true,
        data: Payload::new("1"),
    };
    check_push(
        "x",
        PushBody::Subscribe(subscribe),
        r#"{"channel":"x","subscribe":{"recoverable":true,"epoch":"e","offset":7,"positioned":true,"data":1}}"#,
        vec![
            channel.clone(),
            (
                9,
                "subscribe",
                Node::Message(vec![
                    (1, "recoverable", Node::Bool(true)),
                    (4, "epoch", text("e")),
                    (5, "offset", Node::Uint(7)),
                    (6, "positioned", Node::Bool(true)),
                    (7, "data", raw("1")),
                ]),
            ),
        ],
    );
    check_push(
        "x",
        PushBody::Subscribe(SubscribePush::default()),
        r#"{"channel":"x","subscribe":{}}"#,
        vec![channel, (9, "subscribe", Node::Message(vec![]))],
    );
    check_push(
        "",
        PushBody::Disconnect(Disconnect::EXPIRED),
        r#"{"disconnect":{"code":3005,"reason":"connection expired"}}"#,
        message(
            11,
            "disconnect",
            vec![(1, "code", Node::Uint(3005)), (2, "reason", text("connection expired"))],
        ),
    );
}

/// Goal: a publication outside history has no epoch. Method: offset 0 with an epoch known.
#[test]
fn publication_without_offset() {
    let publication = Publication { data: Payload::new("1"), epoch: Epoch::new("e"), ..Default::default() };
    check_push(
        "x",
        PushBody::Publication(Arc::new(publication)),
        r#"{"channel":"x","pub":{"data":1}}"#,
        vec![(2, "channel", text("x")), (4, "pub", Node::Message(vec![(4, "data", raw("1"))]))],
    );
}

/// Goal: a numeric channel id replaces the name. Method: a push with both.
#[test]
fn channel_compaction() {
    let body = PushBody::Publication(data_publication("1", 0));
    let push = Push { channel: "x".into(), id: 9, body };
    assert_eq!(json_push(&push, EncodeOptions::default()), r#"{"push":{"id":9,"pub":{"data":1}}}"#);
    let mut out = Vec::new();
    Encoding::Protobuf
        .encode_push(&push, &EncodeOptions { unidirectional: true, ..Default::default() }, &mut out)
        .unwrap();
    let publication = Node::Message(vec![(4, "data", raw("1"))]);
    assert_eq!(out, tree::protobuf(&vec![(1, "id", Node::Int(9)), (4, "pub", publication)]));
}

/// Goal: on JSON, delta form is text without epoch; on Protobuf nothing changes. Method: full data, a patch, a
/// removal, a key without data and a publication with offset 1, as a push and within a subscribe result.
#[test]
fn delta_form() {
    let delta = EncodeOptions { delta: true, ..Default::default() };
    let publications = [
        (
            Publication { data: Payload::new(r#"{"a":"b"}"#), offset: 7, ..Default::default() },
            r#"{"data":"{\"a\":\"b\"}","offset":7}"#,
        ),
        (
            Publication {
                data: Payload::new("f\nT@0,1:2C@U,1MnEtI;"),
                offset: 8,
                delta: true,
                ..Default::default()
            },
            r#"{"data":"f\nT@0,1:2C@U,1MnEtI;","offset":8,"delta":true}"#,
        ),
        (
            Publication { key: "k".into(), removed: true, offset: 9, ..Default::default() },
            r#"{"data":"null","offset":9,"key":"k","removed":true}"#,
        ),
        (
            Publication { key: "k".into(), offset: 9, ..Default::default() },
            r#"{"data":"null","offset":9,"key":"k"}"#,
        ),
        (
            Publication { data: Payload::new("1"), offset: 1, epoch: Epoch::new("e"), ..Default::default() },
            r#"{"data":"1","offset":1}"#,
        ),
    ];
    for (publication, json) in publications {
        let publication = Arc::new(publication);
        let body = PushBody::Publication(publication.clone());
        let push = Push { channel: "t".into(), id: 0, body };
        assert_eq!(json_push(&push, delta), format!(r#"{{"push":{{"channel":"t","pub":{json}}}}}"#));

        let (mut plain_bytes, mut delta_bytes) = (Vec::new(), Vec::new());
        Encoding::Protobuf.encode_push(&push, &EncodeOptions::default(), &mut plain_bytes).unwrap();
        Encoding::Protobuf.encode_push(&push, &delta, &mut delta_bytes).unwrap();
        assert_eq!(plain_bytes, delta_bytes);

        let result = SubscribeResult { delta: true, publications: vec![publication], ..Default::default() };
        let reply = Reply { id: 1, body: ReplyBody::Subscribe(Box::new(result)) };
        assert_eq!(
            json_reply(&reply, EncodeOptions::default()),
            format!(r#"{{"id":1,"subscribe":{{"publications":[{json}],"delta":true}}}}"#)
        );
    }
}

/// Goal: strings are escaped so that they are safe in a line and in a script. Method: one string with every kind.
#[test]
fn string_escapes() {
    let reason = "\"\\/\u{0}\u{8}\t\n\u{c}\r\u{1f}\u{7f}<>&\u{2027}\u{2028}\u{2029}é€😀";
    let body = PushBody::Disconnect(Disconnect { code: 4000, reason: reason.into() });
    let push = Push { channel: "".into(), id: 0, body };
    let plain = json_push(&push, EncodeOptions::default());
    for escape in ["\\\"", "\\\\", "\\u0000", "\\t", "\\n", "\\r", "\\u001f", "\\u003c\\u003e\\u0026"] {
        assert!(plain.contains(escape), "{escape} in {plain}");
    }
    assert!(plain.contains("\u{2027}\\u2028\\u2029é€😀"), "{plain}");
    let ascii = json_push(&push, EncodeOptions { ascii: true, ..Default::default() });
    assert!(ascii.is_ascii());
    assert!(ascii.contains("\\u2027\\u2028\\u2029\\u00e9\\u20ac\\ud83d\\ude00"), "{ascii}");
    for text in [plain, ascii] {
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["push"]["disconnect"]["reason"], reason);
    }
}

/// Goal: raw payloads are copied but for line feeds. Method: a payload over several lines and one with text that is
/// escaped in strings but not in payloads.
#[test]
fn raw_payloads() {
    let reply = |data: &'static str| Reply { id: 1, body: ReplyBody::Rpc(Payload::new(data)) };
    let spread = reply("{\n \"a\" :\n[1,\n2]}\n");
    assert_eq!(json_reply(&spread, EncodeOptions::default()), r#"{"id":1,"rpc":{"data":{ "a" :[1,2]}}}"#);
    let text = reply("\"<é\u{2028}>\\n\"");
    assert_eq!(
        json_reply(&text, EncodeOptions::default()),
        "{\"id\":1,\"rpc\":{\"data\":\"<é\u{2028}>\\n\"}}"
    );
    let ascii = EncodeOptions { ascii: true, ..Default::default() };
    assert_eq!(json_reply(&text, ascii), "{\"id\":1,\"rpc\":{\"data\":\"<\\u00e9\\u2028>\\n\"}}");
    assert_eq!(json_reply(&reply("[\n\"😀\"]"), ascii), r#"{"id":1,"rpc":{"data":["\ud83d\ude00"]}}"#);
}

/// Goal: what is not JSON never reaches a JSON connection. Method: a binary payload in each place that has one, plain,
/// in ASCII and in delta form; Protobuf takes it.
#[test]
fn binary_payloads() {
    for data in [&b"\xff\xfe"[..], b"not json", b"{"] {
        let payload = Payload::new(data);
        let info = Arc::new(ClientInfo { conn_info: payload.clone(), ..Default::default() });
        let publication = Arc::new(Publication { data: payload.clone(), ..Default::default() });
        let bodies = [
            PushBody::Publication(publication),
            PushBody::Join(info),
            PushBody::Message(payload.clone()),
            PushBody::Subscribe(SubscribePush { data: payload.clone(), ..Default::default() }),
        ];
        for body in bodies {
            let push = Push { channel: "x".into(), id: 0, body };
            for (ascii, delta) in [(false, false), (true, false), (false, true)] {
                let options = EncodeOptions { ascii, delta, ..Default::default() };
                assert_eq!(
                    Encoding::Json.encode_push(&push, &options, &mut Vec::new()),
                    Err(EncodeError::NotJson)
                );
            }
            let mut out = Vec::new();
            Encoding::Protobuf.encode_push(&push, &EncodeOptions::default(), &mut out).unwrap();
            assert!(out.windows(data.len()).any(|window| window == data));
        }
    }
}

/// Goal: lengths of two and three bytes are written right. Method: payloads around the sizes where lengths grow,
/// nested in messages that grow with them.
#[test]
fn long_protobuf_lengths() {
    for size in [110, 120, 125, 126, 127, 128, 129, 16_370, 16_383, 16_384, 16_385, 70_000] {
        let data = vec![b'1'; size];
        let publication = Publication { data: Payload::new(data.clone()), offset: 5, ..Default::default() };
        let body = PushBody::Publication(Arc::new(publication));
        let mut out = b"before".to_vec();
        Encoding::Protobuf
            .encode_push(&Push { channel: "x".into(), id: 0, body }, &EncodeOptions::default(), &mut out)
            .unwrap();
        let publication = Node::Message(vec![(4, "data", Node::Raw(data)), (6, "offset", Node::Uint(5))]);
        let push = Node::Message(vec![(2, "channel", text("x")), (4, "pub", publication)]);
        let expected = [&b"before"[..], &tree::protobuf(&vec![(4, "push", push)])].concat();
        assert!(out == expected, "size {size}");
    }
}
