//! Commands on a byte stream, where chunks end anywhere.

use bytes::{Buf, Bytes, BytesMut};

use super::{DecodeError, Encoding, protobuf};

/// Splits a byte stream into commands. Holds at most one incomplete command, bounded by the limit; a chunk that holds
/// whole commands is handed out without copying.
#[derive(Debug)]
pub struct StreamDecoder {
    encoding: Encoding,
    limit: usize,
    partial: BytesMut,
    chunk: Bytes,
}

impl StreamDecoder {
    /// A decoder for commands of at most `limit` bytes; the line feed or length prefix is not counted.
    pub fn new(encoding: Encoding, limit: usize) -> Self {
        Self { encoding, limit, partial: BytesMut::new(), chunk: Bytes::new() }
    }

    /// Takes the next chunk. Call [`Self::next_command`] until `None` before the next one.
    pub fn push(&mut self, chunk: Bytes) {
        if self.chunk.is_empty() {
            self.chunk = chunk;
        } else {
            let mut joined = BytesMut::from(&self.chunk[..]);
            joined.extend_from_slice(&chunk);
            self.chunk = joined.freeze();
        }
    }

    /// The next complete command, without line feed or length prefix.
    ///
    /// # Errors
    /// If it exceeds the limit, a length prefix is malformed, or a line is blank. The stream cannot go on after that.
    pub fn next_command(&mut self) -> Result<Option<Bytes>, DecodeError> {
        match self.encoding {
            Encoding::Json => self.next_line(),
            Encoding::Protobuf => self.next_delimited(),
        }
    }

    fn next_line(&mut self) -> Result<Option<Bytes>, DecodeError> {
        let Some(end) = memchr::memchr(b'\n', &self.chunk) else {
            self.keep_partial(self.limit)?;
            return Ok(None);
        };
        let tail = self.chunk.split_to(end);
        self.chunk.advance(1);
        let line = self.completed(tail);
        if line.len() > self.limit {
            return Err(DecodeError::TooLarge { limit: self.limit });
        }
        if line.trim_ascii().is_empty() {
            return Err(DecodeError::NoCommand);
        }
        Ok(Some(line))
    }

    fn next_delimited(&mut self) -> Result<Option<Bytes>, DecodeError> {
        if !self.partial.is_empty() {
            let chunk = std::mem::take(&mut self.chunk);
            self.partial.extend_from_slice(&chunk);
            self.chunk = std::mem::take(&mut self.partial).freeze();
        }
        if self.chunk.is_empty() {
            return Ok(None);
        }
        match protobuf::read_length(&self.chunk)? {
            Some((length, _)) if length > self.limit as u64 => {
                Err(DecodeError::TooLarge { limit: self.limit })
            }
            Some((length, header)) if self.chunk.len() - header >= length as usize => {
                self.chunk.advance(header);
                Ok(Some(self.chunk.split_to(length as usize)))
            }
            _ => {
                self.keep_partial(self.limit + protobuf::VARINT_BYTES_MAX)?;
                Ok(None)
            }
        }
    }

    /// Moves the incomplete rest of the chunk aside, so that the chunk's memory is not held by it.
    fn keep_partial(&mut self, limit: usize) -> Result<(), DecodeError> {
        let chunk = std::mem::take(&mut self.chunk);
        if self.partial.len() + chunk.len() > limit {
            return Err(DecodeError::TooLarge { limit: self.limit });
        }
        self.partial.extend_from_slice(&chunk);
        Ok(())
    }

    fn completed(&mut self, tail: Bytes) -> Bytes {
        if self.partial.is_empty() {
            return tail;
        }
        self.partial.extend_from_slice(&tail);
        std::mem::take(&mut self.partial).freeze()
    }
}
