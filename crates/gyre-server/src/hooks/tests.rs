use ::http::HeaderValue;
use gyre_core::{
    channel::ChannelName,
    ports::{
        ClientHooks, ConnectGrant, ConnectQuestion, KeyMode, MapHookRequest, Polled, PolledItem,
        Prolongation, PublishGrant, Refreshed, SubscribeGrant,
    },
};
use gyre_protocol::{Disconnect, Epoch, Payload};

use super::{
    connect::Connect,
    map::MapChange,
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
        timeout: Duration::from_secs(1),
        static_headers: HeaderMap::new(),
        http_headers: Vec::new(),
        grpc_metadata: Vec::new(),
        emulated_headers: Vec::new(),
        is_binary: false,
        includes_meta: false,
        tls: None,
        transforms: Vec::new(),
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
    let body = Question::about(Some(&caller), &target).and_then(|question| hook.ask(question)?.to_json());
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
    let change = |data| MapChange(MapHookRequest { channel: channel.clone(), key: "k".into(), data });
    let set = format!(r#"{{{CLIENT},"encoding":"json","user":"","channel":"c","key":"k","data":{{"q":1}}}}"#);
    assert_eq!(asked(&change(Some(data)), |_| {}).unwrap(), set);
    assert_eq!((change(Some(Payload::default())).name(), change(None).name()), ("map_publish", "map_remove"));
    let poll = SharedPoll { channel, keys: vec![("a".into(), 0), ("b".into(), 7)] };
    let body = Question::about(None, &target("http://a/")).unwrap();
    let body = poll.ask(body).and_then(|question| question.to_json()).unwrap();
    assert_eq!(body, r#"{"channel":"c","items":[{"key":"a"},{"key":"b","version":7}]}"#);
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
    let map = grant::<MapChange>(r#"{"result":{"key":"k","data":1,"b64data":"Mg==","key_mode":"if_new"}}"#);
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
    assert!(matches!(read::<MapChange>(r#"{"result":{"key_mode":"x"}}"#), Err(Failure::Unusable(_))));
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
