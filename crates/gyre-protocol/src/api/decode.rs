//! Requests.

use std::borrow::Cow;

use super::{
    Connections, History, InvalidateUserTokens, Map, Method, Overrides, Publish, Request, Subscribe, Target,
};
use crate::{
    client::RawPayload,
    codec::{DecodeError, json::parser::Parser, last_wins},
};

type Read<T> = Result<T, DecodeError>;

/// Decodes the body of one method's request.
///
/// # Errors
/// If it is not one JSON object of the right shape.
pub fn decode_request(method: Method, body: &[u8]) -> Read<Request<'_>> {
    let mut parser = Parser::new(body)?;
    let request = request(&mut parser, method)?;
    parser.end()?;
    Ok(request)
}

/// A batch: its commands, and whether they may run side by side. A command is `Err(true)` if it was `null`,
/// `Err(false)` if it names no method.
///
/// # Errors
/// If it is not one JSON object of the right shape.
pub fn decode_batch(body: &[u8]) -> Read<(Vec<Result<Request<'_>, bool>>, bool)> {
    let mut parser = Parser::new(body)?;
    let (mut commands, mut parallel) = (Vec::new(), false);
    parser.object(|p, key| {
        match key {
            "commands" => {
                commands.clear();
                p.array(|p| {
                    commands.push(batch_command(p)?);
                    Ok(())
                })?;
            }
            "parallel" => parallel = p.bool()?,
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    parser.end()?;
    Ok((commands, parallel))
}

fn batch_command<'a>(p: &mut Parser<'a>) -> Read<Result<Request<'a>, bool>> {
    let mut first: Option<(usize, Request<'a>)> = None;
    let is_object = p.object(|p, key| {
        let Some(rank) = Method::ALL.iter().position(|method| method.name() == key) else { return Ok(false) };
        if p.null()? {
            return Ok(true);
        }
        let request = request(p, Method::ALL[rank])?;
        if first.as_ref().is_none_or(|(known, _)| rank <= *known) {
            first = Some((rank, request));
        }
        Ok(true)
    })?;
    Ok(match first {
        Some((_, request)) => Ok(request),
        None => Err(!is_object),
    })
}

/// A command of the legacy endpoint.
#[derive(Clone, Debug, PartialEq)]
pub struct LegacyCommand<'a> {
    /// Repeated in the answer.
    pub id: u32,
    /// The request: `Err(true)` if its parameters are malformed, `Err(false)` if the method is none of ours.
    pub request: Result<Request<'a>, bool>,
}

/// Numbers the legacy format knows, methods of other editions included.
const LEGACY_NUMBER_MAX: u32 = 39;
/// Names the legacy format knows and this server has no method for.
const LEGACY_FOREIGN: [&str; 19] = [
    "update_user_status",
    "get_user_status",
    "delete_user_status",
    "block_user",
    "unblock_user",
    "device_register",
    "device_update",
    "device_remove",
    "device_list",
    "device_topic_list",
    "device_topic_update",
    "user_topic_list",
    "user_topic_update",
    "send_push_notification",
    "update_push_status",
    "cancel_push",
    "get_user_connections",
    "batch",
    "ping",
];

/// Decodes the commands of the legacy endpoint: objects one after another.
///
/// # Errors
/// If one is malformed, or names a method nobody knows; then none is to be carried out.
pub fn decode_legacy(body: &[u8]) -> Read<Vec<LegacyCommand<'_>>> {
    let mut parser = Parser::new(body)?;
    let mut commands = Vec::new();
    loop {
        commands.push(legacy_command(&mut parser)?);
        if parser.peek().is_none() {
            return Ok(commands);
        }
    }
}

fn legacy_command<'a>(parser: &mut Parser<'a>) -> Read<LegacyCommand<'a>> {
    let (mut id, mut method, mut params) = (0, Some(Method::Publish), &b"{}"[..]);
    parser.object(|p, key| {
        match key {
            "id" => id = p.integer()?,
            "method" => method = legacy_method(p)?,
            "params" => params = p.raw()?,
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    let request = match method {
        None => Err(false),
        Some(method) => decode_request(method, params).map_err(|_| true),
    };
    Ok(LegacyCommand { id, request })
}

fn legacy_method(p: &mut Parser<'_>) -> Read<Option<Method>> {
    let unknown = DecodeError::Json { at: 0, expected: "a known method" };
    if p.peek() == Some(b'"') {
        let name = p.string()?.to_ascii_lowercase();
        return match Method::from_name(&name) {
            None if !LEGACY_FOREIGN.contains(&&*name) => Err(unknown),
            method => Ok(method),
        };
    }
    let number: u32 = p.integer()?;
    match Method::ALL.iter().copied().find(|method| method.legacy_number() == number) {
        None if number > LEGACY_NUMBER_MAX => Err(unknown),
        method => Ok(method),
    }
}

/// Assigns the value of a known key; false for an unknown one.
macro_rules! fields {
    ($p:ident; $($name:literal => $place:expr, $read:expr;)*) => {
        $p.object(|$p, key| {
            match key {
                $($name => $place = $read,)*
                _ => return Ok(false),
            }
            Ok(true)
        })?
    };
}

fn request<'a>(p: &mut Parser<'a>, method: Method) -> Read<Request<'a>> {
    Ok(match method {
        Method::Publish => Request::Publish(publish(p)?),
        Method::Broadcast => Request::Broadcast(publish(p)?),
        Method::Subscribe => Request::Subscribe(Box::new(subscribe(p)?)),
        Method::Unsubscribe => Request::Unsubscribe(target(p)?),
        Method::Disconnect => Request::Disconnect(target(p)?),
        Method::Refresh => Request::Refresh(target(p)?),
        Method::Presence => Request::Presence(text(p, "channel")?),
        Method::PresenceStats => Request::PresenceStats(text(p, "channel")?),
        Method::HistoryRemove => Request::HistoryRemove(text(p, "channel")?),
        Method::History => Request::History(history(p)?),
        Method::MapPublish => Request::MapPublish(Box::new(map(p)?)),
        Method::MapRemove => Request::MapRemove(Box::new(map(p)?)),
        Method::MapReadState => Request::MapReadState(Box::new(map(p)?)),
        Method::MapReadStream => Request::MapReadStream(Box::new(map(p)?)),
        Method::MapStats => Request::MapStats(text(p, "channel")?),
        Method::MapClear => Request::MapClear(text(p, "channel")?),
        Method::SharedPollPublish => Request::SharedPollPublish(Box::new(map(p)?)),
        Method::Channels => Request::Channels { pattern: text(p, "pattern")? },
        Method::RevokeToken => {
            let (mut uid, mut expire_at) = (Cow::Borrowed(""), 0);
            fields! { p; "uid" => uid, p.string()?; "expire_at" => expire_at, p.integer()?; };
            Request::RevokeToken { uid, expire_at }
        }
        Method::InvalidateUserTokens => {
            let mut m = InvalidateUserTokens::default();
            fields! { p;
                "user" => m.user, p.string()?;
                "channel" => m.channel, p.string()?;
                "issued_before" => m.issued_before, p.integer()?;
                "expire_at" => m.expire_at, p.integer()?;
            };
            Request::InvalidateUserTokens(m)
        }
        Method::Connections => Request::Connections(Box::new(connections(p)?)),
        Method::Rpc => Request::Rpc { method: text(p, "method")? },
        Method::Info => {
            p.object(|_, _| Ok(false))?;
            Request::Info
        }
    })
}

/// Reads an object of which one string matters.
fn text<'a>(p: &mut Parser<'a>, name: &str) -> Read<Cow<'a, str>> {
    let mut value = Cow::Borrowed("");
    p.object(|p, key| {
        if key != name {
            return Ok(false);
        }
        value = p.string()?;
        Ok(true)
    })?;
    Ok(value)
}

fn publish<'a>(p: &mut Parser<'a>) -> Read<Publish<'a>> {
    let mut m = Publish::default();
    fields! { p;
        "channel" => m.channel, p.string()?;
        "channels" => m.channels, strings(p)?;
        "data" => m.data, RawPayload::Json(p.raw()?);
        "b64data" => m.b64data, p.string()?;
        "skip_history" => m.skip_history, p.bool()?;
        "tags" => m.tags, tags(p)?;
        "idempotency_key" => m.idempotency_key, p.string()?;
        "delta" => m.delta, p.bool()?;
        "version" => m.version, p.integer()?;
        "version_epoch" => m.version_epoch, p.string()?;
    };
    Ok(m)
}

fn strings<'a>(p: &mut Parser<'a>) -> Read<Vec<Cow<'a, str>>> {
    let mut items = Vec::new();
    p.array(|p| {
        items.push(p.string()?);
        Ok(())
    })?;
    Ok(items)
}

fn tags<'a>(p: &mut Parser<'a>) -> Read<Vec<(Cow<'a, str>, Cow<'a, str>)>> {
    let mut tags = Vec::new();
    p.entries(|p, key| {
        tags.push((key, p.string()?));
        Ok(())
    })?;
    last_wins(&mut tags);
    Ok(tags)
}

fn subscribe<'a>(p: &mut Parser<'a>) -> Read<Subscribe<'a>> {
    let mut m = Subscribe::default();
    fields! { p;
        "channel" => m.channel, p.string()?;
        "user" => m.user, p.string()?;
        "client" => m.client, p.string()?;
        "session" => m.session, p.string()?;
        "expire_at" => m.expire_at, p.integer()?;
        "info" => m.info, RawPayload::Json(p.raw()?);
        "b64info" => m.b64info, p.string()?;
        "data" => m.data, RawPayload::Json(p.raw()?);
        "b64data" => m.b64data, p.string()?;
        "recover_since" => m.recover_since, position(p)?;
        "override" => m.overrides, overrides(p)?;
    };
    Ok(m)
}

fn position<'a>(p: &mut Parser<'a>) -> Read<Option<(u64, Cow<'a, str>)>> {
    let (mut offset, mut epoch) = (0, Cow::Borrowed(""));
    let is_present = fields! { p; "offset" => offset, p.integer()?; "epoch" => epoch, p.string()?; };
    Ok(is_present.then_some((offset, epoch)))
}

fn overrides(p: &mut Parser<'_>) -> Read<Overrides> {
    let mut m = Overrides::default();
    fields! { p;
        "presence" => m.presence, bool_value(p)?;
        "join_leave" => m.join_leave, bool_value(p)?;
        "force_recovery" => m.force_recovery, bool_value(p)?;
        "force_positioning" => m.force_positioning, bool_value(p)?;
        "force_push_join_leave" => m.force_push_join_leave, bool_value(p)?;
    };
    Ok(m)
}

/// `{"value": true}`.
fn bool_value(p: &mut Parser<'_>) -> Read<Option<bool>> {
    let mut value = false;
    let is_present = fields! { p; "value" => value, p.bool()?; };
    Ok(is_present.then_some(value))
}

fn target<'a>(p: &mut Parser<'a>) -> Read<Target<'a>> {
    let mut m = Target::default();
    fields! { p;
        "user" => m.user, p.string()?;
        "client" => m.client, p.string()?;
        "session" => m.session, p.string()?;
        "channel" => m.channel, p.string()?;
        "disconnect" => m.disconnect, disconnect(p)?;
        "whitelist" => m.whitelist, strings(p)?;
        "expired" => m.expired, p.bool()?;
        "expire_at" => m.expire_at, p.integer()?;
        "info" => m.info, RawPayload::Json(p.raw()?);
    };
    Ok(m)
}

fn disconnect<'a>(p: &mut Parser<'a>) -> Read<Option<(u32, Cow<'a, str>)>> {
    let (mut code, mut reason) = (0, Cow::Borrowed(""));
    let is_present = fields! { p; "code" => code, p.integer()?; "reason" => reason, p.string()?; };
    Ok(is_present.then_some((code, reason)))
}

fn history<'a>(p: &mut Parser<'a>) -> Read<History<'a>> {
    let mut m = History::default();
    fields! { p;
        "channel" => m.channel, p.string()?;
        "limit" => m.limit, p.integer()?;
        "since" => m.since, position(p)?;
        "reverse" => m.reverse, p.bool()?;
    };
    Ok(m)
}

fn map<'a>(p: &mut Parser<'a>) -> Read<Map<'a>> {
    let mut m = Map::default();
    fields! { p;
        "channel" => m.channel, p.string()?;
        "key" => m.key, p.string()?;
        "data" => m.data, RawPayload::Json(p.raw()?);
        "b64data" => m.b64data, p.string()?;
        "tags" => m.tags, tags(p)?;
        "idempotency_key" => m.idempotency_key, p.string()?;
        "delta" => m.delta, p.bool()?;
        "version" => m.version, p.integer()?;
        "version_epoch" => m.version_epoch, p.string()?;
        "score" => m.score, p.integer()?;
        "key_mode" => m.key_mode, p.string()?;
        "cursor" => m.cursor, p.string()?;
        "limit" => m.limit, p.integer()?;
        "asc" => m.asc, p.bool()?;
        "revision_epoch" => m.revision_epoch, p.string()?;
        "since_offset" => m.since_offset, p.integer()?;
        "since_epoch" => m.since_epoch, p.string()?;
        "reverse" => m.reverse, p.bool()?;
        "epoch" => m.epoch, p.string()?;
    };
    Ok(m)
}

fn connections<'a>(p: &mut Parser<'a>) -> Read<Connections<'a>> {
    let mut m = Connections::default();
    fields! { p;
        "user" => m.user, p.string()?;
        "expression" => m.expression, p.string()?;
        "label_filter" => m.has_label_filter, p.raw()? != b"null";
        "client" => m.client, p.string()?;
        "channel" => m.channel, p.string()?;
        "limit" => m.limit, p.integer()?;
        "cursor" => m.cursor, p.string()?;
    };
    Ok(m)
}
