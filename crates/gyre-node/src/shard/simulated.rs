//! A shard without a thread, for simulations: whoever holds it decides when its parts run.

use std::{
    cell::RefCell,
    collections::VecDeque,
    rc::Rc,
    sync::Arc,
    task::{Context, Waker},
    time::Instant,
};

use super::{LocalShard, ShardState};
use crate::{mailbox::Message, node::Node};

/// The same shard as that of a thread, with a turn that is taken piece by piece. Its timers never run.
pub struct SimulatedShard {
    local: LocalShard,
    batch: VecDeque<Message>,
}

impl SimulatedShard {
    /// The shard of that number.
    pub fn new(node: &Arc<Node>, index: usize) -> Self {
        let state = Rc::new(RefCell::new(ShardState::new(node.clone(), index)));
        Self { local: LocalShard { node: node.clone(), index, state }, batch: VecDeque::new() }
    }

    /// The shard as transports see it.
    pub fn local(&self) -> &LocalShard {
        &self.local
    }

    /// Applies up to `most` messages of the mailbox; false if there was none.
    pub fn apply(&mut self, most: usize) -> bool {
        if self.batch.is_empty() {
            let mailbox = &self.local.node.directory.mailboxes()[self.local.index];
            if mailbox.poll_drain(&mut Context::from_waker(Waker::noop()), &mut self.batch).is_pending() {
                return false;
            }
        }
        self.local.state.borrow_mut().apply(&mut self.batch, most, Instant::now());
        true
    }

    /// Writes to up to `most` connections that have something to write; true if some are left.
    pub fn flush(&mut self, most: usize) -> bool {
        self.local.state.borrow_mut().flush_dirty(most)
    }
}
