//! Claims as they stand in a token, and what they mean to the core.
//!
//! A claims set is decoded in groups, each a plain struct: a second walk over a few hundred bytes is cheaper than
//! serde's buffering for flattened structs. Unknown claims are ignored; a known one of the wrong type makes the token
//! invalid; `null` counts as absent.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use gyre_core::ports::{
    ConnectionClaims, Overrides, ServerSubscription, SubscriptionClaims, SubscriptionGrant, TokenError,
};
use gyre_protocol::Payload;
use serde::{
    Deserialize, Deserializer,
    de::{Error, Visitor},
};
use serde_json::value::RawValue;

use crate::json::null_is_default;

/// Claims that every token has, whatever its kind.
///
/// Spec: RFC 7519 section 4.1.
#[derive(Deserialize)]
pub(super) struct RegisteredClaims<'c> {
    #[serde(default, deserialize_with = "null_is_default")]
    pub(super) sub: Box<str>,
    pub(super) exp: Option<NumericDate>,
    pub(super) nbf: Option<NumericDate>,
    /// When it was issued. Judged only where the user's tokens were invalidated.
    pub(super) iat: Option<NumericDate>,
    /// Names the token.
    #[serde(borrow)]
    pub(super) jti: Option<Cow<'c, str>>,
    #[serde(default, deserialize_with = "null_is_default")]
    pub(super) aud: Audience,
    #[serde(borrow)]
    pub(super) iss: Option<Cow<'c, str>>,
}

/// Seconds since the epoch: a number, with a fraction or without, or a string that holds one.
#[derive(Clone, Copy)]
pub(super) struct NumericDate(pub(super) f64);

/// The `aud` claim: one string or a list.
#[derive(Deserialize)]
#[serde(untagged)]
pub(super) enum Audience {
    One(Box<str>),
    Many(Vec<Box<str>>),
}

/// Claims of a connection token beyond the registered ones.
#[derive(Deserialize)]
pub(super) struct ConnectionToken<'c> {
    /// Marks a subscription token.
    #[serde(default, deserialize_with = "null_is_default")]
    pub(super) channel: Box<str>,
    expire_at: Option<i64>,
    #[serde(borrow)]
    info: Option<&'c RawValue>,
    #[serde(borrow)]
    b64info: Option<Cow<'c, str>>,
    #[serde(borrow)]
    meta: Option<&'c RawValue>,
    // Sets, because a channel named twice is still one subscription.
    channels: Option<BTreeSet<Box<str>>>,
    #[serde(borrow)]
    subs: Option<BTreeMap<Box<str>, Option<GrantClaims<'c>>>>,
}

/// Claims of a subscription token beyond the registered ones and [`GrantClaims`].
#[derive(Deserialize)]
pub(super) struct SubscriptionToken {
    #[serde(default, deserialize_with = "null_is_default")]
    pub(super) channel: Box<str>,
    #[serde(default, deserialize_with = "null_is_default")]
    client: Box<str>,
    expire_at: Option<i64>,
}

/// What a subscription gets: top-level claims of a subscription token, or an entry of `subs`.
#[derive(Deserialize, Default)]
pub(super) struct GrantClaims<'c> {
    #[serde(borrow)]
    info: Option<&'c RawValue>,
    #[serde(borrow)]
    b64info: Option<Cow<'c, str>>,
    #[serde(borrow)]
    data: Option<&'c RawValue>,
    #[serde(borrow)]
    b64data: Option<Cow<'c, str>>,
    #[serde(rename = "override")]
    overrides: Option<OverrideClaims>,
}

/// Spec: centrifugal.dev, "Channel JWT authorization", override.
#[derive(Deserialize, Default)]
struct OverrideClaims {
    presence: Option<Switch>,
    join_leave: Option<Switch>,
    force_push_join_leave: Option<Switch>,
    force_recovery: Option<Switch>,
    force_positioning: Option<Switch>,
}

#[derive(Deserialize)]
struct Switch {
    #[serde(default)]
    value: bool,
}

impl ConnectionToken<'_> {
    pub(super) fn into_claims(
        self,
        user: Box<str>,
        exp: Option<NumericDate>,
    ) -> Result<ConnectionClaims, TokenError> {
        Ok(ConnectionClaims {
            user,
            expire_at: expiry(self.expire_at, exp),
            info: payload(self.info, self.b64info.as_deref(), "b64info")?,
            meta: payload(self.meta, None, "meta")?,
            subs: server_subscriptions(self.subs.unwrap_or_default(), self.channels.unwrap_or_default())?,
        })
    }
}

impl SubscriptionToken {
    pub(super) fn into_claims(
        self,
        user: Box<str>,
        exp: Option<NumericDate>,
        grant: GrantClaims<'_>,
    ) -> Result<SubscriptionClaims, TokenError> {
        Ok(SubscriptionClaims {
            user,
            channel: self.channel,
            client: self.client,
            expire_at: expiry(self.expire_at, exp),
            grant: grant.into_grant()?,
        })
    }
}

impl GrantClaims<'_> {
    fn into_grant(self) -> Result<SubscriptionGrant, TokenError> {
        let overrides = self.overrides.unwrap_or_default();
        let value = |switch: Option<Switch>| switch.map(|switch| switch.value);
        Ok(SubscriptionGrant {
            info: payload(self.info, self.b64info.as_deref(), "b64info")?,
            data: payload(self.data, self.b64data.as_deref(), "b64data")?,
            overrides: Overrides {
                presence: value(overrides.presence),
                join_leave: value(overrides.join_leave),
                force_push_join_leave: value(overrides.force_push_join_leave),
                force_recovery: value(overrides.force_recovery),
                force_positioning: value(overrides.force_positioning),
            },
            cache_recover: false,
        })
    }
}

impl Audience {
    pub(super) fn iter(&self) -> impl Iterator<Item = &str> {
        let (one, many) = match self {
            Self::One(audience) => (Some(&**audience), &[][..]),
            Self::Many(audiences) => (None, &**audiences),
        };
        one.into_iter().chain(many.iter().map(|audience| &**audience))
    }
}

impl Default for Audience {
    fn default() -> Self {
        Self::Many(Vec::new())
    }
}

impl<'de> Deserialize<'de> for NumericDate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NumericDateVisitor)
    }
}

struct NumericDateVisitor;

impl Visitor<'_> for NumericDateVisitor {
    type Value = NumericDate;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number of seconds, or a string that holds one")
    }

    fn visit_u64<E: Error>(self, seconds: u64) -> Result<NumericDate, E> {
        Ok(NumericDate(seconds as f64))
    }

    fn visit_i64<E: Error>(self, seconds: i64) -> Result<NumericDate, E> {
        Ok(NumericDate(seconds as f64))
    }

    fn visit_f64<E: Error>(self, seconds: f64) -> Result<NumericDate, E> {
        Ok(NumericDate(seconds))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<NumericDate, E> {
        // Rust also reads "inf" and "nan", which are no times.
        let seconds = text.parse().ok().filter(|seconds: &f64| seconds.is_finite());
        seconds.map(NumericDate).ok_or_else(|| E::custom("the string does not hold a number of seconds"))
    }
}

/// `expire_at` replaces `exp`, also when it says "never" (0).
fn expiry(expire_at: Option<i64>, exp: Option<NumericDate>) -> Option<i64> {
    // The fraction is dropped; out of range becomes the nearest end of the range.
    expire_at.or(exp.map(|exp| exp.0.floor() as i64))
}

fn server_subscriptions(
    subs: BTreeMap<Box<str>, Option<GrantClaims<'_>>>,
    channels: BTreeSet<Box<str>>,
) -> Result<Vec<ServerSubscription>, TokenError> {
    if subs.is_empty() {
        let plain = |channel| ServerSubscription { channel, grant: SubscriptionGrant::default() };
        return Ok(channels.into_iter().map(plain).collect());
    }
    let granted = |(channel, grant): (_, Option<GrantClaims<'_>>)| {
        Ok(ServerSubscription { channel, grant: grant.unwrap_or_default().into_grant()? })
    };
    subs.into_iter().map(granted).collect()
}

/// The payload of a claim given as JSON or, winning over that, as base64 of anything.
fn payload(json: Option<&RawValue>, base64: Option<&str>, claim: &str) -> Result<Payload, TokenError> {
    if let Some(base64) = base64.filter(|text| !text.is_empty()) {
        let bytes = STANDARD
            .decode(base64)
            .map_err(|error| TokenError::Undecodable { reason: format!("{claim}: {error}") })?;
        return Ok(Payload::new(bytes));
    }
    Ok(json
        .map_or_else(Payload::default, |json| Payload::json(Bytes::copy_from_slice(json.get().as_bytes()))))
}
