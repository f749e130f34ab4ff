//! The backend of shared polls, asked over HTTP.
//!
//! Spec: centrifugo `internal/proxyproto/proxy.proto`, SharedPollRefreshRequest.

use std::sync::Arc;

use gyre_core::{
    channel::ChannelName,
    ports::{Answer, PollError, Polled, PolledItem, SharedPollBackend},
};
use gyre_protocol::{Epoch, Payload};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::Hooks;

#[derive(Serialize)]
struct Question<'a> {
    channel: &'a str,
    items: Vec<Asked<'a>>,
}

#[derive(Serialize)]
struct Asked<'a> {
    key: &'a str,
    #[serde(skip_serializing_if = "is_zero")]
    version: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
fn is_zero(version: &u64) -> bool {
    *version == 0
}

#[derive(Deserialize)]
struct Reply<'a> {
    #[serde(borrow, default)]
    result: Option<ReplyResult<'a>>,
    #[serde(default)]
    error: Option<ReplyError>,
}

#[derive(Deserialize)]
struct ReplyResult<'a> {
    #[serde(borrow, default)]
    items: Option<Vec<Item<'a>>>,
    #[serde(default)]
    epoch: String,
}

#[derive(Deserialize)]
struct Item<'a> {
    key: String,
    #[serde(borrow, default)]
    data: Option<&'a RawValue>,
    #[serde(default)]
    version: u64,
    #[serde(default)]
    removed: bool,
}

#[derive(Deserialize)]
struct ReplyError {
    #[serde(default)]
    code: u32,
    #[serde(default)]
    message: String,
}

impl SharedPollBackend for Hooks {
    fn refresh(
        &self,
        backend: &str,
        channel: &ChannelName,
        keys: Vec<(Arc<str>, u64)>,
    ) -> Answer<Result<Polled, PollError>> {
        let items = keys.iter().map(|(key, version)| Asked { key, version: *version }).collect();
        let question = serde_json::to_vec(&Question { channel, items });
        let (hooks, target) = (self.clone(), self.target(backend));
        Answer::Later(Box::pin(async move {
            let target = target.map_err(|error| failed(&error))?;
            let question = question.map_err(|error| failed(&error))?;
            let answer = hooks.call(&target, question).await.map_err(|error| failed(&error))?;
            read(&answer)
        }))
    }
}

fn failed(error: &dyn std::fmt::Display) -> PollError {
    PollError { reason: error.to_string() }
}

fn read(answer: &[u8]) -> Result<Polled, PollError> {
    let reply: Reply<'_> = super::parse(answer).map_err(|error| failed(&error))?;
    if let Some(ReplyError { code, message }) = reply.error {
        return Err(PollError { reason: format!("error {code}: {message}") });
    }
    let Some(result) = reply.result else { return Ok(Polled::default()) };
    let items = result.items.unwrap_or_default().into_iter().map(|item| PolledItem {
        key: item.key.into(),
        data: item.data.map_or_else(Payload::default, |data| Payload::json(data.get().as_bytes().to_vec())),
        version: item.version,
        removed: item.removed,
    });
    Ok(Polled { items: items.collect(), epoch: Epoch::new(&result.epoch) })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What backends answer, and what they may leave out, read from text; errors and other shapes are failures.
    #[test]
    fn answers_are_read() {
        let answer = br#"{"result":{"items":[{"key":"a","data":{"n": 1},"version":2},{"key":"b","removed":true}],"epoch":"e"}}"#;
        let a = PolledItem { key: "a".into(), data: Payload::json("{\"n\": 1}"), version: 2, removed: false };
        let b = PolledItem { key: "b".into(), removed: true, ..PolledItem::default() };
        assert_eq!(read(answer), Ok(Polled { items: vec![a, b], epoch: Epoch::new("e") }));
        for nothing in [&b"{}"[..], br#"{"result":{}}"#, br#"{"result":{"items":null}}"#] {
            assert_eq!(read(nothing), Ok(Polled::default()));
        }
        for broken in
            [&b""[..], b"[]", br#"{"error":{"code":100,"message":"no"}}"#, br#"{"result":{"items":[{}]}}"#]
        {
            assert!(read(broken).is_err());
        }
    }
}
