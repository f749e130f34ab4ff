//! Commands that wait for the effects they need, and what may run beside them.

use super::{
    CommandKind, Effect, EffectId, Live, Session, connect, map, map_publish, publish, shared_poll, subscribe,
};
use crate::{channel::ChannelName, limits::Limits};

/// A command that waits for its effect, and those that did before it.
#[derive(Debug)]
pub(super) struct Busy {
    pub(super) effect: EffectId,
    pub(super) command: BusyCommand,
    pub(super) next: Option<Box<Busy>>,
}

#[derive(Debug)]
pub(super) enum BusyCommand {
    /// Server-side subscriptions are being made; no effect of its own.
    Connect(connect::Subscribing),
    VerifySubscribe {
        id: u32,
        intent: subscribe::Intent,
    },
    AskSubscribe {
        id: u32,
        intent: subscribe::Intent,
    },
    /// A subscribe with a stream of the application's; its effect names the stream.
    OpenStream {
        id: u32,
        intent: subscribe::Intent,
    },
    /// A granted subscribe; its subscription has the details.
    Subscribe,
    /// Waits for the subscribe of the same channel; no effect of its own.
    Unsubscribe {
        id: u32,
        channel: ChannelName,
    },
    AskPublish(Box<publish::Asked>),
    Publish {
        id: u32,
    },
    Rpc {
        id: u32,
    },
    Map(map::MapCommand),
    MapHook(Box<map_publish::Asked>),
    JoinPoll {
        id: u32,
        channel: ChannelName,
        data: gyre_protocol::Payload,
    },
    Track(shared_poll::TrackCommand),
    Presence {
        id: u32,
    },
    History {
        id: u32,
    },
    Refresh {
        id: u32,
    },
    SubRefresh {
        id: u32,
        channel: ChannelName,
    },
}

/// The effect of commands that have none of their own.
pub(super) const NO_EFFECT: EffectId = EffectId(u32::MAX);

impl BusyCommand {
    /// True if no command may begin while it waits: those of a connection's or a subscription's later life depend on
    /// what came before.
    fn is_exclusive(&self) -> bool {
        match self {
            Self::Connect(_)
            | Self::Unsubscribe { .. }
            | Self::Map(_)
            | Self::JoinPoll { .. }
            | Self::Track(_)
            | Self::Refresh { .. }
            | Self::SubRefresh { .. } => true,
            Self::VerifySubscribe { .. }
            | Self::AskSubscribe { .. }
            | Self::OpenStream { .. }
            | Self::Subscribe
            | Self::AskPublish(_)
            | Self::Publish { .. }
            | Self::Rpc { .. }
            | Self::MapHook(_)
            | Self::Presence { .. }
            | Self::History { .. } => false,
        }
    }

    pub(super) fn kind(&self) -> CommandKind {
        match self {
            Self::Connect(_) => CommandKind::Connect,
            Self::VerifySubscribe { .. }
            | Self::AskSubscribe { .. }
            | Self::OpenStream { .. }
            | Self::Subscribe
            | Self::Map(_)
            | Self::JoinPoll { .. } => CommandKind::Subscribe,
            Self::Unsubscribe { .. } => CommandKind::Unsubscribe,
            Self::AskPublish(_) | Self::Publish { .. } | Self::MapHook(_) => CommandKind::Publish,
            Self::Rpc { .. } => CommandKind::Rpc,
            Self::Presence { .. } => CommandKind::Presence,
            Self::History { .. } => CommandKind::History,
            Self::Refresh { .. } => CommandKind::Refresh,
            Self::SubRefresh { .. } | Self::Track(_) => CommandKind::SubRefresh,
        }
    }

    /// The channel of a subscribe that is not granted yet.
    fn wanted_channel(&self) -> Option<&ChannelName> {
        match self {
            Self::VerifySubscribe { intent, .. }
            | Self::AskSubscribe { intent, .. }
            | Self::OpenStream { intent, .. } => Some(&intent.channel),
            _ => None,
        }
    }
}

impl Session {
    /// Makes an effect and remembers the command that waits for it.
    pub(super) fn wait_for(&mut self, effect: Effect, command: BusyCommand) {
        let effect = self.effect(effect);
        if let Some(live) = self.live_mut() {
            live.wait(effect, command);
        }
    }
}

impl Live {
    pub(super) fn is_connecting(&self) -> bool {
        self.waiting().any(|busy| matches!(busy.command, BusyCommand::Connect(_)))
    }

    /// True if no further command may begin.
    pub(super) fn is_busy(&self, limits: &Limits) -> bool {
        self.busy.is_some()
            && (self.waiting().count() >= limits.concurrency.max(1)
                || self.waiting().any(|busy| busy.command.is_exclusive()))
    }

    /// Remembers a command that waits.
    pub(super) fn wait(&mut self, effect: EffectId, command: BusyCommand) {
        self.busy = Some(Box::new(Busy { effect, command, next: self.busy.take() }));
    }

    /// The command that waits for this effect, which does so no longer.
    pub(super) fn take_busy(&mut self, effect: EffectId) -> Option<BusyCommand> {
        self.take_waiting(|busy| busy.effect == effect)
    }

    /// Channels of subscribes that are not granted yet.
    pub(super) fn wanted_channels(&self) -> impl Iterator<Item = &ChannelName> {
        self.waiting().filter_map(|busy| busy.command.wanted_channel())
    }

    /// The unsubscribe that waits, if what it waits for is settled.
    pub(super) fn take_unsubscribe(&mut self) -> Option<(u32, ChannelName)> {
        let held = self.waiting().find_map(|busy| match &busy.command {
            BusyCommand::Unsubscribe { channel, .. } => Some(channel),
            _ => None,
        })?;
        if self.is_subscribing(held) {
            return None;
        }
        match self.take_waiting(|busy| matches!(busy.command, BusyCommand::Unsubscribe { .. }))? {
            BusyCommand::Unsubscribe { id, channel } => Some((id, channel)),
            _ => None,
        }
    }

    /// True while a subscribe of the channel waits for something.
    pub(super) fn is_subscribing(&self, channel: &str) -> bool {
        self.subscriptions.is_pending(channel) || self.wanted_channels().any(|wanted| **wanted == *channel)
    }

    /// Streams that are being opened.
    pub(super) fn opening_streams(&self) -> impl Iterator<Item = EffectId> {
        let is_opening = |busy: &&Busy| matches!(busy.command, BusyCommand::OpenStream { .. });
        self.waiting().filter(is_opening).map(|busy| busy.effect)
    }

    fn waiting(&self) -> impl Iterator<Item = &Busy> {
        std::iter::successors(self.busy.as_deref(), |busy| busy.next.as_deref())
    }

    pub(super) fn take_waiting(&mut self, is_wanted: impl Fn(&Busy) -> bool) -> Option<BusyCommand> {
        let mut at = &mut self.busy;
        while at.as_ref().is_some_and(|busy| !is_wanted(busy)) {
            at = &mut at.as_mut()?.next;
        }
        let busy = at.take()?;
        *at = busy.next;
        Some(busy.command)
    }
}
