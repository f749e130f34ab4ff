//! The server API in Protobuf.

use std::sync::Arc;

use gyre_protocol::{
    ClientInfo, Payload, PresenceStats, Publication, RawPayload,
    api::{
        Connection, ConnectionChannel, Connections, Error, History, InvalidateUserTokens, Map, Method, Node,
        Outcome, Overrides, Publish, Request, ResultBody, Subscribe, Target,
        protobuf::{decode_batch, decode_request, encode_error, encode_reply, encode_response},
    },
    codec::protobuf::wire::Message,
};
use proptest::{collection::vec, prelude::*};

/// Every field of every request, by hand from the numbers of the schema, next to unknown ones.
///
/// Spec: centrifugo `internal/apiproto/api.proto`
#[test]
fn requests_are_decoded_by_their_numbers() {
    let publish = |channel: &'static str, channels: &[&'static str]| Publish {
        channel: channel.into(),
        channels: channels.iter().map(|&name| name.into()).collect(),
        data: RawPayload::Bytes(b"\xff"),
        b64data: "eA==".into(),
        skip_history: true,
        tags: vec![("k".into(), "v".into())],
        idempotency_key: "i".into(),
        delta: true,
        version: 300,
        version_epoch: "e".into(),
    };
    let common = b"\x12\x01\xff\x1a\x04eA==\x20\x01\x2a\x06\x0a\x01k\x12\x01v\x32\x01i\x38\x01\x40\xac\x02\x4a\x01e\xa0\x06\x01";
    let is = |method, head: &[u8], expected: Request<'_>| {
        assert_eq!(decode_request(method, head).unwrap(), expected);
    };
    is(Method::Publish, &[b"\x0a\x01c", &common[..]].concat(), Request::Publish(publish("c", &[])));
    let broadcast = Request::Broadcast(publish("", &["a", "b"]));
    is(Method::Broadcast, &[b"\x0a\x01a\x0a\x01b", &common[..]].concat(), broadcast);
    is(
        Method::Subscribe,
        b"\x0a\x01c\x12\x01u\x18\x05\x22\x02{}\x2a\x04eA==\x32\x02id\x3a\x01d\x42\x04eQ==\x4a\x05\x08\x07\x12\x01e\x52\x0c\x0a\x02\x08\x01\x12\x00\x1a\x00\x22\x00\x2a\x00\x5a\x01s",
        Request::Subscribe(Box::new(Subscribe {
            channel: "c".into(),
            user: "u".into(),
            client: "id".into(),
            session: "s".into(),
            expire_at: 5,
            info: RawPayload::Bytes(b"{}"),
            b64info: "eA==".into(),
            data: RawPayload::Bytes(b"d"),
            b64data: "eQ==".into(),
            recover_since: Some((7, "e".into())),
            overrides: Overrides {
                presence: Some(true),
                join_leave: Some(false),
                force_recovery: Some(false),
                force_positioning: Some(false),
                force_push_join_leave: Some(false),
            },
        })),
    );
    let target = Target { user: "u".into(), client: "id".into(), session: "s".into(), ..Target::default() };
    let unsubscribe = Target { channel: "c".into(), ..target.clone() };
    is(Method::Unsubscribe, b"\x0a\x01c\x12\x01u\x1a\x02id\x22\x01s", Request::Unsubscribe(unsubscribe));
    let disconnect = Target {
        disconnect: Some((4000, "r".into())),
        whitelist: vec!["x".into(), "y".into()],
        ..target.clone()
    };
    let bytes = b"\x0a\x01u\x12\x06\x08\xa0\x1f\x12\x01r\x1a\x02id\x22\x01x\x22\x01y\x2a\x01s";
    is(Method::Disconnect, bytes, Request::Disconnect(disconnect));
    let refresh = Target { expired: true, expire_at: -1, info: RawPayload::Bytes(b"[]"), ..target };
    let bytes = b"\x0a\x01u\x12\x02id\x18\x01\x20\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01\x2a\x02[]\x32\x01s";
    is(Method::Refresh, bytes, Request::Refresh(refresh));
    let since = Some((1, "".into()));
    let history = History { channel: "c".into(), limit: -1, since, reverse: true };
    let bytes = b"\x0a\x01c\x10\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01\x1a\x02\x08\x01\x20\x01";
    is(Method::History, bytes, Request::History(history));
    is(Method::HistoryRemove, b"\x0a\x01c", Request::HistoryRemove("c".into()));
    is(Method::Presence, b"\x0a\x01c", Request::Presence("c".into()));
    is(Method::PresenceStats, b"\x0a\x01c", Request::PresenceStats("c".into()));
    is(Method::Info, b"\x0a\x01c", Request::Info);
    is(Method::Rpc, b"\x0a\x01m\x12\x02{}", Request::Rpc { method: "m".into() });
    let revoke = Request::RevokeToken { uid: "t".into(), expire_at: 9 };
    is(Method::RevokeToken, b"\x08\x09\x12\x01t", revoke);
    is(
        Method::InvalidateUserTokens,
        b"\x08\x09\x12\x01u\x18\x07\x22\x01c",
        Request::InvalidateUserTokens(InvalidateUserTokens {
            user: "u".into(),
            channel: "c".into(),
            issued_before: 7,
            expire_at: 9,
        }),
    );
    is(
        Method::Connections,
        b"\x0a\x01u\x12\x01e\x1a\x00\xa2\x06\x02id\xaa\x06\x01c\xb0\x06\x09\xba\x06\x01p",
        Request::Connections(Box::new(Connections {
            user: "u".into(),
            expression: "e".into(),
            has_label_filter: true,
            client: "id".into(),
            channel: "c".into(),
            limit: 9,
            cursor: "p".into(),
        })),
    );
    is(Method::Channels, b"\x0a\x01*", Request::Channels { pattern: "*".into() });
}

/// The same for requests on maps and shared polls, whose messages number their fields each in its own way.
///
/// Spec: centrifugo `internal/apiproto/api.proto`
#[test]
fn requests_on_maps_are_decoded_by_their_numbers() {
    let is = |method, bytes: &[u8], expected: Request<'_>| {
        assert_eq!(decode_request(method, bytes).unwrap(), expected);
    };
    let map = Map { channel: "c".into(), key: "k".into(), ..Map::default() };
    is(
        Method::MapPublish,
        b"\x0a\x01c\x12\x01k\x1a\x01d\x22\x04eA==\x2a\x01s\x3a\x06\x0a\x01t\x12\x01v\x42\x01i\x48\x01\x50\x02\x5a\x01e\x60\x09\x6a\x06if_new",
        Request::MapPublish(Box::new(Map {
            data: RawPayload::Bytes(b"d"),
            b64data: "eA==".into(),
            tags: vec![("t".into(), "v".into())],
            idempotency_key: "i".into(),
            delta: true,
            version: 2,
            version_epoch: "e".into(),
            score: 9,
            key_mode: "if_new".into(),
            ..map.clone()
        })),
    );
    let remove = Map { idempotency_key: "i".into(), ..map.clone() };
    is(Method::MapRemove, b"\x0a\x01c\x12\x01k\x1a\x01i", Request::MapRemove(Box::new(remove)));
    let state = Map { cursor: "x".into(), limit: 3, asc: true, revision_epoch: "e".into(), ..map.clone() };
    let bytes = b"\x0a\x01c\x12\x01x\x18\x03\x22\x01k\x28\x01\x3a\x01e";
    is(Method::MapReadState, bytes, Request::MapReadState(Box::new(state)));
    let stream = Map {
        channel: "c".into(),
        since_offset: 4,
        since_epoch: "e".into(),
        limit: 3,
        reverse: true,
        ..Map::default()
    };
    let bytes = b"\x0a\x01c\x10\x04\x1a\x01e\x20\x03\x28\x01";
    is(Method::MapReadStream, bytes, Request::MapReadStream(Box::new(stream)));
    is(Method::MapStats, b"\x0a\x01c", Request::MapStats("c".into()));
    is(Method::MapClear, b"\x0a\x01c", Request::MapClear("c".into()));
    let poll = Map { data: RawPayload::Bytes(b"d"), version: 2, epoch: "e".into(), ..map };
    let bytes = b"\x0a\x01c\x12\x01k\x1a\x01d\x28\x02\x32\x01e";
    is(Method::SharedPollPublish, bytes, Request::SharedPollPublish(Box::new(poll)));
}

/// A batch's commands by their fields: several at once, foreign ones, none.
///
/// Spec: centrifugo `internal/apiproto/api.proto`, Command
#[test]
fn batches_are_decoded_by_their_numbers() {
    let info = Some(Request::Info);
    let presence = Some(Request::Presence("c".into()));
    let cases: [(&[u8], Vec<Option<Request<'_>>>); 5] = [
        (b"", vec![]),
        (b"\x0a\x02\x6a\x00\x10\x01", vec![info.clone()]),
        (b"\x0a\x00\x0a\x03\xca\x01\x00", vec![None, None]),
        // info (13), then presence (9): the latter is looked at first.
        (b"\x0a\x07\x6a\x00\x4a\x03\x0a\x01c", vec![presence]),
        (
            b"\x0a\x06\xd2\x02\x03\x0a\x01c\x0a\x02\x6a\x00",
            vec![
                Some(Request::SharedPollPublish(Box::new(Map { channel: "c".into(), ..Map::default() }))),
                info,
            ],
        ),
    ];
    for (bytes, expected) in cases {
        assert_eq!(decode_batch(bytes).unwrap(), expected, "{bytes:x?}");
    }
    let fields: Vec<u8> = (4..=16).chain(36..=42).collect();
    for field in fields {
        let mut bytes = Vec::new();
        Message::new(&mut bytes).message(1, |m| m.message(field.into(), |_| {}));
        assert!(decode_batch(&bytes).unwrap()[0].is_some(), "field {field}");
    }
}

fn response(outcome: Outcome) -> Vec<u8> {
    let mut out = Vec::new();
    encode_response(&outcome, &mut out);
    out
}

/// Every kind of result, by hand from the numbers of the schema.
///
/// Spec: centrifugo `internal/apiproto/api.proto`
#[test]
fn responses_are_encoded_by_their_numbers() {
    let error = Error { code: 107, message: "bad".into() };
    let epoch = || "e".to_owned();
    assert_eq!(response(Err(error.clone())), b"\x0a\x07\x08\x6b\x12\x03bad");
    assert_eq!(response(Ok(ResultBody::Empty)), b"\x12\x00");
    let published = ResultBody::Publish { offset: 2, epoch: epoch() };
    assert_eq!(response(Ok(published.clone())), b"\x12\x05\x08\x02\x12\x01e");
    let broadcast = ResultBody::Broadcast(vec![Ok(published.clone()), Err(error.clone())]);
    assert_eq!(
        response(Ok(broadcast)),
        b"\x12\x14\x0a\x07\x12\x05\x08\x02\x12\x01e\x0a\x09\x0a\x07\x08\x6b\x12\x03bad"
    );
    let info = Arc::new(ClientInfo {
        user: "u".into(),
        client: "id".into(),
        conn_info: Payload::new(&b"1"[..]),
        chan_info: Payload::new(&b"\xff"[..]),
    });
    assert_eq!(
        response(Ok(ResultBody::Presence(vec![info.clone()]))),
        b"\x12\x15\x0a\x13\x0a\x02id\x12\x0d\x0a\x01u\x12\x02id\x1a\x011\x22\x01\xff"
    );
    let stats = PresenceStats { num_clients: 3, num_users: 2 };
    assert_eq!(response(Ok(ResultBody::PresenceStats(stats))), b"\x12\x04\x08\x03\x10\x02");
    let publication = Arc::new(Publication {
        data: Payload::new(&b"d"[..]),
        info: Some(info),
        offset: 7,
        tags: [("t".into(), "v".into())].into(),
        key: "k".into(),
        removed: true,
        score: -1,
        ..Publication::default()
    });
    let history = ResultBody::History { publications: vec![publication.clone()], epoch: epoch(), offset: 9 };
    assert_eq!(
        response(Ok(history)),
        b"\x12\x23\x0a\x1c\x12\x01d\x1a\x0d\x0a\x01u\x12\x02id\x1a\x011\x22\x01\xff\x20\x07\x2a\x06\x0a\x01t\x12\x01v\x12\x01e\x18\x09"
    );
    let entries =
        ResultBody::MapEntries { entries: vec![publication], offset: 9, epoch: epoch(), cursor: "x".into() };
    assert_eq!(
        response(Ok(entries)),
        b"\x12\x27\x0a\x1d\x0a\x01k\x12\x01d\x1a\x06\x0a\x01t\x12\x01v\x20\x07\x28\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01\x30\x01\x10\x09\x1a\x01e\x22\x01x"
    );
    let suppressed = ResultBody::MapPublish { offset: 1, epoch: epoch(), suppress_reason: Some("version") };
    assert_eq!(response(Ok(suppressed)), b"\x12\x10\x08\x01\x12\x01e\x18\x01\x22\x07version");
    assert_eq!(response(Ok(ResultBody::MapStats { num_keys: 4 })), b"\x12\x02\x08\x04");
    let channels = ResultBody::Channels(vec![("c".to_owned(), 5)]);
    assert_eq!(response(Ok(channels)), b"\x12\x09\x0a\x07\x0a\x01c\x12\x02\x08\x05");
    let connection = Connection {
        client: "id".into(),
        app_name: "a".into(),
        app_version: "1".into(),
        transport: "t",
        protocol: "p",
        user: "u".into(),
        channels: vec![ConnectionChannel { name: "c".into(), is_server_side: true }],
        num_channels: 2,
        meta: Payload::new(&b"m"[..]),
        info: Payload::new(&b"i"[..]),
        connected_at_ms: 3,
        status: "s",
        queue_bytes: 4,
        node: "n".into(),
    };
    let connections = ResultBody::Connections { connections: vec![connection], cursor: "x".into() };
    assert_eq!(
        response(Ok(connections)),
        b"\x12\x3e\x0a\x38\x0a\x02id\x12\x32\x0a\x01a\x12\x011\x1a\x01t\x22\x01p\x42\x01u\x4a\x0d\x0a\x08\x0a\x01c\x12\x03\xa0\x06\x01\x22\x01m\x50\x03\xa0\x06\x02\xaa\x06\x01s\xb0\x06\x04\xba\x06\x01n\xc2\x06\x01i\xa2\x06\x01x"
    );
    let node = Node {
        uid: "i".into(),
        name: "n".into(),
        version: "v".into(),
        num_clients: 1,
        num_users: 2,
        num_channels: 3,
        num_subs: 4,
        uptime: 5,
    };
    assert_eq!(
        response(Ok(ResultBody::Info(vec![node]))),
        b"\x12\x15\x0a\x13\x0a\x01i\x12\x01n\x1a\x01v\x20\x01\x28\x02\x30\x03\x38\x05\x50\x04"
    );
    let mut out = Vec::new();
    encode_reply(Some(Method::MapPublish), &Ok(published), &mut out);
    encode_reply(None, &Err(error.clone()), &mut out);
    assert_eq!(out, b"\x0a\x08\xa2\x02\x05\x08\x02\x12\x01e\x0a\x09\x12\x07\x08\x6b\x12\x03bad");
    out.clear();
    encode_error(&error, &mut out);
    assert_eq!(out, b"\x08\x6b\x12\x03bad");
}

fn text() -> impl Strategy<Value = String> {
    "[a-z\u{e9}\0]{0,200}"
}

proptest! {
    /// What is written as a publish request is read as it was, sizes of all kinds included.
    #[test]
    fn publish_requests_survive(
        texts in (text(), text(), text(), text()),
        data in vec(any::<u8>(), 0..300),
        tags in proptest::collection::btree_map("[a-z]{1,3}", text(), 0..4),
        flags in any::<(bool, bool)>(),
        version in any::<u64>(),
    ) {
        let (channel, b64data, idempotency_key, version_epoch) = &texts;
        let tags: Vec<(Box<str>, Box<str>)> =
            tags.iter().map(|(key, value)| (key.as_str().into(), value.as_str().into())).collect();
        let mut bytes = Vec::new();
        let mut m = Message::new(&mut bytes);
        m.string(1, channel);
        m.bytes(2, &data);
        m.string(3, b64data);
        m.bool(4, flags.0);
        m.tags(5, &tags);
        m.string(6, idempotency_key);
        m.bool(7, flags.1);
        m.uint(8, version);
        m.string(9, version_epoch);
        let expected = Request::Publish(Publish {
            channel: channel.into(),
            channels: vec![],
            data: RawPayload::Bytes(&data),
            b64data: b64data.into(),
            skip_history: flags.0,
            tags: tags.iter().map(|(key, value)| ((&**key).into(), (&**value).into())).collect(),
            idempotency_key: idempotency_key.into(),
            delta: flags.1,
            version,
            version_epoch: version_epoch.into(),
        });
        prop_assert_eq!(decode_request(Method::Publish, &bytes).unwrap(), expected);
    }

    /// Whatever bytes: an answer, and no panic.
    #[test]
    fn any_bytes_are_answered(bytes in vec(any::<u8>(), 0..60)) {
        for method in Method::ALL {
            drop(decode_request(*method, &bytes));
        }
        drop(decode_batch(&bytes));
    }
}
