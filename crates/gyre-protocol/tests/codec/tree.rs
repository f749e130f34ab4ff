//! A second, independent description of messages: a tree of numbered and named fields, written in both encodings by
//! code that shares nothing with the codecs. Requests are turned into trees here; expected responses are trees in the
//! tests.

use std::borrow::Cow;

use gyre_protocol::client::*;

pub(crate) type Fields = Vec<(u32, &'static str, Node)>;

#[derive(Clone, Debug)]
pub(crate) enum Node {
    Text(String),
    /// Raw JSON on JSON, bytes on Protobuf; left out if empty.
    Raw(Vec<u8>),
    Bool(bool),
    Uint(u64),
    Int(i64),
    /// `sint64`.
    Score(i64),
    Message(Fields),
    Texts(Vec<String>),
    Messages(Vec<Fields>),
    TextMap(Vec<(String, String)>),
    MessageMap(Vec<(String, Fields)>),
}

pub(crate) fn text(text: &str) -> Node {
    Node::Text(text.to_owned())
}

/// How JSON may be written without a change of meaning.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Style {
    /// Every character of every string as a `\u` escape.
    pub(crate) escape_all: bool,
    /// Whitespace between all tokens.
    pub(crate) spaced: bool,
    /// Keys in capitals.
    pub(crate) capitals: bool,
}

pub(crate) fn json(fields: &Fields, style: Style) -> String {
    let mut members = Vec::new();
    for (_, name, node) in fields {
        if let Some(value) = json_value(node, style) {
            let name = if style.capitals { name.to_ascii_uppercase() } else { (*name).to_owned() };
            members.push((name, value));
        }
    }
    object(members, style)
}

fn json_value(node: &Node, style: Style) -> Option<String> {
    Some(match node {
        Node::Text(text) => string(text, style),
        Node::Raw(bytes) if bytes.is_empty() => return None,
        Node::Raw(bytes) => String::from_utf8(bytes.clone()).unwrap(),
        Node::Bool(value) => value.to_string(),
        Node::Uint(value) => value.to_string(),
        Node::Int(value) | Node::Score(value) => value.to_string(),
        Node::Message(fields) => json(fields, style),
        Node::Texts(texts) => list(texts.iter().map(|text| string(text, style)), style),
        Node::Messages(messages) => list(messages.iter().map(|fields| json(fields, style)), style),
        Node::TextMap(entries) => {
            object(entries.iter().map(|(k, v)| (k.clone(), string(v, style))).collect(), style)
        }
        Node::MessageMap(entries) => {
            object(entries.iter().map(|(k, v)| (k.clone(), json(v, style))).collect(), style)
        }
    })
}

fn object(members: Vec<(String, String)>, style: Style) -> String {
    let space = if style.spaced { " \t\r " } else { "" };
    let member = |(key, value)| format!("{space}{}{space}:{space}{value}{space}", string(key, style));
    let members: Vec<_> = members.iter().map(|(k, v)| member((k.as_str(), v.as_str()))).collect();
    format!("{space}{{{}{space}}}{space}", members.join(","))
}

fn list(items: impl Iterator<Item = String>, style: Style) -> String {
    let space = if style.spaced { " \t\r " } else { "" };
    format!("[{space}{}{space}]", items.collect::<Vec<_>>().join(","))
}

fn string(text: &str, style: Style) -> String {
    if !style.escape_all {
        return serde_json::to_string(text).unwrap();
    }
    let units: String = text.encode_utf16().map(|unit| format!("\\u{unit:04X}")).collect();
    format!("\"{units}\"")
}

pub(crate) fn protobuf(fields: &Fields) -> Vec<u8> {
    let mut out = Vec::new();
    for (number, _, node) in fields {
        let number = *number;
        match node {
            Node::Text(text) => delimited(&mut out, number, text.as_bytes()),
            Node::Raw(bytes) if bytes.is_empty() => {}
            Node::Raw(bytes) => delimited(&mut out, number, bytes),
            Node::Bool(value) => scalar(&mut out, number, u64::from(*value)),
            Node::Uint(value) => scalar(&mut out, number, *value),
            Node::Int(value) => scalar(&mut out, number, *value as u64),
            Node::Score(value) if *value >= 0 => scalar(&mut out, number, 2 * *value as u64),
            Node::Score(value) => scalar(&mut out, number, 2 * value.unsigned_abs() - 1),
            Node::Message(fields) => delimited(&mut out, number, &protobuf(fields)),
            Node::Texts(texts) => texts.iter().for_each(|text| delimited(&mut out, number, text.as_bytes())),
            Node::Messages(messages) => {
                messages.iter().for_each(|fields| delimited(&mut out, number, &protobuf(fields)));
            }
            Node::TextMap(entries) => {
                for (key, value) in entries {
                    delimited(&mut out, number, &entry(key, value.as_bytes()));
                }
            }
            Node::MessageMap(entries) => {
                for (key, value) in entries {
                    delimited(&mut out, number, &entry(key, &protobuf(value)));
                }
            }
        }
    }
    out
}

fn entry(key: &str, value: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    delimited(&mut out, 1, key.as_bytes());
    delimited(&mut out, 2, value);
    out
}

fn scalar(out: &mut Vec<u8>, number: u32, value: u64) {
    varint(out, u64::from(number) * 8);
    varint(out, value);
}

fn delimited(out: &mut Vec<u8>, number: u32, bytes: &[u8]) {
    varint(out, u64::from(number) * 8 + 2);
    varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

pub(crate) fn varint(out: &mut Vec<u8>, value: u64) {
    if value >= 128 {
        out.push((value % 128) as u8 + 128);
        varint(out, value / 128);
    } else {
        out.push(value as u8);
    }
}

pub(crate) fn with_length(message: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    varint(&mut out, message.len() as u64);
    out.extend_from_slice(message);
    out
}

/// Spec: centrifugal/protocol client.proto, Command and the requests.
pub(crate) fn command(command: &Command<'_>) -> Fields {
    let mut fields = vec![(1, "id", Node::Uint(command.id.into()))];
    fields.extend(command.request.as_ref().map(|request| match request {
        Request::Connect(it) => (4, "connect", Node::Message(connect(it))),
        Request::Subscribe(it) => (5, "subscribe", Node::Message(subscribe(it))),
        Request::Unsubscribe(it) => (6, "unsubscribe", Node::Message(channel(it))),
        Request::Publish(it) => (7, "publish", Node::Message(publish(it))),
        Request::Presence(it) => (8, "presence", Node::Message(channel(it))),
        Request::PresenceStats(it) => (9, "presence_stats", Node::Message(channel(it))),
        Request::History(it) => (10, "history", Node::Message(history(it))),
        Request::Ping => (11, "ping", Node::Message(vec![])),
        Request::Send(it) => (12, "send", Node::Message(vec![(1, "data", raw(&it.data))])),
        Request::Rpc(it) => {
            (13, "rpc", Node::Message(vec![(1, "data", raw(&it.data)), (2, "method", text(&it.method))]))
        }
        Request::Refresh(it) => (14, "refresh", Node::Message(vec![(1, "token", text(&it.token))])),
        Request::SubRefresh(it) => (15, "sub_refresh", Node::Message(sub_refresh(it))),
    }));
    fields
}

fn connect(it: &ConnectRequest<'_>) -> Fields {
    let subs = it.subs.iter().map(|(key, value)| (key.to_string(), subscribe(value))).collect();
    let headers = it.headers.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect();
    vec![
        (1, "token", text(&it.token)),
        (2, "data", raw(&it.data)),
        (3, "subs", Node::MessageMap(subs)),
        (4, "name", text(&it.name)),
        (5, "version", text(&it.version)),
        (6, "headers", Node::TextMap(headers)),
        (7, "flag", Node::Int(it.flag)),
    ]
}

fn subscribe(it: &SubscribeRequest<'_>) -> Fields {
    let mut fields = vec![
        (1, "channel", text(&it.channel)),
        (2, "token", text(&it.token)),
        (3, "recover", Node::Bool(it.recover)),
        (6, "epoch", text(&it.epoch)),
        (7, "offset", Node::Uint(it.offset)),
        (8, "data", raw(&it.data)),
        (9, "positioned", Node::Bool(it.positioned)),
        (10, "recoverable", Node::Bool(it.recoverable)),
        (11, "join_leave", Node::Bool(it.join_leave)),
        (12, "delta", text(&it.delta)),
        (14, "flag", Node::Int(it.flag)),
        (15, "type", Node::Int(it.kind.into())),
        (16, "phase", Node::Int(it.phase.into())),
        (17, "cursor", text(&it.cursor)),
        (18, "limit", Node::Int(it.limit.into())),
        (19, "asc", Node::Bool(it.asc)),
    ];
    fields.extend(it.tf.as_ref().map(|node| (13, "tf", Node::Message(filter(node)))));
    fields
}

fn filter(it: &FilterNode<'_>) -> Fields {
    vec![
        (1, "op", text(&it.op)),
        (2, "key", text(&it.key)),
        (3, "cmp", text(&it.cmp)),
        (4, "val", text(&it.val)),
        (5, "vals", texts(&it.vals)),
        (6, "nodes", Node::Messages(it.nodes.iter().map(filter).collect())),
    ]
}

fn channel(it: &ChannelRequest<'_>) -> Fields {
    vec![(1, "channel", text(&it.channel))]
}

fn publish(it: &PublishRequest<'_>) -> Fields {
    vec![
        (1, "channel", text(&it.channel)),
        (2, "data", raw(&it.data)),
        (3, "type", Node::Int(it.kind.into())),
        (4, "key", text(&it.key)),
        (5, "removed", Node::Bool(it.removed)),
    ]
}

fn history(it: &HistoryRequest<'_>) -> Fields {
    let mut fields = vec![
        (1, "channel", text(&it.channel)),
        (7, "limit", Node::Int(it.limit.into())),
        (9, "reverse", Node::Bool(it.reverse)),
    ];
    fields.extend(it.since.as_ref().map(|(offset, epoch)| {
        let position = vec![(1, "offset", Node::Uint(*offset)), (2, "epoch", text(epoch))];
        (8, "since", Node::Message(position))
    }));
    fields
}

fn sub_refresh(it: &SubRefreshRequest<'_>) -> Fields {
    let track = it.track.iter().map(|batch| {
        let items = batch.items.iter();
        let items =
            items.map(|(key, version)| vec![(1, "key", text(key)), (2, "version", Node::Uint(*version))]);
        vec![(1, "signature", text(&batch.signature)), (2, "items", Node::Messages(items.collect()))]
    });
    vec![
        (1, "channel", text(&it.channel)),
        (2, "token", text(&it.token)),
        (3, "type", Node::Int(it.kind.into())),
        (4, "track", Node::Messages(track.collect())),
        (5, "untrack", texts(&it.untrack)),
    ]
}

fn raw(bytes: &[u8]) -> Node {
    Node::Raw(bytes.to_vec())
}

fn texts(texts: &[Cow<'_, str>]) -> Node {
    Node::Texts(texts.iter().map(ToString::to_string).collect())
}
