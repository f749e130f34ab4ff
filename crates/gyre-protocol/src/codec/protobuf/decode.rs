//! Protobuf commands.

use std::borrow::Cow;

use super::wire::{Read, Value, each_field, entry, message};
use crate::{
    client::*,
    codec::{DEPTH_MAX, DecodeError, last_wins},
};

/// Decodes one command from a message without its length. Unknown fields are skipped; the last of equal fields wins.
///
/// # Errors
/// [`DecodeError::Protobuf`] with the place.
pub fn decode_command(bytes: &[u8]) -> Read<Command<'_>> {
    let mut id = 0;
    let mut first: Option<(u8, Request<'_>)> = None;
    each_field(bytes, |number, value| {
        if number == 1 {
            id = value.varint()? as u32;
            return Ok(());
        }
        if let Some((rank, request)) = read_request(number, value)?
            && first.as_ref().is_none_or(|(known, _)| rank <= *known)
        {
            first = Some((rank, request));
        }
        Ok(())
    })?;
    Ok(Command { id, request: first.map(|(_, request)| request) })
}

/// Decodes what a client of a unidirectional transport sends: a connect request by itself, without its length.
///
/// # Errors
/// [`DecodeError::Protobuf`] with the place.
pub fn decode_connect_request(bytes: &[u8]) -> Read<ConnectRequest<'_>> {
    connect(Value::message(bytes))
}

/// Decodes the body of an emulation request: a message without its length.
///
/// # Errors
/// [`DecodeError::Protobuf`] with the place.
pub fn decode_emulation_request(bytes: &[u8]) -> Read<EmulationRequest<'_>> {
    let mut request = EmulationRequest { data: Some(Cow::Borrowed(&[])), ..EmulationRequest::default() };
    each_field(bytes, |number, value| {
        match number {
            1 => request.node = value.string()?,
            2 => request.session = value.string()?,
            3 => request.data = Some(value.data()?),
            _ => {}
        }
        Ok(())
    })?;
    Ok(request)
}

/// Reads the request of that field, with its rank in the protocol's dispatch order.
fn read_request<'a>(number: u64, value: Value<'a>) -> Read<Option<(u8, Request<'a>)>> {
    Ok(Some(match number {
        4 => (0, Request::Connect(Box::new(connect(value)?))),
        5 => (1, Request::Subscribe(Box::new(subscribe(value)?))),
        6 => (2, Request::Unsubscribe(channel(value)?)),
        7 => (3, Request::Publish(publish(value)?)),
        8 => (4, Request::Presence(channel(value)?)),
        9 => (5, Request::PresenceStats(channel(value)?)),
        10 => (6, Request::History(history(value)?)),
        11 => {
            value.bytes()?;
            (11, Request::Ping)
        }
        12 => (8, Request::Send(send(value)?)),
        13 => (7, Request::Rpc(rpc(value)?)),
        14 => (9, Request::Refresh(refresh(value)?)),
        15 => (10, Request::SubRefresh(Box::new(sub_refresh(value)?))),
        _ => return Ok(None),
    }))
}

fn connect(value: Value<'_>) -> Read<ConnectRequest<'_>> {
    let mut request = connect_fields(value)?;
    last_wins(&mut request.subs);
    last_wins(&mut request.headers);
    Ok(request)
}

fn connect_fields(value: Value<'_>) -> Read<ConnectRequest<'_>> {
    message! { value, ConnectRequest<'_>; m, v;
        1 => m.token = v.string()?;
        2 => m.data = v.data()?;
        3 => {
            let (channel, request) = entry(v, subscribe)?;
            m.subs.push((channel, request.unwrap_or_default()));
        };
        4 => m.name = v.string()?;
        5 => m.version = v.string()?;
        6 => {
            let (key, value) = entry(v, |v| v.string())?;
            m.headers.push((key, value.unwrap_or_default()));
        };
        7 => m.flag = v.varint()? as i64;
    }
}

fn subscribe(value: Value<'_>) -> Read<SubscribeRequest<'_>> {
    message! { value, SubscribeRequest<'_>; m, v;
        1 => m.channel = v.string()?;
        2 => m.token = v.string()?;
        3 => m.recover = v.bool()?;
        6 => m.epoch = v.string()?;
        7 => m.offset = v.varint()?;
        8 => m.data = v.data()?;
        9 => m.positioned = v.bool()?;
        10 => m.recoverable = v.bool()?;
        11 => m.join_leave = v.bool()?;
        12 => m.delta = v.string()?;
        13 => m.tf = Some(filter(v, 0)?);
        14 => m.flag = v.varint()? as i64;
        15 => m.kind = v.varint()? as i32;
        16 => m.phase = v.varint()? as i32;
        17 => m.cursor = v.string()?;
        18 => m.limit = v.varint()? as i32;
        19 => m.asc = v.bool()?;
    }
}

fn filter(value: Value<'_>, depth: usize) -> Read<FilterNode<'_>> {
    if depth == DEPTH_MAX {
        return Err(DecodeError::Protobuf { at: value.at(), expected: "less depth" });
    }
    message! { value, FilterNode<'_>; m, v;
        1 => m.op = v.string()?;
        2 => m.key = v.string()?;
        3 => m.cmp = v.string()?;
        4 => m.val = v.string()?;
        5 => m.vals.push(v.string()?);
        6 => m.nodes.push(filter(v, depth + 1)?);
    }
}

fn channel(value: Value<'_>) -> Read<ChannelRequest<'_>> {
    message! { value, ChannelRequest<'_>; m, v; 1 => m.channel = v.string()?; }
}

fn publish(value: Value<'_>) -> Read<PublishRequest<'_>> {
    message! { value, PublishRequest<'_>; m, v;
        1 => m.channel = v.string()?;
        2 => m.data = v.data()?;
        3 => m.kind = v.varint()? as i32;
        4 => m.key = v.string()?;
        5 => m.removed = v.bool()?;
    }
}

fn history(value: Value<'_>) -> Read<HistoryRequest<'_>> {
    message! { value, HistoryRequest<'_>; m, v;
        1 => m.channel = v.string()?;
        7 => m.limit = v.varint()? as i32;
        8 => m.since = Some(position(v)?);
        9 => m.reverse = v.bool()?;
    }
}

pub(crate) fn position(value: Value<'_>) -> Read<(u64, Cow<'_, str>)> {
    message! { value, (u64, Cow<'_, str>); m, v;
        1 => m.0 = v.varint()?;
        2 => m.1 = v.string()?;
    }
}

fn rpc(value: Value<'_>) -> Read<RpcRequest<'_>> {
    message! { value, RpcRequest<'_>; m, v; 1 => m.data = v.data()?; 2 => m.method = v.string()?; }
}

fn send(value: Value<'_>) -> Read<SendRequest<'_>> {
    message! { value, SendRequest<'_>; m, v; 1 => m.data = v.data()?; }
}

fn refresh(value: Value<'_>) -> Read<RefreshRequest<'_>> {
    message! { value, RefreshRequest<'_>; m, v; 1 => m.token = v.string()?; }
}

fn sub_refresh(value: Value<'_>) -> Read<SubRefreshRequest<'_>> {
    message! { value, SubRefreshRequest<'_>; m, v;
        1 => m.channel = v.string()?;
        2 => m.token = v.string()?;
        3 => m.kind = v.varint()? as i32;
        4 => m.track.push(track_batch(v)?);
        5 => m.untrack.push(v.string()?);
    }
}

fn track_batch(value: Value<'_>) -> Read<TrackBatch<'_>> {
    message! { value, TrackBatch<'_>; m, v;
        1 => m.signature = v.string()?;
        2 => m.items.push(keyed_item(v)?);
    }
}

fn keyed_item(value: Value<'_>) -> Read<(Cow<'_, str>, u64)> {
    message! { value, (Cow<'_, str>, u64); m, v; 1 => m.0 = v.string()?; 2 => m.1 = v.varint()?; }
}
