//! The refresh command: a new token for the connection.
//!
//! Spec: centrifuge `client.go` handleRefresh; centrifugo `internal/client/handler.go` OnRefresh.

use std::sync::Arc;

use gyre_protocol::{ClientError, ClientInfo, Disconnect, ReplyBody};

use super::{BusyCommand, Effect, Refusal, Session, connect::expiry, subscribe::is_past};
use crate::{
    ports::{ConnectionClaims, TokenError},
    rules::Context,
};

impl Session {
    pub(super) fn refresh(&mut self, id: u32, token: &str) -> Result<(), Refusal> {
        if token.is_empty() {
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
        live.timers.expire(expire_at, &cx.now, &cx.rules.limits);
        self.reply(id, ReplyBody::Refresh(expiry(expire_at, &cx.now)));
        Ok(())
    }
}
