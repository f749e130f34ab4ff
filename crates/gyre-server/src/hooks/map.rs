//! Whether a client may change a map, and how.

use std::collections::BTreeMap;

use gyre_core::ports::{KeyMode, MapHookGrant, MapHookRequest};
use gyre_protocol::{
    RawPayload,
    codec::{DecodeError, protobuf::wire::Value},
};
use serde::Deserialize;

use super::{
    Hook,
    message::{Failure, Fields, GrpcCall, Question, Reply, Unusable, add_tag, bytes, replacement},
};
use crate::json::null_is_default;

/// Sets a key: there is data.
pub(super) struct MapPublish(pub(super) MapHookRequest);

/// Removes a key.
pub(super) struct MapRemove(pub(super) MapHookRequest);

/// Spec: centrifugo `internal/proxyproto/proxy.proto`, MapPublishResult and MapRemoveResult.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct MapResult<'a> {
    #[serde(deserialize_with = "null_is_default")]
    key: Box<str>,
    #[serde(borrow)]
    data: Option<RawPayload<'a>>,
    #[serde(deserialize_with = "null_is_default")]
    b64data: String,
    #[serde(deserialize_with = "null_is_default")]
    tags: BTreeMap<Box<str>, Box<str>>,
    #[serde(deserialize_with = "null_is_default")]
    score: i64,
    #[serde(deserialize_with = "null_is_default")]
    key_mode: String,
    #[serde(deserialize_with = "null_is_default")]
    idempotency_key: Box<str>,
    #[serde(deserialize_with = "null_is_default")]
    delta: bool,
    #[serde(deserialize_with = "null_is_default")]
    version: u64,
    #[serde(deserialize_with = "null_is_default")]
    version_epoch: Box<str>,
}

/// The same with fewer fields, numbered in another way.
#[derive(Default, Deserialize)]
#[serde(transparent)]
pub(super) struct RemoveResult<'a>(#[serde(borrow)] MapResult<'a>);

impl<'a> Fields<'a> for MapResult<'a> {
    fn set(&mut self, number: u64, value: Value<'a>) -> Result<(), DecodeError> {
        match number {
            1 => self.key = value.string()?.into(),
            2 => self.data = bytes(value)?,
            3 => self.b64data = value.string()?.into(),
            4 => add_tag(&mut self.tags, value)?,
            5 => self.score = value.varint()? as i64,
            6 => self.key_mode = value.string()?.into(),
            9 => self.idempotency_key = value.string()?.into(),
            10 => self.delta = value.bool()?,
            11 => self.version = value.varint()?,
            12 => self.version_epoch = value.string()?.into(),
            _ => {}
        }
        Ok(())
    }
}

impl<'a> Fields<'a> for RemoveResult<'a> {
    fn set(&mut self, number: u64, value: Value<'a>) -> Result<(), DecodeError> {
        match number {
            1 => self.0.key = value.string()?.into(),
            2 => add_tag(&mut self.0.tags, value)?,
            3 => self.0.idempotency_key = value.string()?.into(),
            _ => {}
        }
        Ok(())
    }
}

impl Hook for MapPublish {
    const NAME: &'static str = "map_publish";
    type Result<'a> = MapResult<'a>;
    type Grant = MapHookGrant;

    fn ask<'a>(&'a self, question: Question<'a>) -> Question<'a> {
        let Self(MapHookRequest { channel, key, data }) = self;
        let question = Question { channel, key, ..question };
        match data {
            Some(data) => question.with_data(data),
            None => question,
        }
    }

    fn grpc(&self) -> GrpcCall {
        let call = GrpcCall::new("/centrifugal.centrifugo.proxy.CentrifugoProxy/MapPublish");
        GrpcCall { channel: 11, key: 12, data: 13, b64data: 14, meta: 15, ..call }
    }

    fn read(reply: Reply<MapResult<'_>>) -> Result<MapHookGrant, Failure> {
        reply.allowed()?.unwrap_or_default().into_grant()
    }
}

impl Hook for MapRemove {
    const NAME: &'static str = "map_remove";
    type Result<'a> = RemoveResult<'a>;
    type Grant = MapHookGrant;

    fn ask<'a>(&'a self, question: Question<'a>) -> Question<'a> {
        Question { channel: &self.0.channel, key: &self.0.key, ..question }
    }

    fn grpc(&self) -> GrpcCall {
        GrpcCall {
            channel: 11,
            key: 12,
            meta: 13,
            ..GrpcCall::new("/centrifugal.centrifugo.proxy.CentrifugoProxy/MapRemove")
        }
    }

    fn read(reply: Reply<RemoveResult<'_>>) -> Result<MapHookGrant, Failure> {
        reply.allowed()?.unwrap_or_default().0.into_grant()
    }
}

impl MapResult<'_> {
    fn into_grant(self) -> Result<MapHookGrant, Failure> {
        Ok(MapHookGrant {
            key: self.key,
            data: replacement(self.data, &self.b64data)?,
            tags: self.tags.into_iter().collect(),
            score: self.score,
            key_mode: match &*self.key_mode {
                "" => KeyMode::Any,
                "if_new" => KeyMode::IfNew,
                "if_exists" => KeyMode::IfExists,
                other => return Err(Unusable(format!("key_mode \"{other}\" is not known")).into()),
            },
            idempotency_key: self.idempotency_key,
            delta: self.delta,
            version: self.version,
            version_epoch: self.version_epoch,
        })
    }
}
