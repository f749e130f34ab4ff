//! What an application may say of one subscription: the same in results of connect and of subscribe hooks.

use gyre_core::ports::{Overrides, SubscriptionGrant};
use gyre_protocol::{
    RawPayload,
    codec::{DecodeError, protobuf::wire::Value},
};
use serde::Deserialize;

use super::message::{Fields, Unusable, bytes, payload, read_fields};
use crate::json::null_is_default;

/// Spec: centrifugo `internal/proxyproto/proxy.proto`, SubscribeOptions and SubscribeResult.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Subscription<'a> {
    #[serde(deserialize_with = "null_is_default")]
    pub(super) expire_at: i64,
    #[serde(borrow)]
    info: Option<RawPayload<'a>>,
    #[serde(deserialize_with = "null_is_default")]
    b64info: String,
    #[serde(borrow)]
    data: Option<RawPayload<'a>>,
    #[serde(deserialize_with = "null_is_default")]
    b64data: String,
    #[serde(rename = "override")]
    overrides: Option<Replaced>,
    #[serde(deserialize_with = "null_is_default")]
    cache_recover: bool,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Replaced {
    presence: Option<Switch>,
    join_leave: Option<Switch>,
    force_push_join_leave: Option<Switch>,
    force_recovery: Option<Switch>,
    force_positioning: Option<Switch>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Switch {
    value: bool,
}

impl<'a> Fields<'a> for Subscription<'a> {
    fn set(&mut self, number: u64, value: Value<'a>) -> Result<(), DecodeError> {
        match number {
            1 => self.expire_at = value.varint()? as i64,
            2 => self.info = bytes(value)?,
            3 => self.b64info = value.string()?.into(),
            4 => self.data = bytes(value)?,
            5 => self.b64data = value.string()?.into(),
            6 => self.overrides = Some(read_fields(value.bytes()?)?),
            8 => self.cache_recover = value.bool()?,
            _ => {}
        }
        Ok(())
    }
}

impl Fields<'_> for Replaced {
    fn set(&mut self, number: u64, value: Value<'_>) -> Result<(), DecodeError> {
        let option = match number {
            1 => &mut self.presence,
            2 => &mut self.join_leave,
            3 => &mut self.force_recovery,
            4 => &mut self.force_positioning,
            5 => &mut self.force_push_join_leave,
            _ => return Ok(()),
        };
        *option = Some(read_fields(value.bytes()?)?);
        Ok(())
    }
}

impl Fields<'_> for Switch {
    fn set(&mut self, number: u64, value: Value<'_>) -> Result<(), DecodeError> {
        if number == 1 {
            self.value = value.bool()?;
        }
        Ok(())
    }
}

impl Subscription<'_> {
    pub(super) fn into_grant(self) -> Result<SubscriptionGrant, Unusable> {
        let overrides = self.overrides.unwrap_or_default();
        let value = |switch: Option<Switch>| switch.map(|switch| switch.value);
        Ok(SubscriptionGrant {
            info: payload(self.info, &self.b64info)?,
            data: payload(self.data, &self.b64data)?,
            overrides: Overrides {
                presence: value(overrides.presence),
                join_leave: value(overrides.join_leave),
                force_push_join_leave: value(overrides.force_push_join_leave),
                force_recovery: value(overrides.force_recovery),
                force_positioning: value(overrides.force_positioning),
            },
            cache_recover: self.cache_recover,
        })
    }
}
