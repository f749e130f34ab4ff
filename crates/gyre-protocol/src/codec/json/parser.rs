//! A JSON reader for messages whose shape is known: no tree, no recursion, no allocation for plain strings.

use std::borrow::Cow;

use crate::codec::{DEPTH_MAX, DecodeError};

/// Reads JSON from a text that has been found to be UTF-8.
#[derive(Debug)]
pub(crate) struct Parser<'a> {
    text: &'a str,
    at: usize,
}

type Read<T> = Result<T, DecodeError>;

impl<'a> Parser<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Read<Self> {
        match std::str::from_utf8(bytes) {
            Ok(text) => Ok(Self { text, at: 0 }),
            Err(error) => Err(DecodeError::Json { at: error.valid_up_to(), expected: "UTF-8" }),
        }
    }

    /// Reads an object, handing each key to `field`, which reads the value and returns true, or returns false for an
    /// unknown key. A key that is unknown as it is gets a second chance in lower case. `null` is an absent object:
    /// false.
    pub(crate) fn object(&mut self, mut field: impl FnMut(&mut Self, &str) -> Read<bool>) -> Read<bool> {
        if self.null()? {
            return Ok(false);
        }
        self.expect(b'{', "an object")?;
        if self.peek() == Some(b'}') {
            self.at += 1;
            return Ok(true);
        }
        loop {
            let key = self.string_token()?;
            self.expect(b':', "a colon")?;
            let is_known = field(self, &key)?
                || (key.bytes().any(|b| b.is_ascii_uppercase()) && field(self, &key.to_ascii_lowercase())?);
            if !is_known {
                self.raw()?;
            }
            match self.next_byte() {
                Some(b',') => {}
                Some(b'}') => return Ok(true),
                _ => return Err(self.error_before("a comma or the end of the object")),
            }
        }
    }

    /// Reads an object whose keys are data; `null` is an empty one.
    pub(crate) fn entries(&mut self, mut entry: impl FnMut(&mut Self, Cow<'a, str>) -> Read<()>) -> Read<()> {
        if self.null()? {
            return Ok(());
        }
        self.expect(b'{', "an object")?;
        if self.peek() == Some(b'}') {
            self.at += 1;
            return Ok(());
        }
        loop {
            let key = self.string_token()?;
            self.expect(b':', "a colon")?;
            entry(self, key)?;
            match self.next_byte() {
                Some(b',') => {}
                Some(b'}') => return Ok(()),
                _ => return Err(self.error_before("a comma or the end of the object")),
            }
        }
    }

    /// Reads an array; `null` is an empty one.
    pub(crate) fn array(&mut self, mut item: impl FnMut(&mut Self) -> Read<()>) -> Read<()> {
        if self.null()? {
            return Ok(());
        }
        self.expect(b'[', "an array")?;
        if self.peek() == Some(b']') {
            self.at += 1;
            return Ok(());
        }
        loop {
            item(self)?;
            match self.next_byte() {
                Some(b',') => {}
                Some(b']') => return Ok(()),
                _ => return Err(self.error_before("a comma or the end of the array")),
            }
        }
    }

    /// Reads a string; `null` is the empty one.
    pub(crate) fn string(&mut self) -> Read<Cow<'a, str>> {
        if self.null()? { Ok(Cow::Borrowed("")) } else { self.string_token() }
    }

    /// Reads a boolean; `null` is false.
    pub(crate) fn bool(&mut self) -> Read<bool> {
        if self.null()? {
            return Ok(false);
        }
        match self.peek() {
            Some(b't') => self.literal("true").map(|()| true),
            _ => self.literal("false").map(|()| false),
        }
    }

    /// Reads an integer in the range of `T`; `null` is 0.
    pub(crate) fn integer<T: TryFrom<i128> + Default>(&mut self) -> Read<T> {
        if self.null()? {
            return Ok(T::default());
        }
        self.skip_space();
        let start = self.at;
        let negative = self.eat(b'-');
        let digits = self.at;
        let mut value: i128 = 0;
        while let Some(digit @ b'0'..=b'9') = self.byte() {
            value = value * 10 + i128::from(digit - b'0');
            self.at += 1;
            if value > i128::from(u64::MAX) {
                return Err(DecodeError::Json { at: start, expected: "an integer in range" });
            }
        }
        let has_leading_zero = self.at - digits > 1 && self.text.as_bytes()[digits] == b'0';
        if self.at == digits || has_leading_zero || matches!(self.byte(), Some(b'.' | b'e' | b'E')) {
            return Err(DecodeError::Json { at: start, expected: "an integer" });
        }
        let value = if negative { -value } else { value };
        T::try_from(value).map_err(|_| DecodeError::Json { at: start, expected: "an integer in range" })
    }

    /// Reads any value and returns its exact bytes. Containers nest at most [`DEPTH_MAX`] deep.
    pub(crate) fn raw(&mut self) -> Read<&'a [u8]> {
        self.skip_space();
        let start = self.at;
        // One bit a level: 1 for an object, 0 for an array.
        let mut kinds: u64 = 0;
        let mut depth = 0;
        loop {
            match self.peek() {
                Some(open @ (b'{' | b'[')) => {
                    self.at += 1;
                    if depth == DEPTH_MAX {
                        return Err(self.error("less depth"));
                    }
                    kinds = kinds << 1 | u64::from(open == b'{');
                    depth += 1;
                    let close = if open == b'{' { b'}' } else { b']' };
                    if self.peek() != Some(close) {
                        if open == b'{' {
                            self.key()?;
                        }
                        continue;
                    }
                }
                _ => self.scalar()?,
            }
            // A value is complete: go on in its container, closing as many as end here.
            loop {
                if depth == 0 {
                    return Ok(&self.text.as_bytes()[start..self.at]);
                }
                let is_object = kinds & 1 == 1;
                match (self.next_byte(), is_object) {
                    (Some(b','), true) => {
                        self.key()?;
                        break;
                    }
                    (Some(b','), false) => break,
                    (Some(b'}'), true) | (Some(b']'), false) => {
                        kinds >>= 1;
                        depth -= 1;
                    }
                    _ => return Err(self.error_before("a comma or the end of the container")),
                }
            }
        }
    }

    /// Nothing but space may be left.
    pub(crate) fn end(&mut self) -> Read<()> {
        match self.peek() {
            None => Ok(()),
            Some(_) => Err(self.error("the end of the message")),
        }
    }

    fn key(&mut self) -> Read<()> {
        self.skip_string()?;
        self.expect(b':', "a colon")
    }

    fn scalar(&mut self) -> Read<()> {
        match self.peek() {
            Some(b'"') => self.skip_string(),
            Some(b't') => self.literal("true"),
            Some(b'f') => self.literal("false"),
            Some(b'n') => self.literal("null"),
            Some(b'-' | b'0'..=b'9') => self.number(),
            _ => Err(self.error("a value")),
        }
    }

    /// Spec: RFC 8259 section 6
    fn number(&mut self) -> Read<()> {
        self.eat(b'-');
        if !self.eat(b'0') {
            self.digits()?;
        }
        if self.eat(b'.') {
            self.digits()?;
        }
        if self.eat(b'e') || self.eat(b'E') {
            if !self.eat(b'+') {
                self.eat(b'-');
            }
            self.digits()?;
        }
        Ok(())
    }

    fn digits(&mut self) -> Read<()> {
        let start = self.at;
        while matches!(self.byte(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        if self.at == start { Err(self.error("a digit")) } else { Ok(()) }
    }

    fn skip_string(&mut self) -> Read<()> {
        self.expect(b'"', "a string")?;
        loop {
            self.skip_plain();
            match self.byte() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(());
                }
                Some(b'\\') => drop(self.escape()?),
                _ => return Err(self.error("the end of the string")),
            }
        }
    }

    fn string_token(&mut self) -> Read<Cow<'a, str>> {
        self.expect(b'"', "a string")?;
        let start = self.at;
        self.skip_plain();
        if self.byte() == Some(b'"') {
            self.at += 1;
            return Ok(Cow::Borrowed(&self.text[start..self.at - 1]));
        }
        let mut owned = String::from(&self.text[start..self.at]);
        loop {
            match self.byte() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(Cow::Owned(owned));
                }
                Some(b'\\') => owned.push(self.escape()?),
                _ => return Err(self.error("the end of the string")),
            }
            let plain = self.at;
            self.skip_plain();
            owned.push_str(&self.text[plain..self.at]);
        }
    }

    /// Skips what needs no decoding: everything up to a quote, a backslash or a control character.
    fn skip_plain(&mut self) {
        let rest = &self.text.as_bytes()[self.at..];
        let plain = rest.iter().position(|&byte| byte == b'"' || byte == b'\\' || byte < 0x20);
        self.at += plain.unwrap_or(rest.len());
    }

    /// Reads an escape sequence. A lone surrogate becomes U+FFFD, as in the reference.
    fn escape(&mut self) -> Read<char> {
        self.at += 1;
        let escape = self.byte().ok_or_else(|| self.error("an escape sequence"))?;
        self.at += 1;
        Ok(match escape {
            b'"' | b'\\' | b'/' => char::from(escape),
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => {
                let unit = self.hex4()?;
                let is_high = (0xd800..0xdc00).contains(&unit);
                let next = self.text.as_bytes().get(self.at..self.at + 2);
                if is_high && next == Some(b"\\u") {
                    let before = self.at;
                    self.at += 2;
                    let low = self.hex4()?;
                    if (0xdc00..0xe000).contains(&low) {
                        let code = 0x10000 + ((unit - 0xd800) << 10) + (low - 0xdc00);
                        return Ok(char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER));
                    }
                    self.at = before;
                }
                char::from_u32(unit).unwrap_or(char::REPLACEMENT_CHARACTER)
            }
            _ => return Err(self.error_before("an escape sequence")),
        })
    }

    fn hex4(&mut self) -> Read<u32> {
        let mut unit = 0;
        for _ in 0..4 {
            let digit = self.byte().and_then(|byte| char::from(byte).to_digit(16));
            unit = unit << 4 | digit.ok_or_else(|| self.error("four hexadecimal digits"))?;
            self.at += 1;
        }
        Ok(unit)
    }

    /// Takes `null`, if it is next.
    pub(crate) fn null(&mut self) -> Read<bool> {
        if self.peek() != Some(b'n') {
            return Ok(false);
        }
        self.literal("null").map(|()| true)
    }

    fn literal(&mut self, literal: &'static str) -> Read<()> {
        self.skip_space();
        if !self.text[self.at..].starts_with(literal) {
            return Err(self.error(literal));
        }
        self.at += literal.len();
        Ok(())
    }

    fn expect(&mut self, byte: u8, expected: &'static str) -> Read<()> {
        match self.next_byte() {
            Some(found) if found == byte => Ok(()),
            _ => Err(self.error_before(expected)),
        }
    }

    fn eat(&mut self, byte: u8) -> bool {
        let is_next = self.byte() == Some(byte);
        self.at += usize::from(is_next);
        is_next
    }

    fn byte(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    /// The next byte that is not space, without taking it.
    pub(crate) fn peek(&mut self) -> Option<u8> {
        self.skip_space();
        self.byte()
    }

    fn next_byte(&mut self) -> Option<u8> {
        let byte = self.peek()?;
        // Never into the middle of a character: a byte that is taken and no delimiter ends the parse.
        self.at += 1;
        Some(byte)
    }

    fn skip_space(&mut self) {
        while let Some(b' ' | b'\t' | b'\r' | b'\n') = self.byte() {
            self.at += 1;
        }
    }

    fn error(&self, expected: &'static str) -> DecodeError {
        DecodeError::Json { at: self.at, expected }
    }

    fn error_before(&self, expected: &'static str) -> DecodeError {
        DecodeError::Json { at: self.at.saturating_sub(1), expected }
    }
}
