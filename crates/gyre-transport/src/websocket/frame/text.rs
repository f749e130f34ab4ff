//! Tells as early as possible that a text is not UTF-8, in whatever pieces it comes.

use std::str::from_utf8;

use super::FrameError;

/// What is known of a text so far: all of it is characters but for the beginning of one.
///
/// Spec: RFC 6455 section 8.1
#[derive(Debug, Default)]
pub(super) struct TextCheck {
    begun: [u8; 3],
    length: usize,
}

impl TextCheck {
    /// Takes the next piece.
    ///
    /// # Errors
    /// If no continuation could make it a text.
    pub(super) fn push(&mut self, piece: &[u8]) -> Result<(), FrameError> {
        let mut rest = piece.iter();
        while self.length > 0 {
            let Some(&byte) = rest.next() else { return Ok(()) };
            let mut character = [0; 4];
            character[..self.length].copy_from_slice(&self.begun[..self.length]);
            character[self.length] = byte;
            self.take(&character[..=self.length])?;
        }
        self.take(rest.as_slice())
    }

    /// Ends the text.
    ///
    /// # Errors
    /// If it ends within a character.
    pub(super) fn finish(&mut self) -> Result<(), FrameError> {
        match std::mem::take(&mut self.length) {
            0 => Ok(()),
            _ => Err(FrameError::Text),
        }
    }

    /// Looks at bytes that begin with a character.
    fn take(&mut self, bytes: &[u8]) -> Result<(), FrameError> {
        let tail = match from_utf8(bytes) {
            Ok(_) => &[],
            Err(error) if error.error_len().is_none() => &bytes[error.valid_up_to()..],
            Err(_) => return Err(FrameError::Text),
        };
        self.length = tail.len();
        self.begun[..tail.len()].copy_from_slice(tail);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// However a text is cut, it is taken; and bytes are refused in pieces exactly if they are as a whole, at the very
        /// byte that settles it.
        #[test]
        fn pieces_are_judged_like_the_whole(
            text: String,
            noise in proptest::collection::vec(prop_oneof![any::<u8>(), Just(0xf4), Just(0x8f), Just(0xc3)], 0..12),
            size in 1usize..6,
        ) {
            let bytes = [text.as_bytes(), &noise].concat();
            let mut check = TextCheck::default();
            let mut taken = 0;
            let refused = bytes.chunks(size).find_map(|piece| {
                taken += piece.len();
                check.push(piece).err()
            });
            match from_utf8(&bytes) {
                Err(error) if error.error_len().is_some() => {
                    prop_assert_eq!(refused, Some(FrameError::Text));
                    // All but the last piece could still have become a text.
                    let before = &bytes[..taken - (taken - 1) % size - 1];
                    prop_assert!(from_utf8(before).err().is_none_or(|error| error.error_len().is_none()));
                }
                whole => {
                    prop_assert_eq!(refused, None);
                    prop_assert_eq!(check.finish().is_ok(), whole.is_ok());
                }
            }
        }
    }
}
