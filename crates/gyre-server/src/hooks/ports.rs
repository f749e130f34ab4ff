//! The ports of the application, filled by its hooks.

use std::sync::Arc;

use gyre_core::{
    channel::ChannelName,
    ports::{
        Answer, Caller, ChannelStateEvent, ClientHooks, ConnectGrant, ConnectQuestion, Delivery,
        DisconnectEvent, EventHooks, HookRefusal, MapHookGrant, MapHookRequest, MapHooks, PollError, Polled,
        PublishGrant, Refreshed, SharedPollBackend, SubscribeGrant,
    },
};
use gyre_protocol::Payload;

use super::{
    Hook, Hooks,
    connect::Connect,
    events::{ChannelStates, Disconnected},
    map::{MapPublish, MapRemove},
    message::{Failure, Unusable},
    publish::Publish,
    refresh::{Refresh, SubRefresh},
    rpc::Rpc,
    shared_poll::SharedPoll,
    subscribe::Subscribe,
};

impl ClientHooks for Hooks {
    fn connect(
        &self,
        hook: &str,
        caller: Caller,
        question: ConnectQuestion,
    ) -> Answer<Result<Option<Box<ConnectGrant>>, HookRefusal>> {
        self.ask(hook, caller, Connect(question))
    }

    fn refresh(&self, hook: &str, caller: Caller) -> Answer<Option<Refreshed>> {
        self.ask_refresh(hook, caller, Refresh)
    }

    fn subscribe(
        &self,
        hook: &str,
        caller: Caller,
        channel: ChannelName,
        data: Payload,
    ) -> Answer<Result<SubscribeGrant, HookRefusal>> {
        self.ask(hook, caller, Subscribe { channel, data })
    }

    fn publish(
        &self,
        hook: &str,
        caller: Caller,
        channel: ChannelName,
        data: Payload,
    ) -> Answer<Result<PublishGrant, HookRefusal>> {
        self.ask(hook, caller, Publish { channel, data })
    }

    fn rpc(
        &self,
        hook: &str,
        caller: Caller,
        method: Box<str>,
        data: Payload,
    ) -> Answer<Result<Payload, HookRefusal>> {
        self.ask(hook, caller, Rpc { method, data })
    }

    fn sub_refresh(&self, hook: &str, caller: Caller, channel: ChannelName) -> Answer<Option<Refreshed>> {
        self.ask_refresh(hook, caller, SubRefresh(channel))
    }
}

impl Hooks {
    fn ask_refresh<H: Hook<Grant = Refreshed>>(
        &self,
        name: &str,
        caller: Caller,
        hook: H,
    ) -> Answer<Option<Refreshed>> {
        let (hooks, name): (_, Box<str>) = (self.clone(), name.into());
        Answer::Later(Box::pin(async move { hooks.call(&name, Some(&caller), &hook).await.ok() }))
    }
}

impl MapHooks for Hooks {
    fn ask(
        &self,
        hook: &str,
        caller: Caller,
        request: MapHookRequest,
    ) -> Answer<Result<MapHookGrant, HookRefusal>> {
        match request.data {
            Some(_) => Self::ask(self, hook, caller, MapPublish(request)),
            None => Self::ask(self, hook, caller, MapRemove(request)),
        }
    }
}

impl SharedPollBackend for Hooks {
    fn refresh(
        &self,
        backend: &str,
        channel: &ChannelName,
        keys: Vec<(Arc<str>, u64)>,
    ) -> Answer<Result<Polled, PollError>> {
        let poll = SharedPoll { channel: channel.clone(), keys };
        let (hooks, name): (_, Box<str>) = (self.clone(), backend.into());
        Answer::Later(Box::pin(async move {
            hooks.call(&name, None, &poll).await.map_err(|failure| {
                let reason = match failure {
                    Failure::Unusable(Unusable(reason)) => reason,
                    Failure::Refused(refusal) => format!("the backend refuses: {refusal:?}"),
                };
                PollError { reason }
            })
        }))
    }
}

impl EventHooks for Hooks {
    fn cache_empty(&self, hook: &str, channel: &ChannelName) -> Answer<bool> {
        self.cache_misses().ask(self, hook, channel)
    }

    fn channel_states(&self, hook: &str, events: Vec<ChannelStateEvent>) -> Answer<Delivery> {
        let (hooks, name): (_, Box<str>) = (self.clone(), hook.into());
        Answer::Later(Box::pin(
            async move { delivery(hooks.call(&name, None, &ChannelStates(events)).await) },
        ))
    }

    fn disconnected(&self, hook: &str, event: DisconnectEvent) -> Answer<Delivery> {
        let (hooks, name): (_, Box<str>) = (self.clone(), hook.into());
        Answer::Later(Box::pin(async move {
            let caller = event.caller.clone();
            delivery(hooks.call(&name, Some(&caller), &Disconnected(event)).await)
        }))
    }
}

/// An application that refuses an event has got it.
fn delivery(answer: Result<(), Failure>) -> Delivery {
    match answer {
        Ok(()) | Err(Failure::Refused(_)) => Delivery::Done,
        Err(Failure::Unusable(_)) => Delivery::Failed,
    }
}
