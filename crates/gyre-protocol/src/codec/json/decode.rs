//! JSON commands.

use std::borrow::Cow;

use super::parser::Parser;
use crate::{
    client::*,
    codec::{DEPTH_MAX, DecodeError, last_wins},
};

type Read<T> = Result<T, DecodeError>;

/// Decodes one command from a line.
///
/// Unknown keys are ignored, `null` is an absent field, keys match in any case, the last of equal keys wins.
///
/// # Errors
/// [`DecodeError::Json`] with the place.
pub fn decode_command(line: &[u8]) -> Read<Command<'_>> {
    let mut parser = Parser::new(line)?;
    let mut id = 0;
    // Rank of the request in the protocol's dispatch order, and the request.
    let mut first: Option<(u8, Request<'_>)> = None;
    let is_object = parser.object(|p, key| {
        if key == "id" {
            id = p.integer()?;
            return Ok(true);
        }
        let Some((rank, request)) = read_request(p, key)? else { return Ok(false) };
        if let Some(request) = request
            && first.as_ref().is_none_or(|(known, _)| rank <= *known)
        {
            first = Some((rank, request));
        }
        Ok(true)
    })?;
    if !is_object {
        return Err(DecodeError::Json { at: 0, expected: "an object" });
    }
    parser.end()?;
    Ok(Command { id, request: first.map(|(_, request)| request) })
}

/// Decodes a connect request that comes without a command around it; `null` is an empty one.
///
/// # Errors
/// [`DecodeError::Json`] with the place.
pub fn decode_connect_request(text: &[u8]) -> Read<ConnectRequest<'_>> {
    let mut parser = Parser::new(text)?;
    let request = connect(&mut parser)?.unwrap_or_default();
    parser.end()?;
    Ok(request)
}

/// Reads the request of that key: its rank, and the request unless it is `null`. `None` for an unknown key.
fn read_request<'a>(p: &mut Parser<'a>, key: &str) -> Read<Option<(u8, Option<Request<'a>>)>> {
    let read = match key {
        "connect" => (0, connect(p)?.map(|request| Request::Connect(Box::new(request)))),
        "subscribe" => (1, subscribe(p)?.map(|request| Request::Subscribe(Box::new(request)))),
        "unsubscribe" => (2, channel(p)?.map(Request::Unsubscribe)),
        "publish" => (3, publish(p)?.map(Request::Publish)),
        "presence" => (4, channel(p)?.map(Request::Presence)),
        "presence_stats" => (5, channel(p)?.map(Request::PresenceStats)),
        "history" => (6, history(p)?.map(Request::History)),
        "rpc" => (7, rpc(p)?.map(Request::Rpc)),
        "send" => (8, send(p)?.map(Request::Send)),
        "refresh" => (9, refresh(p)?.map(Request::Refresh)),
        "sub_refresh" => (10, sub_refresh(p)?.map(|request| Request::SubRefresh(Box::new(request)))),
        "ping" => (11, p.object(|_, _| Ok(false))?.then_some(Request::Ping)),
        _ => return Ok(None),
    };
    Ok(Some(read))
}

/// Reads an object into a value of fields with defaults; `None` for `null`.
fn message<'a, T: Default>(
    p: &mut Parser<'a>,
    mut field: impl FnMut(&mut T, &mut Parser<'a>, &str) -> Read<bool>,
) -> Read<Option<T>> {
    let mut value = T::default();
    let is_present = p.object(|p, key| field(&mut value, p, key))?;
    Ok(is_present.then_some(value))
}

/// Assigns the value of a known key; false for an unknown one.
macro_rules! fields {
    ($key:expr; $($name:literal => $place:expr, $read:expr;)*) => {
        match $key {
            $($name => $place = $read,)*
            _ => return Ok(false),
        }
    };
}

fn raw<'a>(p: &mut Parser<'a>) -> Read<Cow<'a, [u8]>> {
    p.raw().map(Cow::Borrowed)
}

fn connect<'a>(p: &mut Parser<'a>) -> Read<Option<ConnectRequest<'a>>> {
    message(p, |m: &mut ConnectRequest<'a>, p, key| {
        fields! { key;
            "token" => m.token, p.string()?;
            "data" => m.data, raw(p)?;
            "subs" => m.subs, map(p, |p| Ok(subscribe(p)?.unwrap_or_default()))?;
            "name" => m.name, p.string()?;
            "version" => m.version, p.string()?;
            "headers" => m.headers, map(p, Parser::string)?;
            "flag" => m.flag, p.integer()?;
        }
        Ok(true)
    })
}

/// Reads a map; the last of equal keys wins.
fn map<'a, T>(
    p: &mut Parser<'a>,
    mut value: impl FnMut(&mut Parser<'a>) -> Read<T>,
) -> Read<Vec<(Cow<'a, str>, T)>> {
    let mut entries = Vec::new();
    p.entries(|p, key| {
        entries.push((key, value(p)?));
        Ok(())
    })?;
    last_wins(&mut entries);
    Ok(entries)
}

fn subscribe<'a>(p: &mut Parser<'a>) -> Read<Option<SubscribeRequest<'a>>> {
    message(p, |m: &mut SubscribeRequest<'a>, p, key| {
        fields! { key;
            "channel" => m.channel, p.string()?;
            "token" => m.token, p.string()?;
            "recover" => m.recover, p.bool()?;
            "epoch" => m.epoch, p.string()?;
            "offset" => m.offset, p.integer()?;
            "data" => m.data, raw(p)?;
            "positioned" => m.positioned, p.bool()?;
            "recoverable" => m.recoverable, p.bool()?;
            "join_leave" => m.join_leave, p.bool()?;
            "delta" => m.delta, p.string()?;
            "tf" => m.tf, filter(p, 0)?;
            "flag" => m.flag, p.integer()?;
            "type" => m.kind, p.integer()?;
            "phase" => m.phase, p.integer()?;
            "cursor" => m.cursor, p.string()?;
            "limit" => m.limit, p.integer()?;
            "asc" => m.asc, p.bool()?;
        }
        Ok(true)
    })
}

fn filter<'a>(p: &mut Parser<'a>, depth: usize) -> Read<Option<FilterNode<'a>>> {
    if depth == DEPTH_MAX {
        return Err(DecodeError::Json { at: 0, expected: "less depth" });
    }
    message(p, |m: &mut FilterNode<'a>, p, key| {
        fields! { key;
            "op" => m.op, p.string()?;
            "key" => m.key, p.string()?;
            "cmp" => m.cmp, p.string()?;
            "val" => m.val, p.string()?;
            "vals" => m.vals, list(p, Parser::string)?;
            "nodes" => m.nodes, list(p, |p| Ok(filter(p, depth + 1)?.unwrap_or_default()))?;
        }
        Ok(true)
    })
}

fn list<'a, T>(p: &mut Parser<'a>, mut item: impl FnMut(&mut Parser<'a>) -> Read<T>) -> Read<Vec<T>> {
    let mut items = Vec::new();
    p.array(|p| {
        items.push(item(p)?);
        Ok(())
    })?;
    Ok(items)
}

fn channel<'a>(p: &mut Parser<'a>) -> Read<Option<ChannelRequest<'a>>> {
    message(p, |m: &mut ChannelRequest<'a>, p, key| {
        fields! { key; "channel" => m.channel, p.string()?; }
        Ok(true)
    })
}

fn publish<'a>(p: &mut Parser<'a>) -> Read<Option<PublishRequest<'a>>> {
    message(p, |m: &mut PublishRequest<'a>, p, key| {
        fields! { key;
            "channel" => m.channel, p.string()?;
            "data" => m.data, raw(p)?;
            "type" => m.kind, p.integer()?;
            "key" => m.key, p.string()?;
            "removed" => m.removed, p.bool()?;
        }
        Ok(true)
    })
}

fn history<'a>(p: &mut Parser<'a>) -> Read<Option<HistoryRequest<'a>>> {
    message(p, |m: &mut HistoryRequest<'a>, p, key| {
        fields! { key;
            "channel" => m.channel, p.string()?;
            "limit" => m.limit, p.integer()?;
            "since" => m.since, position(p)?;
            "reverse" => m.reverse, p.bool()?;
        }
        Ok(true)
    })
}

fn position<'a>(p: &mut Parser<'a>) -> Read<Option<(u64, Cow<'a, str>)>> {
    message(p, |m: &mut (u64, Cow<'a, str>), p, key| {
        fields! { key; "offset" => m.0, p.integer()?; "epoch" => m.1, p.string()?; }
        Ok(true)
    })
}

fn rpc<'a>(p: &mut Parser<'a>) -> Read<Option<RpcRequest<'a>>> {
    message(p, |m: &mut RpcRequest<'a>, p, key| {
        fields! { key; "data" => m.data, raw(p)?; "method" => m.method, p.string()?; }
        Ok(true)
    })
}

fn send<'a>(p: &mut Parser<'a>) -> Read<Option<SendRequest<'a>>> {
    message(p, |m: &mut SendRequest<'a>, p, key| {
        fields! { key; "data" => m.data, raw(p)?; }
        Ok(true)
    })
}

fn refresh<'a>(p: &mut Parser<'a>) -> Read<Option<RefreshRequest<'a>>> {
    message(p, |m: &mut RefreshRequest<'a>, p, key| {
        fields! { key; "token" => m.token, p.string()?; }
        Ok(true)
    })
}

fn sub_refresh<'a>(p: &mut Parser<'a>) -> Read<Option<SubRefreshRequest<'a>>> {
    message(p, |m: &mut SubRefreshRequest<'a>, p, key| {
        fields! { key;
            "channel" => m.channel, p.string()?;
            "token" => m.token, p.string()?;
            "type" => m.kind, p.integer()?;
            "track" => m.track, list(p, |p| Ok(track_batch(p)?.unwrap_or_default()))?;
            "untrack" => m.untrack, list(p, Parser::string)?;
        }
        Ok(true)
    })
}

fn track_batch<'a>(p: &mut Parser<'a>) -> Read<Option<TrackBatch<'a>>> {
    message(p, |m: &mut TrackBatch<'a>, p, key| {
        fields! { key;
            "signature" => m.signature, p.string()?;
            "items" => m.items, list(p, |p| Ok(keyed_item(p)?.unwrap_or_default()))?;
        }
        Ok(true)
    })
}

fn keyed_item<'a>(p: &mut Parser<'a>) -> Read<Option<(Cow<'a, str>, u64)>> {
    message(p, |m: &mut (Cow<'a, str>, u64), p, key| {
        fields! { key; "key" => m.0, p.string()?; "version" => m.1, p.integer()?; }
        Ok(true)
    })
}

/// Decodes the body of an emulation request.
///
/// # Errors
/// [`DecodeError::Json`] with the place.
pub fn decode_emulation_request(text: &[u8]) -> Read<EmulationRequest<'_>> {
    let mut parser = Parser::new(text)?;
    let request = message(&mut parser, |m: &mut EmulationRequest<'_>, p, key| {
        fields! { key;
            "node" => m.node, p.string()?;
            "session" => m.session, p.string()?;
            "data" => m.data, string_or_other(p)?.map(into_bytes);
        }
        Ok(true)
    })?;
    parser.end()?;
    request.ok_or(DecodeError::Json { at: 0, expected: "an object" })
}

/// Reads a string; `None` for any other value.
fn string_or_other<'a>(p: &mut Parser<'a>) -> Read<Option<Cow<'a, str>>> {
    if p.peek() == Some(b'"') {
        return p.string().map(Some);
    }
    p.raw().map(|_| None)
}

fn into_bytes(text: Cow<'_, str>) -> Cow<'_, [u8]> {
    match text {
        Cow::Borrowed(text) => Cow::Borrowed(text.as_bytes()),
        Cow::Owned(text) => Cow::Owned(text.into_bytes()),
    }
}
