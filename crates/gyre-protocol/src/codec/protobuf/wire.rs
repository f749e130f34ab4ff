//! Protobuf below any message: fields, their values, and messages being written.
//!
//! Spec: protobuf.dev, "Encoding"

use std::borrow::Cow;

use super::{VARINT_BYTES_MAX, read_length};
use crate::codec::DecodeError;

pub(crate) type Read<T> = Result<T, DecodeError>;

/// The value of a field, and where it began.
#[derive(Clone, Copy, Debug)]
pub struct Value<'a> {
    at: usize,
    kind: Kind<'a>,
}

#[derive(Clone, Copy, Debug)]
enum Kind<'a> {
    Varint(u64),
    Bytes(&'a [u8]),
    /// Fixed 32 or 64 bits: no field of the protocol has them.
    Fixed,
}

impl<'a> Value<'a> {
    /// A whole message as the value of a field.
    pub(crate) fn message(bytes: &'a [u8]) -> Self {
        Self { at: 0, kind: Kind::Bytes(bytes) }
    }

    pub(super) fn at(self) -> usize {
        self.at
    }

    /// A number. 32 bits and signed ones are its lower bits.
    ///
    /// # Errors
    /// If it has another wire type.
    pub fn varint(self) -> Read<u64> {
        match self.kind {
            Kind::Varint(value) => Ok(value),
            _ => Err(DecodeError::Protobuf { at: self.at, expected: "a varint" }),
        }
    }

    /// A switch.
    ///
    /// # Errors
    /// As [`Self::varint`].
    pub fn bool(self) -> Read<bool> {
        self.varint().map(|value| value != 0)
    }

    /// The bytes of a payload or of a nested message.
    ///
    /// # Errors
    /// If it has another wire type.
    pub fn bytes(self) -> Read<&'a [u8]> {
        match self.kind {
            Kind::Bytes(bytes) => Ok(bytes),
            _ => Err(DecodeError::Protobuf { at: self.at, expected: "a length-delimited field" }),
        }
    }

    pub(super) fn data(self) -> Read<Cow<'a, [u8]>> {
        self.bytes().map(Cow::Borrowed)
    }

    /// Text.
    ///
    /// # Errors
    /// If it has another wire type, or is not UTF-8.
    pub fn string(self) -> Read<Cow<'a, str>> {
        match std::str::from_utf8(self.bytes()?) {
            Ok(text) => Ok(Cow::Borrowed(text)),
            Err(_) => Err(DecodeError::Protobuf { at: self.at, expected: "UTF-8" }),
        }
    }
}

/// Calls `field` with the number and value of every field of a message.
///
/// # Errors
/// What `field` says, or [`DecodeError::Protobuf`] with the place.
pub fn each_field<'a>(bytes: &'a [u8], mut field: impl FnMut(u64, Value<'a>) -> Read<()>) -> Read<()> {
    let mut at = 0;
    while at < bytes.len() {
        let tag = varint_at(bytes, &mut at)?;
        let start = at;
        let kind = match tag & 7 {
            0 => Kind::Varint(varint_at(bytes, &mut at)?),
            1 => fixed(bytes, &mut at, 8)?,
            2 => {
                let length = varint_at(bytes, &mut at)?;
                let rest = &bytes[at..];
                if length > rest.len() as u64 {
                    return Err(DecodeError::Protobuf { at: start, expected: "the rest of a field" });
                }
                at += length as usize;
                Kind::Bytes(&rest[..length as usize])
            }
            5 => fixed(bytes, &mut at, 4)?,
            _ => return Err(DecodeError::Protobuf { at: start, expected: "a known wire type" }),
        };
        if tag >> 3 == 0 {
            return Err(DecodeError::Protobuf { at: start, expected: "a field number" });
        }
        field(tag >> 3, Value { at: start, kind })?;
    }
    Ok(())
}

fn fixed<'a>(bytes: &'a [u8], at: &mut usize, size: usize) -> Read<Kind<'a>> {
    if bytes.len() - *at < size {
        return Err(DecodeError::Protobuf { at: *at, expected: "the rest of a field" });
    }
    *at += size;
    Ok(Kind::Fixed)
}

fn varint_at(bytes: &[u8], at: &mut usize) -> Read<u64> {
    match read_length(&bytes[*at..])? {
        Some((value, size)) => {
            *at += size;
            Ok(value)
        }
        None => Err(DecodeError::Protobuf { at: *at, expected: "the rest of a varint" }),
    }
}

/// Adds an entry to a map; the last of equal keys wins.
pub fn put<'a, T>(map: &mut Vec<(Cow<'a, str>, T)>, key: Cow<'a, str>, value: T) {
    match map.iter_mut().find(|(known, _)| *known == key) {
        Some(known) => known.1 = value,
        None => map.push((key, value)),
    }
}

/// Reads an entry of a map field: key 1, value 2.
///
/// # Errors
/// [`DecodeError::Protobuf`] with the place.
pub fn entry<'a, T>(
    value: Value<'a>,
    mut read: impl FnMut(Value<'a>) -> Read<T>,
) -> Read<(Cow<'a, str>, Option<T>)> {
    let (mut key, mut content) = (Cow::Borrowed(""), None);
    each_field(value.bytes()?, |number, v| {
        match number {
            1 => key = v.string()?,
            2 => content = Some(read(v)?),
            _ => {}
        }
        Ok(())
    })?;
    Ok((key, content))
}

/// Reads a message into a value of fields with defaults.
macro_rules! message {
    ($value:expr, $type:ty; $m:ident, $v:ident; $($number:literal => $read:expr;)*) => {{
        let mut $m = <$type>::default();
        each_field($value.bytes()?, |number, $v| {
            match number {
                $($number => $read,)*
                _ => {}
            }
            Ok(())
        })?;
        Ok($m)
    }};
}
pub(crate) use message;

/// A message being appended. Fields with the value zero are left out.
///
/// A nested message is written first and its length put before it afterwards: most lengths take one byte, for which
/// room is left, so the move is rare.
#[derive(Debug)]
pub struct Message<'a>(&'a mut Vec<u8>);

impl<'a> Message<'a> {
    /// A message at the end of `out`.
    pub fn new(out: &'a mut Vec<u8>) -> Self {
        Self(out)
    }

    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    /// A number, as a varint; a negative one as its 64 bits.
    pub fn uint(&mut self, number: u64, value: u64) {
        if value != 0 {
            self.varint(number << 3);
            self.varint(value);
        }
    }

    /// A number in 8 bytes; those of another type as their bits.
    pub fn fixed64(&mut self, number: u64, value: u64) {
        if value != 0 {
            self.varint(number << 3 | 1);
            self.0.extend_from_slice(&value.to_le_bytes());
        }
    }

    /// A switch.
    pub fn bool(&mut self, number: u64, value: bool) {
        self.uint(number, value.into());
    }

    /// A payload.
    pub fn bytes(&mut self, number: u64, value: &[u8]) {
        if !value.is_empty() {
            self.varint(number << 3 | 2);
            self.varint(value.len() as u64);
            self.0.extend_from_slice(value);
        }
    }

    /// One of a list of texts, an empty one as well.
    pub fn item(&mut self, number: u64, value: &str) {
        self.message(number, |m| m.0.extend_from_slice(value.as_bytes()));
    }

    /// Text.
    pub fn string(&mut self, number: u64, value: &str) {
        self.bytes(number, value.as_bytes());
    }

    /// A nested message, an empty one as well.
    pub fn message(&mut self, number: u64, body: impl FnOnce(&mut Message<'_>)) {
        self.varint(number << 3 | 2);
        let start = self.0.len();
        self.0.push(0);
        body(self);
        let length = self.0.len() - start - 1;
        if length < 0x80 {
            self.0[start] = length as u8;
            return;
        }
        let mut prefix = Vec::with_capacity(VARINT_BYTES_MAX);
        Message::new(&mut prefix).varint(length as u64);
        self.0.splice(start..=start, prefix);
    }

    /// A map of strings.
    pub fn tags(&mut self, number: u64, tags: &[(Box<str>, Box<str>)]) {
        for (key, value) in tags {
            self.message(number, |m| {
                m.string(1, key);
                m.string(2, value);
            });
        }
    }
}
