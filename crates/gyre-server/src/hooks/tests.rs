use ::http::HeaderValue;
use gyre_core::{
    channel::ChannelName,
    ports::{
        ChannelStateEvent, ClientHooks, ConnectGrant, ConnectQuestion, DisconnectEvent, KeyMode,
        MapHookRequest, Polled, PolledItem, Prolongation, PublishGrant, Refreshed, SubscribeGrant,
    },
};
use gyre_protocol::{Disconnect, Epoch, Payload};

use super::{
    connect::Connect,
    events::{CacheEmpty, ChannelStates, Disconnected},
    map::{MapPublish, MapRemove},
    publish::Publish,
    refresh::{Refresh, SubRefresh},
    rpc::Rpc,
    shared_poll::SharedPoll,
    subscribe::Subscribe,
    *,
};

/// A target with nothing but an endpoint.
pub(super) fn target(endpoint: &str) -> Target {
    Target {
        endpoint: endpoint.parse().unwrap(),
        socket: None,
        timeout: Duration::from_secs(1),
        concurrency_limit: 0,
        static_headers: HeaderMap::new(),
        http_headers: Vec::new(),
        grpc_metadata: Vec::new(),
        emulated_headers: Vec::new(),
        is_binary: false,
        includes_meta: false,
        tls: None,
        protocol: Protocol::Http { transforms: Vec::new() },
    }
}

fn caller() -> Caller {
    Caller {
        client: "id".into(),
        user: "".into(),
        transport: "websocket",
        protocol: "json",
        meta: Payload::json(r#"{"m":1}"#),
        headers: None,
    }
}

/// The body of a question.
fn asked<H: Hook>(hook: &H, change: impl FnOnce(&mut Target)) -> Result<String, String> {
    let mut target = target("http://a/");
    change(&mut target);
    let caller = caller();
    let body = hook.ask(Question::about(Some(&caller), &target)).to_json();
    body.map(|body| String::from_utf8(body.to_vec()).unwrap()).map_err(|Unusable(reason)| reason)
}

/// What an answer comes to: a grant, a refusal, or why it cannot be used.
fn read<H: Hook>(answer: &str) -> Result<H::Grant, Failure> {
    Reply::parse(answer.as_bytes()).map_err(Failure::from).and_then(H::read)
}

fn grant<H: Hook>(answer: &str) -> H::Grant {
    read::<H>(answer).unwrap_or_else(|failure| panic!("{answer}: {failure:?}"))
}

/// Each question byte for byte: the user is there also when it is empty, what is empty otherwise is not, and data goes
/// as JSON or as base64.
///
/// Spec: centrifugo `internal/proxyproto/proxy.proto`
#[test]
fn questions_are_written() {
    const CLIENT: &str = r#""client":"id","transport":"websocket","protocol":"json""#;
    let (channel, data) = (ChannelName::new("c"), Payload::json(r#"{"q":1}"#));
    let subscribe = Subscribe { channel: channel.clone(), data: data.clone() };
    let plain = format!(r#"{{{CLIENT},"encoding":"json","user":"","channel":"c","data":{{"q":1}}}}"#);
    assert_eq!(asked(&subscribe, |_| {}).unwrap(), plain);
    let binary =
        format!(r#"{{{CLIENT},"encoding":"binary","user":"","channel":"c","b64data":"eyJxIjoxfQ=="}}"#);
    assert_eq!(asked(&subscribe, |target| target.is_binary = true).unwrap(), binary);
    let publish = Publish { channel: channel.clone(), data: Payload::new("\u{1}") };
    assert!(asked(&publish, |_| {}).is_err(), "not JSON");
    assert!(asked(&publish, |target| target.is_binary = true).is_ok());
    let with_meta = format!(r#"{{{CLIENT},"encoding":"json","user":"","channel":"c","meta":{{"m":1}}}}"#);
    assert_eq!(asked(&SubRefresh(channel.clone()), |target| target.includes_meta = true).unwrap(), with_meta);
    assert_eq!(asked(&Refresh, |_| {}).unwrap(), format!(r#"{{{CLIENT},"encoding":"json","user":""}}"#));
    let rpc = Rpc { method: "m".into(), data: Payload::default() };
    let expected = format!(r#"{{{CLIENT},"encoding":"json","user":"","method":"m"}}"#);
    assert_eq!(asked(&rpc, |_| {}).unwrap(), expected);
    let question = ConnectQuestion { name: "js".into(), channels: vec!["c".into()], ..Default::default() };
    let expected = format!(r#"{{{CLIENT},"encoding":"json","name":"js","channels":["c"]}}"#);
    assert_eq!(asked(&Connect(question), |target| target.includes_meta = true).unwrap(), expected);
    let change = |data| MapHookRequest { channel: channel.clone(), key: "k".into(), data };
    let set = format!(r#"{{{CLIENT},"encoding":"json","user":"","channel":"c","key":"k","data":{{"q":1}}}}"#);
    assert_eq!(asked(&MapPublish(change(Some(data))), |_| {}).unwrap(), set);
    let removed = format!(r#"{{{CLIENT},"encoding":"json","user":"","channel":"c","key":"k"}}"#);
    assert_eq!(asked(&MapRemove(change(None)), |_| {}).unwrap(), removed);
    let poll = SharedPoll { channel, keys: vec![("a".into(), 0), ("b".into(), 7)] };
    let body = poll.ask(Question::about(None, &target("http://a/"))).to_json().unwrap();
    assert_eq!(body, r#"{"channel":"c","items":[{"key":"a"},{"key":"b","version":7}]}"#);
}

/// The same over gRPC: the call of each question, and the numbers of its fields.
///
/// Spec: centrifugo `internal/proxyproto/proxy.proto`
#[test]
fn questions_are_written_in_protobuf() {
    fn is<H: Hook>(hook: &H, method: &str, rest: &[u8]) {
        let mut target = target("http://a/");
        target.includes_meta = true;
        let caller = Caller { user: "u".into(), ..caller() };
        let call = hook.grpc();
        let question = hook.ask(Question::about(Some(&caller), &target)).to_protobuf(&call);
        assert_eq!(call.path, format!("/centrifugal.centrifugo.proxy.CentrifugoProxy/{method}"));
        let client = b"\x0a\x02id\x12\x09websocket\x1a\x04json\x22\x04json";
        assert_eq!(question, [&client[..], rest].concat(), "{method}");
    }
    let (channel, data) = (ChannelName::new("c"), Payload::new(&b"\xff"[..]));
    let connect = ConnectQuestion {
        data: data.clone(),
        name: "js".into(),
        version: "1".into(),
        channels: ["a".into(), "".into()].into(),
    };
    is(&Connect(connect), "Connect", b"\x52\x01\xff\x62\x02js\x6a\x011\x72\x01a\x72\x00");
    is(&Refresh, "Refresh", b"\x52\x01u\x5a\x07{\"m\":1}");
    is(&SubRefresh(channel.clone()), "SubRefresh", b"\x52\x01u\x5a\x01c\x62\x07{\"m\":1}");
    let subscribe = Subscribe { channel: channel.clone(), data: data.clone() };
    is(&subscribe, "Subscribe", b"\x52\x01u\x5a\x01c\x72\x01\xff\x6a\x07{\"m\":1}");
    let publish = Publish { channel: channel.clone(), data: data.clone() };
    is(&publish, "Publish", b"\x52\x01u\x5a\x01c\x62\x01\xff\x72\x07{\"m\":1}");
    let rpc = Rpc { method: "m".into(), data: data.clone() };
    is(&rpc, "RPC", b"\x52\x01u\x5a\x01m\x62\x01\xff\x72\x07{\"m\":1}");
    let change = |data| MapHookRequest { channel: channel.clone(), key: "k".into(), data };
    let set = MapPublish(change(Some(data)));
    is(&set, "MapPublish", b"\x52\x01u\x5a\x01c\x62\x01k\x6a\x01\xff\x7a\x07{\"m\":1}");
    is(&MapRemove(change(None)), "MapRemove", b"\x52\x01u\x5a\x01c\x62\x01k\x6a\x07{\"m\":1}");
    let poll = SharedPoll { channel, keys: vec![("a".into(), 0), ("b".into(), 7)] };
    let call = poll.grpc();
    let question = poll.ask(Question::about(None, &target("http://a/"))).to_protobuf(&call);
    assert_eq!(question, b"\x0a\x01c\x12\x03\x0a\x01a\x12\x05\x0a\x01b\x10\x07");
}

/// Answers over gRPC: every field by its number, which form of data wins, refusals, and what makes no sense.
///
/// Spec: centrifugo `internal/proxyproto/proxy.proto`
#[test]
fn answers_are_read_in_protobuf() {
    fn answer<H: Hook>(bytes: &[u8]) -> Result<H::Grant, Failure> {
        Reply::parse_protobuf(bytes).map_err(Failure::from).and_then(H::read)
    }
    fn result<H: Hook>(fields: &[u8]) -> H::Grant {
        let bytes = [&[0x0a, fields.len() as u8], fields].concat();
        answer::<H>(&bytes).unwrap_or_else(|failure| panic!("{failure:?}"))
    }
    let connect = b"\x0a\x0242\x10\x09\x1a\x011\x22\x04Mg==\x2a\x01\xff\x3a\x01a\x42\x12\x0a\x01b\x12\x0d\x12\x011\x32\x08\x1a\x02\x08\x01\x22\x00\x0a\x00\x4a\x013";
    let ConnectGrant { claims, data } = *result::<Connect>(connect).unwrap();
    assert_eq!((&*claims.user, claims.expire_at, &data.bytes()[..]), ("42", Some(9), &b"\xff"[..]));
    assert_eq!((claims.info, claims.meta), (Payload::json("2"), Payload::json("3")));
    let subs: Vec<_> = claims.subs.iter().map(|sub| (&*sub.channel, &sub.grant)).collect();
    let overrides = subs[1].1.overrides;
    assert_eq!((subs[0].0, subs[1].0, &subs[1].1.info), ("a", "b", &Payload::json("1")));
    assert_eq!(
        (overrides.force_recovery, overrides.force_positioning, overrides.presence, overrides.join_leave),
        (Some(true), Some(false), Some(false), None)
    );
    assert_eq!(answer::<Connect>(b"").ok(), Some(None));
    let prolonged = Prolongation { expire_at: 5, info: Payload::json("2"), meta: Payload::json("3") };
    let refresh = b"\x10\x05\x1a\x011\x22\x04Mg==\x2a\x013";
    assert_eq!(result::<Refresh>(refresh), Refreshed::Prolonged(Box::new(prolonged)));
    assert_eq!(result::<SubRefresh>(b"\x08\x01\x10\x05"), Refreshed::Expired);
    let subscribed = result::<Subscribe>(b"\x08\x07\x22\x011\x2a\x04Mg==");
    assert_eq!((subscribed.expire_at, subscribed.grant.data), (7, Payload::json("2")));
    let publish =
        b"\x0a\x011\x12\x04Mg==\x18\x01\x22\x06\x0a\x01k\x12\x01v\x2a\x01i\x30\x01\x38\x02\x42\x01e";
    let expected = PublishGrant {
        data: Some(Payload::json("1")),
        skip_history: true,
        tags: [("k".into(), "v".into())].into(),
        idempotency_key: "i".into(),
        delta: true,
        version: 2,
        version_epoch: "e".into(),
    };
    assert_eq!(result::<Publish>(publish), expected);
    assert_eq!(result::<Publish>(b"\x12\x04Mg==").data, Some(Payload::json("2")));
    assert_eq!(result::<Rpc>(b"\x0a\x01\xff").bytes(), &b"\xff"[..]);
    let set = b"\x0a\x01k\x12\x011\x22\x06\x0a\x01t\x12\x01v\x28\x05\x32\x06if_new\x4a\x01i\x50\x01\x58\x02\x62\x01e";
    let set = result::<MapPublish>(set);
    assert_eq!((&*set.key, set.data, set.key_mode), ("k", Some(Payload::json("1")), KeyMode::IfNew));
    assert_eq!(set.score, 5);
    assert_eq!((&*set.idempotency_key, set.delta, set.version, &*set.version_epoch), ("i", true, 2, "e"));
    let removed = result::<MapRemove>(b"\x0a\x01k\x12\x06\x0a\x01t\x12\x01v\x1a\x01i");
    assert_eq!((&*removed.key, removed.tags.len(), &*removed.idempotency_key), ("k", 1, "i"));
    assert_eq!(removed.data, None);
    let polled =
        result::<SharedPoll>(b"\x0a\x08\x0a\x01a\x12\x011\x18\x02\x0a\x05\x0a\x01b\x20\x01\x12\x01e");
    let item = |key: &str| PolledItem { key: key.into(), ..PolledItem::default() };
    let a = PolledItem { data: Payload::json("1"), version: 2, ..item("a") };
    assert_eq!(
        polled,
        Polled { items: vec![a, PolledItem { removed: true, ..item("b") }], epoch: Epoch::new("e") }
    );

    let refusal = |bytes: &[u8]| match answer::<Rpc>(bytes) {
        Err(Failure::Refused(refusal)) => refusal,
        other => panic!("{bytes:?}: {}", other.is_ok()),
    };
    let error = ClientError { code: 1000, message: "no".into(), temporary: true };
    assert_eq!(refusal(b"\x0a\x00\x12\x09\x08\xe8\x07\x12\x02no\x18\x01"), HookRefusal::Error(error));
    let disconnect = Disconnect { code: 4000, reason: "r".into() };
    assert_eq!(refusal(b"\x12\x00\x1a\x06\x08\xa0\x1f\x12\x01r"), HookRefusal::Disconnect(disconnect));
    for broken in [&b"\xff"[..], b"\x08\x01", b"\x0a\x03\x0a\x05x", b"\x0a\x03\x12\x01!"] {
        assert!(matches!(answer::<Rpc>(broken), Err(Failure::Unusable(_))), "{broken:?}");
    }
}

/// A disconnect comes before an error, an error before a result; refreshes look at results only.
#[test]
fn refusals_are_read() {
    let refused = |answer: &str| match read::<Subscribe>(answer) {
        Err(Failure::Refused(refusal)) => refusal,
        other => panic!("{answer}: {}", other.is_ok()),
    };
    let error = r#"{"result":{},"error":{"code":1000,"message":"no","temporary":true}}"#;
    let expected = ClientError { code: 1000, message: "no".into(), temporary: true };
    assert_eq!(refused(error), HookRefusal::Error(expected));
    let disconnect = r#"{"error":{"code":1000},"disconnect":{"code":4000,"reason":"r"}}"#;
    let expected = HookRefusal::Disconnect(Disconnect { code: 4000, reason: "r".into() });
    assert_eq!(refused(disconnect), expected);
    let transformed = Subscribe::read(Reply::refusing(expected.clone()));
    assert!(matches!(transformed, Err(Failure::Refused(refusal)) if refusal == expected));
    assert_eq!(grant::<Refresh>(disconnect), Refreshed::Expired);
    assert_eq!(Refresh::read(Reply::refusing(expected)).ok(), Some(Refreshed::Expired));
    let with_result = r#"{"error":{"code":1},"result":{"expire_at":5,"b64info":"Mg=="}}"#;
    let prolongation = Prolongation { expire_at: 5, info: Payload::json("2"), ..Prolongation::default() };
    assert_eq!(grant::<SubRefresh>(with_result), Refreshed::Prolonged(Box::new(prolongation)));
    for expired in ["{}", r#"{"result":null}"#, r#"{"result":{"expired":true,"expire_at":5}}"#] {
        assert_eq!(grant::<Refresh>(expired), Refreshed::Expired, "{expired}");
    }
}

/// What backends answer, what they may leave out, and which form of data wins.
#[test]
fn grants_are_read() {
    assert_eq!(grant::<Connect>("{}"), None);
    let connected = grant::<Connect>(
        r#"{"result":{"user":"42","expire_at":9,"info":{"a": 1},"b64info":"Mg==","data":3,"meta":{"m":1},
        "channels":["a","b","a"],"subs":{"b":{"info":1,"override":{"force_recovery":{"value":true}}},"c":null},"new":1}}"#,
    );
    let ConnectGrant { claims, data } = *connected.unwrap();
    assert_eq!((&*claims.user, claims.expire_at, data), ("42", Some(9), Payload::json("3")));
    assert_eq!((claims.info, claims.meta), (Payload::json("2"), Payload::json(r#"{"m":1}"#)));
    let subs: Vec<_> =
        claims.subs.iter().map(|sub| (&*sub.channel, sub.grant.overrides.force_recovery)).collect();
    assert_eq!(subs, [("a", None), ("b", Some(true)), ("c", None)]);
    assert_eq!(grant::<Subscribe>("{}"), SubscribeGrant::default());
    assert_eq!(
        grant::<Subscribe>(r#"{"result":{"data":1,"b64data":"Mg=="}}"#).grant.data,
        Payload::json("2")
    );
    assert_eq!(grant::<Publish>("{}"), PublishGrant::default());
    let publish = grant::<Publish>(r#"{"result":{"data":1,"b64data":"Mg==","tags":{"k":"v"},"version":2}}"#);
    assert_eq!((publish.data, publish.tags.len(), publish.version), (Some(Payload::json("1")), 1, 2));
    assert_eq!(grant::<Publish>(r#"{"result":{"b64data":"Mg=="}}"#).data, Some(Payload::json("2")));
    assert_eq!(grant::<Rpc>(r#"{"result":{"data":1,"b64data":"Mg=="}}"#), Payload::json("2"));
    assert_eq!(grant::<Rpc>("{}"), Payload::default());
    let nothing =
        r#"{"result":{"data":null,"tags":null,"skip_history":null,"version_epoch":null},"error":null}"#;
    assert_eq!(grant::<Publish>(nothing), PublishGrant::default(), "as backends write what they leave empty");
    let map = grant::<MapPublish>(r#"{"result":{"key":"k","data":1,"b64data":"Mg==","key_mode":"if_new"}}"#);
    assert_eq!((&*map.key, map.data, map.key_mode), ("k", Some(Payload::json("1")), KeyMode::IfNew));
    let item = |key: &str| PolledItem { key: key.into(), ..PolledItem::default() };
    let polled = grant::<SharedPoll>(
        r#"{"result":{"items":[{"key":"a","data":{"n": 1},"version":2},{"key":"b","removed":true}],"epoch":"e"}}"#,
    );
    let a = PolledItem { data: Payload::json("{\"n\": 1}"), version: 2, ..item("a") };
    let b = PolledItem { removed: true, ..item("b") };
    assert_eq!(polled, Polled { items: vec![a, b], epoch: Epoch::new("e") });
    assert_eq!(grant::<SharedPoll>(r#"{"result":{"items":null}}"#), Polled::default());
}

/// What no hook can make sense of is unusable, not a refusal and not a grant.
#[test]
fn nonsense_is_unusable() {
    for broken in ["", "[]", "hello", r#"{"result":[]}"#, r#"{"result":{"b64data":"!"}}"#, r#"{"result":{}"#]
    {
        assert!(matches!(read::<Publish>(broken), Err(Failure::Unusable(_))), "{broken}");
    }
    assert!(matches!(read::<Connect>(r#"{"result":{"user":7}}"#), Err(Failure::Unusable(_))));
    assert!(matches!(read::<MapPublish>(r#"{"result":{"key_mode":"x"}}"#), Err(Failure::Unusable(_))));
    assert!(matches!(read::<SharedPoll>(r#"{"result":{"items":[{}]}}"#), Err(Failure::Unusable(_))));
}

/// Of a request's headers hooks see those that some target lists; without any there is nothing to keep.
#[test]
fn only_listed_headers_are_visible() {
    let listing = |names: &[&'static str]| {
        let mut target = target("http://a/");
        target.http_headers = names.iter().map(|name| HeaderName::from_static(name)).collect();
        target.grpc_metadata = vec![HeaderName::from_static("x-c")];
        target
    };
    let targets = [("a".into(), listing(&["cookie"])), ("b".into(), listing(&["cookie", "x-b"]))];
    let hooks = Hooks::new(targets.into()).unwrap();
    let headers = |names: &[&'static str]| -> HeaderMap {
        names.iter().map(|name| (HeaderName::from_static(name), HeaderValue::from_static("v"))).collect()
    };
    let seen = hooks.visible(&headers(&["cookie", "x-b", "x-c"])).unwrap();
    let mut names: Vec<_> = seen.request.iter().map(|(name, _)| &**name).collect();
    names.sort_unstable();
    assert_eq!(names, ["cookie", "x-b"]);
    assert_eq!(hooks.visible(&headers(&["x-c"])), None);
    let metadata = hooks.visible_metadata(&headers(&["cookie", "x-c"])).unwrap();
    assert!(metadata.request.is_empty());
    assert_eq!(metadata.metadata.iter().map(|(name, _)| &**name).collect::<Vec<_>>(), ["x-c"]);
}

/// A hook that is not configured, and one that nobody listens for, fail with error 100 and are counted; a refresh has no
/// answer then.
#[tokio::test]
async fn failures_are_counted() {
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let hooks = Hooks::new([("default/rpc".into(), target(&format!("http://{nobody}/")))].into()).unwrap();
    let internal = Err(HookRefusal::Error(ClientError::INTERNAL));
    for name in ["default/rpc", "nosuch"] {
        let answer = ClientHooks::rpc(&hooks, name, caller(), "m".into(), Payload::default());
        assert_eq!(answer.wait().await, internal, "{name}");
    }
    assert_eq!(ClientHooks::refresh(&hooks, "nosuch", caller()).wait().await, None);
    let text = hooks.metrics().text();
    assert!(
        text.contains(r#"centrifugo_proxy_errors_total{protocol="http",type="rpc",name="default"} 1"#),
        "{text}"
    );
    assert!(
        text.contains(r#"centrifugo_proxy_inflight_requests{protocol="http",type="rpc",name="nosuch"} 0"#)
    );
    assert!(text.contains(r#"_histogram_count{protocol="http",type="refresh",name="nosuch"} 1"#));
}

/// What the application is told of channels and connections, in both forms; a refusal is an answer, what cannot be read
/// is none.
///
/// Spec: centrifugo `internal/proxyproto/proxy.proto`, NotifyCacheEmpty and NotifyChannelState
#[test]
fn events_are_written_and_answered() {
    fn both<H: Hook>(hook: &H, caller: Option<&Caller>) -> (String, Vec<u8>, &'static str) {
        let target = target("http://a/");
        let question = || hook.ask(Question::about(caller, &target));
        let json = String::from_utf8(question().to_json().unwrap().to_vec()).unwrap();
        let call = hook.grpc();
        (json, question().to_protobuf(&call), call.path.rsplit('/').next().unwrap())
    }
    let channel = ChannelName::new("c");
    let (json, protobuf, method) = both(&CacheEmpty(channel.clone()), None);
    assert_eq!((&*json, &*protobuf, method), (r#"{"channel":"c"}"#, &b"\x0a\x01c"[..], "NotifyCacheEmpty"));
    assert!(grant::<CacheEmpty>(r#"{"result":{"populated":true}}"#) && !grant::<CacheEmpty>("{}"));

    let event = |is_occupied| ChannelStateEvent { channel: channel.clone(), is_occupied, time_ms: 5 };
    let (json, protobuf, method) = both(&ChannelStates(vec![event(true), event(false)]), None);
    let expected = r#"{"events":[{"time_ms":5,"channel":"c","type":"occupied"},{"time_ms":5,"channel":"c","type":"vacated"}]}"#;
    assert_eq!((&*json, method), (expected, "NotifyChannelState"));
    let expected = b"\x0a\x0f\x08\x05\x12\x01c\x1a\x08occupied\x0a\x0e\x08\x05\x12\x01c\x1a\x07vacated";
    assert_eq!(protobuf, expected);
    assert!(matches!(read::<ChannelStates>("[]"), Err(Failure::Unusable(_))));
    let refused = read::<ChannelStates>(r#"{"error":{"code":1000}}"#);
    assert!(matches!(refused, Err(Failure::Refused(_))));

    let disconnect = Disconnect { code: 3000, reason: "r".into() };
    let caller = Caller { user: "u".into(), meta: Payload::default(), ..caller() };
    let event = DisconnectEvent { caller: caller.clone(), disconnect, duration_ms: 7, time_ms: 8 };
    let (json, protobuf, method) = both(&Disconnected(event), Some(&caller));
    let client = r#""client":"id","transport":"websocket","protocol":"json","encoding":"json","user":"u""#;
    let expected = format!(r#"{{{client},"code":3000,"reason":"r","duration_ms":7,"time_ms":8}}"#);
    assert_eq!((json, method), (expected, "NotifyDisconnect"));
    let expected =
        b"\x0a\x02id\x12\x09websocket\x1a\x04json\x22\x04json\x52\x01u\x58\xb8\x17\x62\x01r\x68\x07\x70\x08";
    assert_eq!(protobuf, expected);
}
