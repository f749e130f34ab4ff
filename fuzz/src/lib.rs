//! What the fuzz targets do with the bytes they are given. A test replays the corpus through the same functions.

mod session;

use bytes::Bytes;
use gyre_protocol::{
    api::{Method, protobuf},
    codec::{Encoding, StreamDecoder},
};
pub use session::session;

/// Bytes of a command at most, in the decoders that are fuzzed.
const COMMAND_BYTES_MAX: usize = 1 << 16;

/// JSON lines, as one frame and as a stream in two pieces: both find the same commands.
pub fn json_commands(data: &[u8]) {
    commands(Encoding::Json, data);
}

/// Protobuf commands with their lengths, as one frame and as a stream in two pieces; the same bytes as requests of the
/// server API.
pub fn protobuf_frames(data: &[u8]) {
    commands(Encoding::Protobuf, data);
    for method in Method::ALL {
        drop(protobuf::decode_request(*method, data).map(|request| format!("{request:?}")));
    }
    drop(protobuf::decode_batch(data).map(|commands| format!("{commands:?}")));
}

/// WebSocket frames of a client in two pieces, with and without compression.
pub fn websocket_frames(data: &[u8]) {
    let Some((&cut, data)) = data.split_first() else { return };
    gyre_transport::websocket::fuzz_frames(data, usize::from(cut));
}

fn commands(encoding: Encoding, data: &[u8]) {
    for command in encoding.split_frame(data) {
        let Ok(bytes) = command else { break };
        if let Ok(command) = encoding.decode_command(bytes) {
            drop(format!("{command:?}"));
        }
    }
    let (first, second) = data.split_at(data.len() / 3);
    let mut decoder = StreamDecoder::new(encoding, COMMAND_BYTES_MAX);
    for chunk in [first, second] {
        decoder.push(Bytes::copy_from_slice(chunk));
        while let Ok(Some(command)) = decoder.next_command() {
            assert!(command.len() <= COMMAND_BYTES_MAX);
            drop(encoding.decode_command(&command).map(|command| format!("{command:?}")));
        }
    }
}
