//! The application's say in changes of maps, asked over HTTP.
//!
//! Spec: centrifugal.dev, "Proxy to backend"; centrifugo `internal/proxyproto/proxy.proto`, MapPublishRequest and
//! MapRemoveRequest.

use std::collections::BTreeMap;

use base64::{Engine, engine::general_purpose::STANDARD};
use gyre_core::ports::{Answer, HookRefusal, KeyMode, MapHookGrant, MapHookRequest, MapHooks};
use gyre_protocol::{ClientError, Disconnect, Payload, PayloadForm};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{CallError, Hooks, Target};

#[derive(Serialize)]
struct Question<'a> {
    client: &'a str,
    transport: &'a str,
    protocol: &'a str,
    encoding: &'a str,
    user: &'a str,
    channel: &'a str,
    key: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    b64data: Option<String>,
}

#[derive(Deserialize)]
struct Reply<'a> {
    #[serde(borrow, default)]
    result: Option<Grant<'a>>,
    #[serde(default)]
    error: Option<ReplyError>,
    #[serde(default)]
    disconnect: Option<ReplyDisconnect>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Grant<'a> {
    key: String,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
    b64data: String,
    tags: Option<BTreeMap<String, String>>,
    key_mode: String,
    idempotency_key: String,
    delta: bool,
    version: u64,
    version_epoch: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ReplyError {
    code: u32,
    message: String,
    temporary: bool,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ReplyDisconnect {
    code: u32,
    reason: String,
}

impl MapHooks for Hooks {
    fn ask(&self, hook: &str, request: MapHookRequest) -> Answer<Result<MapHookGrant, HookRefusal>> {
        let (hooks, hook, target) = (self.clone(), hook.to_owned(), self.target(hook));
        Answer::Later(Box::pin(async move {
            let failed = |reason: &dyn std::fmt::Display| {
                tracing::warn!(hook, %reason, "a hook gave no usable answer");
                HookRefusal::Error(ClientError::INTERNAL)
            };
            let target = target.map_err(|error| failed(&error))?;
            let question = question(&target, &request).map_err(|reason| failed(&reason))?;
            match hooks.call(&target, question).await {
                Ok(answer) => read(&answer).map_err(|failure| match failure {
                    Failure::Refused(refusal) => refusal,
                    Failure::Unusable(reason) => failed(&reason),
                }),
                Err(CallError::Status(status)) => {
                    let transform = target.transforms.iter().find(|(known, _)| *known == status);
                    Err(transform
                        .map_or_else(|| failed(&CallError::Status(status)), |(_, refusal)| refusal.clone()))
                }
                Err(error) => Err(failed(&error)),
            }
        }))
    }
}

fn question(target: &Target, request: &MapHookRequest) -> Result<Vec<u8>, String> {
    let data = request.data.as_ref().filter(|data| !data.is_empty());
    let (raw, b64data) = match data {
        None => (None, None),
        Some(data) if target.is_binary => (None, Some(STANDARD.encode(data.bytes()))),
        Some(data) if data.form() == PayloadForm::Binary => return Err("the data is not JSON".into()),
        Some(data) => (Some(serde_json::from_slice(data.bytes()).map_err(|e| e.to_string())?), None),
    };
    serde_json::to_vec(&Question {
        client: &request.client,
        transport: request.transport,
        protocol: request.protocol,
        encoding: if target.is_binary { "binary" } else { "json" },
        user: &request.user,
        channel: request.channel.as_deref().unwrap_or(""),
        key: &request.key,
        data: raw,
        b64data,
    })
    .map_err(|error| error.to_string())
}

enum Failure {
    Refused(HookRefusal),
    Unusable(String),
}

fn read(answer: &[u8]) -> Result<MapHookGrant, Failure> {
    let unusable = |reason: String| Failure::Unusable(reason);
    let reply: Reply<'_> = super::parse(answer).map_err(|error| unusable(error.to_string()))?;
    if let Some(ReplyDisconnect { code, reason }) = reply.disconnect {
        return Err(Failure::Refused(HookRefusal::Disconnect(Disconnect { code, reason: reason.into() })));
    }
    if let Some(ReplyError { code, message, temporary }) = reply.error {
        let error = ClientError { code, message: message.into(), temporary };
        return Err(Failure::Refused(HookRefusal::Error(error)));
    }
    let grant = reply.result.unwrap_or_default();
    let data = match (grant.data, &*grant.b64data) {
        (Some(data), _) => Some(Payload::json(data.get().as_bytes().to_vec())),
        (None, "") => None,
        (None, base64) => {
            Some(Payload::new(STANDARD.decode(base64).map_err(|error| unusable(error.to_string()))?))
        }
    };
    let tags = grant.tags.unwrap_or_default().into_iter();
    Ok(MapHookGrant {
        key: grant.key.into(),
        data,
        tags: tags.map(|(key, value)| (key.into(), value.into())).collect(),
        key_mode: match &*grant.key_mode {
            "" => KeyMode::Any,
            "if_new" => KeyMode::IfNew,
            "if_exists" => KeyMode::IfExists,
            other => return Err(unusable(format!("key_mode \"{other}\" is not known"))),
        },
        idempotency_key: grant.idempotency_key.into(),
        delta: grant.delta,
        version: grant.version,
        version_epoch: grant.version_epoch.into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Refusals, grants and nonsense, read from text; a disconnect comes before an error, an error before a result.
    #[test]
    fn answers_are_read() {
        let granted = |answer: &str| read(answer.as_bytes()).ok();
        let grant = granted(
            r#"{"result":{"key":"k","data":1,"b64data":"Mg==","tags":{"t":"x"},"key_mode":"if_new"}}"#,
        );
        let grant = grant.unwrap();
        assert_eq!(
            (&*grant.key, grant.data, grant.key_mode),
            ("k", Some(Payload::json("1")), KeyMode::IfNew)
        );
        assert_eq!(granted(r#"{"result":{"b64data":"Mg=="}}"#).unwrap().data, Some(Payload::json("2")));
        assert!(granted("{}").is_some(), "no result is a grant without changes");
        let refused = |answer: &str| match read(answer.as_bytes()) {
            Err(Failure::Refused(refusal)) => Some(refusal),
            _ => None,
        };
        let error = r#"{"result":{},"error":{"code":1000,"message":"no"}}"#;
        assert!(matches!(refused(error), Some(HookRefusal::Error(error)) if error.code == 1000));
        let disconnect = r#"{"error":{"code":1000},"disconnect":{"code":4000,"reason":"r"}}"#;
        assert!(matches!(refused(disconnect), Some(HookRefusal::Disconnect(d)) if d.code == 4000));
        for broken in ["", "[]", r#"{"result":{"b64data":"!"}}"#, r#"{"result":{"key_mode":"x"}}"#] {
            assert!(matches!(read(broken.as_bytes()), Err(Failure::Unusable(_))), "{broken}");
        }
    }
}
