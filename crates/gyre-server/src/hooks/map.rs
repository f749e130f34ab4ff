//! Whether a client may change a map, and how.

use std::collections::BTreeMap;

use gyre_core::ports::{KeyMode, MapHookGrant, MapHookRequest};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{
    Hook,
    message::{Failure, Question, Reply, Unusable, replacement},
};
use crate::json::null_is_default;

pub(super) struct MapChange(pub(super) MapHookRequest);

/// Spec: centrifugo `internal/proxyproto/proxy.proto`, MapPublishResult and MapRemoveResult.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct MapResult<'a> {
    #[serde(deserialize_with = "null_is_default")]
    key: Box<str>,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
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

impl Hook for MapChange {
    const NAME: &'static str = "map_publish";
    type Result<'a> = MapResult<'a>;
    type Grant = MapHookGrant;

    fn name(&self) -> &'static str {
        if self.0.data.is_some() { Self::NAME } else { "map_remove" }
    }

    fn ask<'a>(&'a self, question: Question<'a>) -> Result<Question<'a>, Unusable> {
        let Self(MapHookRequest { channel, key, data }) = self;
        let question = Question { channel, key, ..question };
        match data {
            Some(data) => question.with_data(data),
            None => Ok(question),
        }
    }

    fn read(reply: Reply<MapResult<'_>>) -> Result<MapHookGrant, Failure> {
        let grant = reply.allowed()?.unwrap_or_default();
        Ok(MapHookGrant {
            key: grant.key,
            data: replacement(grant.data, &grant.b64data)?,
            tags: grant.tags.into_iter().collect(),
            score: grant.score,
            key_mode: match &*grant.key_mode {
                "" => KeyMode::Any,
                "if_new" => KeyMode::IfNew,
                "if_exists" => KeyMode::IfExists,
                other => return Err(Unusable(format!("key_mode \"{other}\" is not known")).into()),
            },
            idempotency_key: grant.idempotency_key,
            delta: grant.delta,
            version: grant.version,
            version_epoch: grant.version_epoch,
        })
    }
}
