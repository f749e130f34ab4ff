//! Variable-length integers.
//!
//! Spec: RFC 9000 section 16

use bytes::{Buf, BufMut, Bytes};

/// The largest value a varint can have.
pub(crate) const MAX: u64 = (1 << 62) - 1;

/// Reads a varint from the front of `bytes` without taking it: the value and its size. `None` if it is incomplete.
pub(crate) fn peek(bytes: &[u8]) -> Option<(u64, usize)> {
    let first = *bytes.first()?;
    let size = 1 << (first >> 6);
    let bytes = bytes.get(..size)?;
    let rest = bytes[1..].iter().fold(u64::from(first & 0x3f), |value, &byte| value << 8 | u64::from(byte));
    Some((rest, size))
}

/// Takes a varint. `None` if it is incomplete; nothing is taken then.
pub(crate) fn take(bytes: &mut impl Buf) -> Option<u64> {
    let (value, size) = peek(bytes.chunk())?;
    bytes.advance(size);
    Some(value)
}

/// Appends a varint in its shortest form. Values above [`MAX`] are cut to it.
pub(crate) fn put(out: &mut impl BufMut, value: u64) {
    match value.min(MAX) {
        value @ 0..0x40 => out.put_u8(value as u8),
        value @ 0x40..0x4000 => out.put_u16(value as u16 | 0x4000),
        value @ 0x4000..0x4000_0000 => out.put_u32(value as u32 | 0x8000_0000),
        value => out.put_u64(value | 0xc000_0000_0000_0000),
    }
}

/// A varint that may arrive in pieces; keeps what has come of it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Partial {
    bytes: [u8; 8],
    size: u8,
}

impl Partial {
    /// Takes a varint, or what there is of one, off `input`.
    pub(crate) fn take(&mut self, input: &mut Bytes) -> Option<u64> {
        if self.is_empty()
            && let Some(value) = take(input)
        {
            return Some(value);
        }
        while input.has_remaining() {
            self.bytes[usize::from(self.size)] = input.get_u8();
            self.size += 1;
            if let Some((value, _)) = peek(&self.bytes[..usize::from(self.size)]) {
                self.size = 0;
                return Some(value);
            }
        }
        None
    }

    /// True if nothing has come yet.
    pub(crate) fn is_empty(&self) -> bool {
        self.size == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A varint cut anywhere reads the same, and nothing behind it is taken.
    #[test]
    fn partial_reads_across_every_cut() {
        let bytes = [0xc2, 0x19, 0x7c, 0x5e, 0xff, 0x14, 0xe8, 0x8c, 0x25];
        for cut in 0..bytes.len() {
            let mut partial = Partial::default();
            let mut first = Bytes::copy_from_slice(&bytes[..cut]);
            let mut second = Bytes::copy_from_slice(&bytes[cut..]);
            let value = partial.take(&mut first).or_else(|| partial.take(&mut second));
            assert_eq!(value, Some(151_288_809_941_952_652));
            assert!(partial.is_empty());
            assert_eq!([first, second].concat(), [0x25]);
        }
    }

    /// The examples of RFC 9000 appendix A.1, and every boundary of size.
    #[test]
    fn reads_and_writes_the_examples_of_the_rfc() {
        assert_eq!(
            peek(&[0xc2, 0x19, 0x7c, 0x5e, 0xff, 0x14, 0xe8, 0x8c]),
            Some((151_288_809_941_952_652, 8))
        );
        assert_eq!(peek(&[0x9d, 0x7f, 0x3e, 0x7d]), Some((494_878_333, 4)));
        assert_eq!(peek(&[0x7b, 0xbd]), Some((15_293, 2)));
        assert_eq!(peek(&[0x40, 0x25]), Some((37, 2)), "over-long is legal");
        assert_eq!(peek(&[0x7b]), None);
        for value in [0, 0x3f, 0x40, 0x3fff, 0x4000, 0x3fff_ffff, 0x4000_0000, MAX] {
            let mut bytes = Vec::new();
            put(&mut bytes, value);
            assert_eq!(peek(&bytes), Some((value, bytes.len())));
        }
    }
}
