//! Conversations of subscriptions that are fed by streams of the application's.

use gyre_protocol::Payload;

use super::*;
use crate::{
    channel::StreamHook,
    ports::{HookRefusal, StreamEnd, SubscribeGrant},
};

const PUBLISH: &str = r#"{"id":3,"publish":{"channel":"c","data":1}}"#;
const UNSUBSCRIBE: &str = r#"{"id":4,"unsubscribe":{"channel":"c"}}"#;

/// A connected session whose channels have streams.
fn streaming(is_bidirectional: bool) -> Script {
    Script::connected(|rules| {
        rules.limits.ping_interval = Duration::ZERO;
        let options = Arc::make_mut(&mut rules.namespaces.without_namespace);
        options.stream_hook = Some(Box::new(StreamHook { name: "stream".into(), is_bidirectional }));
        options.force_recovery = true;
    })
}

/// Subscribes; the stream's name.
fn subscribe(script: &mut Script) -> EffectId {
    script.answers.push_back(Outcome::StreamOpened(Ok(Box::default())));
    let sent = script.send(SUBSCRIBE).unwrap();
    assert_eq!(json(&sent), r#"{"id":2,"subscribe":{}} activate "#, "neither position nor recovery");
    let Asked(id, hook, _, question) = script.asked.pop().unwrap();
    assert!(matches!(*question, Question::OpenStream(_)) && &*hook == "stream");
    id
}

fn brought(script: &mut Script, stream: EffectId, data: &'static str) -> String {
    let publication = Publication { data: Payload::json(data), ..Publication::default() };
    let channel = ChannelName::new("c");
    json(&script.with(|session, _| session.handle_streamed(stream, &channel, vec![publication])).unwrap())
}

fn ended(script: &mut Script, stream: EffectId, end: StreamEnd) -> String {
    let channel = ChannelName::new("c");
    json(&script.with(|session, _| session.handle_stream_end(stream, &channel, end)).unwrap())
}

/// A stream is read once its subscription is made, and feeds that one only: not the one that came after it.
///
/// Spec: centrifugal.dev, "Proxy subscription streams"
#[test]
fn streams_feed_their_own_subscription() {
    let mut script = streaming(false);
    let first = subscribe(&mut script);
    assert_eq!(std::mem::take(&mut script.effects), ["FollowStream", "Join"]);
    assert_eq!(brought(&mut script, first, "1"), r#"{"push":{"channel":"c","pub":{"data":1}}}"#);
    script.send(UNSUBSCRIBE).unwrap();
    assert_eq!(std::mem::take(&mut script.effects), ["EndStream", "Unsubscribe"]);
    let second = subscribe(&mut script);
    assert_ne!(first, second);
    assert_eq!(brought(&mut script, first, "2"), "");
    assert_eq!(ended(&mut script, first, StreamEnd::Broken), "");
    assert_eq!(brought(&mut script, second, "3"), r#"{"push":{"channel":"c","pub":{"data":3}}}"#);
    assert!(ended(&mut script, second, StreamEnd::Complete).contains(r#""unsubscribe":{"code":2000"#));
    let third = subscribe(&mut script);
    assert!(ended(&mut script, third, StreamEnd::Broken).contains(r#""unsubscribe":{"code":2500"#));
    assert_eq!(ended(&mut script, third, StreamEnd::Broken), "");
}

/// A stream that is opened for nobody is ended: because the session closed meanwhile, because the subscription has
/// expired already. One that was refused is none.
#[test]
fn streams_for_nobody_are_ended() {
    let mut script = streaming(false);
    script.send(SUBSCRIBE).unwrap();
    let id = script.asked.pop().unwrap().0;
    script
        .with(|session, _| {
            session.close();
            Ok(())
        })
        .unwrap();
    assert_eq!(std::mem::take(&mut script.effects), ["EndStream"], "while it is being opened");
    script
        .with(|session, cx| session.handle_outcome(cx, id, Outcome::StreamOpened(Ok(Box::default()))))
        .unwrap();
    assert_eq!(script.effects, ["EndStream"]);

    let mut script = streaming(false);
    let expired = SubscribeGrant { expire_at: 1, ..SubscribeGrant::default() };
    script.answers.push_back(Outcome::StreamOpened(Ok(Box::new(expired))));
    assert!(json(&script.send(SUBSCRIBE).unwrap()).contains(r#""code":110"#));
    assert_eq!(std::mem::take(&mut script.effects), ["EndStream"]);
    let refusal = HookRefusal::Error(ClientError { code: 1000, message: "no".into(), temporary: false });
    script.answers.push_back(Outcome::StreamOpened(Err(refusal)));
    assert!(json(&script.send(SUBSCRIBE).unwrap()).contains(r#""code":1000"#));
    assert_eq!(script.effects, Vec::<String>::new());

    let mut script = streaming(false);
    subscribe(&mut script);
    script.effects.clear();
    script
        .with(|session, _| {
            session.close();
            Ok(())
        })
        .unwrap();
    assert_eq!(script.effects, ["EndStream", "Unsubscribe"]);
}

/// Publications go up a subscriber's stream, if it is bidirectional; nobody else publishes.
#[test]
fn publications_go_up_the_own_stream() {
    let mut script = streaming(false);
    subscribe(&mut script);
    assert!(json(&script.send(PUBLISH).unwrap()).contains(r#""code":108"#));
    let mut script = streaming(true);
    assert!(json(&script.send(PUBLISH).unwrap()).contains(r#""code":103"#), "not subscribed");
    let stream = subscribe(&mut script);
    let command = Encoding::Json.decode_command(PUBLISH.as_bytes()).unwrap();
    let cx = Context { now: script.now, rules: &script.rules, patches: &script.patches };
    script.session.handle_command(&cx, command).unwrap();
    let Some(Output::Effect(id, Effect::PublishToStream { stream: sent, data })) =
        script.session.poll_output()
    else {
        panic!("it goes up")
    };
    assert_eq!((sent, data), (stream, Payload::json("1")));
    let answer = Outcome::Published(Ok(()));
    let sent = script.with(|session, cx| session.handle_outcome(cx, id, answer)).unwrap();
    assert_eq!(json(&sent), r#"{"id":3,"publish":{}}"#);
}
