//! Methods of the application.

use gyre_protocol::{
    Payload, RawPayload,
    codec::{DecodeError, protobuf::wire::Value},
};
use serde::Deserialize;

use super::{
    Hook,
    message::{Failure, Fields, GrpcCall, Question, Reply, bytes, payload},
};
use crate::json::null_is_default;

pub(super) struct Rpc {
    pub(super) method: Box<str>,
    pub(super) data: Payload,
}

/// Spec: centrifugo `internal/proxyproto/proxy.proto`, RPCResult.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct RpcResult<'a> {
    #[serde(borrow)]
    data: Option<RawPayload<'a>>,
    #[serde(deserialize_with = "null_is_default")]
    b64data: String,
}

impl<'a> Fields<'a> for RpcResult<'a> {
    fn set(&mut self, number: u64, value: Value<'a>) -> Result<(), DecodeError> {
        match number {
            1 => self.data = bytes(value)?,
            2 => self.b64data = value.string()?.into(),
            _ => {}
        }
        Ok(())
    }
}

impl Hook for Rpc {
    const NAME: &'static str = "rpc";
    type Result<'a> = RpcResult<'a>;
    type Grant = Payload;

    fn ask<'a>(&'a self, question: Question<'a>) -> Question<'a> {
        Question { method: &self.method, ..question }.with_data(&self.data)
    }

    fn grpc(&self) -> GrpcCall {
        GrpcCall {
            method: 11,
            data: 12,
            b64data: 13,
            meta: 14,
            ..GrpcCall::new("/centrifugal.centrifugo.proxy.CentrifugoProxy/RPC")
        }
    }

    fn read(reply: Reply<RpcResult<'_>>) -> Result<Payload, Failure> {
        let result = reply.allowed()?.unwrap_or_default();
        Ok(payload(result.data, &result.b64data)?)
    }
}
