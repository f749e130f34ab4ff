//! JSON replies and pushes: keys in the order of the field numbers, zero values left out.

use std::sync::Arc;

use crate::{
    client::*,
    codec::{EncodeError, EncodeOptions},
    codes::{ClientError, Disconnect, Unsubscribe},
};

/// Whether the payloads could be written.
pub(crate) type Written = Result<(), EncodeError>;

/// Appends a reply.
///
/// # Errors
/// If a payload is not JSON.
pub fn encode_reply(reply: &Reply, options: &EncodeOptions, out: &mut Vec<u8>) -> Written {
    let mut w = Writer::new(out, options);
    w.object(|o| {
        o.uint("id", reply.id.into());
        match &reply.body {
            ReplyBody::Error(error) => o.message("error", |o| write_error(o, error)),
            ReplyBody::Connect(result) => o.message("connect", |o| write_connect_result(o, result)),
            ReplyBody::Subscribe(result) => o.message("subscribe", |o| write_subscribe_result(o, result)),
            ReplyBody::Unsubscribe => o.message("unsubscribe", |_| Ok(())),
            ReplyBody::Publish => o.message("publish", |_| Ok(())),
            ReplyBody::Presence(members) => {
                o.message("presence", |o| o.message("presence", |o| write_members(o, members)))
            }
            ReplyBody::PresenceStats(stats) => o.message("presence_stats", |o| {
                o.uint_always("num_clients", stats.num_clients.into());
                o.uint_always("num_users", stats.num_users.into());
                Ok(())
            }),
            ReplyBody::History(result) => o.message("history", |o| {
                o.publications_always("publications", &result.publications)?;
                o.string_always("epoch", result.epoch.as_str());
                o.uint_always("offset", result.offset);
                Ok(())
            }),
            ReplyBody::Rpc(data) => o.message("rpc", |o| o.payload("data", data)),
            ReplyBody::Refresh(expiry) => o.message("refresh", |o| write_expiry(o, *expiry)),
            ReplyBody::SubRefresh(result) => o.message("sub_refresh", |o| {
                write_expiry(o, result.expiry)?;
                let in_delta = o.writer.options.delta;
                o.publications("items", &result.items, in_delta)
            }),
        }
    })
}

/// Appends a push, inside a reply unless unidirectional.
///
/// # Errors
/// If a payload is not JSON.
pub fn encode_push(push: &Push, options: &EncodeOptions, out: &mut Vec<u8>) -> Written {
    let mut w = Writer::new(out, options);
    match options.unidirectional {
        true => w.object(|o| write_push(o, push)),
        false => w.object(|o| o.message("push", |o| write_push(o, push))),
    }
}

fn write_push(o: &mut Object<'_, '_>, push: &Push) -> Written {
    match push.id {
        0 => o.string("channel", &push.channel),
        id => o.int("id", id),
    }
    match &push.body {
        PushBody::Publication(publication) => {
            let in_delta = o.writer.options.delta;
            o.message("pub", |o| write_publication(o, publication, in_delta))
        }
        PushBody::Join(info) => o.message("join", |o| o.message("info", |o| write_info(o, info))),
        PushBody::Leave(info) => o.message("leave", |o| o.message("info", |o| write_info(o, info))),
        PushBody::Unsubscribe(Unsubscribe { code, reason }) => o.message("unsubscribe", |o| {
            o.uint("code", (*code).into());
            o.string("reason", reason);
            Ok(())
        }),
        PushBody::Message(data) => o.message("message", |o| o.payload("data", data)),
        PushBody::Subscribe(subscribe) => o.message("subscribe", |o| {
            o.bool("recoverable", subscribe.recoverable);
            o.string("epoch", subscribe.epoch.as_str());
            o.uint("offset", subscribe.offset);
            o.bool("positioned", subscribe.positioned);
            o.payload("data", &subscribe.data)
        }),
        PushBody::Connect(result) => o.message("connect", |o| write_connect_push(o, result)),
        PushBody::Disconnect(Disconnect { code, reason }) => o.message("disconnect", |o| {
            o.uint("code", (*code).into());
            o.string("reason", reason);
            Ok(())
        }),
        PushBody::Refresh(expiry) => o.message("refresh", |o| write_expiry(o, *expiry)),
    }
}

fn write_error(o: &mut Object<'_, '_>, error: &ClientError) -> Written {
    o.uint("code", error.code.into());
    o.string("message", &error.message);
    o.bool("temporary", error.temporary);
    Ok(())
}

fn write_expiry(o: &mut Object<'_, '_>, expiry: Expiry) -> Written {
    if expiry.expires {
        o.bool("expires", true);
        o.uint("ttl", expiry.ttl.into());
    }
    Ok(())
}

fn write_connect_result(o: &mut Object<'_, '_>, result: &ConnectResult) -> Written {
    o.string("client", &result.client);
    o.string("version", &result.version);
    write_expiry(o, result.expiry)?;
    write_connect_data(o, result)?;
    write_connect_tail(o, result);
    Ok(())
}

/// The same fields as the reply has, but the push numbers them in another order.
fn write_connect_push(o: &mut Object<'_, '_>, result: &ConnectResult) -> Written {
    o.string("client", &result.client);
    o.string("version", &result.version);
    write_connect_data(o, result)?;
    write_expiry(o, result.expiry)?;
    write_connect_tail(o, result);
    Ok(())
}

fn write_connect_data(o: &mut Object<'_, '_>, result: &ConnectResult) -> Written {
    o.payload("data", &result.data)?;
    if result.subs.is_empty() {
        return Ok(());
    }
    o.message("subs", |o| {
        for (channel, sub) in &result.subs {
            o.message(channel, |o| write_subscribe_result(o, sub))?;
        }
        Ok(())
    })
}

fn write_connect_tail(o: &mut Object<'_, '_>, result: &ConnectResult) {
    o.uint("ping", result.ping.into());
    o.bool("pong", result.pong);
    o.string("session", &result.session);
    o.string("node", &result.node);
    o.int("time", result.time);
}

fn write_subscribe_result(o: &mut Object<'_, '_>, result: &SubscribeResult) -> Written {
    write_expiry(o, result.expiry)?;
    o.bool("recoverable", result.recoverable);
    o.string("epoch", result.epoch.as_str());
    let in_delta = result.delta || o.writer.options.delta;
    o.publications("publications", &result.publications, in_delta)?;
    o.bool("recovered", result.recovered);
    o.uint("offset", result.offset);
    o.bool("positioned", result.positioned);
    o.payload("data", &result.data)?;
    o.bool("was_recovering", result.was_recovering);
    o.bool("delta", result.delta);
    o.int("id", result.id);
    o.int("type", result.kind.into());
    o.int("phase", result.phase.into());
    o.string("cursor", &result.cursor);
    o.publications("state", &result.state, in_delta)
}

pub(crate) fn write_members(o: &mut Object<'_, '_>, members: &[Arc<ClientInfo>]) -> Written {
    for info in members {
        o.message(&info.client, |o| write_info(o, info))?;
    }
    Ok(())
}

fn write_info(o: &mut Object<'_, '_>, info: &ClientInfo) -> Written {
    o.string_always("user", &info.user);
    o.string_always("client", &info.client);
    o.payload("conn_info", &info.conn_info)?;
    o.payload("chan_info", &info.chan_info)
}

pub(crate) fn write_tags(o: &mut Object<'_, '_>, tags: &Tags) -> Written {
    if tags.is_empty() {
        return Ok(());
    }
    o.message("tags", |o| {
        tags.iter().for_each(|(key, value)| o.string_always(key, value));
        Ok(())
    })
}

/// With `in_delta` the data is a string, as everything of a subscription is once it has delta.
fn write_publication(o: &mut Object<'_, '_>, publication: &Publication, in_delta: bool) -> Written {
    match in_delta {
        true => o.payload_as_string("data", publication)?,
        false => o.payload("data", &publication.data)?,
    }
    if let Some(info) = &publication.info {
        o.message("info", |o| write_info(o, info))?;
    }
    o.uint("offset", publication.offset);
    write_tags(o, &publication.tags)?;
    o.bool("delta", publication.delta);
    o.string("key", &publication.key);
    o.bool("removed", publication.removed);
    o.int("score", publication.score);
    if publication.offset == 1 && !in_delta {
        o.string("epoch", publication.epoch.as_str());
    }
    o.uint("version", publication.version);
    Ok(())
}

pub(crate) struct Writer<'a> {
    out: &'a mut Vec<u8>,
    options: &'a EncodeOptions,
}

/// An object being written.
pub(crate) struct Object<'w, 'a> {
    writer: &'w mut Writer<'a>,
    is_empty: bool,
}

impl<'a> Writer<'a> {
    pub(crate) fn new(out: &'a mut Vec<u8>, options: &'a EncodeOptions) -> Self {
        Self { out, options }
    }

    pub(crate) fn object(&mut self, body: impl FnOnce(&mut Object<'_, 'a>) -> Written) -> Written {
        self.out.push(b'{');
        body(&mut Object { writer: self, is_empty: true })?;
        self.out.push(b'}');
        Ok(())
    }

    fn quoted(&mut self, text: &str) {
        self.out.push(b'"');
        let mut plain = 0;
        for (at, character) in text.char_indices() {
            let needs_escape = match character {
                '"' | '\\' | '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => true,
                _ => character < ' ' || (self.options.ascii && !character.is_ascii()),
            };
            if needs_escape {
                self.out.extend_from_slice(&text.as_bytes()[plain..at]);
                plain = at + character.len_utf8();
                self.escape(character);
            }
        }
        self.out.extend_from_slice(&text.as_bytes()[plain..]);
        self.out.push(b'"');
    }

    fn escape(&mut self, character: char) {
        match character {
            '"' | '\\' => self.out.extend_from_slice(&[b'\\', character as u8]),
            '\n' => self.out.extend_from_slice(b"\\n"),
            '\r' => self.out.extend_from_slice(b"\\r"),
            '\t' => self.out.extend_from_slice(b"\\t"),
            _ => self.unicode_escape(character),
        }
    }

    fn unicode_escape(&mut self, character: char) {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut units = [0; 2];
        for unit in character.encode_utf16(&mut units) {
            let digit = |shift: u16| DIGITS[usize::from(*unit >> shift & 15)];
            self.out.extend_from_slice(&[b'\\', b'u', digit(12), digit(8), digit(4), digit(0)]);
        }
    }

    /// Copies a JSON value. Non-ASCII characters can only stand in strings, where an escape means the same.
    fn raw(&mut self, bytes: &[u8]) {
        if !self.options.ascii || bytes.is_ascii() {
            return self.out.extend_from_slice(bytes);
        }
        for chunk in bytes.utf8_chunks() {
            for character in chunk.valid().chars() {
                match character.is_ascii() {
                    true => self.out.push(character as u8),
                    false => self.unicode_escape(character),
                }
            }
        }
    }
}

impl<'a> Object<'_, 'a> {
    fn key(&mut self, key: &str) {
        if !std::mem::replace(&mut self.is_empty, false) {
            self.writer.out.push(b',');
        }
        self.writer.quoted(key);
        self.writer.out.push(b':');
    }

    pub(crate) fn message(
        &mut self,
        key: &str,
        body: impl FnOnce(&mut Object<'_, 'a>) -> Written,
    ) -> Written {
        self.key(key);
        self.writer.object(body)
    }

    pub(crate) fn uint_always(&mut self, key: &str, value: u64) {
        self.key(key);
        self.writer.out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
    }

    pub(crate) fn uint(&mut self, key: &str, value: u64) {
        if value != 0 {
            self.uint_always(key, value);
        }
    }

    pub(crate) fn int(&mut self, key: &str, value: i64) {
        if value != 0 {
            self.key(key);
            self.writer.out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
        }
    }

    pub(crate) fn bool(&mut self, key: &str, value: bool) {
        if value {
            self.key(key);
            self.writer.out.extend_from_slice(b"true");
        }
    }

    pub(crate) fn string_always(&mut self, key: &str, value: &str) {
        self.key(key);
        self.writer.quoted(value);
    }

    pub(crate) fn string(&mut self, key: &str, value: &str) {
        if !value.is_empty() {
            self.string_always(key, value);
        }
    }

    pub(crate) fn payload(&mut self, key: &str, payload: &Payload) -> Written {
        if payload.is_empty() {
            return Ok(());
        }
        self.key(key);
        match payload.form() {
            PayloadForm::JsonLine => self.writer.raw(payload.bytes()),
            // Legal JSON has line feeds only between tokens, where they mean nothing.
            PayloadForm::JsonWithLineFeeds => {
                payload.bytes().split(|&byte| byte == b'\n').for_each(|part| self.writer.raw(part));
            }
            PayloadForm::Binary => return Err(EncodeError::NotJson),
        }
        Ok(())
    }

    /// Delta form: the payload's text, or the patch, as a string. A removal, and whatever else has no data, carries valid
    /// JSON, because clients parse the string whatever the publication is.
    fn payload_as_string(&mut self, key: &str, publication: &Publication) -> Written {
        if publication.removed || publication.data.is_empty() {
            self.string_always(key, "null");
            return Ok(());
        }
        let text = std::str::from_utf8(publication.data.bytes()).map_err(|_| EncodeError::NotJson)?;
        if !publication.delta && publication.data.form() == PayloadForm::Binary {
            return Err(EncodeError::NotJson);
        }
        self.string_always(key, text);
        Ok(())
    }

    pub(crate) fn array<T>(
        &mut self,
        key: &str,
        items: &[T],
        mut write: impl FnMut(&mut Object<'_, 'a>, &T) -> Written,
    ) -> Written {
        self.key(key);
        self.writer.out.push(b'[');
        for (i, item) in items.iter().enumerate() {
            if i > 0 {
                self.writer.out.push(b',');
            }
            self.writer.object(|o| write(o, item))?;
        }
        self.writer.out.push(b']');
        Ok(())
    }

    /// History: also an empty list, and never in delta form.
    pub(crate) fn publications_always(&mut self, key: &str, publications: &[Arc<Publication>]) -> Written {
        self.array(key, publications, |o, publication| write_publication(o, publication, false))
    }

    fn publications(&mut self, key: &str, publications: &[Arc<Publication>], in_delta: bool) -> Written {
        if publications.is_empty() {
            return Ok(());
        }
        self.array(key, publications, |o, publication| write_publication(o, publication, in_delta))
    }
}
