//! What the application does to a connection at run time, and what the hub reports about its subscriptions.

use std::sync::Arc;

use gyre_protocol::{ClientInfo, Disconnect, PushBody, Unsubscribe};

use super::{
    Origin, ServerRefresh, ServerSubscribe, Session,
    connect::expiry,
    subscribe::{Grant, is_past},
};
use crate::{channel::ChannelName, rules::Context};

impl Session {
    /// Subscribes the connection to a channel; the client learns it by a push. Nothing happens if it is subscribed
    /// already.
    ///
    /// # Errors
    /// 3505 if the connection has too many subscriptions.
    pub fn handle_server_subscribe(
        &mut self,
        cx: &Context<'_>,
        channel: &ChannelName,
        request: ServerSubscribe,
    ) -> Result<(), Disconnect> {
        if !self.is_connected() || self.live().is_some_and(|live| live.subscriptions.contains(channel)) {
            return Ok(());
        }
        if self.subscription_count() >= cx.rules.limits.channel_limit {
            return Err(Disconnect::CHANNEL_LIMIT);
        }
        let Some(options) = cx.rules.namespaces.options(channel) else { return Ok(()) };
        let grant = Grant {
            grant: request.grant,
            expire_at: request.expire_at.filter(|&at| at > 0),
            ..Grant::server_side(options.clone(), request.since)
        };
        self.begin_subscription(cx, Origin::Server, channel.clone(), grant);
        Ok(())
    }

    /// Ends the subscription to a channel, or all of them; one push a channel. The push is sent also for a channel
    /// the connection is not subscribed to.
    pub fn handle_server_unsubscribe(&mut self, channel: Option<&ChannelName>, reason: &Unsubscribe) {
        let Some(live) = self.live() else { return };
        let channels = match channel {
            Some(channel) => vec![channel.clone()],
            None => live.subscriptions.channels().cloned().collect(),
        };
        for channel in channels {
            self.drop_subscription(&channel);
            self.push(Some(&channel), PushBody::Unsubscribe(reason.clone()));
        }
    }

    /// Prolongs or ends the expiry of the connection; the client learns it by a push.
    ///
    /// # Errors
    /// 3005 if the new expiry has passed.
    pub fn handle_server_refresh(
        &mut self,
        cx: &Context<'_>,
        refresh: ServerRefresh,
    ) -> Result<(), Disconnect> {
        let Some(live) = self.live_mut() else { return Ok(()) };
        let expire_at = (refresh.expire_at > 0).then_some(refresh.expire_at);
        if is_past(expire_at, cx) {
            return Err(Disconnect::EXPIRED);
        }
        if !refresh.info.is_empty() {
            live.info = Arc::new(ClientInfo { conn_info: refresh.info, ..(*live.info).clone() });
        }
        live.timers.expire(expire_at, cx);
        self.push(None, PushBody::Refresh(expiry(expire_at, &cx.now)));
        Ok(())
    }

    /// The position of a subscription can no longer be trusted: the client must subscribe again with recovery.
    ///
    /// # Errors
    /// 3010 for a server-side subscription, because only a new connect makes it again.
    pub fn handle_lost_position(&mut self, channel: &ChannelName) -> Result<(), Disconnect> {
        let Some(subscription) = self.live().and_then(|live| live.subscriptions.get(channel)) else {
            return Ok(());
        };
        if subscription.features.is_server_side {
            return Err(Disconnect::INSUFFICIENT_STATE);
        }
        self.drop_subscription(channel);
        self.push(Some(channel), PushBody::Unsubscribe(Unsubscribe::INSUFFICIENT_STATE));
        Ok(())
    }
}
