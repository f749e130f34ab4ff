//! The claims of both kinds of tokens.
//!
//! Spec: centrifugal.dev, "Client JWT authentication" and "Channel JWT authorization"

use base64::{Engine, engine::general_purpose::STANDARD};
use gyre_core::ports::{Overrides, ServerSubscription, SubscriptionGrant, TokenError};
use gyre_protocol::Payload;
use serde::{Deserialize, Deserializer, de::Error};
use serde_json::value::RawValue;

/// Claims as they are written.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Claims<'a> {
    pub(super) sub: Option<String>,
    #[serde(deserialize_with = "numeric_date")]
    pub(super) exp: Option<f64>,
    #[serde(deserialize_with = "numeric_date")]
    pub(super) nbf: Option<f64>,
    pub(super) aud: Audience,
    pub(super) iss: Option<String>,
    pub(super) expire_at: Option<i64>,
    pub(super) channel: Option<String>,
    pub(super) client: Option<String>,
    #[serde(borrow)]
    pub(super) info: Option<&'a RawValue>,
    pub(super) b64info: Option<String>,
    #[serde(borrow)]
    pub(super) data: Option<&'a RawValue>,
    pub(super) b64data: Option<String>,
    #[serde(borrow)]
    pub(super) meta: Option<&'a RawValue>,
    pub(super) channels: Option<Vec<String>>,
    pub(super) subs: Option<serde_json::Map<String, serde_json::Value>>,
    #[serde(rename = "override")]
    pub(super) overrides: Option<OverrideClaims>,
}

/// A text or a list of them.
#[derive(Debug, Default, Deserialize)]
#[serde(untagged)]
pub(super) enum Audience {
    #[default]
    None,
    One(String),
    Many(Vec<String>),
}

impl Audience {
    pub(super) fn iter(&self) -> impl Iterator<Item = &str> {
        let (one, many) = match self {
            Self::None => (None, &[][..]),
            Self::One(one) => (Some(&**one), &[][..]),
            Self::Many(many) => (None, &many[..]),
        };
        one.into_iter().chain(many.iter().map(String::as_str))
    }
}

/// `{"presence": {"value": true}, …}`.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct OverrideClaims {
    presence: Option<BoolValue>,
    join_leave: Option<BoolValue>,
    force_push_join_leave: Option<BoolValue>,
    force_positioning: Option<BoolValue>,
    force_recovery: Option<BoolValue>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default)]
struct BoolValue {
    value: bool,
}

impl From<OverrideClaims> for Overrides {
    fn from(claims: OverrideClaims) -> Self {
        let value = |given: Option<BoolValue>| given.map(|given| given.value);
        Self {
            presence: value(claims.presence),
            join_leave: value(claims.join_leave),
            force_push_join_leave: value(claims.force_push_join_leave),
            force_recovery: value(claims.force_recovery),
            force_positioning: value(claims.force_positioning),
        }
    }
}

/// One of `subs`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct SubClaims {
    info: Option<Box<RawValue>>,
    b64info: Option<String>,
    data: Option<Box<RawValue>>,
    b64data: Option<String>,
    #[serde(rename = "override")]
    overrides: Option<OverrideClaims>,
}

/// A number, or a text that holds one.
///
/// Spec: RFC 7519 section 2, NumericDate
fn numeric_date<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<f64>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Date {
        Number(f64),
        Text(String),
    }
    match Option::<Date>::deserialize(deserializer)? {
        None => Ok(None),
        Some(Date::Number(number)) => Ok(Some(number)),
        Some(Date::Text(text)) => text.parse().map(Some).map_err(D::Error::custom),
    }
}

/// The raw claim, or its base64 form, which wins.
fn payload(raw: Option<&RawValue>, base64: Option<&str>, claim: &str) -> Result<Payload, TokenError> {
    match (base64.filter(|text| !text.is_empty()), raw) {
        (Some(text), _) => match STANDARD.decode(text) {
            Ok(bytes) => Ok(Payload::new(bytes)),
            Err(_) => Err(TokenError::Undecodable { reason: format!("{claim} is not base64") }),
        },
        (None, Some(raw)) => Ok(Payload::json(raw.get().to_owned())),
        (None, None) => Ok(Payload::default()),
    }
}

impl Claims<'_> {
    /// `info` or `b64info`.
    pub(super) fn info(&self) -> Result<Payload, TokenError> {
        payload(self.info, self.b64info.as_deref(), "b64info")
    }

    /// `meta`.
    pub(super) fn meta(&self) -> Payload {
        self.meta.map_or_else(Payload::default, |meta| Payload::json(meta.get().to_owned()))
    }

    /// Unix time of the expiry of what the token grants; `expire_at` replaces `exp`.
    pub(super) fn expiry(&self) -> Option<i64> {
        self.expire_at.or(self.exp.map(|exp| exp as i64))
    }

    /// What a subscription token grants.
    pub(super) fn grant(&self) -> Result<SubscriptionGrant, TokenError> {
        Ok(SubscriptionGrant {
            info: self.info()?,
            data: payload(self.data, self.b64data.as_deref(), "b64data")?,
            overrides: self.overrides.map(Overrides::from).unwrap_or_default(),
        })
    }

    /// The server-side subscriptions of a connection token: `subs`, or else `channels`.
    pub(super) fn subscriptions(&self) -> Result<Vec<ServerSubscription>, TokenError> {
        match &self.subs {
            Some(subs) if !subs.is_empty() => {
                subs.iter().map(|(channel, claims)| server_subscription(channel, claims)).collect()
            }
            _ => {
                let channels = self.channels.iter().flatten();
                Ok(channels
                    .map(|c| ServerSubscription { channel: (**c).into(), grant: Default::default() })
                    .collect())
            }
        }
    }
}

fn server_subscription(channel: &str, claims: &serde_json::Value) -> Result<ServerSubscription, TokenError> {
    let claims: SubClaims = serde_json::from_str(&claims.to_string())
        .map_err(|error| TokenError::Invalid { reason: format!("subs: {error}") })?;
    let grant = SubscriptionGrant {
        info: payload(claims.info.as_deref(), claims.b64info.as_deref(), "subs b64info")?,
        data: payload(claims.data.as_deref(), claims.b64data.as_deref(), "subs b64data")?,
        overrides: claims.overrides.map(Overrides::from).unwrap_or_default(),
    };
    Ok(ServerSubscription { channel: channel.into(), grant })
}
