//! Whether a connection or a subscription that expires may go on.
//!
//! Errors and disconnects of the application do not count here: without a result it has expired.

use gyre_core::{
    channel::ChannelName,
    ports::{Prolongation, Refreshed},
};
use gyre_protocol::{
    RawPayload,
    codec::{DecodeError, protobuf::wire::Value},
};
use serde::Deserialize;

use super::{
    Hook,
    message::{Failure, Fields, GrpcCall, Question, Reply, bytes, payload},
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
    info: Option<RawPayload<'a>>,
    #[serde(deserialize_with = "null_is_default")]
    b64info: String,
    #[serde(borrow)]
    meta: Option<RawPayload<'a>>,
}

impl<'a> Fields<'a> for RefreshResult<'a> {
    fn set(&mut self, number: u64, value: Value<'a>) -> Result<(), DecodeError> {
        match number {
            1 => self.expired = value.bool()?,
            2 => self.expire_at = value.varint()? as i64,
            3 => self.info = bytes(value)?,
            4 => self.b64info = value.string()?.into(),
            5 => self.meta = bytes(value)?,
            _ => {}
        }
        Ok(())
    }
}

impl Hook for Refresh {
    const NAME: &'static str = "refresh";
    type Result<'a> = RefreshResult<'a>;
    type Grant = Refreshed;

    fn ask<'a>(&'a self, question: Question<'a>) -> Question<'a> {
        question
    }

    fn grpc(&self) -> GrpcCall {
        GrpcCall { meta: 11, ..GrpcCall::new("/centrifugal.centrifugo.proxy.CentrifugoProxy/Refresh") }
    }

    fn read(reply: Reply<RefreshResult<'_>>) -> Result<Refreshed, Failure> {
        refreshed(reply)
    }
}

impl Hook for SubRefresh {
    const NAME: &'static str = "sub_refresh";
    type Result<'a> = RefreshResult<'a>;
    type Grant = Refreshed;

    fn ask<'a>(&'a self, question: Question<'a>) -> Question<'a> {
        Question { channel: &self.0, ..question }
    }

    fn grpc(&self) -> GrpcCall {
        GrpcCall {
            channel: 11,
            meta: 12,
            ..GrpcCall::new("/centrifugal.centrifugo.proxy.CentrifugoProxy/SubRefresh")
        }
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
