//! Questions and answers as they are written: what all hooks have in common.
//!
//! Spec: centrifugo `internal/proxyproto/proxy.proto`; empty fields are left out, but for `user`.

use std::collections::BTreeMap;

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use gyre_core::ports::{Caller, HookRefusal};
use gyre_protocol::{
    ClientError, Disconnect, Payload, PayloadForm, RawPayload,
    codec::{
        DecodeError,
        protobuf::wire::{Message, Value, each_field, entry},
    },
};
use serde::{Deserialize, Serialize, Serializer, ser::Error as _};
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
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "as_json")]
    pub(super) data: Option<&'a Payload>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) b64data: Option<String>,
    #[serde(skip_serializing_if = "str::is_empty")]
    pub(super) name: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    pub(super) version: &'a str,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    pub(super) channels: &'a [Box<str>],
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "as_json")]
    pub(super) meta: Option<&'a Payload>,
    /// Keys of shared polls and the versions known of them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) items: Vec<AskedItem<'a>>,
    /// Events of channels.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) events: Vec<AskedEvent<'a>>,
    /// The end of a connection.
    #[serde(flatten)]
    pub(super) ended: Option<Ended<'a>>,
    #[serde(skip)]
    pub(super) is_binary: bool,
}

/// What happened to a channel.
#[derive(Serialize)]
pub(super) struct AskedEvent<'a> {
    pub(super) time_ms: u64,
    pub(super) channel: &'a str,
    #[serde(rename = "type")]
    pub(super) kind: &'a str,
}

/// How a connection ended.
#[derive(Serialize)]
pub(super) struct Ended<'a> {
    pub(super) code: u32,
    #[serde(skip_serializing_if = "str::is_empty")]
    pub(super) reason: &'a str,
    #[serde(skip_serializing_if = "is_zero")]
    pub(super) duration_ms: u64,
    pub(super) time_ms: u64,
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
    pub(super) fn about(caller: Option<&'a Caller>, target: &Target) -> Self {
        let Some(caller) = caller else { return Self::default() };
        Self {
            client: &caller.client,
            transport: caller.transport,
            protocol: caller.protocol,
            encoding: if target.is_binary { "binary" } else { "json" },
            user: Some(&caller.user),
            meta: Some(&caller.meta).filter(|meta| target.includes_meta && !meta.is_empty()),
            is_binary: target.is_binary,
            ..Self::default()
        }
    }

    /// Adds data, in the form the target wants.
    pub(super) fn with_data(mut self, data: &'a Payload) -> Self {
        match self.is_binary {
            _ if data.is_empty() => {}
            true => self.b64data = Some(STANDARD.encode(data.bytes())),
            false => self.data = Some(data),
        }
        self
    }

    pub(super) fn to_json(&self) -> Result<Bytes, Unusable> {
        serde_json::to_vec(self).map(Bytes::from).map_err(|error| Unusable(error.to_string()))
    }
}

fn as_json<S: Serializer>(payload: &Option<&Payload>, serializer: S) -> Result<S::Ok, S::Error> {
    let Some(payload) = payload else { return serializer.serialize_none() };
    if payload.form() == PayloadForm::Binary {
        return Err(S::Error::custom("the question is not JSON: binary_encoding would carry it"));
    }
    serde_json::from_slice::<&RawValue>(payload.bytes()).map_err(S::Error::custom)?.serialize(serializer)
}

/// How a question is put over gRPC: the call, and the numbers of the fields that it has beside those of the client; 0 is
/// for fields it does not have.
///
/// Spec: centrifugo `internal/proxyproto/proxy.proto`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct GrpcCall {
    pub(super) path: &'static str,
    pub(super) channel: u64,
    pub(super) key: u64,
    pub(super) method: u64,
    pub(super) data: u64,
    pub(super) b64data: u64,
    pub(super) name: u64,
    pub(super) version: u64,
    pub(super) channels: u64,
    pub(super) meta: u64,
    pub(super) items: u64,
    pub(super) events: u64,
}

impl GrpcCall {
    /// A call whose question says nothing but who the client is.
    pub(super) const fn new(path: &'static str) -> Self {
        Self {
            path,
            channel: 0,
            key: 0,
            method: 0,
            data: 0,
            b64data: 0,
            name: 0,
            version: 0,
            channels: 0,
            meta: 0,
            items: 0,
            events: 0,
        }
    }
}

/// The number of the user in every question that has one.
const USER: u64 = 10;

impl Question<'_> {
    pub(super) fn to_protobuf(&self, call: &GrpcCall) -> Vec<u8> {
        let mut out = Vec::with_capacity(256);
        let mut m = Message::new(&mut out);
        let client = [self.client, self.transport, self.protocol, self.encoding];
        for (number, text) in (1..).zip(client) {
            m.string(number, text);
        }
        let payload = |payload: Option<&Payload>| payload.map(|payload| payload.bytes().clone());
        let (data, meta) = (payload(self.data).unwrap_or_default(), payload(self.meta).unwrap_or_default());
        let fields = [
            (USER, self.user.unwrap_or_default().as_bytes()),
            (call.channel, self.channel.as_bytes()),
            (call.key, self.key.as_bytes()),
            (call.method, self.method.as_bytes()),
            (call.data, &data),
            (call.b64data, self.b64data.as_deref().unwrap_or_default().as_bytes()),
            (call.name, self.name.as_bytes()),
            (call.version, self.version.as_bytes()),
            (call.meta, &meta),
        ];
        for (number, bytes) in fields.into_iter().filter(|(number, _)| *number != 0) {
            m.bytes(number, bytes);
        }
        for channel in self.channels.iter().filter(|_| call.channels != 0) {
            m.item(call.channels, channel);
        }
        for event in self.events.iter().filter(|_| call.events != 0) {
            m.message(call.events, |m| {
                m.uint(1, event.time_ms);
                m.string(2, event.channel);
                m.string(3, event.kind);
            });
        }
        if let Some(ended) = &self.ended {
            m.uint(11, ended.code.into());
            m.string(12, ended.reason);
            m.uint(13, ended.duration_ms);
            m.uint(14, ended.time_ms);
        }
        for item in self.items.iter().filter(|_| call.items != 0) {
            m.message(call.items, |m| {
                m.string(1, item.key);
                m.uint(2, item.version);
            });
        }
        out
    }
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

/// A result by the numbers of its fields, as it comes over gRPC.
pub(super) trait Fields<'a>: Default {
    /// Takes the value of a field; unknown ones are skipped.
    fn set(&mut self, number: u64, value: Value<'a>) -> Result<(), DecodeError>;
}

/// Reads a message of which every field is offered to `value`.
pub(super) fn read_fields<'a, T: Fields<'a>>(message: &'a [u8]) -> Result<T, DecodeError> {
    let mut read = T::default();
    each_field(message, |number, value| read.set(number, value))?;
    Ok(read)
}

/// The payload of a field.
pub(super) fn bytes(value: Value<'_>) -> Result<Option<RawPayload<'_>>, DecodeError> {
    Ok(Some(value.bytes()?).filter(|bytes| !bytes.is_empty()).map(RawPayload::Bytes))
}

/// Adds an entry to a map of strings.
pub(super) fn add_tag(tags: &mut BTreeMap<Box<str>, Box<str>>, value: Value<'_>) -> Result<(), DecodeError> {
    let (key, value) = entry(value, |value| value.string())?;
    tags.insert(key.into(), value.unwrap_or_default().into());
    Ok(())
}

impl Fields<'_> for ReplyError {
    fn set(&mut self, number: u64, value: Value<'_>) -> Result<(), DecodeError> {
        match number {
            1 => self.code = value.varint()? as u32,
            2 => self.message = value.string()?.into(),
            3 => self.temporary = value.bool()?,
            _ => {}
        }
        Ok(())
    }
}

impl Fields<'_> for ReplyDisconnect {
    fn set(&mut self, number: u64, value: Value<'_>) -> Result<(), DecodeError> {
        match number {
            1 => self.code = value.varint()? as u32,
            2 => self.reason = value.string()?.into(),
            _ => {}
        }
        Ok(())
    }
}

impl<'a, R: Fields<'a>> Reply<R> {
    /// Reads an answer that came over gRPC.
    pub(super) fn parse_protobuf(answer: &'a [u8]) -> Result<Self, Unusable> {
        let mut reply = Self { result: None, error: None, disconnect: None };
        let read = each_field(answer, |number, value| {
            match number {
                1 => reply.result = Some(read_fields(value.bytes()?)?),
                2 => reply.error = Some(read_fields(value.bytes()?)?),
                3 => reply.disconnect = Some(read_fields(value.bytes()?)?),
                _ => {}
            }
            Ok(())
        });
        read.map_err(|error| Unusable(format!("the answer cannot be read: {error}")))?;
        Ok(reply)
    }
}

/// Reads an object: serde would take a list for one whose fields are all missing, and with that a grant.
fn object<'a, T: Deserialize<'a>>(json: &'a [u8]) -> serde_json::Result<T> {
    match json.trim_ascii_start().first() {
        Some(b'{') => serde_json::from_slice(json),
        _ => Err(<serde_json::Error as serde::de::Error>::custom("it is not an object")),
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

/// The payload of a field that is given as it is or, winning over that, as base64 of anything.
pub(super) fn payload(raw: Option<RawPayload<'_>>, base64: &str) -> Result<Payload, Unusable> {
    match base64 {
        "" => Ok(raw.map_or_else(Payload::default, RawPayload::to_payload)),
        base64 => decoded(base64),
    }
}

/// The payload of a field that wins over its base64 form; `None` if neither is given.
pub(super) fn replacement(raw: Option<RawPayload<'_>>, base64: &str) -> Result<Option<Payload>, Unusable> {
    match (raw, base64) {
        (Some(raw), _) => Ok(Some(raw.to_payload())),
        (None, "") => Ok(None),
        (None, base64) => decoded(base64).map(Some),
    }
}

fn decoded(base64: &str) -> Result<Payload, Unusable> {
    let bytes = STANDARD.decode(base64);
    Ok(Payload::new(bytes.map_err(|error| Unusable(format!("base64 in the answer: {error}")))?))
}
