//! The members of one channel.

use std::{
    borrow::Borrow,
    hash::{Hash, Hasher},
    sync::Arc,
    time::{Duration, Instant},
};

use gyre_protocol::{ClientInfo, PresenceStats};
use hashbrown::{HashMap, HashSet};

use super::expiring::Expire;

/// Members by client id, each with the time its entry ends; `None` is never.
#[derive(Debug)]
pub(super) struct Members {
    entries: HashMap<Member, Option<Instant>, foldhash::fast::RandomState>,
    ttl: Duration,
    next_look: Option<Instant>,
}

/// A member, found by its client id, which is stored only in the information itself.
#[derive(Debug)]
struct Member(Arc<ClientInfo>);

impl Borrow<str> for Member {
    fn borrow(&self) -> &str {
        &self.0.client
    }
}

impl Hash for Member {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.client.hash(state);
    }
}

impl PartialEq for Member {
    fn eq(&self, other: &Self) -> bool {
        self.0.client == other.0.client
    }
}

impl Eq for Member {}

impl Members {
    pub(super) fn new(ttl: Duration) -> Self {
        Self { entries: HashMap::default(), ttl, next_look: None }
    }

    pub(super) fn add(&mut self, info: Arc<ClientInfo>, now: Instant) {
        let expires = now.checked_add(self.ttl);
        // Not `insert` alone: that would keep the member's old information.
        self.entries.remove(&*info.client);
        self.entries.insert(Member(info), expires);
        if self.next_look.is_none() {
            self.next_look = expires;
        }
    }

    /// Removes a member; true if none is left.
    pub(super) fn remove(&mut self, client: &str) -> bool {
        self.entries.remove(client);
        self.entries.is_empty()
    }

    pub(super) fn list(&self, now: Instant) -> Vec<Arc<ClientInfo>> {
        self.present(now).cloned().collect()
    }

    pub(super) fn stats(&self, now: Instant) -> PresenceStats {
        let mut users: HashSet<&str, foldhash::fast::RandomState> = HashSet::default();
        let mut clients = 0;
        for info in self.present(now) {
            clients += 1;
            users.insert(&info.user);
        }
        PresenceStats { num_clients: clients, num_users: u32::try_from(users.len()).unwrap_or(u32::MAX) }
    }

    fn present(&self, now: Instant) -> impl Iterator<Item = &Arc<ClientInfo>> {
        self.entries.iter().filter(move |(_, expires)| is_ahead(**expires, now)).map(|(member, _)| &member.0)
    }
}

#[cfg(test)]
impl Members {
    /// Members in memory, seen or not.
    pub(super) fn held(&self) -> usize {
        self.entries.len()
    }
}

impl Expire for Members {
    type Freed = ();

    /// All members of a channel are looked at together, twice within their time to live. They are renewed at least as
    /// often, so the looks cost less than the renewals, and a member needs no place in an agenda of its own.
    fn deadline(&self) -> Option<Instant> {
        self.next_look
    }

    fn expire(&mut self, now: Instant) -> Option<()> {
        self.entries.retain(|_, expires| is_ahead(*expires, now));
        if self.entries.capacity() > 4 * self.entries.len() {
            self.entries.shrink_to_fit();
        }
        self.next_look = now.checked_add(self.ttl / 2);
        None
    }

    fn is_over(&self, _now: Instant) -> bool {
        self.entries.is_empty()
    }
}

fn is_ahead(expires: Option<Instant>, now: Instant) -> bool {
    expires.is_none_or(|at| at > now)
}
