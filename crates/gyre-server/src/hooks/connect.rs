//! Who a client without token is.

use std::collections::{BTreeMap, BTreeSet};

use gyre_core::ports::{
    ConnectGrant, ConnectQuestion, ConnectionClaims, ServerSubscription, SubscriptionGrant,
};
use gyre_protocol::{
    RawPayload,
    codec::{
        DecodeError,
        protobuf::wire::{Value, entry},
    },
};
use serde::Deserialize;

use super::{
    Hook,
    grant::Subscription,
    message::{Failure, Fields, GrpcCall, Question, Reply, Unusable, bytes, payload, read_fields},
};
use crate::json::null_is_default;

pub(super) struct Connect(pub(super) ConnectQuestion);

/// Spec: centrifugo `internal/proxyproto/proxy.proto`, ConnectResult.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct ConnectResult<'a> {
    #[serde(deserialize_with = "null_is_default")]
    user: Box<str>,
    #[serde(deserialize_with = "null_is_default")]
    expire_at: i64,
    #[serde(borrow)]
    info: Option<RawPayload<'a>>,
    #[serde(deserialize_with = "null_is_default")]
    b64info: String,
    #[serde(borrow)]
    data: Option<RawPayload<'a>>,
    #[serde(deserialize_with = "null_is_default")]
    b64data: String,
    // A set, because a channel named twice is still one subscription.
    #[serde(deserialize_with = "null_is_default")]
    channels: BTreeSet<Box<str>>,
    #[serde(borrow)]
    subs: Option<BTreeMap<Box<str>, Option<Subscription<'a>>>>,
    #[serde(borrow)]
    meta: Option<RawPayload<'a>>,
}

impl<'a> Fields<'a> for ConnectResult<'a> {
    fn set(&mut self, number: u64, value: Value<'a>) -> Result<(), DecodeError> {
        match number {
            1 => self.user = value.string()?.into(),
            2 => self.expire_at = value.varint()? as i64,
            3 => self.info = bytes(value)?,
            4 => self.b64info = value.string()?.into(),
            5 => self.data = bytes(value)?,
            6 => self.b64data = value.string()?.into(),
            7 => {
                self.channels.insert(value.string()?.into());
            }
            8 => {
                let (channel, options) = entry(value, |value| read_fields(value.bytes()?))?;
                self.subs.get_or_insert_default().insert(channel.into(), options);
            }
            9 => self.meta = bytes(value)?,
            _ => {}
        }
        Ok(())
    }
}

impl Hook for Connect {
    const NAME: &'static str = "connect";
    type Result<'a> = ConnectResult<'a>;
    type Grant = Option<Box<ConnectGrant>>;

    fn ask<'a>(&'a self, question: Question<'a>) -> Question<'a> {
        let Self(ConnectQuestion { data, name, version, channels }) = self;
        Question { user: None, meta: None, name, version, channels, ..question }.with_data(data)
    }

    fn grpc(&self) -> GrpcCall {
        GrpcCall {
            data: 10,
            b64data: 11,
            name: 12,
            version: 13,
            channels: 14,
            ..GrpcCall::new("/centrifugal.centrifugo.proxy.CentrifugoProxy/Connect")
        }
    }

    fn read(reply: Reply<ConnectResult<'_>>) -> Result<Self::Grant, Failure> {
        let Some(result) = reply.allowed()? else { return Ok(None) };
        let claims = ConnectionClaims {
            user: result.user,
            expire_at: Some(result.expire_at).filter(|&at| at > 0),
            info: payload(result.info, &result.b64info)?,
            meta: payload(result.meta, "")?,
            subs: subscriptions(result.channels, result.subs.unwrap_or_default())?,
        };
        let data = payload(result.data, &result.b64data)?;
        Ok(Some(Box::new(ConnectGrant { claims, data })))
    }
}

/// Channels with options, and those without any.
fn subscriptions(
    plain: BTreeSet<Box<str>>,
    subs: BTreeMap<Box<str>, Option<Subscription<'_>>>,
) -> Result<Vec<ServerSubscription>, Unusable> {
    let plain = plain.into_iter().filter(|channel| !subs.contains_key(channel));
    let plain: Vec<_> =
        plain.map(|channel| ServerSubscription { channel, grant: SubscriptionGrant::default() }).collect();
    let granted = subs.into_iter().map(|(channel, options)| {
        Ok(ServerSubscription { channel, grant: options.unwrap_or_default().into_grant()? })
    });
    plain.into_iter().map(Ok).chain(granted).collect()
}
