//! permessage-deflate without context: a message compressed once serves every connection that negotiated it.
//!
//! With context every connection would need a compressor of its own, a hundred kilobytes each, and no frame could be
//! shared.
//!
//! Spec: RFC 7692 section 7.2.1

use std::cell::RefCell;

use flate2::{Compress, Compression, FlushCompress};

/// How messages to a WebSocket are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deflate {
    /// From 0 (stored) and 1 (fastest) to 9 (smallest).
    pub level: u8,
    /// Messages of up to that many bytes are sent as they are.
    pub bytes_min: u32,
}

/// What a message compressed by a flush ends with; the receiver adds it.
const TAIL: [u8; 4] = [0, 0, 0xff, 0xff];

thread_local! {
    /// One compressor per thread. Its level is that of the configuration, so it hardly ever changes.
    static COMPRESSOR: RefCell<Option<(u8, Compress)>> = const { RefCell::new(None) };
}

impl Deflate {
    /// The compressed message behind `room` free bytes; `None` if it is better sent as it is.
    pub(super) fn compress(self, message: &[u8], room: usize) -> Option<Vec<u8>> {
        if message.len() <= self.bytes_min as usize {
            return None;
        }
        // Room for less than the message itself: what does not fit was not worth it.
        let mut out = Vec::with_capacity(room + message.len());
        out.resize(room, 0);
        COMPRESSOR.with_borrow_mut(|compressor| {
            let level = Compression::new(self.level.into());
            let (_, compressor) = match compressor {
                Some(known) if known.0 == self.level => known,
                other => other.insert((self.level, Compress::new(level, false))),
            };
            compressor.reset();
            compressor.compress_vec(message, &mut out, FlushCompress::Sync).ok()?;
            let is_complete = compressor.total_in() == message.len() as u64 && out.len() < out.capacity();
            is_complete.then_some(())
        })?;
        if !out.ends_with(&TAIL) {
            return None;
        }
        out.truncate(out.len() - TAIL.len());
        (out.len() < room + message.len()).then_some(out)
    }
}

#[cfg(test)]
mod tests {
    use flate2::{Decompress, FlushDecompress};

    use super::*;

    fn inflate(message: &[u8]) -> Vec<u8> {
        let bytes = [message, &TAIL].concat();
        let mut out = Vec::with_capacity(100_000);
        Decompress::new(false).decompress_vec(&bytes, &mut out, FlushDecompress::Sync).unwrap();
        out
    }

    /// What is compressed is the message again when it is inflated alone, at every level, whatever was compressed before;
    /// what does not shrink, or is too short, is not compressed.
    #[test]
    fn messages_stand_alone_and_shrink() {
        let long = br#"{"push":{"channel":"news"}}"#.repeat(500);
        for level in [1, 6, 9, 1, 1] {
            let deflate = Deflate { level, bytes_min: 20 };
            let compressed = deflate.compress(&long, 7).unwrap();
            assert!(compressed.len() < long.len() / 10);
            assert_eq!(inflate(&compressed[7..]), long);
            assert_eq!(deflate.compress(&long[..20], 7), None, "not above the minimum");
        }
        let noise: Vec<u8> = (0..3000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        for level in 0..=9 {
            let compressed = Deflate { level, bytes_min: 0 }.compress(&noise, 0);
            assert!(compressed.is_none_or(|bytes| bytes.len() < noise.len() && inflate(&bytes) == noise));
        }
    }
}
