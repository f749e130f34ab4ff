//! Frames waiting to be written to one connection.

use std::{collections::VecDeque, io::IoSlice};

use bytes::{Buf, Bytes};

/// Frames in order. Holds one without an allocation, because that is the usual case; nothing is kept while idle.
#[derive(Debug, Default)]
pub struct Queue {
    first: Bytes,
    #[expect(
        clippy::box_collection,
        reason = "empty almost always, and then 8 bytes instead of 32 a connection"
    )]
    rest: Option<Box<VecDeque<Bytes>>>,
    bytes: usize,
}

impl Queue {
    /// Appends a frame.
    pub fn push(&mut self, frame: Bytes) {
        self.bytes += frame.len();
        if self.first.is_empty() {
            self.first = frame;
        } else {
            self.rest.get_or_insert_default().push_back(frame);
        }
    }

    /// Bytes waiting.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// True if nothing waits.
    pub fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// Forgets everything but a frame whose beginning is already on its way, which the peer could not parse without
    /// its end.
    pub fn clear_unstarted(&mut self, first_is_started: bool) {
        self.rest = None;
        if !first_is_started {
            self.first = Bytes::new();
        }
        self.bytes = self.first.len();
    }

    /// What waits, if it is a single frame.
    pub fn only_frame(&self) -> Option<&[u8]> {
        (self.bytes == self.first.len() && self.bytes > 0).then_some(&*self.first)
    }

    /// Fills `slices` with the waiting bytes, oldest first; returns how many were used.
    pub fn fill<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let frames = std::iter::once(&self.first).chain(self.rest.iter().flat_map(|rest| rest.iter()));
        let mut used = 0;
        for (slice, frame) in slices.iter_mut().zip(frames.filter(|frame| !frame.is_empty())) {
            *slice = IoSlice::new(frame);
            used += 1;
        }
        used
    }

    /// Removes that many bytes from the front. True if the frame that is now first was begun.
    pub fn advance(&mut self, mut written: usize) -> bool {
        self.bytes -= written;
        while written >= self.first.len() {
            written -= self.first.len();
            match self.rest.as_mut().and_then(|rest| rest.pop_front()) {
                Some(next) => self.first = next,
                None => {
                    self.first = Bytes::new();
                    self.rest = None;
                    return false;
                }
            }
        }
        self.first.advance(written);
        written > 0
    }

    /// Takes the oldest frame.
    pub fn pop(&mut self) -> Option<Bytes> {
        if self.first.is_empty() {
            return None;
        }
        let next = self.rest.as_mut().and_then(|rest| rest.pop_front());
        if next.is_none() {
            self.rest = None;
        }
        let frame = std::mem::replace(&mut self.first, next.unwrap_or_default());
        self.bytes -= frame.len();
        Some(frame)
    }

    /// Puts a frame, or what is left of it, back to the front.
    pub fn put_back(&mut self, frame: Bytes) {
        self.bytes += frame.len();
        let second = std::mem::replace(&mut self.first, frame);
        if !second.is_empty() {
            self.rest.get_or_insert_default().push_front(second);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whatever the sizes of frames and writes, the bytes come out in order: compared with their concatenation.
    #[test]
    fn gives_back_the_bytes_in_order() {
        for step in 1..12 {
            let mut queue = Queue::default();
            let frames = ["a", "bc", "def", "ghij", "klmno"];
            frames.iter().for_each(|frame| queue.push(Bytes::from_static(frame.as_bytes())));
            let mut seen = Vec::new();
            while !queue.is_empty() {
                let mut slices = [IoSlice::new(&[]); 3];
                let used = queue.fill(&mut slices);
                assert_eq!(queue.only_frame(), (used == 1).then_some(&*slices[0]));
                let bytes: Vec<u8> = slices[..used].iter().flat_map(|slice| slice.iter().copied()).collect();
                let written = step.min(bytes.len());
                seen.extend_from_slice(&bytes[..written]);
                queue.advance(written);
            }
            assert_eq!(seen, b"abcdefghijklmno");
            assert_eq!(queue.bytes(), 0);
        }
    }

    /// A frame that was begun survives a clear; one that was not does not.
    #[test]
    fn clear_keeps_only_a_begun_frame() {
        let mut queue = Queue::default();
        queue.push(Bytes::from_static(b"abc"));
        queue.push(Bytes::from_static(b"def"));
        assert!(queue.advance(1));
        queue.clear_unstarted(true);
        assert_eq!(queue.pop().as_deref(), Some(&b"bc"[..]));
        assert!(queue.pop().is_none());
    }
}
