//! The data of shared polls.

use std::sync::Arc;

use gyre_core::{
    channel::ChannelName,
    ports::{Polled, PolledItem},
};
use gyre_protocol::{
    Epoch, Payload, RawPayload,
    codec::{DecodeError, protobuf::wire::Value},
};
use serde::Deserialize;

use super::{
    Hook,
    message::{AskedItem, Failure, Fields, GrpcCall, Question, Reply, bytes, read_fields},
};
use crate::json::null_is_default;

pub(super) struct SharedPoll {
    pub(super) channel: ChannelName,
    pub(super) keys: Vec<(Arc<str>, u64)>,
}

/// Spec: centrifugo `internal/proxyproto/proxy.proto`, SharedPollRefreshResult.
#[derive(Default, Deserialize)]
pub(super) struct PollResult<'a> {
    #[serde(borrow, default)]
    items: Option<Vec<Item<'a>>>,
    #[serde(default, deserialize_with = "null_is_default")]
    epoch: String,
}

#[derive(Default, Deserialize)]
struct Item<'a> {
    key: String,
    #[serde(borrow, default)]
    data: Option<RawPayload<'a>>,
    #[serde(default)]
    version: u64,
    #[serde(default)]
    removed: bool,
}

impl<'a> Fields<'a> for PollResult<'a> {
    fn set(&mut self, number: u64, value: Value<'a>) -> Result<(), DecodeError> {
        match number {
            1 => self.items.get_or_insert_default().push(read_fields(value.bytes()?)?),
            2 => self.epoch = value.string()?.into(),
            _ => {}
        }
        Ok(())
    }
}

impl<'a> Fields<'a> for Item<'a> {
    fn set(&mut self, number: u64, value: Value<'a>) -> Result<(), DecodeError> {
        match number {
            1 => self.key = value.string()?.into(),
            2 => self.data = bytes(value)?,
            3 => self.version = value.varint()?,
            4 => self.removed = value.bool()?,
            _ => {}
        }
        Ok(())
    }
}

impl Hook for SharedPoll {
    const NAME: &'static str = "shared_poll_refresh";
    type Result<'a> = PollResult<'a>;
    type Grant = Polled;

    fn ask<'a>(&'a self, question: Question<'a>) -> Question<'a> {
        let items = self.keys.iter().map(|(key, version)| AskedItem { key, version: *version }).collect();
        Question { channel: &self.channel, items, ..question }
    }

    fn grpc(&self) -> GrpcCall {
        GrpcCall {
            channel: 1,
            items: 2,
            ..GrpcCall::new("/centrifugal.centrifugo.proxy.CentrifugoProxy/SharedPollRefresh")
        }
    }

    fn read(reply: Reply<PollResult<'_>>) -> Result<Polled, Failure> {
        let Some(result) = reply.allowed()? else { return Ok(Polled::default()) };
        let items = result.items.unwrap_or_default().into_iter().map(|item| PolledItem {
            key: item.key.into(),
            data: item.data.map_or_else(Payload::default, RawPayload::to_payload),
            version: item.version,
            removed: item.removed,
        });
        Ok(Polled { items: items.collect(), epoch: Epoch::new(&result.epoch) })
    }
}
