//! Subscriptions of maps and shared polls.

use gyre_protocol::Payload;

use super::*;
use crate::{
    channel::{
        ClientKey, MapOptions, MapRetention, MapStorage, PageSizes, SharedPollOptions, SubscriptionKind,
        Versions,
    },
    delta::apply::apply,
    hub::Delta,
};

const CATCH_UP_TIMEOUT: Duration = Duration::from_secs(5);

fn map(retention: MapRetention) -> MapOptions {
    MapOptions {
        storage: MapStorage::by_key(retention),
        publish: CallRights { client: false, subscriber: true, anonymous: false },
        remove: CallRights::default(),
        publish_hook: None,
        remove_hook: None,
        client_key: ClientKey::Given,
        remove_client_on_unsubscribe: false,
        pages: PageSizes { default: 2, min: 1, max: 10 },
        live_publications_max: 2,
        catch_up_timeout: Some(CATCH_UP_TIMEOUT),
    }
}

/// A connected session with namespaces of maps and polls, and presence maps for the channels without one.
fn connected() -> Script {
    let mut script = Script::connected(|rules| {
        rules.limits.ping_interval = Duration::ZERO;
        let stream = HistoryOptions {
            size: NonZeroUsize::new(10).unwrap(),
            ttl: Duration::from_secs(60),
            meta_ttl: Duration::from_secs(600),
        };
        let key_ttl = Duration::from_secs(60);
        let subscribe = SubscribeRights { client: true, anonymous: true };
        let of = |kind, retention| {
            let map = Some(map(retention));
            Arc::new(ChannelOptions { kind, map, subscribe, ..ChannelOptions::default() })
        };
        let poll = SharedPollOptions {
            backend: "b".into(),
            refresh_interval: Duration::from_secs(10),
            batch_keys_max: 10,
            keys_max: 2,
            versions: Versions::Backend,
            shutdown_delay: Duration::from_secs(1),
            expired_extra_delay: Duration::from_secs(25),
            publish_enabled: false,
            delta: true,
        };
        let (kind, shared_poll) = (SubscriptionKind::SharedPoll, Some(Arc::new(poll)));
        let poll = Arc::new(ChannelOptions { kind, shared_poll, subscribe, ..ChannelOptions::default() });
        let ephemeral = MapRetention::Ephemeral { key_ttl };
        let named = &mut rules.namespaces.named;
        named.insert("m".into(), of(SubscriptionKind::Map, MapRetention::Recoverable { key_ttl, stream }));
        let mut with_delta =
            (*of(SubscriptionKind::Map, MapRetention::Recoverable { key_ttl, stream })).clone();
        with_delta.allow_delta_fossil = true;
        named.insert("d".into(), Arc::new(with_delta));
        let mut with_delta = (*of(SubscriptionKind::Map, ephemeral)).clone();
        with_delta.allow_delta_fossil = true;
        named.insert("e".into(), Arc::new(with_delta));
        named.insert("clients".into(), of(SubscriptionKind::MapClients, ephemeral));
        named.insert("users".into(), of(SubscriptionKind::MapUsers, ephemeral));
        named.insert("p".into(), poll);
        let without = ChannelOptions {
            subscribe,
            clients_presence_prefix: "clients:".into(),
            users_presence_prefix: "users:".into(),
            ..ChannelOptions::default()
        };
        rules.namespaces.without_namespace = Arc::new(without);
        rules.limits.channel_limit = 2;
    });
    script.map_state = MapState {
        entries: vec![publication(1), publication(7)],
        position: StreamPosition { offset: 5, epoch: Epoch::new("e") },
        cursor: "c".into(),
    };
    script
}

fn start(channel: &str) -> String {
    format!(r#"{{"id":2,"subscribe":{{"channel":"{channel}","type":1,"phase":2}}}}"#)
}

fn next(phase: u8, cursor: &str, offset: u64, epoch: &str) -> String {
    format!(
        r#"{{"id":3,"subscribe":{{"channel":"m:a","type":1,"phase":{phase},"cursor":"{cursor}","offset":{offset},"epoch":"{epoch}"}}}}"#
    )
}

/// Pages leave out what is newer than the first one's position; the last one goes live if little has happened since, and
/// the gate opens behind what the reply holds.
#[test]
fn a_map_is_read_and_followed() {
    let mut script = connected();
    let sent = json(&script.send(&start("m:a")).unwrap());
    assert!(sent.contains(r#""epoch":"e","offset":5,"type":1,"phase":2,"cursor":"c","state":[{"#), "{sent}");
    assert!(sent.contains(r#""offset":1}"#) && !sent.contains(r#""offset":7"#), "{sent}");
    assert!(!script.session.is_subscribed("m:a"));
    script.map_state.cursor = Box::default();
    script.map_state.position.offset = 7;
    let top = StreamPosition { offset: 7, epoch: Epoch::new("e") };
    script.history = Ok(History { publications: vec![publication(6), publication(7)], top });
    let sent = script.send(&next(2, "c", 5, "e")).unwrap();
    let position = sent.iter().find_map(|output| match output {
        Output::Activate { activation, .. } => activation.position.clone(),
        _ => None,
    });
    assert_eq!(position.map(|position| position.offset), Some(7));
    let sent = json(&sent);
    assert!(sent.contains(r#""recoverable":true,"epoch":"e","publications":[{"#), "{sent}");
    assert!(sent.contains(r#""offset":7,"type":1,"state""#) && !sent.contains("phase"), "{sent}");
    assert!(script.session.is_subscribed("m:a"));
}

/// What cannot be continued is refused, forgotten, and can be begun again; what counts as a subscription counts early.
#[test]
fn a_catch_up_is_continued_or_over() {
    let code = |sent: &[Output], code: u32| {
        let sent = json(sent);
        assert!(sent.contains(&format!(r#""code":{code},"#)), "{code}: {sent}");
    };
    let mut script = connected();
    code(&script.send(&next(2, "c", 5, "e")).unwrap(), 103);
    code(&script.send(&next(1, "", 5, "e")).unwrap(), 103);
    code(&script.send(&next(7, "", 5, "e")).unwrap(), 107);
    script.send(&start("m:a")).unwrap();
    code(&script.send(&start("m:a")).unwrap(), 105);
    script.send(&start("m:b")).unwrap();
    code(&script.send(&start("m:c")).unwrap(), 106);
    code(&script.send(&next(7, "", 5, "e")).unwrap(), 107);
    code(&script.send(&next(2, "c", 5, "other")).unwrap(), 112);
    assert_eq!(script.effects, ["Unsubscribe"]);
    script.send(&start("m:a")).unwrap();

    // Three changes have been missed, and two may be.
    script.map_state.cursor = Box::default();
    let publications = vec![publication(6), publication(7), publication(8)];
    let top = StreamPosition { offset: 8, epoch: Epoch::new("e") };
    script.history = Ok(History { publications, top: top.clone() });
    code(&script.send(&next(2, "c", 5, "e")).unwrap(), 112);
    script.map_state.cursor = "c".into();
    script.send(&start("m:a")).unwrap();
    script.history = Ok(History { publications: vec![publication(7), publication(8)], top });
    code(&script.send(&next(1, "", 5, "e")).unwrap(), 112);
    script.history = Err(EngineError::UnrecoverablePosition);
    let recover =
        r#"{"id":2,"subscribe":{"channel":"m:a","type":1,"phase":1,"recover":true,"offset":5,"epoch":"x"}}"#;
    code(&script.send(recover).unwrap(), 112);
    assert_eq!(script.session.subscription_count(), 1);
}

/// Who takes longer than the catch-up may is closed at its next request; who never comes back is forgotten by the tick, or
/// when another map is asked for.
#[test]
fn catch_ups_end_in_time() {
    let mut script = connected();
    script.send(&start("m:a")).unwrap();
    script.pass(CATCH_UP_TIMEOUT).unwrap();
    script.send(&next(2, "c", 5, "e")).unwrap();
    script.pass(Duration::from_millis(1)).unwrap();
    assert_eq!(script.send(&next(2, "c", 5, "e")).err(), Some(Disconnect::SLOW));

    let mut script = connected();
    script.send(&start("m:a")).unwrap();
    script.pass(CATCH_UP_TIMEOUT + Duration::from_millis(1)).unwrap();
    script.send(&start("m:b")).unwrap();
    assert_eq!(script.effects, ["Unsubscribe"]);
    script.pass(Duration::from_secs(27)).unwrap();
    assert_eq!(script.effects, ["Unsubscribe"; 2]);
    assert_eq!(script.session.subscription_count(), 0);
    assert_eq!(script.session.poll_timeout().map(|at| at > script.now.instant), Some(true));
    script.pass(Duration::from_secs(27)).unwrap();
    assert_eq!(script.session.poll_timeout(), None, "nothing is left to be looked at");
}

/// An unsubscribe ends a catch-up at once, and so does the application, even while the engine is being asked: then the
/// command is answered and what was done is undone.
#[test]
fn a_catch_up_can_be_cancelled() {
    let mut script = connected();
    script.send(&start("m:a")).unwrap();
    let sent = json(&script.send(r#"{"id":9,"unsubscribe":{"channel":"m:a"}}"#).unwrap());
    assert_eq!(sent, r#"{"id":9,"unsubscribe":{}}"#);
    assert_eq!((script.session.subscription_count(), &*script.effects), (0, &["Unsubscribe".to_owned()][..]));

    let command = start("m:a");
    let command = Encoding::Json.decode_command(command.as_bytes()).unwrap();
    let cx = Context { now: script.now, rules: &script.rules, patches: &script.patches };
    script.session.handle_command(&cx, command).unwrap();
    let Some(Output::Effect(id, Effect::ReadMapState { .. })) = script.session.poll_output() else {
        panic!()
    };
    script.session.handle_server_unsubscribe(None, &Unsubscribe::SERVER);
    script.settle().unwrap();
    script.effects.clear();
    let state = Outcome::MapState(Ok(script.map_state.clone()));
    let sent = script.with(|session, cx| session.handle_outcome(cx, id, state)).unwrap();
    assert!(json(&sent).contains(r#"{"id":2,"error":{"code":100,"#));
    assert_eq!(script.effects, ["Unsubscribe"]);
    assert!(!script.session.is_busy(&script.rules.limits));
}

/// What the only reply says, and how the subscription goes on if it is live.
fn followed(sent: &[Output]) -> (serde_json::Value, Option<&Delta>) {
    let reply = sent.iter().find(|output| matches!(output, Output::Reply(_))).unwrap();
    let reply: serde_json::Value = serde_json::from_str(&json(std::slice::from_ref(reply))).unwrap();
    let delta = sent.iter().find_map(|output| match output {
        Output::Activate { activation, .. } => Some(&activation.delta),
        _ => None,
    });
    (reply["subscribe"].clone(), delta)
}

/// With delta the data of every page is text, and what was missed is a chain for each key. Who comes back is told of from
/// where on it has been sent keys; where there are no positions patches begin later, and without the state not at all.
/// Without the right to it there is no delta.
#[test]
fn maps_are_followed_by_patches() {
    let change = |key: &str, offset: u64| {
        let data =
            Payload::json(format!("{{\"text\":\"some quite long and constant text\",\"n\":{offset}}}"));
        Arc::new(Publication { key: key.into(), data, offset, ..Publication::default() })
    };
    let ask = |channel: &str, rest: &str| {
        format!(r#"{{"id":2,"subscribe":{{"channel":"{channel}","type":1,"delta":"fossil",{rest}}}}}"#)
    };
    let top = StreamPosition { offset: 7, epoch: Epoch::new("e") };
    let missed = History { publications: vec![change("a", 6), change("a", 7)], top: top.clone() };
    let map_state = MapState {
        entries: vec![change("a", 1), change("b", 2)],
        position: StreamPosition { offset: 5, ..top },
        cursor: "c".into(),
    };

    let mut script = connected();
    (script.map_state, script.history) = (map_state.clone(), Ok(missed.clone()));
    let sent = script.send(&ask("d:a", r#""phase":2"#)).unwrap();
    let (page, live) = followed(&sent);
    assert!(live.is_none() && page["delta"] == true && page["cursor"] == "c", "{page}");
    assert!(page["state"].as_array().unwrap().iter().all(|entry| entry["data"].is_string()), "{page}");
    script.map_state.cursor = Box::default();
    let sent = script.send(&ask("d:a", r#""phase":2,"cursor":"c","offset":5,"epoch":"e""#)).unwrap();
    let (result, live) = followed(&sent);
    assert!(matches!(live, Some(Delta::Keys { since: 0 })), "{live:?}");
    assert_eq!(result["delta"], true);
    let chain = &result["publications"];
    assert_eq!((&chain[0]["delta"], &chain[1]["delta"]), (&serde_json::Value::Null, &true.into()), "{chain}");
    let held =
        apply(chain[0]["data"].as_str().unwrap().as_bytes(), chain[1]["data"].as_str().unwrap().as_bytes());
    assert_eq!(&held.unwrap()[..], change("a", 7).data.bytes());

    let live_of = |channel: &str, rest: &str| {
        let mut script = connected();
        (script.map_state, script.history) = (map_state.clone(), Ok(missed.clone()));
        script.map_state.cursor = Box::default();
        let sent = script.send(&ask(channel, rest)).unwrap();
        let (result, live) = followed(&sent);
        (format!("{:?}", live.unwrap()), result["delta"] == true)
    };
    let comes_back = r#""phase":1,"recover":true,"offset":5,"epoch":"e""#;
    assert_eq!(live_of("d:a", comes_back), ("Keys { since: 5 }".into(), true));
    assert_eq!(live_of("e:a", r#""phase":2"#), ("KeysLater".into(), true));
    assert_eq!(live_of("e:a", r#""phase":0"#), ("Off".into(), false));
    assert_eq!(live_of("m:a", r#""phase":2"#), ("Off".into(), false));
}

/// A shared poll says whether it has delta, and its keys are tracked so.
#[test]
fn polls_may_have_delta() {
    for (wish, told) in [(r#","delta":"fossil""#, r#""delta":true,"#), ("", "")] {
        let mut script = connected();
        script.track = Ok(vec![None]);
        let sent = json(
            &script.send(&format!(r#"{{"id":2,"subscribe":{{"channel":"p:a","type":4{wish}}}}}"#)).unwrap(),
        );
        assert_eq!(sent, format!(r#"{{"id":2,"subscribe":{{"epoch":"e",{told}"type":4}}}}"#));
        let command = track(&["a"]);
        let command = Encoding::Json.decode_command(command.as_bytes()).unwrap();
        let cx = Context { now: script.now, rules: &script.rules, patches: &script.patches };
        script.session.handle_command(&cx, command).unwrap();
        let Some(Output::Effect(id, Effect::VerifyTrack { .. })) = script.session.poll_output() else {
            panic!()
        };
        script.session.handle_outcome(&cx, id, Outcome::TrackVerified(Ok(vec![None]))).unwrap();
        let effect = std::iter::from_fn(|| script.session.poll_output()).find_map(|output| match output {
            Output::Effect(_, Effect::Track { delta, .. }) => Some(delta),
            _ => None,
        });
        assert_eq!(effect, Some(!wish.is_empty()));
    }
}

/// Subscribers of a map may change it where they have the right; nothing is asked of the engine without.
#[test]
fn changes_need_rights_and_a_key() {
    let mut script = connected();
    let publish = |script: &mut Script, request: &str| {
        json(
            &script.send(&format!(r#"{{"id":5,"publish":{{"channel":"m:a","type":1,{request}}}}}"#)).unwrap(),
        )
    };
    assert!(publish(&mut script, r#""key":"k","data":1"#).contains(r#""code":103"#));
    script.map_state.cursor = Box::default();
    script.send(&start("m:a")).unwrap();
    assert_eq!(publish(&mut script, r#""key":"k","data":1"#), r#"{"id":5,"publish":{}}"#);
    assert!(publish(&mut script, r#""data":1"#).contains(r#""code":107"#));
    let long = format!(r#""key":"{}","data":1"#, "k".repeat(1025));
    assert!(publish(&mut script, &long).contains(r#""code":107"#));
    assert!(publish(&mut script, r#""key":"k","removed":true"#).contains(r#""code":103"#));
}

/// A subscriber is entered into the maps of who is there after the reply, kept alive by the tick, and its client key is
/// taken out when it leaves.
#[test]
fn presence_is_kept_as_maps() {
    let mut script = connected();
    script.send(SUBSCRIBE).unwrap();
    assert_eq!(script.effects, ["EnterMap", "EnterMap"]);
    script.pass(Duration::from_secs(27)).unwrap();
    assert_eq!(script.effects, ["EnterMap"; 4]);
    script.effects.clear();
    script.session.close();
    script.settle().unwrap();
    assert_eq!(script.effects, ["LeaveMap", "Unsubscribe"]);
}

fn track(keys: &[&str]) -> String {
    let items: Vec<_> = keys.iter().map(|key| format!(r#"{{"key":"{key}"}}"#)).collect();
    let items = items.join(",");
    format!(
        r#"{{"id":4,"sub_refresh":{{"channel":"p:a","type":1,"track":[{{"signature":"s","items":[{items}]}}]}}}}"#
    )
}

/// Keys are tracked after the reply, up to the limit, until they are untracked, are no more, or their signature has
/// expired; whatever is left is given back with the subscription.
#[test]
fn keys_are_tracked_under_signatures() {
    let mut script = connected();
    assert!(json(&script.send(&track(&["a"])).unwrap()).contains(r#""code":103"#), "not subscribed");
    let subscribe = r#"{"id":2,"subscribe":{"channel":"p:a","type":4}}"#;
    let sent = json(&script.send(subscribe).unwrap());
    assert_eq!(sent, r#"{"id":2,"subscribe":{"epoch":"e","type":4}}"#);
    assert!(json(&script.send(&track(&["a"])).unwrap()).contains(r#""code":109"#), "expired");
    script.track = Err(TokenError::Invalid { reason: String::new() });
    assert!(json(&script.send(&track(&["a"])).unwrap()).contains(r#""code":103"#));
    script.track = Ok(vec![Some(START as i64 / 1000 + 60)]);
    let sent = json(&script.send(&track(&["a", "b"])).unwrap());
    assert_eq!(sent, r#"{"id":4,"sub_refresh":{"expires":true,"ttl":60}}"#);
    assert_eq!(script.effects, ["Track"]);
    assert!(json(&script.send(&track(&["c"])).unwrap()).contains(r#""code":106"#));
    script.session.handle_removed_key(&ChannelName::new("p:a"), "a");
    script.track = Ok(vec![None]);
    assert_eq!(json(&script.send(&track(&["c"])).unwrap()), r#"{"id":4,"sub_refresh":{}}"#);
    assert!(json(&script.send(&track(&[])).unwrap()).contains(r#""code":107"#));

    script.effects.clear();
    script.pass(Duration::from_secs(60 + 25)).unwrap();
    assert!(script.effects.is_empty(), "the grace has not passed");
    script.pass(Duration::from_secs(27)).unwrap();
    assert_eq!(script.effects, ["Untrack"], "b");
    let untrack = r#"{"id":6,"sub_refresh":{"channel":"p:a","type":2,"untrack":["x"]}}"#;
    assert_eq!(json(&script.send(untrack).unwrap()), r#"{"id":6,"sub_refresh":{}}"#);
    assert_eq!(script.effects, ["Untrack"], "x was not tracked");
    script.effects.clear();
    script.send(r#"{"id":9,"unsubscribe":{"channel":"p:a"}}"#).unwrap();
    assert_eq!(script.effects, ["Untrack", "Unsubscribe"], "c");
}
