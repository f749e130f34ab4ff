//! Whether a connection or a subscription that expires may go on.
//!
//! Errors and disconnects of the application do not count here: without a result it has expired.

use gyre_core::{
    channel::ChannelName,
    ports::{Prolongation, Refreshed},
};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{
    Hook,
    message::{Failure, Question, Reply, Unusable, payload},
};
use crate::json::null_is_default;

pub(super) struct Refresh;

pub(super) struct SubRefresh(pub(super) ChannelName);

/// Spec: centrifugo `internal/proxyproto/proxy.proto`, RefreshResult and SubRefreshResult.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct RefreshResult<'a> {
    #[serde(deserialize_with = "null_is_default")]
    expired: bool,
    #[serde(deserialize_with = "null_is_default")]
    expire_at: i64,
    #[serde(borrow)]
    info: Option<&'a RawValue>,
    #[serde(deserialize_with = "null_is_default")]
    b64info: String,
    #[serde(borrow)]
    meta: Option<&'a RawValue>,
}

impl Hook for Refresh {
    const NAME: &'static str = "refresh";
    type Result<'a> = RefreshResult<'a>;
    type Grant = Refreshed;

    fn ask<'a>(&'a self, question: Question<'a>) -> Result<Question<'a>, Unusable> {
        Ok(question)
    }

    fn read(reply: Reply<RefreshResult<'_>>) -> Result<Refreshed, Failure> {
        refreshed(reply)
    }
}

impl Hook for SubRefresh {
    const NAME: &'static str = "sub_refresh";
    type Result<'a> = RefreshResult<'a>;
    type Grant = Refreshed;

    fn ask<'a>(&'a self, question: Question<'a>) -> Result<Question<'a>, Unusable> {
        Ok(Question { channel: &self.0, ..question })
    }

    fn read(reply: Reply<RefreshResult<'_>>) -> Result<Refreshed, Failure> {
        refreshed(reply)
    }
}

fn refreshed(reply: Reply<RefreshResult<'_>>) -> Result<Refreshed, Failure> {
    let Some(result) = reply.result.filter(|result| !result.expired) else { return Ok(Refreshed::Expired) };
    Ok(Refreshed::Prolonged(Box::new(Prolongation {
        expire_at: result.expire_at,
        info: payload(result.info, &result.b64info)?,
        meta: payload(result.meta, "")?,
    })))
}
