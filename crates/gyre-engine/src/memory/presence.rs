//! The members of one channel.

use std::{sync::Arc, time::Instant};

use gyre_protocol::{ClientInfo, PresenceStats};
use hashbrown::{HashMap, HashSet};

/// Members by client id.
#[derive(Debug, Default)]
pub(super) struct Members(HashMap<Box<str>, Member, foldhash::fast::RandomState>);

#[derive(Debug)]
struct Member {
    info: Arc<ClientInfo>,
    expires: Instant,
}

impl Members {
    pub(super) fn add(&mut self, info: Arc<ClientInfo>, expires: Instant) {
        self.0.insert(info.client.clone(), Member { info, expires });
    }

    /// Removes a member; true if none is left.
    pub(super) fn remove(&mut self, client: &str) -> bool {
        self.0.remove(client);
        self.0.is_empty()
    }

    /// Removes expired members; true if none is left.
    pub(super) fn sweep(&mut self, now: Instant) -> bool {
        self.0.retain(|_, member| member.expires > now);
        self.0.is_empty()
    }

    pub(super) fn list(&self, now: Instant) -> Vec<Arc<ClientInfo>> {
        self.present(now).cloned().collect()
    }

    pub(super) fn stats(&self, now: Instant) -> PresenceStats {
        let users: HashSet<&str> = self.present(now).map(|info| &*info.user).collect();
        PresenceStats { num_clients: self.present(now).count() as u32, num_users: users.len() as u32 }
    }

    fn present(&self, now: Instant) -> impl Iterator<Item = &Arc<ClientInfo>> {
        self.0.values().filter(move |member| member.expires > now).map(|member| &member.info)
    }
}
