#![expect(clippy::disallowed_methods, reason = "a test is where time comes from")]

use std::{num::NonZeroUsize, sync::Arc, time::Duration};

use gyre_protocol::{Epoch, Expiry, Publication, StreamPosition, SubscribePush, Unsubscribe};

use super::*;
use crate::{
    channel::{CallRights, ChannelOptions, HistoryOptions, SubscribeRights},
    delta::Patches,
    ports::{
        ConnectionClaims, EngineError, History, MapState, SubscriptionClaims, SubscriptionGrant, TokenError,
    },
    rules::{Now, Rules},
};

mod hooks;
mod keyed;
mod streams;

/// A session, its rules, a clock that moves only when told, and an application that answers every effect as the test
/// wants.
struct Script {
    session: Session,
    rules: Rules,
    patches: Patches,
    now: Now,
    claims: Result<ConnectionClaims, TokenError>,
    subscription: Result<SubscriptionClaims, TokenError>,
    history: Result<History, EngineError>,
    attached: Attached,
    map_state: MapState,
    track: Result<Vec<Option<i64>>, TokenError>,
    /// What the application answers, in turn; where nothing is left it takes its time.
    answers: VecDeque<Outcome>,
    /// What it was asked.
    asked: Vec<Asked>,
    /// Effects that had no answer, by name.
    effects: Vec<String>,
    /// Commands answered with an error, for those who count.
    refused: Vec<(CommandKind, u32)>,
}

/// What the application was asked: which effect and hook, about whom, what.
struct Asked(EffectId, Box<str>, Box<crate::ports::Caller>, Box<Question>);

const START: u64 = 1_700_000_000_000;

impl Script {
    fn new(change: impl FnOnce(&mut Rules)) -> Self {
        Self::of(Direction::Bidirectional, change)
    }

    fn of(direction: Direction, change: impl FnOnce(&mut Rules)) -> Self {
        let mut rules = Rules::default();
        rules.connect.allow_anonymous_without_token = true;
        let options = ChannelOptions {
            subscribe: SubscribeRights { client: true, anonymous: true },
            publish: CallRights { client: true, subscriber: false, anonymous: true },
            history: NonZeroUsize::new(10).map(|size| HistoryOptions {
                size,
                ttl: Duration::from_secs(60),
                meta_ttl: Duration::from_secs(3600),
            }),
            history_call: CallRights { client: true, subscriber: false, anonymous: true },
            allow_recovery: true,
            presence: true,
            join_leave: true,
            ..ChannelOptions::default()
        };
        rules.namespaces.without_namespace = Arc::new(options);
        change(&mut rules);
        let now = Now { instant: Instant::now(), unix_ms: START };
        let session = Session::new(
            &Context { now, rules: &rules, patches: &Patches::default() },
            SessionOptions {
                client: ClientId::from_random([7; 16]),
                encoding: Encoding::Json,
                pings: Pings::Protocol,
                jitter: 0,
                header_user: None,
                direction,
                address: Some(Box::new(SessionAddress { session: "secret".into(), node: "here".into() })),
            },
        );
        let top = StreamPosition { offset: 5, epoch: Epoch::new("e") };
        Self {
            session,
            rules,
            patches: Patches::default(),
            now,
            claims: Ok(ConnectionClaims { user: "42".into(), ..ConnectionClaims::default() }),
            subscription: Err(TokenError::Expired),
            history: Ok(History { publications: Vec::new(), top }),
            attached: Attached::Yes,
            map_state: MapState::default(),
            track: Err(TokenError::Expired),
            answers: VecDeque::new(),
            asked: Vec::new(),
            effects: Vec::new(),
            refused: Vec::new(),
        }
    }

    /// Hands in a command and gives back what the client is sent.
    fn send(&mut self, command: &str) -> Result<Vec<Output>, Disconnect> {
        let command = Encoding::Json.decode_command(command.as_bytes()).unwrap();
        self.session.handle_command(
            &Context { now: self.now, rules: &self.rules, patches: &self.patches },
            command,
        )?;
        self.settle()
    }

    fn with(
        &mut self,
        input: impl FnOnce(&mut Session, &Context<'_>) -> Result<(), Disconnect>,
    ) -> Result<Vec<Output>, Disconnect> {
        input(&mut self.session, &Context { now: self.now, rules: &self.rules, patches: &self.patches })?;
        self.settle()
    }

    fn pass(&mut self, time: Duration) -> Result<Vec<Output>, Disconnect> {
        self.now.instant += time;
        self.now.unix_ms += time.as_millis() as u64;
        self.with(|session, cx| session.handle_timeout(cx))
    }

    /// Answers effects until none is left.
    fn settle(&mut self) -> Result<Vec<Output>, Disconnect> {
        let mut sent = Vec::new();
        while let Some(output) = self.session.poll_output() {
            let (id, effect) = match output {
                Output::Effect(id, effect) => (id, effect),
                Output::Refused { command, code } => {
                    self.refused.push((command, code));
                    continue;
                }
                output => {
                    sent.push(output);
                    continue;
                }
            };
            let name = format!("{effect:?}").split([' ', '{']).next().unwrap_or("").to_owned();
            let outcome = match effect {
                Effect::Ask { hook, caller, question } => {
                    self.asked.push(Asked(id, hook, caller, question));
                    let Some(answer) = self.answers.pop_front() else { continue };
                    answer
                }
                Effect::Authenticate { .. } => Outcome::Authenticated(self.claims.clone().map(Box::new)),
                Effect::Attach { .. } => Outcome::Attached(self.attached),
                Effect::Verify { .. } => Outcome::Verified(self.subscription.clone().map(Box::new)),
                Effect::Subscribe { channel, request } => {
                    let read = request.stream.map(|_| self.history.clone()).transpose();
                    let result =
                        read.map(|history| Subscribed { history, is_continuous: true, channel_id: 7 });
                    Outcome::Subscribed { channel, result }
                }
                Effect::ReadMapState { .. } => Outcome::MapState(Ok(self.map_state.clone())),
                Effect::ReadMapStream { .. } => Outcome::MapStream(self.history.clone()),
                Effect::FollowMap { stream, .. } => {
                    Outcome::MapFollowed(stream.map(|_| self.history.clone()).transpose())
                }
                Effect::JoinPoll { .. } => Outcome::PollJoined(Epoch::new("e")),
                Effect::VerifyTrack { .. } => Outcome::TrackVerified(self.track.clone()),
                Effect::ChangeMap { .. } => Outcome::Published(Ok(())),
                Effect::Publish { .. } => Outcome::Published(Ok(())),
                Effect::History { .. } => Outcome::History(self.history.clone()),
                Effect::Presence { .. } => Outcome::Presence(Ok(Vec::new())),
                Effect::PresenceStats { .. } => Outcome::PresenceStats(Ok(Default::default())),
                _ => {
                    self.effects.push(name);
                    continue;
                }
            };
            self.session.handle_outcome(
                &Context { now: self.now, rules: &self.rules, patches: &self.patches },
                id,
                outcome,
            )?;
        }
        Ok(sent)
    }

    fn connected(change: impl FnOnce(&mut Rules)) -> Self {
        let mut script = Self::new(change);
        let sent = script.send(r#"{"id":1,"connect":{"token":"t"}}"#).unwrap();
        assert!(
            matches!(&sent[..], [Output::Reply(Reply { id: 1, body: ReplyBody::Connect(_) }), ..]),
            "{sent:?}"
        );
        script
    }
}

/// The only message, as JSON.
fn json(sent: &[Output]) -> String {
    let mut out = Vec::new();
    for output in sent {
        match output {
            Output::Reply(reply) => {
                Encoding::Json.encode_reply(reply, &Default::default(), &mut out).unwrap()
            }
            Output::Push(push) => Encoding::Json.encode_push(push, &Default::default(), &mut out).unwrap(),
            Output::Ping => out.extend_from_slice(b"ping"),
            Output::Activate { .. } => out.extend_from_slice(b" activate "),
            other => out.extend_from_slice(format!("{other:?}").as_bytes()),
        }
    }
    String::from_utf8(out).unwrap()
}

fn publication(offset: u64) -> Arc<Publication> {
    Arc::new(Publication { data: gyre_protocol::Payload::json("1"), offset, ..Publication::default() })
}

const SUBSCRIBE: &str = r#"{"id":2,"subscribe":{"channel":"c"}}"#;

/// Before connect nothing else is accepted; connecting twice ends the connection.
#[test]
fn connect_comes_first_and_once() {
    for command in [SUBSCRIBE, "{}", r#"{"connect":{}}"#] {
        assert_eq!(Script::new(|_| {}).send(command).err(), Some(Disconnect::BAD_REQUEST), "{command}");
    }
    let mut script = Script::connected(|_| {});
    assert_eq!(script.send(r#"{"id":2,"connect":{}}"#).err(), Some(Disconnect::BAD_REQUEST));
    let mut refused = Script::new(|rules| rules.connect.allow_anonymous_without_token = false);
    assert_eq!(
        refused.send(r#"{"id":1,"connect":{}}"#).err(),
        Some(Disconnect::BAD_REQUEST),
        "no credentials"
    );
}

/// Each way a token can fail has its outcome; after an error reply nothing else is accepted.
#[test]
fn refused_tokens_have_their_outcomes() {
    let connect = |claims| {
        let mut script = Script::new(|_| {});
        script.claims = claims;
        script.send(r#"{"id":1,"connect":{"token":"t"}}"#).map(|sent| json(&sent))
    };
    let invalid = TokenError::Invalid { reason: String::new() };
    assert_eq!(connect(Err(invalid)).err(), Some(Disconnect::INVALID_TOKEN));
    assert_eq!(connect(Err(TokenError::AnonymousNotAllowed)).err(), Some(Disconnect::PERMISSION_DENIED));
    let expired = connect(Err(TokenError::Expired)).unwrap();
    assert_eq!(expired, r#"{"id":1,"error":{"code":109,"message":"token expired"}}Finish"#);
    let past = ConnectionClaims { expire_at: Some(START as i64 / 1000 - 1), ..ConnectionClaims::default() };
    assert!(connect(Ok(past)).unwrap().contains(r#""code":110"#));

    let mut script = Script::new(|_| {});
    script.claims = Err(TokenError::Expired);
    script.send(r#"{"id":1,"connect":{"token":"t"}}"#).unwrap();
    assert_eq!(script.send(SUBSCRIBE).err(), Some(Disconnect::BAD_REQUEST));
    let mut script = Script::new(|_| {});
    script.attached = Attached::LimitReached;
    assert_eq!(script.send(r#"{"id":1,"connect":{}}"#).err(), Some(Disconnect::CONNECTION_LIMIT));
}

/// Whoever does not connect in time is stale.
#[test]
fn stale_connections_end() {
    let mut script = Script::new(|_| {});
    assert!(script.pass(Duration::from_millis(9_999)).is_ok());
    assert_eq!(script.pass(Duration::from_millis(1)).err(), Some(Disconnect::STALE));
    assert!(Script::connected(|_| {}).pass(Duration::from_secs(11)).is_ok());
}

/// Pings begin in the second half of the first interval; only a pong answers one, once.
#[test]
fn pings_are_answered_by_pongs_only() {
    let mut script = Script::connected(|_| {});
    assert_eq!(script.send("{}").err(), Some(Disconnect::BAD_REQUEST), "a pong before the first ping");
    let mut script = Script::connected(|_| {});
    assert_eq!(script.session.poll_timeout(), Some(script.now.instant + Duration::from_millis(12_500)));
    assert_eq!(json(&script.pass(Duration::from_millis(12_500)).unwrap()), "ping");
    script.send("{}").unwrap();
    assert_eq!(script.send("{}").err(), Some(Disconnect::BAD_REQUEST), "a second pong");
    let mut script = Script::connected(|_| {});
    script.pass(Duration::from_millis(12_500)).unwrap();
    script.send(SUBSCRIBE).unwrap();
    assert_eq!(
        script.pass(Duration::from_secs(8)).err(),
        Some(Disconnect::NO_PONG),
        "other traffic does not count"
    );
    let mut script = Script::connected(|rules| rules.limits.ping_interval = Duration::ZERO);
    assert_eq!(script.session.poll_timeout(), None);
    assert!(script.send("{}").is_err());
}

/// Expiry is told, kept, moved by a refresh and ended by a token without one.
#[test]
fn connections_expire_unless_refreshed() {
    let in_60_s = || {
        Ok(ConnectionClaims {
            user: "42".into(),
            expire_at: Some(START as i64 / 1000 + 60),
            ..ConnectionClaims::default()
        })
    };
    let connect = || {
        let mut script = Script::new(|rules| rules.limits.ping_interval = Duration::ZERO);
        script.claims = in_60_s();
        let sent = json(&script.send(r#"{"id":1,"connect":{"token":"t"}}"#).unwrap());
        assert!(sent.contains(r#""expires":true,"ttl":60"#), "{sent}");
        script
    };
    let mut script = connect();
    assert!(script.pass(Duration::from_millis(84_999)).is_ok());
    assert_eq!(script.pass(Duration::from_millis(1)).err(), Some(Disconnect::EXPIRED));

    let mut script = connect();
    script.claims = Ok(ConnectionClaims { user: "42".into(), ..ConnectionClaims::default() });
    assert_eq!(
        json(&script.send(r#"{"id":7,"refresh":{"token":"t"}}"#).unwrap()),
        r#"{"id":7,"refresh":{}}"#
    );
    assert!(script.pass(Duration::from_secs(1000)).is_ok(), "no expiry any more");

    let refuse = |claims: Result<ConnectionClaims, TokenError>| {
        let mut script = connect();
        script.claims = claims;
        script.send(r#"{"id":7,"refresh":{"token":"t"}}"#).err()
    };
    assert_eq!(refuse(Err(TokenError::Expired)), Some(Disconnect::EXPIRED));
    let other = ConnectionClaims { user: "43".into(), ..ConnectionClaims::default() };
    assert_eq!(refuse(Ok(other)), Some(Disconnect::INVALID_TOKEN));
    let subs = vec![crate::ports::ServerSubscription { channel: "new".into(), ..Default::default() }];
    let changed = ConnectionClaims { user: "42".into(), subs, ..ConnectionClaims::default() };
    assert_eq!(refuse(Ok(changed)), Some(Disconnect::INSUFFICIENT_STATE));
    assert_eq!(connect().send(r#"{"id":7,"refresh":{}}"#).err(), Some(Disconnect::BAD_REQUEST));
}

/// The reply comes before anything of the channel; the join after it.
#[test]
fn a_subscribe_is_answered_then_activated() {
    let mut script = Script::connected(|_| {});
    let sent = json(&script.send(SUBSCRIBE).unwrap());
    assert_eq!(sent, r#"{"id":2,"subscribe":{}} activate "#);
    assert_eq!(script.effects, ["Join"]);
    assert!(script.session.is_subscribed("c"));
    assert!(json(&script.send(SUBSCRIBE).unwrap()).contains(r#""code":105"#), "once a channel");
}

/// What cannot be subscribed, each with its code.
#[test]
fn refused_subscribes_have_their_codes() {
    let subscribe = |request: &str| {
        let mut script = Script::connected(|rules| rules.limits.channel_limit = 1);
        script.send(&format!(r#"{{"id":2,"subscribe":{request}}}"#)).map(|sent| json(&sent))
    };
    let code = |request: &str, code: u32| {
        let sent = subscribe(request).unwrap();
        assert!(sent.contains(&format!(r#""code":{code},"#)), "{request}: {sent}");
    };
    code(r#"{"channel":"no:c"}"#, 102);
    code(r#"{"channel":"$private"}"#, 103);
    code(r#"{"channel":"c","type":1}"#, 103);
    code(r#"{"channel":"c","type":7}"#, 107);
    code(r#"{"channel":"c","type":4}"#, 108);
    code(r#"{"channel":"é"}"#, 107);
    code(&format!(r#"{{"channel":"{}"}}"#, "c".repeat(256)), 107);
    code(r#"{"channel":"c","tf":{"cmp":"ex","key":"a"}}"#, 107);
    code(r#"{"channel":"c","token":"t"}"#, 109);
    assert_eq!(subscribe(r#"{"channel":""}"#).err(), Some(Disconnect::BAD_REQUEST));
    assert_eq!(subscribe(r#"{"channel":"c","delta":"x"}"#).err(), Some(Disconnect::BAD_REQUEST));
    let mut script = Script::connected(|rules| rules.limits.channel_limit = 1);
    script.send(SUBSCRIBE).unwrap();
    let sent = script.send(r#"{"id":3,"subscribe":{"channel":"d"}}"#).unwrap();
    assert!(json(&sent).contains(r#""code":106"#));
}

/// A subscription token is good for its channel, user and client only, and expires at the tick after the grace.
#[test]
fn subscription_tokens_are_bound() {
    let claims = |channel: &str, user: &str| SubscriptionClaims {
        user: user.into(),
        channel: channel.into(),
        expire_at: Some(START as i64 / 1000 + 10),
        ..SubscriptionClaims::default()
    };
    let with = |claims| {
        let mut script = Script::connected(|rules| rules.limits.ping_interval = Duration::ZERO);
        script.subscription = Ok(claims);
        let sent =
            script.send(r#"{"id":2,"subscribe":{"channel":"$c","token":"t"}}"#).map(|sent| json(&sent));
        (script, sent)
    };
    assert_eq!(with(claims("$d", "42")).1.err(), Some(Disconnect::INVALID_TOKEN));
    assert_eq!(with(claims("$c", "43")).1.err(), Some(Disconnect::INVALID_TOKEN));
    let (mut script, sent) = with(claims("$c", "42"));
    assert!(sent.unwrap().contains(r#""expires":true,"ttl":10"#));
    script.subscription = Err(TokenError::Expired);
    let refused = script.send(r#"{"id":3,"sub_refresh":{"channel":"$c","token":"t"}}"#).unwrap();
    assert!(json(&refused).contains(r#""code":110"#), "an expired token does not prolong");
    assert_eq!(json(&script.pass(Duration::from_millis(13_500)).unwrap()), "");
    let sent = json(&script.pass(Duration::from_secs(27)).unwrap());
    assert!(sent.contains(r#""unsubscribe":{"code":2501"#), "{sent}");
    assert!(!script.session.is_subscribed("$c"));
}

/// Every error reply is counted with its command, at once or late.
#[test]
fn errors_are_counted_by_command() {
    let mut script = Script::connected(|rules| rules.limits.channel_limit = 1);
    script.send(SUBSCRIBE).unwrap();
    script.send(r#"{"id":3,"subscribe":{"channel":"d"}}"#).unwrap();
    script.send(r#"{"id":4,"rpc":{"method":"m"}}"#).unwrap();
    script.send(r#"{"id":5,"publish":{"channel":"x:c","data":1}}"#).unwrap();
    script.history = Err(EngineError::UnrecoverablePosition);
    script.send(r#"{"id":6,"history":{"channel":"c"}}"#).unwrap();
    let expected = [
        (CommandKind::Subscribe, 106),
        (CommandKind::Rpc, 108),
        (CommandKind::Publish, 102),
        (CommandKind::History, 112),
    ];
    assert_eq!(script.refused, expected);
}

/// Positions are checked by the tick, but not by every one: the delay has to have passed since the last time.
#[test]
fn positions_are_checked_at_most_so_often() {
    let mut script = Script::connected(|rules| {
        rules.limits.ping_interval = Duration::ZERO;
        rules.limits.presence_update_interval = Duration::from_secs(10);
        rules.limits.channel_position_check_delay = Duration::from_secs(25);
    });
    script.send(r#"{"id":2,"subscribe":{"channel":"c","positioned":true}}"#).unwrap();
    let checks: Vec<usize> = (0..100)
        .map(|_| {
            script.effects.clear();
            script.pass(Duration::from_secs(1)).unwrap();
            script.effects.iter().filter(|effect| *effect == "CheckPosition").count()
        })
        .collect();
    let checked: Vec<usize> = (0..100).filter(|second| checks[*second] > 0).collect();
    assert!(checks.iter().all(|count| *count <= 1));
    assert!(checked[0] >= 24 && checked.windows(2).all(|pair| pair[1] - pair[0] == 30), "{checked:?}");
}

/// Recovery: all of what was missed, or the plain truth that it is not there.
#[test]
fn recovery_is_whole_or_refused() {
    let recover = |offset: u64, publications: Vec<Arc<Publication>>, flag: u8| {
        let mut script = Script::connected(|_| {});
        let top = StreamPosition { offset: 5, epoch: Epoch::new("e") };
        script.history = Ok(History { publications, top });
        let command = format!(
            r#"{{"id":2,"subscribe":{{"channel":"c","recoverable":true,"recover":true,"offset":{offset},"epoch":"e","flag":{flag}}}}}"#
        );
        let sent = script.send(&command).unwrap();
        let position = sent.iter().find_map(|output| match output {
            Output::Activate { activation, .. } => activation.position.clone(),
            _ => None,
        });
        (json(&sent), position.map(|position| position.offset))
    };
    let (sent, position) = recover(3, vec![publication(4), publication(5)], 1);
    assert!(
        sent.contains(r#""recovered":true,"offset":3,"positioned":true,"was_recovering":true"#),
        "{sent}"
    );
    assert_eq!(position, Some(5));
    let (sent, position) = recover(2, vec![publication(4), publication(5)], 1);
    assert!(!sent.contains(r#""recovered""#) && sent.contains(r#""offset":5"#), "{sent}");
    assert_eq!(position, Some(5));
    let (sent, _) = recover(2, vec![], 3);
    assert!(sent.contains(r#""code":112"#), "{sent}");
}

/// A lost position makes a client subscribe again; a server-side subscription ends the connection.
#[test]
fn lost_positions_are_told() {
    let mut script = Script::connected(|_| {});
    script.send(r#"{"id":2,"subscribe":{"channel":"c","recoverable":true}}"#).unwrap();
    let sent = script.with(|session, _| session.handle_lost_position(&ChannelName::new("c"))).unwrap();
    assert!(json(&sent).contains(r#""unsubscribe":{"code":2500"#));
    let mut script = Script::connected(|_| {});
    script
        .with(|session, cx| {
            session.handle_server_subscribe(cx, &ChannelName::new("c"), ServerSubscribe::default())
        })
        .unwrap();
    let lost = script.with(|session, _| session.handle_lost_position(&ChannelName::new("c")));
    assert_eq!(lost.err(), Some(Disconnect::INSUFFICIENT_STATE));
}

/// The application subscribes, unsubscribes and refreshes: each by a push, twice is once.
#[test]
fn the_application_acts_at_run_time() {
    let mut script = Script::connected(|_| {});
    let channel = ChannelName::new("c");
    let grant = SubscriptionGrant { data: gyre_protocol::Payload::json("1"), ..SubscriptionGrant::default() };
    let request = ServerSubscribe { grant, ..ServerSubscribe::default() };
    let sent =
        script.with(|session, cx| session.handle_server_subscribe(cx, &channel, request.clone())).unwrap();
    let data = gyre_protocol::Payload::json("1");
    let push = PushBody::Subscribe(SubscribePush { data, ..SubscribePush::default() });
    assert!(
        matches!(&sent[..], [Output::Push(Push { body, .. }), Output::Activate { .. }] if *body == push),
        "{sent:?}"
    );
    let again =
        script.with(|session, cx| session.handle_server_subscribe(cx, &channel, request.clone())).unwrap();
    assert_eq!(json(&again), "", "already subscribed");
    let sent = script
        .with(|session, _| {
            session.handle_server_unsubscribe(None, &Unsubscribe::SERVER);
            Ok(())
        })
        .unwrap();
    assert_eq!(
        json(&sent),
        r#"{"push":{"channel":"c","unsubscribe":{"code":2000,"reason":"server unsubscribe"}}}"#
    );
    let refresh = ServerRefresh { expire_at: START as i64 / 1000 + 30, ..ServerRefresh::default() };
    let sent = script.with(|session, cx| session.handle_server_refresh(cx, refresh)).unwrap();
    let push = PushBody::Refresh(Expiry { expires: true, ttl: 30 });
    assert!(matches!(&sent[..], [Output::Push(Push { body, .. })] if *body == push), "{sent:?}");
}

/// A closed session gives back everything it holds, once, and ignores what comes later.
#[test]
fn closing_gives_everything_back() {
    let mut script = Script::connected(|_| {});
    script.send(SUBSCRIBE).unwrap();
    script.effects.clear();
    script.session.close();
    script.settle().unwrap();
    assert_eq!(script.effects, ["Unsubscribe"]);
    assert_eq!(json(&script.send(SUBSCRIBE).unwrap()), "");
    assert_eq!(script.session.poll_timeout(), None);
}

/// Publishing and reading ask for rights and good data; nothing here reaches an engine without them.
#[test]
fn calls_ask_for_rights() {
    let mut script = Script::connected(|_| {});
    let mut send = |command: &str| script.send(command).map(|sent| json(&sent));
    assert_eq!(send(r#"{"id":2,"publish":{"channel":"c","data":1}}"#).unwrap(), r#"{"id":2,"publish":{}}"#);
    assert!(send(r#"{"id":2,"publish":{"channel":"c"}}"#).unwrap().contains(r#""code":107"#));
    assert!(send(r#"{"id":2,"presence":{"channel":"c"}}"#).unwrap().contains(r#""code":103"#));
    assert!(
        send(r#"{"id":2,"history":{"channel":"c","reverse":true,"since":{"offset":0}}}"#)
            .unwrap()
            .contains("107")
    );
    assert!(send(r#"{"id":2,"rpc":{"method":"m"}}"#).unwrap().contains(r#""code":108"#));
    assert_eq!(send(r#"{"send":{"data":1}}"#).err(), Some(Disconnect::NOT_AVAILABLE));
    assert_eq!(send(r#"{"id":2}"#).err(), Some(Disconnect::BAD_REQUEST));
}

/// With `single_connection` a connect ends the other connections of its user, but never those of anonymous clients.
/// Spec: configuration, `client.subscribe_to_user_personal_channel`
#[test]
fn a_single_connection_ends_the_others() {
    let ends_others = |user: &str, is_single| {
        let mut script = Script::new(|rules| {
            let namespace = "".into();
            rules.connect.personal_channel = Some(crate::rules::PersonalChannel { namespace, is_single });
        });
        script.claims = Ok(ConnectionClaims { user: user.into(), ..ConnectionClaims::default() });
        script.send(r#"{"id":1,"connect":{"token":"t"}}"#).unwrap();
        script.effects.iter().any(|effect| effect == "EndOthers")
    };
    assert!(ends_others("42", true));
    assert!(!ends_others("42", false) && !ends_others("", true));
}

/// A unidirectional connect is answered by a push that asks for no pongs, and pings need none.
/// Spec: client protocol, "Unidirectional transports"
#[test]
fn unidirectional_connect_is_a_push() {
    let mut script = Script::of(Direction::Unidirectional, |_| {});
    let sent = json(&script.send(r#"{"id":1,"connect":{"token":"t"}}"#).unwrap());
    assert!(sent.starts_with(r#"{"push":{"connect":{"client":""#), "{sent}");
    assert!(sent.ends_with(r#""ping":25,"session":"secret","node":"here"}}}"#), "{sent}");
    assert_eq!(json(&script.pass(Duration::from_secs(25)).unwrap()), "ping");
    assert_eq!(json(&script.pass(Duration::from_secs(20)).unwrap()), "", "no pong is waited for");
}

/// What would be an error reply to a connect ends a unidirectional connection, with the configured code if there is
/// one.
/// Spec: client protocol, "Unidirectional transports"
#[test]
fn unidirectional_connect_errors_are_disconnects() {
    let refused = |claims, change: fn(&mut Rules)| {
        let mut script = Script::of(Direction::Unidirectional, change);
        script.claims = claims;
        script.send(r#"{"id":1,"connect":{"token":"t"}}"#).unwrap_err()
    };
    let claims_of = |channel: &str| {
        let sub = crate::ports::ServerSubscription { channel: channel.into(), ..Default::default() };
        ConnectionClaims { subs: vec![sub], ..ConnectionClaims::default() }
    };
    assert_eq!(refused(Err(TokenError::Expired), |_| {}), Disconnect::EXPIRED);
    let past = ConnectionClaims { expire_at: Some(START as i64 / 1000 - 1), ..ConnectionClaims::default() };
    assert_eq!(refused(Ok(past), |_| {}), Disconnect::EXPIRED);
    assert_eq!(refused(Ok(claims_of("unknown:c")), |_| {}), Disconnect::SERVER_ERROR);
    assert_eq!(refused(Err(TokenError::AnonymousNotAllowed), |_| {}), Disconnect::PERMISSION_DENIED);
    let own = Disconnect { code: 4109, reason: "log in again".into() };
    let configured = |rules: &mut Rules| {
        let own = Disconnect { code: 4109, reason: "log in again".into() };
        rules.connect.unidirectional_disconnects = vec![(109, own)];
    };
    assert_eq!(refused(Err(TokenError::Expired), configured), own);
}

mod features;
