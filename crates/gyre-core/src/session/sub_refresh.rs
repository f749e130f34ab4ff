//! The end of a subscription's time: the sub_refresh command with a new token, and the application's say.
//!
//! Spec: centrifuge `client.go` handleSubRefresh; centrifugo `internal/client/handler.go` OnSubRefresh.

use std::sync::Arc;

use gyre_protocol::{
    ClientError, ClientInfo, Disconnect, PushBody, ReplyBody, SubRefreshRequest, SubRefreshResult,
    Unsubscribe,
};

use super::{
    BusyCommand, Effect, EffectId, Refusal, Session,
    connect::expiry,
    refresh::prolongation,
    shared_poll::{REFRESH_TRACK, REFRESH_UNTRACK},
    subscribe::is_past,
};
use crate::{
    channel::ChannelName,
    ports::{Refreshed, SubscriptionClaims, TokenError},
    rules::Context,
};

impl Session {
    pub(super) fn sub_refresh(
        &mut self,
        cx: &Context<'_>,
        id: u32,
        request: &SubRefreshRequest<'_>,
    ) -> Result<(), Refusal> {
        if request.channel.is_empty() {
            return Err(Disconnect::BAD_REQUEST.into());
        }
        let subscription = self.live().and_then(|live| live.subscriptions.get(&request.channel));
        let Some(subscription) = subscription else { return Err(ClientError::PERMISSION_DENIED.into()) };
        if subscription.features.is_server_side {
            return Err(Disconnect::BAD_REQUEST.into());
        }
        match request.kind {
            REFRESH_TRACK => return self.track(id, request),
            REFRESH_UNTRACK => return self.untrack(id, request),
            _ => {}
        }
        let options = cx.rules.namespaces.options(&request.channel);
        if options.is_some_and(|options| options.sub_refresh_hook.is_some()) {
            return Err(Disconnect::BAD_REQUEST.into());
        }
        if request.token.is_empty() || request.kind != 0 {
            return Err(ClientError::BAD_REQUEST.into());
        }
        let channel = ChannelName::new(&request.channel);
        let token = request.token.as_ref().into();
        self.wait_for(Effect::Verify { token }, BusyCommand::SubRefresh { id, channel });
        Ok(())
    }

    pub(super) fn sub_refreshed(
        &mut self,
        cx: &Context<'_>,
        id: u32,
        channel: &ChannelName,
        claims: Result<Box<SubscriptionClaims>, TokenError>,
    ) -> Result<(), Refusal> {
        // Spec-deviation: the reference takes an expired token as the end of all expiry.
        let claims = claims.map_err(|error| match error {
            TokenError::Expired => Refusal::Error(ClientError::EXPIRED),
            _ => Disconnect::INVALID_TOKEN.into(),
        })?;
        let Some(live) = self.live() else { return Ok(()) };
        if *claims.channel != **channel || !self.is_bearer(&claims, &live.user) {
            return Err(Disconnect::INVALID_TOKEN.into());
        }
        let expire_at = claims.expire_at.filter(|&at| at > 0);
        if is_past(expire_at, cx) {
            return Err(ClientError::EXPIRED.into());
        }
        let jitter = self.jitter;
        let Some(live) = self.live_mut() else { return Ok(()) };
        let Some(subscription) = live.subscriptions.get_mut(channel) else {
            return Err(ClientError::PERMISSION_DENIED.into());
        };
        subscription.expire_at = expire_at;
        subscription.info = match claims.grant.info.is_empty() {
            true => live.info.clone(),
            false => Arc::new(ClientInfo { chan_info: claims.grant.info, ..(*live.info).clone() }),
        };
        if subscription.needs_tick() {
            live.timers.start_tick(&cx.now, &cx.rules.limits, jitter);
        }
        let result = SubRefreshResult { expiry: expiry(expire_at, &cx.now), items: Vec::new() };
        self.reply(id, ReplyBody::SubRefresh(result));
        Ok(())
    }

    /// The application has judged a subscription that expired.
    ///
    /// # Errors
    /// 3006 if a server-side subscription does not go on.
    pub(super) fn sub_refresh_answered(
        &mut self,
        cx: &Context<'_>,
        effect: EffectId,
        channel: &ChannelName,
        answer: Option<Refreshed>,
    ) -> Result<(), Disconnect> {
        let Some(live) = self.live_mut() else { return Ok(()) };
        let Some(subscription) = live.subscriptions.get_mut(channel) else { return Ok(()) };
        if subscription.refreshing.take_if(|asked| *asked == effect).is_none() {
            return Ok(());
        }
        let Some(prolongation) = prolongation(answer, cx) else {
            if subscription.features.is_server_side {
                return Err(Disconnect::SUBSCRIPTION_EXPIRED);
            }
            self.drop_subscription(channel);
            self.push(Some(channel), PushBody::Unsubscribe(Unsubscribe::EXPIRED));
            return Ok(());
        };
        subscription.expire_at = Some(prolongation.expire_at).filter(|&at| at > 0);
        if !prolongation.info.is_empty() {
            let info = ClientInfo { chan_info: prolongation.info, ..(*live.info).clone() };
            subscription.info = Arc::new(info);
        }
        Ok(())
    }
}
