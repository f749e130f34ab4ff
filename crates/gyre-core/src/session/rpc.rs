//! The rpc command. Without a backend only the built-in ping has an answer.

use gyre_protocol::{ClientError, Payload, ReplyBody, RpcRequest};

use super::{Refusal, Session};
use crate::rules::Context;

impl Session {
    pub(super) fn rpc(&mut self, cx: &Context<'_>, id: u32, request: &RpcRequest<'_>) -> Result<(), Refusal> {
        match cx.rules.rpc_ping.as_deref() {
            None => Err(ClientError::NOT_AVAILABLE.into()),
            Some(ping) if *ping == *request.method => {
                self.reply(id, ReplyBody::Rpc(Payload::default()));
                Ok(())
            }
            Some(_) => Err(ClientError::METHOD_NOT_FOUND.into()),
        }
    }
}
