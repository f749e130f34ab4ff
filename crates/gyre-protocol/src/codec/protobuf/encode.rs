//! Protobuf replies and pushes.

use std::sync::Arc;

use super::wire::Message;
use crate::{
    client::*,
    codec::EncodeOptions,
    codes::{ClientError, Disconnect, Unsubscribe},
};

/// Appends a reply.
pub fn encode_reply(reply: &Reply, out: &mut Vec<u8>) {
    let mut m = Message::new(out);
    m.uint(1, reply.id.into());
    match &reply.body {
        ReplyBody::Error(error) => m.message(2, |m| write_error(m, error)),
        ReplyBody::Connect(result) => m.message(5, |m| write_connect_result(m, result)),
        ReplyBody::Subscribe(result) => m.message(6, |m| write_subscribe_result(m, result)),
        ReplyBody::Unsubscribe => m.message(7, |_| {}),
        ReplyBody::Publish => m.message(8, |_| {}),
        ReplyBody::Presence(members) => m.message(9, |m| {
            for info in members {
                m.message(1, |m| {
                    m.string(1, &info.client);
                    m.message(2, |m| write_info(m, info));
                });
            }
        }),
        ReplyBody::PresenceStats(stats) => m.message(10, |m| {
            m.uint(1, stats.num_clients.into());
            m.uint(2, stats.num_users.into());
        }),
        ReplyBody::History(result) => m.message(11, |m| {
            write_publications(m, 1, &result.publications);
            m.string(2, result.epoch.as_str());
            m.uint(3, result.offset);
        }),
        ReplyBody::Rpc(data) => m.message(13, |m| m.bytes(1, data.bytes())),
        ReplyBody::Refresh(expiry) => m.message(14, |m| write_expiry(m, 3, *expiry)),
        ReplyBody::SubRefresh(result) => m.message(15, |m| {
            write_expiry(m, 1, result.expiry);
            write_publications(m, 3, &result.items);
        }),
    }
}

/// Appends a push, inside a reply unless unidirectional.
pub fn encode_push(push: &Push, options: &EncodeOptions, out: &mut Vec<u8>) {
    let mut m = Message::new(out);
    match options.unidirectional {
        true => write_push(&mut m, push),
        false => m.message(4, |m| write_push(m, push)),
    }
}

fn write_push(m: &mut Message<'_>, push: &Push) {
    match push.id {
        0 => m.string(2, &push.channel),
        id => m.uint(1, id as u64),
    }
    match &push.body {
        PushBody::Publication(publication) => m.message(4, |m| write_publication(m, publication)),
        PushBody::Join(info) => m.message(5, |m| m.message(1, |m| write_info(m, info))),
        PushBody::Leave(info) => m.message(6, |m| m.message(1, |m| write_info(m, info))),
        PushBody::Unsubscribe(Unsubscribe { code, reason }) => m.message(7, |m| {
            m.uint(2, (*code).into());
            m.string(3, reason);
        }),
        PushBody::Message(data) => m.message(8, |m| m.bytes(1, data.bytes())),
        PushBody::Subscribe(subscribe) => m.message(9, |m| {
            m.bool(1, subscribe.recoverable);
            m.string(4, subscribe.epoch.as_str());
            m.uint(5, subscribe.offset);
            m.bool(6, subscribe.positioned);
            m.bytes(7, subscribe.data.bytes());
        }),
        PushBody::Connect(result) => m.message(10, |m| write_connect_push(m, result)),
        PushBody::Disconnect(Disconnect { code, reason }) => m.message(11, |m| {
            m.uint(1, (*code).into());
            m.string(2, reason);
        }),
        PushBody::Refresh(expiry) => m.message(12, |m| write_expiry(m, 1, *expiry)),
    }
}

fn write_error(m: &mut Message<'_>, error: &ClientError) {
    m.uint(1, error.code.into());
    m.string(2, &error.message);
    m.bool(3, error.temporary);
}

/// `expires` has the number given, `ttl` the next one.
fn write_expiry(m: &mut Message<'_>, number: u64, expiry: Expiry) {
    if expiry.expires {
        m.bool(number, true);
        m.uint(number + 1, expiry.ttl.into());
    }
}

/// Spec: client.proto, ConnectResult
fn write_connect_result(m: &mut Message<'_>, result: &ConnectResult) {
    m.string(1, &result.client);
    m.string(2, &result.version);
    write_expiry(m, 3, result.expiry);
    write_connect_data(m, 5, result);
    write_connect_tail(m, result);
}

/// Spec: client.proto, Connect: the fields of the reply, numbered in another order.
fn write_connect_push(m: &mut Message<'_>, result: &ConnectResult) {
    m.string(1, &result.client);
    m.string(2, &result.version);
    write_connect_data(m, 3, result);
    write_expiry(m, 5, result.expiry);
    write_connect_tail(m, result);
}

/// `data` has the number given, `subs` the next one.
fn write_connect_data(m: &mut Message<'_>, number: u64, result: &ConnectResult) {
    m.bytes(number, result.data.bytes());
    for (channel, sub) in &result.subs {
        m.message(number + 1, |m| {
            m.string(1, channel);
            m.message(2, |m| write_subscribe_result(m, sub));
        });
    }
}

fn write_connect_tail(m: &mut Message<'_>, result: &ConnectResult) {
    m.uint(7, result.ping.into());
    m.bool(8, result.pong);
    m.string(9, &result.session);
    m.string(10, &result.node);
    m.uint(11, result.time as u64);
}

fn write_subscribe_result(m: &mut Message<'_>, result: &SubscribeResult) {
    write_expiry(m, 1, result.expiry);
    m.bool(3, result.recoverable);
    m.string(6, result.epoch.as_str());
    write_publications(m, 7, &result.publications);
    m.bool(8, result.recovered);
    m.uint(9, result.offset);
    m.bool(10, result.positioned);
    m.bytes(11, result.data.bytes());
    m.bool(12, result.was_recovering);
    m.bool(13, result.delta);
    m.uint(14, result.id as u64);
    m.uint(15, i64::from(result.kind) as u64);
    m.uint(16, i64::from(result.phase) as u64);
    m.string(17, &result.cursor);
    write_publications(m, 18, &result.state);
}

pub(crate) fn write_info(m: &mut Message<'_>, info: &ClientInfo) {
    m.string(1, &info.user);
    m.string(2, &info.client);
    m.bytes(3, info.conn_info.bytes());
    m.bytes(4, info.chan_info.bytes());
}

fn write_publication(m: &mut Message<'_>, publication: &Publication) {
    m.bytes(4, publication.data.bytes());
    if let Some(info) = &publication.info {
        m.message(5, |m| write_info(m, info));
    }
    m.uint(6, publication.offset);
    m.tags(7, &publication.tags);
    m.bool(8, publication.delta);
    m.string(11, &publication.key);
    m.bool(12, publication.removed);
    // sint64: zig-zag.
    m.uint(13, (publication.score << 1 ^ publication.score >> 63) as u64);
    if publication.offset == 1 {
        m.string(14, publication.epoch.as_str());
    }
    m.uint(16, publication.version);
}

fn write_publications(m: &mut Message<'_>, number: u64, publications: &[Arc<Publication>]) {
    for publication in publications {
        m.message(number, |m| write_publication(m, publication));
    }
}
