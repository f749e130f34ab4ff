//! Kinds of messages, for those who count them.

use gyre_core::session::{CommandKind, Output};
use gyre_protocol::{PushBody, ReplyBody};

/// Kinds of messages to and from clients, under the names metrics give them.
///
/// Spec: centrifugal/protocol `protocol.go`, FrameType
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "their names say it")]
#[repr(u8)]
pub enum FrameKind {
    #[default]
    PushPublication,
    PushJoin,
    PushLeave,
    PushConnect,
    PushSubscribe,
    PushUnsubscribe,
    PushMessage,
    PushRefresh,
    PushDisconnect,
    ServerPing,
    ClientPong,
    Connect,
    Subscribe,
    Unsubscribe,
    Publish,
    Presence,
    PresenceStats,
    History,
    Rpc,
    Send,
    Refresh,
    SubRefresh,
    /// What belongs to a transport alone: its pongs and closes.
    Transport,
}

impl FrameKind {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 23] = [
        Self::PushPublication,
        Self::PushJoin,
        Self::PushLeave,
        Self::PushConnect,
        Self::PushSubscribe,
        Self::PushUnsubscribe,
        Self::PushMessage,
        Self::PushRefresh,
        Self::PushDisconnect,
        Self::ServerPing,
        Self::ClientPong,
        Self::Connect,
        Self::Subscribe,
        Self::Unsubscribe,
        Self::Publish,
        Self::Presence,
        Self::PresenceStats,
        Self::History,
        Self::Rpc,
        Self::Send,
        Self::Refresh,
        Self::SubRefresh,
        Self::Transport,
    ];

    /// The name in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::PushPublication => "push_publication",
            Self::PushJoin => "push_join",
            Self::PushLeave => "push_leave",
            Self::PushConnect => "push_connect",
            Self::PushSubscribe => "push_subscribe",
            Self::PushUnsubscribe => "push_unsubscribe",
            Self::PushMessage => "push_message",
            Self::PushRefresh => "push_refresh",
            Self::PushDisconnect => "push_disconnect",
            Self::ServerPing => "server_ping",
            Self::ClientPong => "client_pong",
            Self::Connect => "connect",
            Self::Subscribe => "subscribe",
            Self::Unsubscribe => "unsubscribe",
            Self::Publish => "publish",
            Self::Presence => "presence",
            Self::PresenceStats => "presence_stats",
            Self::History => "history",
            Self::Rpc => "rpc",
            Self::Send => "send",
            Self::Refresh => "refresh",
            Self::SubRefresh => "sub_refresh",
            Self::Transport => "transport",
        }
    }

    /// The kind of a command's own messages.
    pub(crate) fn of_command(command: CommandKind) -> Self {
        match command {
            CommandKind::Connect => Self::Connect,
            CommandKind::Subscribe => Self::Subscribe,
            CommandKind::Unsubscribe => Self::Unsubscribe,
            CommandKind::Publish => Self::Publish,
            CommandKind::Presence => Self::Presence,
            CommandKind::PresenceStats => Self::PresenceStats,
            CommandKind::History => Self::History,
            CommandKind::Rpc => Self::Rpc,
            CommandKind::Send => Self::Send,
            CommandKind::Refresh => Self::Refresh,
            CommandKind::SubRefresh => Self::SubRefresh,
            CommandKind::Ping => Self::ClientPong,
        }
    }

    /// The kind of a push.
    pub(crate) fn of_push(body: &PushBody) -> Self {
        match body {
            PushBody::Publication(_) => Self::PushPublication,
            PushBody::Join(_) => Self::PushJoin,
            PushBody::Leave(_) => Self::PushLeave,
            PushBody::Unsubscribe(_) => Self::PushUnsubscribe,
            PushBody::Message(_) => Self::PushMessage,
            PushBody::Subscribe(_) => Self::PushSubscribe,
            PushBody::Connect(_) => Self::PushConnect,
            PushBody::Disconnect(_) => Self::PushDisconnect,
            PushBody::Refresh(_) => Self::PushRefresh,
        }
    }

    /// The kind of what a session says. `refused` is the command that an error answers.
    pub(crate) fn of_output(output: &Output, refused: CommandKind) -> Self {
        match output {
            Output::Push(push) => Self::of_push(&push.body),
            Output::Reply(reply) => match &reply.body {
                ReplyBody::Error(_) => Self::of_command(refused),
                ReplyBody::Connect(_) => Self::Connect,
                ReplyBody::Subscribe(_) => Self::Subscribe,
                ReplyBody::Unsubscribe => Self::Unsubscribe,
                ReplyBody::Publish => Self::Publish,
                ReplyBody::Presence(_) => Self::Presence,
                ReplyBody::PresenceStats(_) => Self::PresenceStats,
                ReplyBody::History(_) => Self::History,
                ReplyBody::Rpc(_) => Self::Rpc,
                ReplyBody::Refresh(_) => Self::Refresh,
                ReplyBody::SubRefresh(_) => Self::SubRefresh,
            },
            Output::Ping => Self::ServerPing,
            // Whatever else makes messages delivers what was held back.
            _ => Self::PushPublication,
        }
    }
}

/// Messages and their bytes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Traffic {
    /// Number of messages.
    pub messages: u64,
    /// Bytes of them, as they are on the connection below its encryption.
    pub bytes: u64,
}

impl Traffic {
    pub(crate) fn add(&mut self, messages: u64, bytes: u64) {
        self.messages += messages;
        self.bytes += bytes;
    }
}
