//! Whether a client may publish, and what.

use std::collections::BTreeMap;

use gyre_core::{channel::ChannelName, ports::PublishGrant};
use gyre_protocol::{
    Payload, RawPayload,
    codec::{DecodeError, protobuf::wire::Value},
};
use serde::Deserialize;

use super::{
    Hook,
    message::{Failure, Fields, GrpcCall, Question, Reply, add_tag, bytes, replacement},
};
use crate::json::null_is_default;

pub(super) struct Publish {
    pub(super) channel: ChannelName,
    pub(super) data: Payload,
}

/// Spec: centrifugo `internal/proxyproto/proxy.proto`, PublishResult.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct PublishResult<'a> {
    #[serde(borrow)]
    data: Option<RawPayload<'a>>,
    #[serde(deserialize_with = "null_is_default")]
    b64data: String,
    #[serde(deserialize_with = "null_is_default")]
    skip_history: bool,
    #[serde(deserialize_with = "null_is_default")]
    tags: BTreeMap<Box<str>, Box<str>>,
    #[serde(deserialize_with = "null_is_default")]
    idempotency_key: Box<str>,
    #[serde(deserialize_with = "null_is_default")]
    delta: bool,
    #[serde(deserialize_with = "null_is_default")]
    version: u64,
    #[serde(deserialize_with = "null_is_default")]
    version_epoch: Box<str>,
}

impl<'a> Fields<'a> for PublishResult<'a> {
    fn set(&mut self, number: u64, value: Value<'a>) -> Result<(), DecodeError> {
        match number {
            1 => self.data = bytes(value)?,
            2 => self.b64data = value.string()?.into(),
            3 => self.skip_history = value.bool()?,
            4 => add_tag(&mut self.tags, value)?,
            5 => self.idempotency_key = value.string()?.into(),
            6 => self.delta = value.bool()?,
            7 => self.version = value.varint()?,
            8 => self.version_epoch = value.string()?.into(),
            _ => {}
        }
        Ok(())
    }
}

impl Hook for Publish {
    const NAME: &'static str = "publish";
    type Result<'a> = PublishResult<'a>;
    type Grant = PublishGrant;

    fn ask<'a>(&'a self, question: Question<'a>) -> Question<'a> {
        Question { channel: &self.channel, ..question }.with_data(&self.data)
    }

    fn grpc(&self) -> GrpcCall {
        GrpcCall {
            channel: 11,
            data: 12,
            b64data: 13,
            meta: 14,
            ..GrpcCall::new("/centrifugal.centrifugo.proxy.CentrifugoProxy/Publish")
        }
    }

    fn read(reply: Reply<PublishResult<'_>>) -> Result<PublishGrant, Failure> {
        let result = reply.allowed()?.unwrap_or_default();
        Ok(PublishGrant {
            data: replacement(result.data, &result.b64data)?,
            skip_history: result.skip_history,
            tags: result.tags.into_iter().collect(),
            idempotency_key: result.idempotency_key,
            delta: result.delta,
            version: result.version,
            version_epoch: result.version_epoch,
        })
    }
}
