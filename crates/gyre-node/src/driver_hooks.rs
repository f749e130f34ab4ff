//! Questions to the application about a client.

use gyre_core::{
    hub::Slot,
    ports::Caller,
    session::{EffectId, Outcome, Question},
};

use crate::shard::ShardState;

impl ShardState {
    /// Asks a hook, told also what the session does not know of its connection; the outcome if it is known at once.
    pub(crate) fn ask(
        &mut self,
        slot: Slot,
        id: EffectId,
        hook: &str,
        caller: Caller,
        question: Question,
    ) -> Option<Outcome> {
        let connection = self.connections.at_mut(slot)?;
        let caller = connection.known(caller);
        let hooks = &self.node.ports.hooks;
        let answer = match question {
            Question::Connect(question) => {
                hooks.connect(hook, caller, question).map(Outcome::ConnectAnswered)
            }
            Question::Refresh => hooks.refresh(hook, caller).map(Outcome::RefreshAnswered),
            Question::Subscribe { channel, data } => {
                let answer = hooks.subscribe(hook, caller, channel, data);
                answer.map(|grant| Outcome::SubscribeAnswered(grant.map(Box::new)))
            }
            Question::Publish { channel, data } => {
                let answer = hooks.publish(hook, caller, channel, data);
                answer.map(|grant| Outcome::PublishAnswered(grant.map(Box::new)))
            }
            Question::Rpc { method, data } => hooks.rpc(hook, caller, method, data).map(Outcome::RpcAnswered),
            Question::SubRefresh { channel } => {
                let answer = hooks.sub_refresh(hook, caller, channel.clone());
                answer.map(|answer| Outcome::SubRefreshAnswered { channel, answer })
            }
            Question::OpenStream(request) => return self.open_stream(slot, id, hook, caller, request),
            Question::Map(request) => {
                let answer = self.node.ports.map_hooks.ask(hook, caller, request);
                answer.map(|grant| Outcome::MapHookAnswered(grant.map(Box::new)))
            }
        };
        self.answer(slot, id, answer)
    }
}
