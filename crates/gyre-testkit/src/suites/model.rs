//! Any sequence of operations against a model so naive that it is evidently right.
//!
//! Every sequence has channels of its own, so one engine serves them all.

use std::{
    cell::Cell,
    collections::{BTreeMap, BTreeSet},
    fmt::Debug,
    num::NonZeroUsize,
    time::Duration,
};

use gyre_core::{
    channel::{ChannelName, HistoryOptions},
    ports::{EngineError, HistoryFilter, IDEMPOTENCY_TTL, PublishOptions},
};
use gyre_protocol::{Epoch, PresenceStats, StreamPosition};
use proptest::{
    collection::vec,
    option,
    prelude::{Just, Strategy, any},
    prop_oneof,
    test_runner::{Config, TestRunner},
};

use super::fixture::{Fixture, client, done, payload};

const SEQUENCES: u32 = 256;
const OPERATIONS_MAX: usize = 64;
const CHANNELS: usize = 2;

/// Runs sequences of operations, each with a number of its own, and reports the shortest that fails.
fn for_any<O: Debug>(operation: impl Strategy<Value = O>, run: impl Fn(usize, Vec<O>)) {
    let config = Config { cases: SEQUENCES, failure_persistence: None, ..Config::default() };
    let number = Cell::new(0);
    let result = TestRunner::new(config).run(&vec(operation, 1..OPERATIONS_MAX), |operations| {
        number.set(number.get() + 1);
        run(number.get(), operations);
        Ok(())
    });
    if let Err(failure) = result {
        panic!("{failure}");
    }
}

fn channels(fixture: &Fixture, kind: &str, number: usize) -> [ChannelName; CHANNELS] {
    std::array::from_fn(|index| fixture.channel(&format!("{kind} {number}.{index}")))
}

/// Something done to a stream.
#[derive(Clone, Debug)]
enum Operation {
    Publish {
        channel: usize,
        history: Option<HistoryOptions>,
        key: u8,
        version: (u64, &'static str),
    },
    Read {
        channel: usize,
        since: Option<(u64, Since)>,
        limit: Option<usize>,
        reverse: bool,
        meta_ttl: Duration,
    },
    Remove {
        channel: usize,
    },
    Advance(Duration),
}

/// Whose epoch a reader names.
#[derive(Clone, Copy, Debug)]
enum Since {
    Any,
    LastSeen,
    Foreign,
}

fn seconds(range: std::ops::Range<u64>) -> impl Strategy<Value = Duration> {
    range.prop_map(Duration::from_secs)
}

fn any_operation() -> impl Strategy<Value = Operation> {
    let history = (1..5_usize, seconds(1..40), seconds(20..80)).prop_map(|(size, ttl, meta_ttl)| {
        HistoryOptions { size: NonZeroUsize::new(size).unwrap_or(NonZeroUsize::MIN), ttl, meta_ttl }
    });
    let version = (prop_oneof![3 => Just(0), 1 => 1..6_u64], prop_oneof![Just(""), Just("x"), Just("y")]);
    // Key 0 is none.
    let key = prop_oneof![3 => Just(0), 1 => 1..3_u8];
    let since = (
        0..10_u64,
        prop_oneof![4 => Just(Since::LastSeen), 2 => Just(Since::Any), 1 => Just(Since::Foreign)],
    );
    prop_oneof![
        8 => (0..CHANNELS, option::weighted(0.8, history), key, version).prop_map(
            |(channel, history, key, version)| Operation::Publish { channel, history, key, version }
        ),
        5 => (0..CHANNELS, option::of(since), option::of(0..5_usize), any::<bool>(), seconds(20..80)).prop_map(
            |(channel, since, limit, reverse, meta_ttl)| {
                Operation::Read { channel, since, limit, reverse, meta_ttl }
            }
        ),
        1 => (0..CHANNELS).prop_map(|channel| Operation::Remove { channel }),
        3 => prop_oneof![4 => seconds(1..30), 1 => seconds(60..320)].prop_map(Operation::Advance),
    ]
}

/// What the model knows of one channel.
#[derive(Default)]
struct ChannelModel {
    /// How many streams there were; the current one's number. 0 before the first.
    incarnation: usize,
    /// Epochs of all incarnations as the engine named them.
    epochs: BTreeMap<usize, Epoch>,
    top: u64,
    kept: Vec<(u64, String)>,
    kept_until: Duration,
    position_until: Duration,
    version: (u64, String),
    /// Key, when it ends, offset and incarnation it stands for.
    keys: Vec<(u8, Duration, (u64, usize))>,
    delivered: Vec<(u64, String)>,
}

impl ChannelModel {
    /// Lets what has ended end, and begins a stream if there is none.
    fn touch(&mut self, now: Duration) {
        if self.incarnation == 0 || self.position_until <= now {
            self.incarnation += 1;
            self.top = 0;
            self.kept.clear();
            self.version = (0, String::new());
        }
        if self.kept_until <= now {
            self.kept.clear();
        }
    }

    /// Offset and incarnation the publisher is told (incarnation 0 without history), and if it was suppressed.
    fn publish(
        &mut self,
        now: Duration,
        data: &str,
        history: Option<HistoryOptions>,
        key: u8,
        version: (u64, &str),
    ) -> ((u64, usize), bool) {
        if let Some((_, _, position)) =
            self.keys.iter().rfind(|(known, until, _)| *known == key && *until > now)
        {
            return (*position, true);
        }
        let mut position = (0, 0);
        if let Some(history) = history {
            self.touch(now);
            let is_comparable = version.1.is_empty() || version.1 == self.version.1;
            if version.0 > 0 && is_comparable && version.0 <= self.version.0 {
                return ((self.top, self.incarnation), true);
            }
            if version.0 > 0 {
                self.version = (version.0, version.1.to_owned());
            }
            self.top += 1;
            self.kept.push((self.top, data.to_owned()));
            while self.kept.len() > history.size.get() {
                self.kept.remove(0);
            }
            self.kept_until = now + history.ttl;
            self.position_until = now + history.meta_ttl;
            position = (self.top, self.incarnation);
        }
        if key != 0 {
            self.keys.push((key, now + IDEMPOTENCY_TTL, position));
        }
        self.delivered.push((position.0, data.to_owned()));
        (position, false)
    }

    fn read(&self, since: Option<u64>, limit: Option<usize>, reverse: bool) -> Vec<(u64, String)> {
        let follows = |offset: u64| match since {
            None => true,
            Some(since) if reverse => offset < since,
            Some(since) => offset > since,
        };
        let mut found: Vec<_> = self.kept.iter().filter(|(offset, _)| follows(*offset)).cloned().collect();
        if reverse {
            found.reverse();
            if let Some(since) = since
                && found.first().is_none_or(|(offset, _)| offset + 1 != since)
            {
                found.clear();
            }
        }
        found.truncate(limit.unwrap_or(usize::MAX));
        found
    }

    /// Compares a position told by the engine: its epoch is that of the incarnation and of no other.
    fn check(&mut self, told: &StreamPosition, (offset, incarnation): (u64, usize)) {
        assert_eq!(told.offset, offset);
        if incarnation == 0 {
            assert!(told.epoch.is_empty(), "without history there is no epoch");
            return;
        }
        assert!(!told.epoch.is_empty(), "a stream has an epoch");
        let known = self.epochs.entry(incarnation).or_insert_with(|| told.epoch.clone());
        assert_eq!(*known, told.epoch, "the epoch changed and history was not lost");
        let distinct: BTreeSet<&str> = self.epochs.values().map(Epoch::as_str).collect();
        assert_eq!(distinct.len(), self.epochs.len(), "history was lost and the epoch did not change");
    }

    fn last_seen_epoch(&self) -> Option<(usize, Epoch)> {
        self.epochs.last_key_value().map(|(incarnation, epoch)| (*incarnation, epoch.clone()))
    }
}

/// Publishing with any options, reading with any filter, removing and waiting give what the model gives: positions,
/// suppression, publications and deliveries; epochs change if and only if history was lost.
pub fn any_history_equals_the_model(fixture: Fixture) {
    for_any(any_operation(), |number, operations| {
        let channels = channels(&fixture, "history", number);
        let mut models: [ChannelModel; CHANNELS] = Default::default();
        let mut now = Duration::from_secs(1);
        for (step, operation) in operations.into_iter().enumerate() {
            match operation {
                Operation::Advance(by) => {
                    now += by;
                    fixture.advance(by);
                }
                Operation::Remove { channel } => {
                    done(fixture.broker.remove_history(&channels[channel]));
                    models[channel].kept.clear();
                }
                Operation::Publish { channel, history, key, version } => {
                    let data = step.to_string();
                    let options = PublishOptions {
                        history,
                        idempotency_key: if key == 0 { "".into() } else { key.to_string().into() },
                        version: version.0,
                        version_epoch: version.1.into(),
                        ..PublishOptions::default()
                    };
                    let published = fixture.publish(&channels[channel], &data, options);
                    let model = &mut models[channel];
                    let (position, is_suppressed) = model.publish(now, &data, history, key, version);
                    assert_eq!(published.is_suppressed, is_suppressed);
                    model.check(&published.position, position);
                }
                Operation::Read { channel, since, limit, reverse, meta_ttl } => {
                    let filter = (since, limit, reverse);
                    check_reading(&fixture, &channels[channel], &mut models[channel], now, filter, meta_ttl);
                }
            }
        }
        for (channel, model) in channels.iter().zip(&models) {
            let delivered = fixture.delivered_publications(channel);
            let delivered: Vec<_> =
                delivered.iter().map(|found| (found.offset, found.data.clone())).collect();
            assert_eq!(delivered, with_payloads(&model.delivered));
        }
    });
}

fn check_reading(
    fixture: &Fixture,
    channel: &ChannelName,
    model: &mut ChannelModel,
    now: Duration,
    (since, limit, reverse): (Option<(u64, Since)>, Option<usize>, bool),
    meta_ttl: Duration,
) {
    let (incarnation, since) = match since {
        None => (None, None),
        Some((offset, Since::Any)) => (None, Some(StreamPosition { offset, epoch: Epoch::default() })),
        Some((offset, Since::Foreign)) => (Some(0), Some(StreamPosition { offset, epoch: Epoch::new("_") })),
        Some((offset, Since::LastSeen)) => match model.last_seen_epoch() {
            Some((incarnation, epoch)) => (Some(incarnation), Some(StreamPosition { offset, epoch })),
            None => (None, None),
        },
    };
    model.touch(now);
    model.position_until = now + meta_ttl;
    let offset = since.as_ref().map(|since| since.offset);
    let read = fixture.read(channel, HistoryFilter { since, limit, reverse }, meta_ttl);
    if incarnation.is_some_and(|named| named != model.incarnation) {
        assert_eq!(read, Err(EngineError::UnrecoverablePosition));
        return;
    }
    let history = match read {
        Ok(history) => history,
        Err(error) => panic!("the engine failed: {error}"),
    };
    model.check(&history.top, (model.top, model.incarnation));
    let found: Vec<_> = history.publications.iter().map(|found| (found.offset, found.data.clone())).collect();
    assert_eq!(found, with_payloads(&model.read(offset, limit, reverse)));
    assert!(history.publications.iter().all(|found| found.epoch == history.top.epoch));
}

fn with_payloads(publications: &[(u64, String)]) -> Vec<(u64, gyre_protocol::Payload)> {
    publications.iter().map(|(offset, data)| (*offset, payload(data))).collect()
}

/// Something done to presence.
#[derive(Clone, Debug)]
enum Step {
    Add { channel: usize, client: u8, user: u8 },
    Remove { channel: usize, client: u8 },
    Advance(Duration),
}

/// Adding, renewing under another user, removing and waiting give the members and counts that the model gives.
pub fn any_presence_equals_the_model(fixture: Fixture) {
    let ttl = fixture.presence_ttl;
    let any_step = prop_oneof![
        4 => (0..CHANNELS, 0..6_u8, 0..3_u8).prop_map(|(channel, client, user)| Step::Add { channel, client, user }),
        2 => (0..CHANNELS, 0..6_u8).prop_map(|(channel, client)| Step::Remove { channel, client }),
        2 => seconds(1..ttl.as_secs() + 2).prop_map(Step::Advance),
    ];
    for_any(any_step, |number, steps| {
        let channels = channels(&fixture, "presence", number);
        let mut model: [BTreeMap<String, (String, Duration)>; CHANNELS] = Default::default();
        let mut now = Duration::ZERO;
        for step in steps {
            match step {
                Step::Advance(by) => {
                    now += by;
                    fixture.advance(by);
                }
                Step::Add { channel, client: id, user } => {
                    let info = client(&id.to_string(), &user.to_string());
                    done(fixture.presence.add(&channels[channel], info));
                    model[channel].insert(id.to_string(), (user.to_string(), now + ttl));
                }
                Step::Remove { channel, client: id } => {
                    done(fixture.presence.remove(&channels[channel], client(&id.to_string(), "")));
                    model[channel].remove(&id.to_string());
                }
            }
            for (channel, members) in channels.iter().zip(&mut model) {
                members.retain(|_, (_, until)| *until > now);
                check_presence(&fixture, channel, members);
            }
        }
    });
}

fn check_presence(fixture: &Fixture, channel: &ChannelName, model: &BTreeMap<String, (String, Duration)>) {
    let mut found: Vec<_> = done(fixture.presence.members(channel))
        .iter()
        .map(|info| (info.client.to_string(), info.user.to_string()))
        .collect();
    found.sort();
    let members: Vec<_> = model.iter().map(|(client, (user, _))| (client.clone(), user.clone())).collect();
    assert_eq!(found, members);
    let users: BTreeSet<&String> = model.values().map(|(user, _)| user).collect();
    let counted = PresenceStats { num_clients: members.len() as u32, num_users: users.len() as u32 };
    assert_eq!(done(fixture.presence.stats(channel)), counted);
}
