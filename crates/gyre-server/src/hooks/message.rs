//! Questions and answers as they are written: what all hooks have in common.
//!
//! Spec: centrifugo `internal/proxyproto/proxy.proto`; empty fields are left out, but for `user`.

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use gyre_core::ports::{Caller, HookRefusal};
use gyre_protocol::{ClientError, Disconnect, Payload, PayloadForm};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::Target;
use crate::json::null_is_default;

/// Why there is no usable answer, in words for a log.
#[derive(Debug)]
pub(super) struct Unusable(pub(super) String);

/// Why a hook does not allow something.
#[derive(Debug)]
pub(super) enum Failure {
    /// The application says so.
    Refused(HookRefusal),
    /// It says nothing that can be used.
    Unusable(Unusable),
}

impl From<Unusable> for Failure {
    fn from(unusable: Unusable) -> Self {
        Self::Unusable(unusable)
    }
}

impl From<HookRefusal> for Failure {
    fn from(refusal: HookRefusal) -> Self {
        Self::Refused(refusal)
    }
}

/// A question: each hook fills in what it asks.
#[derive(Default, Serialize)]
pub(super) struct Question<'a> {
    #[serde(skip_serializing_if = "str::is_empty")]
    pub(super) client: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    pub(super) transport: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    pub(super) protocol: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    pub(super) encoding: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) user: Option<&'a str>,
    #[serde(skip_serializing_if = "str::is_empty")]
    pub(super) channel: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    pub(super) key: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    pub(super) method: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) data: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) b64data: Option<String>,
    #[serde(skip_serializing_if = "str::is_empty")]
    pub(super) name: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    pub(super) version: &'a str,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    pub(super) channels: &'a [Box<str>],
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) meta: Option<&'a RawValue>,
    /// Keys of shared polls and the versions known of them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) items: Vec<AskedItem<'a>>,
    #[serde(skip)]
    pub(super) is_binary: bool,
}

/// A key of a shared poll.
#[derive(Serialize)]
pub(super) struct AskedItem<'a> {
    pub(super) key: &'a str,
    #[serde(skip_serializing_if = "is_zero")]
    pub(super) version: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
fn is_zero(version: &u64) -> bool {
    *version == 0
}

impl<'a> Question<'a> {
    /// What every question says of the client it is about, if it is about one.
    pub(super) fn about(caller: Option<&'a Caller>, target: &Target) -> Result<Self, Unusable> {
        let Some(caller) = caller else { return Ok(Self::default()) };
        let meta = Some(&caller.meta).filter(|meta| target.includes_meta && !meta.is_empty());
        Ok(Self {
            client: &caller.client,
            transport: caller.transport,
            protocol: caller.protocol,
            encoding: if target.is_binary { "binary" } else { "json" },
            user: Some(&caller.user),
            meta: meta.map(|meta| raw(meta, "meta")).transpose()?,
            is_binary: target.is_binary,
            ..Self::default()
        })
    }

    /// Adds data, in the form the target wants.
    pub(super) fn with_data(mut self, data: &'a Payload) -> Result<Self, Unusable> {
        match self.is_binary {
            _ if data.is_empty() => {}
            true => self.b64data = Some(STANDARD.encode(data.bytes())),
            false => self.data = Some(raw(data, "data")?),
        }
        Ok(self)
    }

    pub(super) fn to_json(&self) -> Result<Bytes, Unusable> {
        serde_json::to_vec(self).map(Bytes::from).map_err(|error| Unusable(error.to_string()))
    }
}

fn raw<'a>(payload: &'a Payload, what: &str) -> Result<&'a RawValue, Unusable> {
    if payload.form() == PayloadForm::Binary {
        return Err(Unusable(format!("{what} of the question is not JSON: binary_encoding would carry it")));
    }
    serde_json::from_slice(payload.bytes()).map_err(|error| Unusable(format!("{what}: {error}")))
}

/// An answer.
pub(super) struct Reply<R> {
    pub(super) result: Option<R>,
    error: Option<ReplyError>,
    disconnect: Option<ReplyDisconnect>,
}

/// An answer as it is written.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Envelope<'a> {
    #[serde(borrow)]
    result: Option<&'a RawValue>,
    error: Option<ReplyError>,
    disconnect: Option<ReplyDisconnect>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ReplyError {
    code: u32,
    #[serde(deserialize_with = "null_is_default")]
    message: String,
    temporary: bool,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ReplyDisconnect {
    code: u32,
    #[serde(deserialize_with = "null_is_default")]
    reason: String,
}

impl<'a, R: Deserialize<'a>> Reply<R> {
    /// Reads an answer.
    pub(super) fn parse(answer: &'a [u8]) -> Result<Self, Unusable> {
        let parse = || -> serde_json::Result<Self> {
            let Envelope { result, error, disconnect } = object(answer)?;
            let result = result.map(|result| object(result.get().as_bytes())).transpose()?;
            Ok(Self { result, error, disconnect })
        };
        parse().map_err(|error| Unusable(format!("the answer cannot be read: {error}")))
    }
}

/// Reads an object: serde would take a list for one whose fields are all missing, and with that a grant.
fn object<'a, T: Deserialize<'a>>(json: &'a [u8]) -> serde_json::Result<T> {
    match json.trim_ascii_start().first() {
        Some(b'{') => serde_json::from_slice(json),
        _ => Err(serde::de::Error::custom("it is not an object")),
    }
}

impl<R> Reply<R> {
    /// The answer a status stands for.
    pub(super) fn refusing(refusal: HookRefusal) -> Self {
        let (mut error, mut disconnect) = (None, None);
        match refusal {
            HookRefusal::Error(ClientError { code, message, temporary }) => {
                error = Some(ReplyError { code, message: message.into_owned(), temporary });
            }
            HookRefusal::Disconnect(Disconnect { code, reason }) => {
                disconnect = Some(ReplyDisconnect { code, reason: reason.into_owned() });
            }
        }
        Self { result: None, error, disconnect }
    }

    /// The result, unless the application refuses. A disconnect comes before an error, an error before a result.
    pub(super) fn allowed(self) -> Result<Option<R>, HookRefusal> {
        if let Some(ReplyDisconnect { code, reason }) = self.disconnect {
            return Err(HookRefusal::Disconnect(Disconnect { code, reason: reason.into() }));
        }
        if let Some(ReplyError { code, message, temporary }) = self.error {
            return Err(HookRefusal::Error(ClientError { code, message: message.into(), temporary }));
        }
        Ok(self.result)
    }
}

/// The payload of a field that is given as JSON or, winning over that, as base64 of anything.
pub(super) fn payload(json: Option<&RawValue>, base64: &str) -> Result<Payload, Unusable> {
    match base64 {
        "" => Ok(json.map_or_else(Payload::default, copied)),
        base64 => decoded(base64),
    }
}

/// The payload of a field that wins over its base64 form; `None` if neither is given.
pub(super) fn replacement(json: Option<&RawValue>, base64: &str) -> Result<Option<Payload>, Unusable> {
    match (json, base64) {
        (Some(json), _) => Ok(Some(copied(json))),
        (None, "") => Ok(None),
        (None, base64) => decoded(base64).map(Some),
    }
}

fn copied(json: &RawValue) -> Payload {
    Payload::json(json.get().as_bytes().to_vec())
}

fn decoded(base64: &str) -> Result<Payload, Unusable> {
    let bytes = STANDARD.decode(base64);
    Ok(Payload::new(bytes.map_err(|error| Unusable(format!("base64 in the answer: {error}")))?))
}
