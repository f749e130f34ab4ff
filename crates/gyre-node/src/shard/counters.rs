//! What a shard counts: plain numbers of its own, read by others through snapshots.

use std::time::{Duration, Instant};

use gyre_core::session::{CommandKind, Effect, Output};
use gyre_protocol::{Push, PushBody, Reply, ReplyBody, SubscribeResult};
use hashbrown::HashMap;

use super::{FrameKind, HttpVersion, Traffic, TransportKind};
use crate::{
    histogram::{Histogram, nanoseconds},
    tally::Action,
};

/// Events delivered to at least so many subscribers are measured one by one; narrower ones together, so that the clock is
/// read for many deliveries.
const WIDE: u64 = 32;

/// What one shard has counted since it started.
#[derive(Clone, Debug)]
pub struct Counters {
    /// Sessions that have connected.
    pub accepted: HashMap<ClientKind, u64>,
    /// Subscriptions made, by whether the client has a name.
    pub subscriptions: [u64; 2],
    /// Disconnects by code.
    pub disconnects: HashMap<u32, u64>,
    /// Connections closed by the server, by transport and the code it gave the client.
    pub closes: HashMap<(TransportKind, u32), u64>,
    /// Unsubscribes by the server, by code.
    pub unsubscribes: HashMap<u32, u64>,
    /// Commands answered with an error, by code.
    pub reply_errors: HashMap<(CommandKind, u32), u64>,
    /// Recoveries by whether they succeeded and whether there was anything to recover.
    pub recoveries: HashMap<(bool, bool), u64>,
    /// Publications in each recovery.
    pub recovered: Histogram,
    /// From a command to its reply, by command; in the order of [`CommandKind::ALL`].
    pub commands: Vec<Histogram>,
    /// Messages received by transport and kind.
    pub received: TrafficTable,
    /// From a ping to its pong, by transport; in the order of [`TransportKind::ALL`].
    pub pongs: Vec<Histogram>,
    /// How long it took to bring an event to the subscribers of this shard.
    pub broadcasts: Broadcasts,
    /// How long events waited for the shard: the longest of each batch.
    pub lag: Histogram,
    /// What sessions had the engine do; in the order of [`Action::ALL`].
    pub actions: [u64; Action::ALL.len()],
    /// Connections not taken because the node had as many as it may.
    pub refused_by_limit: u64,
    /// Connections not taken because too many came in that second.
    pub refused_by_rate: u64,
    /// TCP connections closed at once because too many were open.
    pub sockets_refused: u64,
    /// Connections that could not be accepted, mostly for want of a descriptor.
    pub accepts_failed: u64,
    /// The command whose error comes next.
    refused: CommandKind,
}

impl Default for Counters {
    fn default() -> Self {
        Self {
            accepted: HashMap::default(),
            subscriptions: [0; 2],
            disconnects: HashMap::default(),
            closes: HashMap::default(),
            unsubscribes: HashMap::default(),
            reply_errors: HashMap::default(),
            recoveries: HashMap::default(),
            recovered: Histogram::sizes(),
            commands: vec![Histogram::default(); CommandKind::ALL.len()],
            received: TrafficTable::default(),
            pongs: vec![Histogram::default(); TransportKind::ALL.len()],
            broadcasts: Broadcasts::default(),
            lag: Histogram::default(),
            actions: [0; Action::ALL.len()],
            refused_by_limit: 0,
            refused_by_rate: 0,
            sockets_refused: 0,
            accepts_failed: 0,
            refused: CommandKind::Connect,
        }
    }
}

/// What metrics tell of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ClientKind {
    /// Its transport.
    pub transport: TransportKind,
    /// The HTTP version its connection began with.
    pub version: HttpVersion,
    /// It gave a name.
    pub is_named: bool,
    /// It gave a version.
    pub is_versioned: bool,
}

/// Messages by transport and kind.
#[derive(Clone, Debug)]
pub struct TrafficTable(Box<[[Traffic; FrameKind::ALL.len()]; TransportKind::ALL.len()]>);

impl Default for TrafficTable {
    fn default() -> Self {
        Self(Box::new([[Traffic::default(); FrameKind::ALL.len()]; TransportKind::ALL.len()]))
    }
}

impl TrafficTable {
    /// Where one transport and kind is counted.
    pub(crate) fn at(&mut self, transport: TransportKind, kind: FrameKind) -> &mut Traffic {
        &mut self.0[transport as usize][kind as usize]
    }

    /// What was counted, without what is zero.
    pub fn iter(&self) -> impl Iterator<Item = (TransportKind, FrameKind, Traffic)> {
        TransportKind::ALL.into_iter().flat_map(move |transport| {
            let row = &self.0[transport as usize];
            let all = FrameKind::ALL.into_iter().map(move |kind| (transport, kind, row[kind as usize]));
            all.filter(|(_, _, traffic)| traffic.messages > 0)
        })
    }

    /// Number of all messages.
    pub fn messages(&self) -> u64 {
        self.iter().map(|(.., traffic)| traffic.messages).sum()
    }
}

/// Times of broadcasts, by what is broadcast: publications, joins, leaves.
#[derive(Clone, Debug)]
pub struct Broadcasts {
    /// In the order of [`crate::EventKind::ALL`].
    pub times: [Histogram; 3],
    since: Option<Instant>,
    narrow: [u64; 3],
}

impl Default for Broadcasts {
    fn default() -> Self {
        Self { times: std::array::from_fn(|_| Histogram::default()), since: None, narrow: [0; 3] }
    }
}

impl Broadcasts {
    /// Events begin to be applied.
    pub(crate) fn begin(&mut self, now: Instant) {
        self.since = Some(now);
    }

    /// An event of that kind was brought to so many subscribers.
    pub(crate) fn delivered(&mut self, kind: usize, subscribers: u64) {
        if subscribers < WIDE {
            self.narrow[kind] += 1;
        } else {
            let (narrow, now) = (std::mem::take(&mut self.narrow), Instant::now());
            let elapsed = self.since.replace(now).map_or(Duration::ZERO, |since| now - since);
            // Those before it took next to nothing beside it; what they took is told with it.
            self.enter(narrow, Duration::ZERO);
            self.times[kind].record_duration(elapsed);
        }
    }

    /// Something else begins, or nothing is left.
    pub(crate) fn end(&mut self) {
        let Some(since) = self.since.take() else { return };
        let narrow = std::mem::take(&mut self.narrow);
        if narrow != [0; 3] {
            self.enter(narrow, since.elapsed());
        }
    }

    fn enter(&mut self, narrow: [u64; 3], together: Duration) {
        let each = nanoseconds(together) / narrow.iter().sum::<u64>().max(1);
        for (times, count) in self.times.iter_mut().zip(narrow).filter(|(_, count)| *count > 0) {
            times.record_many(each, count);
        }
    }
}

impl Counters {
    /// Counts what a session says; tells what kind of message it is.
    pub(crate) fn observe(&mut self, output: &Output, client: ClientKind) -> FrameKind {
        match output {
            Output::Refused { command, code } => {
                self.refused = *command;
                *self.reply_errors.entry((*command, *code)).or_default() += 1;
            }
            Output::Reply(Reply { body: ReplyBody::Subscribe(result), .. }) => {
                self.subscriptions[usize::from(client.is_named)] += 1;
                self.recovery(result);
            }
            Output::Reply(Reply { body: ReplyBody::Connect(result), .. })
            | Output::Push(Push { body: PushBody::Connect(result), .. }) => {
                *self.accepted.entry(client).or_default() += 1;
                self.subscriptions[usize::from(client.is_named)] += result.subs.len() as u64;
                result.subs.iter().for_each(|(_, result)| self.recovery(result));
            }
            Output::Push(Push { body: PushBody::Subscribe(_), .. }) => {
                self.subscriptions[usize::from(client.is_named)] += 1;
            }
            Output::Push(Push { body: PushBody::Unsubscribe(unsubscribe), .. }) => {
                *self.unsubscribes.entry(unsubscribe.code).or_default() += 1;
            }
            Output::Pong(after) => self.pongs[client.transport as usize].record_duration(*after),
            Output::Effect(_, effect) => self.effect(effect),
            _ => {}
        }
        FrameKind::of_output(output, self.refused)
    }

    /// A command was answered after that time.
    pub(crate) fn answered(&mut self, command: CommandKind, after: Duration) {
        self.commands[command as usize].record_duration(after);
    }

    /// Counts what a session has the engine do.
    fn effect(&mut self, effect: &Effect) {
        let action = match effect {
            Effect::Attach { .. } => Action::AddClient,
            Effect::Subscribe { .. } | Effect::FollowMap { .. } | Effect::JoinPoll { .. } => {
                Action::AddSubscription
            }
            Effect::Unsubscribe { .. } => Action::RemoveSubscription,
            Effect::History { .. } => Action::History,
            _ => return,
        };
        self.act(action);
    }

    pub(crate) fn act(&mut self, action: Action) {
        self.actions[action as usize] += 1;
    }

    fn recovery(&mut self, result: &SubscribeResult) {
        if result.was_recovering {
            let key = (result.recovered, !result.publications.is_empty());
            *self.recoveries.entry(key).or_default() += 1;
            self.recovered.record(result.publications.len() as u64);
            self.act(Action::HistoryRecover);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Narrow events share the time of their batch, a wide one has its own: counted for batches of either kind.
    #[test]
    fn every_event_is_entered_once() {
        let mut broadcasts = Broadcasts::default();
        broadcasts.begin(Instant::now());
        (0..5).for_each(|_| broadcasts.delivered(0, 1));
        broadcasts.delivered(1, 2);
        broadcasts.delivered(0, WIDE);
        broadcasts.delivered(2, 0);
        broadcasts.end();
        broadcasts.end();
        assert_eq!(broadcasts.times.each_ref().map(Histogram::count), [6, 1, 1]);
    }
}
