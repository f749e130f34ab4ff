//! The rpc command: the built-in ping, and methods of the application.

use gyre_protocol::{Payload, ReplyBody, RpcRequest};

use super::{BusyCommand, Question, Refusal, Session, subscribe::received};
use crate::rules::Context;

impl Session {
    pub(super) fn rpc(&mut self, cx: &Context<'_>, id: u32, request: &RpcRequest<'_>) -> Result<(), Refusal> {
        let rules = &cx.rules.rpc;
        if rules.ping.as_deref().is_some_and(|ping| *ping == *request.method) {
            self.reply(id, ReplyBody::Rpc(Payload::default()));
            return Ok(());
        }
        let hook = rules.hook(&request.method)?.into();
        let data = received(self.encoding, &request.data);
        let question = Question::Rpc { method: request.method.as_ref().into(), data };
        self.ask(hook, question, BusyCommand::Rpc { id });
        Ok(())
    }
}
