//! Asking the application about a client, and what it learns of the client by that.

use gyre_protocol::Payload;

use super::{BusyCommand, Effect, Live, Question, Refusal, Session};
use crate::{
    ports::{Caller, EmulatedHeaders, HookRefusal},
    rules::Context,
};

impl Session {
    /// Asks a hook, and remembers the command that waits for the answer.
    pub(super) fn ask(&mut self, hook: Box<str>, question: Question, command: BusyCommand) {
        let effect = self.question(hook, question);
        self.wait_for(effect, command);
    }

    /// The effect that asks a hook about this client.
    pub(super) fn question(&self, hook: Box<str>, question: Question) -> Effect {
        Effect::Ask { hook, caller: Box::new(self.caller()), question: Box::new(question) }
    }

    /// What the session knows of its client, for hooks.
    pub fn caller(&self) -> Caller {
        Caller {
            client: self.client.to_string().into(),
            user: self.user().cloned().unwrap_or_default(),
            meta: self.live().map(Live::meta).unwrap_or_default(),
            ..Caller::default()
        }
    }
}

impl Live {
    fn meta(&self) -> Payload {
        self.meta.as_deref().cloned().unwrap_or_default()
    }

    /// Replaces what the application attached to the connection, if there is something new.
    pub(super) fn attach_meta(&mut self, meta: Payload) {
        if !meta.is_empty() {
            self.meta = Some(Box::new(meta));
        }
    }
}

/// Those headers of a connect command that some hook may see, each name once: what nobody asked for is not kept.
pub(super) fn kept_headers<'a>(
    cx: &Context<'_>,
    headers: impl Iterator<Item = (&'a str, &'a str)>,
) -> EmulatedHeaders {
    let wanted = &cx.rules.hooks.emulated_headers;
    if wanted.is_empty() {
        return EmulatedHeaders::default();
    }
    let mut kept: Vec<(Box<str>, Box<str>)> = Vec::new();
    for (name, value) in headers {
        let Some(name) = wanted.iter().find(|wanted| wanted.eq_ignore_ascii_case(name)) else { continue };
        kept.retain(|(known, _)| known != name);
        kept.push((name.clone(), value.into()));
    }
    kept.into()
}

impl From<HookRefusal> for Refusal {
    fn from(refusal: HookRefusal) -> Self {
        match refusal {
            HookRefusal::Error(error) => Self::Error(error),
            HookRefusal::Disconnect(disconnect) => Self::Disconnect(disconnect),
        }
    }
}
