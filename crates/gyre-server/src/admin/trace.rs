//! What happens in a channel or to a user, live: a stream of server-sent events for one who has logged in.
//!
//! Spec: HTML, "Server-sent events"

use std::{sync::Arc, time::Duration};

use ::http::{HeaderValue, StatusCode, header};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use gyre_core::{channel::ChannelName, ports::ChannelEvent};
use gyre_node::{Activity, Node, Trace, TraceError, TraceEvent, TraceSubject};
use gyre_protocol::{
    Payload, PayloadForm, Publication, Push, PushBody,
    codec::{EncodeOptions, json::encode_push},
};
use gyre_transport::http::{Response, status};
use http_body::Frame;
use http_body_util::StreamBody;
use serde_json::{Map, Value, json};
use tokio::time::timeout;

use super::{now, parameter};

/// A sign of life this often, so that proxies and the reader know that nothing has happened.
const QUIET_INTERVAL: Duration = Duration::from_secs(15);
/// Events written in one piece at most.
const EVENTS_PER_PIECE: usize = 64;

/// Answers with the stream of `channel` or `user`.
pub(super) async fn answer(node: &Arc<Node>, query: &str) -> Response {
    let subject = match (parameter(query, "channel"), parameter(query, "user")) {
        (Some(channel), None) => TraceSubject::Channel(ChannelName::new(&channel)),
        (None, Some(user)) => TraceSubject::User(user.into()),
        _ => return status(StatusCode::BAD_REQUEST, "name a channel or a user\n"),
    };
    match node.trace(subject.clone()).await {
        Ok(trace) => stream(trace, subject),
        Err(TraceError::TooMany) => status(StatusCode::TOO_MANY_REQUESTS, "too many live views\n"),
        Err(TraceError::Channel(error)) => {
            tracing::debug!(code = error.code, "a channel cannot be looked at");
            status(StatusCode::NOT_FOUND, "no such channel\n")
        }
    }
}

fn stream(trace: Trace, subject: TraceSubject) -> Response {
    let first = Some(Bytes::from_static(b": live\n\n"));
    let pieces = futures_util::stream::unfold((trace, subject, first), |(mut trace, subject, first)| async {
        let piece = match first {
            Some(first) => first,
            None => piece(&mut trace, &subject).await?,
        };
        Some((Ok(Frame::data(piece)), (trace, subject, None)))
    });
    let mut response = Response::new(Box::pin(StreamBody::new(pieces)));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // Proxies that collect answers would hold it back.
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}

/// What has happened since the last piece, or that nothing has.
async fn piece(trace: &mut Trace, subject: &TraceSubject) -> Option<Bytes> {
    let Ok(event) = timeout(QUIET_INTERVAL, trace.next()).await else {
        return Some(Bytes::from_static(b": quiet\n\n"));
    };
    let mut text = String::new();
    let mut next = event;
    let mut is_over = true;
    for _ in 0..EVENTS_PER_PIECE {
        let Some(event) = next else { break };
        is_over = false;
        let missed = trace.take_missed();
        if missed > 0 {
            text += &format!("data: {{\"time\":{},\"type\":\"missed\",\"count\":{missed}}}\n\n", time());
        }
        text += &format!("data: {}\n\n", document(subject, &event));
        match futures_util::FutureExt::now_or_never(trace.next()) {
            Some(following) => next = following,
            None => break,
        }
    }
    (!is_over).then(|| text.into())
}

fn time() -> u64 {
    now().as_millis() as u64
}

/// One event as JSON on a line.
fn document(subject: &TraceSubject, event: &TraceEvent) -> String {
    match (event, subject) {
        (TraceEvent::Channel(event), TraceSubject::Channel(channel)) => {
            let channel = Arc::<str>::from(&**channel);
            let body = match event {
                ChannelEvent::Publication(publication)
                | ChannelEvent::DeltaPublication(publication)
                | ChannelEvent::DeltaChange { publication, .. } => PushBody::Publication(publication.clone()),
                ChannelEvent::Join(info) => PushBody::Join(info.clone()),
                ChannelEvent::Leave(info) => PushBody::Leave(info.clone()),
                ChannelEvent::Lost => return json!({"time": time(), "type": "lost"}).to_string(),
            };
            let push = push_text(&Push { channel, id: 0, body });
            format!("{{\"time\":{},\"type\":\"push\",\"push\":{push}}}", time())
        }
        (TraceEvent::Connection { client, transport, activity }, _) => {
            let mut fields = Map::new();
            fields.insert("time".into(), time().into());
            fields.insert("client".into(), client.to_string().into());
            fields.insert("transport".into(), transport.name().into());
            let (name, push) = describe(activity, &mut fields);
            fields.insert("type".into(), name.into());
            let text = Value::from(fields).to_string();
            match push {
                Some((name, value)) => {
                    format!("{},\"{name}\":{value}}}", text.strip_suffix('}').unwrap_or_default())
                }
                None => text,
            }
        }
        (TraceEvent::Channel(_), TraceSubject::User(_)) => json!({"type": "lost"}).to_string(),
    }
}

/// The name of an activity, and a member with JSON that is written as it is; other members go into `fields`.
fn describe(
    activity: &Activity,
    fields: &mut Map<String, Value>,
) -> (&'static str, Option<(&'static str, String)>) {
    let mut put = |name: &str, value: Value| fields.insert(name.into(), value);
    match activity {
        Activity::Connected => ("connected", None),
        Activity::Command { command, subject, data } => {
            put("command", command.name().into());
            put("subject", (**subject).into());
            ("command", (!data.is_empty()).then(|| ("data", payload_text(data))))
        }
        Activity::Refused { command, code } => {
            put("command", command.name().into());
            put("code", (*code).into());
            ("refused", None)
        }
        Activity::Subscribed { channel } => {
            put("subject", (**channel).into());
            ("subscribed", None)
        }
        Activity::Unsubscribed { channel } => {
            put("subject", (**channel).into());
            ("unsubscribed", None)
        }
        Activity::Push(push) => ("push", Some(("push", push_text(push)))),
        Activity::Disconnected(disconnect) => {
            put("code", disconnect.code.into());
            put("reason", (*disconnect.reason).into());
            ("disconnected", None)
        }
    }
}

fn push_text(push: &Push) -> String {
    let options = EncodeOptions { unidirectional: true, ..EncodeOptions::default() };
    let encode = |push: &Push| {
        let mut text = Vec::new();
        encode_push(push, &options, &mut text).ok()?;
        String::from_utf8(text).ok()
    };
    encode(push)
        .or_else(|| match &push.body {
            // Data that is no JSON is shown in base64.
            PushBody::Publication(publication) => {
                let data = Payload::json(payload_text(&publication.data));
                let publication = Publication { data, info: None, ..(**publication).clone() };
                encode(&Push { body: PushBody::Publication(publication.into()), ..push.clone() })
            }
            _ => None,
        })
        .unwrap_or_else(|| "null".into())
}

fn payload_text(payload: &Payload) -> String {
    let text = std::str::from_utf8(payload.bytes()).ok();
    match (payload.form(), text) {
        (PayloadForm::JsonLine | PayloadForm::JsonWithLineFeeds, Some(text)) => {
            text.replace(['\n', '\r'], " ")
        }
        _ => json!({"base64": STANDARD.encode(payload.bytes())}).to_string(),
    }
}
