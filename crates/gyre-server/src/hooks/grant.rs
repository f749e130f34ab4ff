//! What an application may say of one subscription: the same in results of connect and of subscribe hooks.

use gyre_core::ports::{Overrides, SubscriptionGrant};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::message::{Unusable, payload};
use crate::json::null_is_default;

/// Spec: centrifugo `internal/proxyproto/proxy.proto`, SubscribeOptions and SubscribeResult.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Subscription<'a> {
    #[serde(deserialize_with = "null_is_default")]
    pub(super) expire_at: i64,
    #[serde(borrow)]
    info: Option<&'a RawValue>,
    #[serde(deserialize_with = "null_is_default")]
    b64info: String,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
    #[serde(deserialize_with = "null_is_default")]
    b64data: String,
    #[serde(rename = "override")]
    overrides: Option<Replaced>,
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
        })
    }
}
