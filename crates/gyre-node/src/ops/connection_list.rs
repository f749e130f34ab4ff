//! connections: who is connected, page by page.

use std::sync::Arc;

use gyre_protocol::api::Connection;

use super::ApiError;
use crate::{
    node::Node,
    shard::{ConnectionFilter, Listed},
};

/// Connections of a page unless it says how many.
const PAGE_DEFAULT: usize = 100;
/// Connections of a page at most.
const PAGE_MAX: usize = 1000;
/// Connections looked at for one page at most, however few of them pass the filters.
const LOOKED_AT_MAX: usize = 1 << 18;

/// Which connections are wanted. Empty texts filter nothing; several filters apply together.
#[derive(Clone, Debug, Default)]
pub struct ConnectionPage {
    /// Those of this user.
    pub user: Box<str>,
    /// The one of this client id.
    pub client: Box<str>,
    /// Those subscribed to this channel.
    pub channel: Box<str>,
    /// How many at most: 0 for 100; more than 1,000 is 1,000.
    pub limit: usize,
    /// [`ConnectionList::cursor`] of the page before; empty for the first.
    pub cursor: Box<str>,
}

/// A page of connections.
#[derive(Clone, Debug, Default)]
pub struct ConnectionList {
    /// In no order.
    pub connections: Vec<Connection>,
    /// Where the next page begins; empty after the last one.
    pub cursor: String,
}

/// How far a list is: shards before are done, of this one the candidates from that number on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Cursor {
    shard: usize,
    end: usize,
}

impl Node {
    /// Lists connections. Pages may have fewer than they could, even none, while there are more: one call looks at 262,144
    /// connections at most, and a shard at no more than 1,024 without a break. Whoever is connected from the first page
    /// to the last is in one of them, or, rarely, in two.
    ///
    /// # Errors
    /// 107 for a cursor that is none.
    pub async fn connections(&self, page: ConnectionPage) -> Result<ConnectionList, ApiError> {
        let mut at = Cursor::parse(&page.cursor).ok_or(ApiError::BAD_REQUEST)?;
        let limit = if page.limit == 0 { PAGE_DEFAULT } else { page.limit.min(PAGE_MAX) };
        let is_one = !page.client.is_empty();
        let filter =
            Arc::new(ConnectionFilter { user: page.user, client: page.client, channel: page.channel });
        let (mut connections, mut looked_at) = (Vec::new(), 0);
        while at.shard < self.shard_count() {
            if connections.len() == limit || looked_at >= LOOKED_AT_MAX {
                return Ok(ConnectionList { connections, cursor: at.to_string() });
            }
            let (filter, room) = (filter.clone(), limit - connections.len());
            let slice = self.on_shard(at.shard, move |shard| shard.list(&filter, at.end, room)).await;
            let Listed { entries, looked_at: more, next } =
                slice.unwrap_or_else(|| Listed { entries: Vec::new(), looked_at: 0, next: None });
            connections.extend(entries);
            looked_at += more;
            if is_one && !connections.is_empty() {
                break;
            }
            at = match next {
                Some(end) => Cursor { end, ..at },
                None => Cursor { shard: at.shard + 1, end: usize::MAX },
            };
        }
        Ok(ConnectionList { connections, cursor: String::new() })
    }
}

impl Cursor {
    const START: Self = Self { shard: 0, end: usize::MAX };

    fn parse(text: &str) -> Option<Self> {
        let (shard, end) = match text {
            "" => return Some(Self::START),
            text => text.split_once('.').unwrap_or((text, "")),
        };
        let end = if end.is_empty() { usize::MAX } else { end.parse().ok()? };
        Some(Self { shard: shard.parse().ok()?, end })
    }
}

impl std::fmt::Display for Cursor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.end {
            usize::MAX => write!(f, "{}", self.shard),
            end => write!(f, "{}.{end}", self.shard),
        }
    }
}
