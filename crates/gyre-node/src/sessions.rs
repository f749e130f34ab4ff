//! Which shard an emulated session lives on.
//!
//! Looked at once for each request of the emulation endpoint, which may have come to any shard. Sessions of other
//! transports are not in it.

use std::sync::{Mutex, MutexGuard, PoisonError};

use hashbrown::HashMap;
use tokio::sync::oneshot;

use crate::{
    node::Node,
    shard::{Commands, ConnectionId},
};

/// Where a session is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SessionPlace {
    pub(crate) shard: usize,
    pub(crate) id: ConnectionId,
}

/// The emulated sessions of a node, by their secrets.
#[derive(Debug, Default)]
pub(crate) struct Sessions(Mutex<HashMap<Box<str>, SessionPlace, foldhash::fast::RandomState>>);

impl Sessions {
    pub(crate) fn enter(&self, session: &str, place: SessionPlace) {
        self.lock().insert(session.into(), place);
    }

    pub(crate) fn leave(&self, session: &str) {
        self.lock().remove(session);
    }

    fn find(&self, session: &str) -> Option<SessionPlace> {
        self.lock().get(session).copied()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Box<str>, SessionPlace, foldhash::fast::RandomState>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What became of commands for a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Received {
    /// They were handed in.
    Handled,
    /// No such session lives here, or it ended before it took them.
    Unknown,
}

impl Node {
    /// Hands commands to the emulated session of that secret, in the order of the calls, and resolves once they are
    /// handed in. What they bring about comes by the session's own stream.
    ///
    /// # Cancel safety
    /// Dropping the future takes nothing back.
    pub async fn receive(&self, session: &str, frame: bytes::Bytes) -> Received {
        let Some(SessionPlace { shard, id }) = self.sessions.find(session) else { return Received::Unknown };
        let (handled, done) = oneshot::channel();
        let commands = Commands { frame, handled };
        self.directory.mailboxes()[shard].run(Box::new(move |shard| shard.receive(id, commands)));
        match done.await {
            Ok(()) => Received::Handled,
            Err(_) => Received::Unknown,
        }
    }
}
