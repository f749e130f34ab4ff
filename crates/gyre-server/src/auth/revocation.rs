//! Tokens that count no longer although they are well made.
//!
//! Kept in memory: a restart forgets them. While there are none, which is the rule, asking costs one load.

use std::{
    hash::Hash,
    sync::{
        PoisonError, RwLock,
        atomic::{AtomicUsize, Ordering},
    },
};

use gyre_core::ports::{EngineError, Revocation, RevokedTokens};
use hashbrown::{Equivalent, HashMap};

/// Revocations kept at a time; beyond that new ones are refused until old ones expire.
const REVOCATIONS_MAX: usize = 1 << 18;
/// Expired ones are looked for when there are this many, and then whenever their number has doubled.
const FIRST_SWEEP: usize = 1024;

/// What is revoked.
#[derive(Default)]
pub(super) struct Revocations {
    count: AtomicUsize,
    tables: RwLock<Tables>,
}

/// What of a token may be revoked.
#[derive(Clone, Copy, Debug)]
pub(super) struct TokenIdentity<'a> {
    /// `jti`; empty for none.
    pub(super) id: &'a str,
    /// `iat`.
    pub(super) issued_at: Option<f64>,
    pub(super) user: &'a str,
    /// Of a subscription token; empty for a connection token.
    pub(super) channel: &'a str,
}

#[derive(Default)]
struct Tables {
    /// When the revocation of an id ends.
    ids: HashMap<Box<str>, i64>,
    users: HashMap<UserTokens, Cutoff>,
    sweep_at: usize,
}

/// A user's tokens for one channel; without channel, all of them.
#[derive(PartialEq, Eq, Hash)]
struct UserTokens {
    user: Box<str>,
    channel: Box<str>,
}

/// The same, borrowed.
#[derive(Hash)]
struct UserTokensRef<'a> {
    user: &'a str,
    channel: &'a str,
}

impl Equivalent<UserTokens> for UserTokensRef<'_> {
    fn equivalent(&self, key: &UserTokens) -> bool {
        *self.user == *key.user && *self.channel == *key.channel
    }
}

/// Tokens issued before count no longer, until the cutoff itself ends.
#[derive(Clone, Copy)]
struct Cutoff {
    issued_before: i64,
    ends_at: i64,
}

impl Revocations {
    /// Adds one. Of two for the same tokens, the later end and the later cutoff hold.
    pub(super) fn add(&self, revocation: Revocation, now: i64) -> Result<(), EngineError> {
        let mut tables = self.tables.write().unwrap_or_else(PoisonError::into_inner);
        if tables.len() >= tables.sweep_at.max(FIRST_SWEEP) || tables.len() >= REVOCATIONS_MAX {
            tables.forget_ended(now);
        }
        let added = if tables.len() >= REVOCATIONS_MAX {
            Err(EngineError::LimitReached)
        } else {
            tables.add(revocation);
            Ok(())
        };
        self.count.store(tables.len(), Ordering::Release);
        added
    }

    /// True if the token counts no longer. `now` is Unix time in seconds.
    pub(super) fn contain(&self, token: TokenIdentity<'_>, now: f64) -> bool {
        if self.count.load(Ordering::Acquire) == 0 {
            return false;
        }
        self.tables.read().unwrap_or_else(PoisonError::into_inner).contain(token, now)
    }
}

impl Tables {
    fn len(&self) -> usize {
        self.ids.len() + self.users.len()
    }

    fn add(&mut self, revocation: Revocation) {
        let ends_at = if revocation.expire_at == 0 { i64::MAX } else { revocation.expire_at };
        match revocation.tokens {
            RevokedTokens::Id(id) => {
                let known = self.ids.entry(id).or_insert(ends_at);
                *known = ends_at.max(*known);
            }
            RevokedTokens::OfUser { user, channel, issued_before } => {
                let cutoff = Cutoff { issued_before, ends_at };
                let known = self.users.entry(UserTokens { user, channel }).or_insert(cutoff);
                known.issued_before = issued_before.max(known.issued_before);
                known.ends_at = ends_at.max(known.ends_at);
            }
        }
    }

    fn forget_ended(&mut self, now: i64) {
        self.ids.retain(|_, ends_at| *ends_at > now);
        self.users.retain(|_, cutoff| cutoff.ends_at > now);
        self.sweep_at = 2 * self.len();
    }

    fn contain(&self, token: TokenIdentity<'_>, now: f64) -> bool {
        let TokenIdentity { id, issued_at, user, channel } = token;
        let is_cut_off = |channel: &str| {
            self.users.get(&UserTokensRef { user, channel }).is_some_and(|cutoff| {
                cutoff.ends_at as f64 > now && issued_at.is_none_or(|at| at < cutoff.issued_before as f64)
            })
        };
        (!id.is_empty() && self.ids.get(id).is_some_and(|ends_at| *ends_at as f64 > now))
            || is_cut_off("")
            || (!channel.is_empty() && is_cut_off(channel))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_user(channel: &str, issued_before: i64, expire_at: i64) -> Revocation {
        let (user, channel) = ("u".into(), channel.into());
        Revocation { tokens: RevokedTokens::OfUser { user, channel, issued_before }, expire_at }
    }

    fn id(id: &str, expire_at: i64) -> Revocation {
        Revocation { tokens: RevokedTokens::Id(id.into()), expire_at }
    }

    /// Each kind refuses the tokens it is about and no others, until it ends; what is added twice holds for longer.
    #[test]
    fn tokens_are_refused_until_the_end() {
        let token = TokenIdentity { id: "t", issued_at: Some(50.0), user: "u", channel: "" };
        let none = Revocations::default();
        assert!(!none.contain(token, 0.0));

        let ids = Revocations::default();
        ids.add(id("t", 100), 0).unwrap();
        ids.add(id("t", 90), 0).unwrap();
        assert!(ids.contain(token, 99.9) && !ids.contain(token, 100.0));
        assert!(!ids.contain(TokenIdentity { id: "", ..token }, 0.0));
        ids.add(id("t", 0), 0).unwrap();
        assert!(ids.contain(token, 1e12));

        let users = Revocations::default();
        users.add(of_user("", 50, 100), 0).unwrap();
        assert!(!users.contain(token, 0.0), "issued at that very time is not before it");
        assert!(users.contain(TokenIdentity { issued_at: Some(49.9), ..token }, 0.0));
        assert!(users.contain(TokenIdentity { issued_at: None, channel: "c", ..token }, 0.0));
        assert!(!users.contain(TokenIdentity { issued_at: None, user: "v", ..token }, 0.0));
        assert!(!users.contain(TokenIdentity { issued_at: None, ..token }, 100.0));

        let channels = Revocations::default();
        channels.add(of_user("c", 60, 0), 0).unwrap();
        assert!(!channels.contain(token, 0.0), "connection tokens stay");
        assert!(channels.contain(TokenIdentity { channel: "c", ..token }, 0.0));
        assert!(!channels.contain(TokenIdentity { channel: "d", ..token }, 0.0));
    }

    /// There is a bound, and what has ended makes room.
    #[test]
    fn their_number_is_bounded() {
        let revocations = Revocations::default();
        for i in 0..REVOCATIONS_MAX {
            revocations.add(id(&i.to_string(), 100), 0).unwrap();
        }
        assert_eq!(revocations.add(id("more", 100), 99), Err(EngineError::LimitReached));
        assert_eq!(revocations.add(id("more", 200), 100), Ok(()));
        assert_eq!(revocations.count.load(Ordering::Relaxed), 1);
    }
}
