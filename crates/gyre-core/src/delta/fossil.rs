//! The Fossil delta format: a target as copies from a base and literal bytes.
//!
//! A patch is the target's length, a line feed, operations, and the target's checksum. `N@O,` copies N bytes from offset O
//! of the base, `N:` inserts the N bytes that follow, `C;` ends. Numbers are in base 64.
//!
//! What the ends of base and target have in common needs no search; between them every window of the target is looked up
//! among windows of the base. Time is linear in both, and the index has at most [`WINDOWS_MAX`] entries.
//!
//! Spec: Fossil documentation, "Fossil Delta Format"

/// Bytes of a window: what a match has at least. One load and one multiplication hash it.
const WINDOW: usize = 8;
/// Distance of the base's indexed windows: finds every match of 11 bytes. Bases above 256 KiB are indexed more coarsely.
const STEP: usize = 4;
/// Windows of the base in the index: 768 KiB of memory, for the time of one call.
const WINDOWS_MAX: usize = 1 << 16;
/// Windows with one hash that are tried: bounds the time for bases that repeat themselves.
const TRIES_MAX: usize = 8;
/// Bytes of a character after its first one, at most.
const CONTINUATION_MAX: usize = 3;
/// End of a chain in the index.
const NONE: u32 = u32::MAX;

/// A patch that makes `target` out of `base`; `None` if it would not be shorter than the target.
///
/// If the target is UTF-8, so is the patch: no operation begins or ends inside a character.
pub fn patch(base: &[u8], target: &[u8]) -> Option<Vec<u8>> {
    // Positions of the index and lengths of the format are 32 bits.
    if base.len().max(target.len()) >= NONE as usize {
        return None;
    }
    let mut patch = Patch { target, literal: 0, out: Vec::with_capacity(target.len().min(256)) };
    put_number(target.len() as u32, &mut patch.out);
    patch.out.push(b'\n');
    let prefix = common_prefix(base, target);
    let suffix = common_suffix(&base[prefix..], &target[prefix..]);
    patch.copy(Match { from: 0, to: 0, length: prefix });
    let end = target.len() - suffix;
    if end - prefix >= WINDOW && base.len() >= WINDOW {
        patch.search(base, prefix, end)?;
    }
    patch.copy(Match { from: base.len() - suffix, to: end, length: suffix });
    patch.insert(target.len());
    put_number(checksum(target), &mut patch.out);
    patch.out.push(b';');
    (patch.out.len() < target.len()).then_some(patch.out)
}

/// A patch being written.
struct Patch<'a> {
    target: &'a [u8],
    /// How much of the target is written.
    literal: usize,
    out: Vec<u8>,
}

/// Equal bytes of base and target.
#[derive(Clone, Copy)]
struct Match {
    from: usize,
    to: usize,
    length: usize,
}

impl Patch<'_> {
    /// Writes matches for the target between `start` and `end`; `None` once the patch is as long as the target.
    fn search(&mut self, base: &[u8], start: usize, end: usize) -> Option<()> {
        let index = Index::new(base);
        let mut at = start;
        while at + WINDOW <= end {
            match index.longest(base, &self.target[..end], at).map(|found| found.extended_back(base, self)) {
                Some(found) if self.copy(found) => at = self.literal.max(at + 1),
                _ => at += 1,
            }
            if self.out.len() >= self.target.len() {
                return None;
            }
        }
        Some(())
    }

    /// Writes a copy, and before it what was not written yet. False if inserting the bytes is not longer.
    fn copy(&mut self, found: Match) -> bool {
        let found = found.between_characters(self.target);
        // The operation itself, and the insert it splits in two.
        let cost = digits(found.length) + digits(found.from) + 2 + digits(self.target.len()) + 1;
        if found.length <= cost {
            return false;
        }
        self.insert(found.to);
        put_number(found.length as u32, &mut self.out);
        self.out.push(b'@');
        put_number(found.from as u32, &mut self.out);
        self.out.push(b',');
        self.literal = found.to + found.length;
        true
    }

    /// Writes the target up to `end` as it is.
    fn insert(&mut self, end: usize) {
        if self.literal < end {
            let bytes = &self.target[self.literal..end];
            put_number(bytes.len() as u32, &mut self.out);
            self.out.push(b':');
            self.out.extend_from_slice(bytes);
            self.literal = end;
        }
    }
}

impl Match {
    /// The match and what is equal before it, as far as it is not written.
    fn extended_back(self, base: &[u8], patch: &Patch<'_>) -> Self {
        let more = common_suffix(&base[..self.from], &patch.target[patch.literal..self.to]);
        Self { from: self.from - more, to: self.to - more, length: self.length + more }
    }

    /// The match without the parts of characters at its ends.
    fn between_characters(mut self, target: &[u8]) -> Self {
        let is_inside = |at: usize| target.get(at).is_some_and(|byte| byte & 0xc0 == 0x80);
        for _ in 0..CONTINUATION_MAX {
            if self.length > 0 && is_inside(self.to) {
                self = Self { from: self.from + 1, to: self.to + 1, length: self.length - 1 };
            }
            if self.length > 0 && is_inside(self.to + self.length) {
                self.length -= 1;
            }
        }
        self
    }
}

/// Windows of the base by hash; those with one hash form a chain.
struct Index {
    step: usize,
    shift: u32,
    heads: Vec<u32>,
    /// By number of the window: the number of the next one.
    chain: Vec<u32>,
}

impl Index {
    fn new(base: &[u8]) -> Self {
        let step = STEP.max(base.len().div_ceil(WINDOWS_MAX));
        let count = (base.len() - WINDOW) / step + 1;
        let bits = (count * 2).next_power_of_two().trailing_zeros();
        let mut index =
            Self { step, shift: u64::BITS - bits, heads: vec![NONE; 1 << bits], chain: vec![NONE; count] };
        // Backwards, so that the first windows are found first.
        for number in (0..count).rev() {
            let bucket = index.bucket(base, number * step);
            index.chain[number] = std::mem::replace(&mut index.heads[bucket], number as u32);
        }
        index
    }

    fn bucket(&self, bytes: &[u8], at: usize) -> usize {
        let mut window = [0; WINDOW];
        window.copy_from_slice(&bytes[at..at + WINDOW]);
        // Multiplicative hashing by the golden ratio: the high bits are the mixed ones.
        (u64::from_le_bytes(window).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> self.shift) as usize
    }

    /// The longest of the matches tried that begin at this place of the target.
    fn longest(&self, base: &[u8], target: &[u8], at: usize) -> Option<Match> {
        let mut number = self.heads[self.bucket(target, at)];
        let mut longest = Match { from: 0, to: at, length: WINDOW - 1 };
        for _ in 0..TRIES_MAX {
            if number == NONE {
                break;
            }
            let from = number as usize * self.step;
            let length = common_prefix(&base[from..], &target[at..]);
            if length > longest.length {
                longest = Match { from, to: at, length };
            }
            number = self.chain[number as usize];
        }
        (longest.length >= WINDOW).then_some(longest)
    }
}

fn common_prefix(a: &[u8], b: &[u8]) -> usize {
    // By words first: payloads that are published with delta are mostly equal.
    let words = a.chunks_exact(WINDOW).zip(b.chunks_exact(WINDOW)).take_while(|(a, b)| a == b).count();
    let equal = words * WINDOW;
    equal + a[equal..].iter().zip(&b[equal..]).take_while(|(a, b)| a == b).count()
}

fn common_suffix(a: &[u8], b: &[u8]) -> usize {
    a.iter().rev().zip(b.iter().rev()).take_while(|(a, b)| a == b).count()
}

/// The sum of the bytes read as big-endian 32-bit words, zeros added at the end.
fn checksum(bytes: &[u8]) -> u32 {
    bytes.chunks(4).fold(0, |sum: u32, chunk| {
        let mut word = [0; 4];
        word[..chunk.len()].copy_from_slice(chunk);
        sum.wrapping_add(u32::from_be_bytes(word))
    })
}

/// Digits of a number in base 64.
fn digits(number: usize) -> usize {
    (usize::BITS - (number | 1).leading_zeros()).div_ceil(6) as usize
}

/// Appends a number in base 64, most significant digit first.
fn put_number(number: u32, out: &mut Vec<u8>) {
    const DIGITS: &[u8; 64] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz~";
    for place in (0..digits(number as usize)).rev() {
        out.push(DIGITS[(number >> (6 * place)) as usize & 63]);
    }
}

#[cfg(test)]
mod tests;
