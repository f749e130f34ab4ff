//! Methods of the application.

use gyre_protocol::Payload;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{
    Hook,
    message::{Failure, Question, Reply, Unusable, payload},
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
    data: Option<&'a RawValue>,
    #[serde(deserialize_with = "null_is_default")]
    b64data: String,
}

impl Hook for Rpc {
    const NAME: &'static str = "rpc";
    type Result<'a> = RpcResult<'a>;
    type Grant = Payload;

    fn ask<'a>(&'a self, question: Question<'a>) -> Result<Question<'a>, Unusable> {
        Question { method: &self.method, ..question }.with_data(&self.data)
    }

    fn read(reply: Reply<RpcResult<'_>>) -> Result<Payload, Failure> {
        let result = reply.allowed()?.unwrap_or_default();
        Ok(payload(result.data, &result.b64data)?)
    }
}
