//! Per-channel options: what a namespace allows and keeps.
//!
//! Spec: configuration `channel.without_namespace` and `channel.namespaces[]`.

use std::{num::NonZeroUsize, sync::Arc, time::Duration};

use regex::Regex;

use crate::channel::{MapOptions, SharedPollOptions};

/// Options of one namespace.
#[derive(Clone, Debug, Default)]
pub struct ChannelOptions {
    /// `presence`: keep who is subscribed.
    pub presence: bool,
    /// `join_leave`: publish joins and leaves.
    pub join_leave: bool,
    /// `force_push_join_leave`: deliver them without being asked.
    pub force_push_join_leave: bool,
    /// `history_size`, `history_ttl` and the effective `history_meta_ttl`; `None` without history.
    pub history: Option<HistoryOptions>,
    /// `force_positioning`.
    pub force_positioning: bool,
    /// `allow_positioning`.
    pub allow_positioning: bool,
    /// `force_recovery`.
    pub force_recovery: bool,
    /// `allow_recovery`.
    pub allow_recovery: bool,
    /// `force_recovery_mode`.
    pub recovery_mode: RecoveryMode,
    /// `auto_cache_recover`: deliver the latest publication on every subscribe (cache mode only).
    pub auto_cache_recover: bool,
    /// `allowed_delta_types` holds `fossil`.
    pub allow_delta_fossil: bool,
    /// `delta_publish`: publish with delta unless the publisher says otherwise.
    pub delta_publish: bool,
    /// `allow_tags_filter`.
    pub allow_tags_filter: bool,
    /// `allow_channel_compaction`: clients that can are sent a number for the channel's name.
    pub allow_channel_compaction: bool,
    /// `allow_subscribe_for_client`, `_for_anonymous`.
    pub subscribe: SubscribeRights,
    /// `allow_publish_for_*`.
    pub publish: CallRights,
    /// `allow_presence_for_*`.
    pub presence_call: CallRights,
    /// `allow_history_for_*`.
    pub history_call: CallRights,
    /// `allow_user_limited_channels`: honour the user boundary in names.
    pub allow_user_limited_channels: bool,
    /// `channel_regex`, matched against the part of the name after the namespace.
    pub channel_regex: Option<Regex>,
    /// `publication_data_format`, namespace value or the global one.
    pub data_format: DataFormat,
    /// `subscription_type`.
    pub kind: SubscriptionKind,
    /// `map`, for the three kinds of maps.
    pub map: Option<MapOptions>,
    /// `shared_poll`, for polled channels.
    pub shared_poll: Option<Arc<SharedPollOptions>>,
    /// `subscribe_proxy_enabled`, `_name`: the hook that decides about subscriptions without token.
    pub subscribe_hook: Option<Box<str>>,
    /// `publish_proxy_enabled`, `_name`: the hook that decides about publications of clients.
    pub publish_hook: Option<Box<str>>,
    /// `sub_refresh_proxy_enabled`, `_name`: the hook asked when a subscription expires; clients do not refresh then.
    pub sub_refresh_hook: Option<Box<str>>,
    /// `subscribe_stream_proxy_enabled`, `_name`, `_bidirectional`: the hook whose streams feed subscriptions.
    pub stream_hook: Option<Box<StreamHook>>,
    /// `cache_empty_proxy_enabled`, `_name`: the hook that is told when there is nothing to recover in cache mode.
    pub cache_empty_hook: Option<Box<str>>,
    /// `state_proxy_enabled`, `_name`: the hook that is told of first and last subscribers.
    pub state_hook: Option<Box<str>>,
    /// `map_clients_presence_channel_prefix`: the map of subscribers by client; empty for none.
    pub clients_presence_prefix: Box<str>,
    /// `map_users_presence_channel_prefix`: the map of subscribers by user; empty for none.
    pub users_presence_prefix: Box<str>,
}

/// A hook that opens a stream for each subscription.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StreamHook {
    /// Its name.
    pub name: Box<str>,
    /// Clients publish to their stream.
    pub is_bidirectional: bool,
}

/// A channel's stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HistoryOptions {
    /// `history_size`: publications kept.
    pub size: NonZeroUsize,
    /// `history_ttl`: how long they are kept after the last publication.
    pub ttl: Duration,
    /// Effective `history_meta_ttl`: how long offset and epoch outlive the publications.
    pub meta_ttl: Duration,
}

/// How missed publications are recovered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum RecoveryMode {
    /// All of them, in order.
    #[default]
    Stream,
    /// The latest one only.
    Cache,
}

/// Who may subscribe without a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct SubscribeRights {
    /// Clients with a user id.
    pub client: bool,
    /// Anonymous clients as well; a modifier, nothing by itself.
    pub anonymous: bool,
}

/// Who may publish, read presence or read history.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct CallRights {
    /// Any client.
    pub client: bool,
    /// Subscribers of the channel.
    pub subscriber: bool,
    /// Anonymous clients as well; a modifier, nothing by itself.
    pub anonymous: bool,
}

/// What publications must look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum DataFormat {
    /// Anything but nothing.
    #[default]
    NonEmpty,
    /// Valid JSON.
    Json,
    /// A JSON object.
    JsonObject,
    /// Anything, also nothing.
    Binary,
}

/// What kind of channels a namespace holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum SubscriptionKind {
    /// Ordinary streams of publications.
    #[default]
    Stream,
    /// Keyed state.
    Map,
    /// Presence as keyed state, by client.
    MapClients,
    /// Presence as keyed state, by user.
    MapUsers,
    /// Keys polled from the backend.
    SharedPoll,
}
