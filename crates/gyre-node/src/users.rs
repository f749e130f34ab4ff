//! How many connections each user has on this node, over all shards.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hashbrown::HashMap;

/// Connections per user. Anonymous connections are not counted.
#[derive(Debug, Default)]
pub(crate) struct Users(Mutex<HashMap<Arc<str>, u32, foldhash::fast::RandomState>>);

impl Users {
    /// Counts one more connection, unless the user has `limit` of them (0 is no limit).
    pub(crate) fn enter(&self, user: &Arc<str>, limit: usize) -> bool {
        if user.is_empty() {
            return true;
        }
        let mut users = self.lock();
        let count = users.entry(user.clone()).or_default();
        if limit != 0 && *count as usize >= limit {
            return false;
        }
        *count += 1;
        true
    }

    /// Counts one connection less.
    pub(crate) fn leave(&self, user: &str) {
        let mut users = self.lock();
        if let Some(count) = users.get_mut(user) {
            *count -= 1;
            if *count == 0 {
                users.remove(user);
            }
        }
    }

    /// Distinct users connected.
    pub(crate) fn count(&self) -> usize {
        self.lock().len()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Arc<str>, u32, foldhash::fast::RandomState>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
