//! Streams of the application that feed subscriptions: opened and read on the control runtime, handed to their sessions
//! through the shard's mailbox, one batch at a time, so that a client that falls behind holds its backend back.

use std::{sync::Arc, time::Duration};

use gyre_core::{
    channel::ChannelName,
    hub::Slot,
    ports::{
        Answer, Caller, EngineError, HookRefusal, OpenStream, StreamEnd, StreamRequest, StreamSink,
        StreamSource,
    },
    session::{EffectId, Outcome},
};
use gyre_protocol::Publication;
use tokio::{sync::oneshot, task::AbortHandle};

use crate::{
    mailbox::Mailbox,
    shard::{ConnectionId, ShardState},
};

/// How long a stream is left alone whose client takes less than comes.
const PAUSE: Duration = Duration::from_millis(20);

/// A stream by its connection and the effect that opened it.
pub(crate) type StreamId = (ConnectionId, EffectId);

/// An open stream. Dropping it ends the stream.
pub(crate) struct StreamLink {
    /// Until the subscription is made, once the stream is open.
    source: Option<Box<dyn StreamSource>>,
    sink: Option<Arc<dyn StreamSink>>,
    /// What opens it, then what reads it.
    task: Option<AbortHandle>,
}

impl Drop for StreamLink {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

impl ShardState {
    /// Opens a stream; its answer comes through the mailbox.
    pub(crate) fn open_stream(
        &mut self,
        slot: Slot,
        id: EffectId,
        hook: &str,
        caller: Caller,
        request: StreamRequest,
    ) -> Option<Outcome> {
        let later = match self.node.ports.streams.open(hook, caller, request) {
            Answer::Ready(opened) => return Some(Outcome::StreamOpened(self.keep_stream(slot, id, opened))),
            Answer::Later(later) => later,
        };
        let connection = self.connection_id(slot)?;
        let mailbox = self.node.directory.mailboxes()[self.index].clone();
        let opening = self.node.control.spawn(async move {
            let opened = later.await;
            mailbox.run(Box::new(move |shard| {
                shard.streams.remove(&(connection, id));
                // Of a connection that is gone the stream is dropped here, and thereby ended.
                if shard.connections.get_mut(connection).is_some()
                    && shard.connections.open_mut(connection.slot).is_some()
                {
                    let answer = shard.keep_stream(connection.slot, id, opened);
                    let outcome = Outcome::StreamOpened(answer);
                    shard
                        .with_session(connection.slot, |session, cx| session.handle_outcome(cx, id, outcome));
                }
            }));
        });
        let link = StreamLink { source: None, sink: None, task: Some(opening.abort_handle()) };
        self.streams.insert((connection, id), link);
        None
    }

    fn keep_stream(
        &mut self,
        slot: Slot,
        id: EffectId,
        opened: Result<OpenStream, HookRefusal>,
    ) -> Result<Box<gyre_core::ports::SubscribeGrant>, HookRefusal> {
        let OpenStream { grant, source, sink } = opened?;
        if let Some(connection) = self.connection_id(slot) {
            let link = StreamLink { source: Some(source), sink, task: None };
            self.streams.insert((connection, id), link);
        }
        Ok(Box::new(grant))
    }

    /// The subscription is made: what comes is its.
    pub(crate) fn follow_stream(&mut self, slot: Slot, stream: EffectId, channel: ChannelName) {
        let Some(connection) = self.connection_id(slot) else { return };
        let Some(link) = self.streams.get_mut(&(connection, stream)) else { return };
        let Some(source) = link.source.take() else { return };
        let mailbox = self.node.directory.mailboxes()[self.index].clone();
        let reader = self.node.control.spawn(read(source, mailbox, (connection, stream), channel));
        link.task = Some(reader.abort_handle());
    }

    pub(crate) fn end_stream(&mut self, slot: Slot, stream: EffectId) {
        if let Some(connection) = self.connection_id(slot) {
            self.streams.remove(&(connection, stream));
        }
    }

    pub(crate) fn publish_to_stream(
        &mut self,
        slot: Slot,
        stream: EffectId,
        data: gyre_protocol::Payload,
    ) -> Answer<Result<(), EngineError>> {
        let connection = self.connection_id(slot);
        let link = connection.and_then(|connection| self.streams.get(&(connection, stream)));
        match link.and_then(|link| link.sink.as_ref()) {
            Some(sink) => sink.send(data),
            None => Answer::Ready(Err(EngineError::NotAvailable)),
        }
    }

    /// Hands over what has come; true if the client takes it as fast as it comes.
    fn streamed(
        &mut self,
        (connection, stream): StreamId,
        channel: &ChannelName,
        read: Result<Vec<Publication>, StreamEnd>,
    ) -> bool {
        if self.connections.get_mut(connection).is_none() {
            return true;
        }
        match read {
            Ok(publications) => self.with_session(connection.slot, |session, _| {
                session.handle_streamed(stream, channel, publications)
            }),
            Err(end) => {
                self.with_session(connection.slot, |session, _| {
                    session.handle_stream_end(stream, channel, end)
                });
                self.streams.remove(&(connection, stream));
            }
        }
        !self.connections.is_behind(connection)
    }

    fn connection_id(&mut self, slot: Slot) -> Option<ConnectionId> {
        let generation = self.connections.at_mut(slot)?.generation;
        Some(ConnectionId { slot, generation })
    }
}

/// Reads a stream to its end, unless its link is dropped before.
async fn read(mut source: Box<dyn StreamSource>, mailbox: Arc<Mailbox>, id: StreamId, channel: ChannelName) {
    loop {
        let read = source.next().await;
        let is_over = read.is_err();
        let (applied, is_applied) = oneshot::channel();
        let name = channel.clone();
        mailbox.run(Box::new(move |shard| {
            // Whoever waits may have been dropped with the stream.
            applied.send(shard.streamed(id, &name, read)).ok();
        }));
        let Ok(mut keeps_up) = is_applied.await else { return };
        if is_over {
            return;
        }
        while !keeps_up {
            tokio::time::sleep(PAUSE).await;
            let (asked, answer) = oneshot::channel();
            mailbox.run(Box::new(move |shard| {
                // As above.
                asked.send(!shard.connections.is_behind(id.0)).ok();
            }));
            let Ok(answer) = answer.await else { return };
            keeps_up = answer;
        }
    }
}
