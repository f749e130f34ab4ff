//! From received bytes to a session: shared by all transports.

use bytes::Bytes;
use gyre_node::{ConnectionId, Fed, LocalShard};
use gyre_protocol::{
    Disconnect,
    codec::{Encoding, StreamDecoder},
};

/// How far a piece of input came.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Pumped {
    /// All of it was handed in.
    Open,
    /// The session waits for something; that many bytes at the end are left.
    Busy(usize),
    /// The session takes no more.
    Over,
}

/// Hands in the commands of one frame. Undecodable bytes end the connection with 3501; the commands before them have
/// taken effect.
pub(crate) fn pump_frame(shard: &LocalShard, id: ConnectionId, encoding: Encoding, frame: &[u8]) -> Pumped {
    let mut commands = encoding.split_frame(frame);
    while let Some(command) = commands.next() {
        let decoded = command.and_then(|bytes| Ok((encoding.decode_command(bytes)?, bytes.len())));
        match decoded {
            Ok((command, bytes)) => match shard.command_of_size(id, command, bytes) {
                Fed::Open => {}
                Fed::Over => return Pumped::Over,
                Fed::Busy => return Pumped::Busy(commands.rest().len()),
            },
            Err(error) => return undecodable(shard, id, &error),
        }
    }
    Pumped::Open
}

/// Hands in the commands of a byte stream that are complete. What the session does not take yet stays in the decoder.
pub(crate) fn pump_stream(
    shard: &LocalShard,
    id: ConnectionId,
    encoding: Encoding,
    decoder: &mut StreamDecoder,
) -> Pumped {
    loop {
        let command: Bytes = match decoder.next_command() {
            Ok(Some(command)) => command,
            Ok(None) => return Pumped::Open,
            Err(error) => return undecodable(shard, id, &error),
        };
        match encoding.decode_command(&command) {
            Ok(decoded) => match shard.command_of_size(id, decoded, command.len()) {
                Fed::Open => {}
                Fed::Over => return Pumped::Over,
                Fed::Busy => return Pumped::Busy(0),
            },
            Err(error) => return undecodable(shard, id, &error),
        }
    }
}

fn undecodable(shard: &LocalShard, id: ConnectionId, error: &gyre_protocol::codec::DecodeError) -> Pumped {
    tracing::debug!(%error, "undecodable command");
    shard.disconnect(id, &Disconnect::BAD_REQUEST);
    Pumped::Over
}
