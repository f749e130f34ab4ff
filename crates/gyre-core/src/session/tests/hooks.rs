//! Conversations in which the application has a say. What it answers is made up by the test, at once or late.

use gyre_protocol::Payload;

use super::*;
use crate::channel::RecoveryMode;
use crate::ports::{
    ConnectGrant, HookRefusal, NewPublication, Overrides, Prolongation, PublishGrant, PublishOptions,
    Refreshed, ServerSubscription, SubscribeGrant,
};

const CONNECT: &str =
    r#"{"id":1,"connect":{"data":{"d":1},"name":"js","subs":{"c":{}},"headers":{"X-A":"1","x-b":"2"}}}"#;
const PUBLISH: &str = r#"{"id":2,"publish":{"channel":"c","data":1}}"#;

fn error(code: u32) -> HookRefusal {
    HookRefusal::Error(ClientError { code, message: "no".into(), temporary: false })
}

fn go_away() -> Disconnect {
    Disconnect { code: 4500, reason: "go away".into() }
}

fn grant(expire_at: Option<i64>) -> ConnectGrant {
    let claims = ConnectionClaims {
        user: "42".into(),
        expire_at,
        meta: Payload::json("7"),
        ..ConnectionClaims::default()
    };
    ConnectGrant { claims, data: Payload::json("1") }
}

/// A session that asks about clients without token, and its answer to a connect.
fn connect(
    answer: Result<Option<ConnectGrant>, HookRefusal>,
    change: impl FnOnce(&mut Rules),
) -> (Script, Result<String, Disconnect>) {
    let mut script = Script::new(|rules| {
        rules.connect.allow_anonymous_without_token = false;
        rules.limits.ping_interval = Duration::ZERO;
        rules.hooks.connect = Some("connect".into());
        rules.hooks.emulated_headers = ["x-a".into()].into();
        change(rules);
    });
    script.answers.push_back(Outcome::ConnectAnswered(answer.map(|grant| grant.map(Box::new))));
    let sent = script.send(CONNECT).map(|sent| json(&sent));
    (script, sent)
}

/// A connected session whose channels have these hooks.
fn hooked(change: impl FnOnce(&mut ChannelOptions)) -> Script {
    Script::connected(|rules| {
        rules.limits.ping_interval = Duration::ZERO;
        change(Arc::make_mut(&mut rules.namespaces.without_namespace));
    })
}

/// Data, name and channels of a connect are asked about; user, data and channels come with the answer. What the client
/// wants to be subscribed to is the application's to grant.
///
/// Spec: centrifugal.dev, "Proxy events from clients to the backend", connect
#[test]
fn the_application_says_who_a_client_is() {
    let mut answer = grant(None);
    answer.claims.subs = vec![ServerSubscription { channel: "d".into(), ..ServerSubscription::default() }];
    let (mut script, sent) = connect(Ok(Some(answer)), |_| {});
    let sent: serde_json::Value =
        serde_json::from_str(sent.unwrap().split(" activate ").next().unwrap()).unwrap();
    assert_eq!(
        (&sent["connect"]["data"], &sent["connect"]["subs"]),
        (&1.into(), &serde_json::json!({"d": {}}))
    );
    assert_eq!(script.session.user().map(|user| &**user), Some("42"));
    let Asked(_, hook, caller, question) = script.asked.pop().unwrap();
    assert_eq!((&*hook, &*caller.client), ("connect", &*script.session.client().to_string()));
    let Question::Connect(question) = *question else { panic!("{question:?}") };
    assert_eq!((&*question.name, question.data.bytes().as_ref()), ("js", br#"{"d":1}"#.as_slice()));
    assert_eq!(question.channels, ["c".into()]);

    let (script, _) = connect(Ok(None), |_| {});
    assert_eq!(script.asked.len(), 1);
    let mut with_token = Script::new(|rules| rules.hooks.connect = Some("connect".into()));
    with_token.send(r#"{"id":1,"connect":{"token":"t"}}"#).unwrap();
    assert!(with_token.asked.is_empty() && with_token.session.is_connected(), "a token says it");
}

/// Whoever the application does not know may still be let in by other rules; a refusal is final.
#[test]
fn the_application_refuses_a_connect() {
    let refused = |answer, change: fn(&mut Rules)| connect(answer, change).1;
    assert_eq!(refused(Ok(None), |_| {}).err(), Some(Disconnect::BAD_REQUEST));
    let (script, sent) = connect(Ok(None), |rules| rules.connect.allow_anonymous_without_token = true);
    assert!(sent.unwrap().contains(r#""subs":{"c":"#), "anonymous clients get what they may have");
    assert_eq!(script.session.user().map(|user| &**user), Some(""));
    let sent = refused(Err(error(1000)), |rules| rules.connect.allow_anonymous_without_token = true);
    assert_eq!(sent.unwrap(), r#"{"id":1,"error":{"code":1000,"message":"no"}}Finish"#);
    assert_eq!(refused(Err(HookRefusal::Disconnect(go_away())), |_| {}).err(), Some(go_away()));
    let sent = refused(Ok(Some(grant(Some(1)))), |_| {});
    assert!(sent.unwrap().contains(r#""code":110"#), "expired already");
}

/// Of the headers in a connect only what some hook may see is kept, and nothing where none may see any.
#[test]
fn listed_headers_are_kept() {
    let (mut script, kept) = (connect(Ok(None), |_| {}).0, |script: &mut Script| {
        script.session.state = State::Fresh { stale_at: script.now.instant, header_user: None };
        let command = Encoding::Json.decode_command(CONNECT.as_bytes()).unwrap();
        let cx = Context { now: script.now, rules: &script.rules, patches: &script.patches };
        script.session.handle_command(&cx, command).unwrap();
        let kept = script.session.outputs.iter().find_map(|output| match output {
            Output::Effect(_, Effect::KeepHeaders { headers }) => Some(headers.clone()),
            _ => None,
        });
        script.session.outputs.clear();
        kept
    });
    assert_eq!(kept(&mut script), Some([("x-a".into(), "1".into())].into()));
    script.rules.hooks.emulated_headers = [].into();
    assert_eq!(kept(&mut script), None);
}

/// The client is not told of an expiry that is not its business. The application is asked when it comes, without grace,
/// while commands go on; no answer is as good as a minute.
///
/// Spec: centrifugal.dev, "Proxy events from clients to the backend", refresh
#[test]
fn the_application_prolongs_a_connection() {
    let now = START as i64 / 1000;
    let with_refresh = |rules: &mut Rules| rules.hooks.refresh = Some("refresh".into());
    let expired = || {
        let (mut script, sent) = connect(Ok(Some(grant(Some(now + 10)))), with_refresh);
        assert!(!sent.unwrap().contains("expires"));
        script.asked.clear();
        assert!(script.pass(Duration::from_millis(9_999)).unwrap().is_empty() && script.asked.is_empty());
        script.pass(Duration::from_millis(1)).unwrap();
        let Asked(id, hook, caller, _) = script.asked.pop().unwrap();
        assert_eq!((&*hook, &*caller.user, caller.meta), ("refresh", "42", Payload::json("7")));
        (script, id)
    };
    let answered = |answer: Option<Refreshed>| {
        let (mut script, id) = expired();
        assert!(json(&script.send(SUBSCRIBE).unwrap()).contains("subscribe"), "commands go on meanwhile");
        let outcome = Outcome::RefreshAnswered(answer);
        let sent = script.with(|session, cx| session.handle_outcome(cx, id, outcome));
        sent.map(|sent| {
            assert_eq!(json(&sent), "", "the client learns nothing");
            script
        })
    };
    let prolonged = |expire_at| {
        let meta = Payload::json("8");
        Some(Refreshed::Prolonged(Box::new(Prolongation { expire_at, meta, ..Prolongation::default() })))
    };
    let mut script = answered(prolonged(now + 110)).unwrap();
    script.pass(Duration::from_secs(99)).unwrap();
    assert!(script.asked.is_empty());
    script.pass(Duration::from_secs(1)).unwrap();
    assert_eq!(script.asked.pop().unwrap().2.meta, Payload::json("8"));
    let mut script = answered(prolonged(0)).unwrap();
    assert!(script.pass(Duration::from_secs(1 << 20)).is_ok() && script.asked.is_empty(), "never again");
    let mut script = answered(None).unwrap();
    script.pass(Duration::from_secs(59)).unwrap();
    assert!(script.asked.is_empty());
    script.pass(Duration::from_secs(1)).unwrap();
    assert_eq!(script.asked.len(), 1);
    assert_eq!(answered(Some(Refreshed::Expired)).err(), Some(Disconnect::EXPIRED));
    assert_eq!(answered(prolonged(now)).err(), Some(Disconnect::EXPIRED));
    let (mut script, _) = expired();
    let own = script.send(r#"{"id":3,"refresh":{"token":"t"}}"#);
    assert_eq!(own.err(), Some(Disconnect::BAD_REQUEST));
}

/// A subscribe without token is the application's to allow, whatever the namespace says; wishes for recovery do not
/// count.
///
/// Spec: centrifugal.dev, "Proxy events from clients to the backend", subscribe
#[test]
fn the_application_judges_subscribes() {
    let hooks = |options: &mut ChannelOptions| {
        options.subscribe_hook = Some("subscribe".into());
        options.allow_user_limited_channels = true;
    };
    let answered = |answer| {
        let mut script = hooked(hooks);
        script.rules.namespaces.user_boundary = "#".into();
        script.answers.push_back(Outcome::SubscribeAnswered(answer));
        let sent = script.send(r#"{"id":2,"subscribe":{"channel":"c","data":{"q":1},"recoverable":true}}"#);
        (script, sent.map(|sent| json(&sent)))
    };
    let grant = SubscriptionGrant { data: Payload::json("1"), ..SubscriptionGrant::default() };
    let (script, sent) = answered(Ok(Box::new(SubscribeGrant { expire_at: 0, grant })));
    assert_eq!(sent.unwrap(), r#"{"id":2,"subscribe":{"data":1}} activate "#);
    let Asked(_, hook, caller, question) = &script.asked[0];
    assert_eq!((&**hook, &*caller.user), ("subscribe", "42"));
    let Question::Subscribe { channel, data } = &**question else { panic!("{question:?}") };
    assert_eq!((&**channel, data.bytes().as_ref()), ("c", br#"{"q":1}"#.as_slice()));

    let overrides = Overrides { force_recovery: Some(true), ..Overrides::default() };
    let grant = SubscriptionGrant { overrides, ..SubscriptionGrant::default() };
    let (_, sent) = answered(Ok(Box::new(SubscribeGrant { expire_at: 0, grant })));
    assert!(sent.unwrap().contains(r#""recoverable":true"#));
    let (_, sent) = answered(Ok(Box::new(SubscribeGrant { expire_at: 1, ..SubscribeGrant::default() })));
    assert!(sent.unwrap().contains(r#""code":110"#));
    let (mut script, sent) = answered(Err(error(1000)));
    assert_eq!(sent.unwrap(), r#"{"id":2,"error":{"code":1000,"message":"no"}}"#);
    let limited = json(&script.send(r#"{"id":3,"subscribe":{"channel":"c#43"}}"#).unwrap());
    assert!(limited.contains(r#""code":103"#), "{limited}");
    assert_eq!(script.asked.len(), 1, "names with users in them decide alone");
    assert_eq!(answered(Err(HookRefusal::Disconnect(go_away()))).1.err(), Some(go_away()));
}

/// While the application takes its time the session takes no further command; one that is closed meanwhile takes no
/// answer.
#[test]
fn late_answers_find_their_command() {
    let mut script = hooked(|options| options.subscribe_hook = Some("subscribe".into()));
    assert_eq!(json(&script.send(SUBSCRIBE).unwrap()), "");
    assert!(script.session.is_busy(&script.rules.limits));
    let id = script.asked[0].0;
    let answer = || Outcome::SubscribeAnswered(Ok(Box::default()));
    let sent = script.with(|session, cx| session.handle_outcome(cx, id, answer())).unwrap();
    assert_eq!(json(&sent), r#"{"id":2,"subscribe":{}} activate "#);
    assert!(!script.session.is_busy(&script.rules.limits));
    let again = script.with(|session, cx| session.handle_outcome(cx, id, answer())).unwrap();
    assert_eq!(json(&again), "");

    let mut script = hooked(|options| options.subscribe_hook = Some("subscribe".into()));
    script.send(SUBSCRIBE).unwrap();
    script.session.close();
    let id = script.asked[0].0;
    let sent = script.with(|session, cx| session.handle_outcome(cx, id, answer())).unwrap();
    assert_eq!(json(&sent), "");
    assert_eq!(script.effects, Vec::<String>::new(), "neither presence nor leave");
}

/// What the application makes of a publication is what is published, with the client's information; its refusal keeps
/// the publication from the engine. It is asked after the format is checked.
///
/// Spec: centrifugal.dev, "Proxy events from clients to the backend", publish
#[test]
fn the_application_judges_publications() {
    let answered = |answer| -> (Result<String, Disconnect>, Option<(NewPublication, PublishOptions)>) {
        let mut script = hooked(|options| {
            options.publish_hook = Some("publish".into());
            options.publish = CallRights::default();
            options.delta_publish = true;
        });
        script.answers.push_back(Outcome::PublishAnswered(answer));
        let command = Encoding::Json.decode_command(PUBLISH.as_bytes()).unwrap();
        let cx = Context { now: script.now, rules: &script.rules, patches: &script.patches };
        script.session.handle_command(&cx, command).unwrap();
        let Some(Output::Effect(id, Effect::Ask { question, .. })) = script.session.poll_output() else {
            panic!("it is asked")
        };
        assert!(matches!(*question, Question::Publish { .. }));
        let outcome = script.answers.pop_front().unwrap();
        if let Err(disconnect) = script.session.handle_outcome(&cx, id, outcome) {
            return (Err(disconnect), None);
        }
        let published = match script.session.outputs.front() {
            Some(Output::Effect(_, Effect::Publish { publication, options, .. })) => {
                Some((publication.clone(), options.clone()))
            }
            _ => None,
        };
        (script.settle().map(|sent| json(&sent)), published)
    };
    let (sent, published) = answered(Ok(Box::default()));
    assert_eq!(sent.unwrap(), r#"{"id":2,"publish":{}}"#);
    let (publication, options) = published.unwrap();
    assert_eq!(publication.data, Payload::json("1"));
    assert_eq!(publication.info.as_ref().map(|info| &*info.user), Some("42"));
    assert!(options.history.is_some() && !options.delta, "delta is the application's to choose");
    let grant = PublishGrant {
        data: Some(Payload::json("2")),
        skip_history: true,
        tags: [("k".into(), "v".into())].into(),
        idempotency_key: "i".into(),
        delta: true,
        version: 3,
        version_epoch: "e".into(),
    };
    let (publication, options) = answered(Ok(Box::new(grant))).1.unwrap();
    assert_eq!((publication.data, publication.tags.len()), (Payload::json("2"), 1));
    assert!(options.history.is_none() && options.delta);
    assert_eq!((&*options.idempotency_key, options.version, &*options.version_epoch), ("i", 3, "e"));
    let (sent, published) = answered(Err(error(1000)));
    assert!(sent.unwrap().contains(r#""code":1000"#) && published.is_none());
    assert_eq!(answered(Err(HookRefusal::Disconnect(go_away()))).0.err(), Some(go_away()));
    let mut script = hooked(|options| options.publish_hook = Some("publish".into()));
    assert!(json(&script.send(r#"{"id":2,"publish":{"channel":"c"}}"#).unwrap()).contains(r#""code":107"#));
    assert!(script.asked.is_empty());
}

/// Methods go where their namespace says; the built-in ping is answered without asking.
///
/// Spec: centrifugal.dev, "Proxy events from clients to the backend", RPC
#[test]
fn methods_are_the_applications() {
    let mut script = Script::connected(|rules| {
        rules.rpc = crate::rules::RpcRules {
            ping: Some("ping".into()),
            namespace_boundary: ":".into(),
            without_namespace: Some("plain".into()),
            namespaces: vec![("math".into(), Some("math".into())), ("none".into(), None)],
        };
    });
    let mut rpc = |method: &str, answer| {
        script.answers.clear();
        script.answers.push_back(Outcome::RpcAnswered(answer));
        let sent = script.send(&format!(r#"{{"id":2,"rpc":{{"method":"{method}","data":1}}}}"#));
        (sent.map(|sent| json(&sent)), script.asked.pop().map(|Asked(_, hook, ..)| hook))
    };
    let three = || Ok(Payload::json("3"));
    let answered = |hook: &str| (Ok(r#"{"id":2,"rpc":{"data":3}}"#.to_owned()), Some(hook.into()));
    assert_eq!(rpc("sum", three()), answered("plain"));
    assert_eq!(rpc("", three()), answered("plain"));
    assert_eq!(rpc("math:sum", three()), answered("math"));
    assert_eq!(rpc("ping", three()), (Ok(r#"{"id":2,"rpc":{}}"#.to_owned()), None));
    for (method, code) in [("nosuch:sum", 104), ("none:sum", 108)] {
        let (sent, hook) = rpc(method, three());
        assert!(sent.unwrap().contains(&format!(r#""code":{code},"#)) && hook.is_none(), "{method}");
    }
    assert!(rpc("sum", Err(error(1000))).0.unwrap().contains(r#""code":1000"#));
    assert_eq!(rpc("sum", Err(HookRefusal::Disconnect(go_away()))).0.err(), Some(go_away()));
    let mut without = Script::connected(|rules| rules.rpc.ping = Some("ping".into()));
    assert!(json(&without.send(r#"{"id":2,"rpc":{"method":"m"}}"#).unwrap()).contains(r#""code":104"#));
}

/// The application is asked about a subscription at the tick after its expiry, once; the client is told nothing unless
/// it ends. An answer for a subscription that is gone is not one for its successor.
///
/// Spec: centrifugal.dev, "Proxy events from clients to the backend", sub refresh
#[test]
fn the_application_prolongs_a_subscription() {
    let now = START as i64 / 1000;
    let expired = || {
        let mut script = hooked(|options| {
            options.subscribe_hook = Some("subscribe".into());
            options.sub_refresh_hook = Some("sub_refresh".into());
        });
        let grant = SubscribeGrant { expire_at: now + 10, ..SubscribeGrant::default() };
        script.answers.push_back(Outcome::SubscribeAnswered(Ok(Box::new(grant))));
        assert_eq!(json(&script.send(SUBSCRIBE).unwrap()), r#"{"id":2,"subscribe":{}} activate "#);
        script.asked.clear();
        script.pass(Duration::from_millis(13_500)).unwrap();
        let Asked(id, hook, _, question) = script.asked.pop().unwrap();
        assert!(
            &*hook == "sub_refresh"
                && matches!(&*question, Question::SubRefresh { channel } if **channel == *"c")
        );
        script.pass(Duration::from_secs(27)).unwrap();
        assert!(script.asked.is_empty(), "once");
        (script, id)
    };
    let answer = |script: &mut Script, id, answer| {
        let outcome = Outcome::SubRefreshAnswered { channel: ChannelName::new("c"), answer };
        json(&script.with(|session, cx| session.handle_outcome(cx, id, outcome)).unwrap())
    };
    let prolonged = |expire_at| {
        Some(Refreshed::Prolonged(Box::new(Prolongation { expire_at, ..Prolongation::default() })))
    };
    let unsubscribed =
        r#"{"push":{"channel":"c","unsubscribe":{"code":2501,"reason":"subscription expired"}}}"#;
    let (mut script, id) = expired();
    assert_eq!(answer(&mut script, id, Some(Refreshed::Expired)), unsubscribed);
    assert!(!script.session.is_subscribed("c"));
    let (mut script, id) = expired();
    assert_eq!(answer(&mut script, id, prolonged(now)), unsubscribed);
    let (mut script, id) = expired();
    assert_eq!(answer(&mut script, id, prolonged(0)), "");
    script.pass(Duration::from_secs(1000)).unwrap();
    assert!(script.asked.is_empty() && script.session.is_subscribed("c"), "never again");
    let (mut script, id) = expired();
    assert_eq!(answer(&mut script, id, None), "");
    script.pass(Duration::from_secs(27)).unwrap();
    assert!(script.asked.is_empty(), "a minute has not passed");
    script.pass(Duration::from_secs(54)).unwrap();
    assert_eq!(script.asked.len(), 1);

    let (mut script, id) = expired();
    script.send(r#"{"id":3,"unsubscribe":{"channel":"c"}}"#).unwrap();
    script.answers.push_back(Outcome::SubscribeAnswered(Ok(Box::default())));
    script.send(SUBSCRIBE).unwrap();
    assert_eq!(answer(&mut script, id, Some(Refreshed::Expired)), "");
    assert!(script.session.is_subscribed("c"));
    let own = script.send(r#"{"id":3,"sub_refresh":{"channel":"c","token":"t"}}"#);
    assert_eq!(own.err(), Some(Disconnect::BAD_REQUEST));
}

/// A server-side subscription that the application lets end ends the connection.
#[test]
fn a_server_side_subscription_ends_with_its_connection() {
    let mut script = hooked(|options| options.sub_refresh_hook = Some("sub_refresh".into()));
    let request = ServerSubscribe { expire_at: Some(START as i64 / 1000 + 1), ..ServerSubscribe::default() };
    let channel = ChannelName::new("c");
    script.with(|session, cx| session.handle_server_subscribe(cx, &channel, request)).unwrap();
    script.answers.push_back(Outcome::SubRefreshAnswered { channel, answer: Some(Refreshed::Expired) });
    assert_eq!(script.pass(Duration::from_millis(13_500)).err(), Some(Disconnect::SUBSCRIPTION_EXPIRED));
}

/// With `client.concurrency` commands wait side by side, each finds its own answer, and the session is busy once there are
/// as many as may be. A channel on its way counts as one, and is taken; an unsubscribe waits for it.
#[test]
fn commands_wait_side_by_side() {
    let mut script = Script::connected(|rules| {
        rules.limits.ping_interval = Duration::ZERO;
        rules.limits.concurrency = 3;
        rules.limits.channel_limit = 2;
        let options = Arc::make_mut(&mut rules.namespaces.without_namespace);
        options.subscribe_hook = Some("subscribe".into());
        options.publish_hook = Some("publish".into());
    });
    let subscribed = || Outcome::SubscribeAnswered(Ok(Box::default()));
    let send = |script: &mut Script, command: &str| json(&script.send(command).unwrap());
    let answer = |script: &mut Script, at: usize, answer: Outcome| {
        let id = script.asked[at].0;
        json(&script.with(|session, cx| session.handle_outcome(cx, id, answer)).unwrap())
    };
    assert_eq!(send(&mut script, SUBSCRIBE), "");
    assert_eq!(send(&mut script, r#"{"id":3,"subscribe":{"channel":"d"}}"#), "");
    assert!(!script.session.is_busy(&script.rules.limits));
    let taken = send(&mut script, r#"{"id":4,"subscribe":{"channel":"c"}}"#);
    assert!(taken.contains(r#""code":105"#), "{taken}");
    let too_many = send(&mut script, r#"{"id":5,"subscribe":{"channel":"e"}}"#);
    assert!(too_many.contains(r#""code":106"#), "{too_many}");
    assert_eq!(send(&mut script, PUBLISH.replace(":2,", ":6,").as_str()), "");
    assert!(script.session.is_busy(&script.rules.limits), "three wait");
    assert_eq!(answer(&mut script, 1, subscribed()), r#"{"id":3,"subscribe":{}} activate "#);
    let published = answer(&mut script, 2, Outcome::PublishAnswered(Ok(Box::default())));
    assert_eq!(published, r#"{"id":6,"publish":{}}"#);

    assert_eq!(send(&mut script, r#"{"id":7,"unsubscribe":{"channel":"c"}}"#), "");
    assert!(script.session.is_busy(&script.rules.limits), "what follows an unsubscribe waits for it");
    let both = answer(&mut script, 0, subscribed());
    assert_eq!(both, r#"{"id":2,"subscribe":{}} activate {"id":7,"unsubscribe":{}}"#);
    assert!(!script.session.is_busy(&script.rules.limits) && !script.session.is_subscribed("c"));
    assert!(script.session.is_subscribed("d"));
}

/// A subscription that the application ends while it is being made leaves nobody waiting.
#[test]
fn a_subscription_ended_while_it_is_made_is_not_waited_for() {
    let mut script = Script::connected(|rules| rules.limits.ping_interval = Duration::ZERO);
    let command = Encoding::Json.decode_command(SUBSCRIBE.as_bytes()).unwrap();
    let now = script.now;
    script
        .session
        .handle_command(&Context { now, rules: &script.rules, patches: &script.patches }, command)
        .unwrap();
    let Some(Output::Effect(id, Effect::Subscribe { channel, .. })) = script.session.poll_output() else {
        panic!("a subscribe comes first");
    };
    script.session.handle_server_unsubscribe(Some(&channel), &Unsubscribe::INSUFFICIENT_STATE);
    let result = Ok(Subscribed { history: None, is_continuous: true, channel_id: 7 });
    let outcome = Outcome::Subscribed { channel, result };
    script.with(|session, cx| session.handle_outcome(cx, id, outcome)).unwrap();
    assert!(!script.session.is_busy(&script.rules.limits));
}

/// The latest publication of a channel in cache mode comes with a server-side subscription where the application wants
/// it to, although the client did not ask; in other modes that wish means nothing.
///
/// Spec: centrifugo `internal/proxyproto/proxy.proto`, SubscribeOptions.cache_recover
#[test]
fn the_application_lets_the_latest_publication_come() {
    let subs_of = |cache_recover, recovery_mode| {
        let mut answer = grant(None);
        let grant = SubscriptionGrant { cache_recover, ..SubscriptionGrant::default() };
        answer.claims.subs = vec![ServerSubscription { channel: "c".into(), grant }];
        let mut script = Script::new(|rules| {
            rules.hooks.connect = Some("connect".into());
            let options = Arc::make_mut(&mut rules.namespaces.without_namespace);
            (options.force_recovery, options.recovery_mode) = (true, recovery_mode);
        });
        let latest = Publication { data: Payload::json("9"), offset: 5, ..Publication::default() };
        let top = StreamPosition { offset: 5, epoch: Epoch::new("e") };
        script.history = Ok(History { publications: vec![Arc::new(latest)], top });
        script.answers.push_back(Outcome::ConnectAnswered(Ok(Some(Box::new(answer)))));
        json(&script.send(r#"{"id":1,"connect":{}}"#).unwrap())
    };
    let wanted = subs_of(true, RecoveryMode::Cache);
    assert!(wanted.contains(r#""publications":[{"data":9,"offset":5}]"#), "{wanted}");
    for other in [subs_of(false, RecoveryMode::Cache), subs_of(true, RecoveryMode::Stream)] {
        assert!(!other.contains("publications"), "{other}");
    }
}
