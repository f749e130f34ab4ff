//! Complete frames: encoding, direction and framing in one piece, ready to be written to any connection of that form.

use bytes::Bytes;
use gyre_protocol::{
    Push, Reply,
    codec::{EncodeError, EncodeOptions, Encoding},
};

use super::Deflate;

/// Everything that tells two connections' bytes for one message apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WireForm {
    /// JSON or Protobuf.
    pub encoding: Encoding,
    /// How messages are told apart on the wire.
    pub framing: Framing,
    /// Replies around pushes, or bare pushes.
    pub direction: Direction,
    /// JSON with every non-ASCII character escaped, for clients that decode byte streams chunk by chunk.
    pub ascii: bool,
    /// Compression the client has agreed to; WebSocket only.
    pub deflate: Option<Deflate>,
}

/// How messages are told apart on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// One unmasked, unfragmented WebSocket message each (RFC 6455 section 5.2).
    WebSocket,
    /// A byte stream: JSON ends with a line feed, Protobuf begins with its length.
    Stream,
    /// One server-sent event each (WHATWG HTML section 9.2.6). JSON only.
    EventStream,
    /// One uncompressed gRPC message each: a byte of flags, four of length. Protobuf only.
    Grpc,
}

/// Who may speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Commands, replies and pushes.
    Bidirectional,
    /// Pushes only.
    Unidirectional,
}

/// Room before a body: a WebSocket header (at most 10 bytes without mask) and a length prefix (at most 10).
const HEADER_BYTES_MAX: usize = 20;
/// What stands before a gRPC message.
const GRPC_PREFIX_BYTES: usize = 5;
/// Marks a compressed message.
///
/// Spec: RFC 7692 section 6
const RSV1: u8 = 0x40;

impl WireForm {
    /// The frame of a push.
    ///
    /// # Errors
    /// If its payload is not JSON and the encoding is.
    pub fn push(&self, push: &Push) -> Result<Bytes, EncodeError> {
        self.frame(|out| self.encoding.encode_push(push, &self.options(), out))
    }

    /// The frame of a publication's push to a subscription with delta, whether it is a patch or not.
    ///
    /// # Errors
    /// If its payload is not JSON and the encoding is.
    pub fn delta_push(&self, push: &Push) -> Result<Bytes, EncodeError> {
        let options = EncodeOptions { delta: true, ..self.options() };
        self.frame(|out| self.encoding.encode_push(push, &options, out))
    }

    /// The frame of a reply.
    ///
    /// # Errors
    /// If its payload is not JSON and the encoding is.
    pub fn reply(&self, reply: &Reply) -> Result<Bytes, EncodeError> {
        self.frame(|out| self.encoding.encode_reply(reply, &self.options(), out))
    }

    /// The frame of a ping.
    pub fn ping(&self) -> Bytes {
        Bytes::from_static(match (self.framing, self.encoding) {
            (Framing::WebSocket, Encoding::Json) => b"\x81\x02{}",
            (Framing::WebSocket, Encoding::Protobuf) => b"\x82\x01\x00",
            (Framing::Stream, Encoding::Json) => b"{}\n",
            (Framing::Stream, Encoding::Protobuf) => b"\x00",
            (Framing::EventStream, _) => b"data: {}\n\n",
            (Framing::Grpc, _) => &[0; GRPC_PREFIX_BYTES],
        })
    }

    fn options(&self) -> EncodeOptions {
        EncodeOptions {
            ascii: self.ascii,
            unidirectional: self.direction == Direction::Unidirectional,
            ..EncodeOptions::default()
        }
    }

    /// Of a final, uncompressed frame: text or binary.
    fn first_byte(&self) -> u8 {
        match self.encoding {
            Encoding::Json => 0x81,
            Encoding::Protobuf => 0x82,
        }
    }

    /// Writes the body behind room for its header, then the header right before it: one allocation, no copy.
    fn frame(
        &self,
        encode: impl FnOnce(&mut Vec<u8>) -> Result<(), EncodeError>,
    ) -> Result<Bytes, EncodeError> {
        let mut frame = Vec::with_capacity(256);
        frame.resize(HEADER_BYTES_MAX, 0);
        encode(&mut frame)?;
        let mut start = HEADER_BYTES_MAX;
        if self.encoding == Encoding::Protobuf && self.framing != Framing::Grpc {
            start = put_varint_before(&mut frame, start);
        }
        match (self.framing, self.encoding) {
            (Framing::WebSocket, _) => {
                return Ok(websocket_message(self.first_byte(), frame, start, self.deflate));
            }
            (Framing::Stream, Encoding::Json) => frame.push(b'\n'),
            (Framing::Stream, Encoding::Protobuf) => {}
            (Framing::EventStream, _) => start = make_event(&mut frame, start),
            (Framing::Grpc, _) => start = put_grpc_prefix_before(&mut frame, start),
        }
        Ok(Bytes::from(frame).slice(start..))
    }
}

/// One WebSocket frame of any bytes: `first` is its first byte with FIN bit and opcode.
///
/// Spec: RFC 6455 section 5.2
pub fn websocket_frame(first: u8, payload: &[u8], deflate: Option<Deflate>) -> Bytes {
    let mut frame = Vec::with_capacity(HEADER_BYTES_MAX + payload.len());
    frame.resize(HEADER_BYTES_MAX, 0);
    frame.extend_from_slice(payload);
    websocket_message(first, frame, HEADER_BYTES_MAX, deflate)
}

/// Compresses what follows `start` where that is agreed on and worth it, and puts a header before it.
fn websocket_message(first: u8, mut frame: Vec<u8>, mut start: usize, deflate: Option<Deflate>) -> Bytes {
    let compressed = deflate.and_then(|deflate| deflate.compress(&frame[start..], HEADER_BYTES_MAX));
    let first = first | if compressed.is_some() { RSV1 } else { 0 };
    if let Some(compressed) = compressed {
        (frame, start) = (compressed, HEADER_BYTES_MAX);
    }
    start = put_websocket_header_before(&mut frame, start, first);
    Bytes::from(frame).slice(start..)
}

/// Makes an event of what follows `end`; returns where it starts. A carriage return would end the line: JSON has raw
/// ones between its tokens only, where a space means the same.
fn make_event(frame: &mut Vec<u8>, end: usize) -> usize {
    const FIELD: &[u8] = b"data: ";
    for byte in frame[end..].iter_mut().filter(|byte| **byte == b'\r') {
        *byte = b' ';
    }
    frame.extend_from_slice(b"\n\n");
    frame[end - FIELD.len()..end].copy_from_slice(FIELD);
    end - FIELD.len()
}

/// Writes the length of what follows `end` as a varint that ends there; returns where it starts.
fn put_varint_before(frame: &mut [u8], end: usize) -> usize {
    let length = frame.len() - end;
    let size = (usize::BITS - (length | 1).leading_zeros()).div_ceil(7) as usize;
    let start = end - size;
    for (i, byte) in frame[start..end].iter_mut().enumerate() {
        let more = if i + 1 < size { 0x80 } else { 0 };
        *byte = (length >> (7 * i)) as u8 & 0x7f | more;
    }
    start
}

/// Writes the prefix of an uncompressed gRPC message that holds what follows `end`; returns where it starts.
///
/// Spec: gRPC over HTTP/2, "Length-Prefixed-Message"
fn put_grpc_prefix_before(frame: &mut [u8], end: usize) -> usize {
    // No message comes near 4 GB: every queue is bounded far below.
    let length = (frame.len() - end) as u32;
    frame[end - 4..end].copy_from_slice(&length.to_be_bytes());
    frame[end - GRPC_PREFIX_BYTES] = 0;
    end - GRPC_PREFIX_BYTES
}

/// Writes the header of an unmasked final frame that holds what follows `end`; returns where it starts.
///
/// Spec: RFC 6455 section 5.2
fn put_websocket_header_before(frame: &mut [u8], end: usize, first: u8) -> usize {
    let length = frame.len() - end;
    match length {
        0..126 => {
            frame[end - 2..end].copy_from_slice(&[first, length as u8]);
            end - 2
        }
        126..=0xffff => {
            let [high, low] = (length as u16).to_be_bytes();
            frame[end - 4..end].copy_from_slice(&[first, 126, high, low]);
            end - 4
        }
        _ => {
            frame[end - 10..end - 8].copy_from_slice(&[first, 127]);
            frame[end - 8..end].copy_from_slice(&(length as u64).to_be_bytes());
            end - 10
        }
    }
}

#[cfg(test)]
mod tests {
    use gyre_protocol::{Payload, Publication, PushBody};

    use super::*;

    /// The same publication in every form of a stream. Its payload holds what could break an event: line ends of all
    /// kinds between the tokens, and a line end in a string, which is escaped already.
    /// Spec: WHATWG HTML section 9.2.6
    #[test]
    fn streams_have_their_framings() {
        let publication =
            Publication { data: Payload::new("{\r\n\"é\":\r\"a\\r\"}"), ..Publication::default() };
        let push = Push { channel: "c".into(), id: 0, body: PushBody::Publication(publication.into()) };
        let form = |encoding, framing, direction, ascii| WireForm {
            encoding,
            framing,
            direction,
            ascii,
            deflate: None,
        };
        let frame = |form: WireForm| String::from_utf8(form.push(&push).unwrap().into()).unwrap();
        let (both, one_way) = (Direction::Bidirectional, Direction::Unidirectional);
        assert_eq!(
            frame(form(Encoding::Json, Framing::EventStream, both, false)),
            "data: {\"push\":{\"channel\":\"c\",\"pub\":{\"data\":{ \"é\": \"a\\r\"}}}}\n\n"
        );
        assert_eq!(
            frame(form(Encoding::Json, Framing::EventStream, one_way, true)),
            "data: {\"channel\":\"c\",\"pub\":{\"data\":{ \"\\u00e9\": \"a\\r\"}}}\n\n"
        );
        assert_eq!(
            frame(form(Encoding::Json, Framing::Stream, one_way, true)),
            "{\"channel\":\"c\",\"pub\":{\"data\":{\r\"\\u00e9\":\r\"a\\r\"}}}\n"
        );
        let grpc = form(Encoding::Protobuf, Framing::Grpc, one_way, false);
        let message = grpc.push(&push).unwrap();
        let bare = form(Encoding::Protobuf, Framing::Stream, one_way, false).push(&push).unwrap();
        assert_eq!(message[..5], [0, 0, 0, 0, bare[0]]);
        assert_eq!(message[5..], bare[1..]);
        assert_eq!(grpc.ping(), &[0; 5][..]);
        let ping = form(Encoding::Json, Framing::EventStream, both, false).ping();
        assert_eq!(ping, "data: {}\n\n");
    }

    /// Header and length prefix sit right before the body at every size class, read back by hand.
    #[test]
    fn headers_sit_right_before_the_body() {
        for length in [0usize, 1, 125, 126, 127, 128, 16383, 16384, 65535, 65536, 70000] {
            let mut frame = vec![7; HEADER_BYTES_MAX + length];
            let start = put_varint_before(&mut frame, HEADER_BYTES_MAX);
            let mut read = 0usize;
            for (i, byte) in frame[start..HEADER_BYTES_MAX].iter().enumerate() {
                read |= usize::from(byte & 0x7f) << (7 * i);
                assert_eq!(byte & 0x80 != 0, start + i + 1 < HEADER_BYTES_MAX);
            }
            assert_eq!(read, length);

            let start = put_websocket_header_before(&mut frame, HEADER_BYTES_MAX, 0x81);
            let header = &frame[start..HEADER_BYTES_MAX];
            assert_eq!(header[0], 0x81);
            let read = match header[1] {
                126 => usize::from(u16::from_be_bytes([header[2], header[3]])),
                127 => header[2..].iter().fold(0, |n, &byte| n << 8 | usize::from(byte)),
                short => usize::from(short),
            };
            assert_eq!(read, length);
        }
    }
}
