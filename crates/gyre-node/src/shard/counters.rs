//! What a shard counts: plain numbers, read by others through snapshots.

use gyre_core::session::{CommandKind, Output};
use gyre_protocol::{Push, PushBody, Reply, ReplyBody, SubscribeResult};
use hashbrown::HashMap;

use super::TransportKind;

/// What one shard has counted since it started.
#[derive(Clone, Debug, Default)]
pub struct Counters {
    /// Connections accepted by transport, in the order of [`TransportKind::ALL`].
    pub accepted: [u64; TransportKind::ALL.len()],
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
    /// Commands received.
    pub commands: u64,
    /// Connections not taken because the node had as many as it may.
    pub refused_by_limit: u64,
    /// Connections not taken because too many came in that second.
    pub refused_by_rate: u64,
    /// TCP connections closed at once because too many were open.
    pub sockets_refused: u64,
    /// Connections that could not be accepted, mostly for want of a descriptor.
    pub accepts_failed: u64,
}

impl Counters {
    /// Counts what a session says.
    pub(crate) fn observe(&mut self, output: &Output) {
        match output {
            Output::Refused { command, code } => {
                *self.reply_errors.entry((*command, *code)).or_default() += 1;
            }
            Output::Reply(Reply { body: ReplyBody::Subscribe(result), .. }) => self.recovery(result),
            Output::Reply(Reply { body: ReplyBody::Connect(result), .. })
            | Output::Push(Push { body: PushBody::Connect(result), .. }) => {
                result.subs.iter().for_each(|(_, result)| self.recovery(result));
            }
            Output::Push(Push { body: PushBody::Unsubscribe(unsubscribe), .. }) => {
                *self.unsubscribes.entry(unsubscribe.code).or_default() += 1;
            }
            _ => {}
        }
    }

    fn recovery(&mut self, result: &SubscribeResult) {
        if result.was_recovering {
            let key = (result.recovered, !result.publications.is_empty());
            *self.recoveries.entry(key).or_default() += 1;
        }
    }
}
