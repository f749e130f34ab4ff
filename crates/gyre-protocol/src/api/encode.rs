//! Answers.

use super::{Connection, Error, Node, Outcome, ResultBody};
use crate::{
    client::{Payload, PayloadForm, Publication},
    codec::{
        EncodeOptions,
        json::encode::{Object, Writer, Written, write_members, write_tags},
    },
};

/// Appends the value of `result` (or of a batch reply's method).
///
/// # Errors
/// If a payload is not JSON.
pub fn encode_result(result: &ResultBody, out: &mut Vec<u8>) -> Written {
    if let ResultBody::Broadcast(responses) = result {
        out.extend_from_slice(b"{\"responses\":");
        encode_broadcast(responses, out)?;
        out.push(b'}');
        return Ok(());
    }
    Writer::new(out, &EncodeOptions::default()).object(|o| write_result(o, result))
}

/// Appends the list of a broadcast's responses.
///
/// # Errors
/// If a payload is not JSON.
pub fn encode_broadcast(responses: &[Outcome], out: &mut Vec<u8>) -> Written {
    out.push(b'[');
    for (i, response) in responses.iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        match response {
            Ok(result) => {
                out.extend_from_slice(b"{\"result\":");
                encode_result(result, out)?;
            }
            Err(error) => {
                out.extend_from_slice(b"{\"error\":");
                encode_error(error, out);
            }
        }
        out.push(b'}');
    }
    out.push(b']');
    Ok(())
}

/// Appends an error object.
pub fn encode_error(error: &Error, out: &mut Vec<u8>) {
    let written = Writer::new(out, &EncodeOptions::default()).object(|o| {
        o.uint("code", error.code.into());
        o.string("message", &error.message);
        Ok(())
    });
    debug_assert!(written.is_ok(), "an error has no payload that could fail");
}

fn write_result(o: &mut Object<'_, '_>, result: &ResultBody) -> Written {
    match result {
        ResultBody::Empty | ResultBody::Broadcast(_) => Ok(()),
        ResultBody::Publish { offset, epoch } => {
            o.uint("offset", *offset);
            o.string("epoch", epoch);
            Ok(())
        }
        ResultBody::Presence(members) => o.message("presence", |o| write_members(o, members)),
        ResultBody::PresenceStats(stats) => {
            o.uint_always("num_clients", stats.num_clients.into());
            o.uint_always("num_users", stats.num_users.into());
            Ok(())
        }
        ResultBody::History { publications, epoch, offset } => {
            o.publications_always("publications", publications)?;
            o.string_always("epoch", epoch);
            o.uint_always("offset", *offset);
            Ok(())
        }
        ResultBody::Info(nodes) => o.array("nodes", nodes, |o, node| write_node(o, node)),
        ResultBody::Channels(channels) => o.message("channels", |o| {
            for (channel, clients) in channels {
                o.message(channel, |o| {
                    o.uint("num_clients", (*clients).into());
                    Ok(())
                })?;
            }
            Ok(())
        }),
        ResultBody::MapPublish { offset, epoch, suppress_reason } => {
            o.uint("offset", *offset);
            o.string("epoch", epoch);
            o.bool("suppressed", suppress_reason.is_some());
            o.string("suppress_reason", suppress_reason.unwrap_or_default());
            Ok(())
        }
        ResultBody::MapEntries { entries, offset, epoch, cursor } => {
            if !entries.is_empty() {
                o.array("entries", entries, |o, entry| write_map_entry(o, entry))?;
            }
            o.uint("offset", *offset);
            o.string("epoch", epoch);
            o.string("cursor", cursor);
            Ok(())
        }
        ResultBody::Connections { connections, cursor } => {
            o.message("connections", |o| {
                connections.iter().try_for_each(|connection| {
                    o.message(&connection.client, |o| write_connection(o, connection))
                })
            })?;
            o.string("cursor", cursor);
            Ok(())
        }
        ResultBody::MapStats { num_keys } => {
            o.uint("num_keys", (*num_keys).into());
            Ok(())
        }
    }
}

fn write_connection(o: &mut Object<'_, '_>, connection: &Connection) -> Written {
    o.string("app_name", &connection.app_name);
    o.string("app_version", &connection.app_version);
    o.string("transport", connection.transport);
    o.string("protocol", connection.protocol);
    o.string("user", &connection.user);
    o.message("state", |o| {
        if !connection.channels.is_empty() {
            o.message("channels", |o| {
                connection.channels.iter().try_for_each(|channel| {
                    o.message(&channel.name, |o| {
                        o.bool("server_side", channel.is_server_side);
                        Ok(())
                    })
                })
            })?;
        }
        write_json_payload(o, "meta", &connection.meta)
    })?;
    o.uint("connected_at_ms", connection.connected_at_ms);
    o.uint("num_channels", connection.num_channels.into());
    o.string("status", connection.status);
    o.uint("queue_bytes", connection.queue_bytes);
    o.string("node", &connection.node);
    write_json_payload(o, "info", &connection.info)
}

/// Leaves out what is no JSON: one connection's information must not spoil the list.
fn write_json_payload(o: &mut Object<'_, '_>, key: &str, payload: &Payload) -> Written {
    match payload.form() {
        PayloadForm::Binary => Ok(()),
        _ => o.payload(key, payload),
    }
}

fn write_map_entry(o: &mut Object<'_, '_>, entry: &Publication) -> Written {
    o.string("key", &entry.key);
    o.payload("data", &entry.data)?;
    write_tags(o, &entry.tags)?;
    o.uint("offset", entry.offset);
    o.int("score", entry.score);
    o.bool("removed", entry.removed);
    Ok(())
}

fn write_node(o: &mut Object<'_, '_>, node: &Node) -> Written {
    o.string("uid", &node.uid);
    o.string("name", &node.name);
    o.string("version", &node.version);
    o.uint_always("num_clients", node.num_clients.into());
    o.uint_always("num_users", node.num_users.into());
    o.uint_always("num_channels", node.num_channels.into());
    o.uint("uptime", node.uptime.into());
    o.uint_always("num_subs", node.num_subs.into());
    Ok(())
}
