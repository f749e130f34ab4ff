//! Whether a client may publish, and what.

use std::collections::BTreeMap;

use gyre_core::{channel::ChannelName, ports::PublishGrant};
use gyre_protocol::Payload;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{
    Hook,
    message::{Failure, Question, Reply, Unusable, replacement},
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
    data: Option<&'a RawValue>,
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

impl Hook for Publish {
    const NAME: &'static str = "publish";
    type Result<'a> = PublishResult<'a>;
    type Grant = PublishGrant;

    fn ask<'a>(&'a self, question: Question<'a>) -> Result<Question<'a>, Unusable> {
        Question { channel: &self.channel, ..question }.with_data(&self.data)
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
