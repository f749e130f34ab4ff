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
    /// Base 2 logarithm of the bytes the client can look back, from [`WINDOW_BITS_MIN`] to [`WINDOW_BITS_MAX`].
    pub window_bits: u8,
}

/// The smallest window a compressor can keep to; the protocol knows 8, too.
pub const WINDOW_BITS_MIN: u8 = 9;
/// The largest window, which is the default.
pub const WINDOW_BITS_MAX: u8 = 15;
const WINDOWS: usize = (WINDOW_BITS_MAX - WINDOW_BITS_MIN + 1) as usize;

/// What a message compressed by a flush ends with; the receiver adds it.
const TAIL: [u8; 4] = [0, 0, 0xff, 0xff];

thread_local! {
    /// One compressor per thread and size of window, of which nearly every client asks for the same. The level is that of
    /// the configuration, so it hardly ever changes.
    static COMPRESSORS: RefCell<[Option<(u8, Compress)>; WINDOWS]> = const { RefCell::new([const { None }; WINDOWS]) };
}

impl Deflate {
    /// The compressed message behind `room` free bytes; `None` if it is better sent as it is.
    pub(super) fn compress(self, message: &[u8], room: usize) -> Option<Vec<u8>> {
        if message.len() <= self.bytes_min as usize {
            return None;
        }
        // Room for whatever may come of the message: nine bits a byte at most, and the ends of blocks. The compressor does
        // not survive running out of it (zlib-rs 0.6.8 panics).
        let block_ends = 64 + message.len() / 128;
        let mut out = Vec::with_capacity(room + message.len() + message.len() / 8 + block_ends);
        out.resize(room, 0);
        let window_bits = self.window_bits.clamp(WINDOW_BITS_MIN, WINDOW_BITS_MAX);
        COMPRESSORS.with_borrow_mut(|compressors| {
            let (_, compressor) = match &mut compressors[usize::from(window_bits - WINDOW_BITS_MIN)] {
                Some(known) if known.0 == self.level => known,
                other => {
                    let level = Compression::new(self.level.into());
                    other.insert((self.level, Compress::new_with_window_bits(level, false, window_bits)))
                }
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
    use proptest::prelude::*;

    use super::*;

    fn inflate(message: &[u8], window_bits: u8) -> Vec<u8> {
        let bytes = [message, &TAIL].concat();
        let mut out = Vec::with_capacity(100_000);
        Decompress::new_with_window_bits(false, window_bits)
            .decompress_vec(&bytes, &mut out, FlushDecompress::Sync)
            .unwrap();
        out
    }

    /// What is compressed is the message again when it is inflated alone, at every level and with no larger window than
    /// agreed on, whatever was compressed before; what does not shrink, or is too short, is not compressed.
    #[test]
    fn messages_stand_alone_and_shrink() {
        let long = br#"{"push":{"channel":"news"}}"#.repeat(500);
        for (level, window_bits) in [(1, 15), (6, 15), (9, 9), (1, 15), (1, 12), (1, 9)] {
            let deflate = Deflate { level, bytes_min: 20, window_bits };
            let compressed = deflate.compress(&long, 7).unwrap();
            assert!(compressed.len() < long.len() / 9);
            assert_eq!(inflate(&compressed[7..], window_bits), long);
            assert_eq!(deflate.compress(&long[..20], 7), None, "not above the minimum");
        }
        let noise: Vec<u8> = (0..3000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        for level in 0..=9 {
            let compressed = Deflate { level, bytes_min: 0, window_bits: 15 }.compress(&noise, 0);
            assert!(compressed.is_none_or(|bytes| bytes.len() < noise.len() && inflate(&bytes, 15) == noise));
        }
    }

    proptest! {
        /// Messages of any size that hardly shrink, even such as take more room compressed.
        #[test]
        fn what_does_not_shrink_is_survived(
            seed: u64,
            length in 0usize..50_000,
            (level, window_bits) in (0u8..=9, 9u8..=15),
            mask: u8,
            set: u8,
        ) {
            let mut state = seed;
            let message: Vec<u8> = std::iter::repeat_with(|| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (state >> 56) as u8 & (mask | 0x0f) | set
            })
            .take(length)
            .collect();
            if let Some(compressed) = (Deflate { level, bytes_min: 0, window_bits }).compress(&message, 20) {
                prop_assert!(compressed.len() < message.len() + 20);
                let mut out = Vec::with_capacity(length + 1);
                let bytes = [&compressed[20..], &TAIL].concat();
                Decompress::new_with_window_bits(false, window_bits)
                    .decompress_vec(&bytes, &mut out, FlushDecompress::Sync)
                    .unwrap();
                prop_assert_eq!(out, message);
            }
        }
    }
}
