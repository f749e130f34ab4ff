//! The data of shared polls.

use std::sync::Arc;

use gyre_core::{
    channel::ChannelName,
    ports::{Polled, PolledItem},
};
use gyre_protocol::{Epoch, Payload};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{
    Hook,
    message::{AskedItem, Failure, Question, Reply, Unusable},
};
use crate::json::null_is_default;

pub(super) struct SharedPoll {
    pub(super) channel: ChannelName,
    pub(super) keys: Vec<(Arc<str>, u64)>,
}

/// Spec: centrifugo `internal/proxyproto/proxy.proto`, SharedPollRefreshResult.
#[derive(Deserialize)]
pub(super) struct PollResult<'a> {
    #[serde(borrow, default)]
    items: Option<Vec<Item<'a>>>,
    #[serde(default, deserialize_with = "null_is_default")]
    epoch: String,
}

#[derive(Deserialize)]
struct Item<'a> {
    key: String,
    #[serde(borrow, default)]
    data: Option<&'a RawValue>,
    #[serde(default)]
    version: u64,
    #[serde(default)]
    removed: bool,
}

impl Hook for SharedPoll {
    const NAME: &'static str = "shared_poll_refresh";
    type Result<'a> = PollResult<'a>;
    type Grant = Polled;

    fn ask<'a>(&'a self, question: Question<'a>) -> Result<Question<'a>, Unusable> {
        let items = self.keys.iter().map(|(key, version)| AskedItem { key, version: *version }).collect();
        Ok(Question { channel: &self.channel, items, ..question })
    }

    fn read(reply: Reply<PollResult<'_>>) -> Result<Polled, Failure> {
        let Some(result) = reply.allowed()? else { return Ok(Polled::default()) };
        let items = result.items.unwrap_or_default().into_iter().map(|item| PolledItem {
            key: item.key.into(),
            data: item
                .data
                .map_or_else(Payload::default, |data| Payload::json(data.get().as_bytes().to_vec())),
            version: item.version,
            removed: item.removed,
        });
        Ok(Polled { items: items.collect(), epoch: Epoch::new(&result.epoch) })
    }
}
