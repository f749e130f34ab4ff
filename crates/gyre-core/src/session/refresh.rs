//! The end of a connection's time: the refresh command with a new token, and the application's say.
//!
//! Spec: centrifuge `client.go` handleRefresh; centrifugo `internal/client/handler.go` OnRefresh.

use std::sync::Arc;

use gyre_protocol::{ClientError, ClientInfo, Disconnect, ReplyBody};

use super::{BusyCommand, Effect, EffectId, Question, Refusal, Session, connect::expiry, subscribe::is_past};
use crate::{
    limits::UNANSWERED_REFRESH,
    ports::{ConnectionClaims, Prolongation, Refreshed, TokenError},
    rules::Context,
};

/// How what has expired goes on; `None` if it ends. Without a usable answer it goes on for a while: a backend that is
/// down must not throw everybody out.
pub(super) fn prolongation(answer: Option<Refreshed>, cx: &Context<'_>) -> Option<Prolongation> {
    let unix_seconds = (cx.now.unix_ms / 1000) as i64;
    match answer {
        Some(Refreshed::Expired) => None,
        Some(Refreshed::Prolonged(prolongation)) => {
            let expire_at = Some(prolongation.expire_at).filter(|&at| at > 0);
            (!is_past(expire_at, cx)).then_some(*prolongation)
        }
        None => {
            let expire_at = unix_seconds + UNANSWERED_REFRESH.as_secs() as i64;
            Some(Prolongation { expire_at, ..Prolongation::default() })
        }
    }
}

impl Session {
    pub(super) fn refresh(&mut self, cx: &Context<'_>, id: u32, token: &str) -> Result<(), Refusal> {
        if token.is_empty() || cx.rules.hooks.refresh.is_some() {
            return Err(Disconnect::BAD_REQUEST.into());
        }
        self.wait_for(Effect::Authenticate { token: token.into() }, BusyCommand::Refresh { id });
        Ok(())
    }

    pub(super) fn refreshed(
        &mut self,
        cx: &Context<'_>,
        id: u32,
        claims: Result<Box<ConnectionClaims>, TokenError>,
    ) -> Result<(), Refusal> {
        let claims = claims.map_err(|error| match error {
            TokenError::Expired => Refusal::Disconnect(Disconnect::EXPIRED),
            TokenError::Invalid { .. } => Disconnect::INVALID_TOKEN.into(),
            TokenError::AnonymousNotAllowed => Disconnect::PERMISSION_DENIED.into(),
            TokenError::Undecodable { .. } | TokenError::Unverifiable { .. } => ClientError::INTERNAL.into(),
        })?;
        if claims.subs.iter().any(|sub| cx.rules.namespaces.options(&sub.channel).is_none()) {
            return Err(ClientError::UNKNOWN_CHANNEL.into());
        }
        let Some(live) = self.live_mut() else { return Ok(()) };
        if *claims.user != *live.user {
            return Err(Disconnect::INVALID_TOKEN.into());
        }
        let expire_at = if cx.rules.connect.insecure { None } else { claims.expire_at.filter(|&at| at > 0) };
        if is_past(expire_at, cx) {
            return Err(ClientError::EXPIRED.into());
        }
        let is_same_set = claims.subs.len() == live.token_channels.len()
            && claims.subs.iter().all(|sub| live.token_channels.contains(&sub.channel));
        if !is_same_set {
            // Reconnecting gives the client its new set of subscriptions.
            return Err(Disconnect::INSUFFICIENT_STATE.into());
        }
        if !claims.info.is_empty() {
            live.info = Arc::new(ClientInfo { conn_info: claims.info.clone(), ..(*live.info).clone() });
        }
        // Spec-deviation: the reference leaves the old deadline armed when the new token has no expiry.
        live.timers.expire(expire_at, cx);
        live.attach_meta(claims.meta);
        self.reply(id, ReplyBody::Refresh(expiry(expire_at, &cx.now)));
        Ok(())
    }

    /// The connection has expired: it ends, unless the application prolongs it.
    ///
    /// # Errors
    /// 3005 where no hook is to be asked.
    pub(super) fn expired(&mut self, cx: &Context<'_>) -> Result<(), Disconnect> {
        let hook = cx.rules.hooks.refresh.clone().ok_or(Disconnect::EXPIRED)?;
        let question = self.question(hook, Question::Refresh);
        let effect = self.effect(question);
        let Some(live) = self.live_mut() else { return Ok(()) };
        live.timers.expire(None, cx);
        live.refreshing = Some(effect);
        Ok(())
    }

    /// The application has judged the connection.
    ///
    /// # Errors
    /// 3005 if it does not go on.
    pub(super) fn refresh_answered(
        &mut self,
        cx: &Context<'_>,
        effect: EffectId,
        answer: Option<Refreshed>,
    ) -> Result<(), Disconnect> {
        let Some(live) = self.live_mut() else { return Ok(()) };
        if live.refreshing.take_if(|asked| *asked == effect).is_none() {
            return Ok(());
        }
        let prolongation = prolongation(answer, cx).ok_or(Disconnect::EXPIRED)?;
        if !prolongation.info.is_empty() {
            live.info = Arc::new(ClientInfo { conn_info: prolongation.info, ..(*live.info).clone() });
        }
        live.attach_meta(prolongation.meta);
        live.timers.expire(Some(prolongation.expire_at).filter(|&at| at > 0), cx);
        Ok(())
    }
}
