//! Field compression without a dynamic table.
//!
//! Spec: RFC 9204

mod huffman;
mod static_table;

use std::borrow::Cow;

use crate::error::{Code, ConnectionError};
use static_table::STATIC_TABLE;

/// One field line: name and value.
pub(crate) type Field<'a> = (Cow<'a, [u8]>, Cow<'a, [u8]>);

const FAILED: ConnectionError =
    ConnectionError::new(Code::QPACK_DECOMPRESSION_FAILED, "a field section cannot be decoded");

/// Decodes a field section and hands every field line to `field`.
///
/// # Errors
/// `QPACK_DECOMPRESSION_FAILED` for anything malformed, and for every reference to a dynamic table, which is empty.
pub(crate) fn decode<'a>(section: &'a [u8], mut field: impl FnMut(Field<'a>)) -> Result<(), ConnectionError> {
    let mut input = section;
    // Required Insert Count must be 0; the base then means nothing, but must not be below 0.
    let is_empty_table = integer(&mut input, 8)? == 0;
    let is_negative_base = input.first().is_some_and(|sign| sign & 0x80 != 0);
    integer(&mut input, 7)?;
    if !is_empty_table || is_negative_base {
        return Err(FAILED);
    }
    while let Some(&first) = input.first() {
        field(match first {
            // Indexed, static.
            0xc0.. => {
                let (name, value) = static_entry(integer(&mut input, 6)?)?;
                (Cow::Borrowed(name), Cow::Borrowed(value))
            }
            // Literal with a name reference, static.
            0x40..0x80 if first & 0x10 != 0 => {
                let (name, _) = static_entry(integer(&mut input, 4)?)?;
                (Cow::Borrowed(name), string(&mut input, 7)?)
            }
            // Literal with a literal name.
            0x20..0x40 => (string(&mut input, 3)?, string(&mut input, 7)?),
            // Anything else refers to the dynamic table.
            _ => return Err(FAILED),
        });
    }
    Ok(())
}

/// Appends a field section: entries of the static table where they fit, literals without Huffman otherwise.
pub(crate) fn encode<'a>(fields: impl IntoIterator<Item = (&'a [u8], &'a [u8])>, out: &mut Vec<u8>) {
    out.extend_from_slice(&[0, 0]);
    for (name, value) in fields {
        if let Some(index) = STATIC_TABLE.iter().position(|&entry| entry == (name, value)) {
            put_integer(out, 0xc0, 6, index as u64);
            continue;
        }
        match STATIC_TABLE.iter().position(|&(known, _)| known == name) {
            Some(index) => put_integer(out, 0x50, 4, index as u64),
            None => {
                put_integer(out, 0x20, 3, name.len() as u64);
                out.extend_from_slice(name);
            }
        }
        put_integer(out, 0, 7, value.len() as u64);
        out.extend_from_slice(value);
    }
}

fn static_entry(index: u64) -> Result<(&'static [u8], &'static [u8]), ConnectionError> {
    usize::try_from(index).ok().and_then(|index| STATIC_TABLE.get(index)).copied().ok_or(FAILED)
}

/// Reads an integer whose first byte has `bits` bits for it.
///
/// Spec: RFC 7541 section 5.1, with the limit of RFC 9204 section 4.1.1
fn integer(input: &mut &[u8], bits: u32) -> Result<u64, ConnectionError> {
    let (&first, mut rest) = input.split_first().ok_or(FAILED)?;
    let mask = (1u64 << bits) - 1;
    let mut value = u64::from(first) & mask;
    if value == mask {
        let mut shift = 0;
        loop {
            let (&byte, after) = rest.split_first().ok_or(FAILED)?;
            rest = after;
            // 62 bits at most: later groups would not fit.
            if shift > 56 {
                return Err(FAILED);
            }
            value = value.checked_add(u64::from(byte & 0x7f) << shift).ok_or(FAILED)?;
            shift += 7;
            if byte & 0x80 == 0 {
                break;
            }
        }
    }
    *input = rest;
    Ok(value)
}

fn put_integer(out: &mut Vec<u8>, first: u8, bits: u32, value: u64) {
    let mask = (1u64 << bits) - 1;
    if value < mask {
        return out.push(first | value as u8);
    }
    out.push(first | mask as u8);
    let mut rest = value - mask;
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

/// Reads a string whose length has `bits` bits in its first byte, below the bit that tells Huffman.
fn string<'a>(input: &mut &'a [u8], bits: u32) -> Result<Cow<'a, [u8]>, ConnectionError> {
    let is_huffman = input.first().ok_or(FAILED)? & (1 << bits) != 0;
    let length = usize::try_from(integer(input, bits)?).map_err(|_| FAILED)?;
    let (text, rest) = input.split_at_checked(length).ok_or(FAILED)?;
    *input = rest;
    match is_huffman {
        true => huffman::decode(text).map(Cow::Owned).ok_or(FAILED),
        false => Ok(Cow::Borrowed(text)),
    }
}

/// Looks at what the peer's encoder may tell a server without a table.
///
/// # Errors
/// `QPACK_ENCODER_STREAM_ERROR` for anything but setting the capacity to 0.
pub(crate) fn check_encoder_stream(bytes: &[u8]) -> Result<(), ConnectionError> {
    match bytes.iter().all(|&byte| byte == 0x20) {
        true => Ok(()),
        false => Err(ConnectionError::new(Code::QPACK_ENCODER_STREAM_ERROR, "the dynamic table has no room")),
    }
}

/// Follows the peer's decoder stream, on which only cancellations make sense. Holds whether an integer is open.
#[derive(Debug, Default)]
pub(crate) struct DecoderStream {
    is_inside: bool,
}

impl DecoderStream {
    /// Takes the next bytes.
    ///
    /// # Errors
    /// `QPACK_DECODER_STREAM_ERROR` for acknowledgements of what was never sent.
    pub(crate) fn handle(&mut self, bytes: &[u8]) -> Result<(), ConnectionError> {
        for &byte in bytes {
            match (self.is_inside, byte) {
                (true, _) => self.is_inside = byte & 0x80 != 0,
                (false, 0x40..0x80) => self.is_inside = byte & 0x3f == 0x3f,
                (false, _) => {
                    return Err(ConnectionError::new(
                        Code::QPACK_DECODER_STREAM_ERROR,
                        "nothing was sent that could be acknowledged",
                    ));
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(section: &[u8]) -> Result<Vec<(String, String)>, Code> {
        let mut fields = Vec::new();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        decode(section, |(name, value)| fields.push((text(&name), text(&value))))
            .map_err(|error| error.code)?;
        Ok(fields)
    }

    /// RFC 9204 appendix B.1, and Huffman strings of RFC 7541 appendix C.4 as literal names and values.
    #[test]
    fn decodes_the_examples_of_the_rfcs() {
        let mut section = vec![0x00, 0x00, 0x51, 0x0b];
        section.extend_from_slice(b"/index.html");
        assert_eq!(decoded(&section), Ok(vec![(":path".into(), "/index.html".into())]));

        let mut section = vec![0x00, 0x00, 0x50, 0x8c];
        section.extend([0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab, 0x90, 0xf4, 0xff]);
        assert_eq!(decoded(&section), Ok(vec![(":authority".into(), "www.example.com".into())]));

        let mut section = vec![0x00, 0x00, 0x2f, 0x01, 0x25, 0xa8, 0x49, 0xe9, 0x5b, 0xa9, 0x7d, 0x7f];
        section.extend([0x89, 0x25, 0xa8, 0x49, 0xe9, 0x5b, 0xb8, 0xe8, 0xb4, 0xbf]);
        assert_eq!(decoded(&section), Ok(vec![("custom-key".into(), "custom-value".into())]));
    }

    /// Every entry of the static table survives a round trip, by index and as a name with another value.
    #[test]
    fn static_entries_round_trip() {
        assert_eq!(STATIC_TABLE.len(), 99);
        for &(name, value) in STATIC_TABLE {
            let mut section = Vec::new();
            encode([(name, value), (name, b"another value"), (b"x-unknown", value)], &mut section);
            let mut fields = Vec::new();
            decode(&section, |(name, value)| fields.push((name.into_owned(), value.into_owned()))).unwrap();
            let expected = [(name, value), (name, b"another value"), (b"x-unknown", value)];
            assert_eq!(fields, expected.map(|(name, value)| (name.to_vec(), value.to_vec())));
        }
    }

    /// The statuses the server sends most take one byte after the prefix.
    #[test]
    fn statuses_are_short() {
        let section = |status: &[u8]| {
            let mut out = Vec::new();
            encode([(&b":status"[..], status)], &mut out);
            out
        };
        assert_eq!(section(b"200"), [0, 0, 0xd9]);
        assert_eq!(section(b"404"), [0, 0, 0xdb]);
        assert_eq!(section(b"503"), [0, 0, 0xdc]);
        assert_eq!(section(b"400"), [0, 0, 0xff, 4]);
        assert_eq!(section(b"403"), [0, 0, 0xff, 5]);
    }

    /// What would need a dynamic table, and what is malformed, fails the connection.
    #[test]
    fn everything_else_is_refused() {
        let failed = Err(Code::QPACK_DECOMPRESSION_FAILED);
        assert_eq!(decoded(&[0x01, 0x00]), failed, "required insert count");
        assert_eq!(decoded(&[0x00, 0x80]), failed, "negative base");
        assert_eq!(decoded(&[0x00]), failed, "prefix cut short");
        // RFC 9204 appendix B.2 to B.4: right for a peer with a table, which ours has no room for.
        assert_eq!(decoded(&[0x03, 0x81, 0x10, 0x11]), failed, "post-base fields");
        assert_eq!(decoded(&[0x05, 0x00, 0x80, 0xc1, 0x81]), failed, "dynamic fields");
        assert_eq!(decoded(&[0x00, 0x00, 0xff, 0x24]), failed, "static index 99");
        assert_eq!(decoded(&[0x00, 0x00, 0x80]), failed, "dynamic index");
        assert_eq!(decoded(&[0x00, 0x00, 0x10]), failed, "post-base index");
        assert_eq!(decoded(&[0x00, 0x00, 0x50, 0x05, b'a']), failed, "string cut short");
        assert_eq!(decoded(&[0x00, 0x00, 0x50, 0x81, 0x00]), failed, "huffman padding of zeros");
        assert_eq!(decoded(&[0x00, 0x00, 0x50, 0x82, 0x1f, 0xff]), failed, "huffman padding of a byte");
        assert!(check_encoder_stream(&[0x20, 0x20]).is_ok());
        assert!(check_encoder_stream(&[0x3f, 0xbd, 0x01]).is_err(), "appendix B.2: capacity 220");
        assert!(check_encoder_stream(&[0xc0, 0x00]).is_err(), "appendix B.2: insertion");
        let mut stream = DecoderStream::default();
        assert!(stream.handle(&[0x44, 0x7f, 0x80]).is_ok());
        assert!(stream.handle(&[0x01, 0x44]).is_ok());
        assert!(stream.handle(&[0x84]).is_err());
    }
}
