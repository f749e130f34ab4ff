//! What the web interface shows of a channel's options.

use std::time::Duration;

use gyre_core::channel::{CallRights, ChannelOptions, RecoveryMode, SubscriptionKind};
use gyre_node::Node;
use gyre_transport::http::Response;
use serde_json::{Value, json};

use super::{parameter, uncached};
use crate::config::duration;

/// The options in force for a channel.
pub(super) fn answer(node: &Node, query: &str) -> Response {
    let channel = parameter(query, "channel").unwrap_or_default();
    let rules = node.rules();
    let namespaces = &rules.namespaces;
    let Some(options) = namespaces.options(&channel).filter(|_| !channel.is_empty()) else {
        return uncached(json!({"channel": channel, "options": null}).to_string().into());
    };
    let own = namespaces.named.iter().find(|(_, known)| std::sync::Arc::ptr_eq(known, options));
    let document = json!({
        "channel": channel,
        "namespace": own.map(|(name, _)| &**name),
        "options": options_view(options),
    });
    uncached(document.to_string().into())
}

fn options_view(options: &ChannelOptions) -> Value {
    let kind = match options.kind {
        SubscriptionKind::Stream => "stream",
        _ if options.shared_poll.is_some() => "shared_poll",
        _ => "map",
    };
    let history = options.history.map(
        |history| json!({"size": history.size, "ttl": text(history.ttl), "meta_ttl": text(history.meta_ttl)}),
    );
    let by_choice = |forced: bool, allowed: bool| match (forced, allowed) {
        (true, _) => "always",
        (false, true) => "if asked",
        (false, false) => "no",
    };
    json!({
        "kind": kind,
        "presence": options.presence,
        "join_leave": options.join_leave,
        "force_push_join_leave": options.force_push_join_leave,
        "history": history,
        "positioning": by_choice(options.force_positioning, options.allow_positioning),
        "recovery": by_choice(options.force_recovery, options.allow_recovery),
        "recovery_mode": match options.recovery_mode {
            RecoveryMode::Stream => "stream",
            RecoveryMode::Cache => "cache",
        },
        "delta": options.allow_delta_fossil,
        "tags_filter": options.allow_tags_filter,
        "user_limited": options.allow_user_limited_channels,
        "channel_regex": options.channel_regex.as_ref().map(|regex| regex.as_str()),
        "subscribe": who(options.subscribe.client, false, options.subscribe.anonymous),
        "publish": rights(options.publish),
        "presence_call": rights(options.presence_call),
        "history_call": rights(options.history_call),
        "subscribe_hook": options.subscribe_hook,
        "publish_hook": options.publish_hook,
        "sub_refresh_hook": options.sub_refresh_hook,
    })
}

fn rights(rights: CallRights) -> String {
    who(rights.client, rights.subscriber, rights.anonymous)
}

fn who(client: bool, subscriber: bool, anonymous: bool) -> String {
    let whom = match (client, subscriber) {
        (true, _) => "any client",
        (false, true) => "subscribers",
        (false, false) => return "by token or hook only".into(),
    };
    if anonymous { format!("{whom}, anonymous as well") } else { whom.into() }
}

fn text(length: Duration) -> String {
    duration::format(length)
}
