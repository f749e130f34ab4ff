//! Requests and answers in Protobuf, as gRPC carries them.
//!
//! Payloads are bytes that need not be JSON. Unknown fields are skipped, the last of equal ones wins.
//!
//! Spec: centrifugo `internal/apiproto/api.proto`

use std::borrow::Cow;

use super::{
    Connection, Connections, Error, History, InvalidateUserTokens, Map, Method, Node, Outcome, Overrides,
    Publish, Request, ResultBody, Subscribe, Target,
};
use crate::{
    client::{Publication, RawPayload},
    codec::protobuf::{
        decode::position,
        encode::write_info,
        wire::{Message, Read, Value, each_field, entry, message, put},
    },
};

/// Decodes one method's request.
///
/// # Errors
/// [`DecodeError::Protobuf`](crate::codec::DecodeError::Protobuf) with the place.
pub fn decode_request(method: Method, bytes: &[u8]) -> Read<Request<'_>> {
    request(method, Value::message(bytes))
}

/// The commands of a batch; `None` stands for one that names no method. That they may run side by side needs no
/// telling: answers come in their order either way.
///
/// # Errors
/// [`DecodeError::Protobuf`](crate::codec::DecodeError::Protobuf) with the place.
pub fn decode_batch(bytes: &[u8]) -> Read<Vec<Option<Request<'_>>>> {
    let mut commands = Vec::new();
    each_field(bytes, |number, value| {
        if number == 1 {
            commands.push(command(value)?);
        }
        Ok(())
    })?;
    Ok(commands)
}

/// The request of a command: the first in the order of methods, if it has several.
fn command(value: Value<'_>) -> Read<Option<Request<'_>>> {
    let mut first: Option<(usize, Request<'_>)> = None;
    each_field(value.bytes()?, |number, value| {
        let Some(rank) = Method::ALL.iter().position(|method| method.field_number() == number) else {
            return Ok(());
        };
        let request = request(Method::ALL[rank], value)?;
        if first.as_ref().is_none_or(|(known, _)| rank <= *known) {
            first = Some((rank, request));
        }
        Ok(())
    })?;
    Ok(first.map(|(_, request)| request))
}

fn request(method: Method, value: Value<'_>) -> Read<Request<'_>> {
    Ok(match method {
        Method::Publish => Request::Publish(publish(value)?),
        Method::Broadcast => Request::Broadcast(broadcast(value)?),
        Method::Subscribe => Request::Subscribe(Box::new(subscribe(value)?)),
        Method::Unsubscribe => Request::Unsubscribe(unsubscribe(value)?),
        Method::Disconnect => Request::Disconnect(disconnect(value)?),
        Method::Refresh => Request::Refresh(refresh(value)?),
        Method::Presence => Request::Presence(text(value)?),
        Method::PresenceStats => Request::PresenceStats(text(value)?),
        Method::HistoryRemove => Request::HistoryRemove(text(value)?),
        Method::History => Request::History(history(value)?),
        Method::MapPublish => Request::MapPublish(Box::new(map_publish(value)?)),
        Method::MapRemove => Request::MapRemove(Box::new(map_remove(value)?)),
        Method::MapReadState => Request::MapReadState(Box::new(map_read_state(value)?)),
        Method::MapReadStream => Request::MapReadStream(Box::new(map_read_stream(value)?)),
        Method::MapStats => Request::MapStats(text(value)?),
        Method::MapClear => Request::MapClear(text(value)?),
        Method::SharedPollPublish => Request::SharedPollPublish(Box::new(shared_poll_publish(value)?)),
        Method::Channels => Request::Channels { pattern: text(value)? },
        Method::RevokeToken => {
            let (expire_at, uid) = revoke_token(value)?;
            Request::RevokeToken { uid, expire_at }
        }
        Method::InvalidateUserTokens => Request::InvalidateUserTokens(invalidate_user_tokens(value)?),
        Method::Connections => Request::Connections(Box::new(connections(value)?)),
        Method::Rpc => Request::Rpc { method: text(value)? },
        Method::Info => {
            each_field(value.bytes()?, |_, _| Ok(()))?;
            Request::Info
        }
    })
}

/// The string that is a request's first field.
fn text(value: Value<'_>) -> Read<Cow<'_, str>> {
    message! { value, Cow<'_, str>; m, v; 1 => m = v.string()?; }
}

fn raw(value: Value<'_>) -> Read<RawPayload<'_>> {
    value.bytes().map(RawPayload::Bytes)
}

type Tags<'a> = Vec<(Cow<'a, str>, Cow<'a, str>)>;

fn tag<'a>(tags: &mut Tags<'a>, value: Value<'a>) -> Read<()> {
    let (key, value) = entry(value, |v| v.string())?;
    put(tags, key, value.unwrap_or_default());
    Ok(())
}

fn publish(value: Value<'_>) -> Read<Publish<'_>> {
    let mut m = Publish::default();
    each_field(value.bytes()?, |number, v| match number {
        1 => {
            m.channel = v.string()?;
            Ok(())
        }
        number => publication(&mut m, number, v),
    })?;
    Ok(m)
}

fn broadcast(value: Value<'_>) -> Read<Publish<'_>> {
    let mut m = Publish::default();
    each_field(value.bytes()?, |number, v| match number {
        1 => {
            m.channels.push(v.string()?);
            Ok(())
        }
        number => publication(&mut m, number, v),
    })?;
    Ok(m)
}

/// Reads a field that publish and broadcast have in common.
fn publication<'a>(m: &mut Publish<'a>, number: u64, v: Value<'a>) -> Read<()> {
    match number {
        2 => m.data = raw(v)?,
        3 => m.b64data = v.string()?,
        4 => m.skip_history = v.bool()?,
        5 => tag(&mut m.tags, v)?,
        6 => m.idempotency_key = v.string()?,
        7 => m.delta = v.bool()?,
        8 => m.version = v.varint()?,
        9 => m.version_epoch = v.string()?,
        _ => {}
    }
    Ok(())
}

fn subscribe(value: Value<'_>) -> Read<Subscribe<'_>> {
    message! { value, Subscribe<'_>; m, v;
        1 => m.channel = v.string()?;
        2 => m.user = v.string()?;
        3 => m.expire_at = v.varint()? as i64;
        4 => m.info = raw(v)?;
        5 => m.b64info = v.string()?;
        6 => m.client = v.string()?;
        7 => m.data = raw(v)?;
        8 => m.b64data = v.string()?;
        9 => m.recover_since = Some(position(v)?);
        10 => m.overrides = overrides(v)?;
        11 => m.session = v.string()?;
    }
}

fn overrides(value: Value<'_>) -> Read<Overrides> {
    message! { value, Overrides; m, v;
        1 => m.presence = Some(bool_value(v)?);
        2 => m.join_leave = Some(bool_value(v)?);
        3 => m.force_recovery = Some(bool_value(v)?);
        4 => m.force_positioning = Some(bool_value(v)?);
        5 => m.force_push_join_leave = Some(bool_value(v)?);
    }
}

fn bool_value(value: Value<'_>) -> Read<bool> {
    message! { value, bool; m, v; 1 => m = v.bool()?; }
}

fn unsubscribe(value: Value<'_>) -> Read<Target<'_>> {
    message! { value, Target<'_>; m, v;
        1 => m.channel = v.string()?;
        2 => m.user = v.string()?;
        3 => m.client = v.string()?;
        4 => m.session = v.string()?;
    }
}

fn disconnect(value: Value<'_>) -> Read<Target<'_>> {
    message! { value, Target<'_>; m, v;
        1 => m.user = v.string()?;
        2 => m.disconnect = Some(code_and_reason(v)?);
        3 => m.client = v.string()?;
        4 => m.whitelist.push(v.string()?);
        5 => m.session = v.string()?;
    }
}

fn code_and_reason(value: Value<'_>) -> Read<(u32, Cow<'_, str>)> {
    message! { value, (u32, Cow<'_, str>); m, v; 1 => m.0 = v.varint()? as u32; 2 => m.1 = v.string()?; }
}

fn refresh(value: Value<'_>) -> Read<Target<'_>> {
    message! { value, Target<'_>; m, v;
        1 => m.user = v.string()?;
        2 => m.client = v.string()?;
        3 => m.expired = v.bool()?;
        4 => m.expire_at = v.varint()? as i64;
        5 => m.info = raw(v)?;
        6 => m.session = v.string()?;
    }
}

fn history(value: Value<'_>) -> Read<History<'_>> {
    message! { value, History<'_>; m, v;
        1 => m.channel = v.string()?;
        2 => m.limit = v.varint()? as i32;
        3 => m.since = Some(position(v)?);
        4 => m.reverse = v.bool()?;
    }
}

fn map_publish(value: Value<'_>) -> Read<Map<'_>> {
    message! { value, Map<'_>; m, v;
        1 => m.channel = v.string()?;
        2 => m.key = v.string()?;
        3 => m.data = raw(v)?;
        4 => m.b64data = v.string()?;
        7 => tag(&mut m.tags, v)?;
        8 => m.idempotency_key = v.string()?;
        9 => m.delta = v.bool()?;
        10 => m.version = v.varint()?;
        11 => m.version_epoch = v.string()?;
        12 => m.score = v.varint()? as i64;
        13 => m.key_mode = v.string()?;
    }
}

fn map_remove(value: Value<'_>) -> Read<Map<'_>> {
    message! { value, Map<'_>; m, v;
        1 => m.channel = v.string()?;
        2 => m.key = v.string()?;
        3 => m.idempotency_key = v.string()?;
    }
}

fn map_read_state(value: Value<'_>) -> Read<Map<'_>> {
    message! { value, Map<'_>; m, v;
        1 => m.channel = v.string()?;
        2 => m.cursor = v.string()?;
        3 => m.limit = v.varint()? as i32;
        4 => m.key = v.string()?;
        5 => m.asc = v.bool()?;
        7 => m.revision_epoch = v.string()?;
    }
}

fn map_read_stream(value: Value<'_>) -> Read<Map<'_>> {
    message! { value, Map<'_>; m, v;
        1 => m.channel = v.string()?;
        2 => m.since_offset = v.varint()?;
        3 => m.since_epoch = v.string()?;
        4 => m.limit = v.varint()? as i32;
        5 => m.reverse = v.bool()?;
    }
}

fn shared_poll_publish(value: Value<'_>) -> Read<Map<'_>> {
    message! { value, Map<'_>; m, v;
        1 => m.channel = v.string()?;
        2 => m.key = v.string()?;
        3 => m.data = raw(v)?;
        4 => m.b64data = v.string()?;
        5 => m.version = v.varint()?;
        6 => m.epoch = v.string()?;
    }
}

fn revoke_token(value: Value<'_>) -> Read<(i64, Cow<'_, str>)> {
    message! { value, (i64, Cow<'_, str>); m, v; 1 => m.0 = v.varint()? as i64; 2 => m.1 = v.string()?; }
}

fn invalidate_user_tokens(value: Value<'_>) -> Read<InvalidateUserTokens<'_>> {
    message! { value, InvalidateUserTokens<'_>; m, v;
        1 => m.expire_at = v.varint()? as i64;
        2 => m.user = v.string()?;
        3 => m.issued_before = v.varint()? as i64;
        4 => m.channel = v.string()?;
    }
}

/// The filter by labels is a message of its own; that there is one is all that matters.
fn connections(value: Value<'_>) -> Read<Connections<'_>> {
    message! { value, Connections<'_>; m, v;
        1 => m.user = v.string()?;
        2 => m.expression = v.string()?;
        3 => m.has_label_filter = true;
        100 => m.client = v.string()?;
        101 => m.channel = v.string()?;
        102 => m.limit = v.varint()? as i32;
        103 => m.cursor = v.string()?;
    }
}

/// Appends the response of any method but batch: an error, or a result.
pub fn encode_response(outcome: &Outcome, out: &mut Vec<u8>) {
    write_response(&mut Message::new(out), outcome);
}

/// Appends one reply of a batch's response. `method` is that of the command, if it named one.
pub fn encode_reply(method: Option<Method>, outcome: &Outcome, out: &mut Vec<u8>) {
    Message::new(out).message(1, |m| match (outcome, method) {
        (Err(error), _) => m.message(2, |m| write_error(m, error)),
        (Ok(result), Some(method)) => m.message(method.field_number(), |m| write_result(m, result)),
        (Ok(_), None) => {}
    });
}

/// Appends an error by itself.
pub fn encode_error(error: &Error, out: &mut Vec<u8>) {
    write_error(&mut Message::new(out), error);
}

fn write_response(m: &mut Message<'_>, outcome: &Outcome) {
    match outcome {
        Err(error) => m.message(1, |m| write_error(m, error)),
        Ok(result) => m.message(2, |m| write_result(m, result)),
    }
}

fn write_error(m: &mut Message<'_>, error: &Error) {
    m.uint(1, error.code.into());
    m.string(2, &error.message);
}

fn write_result(m: &mut Message<'_>, result: &ResultBody) {
    match result {
        ResultBody::Empty => {}
        ResultBody::Publish { offset, epoch } => {
            m.uint(1, *offset);
            m.string(2, epoch);
        }
        ResultBody::Broadcast(responses) => {
            for response in responses {
                m.message(1, |m| write_response(m, response));
            }
        }
        ResultBody::Presence(members) => {
            for info in members {
                m.message(1, |m| {
                    m.string(1, &info.client);
                    m.message(2, |m| write_info(m, info));
                });
            }
        }
        ResultBody::PresenceStats(stats) => {
            m.uint(1, stats.num_clients.into());
            m.uint(2, stats.num_users.into());
        }
        ResultBody::History { publications, epoch, offset } => {
            for publication in publications {
                m.message(1, |m| write_publication(m, publication));
            }
            m.string(2, epoch);
            m.uint(3, *offset);
        }
        ResultBody::Info(nodes) => {
            for node in nodes {
                m.message(1, |m| write_node(m, node));
            }
        }
        ResultBody::Channels(channels) => {
            for (channel, clients) in channels {
                m.message(1, |m| {
                    m.string(1, channel);
                    m.message(2, |m| m.uint(1, (*clients).into()));
                });
            }
        }
        ResultBody::MapPublish { offset, epoch, suppress_reason } => {
            m.uint(1, *offset);
            m.string(2, epoch);
            m.bool(3, suppress_reason.is_some());
            m.string(4, suppress_reason.unwrap_or_default());
        }
        ResultBody::MapEntries { entries, offset, epoch, cursor } => {
            for entry in entries {
                m.message(1, |m| write_map_entry(m, entry));
            }
            m.uint(2, *offset);
            m.string(3, epoch);
            m.string(4, cursor);
        }
        ResultBody::Connections { connections, cursor } => {
            for connection in connections {
                m.message(1, |m| {
                    m.string(1, &connection.client);
                    m.message(2, |m| write_connection(m, connection));
                });
            }
            m.string(100, cursor);
        }
        ResultBody::MapStats { num_keys } => m.uint(1, (*num_keys).into()),
    }
}

fn write_publication(m: &mut Message<'_>, publication: &Publication) {
    m.bytes(2, publication.data.bytes());
    if let Some(info) = &publication.info {
        m.message(3, |m| write_info(m, info));
    }
    m.uint(4, publication.offset);
    m.tags(5, &publication.tags);
}

fn write_map_entry(m: &mut Message<'_>, entry: &Publication) {
    m.string(1, &entry.key);
    m.bytes(2, entry.data.bytes());
    m.tags(3, &entry.tags);
    m.uint(4, entry.offset);
    m.uint(5, entry.score as u64);
    m.bool(6, entry.removed);
}

fn write_connection(m: &mut Message<'_>, connection: &Connection) {
    m.string(1, &connection.app_name);
    m.string(2, &connection.app_version);
    m.string(3, connection.transport);
    m.string(4, connection.protocol);
    m.string(8, &connection.user);
    m.message(9, |m| {
        for channel in &connection.channels {
            m.message(1, |m| {
                m.string(1, &channel.name);
                m.message(2, |m| m.bool(100, channel.is_server_side));
            });
        }
        m.bytes(4, connection.meta.bytes());
    });
    m.uint(10, connection.connected_at_ms);
    m.uint(100, connection.num_channels.into());
    m.string(101, connection.status);
    m.uint(102, connection.queue_bytes);
    m.string(103, &connection.node);
    m.bytes(104, connection.info.bytes());
}

fn write_node(m: &mut Message<'_>, node: &Node) {
    m.string(1, &node.uid);
    m.string(2, &node.name);
    m.string(3, &node.version);
    m.uint(4, node.num_clients.into());
    m.uint(5, node.num_users.into());
    m.uint(6, node.num_channels.into());
    m.uint(7, node.uptime.into());
    m.uint(10, node.num_subs.into());
}
