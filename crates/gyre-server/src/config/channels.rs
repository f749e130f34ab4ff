//! Namespaces and the options of their channels.

use std::{num::NonZeroUsize, sync::Arc, time::Duration};

use gyre_core::channel::{
    CallRights, ChannelOptions, ChannelPattern, ClientKey, DataFormat, HistoryOptions, MapOptions, MapOrder,
    MapRetention, MapStorage, Namespaces, PageSizes, RecoveryMode, SharedPollOptions, StreamHook,
    SubscribeRights, SubscriptionKind, Versions,
};
use hashbrown::HashMap;
use regex::Regex;

use super::{
    Section, duration,
    hooks::{hook_of, target_name},
    resolve::non_empty,
};

/// `map.stream_size` unless configured.
const MAP_STREAM_SIZE: NonZeroUsize = NonZeroUsize::new(100).unwrap();

pub(super) fn namespaces(channel: &Section) -> Namespaces {
    let has_patterns = channel.bool("patterns");
    let (mut named, mut patterns) = (HashMap::new(), Vec::new());
    for namespace in channel.objects("namespaces") {
        let options = Arc::new(options(namespace, channel));
        match ChannelPattern::parse(namespace.text("pattern")) {
            Ok(pattern) if has_patterns => patterns.push((pattern, options)),
            _ => drop(named.insert(namespace.text("name").into(), options)),
        }
    }
    patterns.sort_by_key(|(pattern, _)| !pattern.is_static());
    Namespaces {
        without_namespace: Arc::new(options(channel.object("without_namespace"), channel)),
        named,
        patterns: has_patterns.then_some(patterns),
        private_prefix: channel.text("private_prefix").into(),
        namespace_boundary: channel.text("namespace_boundary").into(),
        user_boundary: channel.text("user_boundary").into(),
        user_separator: channel.text("user_separator").into(),
        history_meta_ttl: channel.duration("history_meta_ttl"),
    }
}

fn options(options: &Section, channel: &Section) -> ChannelOptions {
    let rights = |call: &str| CallRights {
        client: options.bool(&format!("allow_{call}_for_client")),
        subscriber: options.bool(&format!("allow_{call}_for_subscriber")),
        anonymous: options.bool(&format!("allow_{call}_for_anonymous")),
    };
    let meta_ttl = match options.duration("history_meta_ttl") {
        Duration::ZERO => channel.duration("history_meta_ttl"),
        own => own,
    };
    let ttl = options.duration("history_ttl");
    let size = NonZeroUsize::new(options.size("history_size")).filter(|_| !ttl.is_zero());
    let format = non_empty(options.text("publication_data_format"));
    ChannelOptions {
        presence: options.bool("presence"),
        join_leave: options.bool("join_leave"),
        force_push_join_leave: options.bool("force_push_join_leave"),
        history: size.map(|size| HistoryOptions { size, ttl, meta_ttl }),
        force_positioning: options.bool("force_positioning"),
        allow_positioning: options.bool("allow_positioning"),
        force_recovery: options.bool("force_recovery"),
        allow_recovery: options.bool("allow_recovery"),
        recovery_mode: match options.text("force_recovery_mode") {
            "cache" => RecoveryMode::Cache,
            _ => RecoveryMode::Stream,
        },
        auto_cache_recover: options.bool("auto_cache_recover"),
        allow_delta_fossil: allows_fossil(options),
        delta_publish: options.bool("delta_publish"),
        allow_tags_filter: options.bool("allow_tags_filter"),
        allow_channel_compaction: options.bool("allow_channel_compaction"),
        subscribe: SubscribeRights {
            client: options.bool("allow_subscribe_for_client"),
            anonymous: options.bool("allow_subscribe_for_anonymous"),
        },
        publish: rights("publish"),
        presence_call: rights("presence"),
        history_call: rights("history"),
        allow_user_limited_channels: options.bool("allow_user_limited_channels"),
        channel_regex: non_empty(options.text("channel_regex")).and_then(|pattern| Regex::new(pattern).ok()),
        data_format: match format.unwrap_or(channel.text("publication_data_format")) {
            "json" => DataFormat::Json,
            "json_object" => DataFormat::JsonObject,
            "binary" => DataFormat::Binary,
            _ => DataFormat::NonEmpty,
        },
        subscribe_hook: hook_of(options, "subscribe", "subscribe"),
        publish_hook: hook_of(options, "publish", "publish"),
        sub_refresh_hook: hook_of(options, "sub_refresh", "sub_refresh"),
        stream_hook: hook_of(options, "subscribe_stream", "subscribe_stream").map(|name| {
            let is_bidirectional = options.bool("subscribe_stream_proxy_bidirectional");
            Box::new(StreamHook { name, is_bidirectional })
        }),
        cache_empty_hook: hook_of(options, "cache_empty", "cache_empty"),
        state_hook: hook_of(options, "state", "state"),
        map: map(options),
        shared_poll: shared_poll(options),
        clients_presence_prefix: options.text("map_clients_presence_channel_prefix").into(),
        users_presence_prefix: options.text("map_users_presence_channel_prefix").into(),
        kind: match options.text("subscription_type") {
            "map" => SubscriptionKind::Map,
            "map_clients" => SubscriptionKind::MapClients,
            "map_users" => SubscriptionKind::MapUsers,
            "shared_poll" => SubscriptionKind::SharedPoll,
            _ => SubscriptionKind::Stream,
        },
    }
}

/// Options of a namespace of maps; `None` for other kinds of channels.
///
/// Spec: configuration, "Channel options", `map.*`: zero values stand for the defaults.
fn map(options: &Section) -> Option<MapOptions> {
    if !matches!(options.text("subscription_type"), "map" | "map_clients" | "map_users") {
        return None;
    }
    let map = options.object("map");
    let duration_or =
        |name: &str, default| Some(map.duration(name)).filter(|d| !d.is_zero()).unwrap_or(default);
    let size_or = |name: &str, default| Some(map.size(name)).filter(|size| *size > 0).unwrap_or(default);
    let rights = |call: &str| CallRights {
        client: map.bool(&format!("allow_{call}_for_client")),
        subscriber: map.bool(&format!("allow_{call}_for_subscriber")),
        anonymous: map.bool(&format!("allow_{call}_for_anonymous")),
    };
    let key_ttl = map.duration("key_ttl");
    let stream_ttl = duration_or("stream_ttl", Duration::from_secs(60));
    let stream = |meta_ttl| HistoryOptions {
        size: NonZeroUsize::new(map.size("stream_size")).unwrap_or(MAP_STREAM_SIZE),
        ttl: stream_ttl,
        meta_ttl,
    };
    let retention = match map.text("mode") {
        "recoverable" => {
            let meta_ttl = duration_or("meta_ttl", stream_ttl.saturating_mul(10)).max(key_ttl);
            MapRetention::Recoverable { key_ttl, stream: stream(meta_ttl) }
        }
        "persistent" => MapRetention::Persistent { stream: stream(Duration::MAX) },
        _ => MapRetention::Ephemeral { key_ttl },
    };
    let max = size_or("max_page_size", 1000);
    let order = if map.bool("ordered") { MapOrder::Score } else { MapOrder::Key };
    Some(MapOptions {
        storage: MapStorage { retention, order },
        publish: rights("publish"),
        remove: rights("remove"),
        publish_hook: hook_of(map, "publish", "map_publish"),
        remove_hook: hook_of(map, "remove", "map_remove"),
        client_key: match map.text("client_key") {
            "client_id" => ClientKey::ClientId,
            "user_id" => ClientKey::UserId,
            _ => ClientKey::Given,
        },
        remove_client_on_unsubscribe: map.bool("remove_client_on_unsubscribe"),
        pages: PageSizes {
            default: size_or("default_page_size", 100),
            min: size_or("min_page_size", 100),
            max,
        },
        live_publications_max: size_or("live_transition_max_publication_limit", max),
        catch_up_timeout: catch_up_timeout(map.text("subscribe_catch_up_timeout")).flatten(),
    })
}

/// Options of a namespace of shared polls; `None` for other kinds of channels.
fn allows_fossil(options: &Section) -> bool {
    options.list("allowed_delta_types").iter().any(|kind| kind == "fossil")
}

fn shared_poll(options: &Section) -> Option<Arc<SharedPollOptions>> {
    if options.text("subscription_type") != "shared_poll" {
        return None;
    }
    let poll = options.object("shared_poll");
    let duration_or = |name: &str, default| match poll.duration(name) {
        Duration::ZERO => Duration::from_secs(default),
        given => given,
    };
    let size_or = |name: &str, default| Some(poll.size(name)).filter(|size| *size > 0).unwrap_or(default);
    Some(Arc::new(SharedPollOptions {
        backend: target_name(poll.text("proxy_name"), "shared_poll_refresh"),
        refresh_interval: duration_or("refresh_interval", 10),
        batch_keys_max: size_or("refresh_batch_size", 1000),
        keys_max: size_or("max_keys_per_connection", 5000),
        versions: if poll.text("mode") == "versioned" { Versions::Backend } else { Versions::Ours },
        shutdown_delay: duration_or("channel_shutdown_delay", 1),
        expired_extra_delay: duration_or("track_expired_extra_delay", 25),
        publish_enabled: poll.bool("publish_enabled"),
        delta: allows_fossil(options),
    }))
}

/// A duration, or `None` within for a negative one. `None` if it is no duration.
pub(super) fn catch_up_timeout(text: &str) -> Option<Option<Duration>> {
    let timeout = match text.strip_prefix('-') {
        Some(negative) => return duration::parse(negative).map(|_| None),
        None => duration::parse(text)?,
    };
    Some(Some(if timeout.is_zero() { Duration::from_secs(5) } else { timeout }))
}
