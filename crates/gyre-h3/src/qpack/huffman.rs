//! Decoding of Huffman strings.
//!
//! The code is canonical: codes of one length follow each other in the order of their symbols, and shorter ones come
//! first. So the symbols ordered by code, and how many there are of each length, are the whole table.
//!
//! Spec: RFC 7541 section 5.2 and appendix B

/// Code lengths in use, and how many symbols have each.
const LENGTHS: [(u32, usize); 22] = [
    (5, 10),
    (6, 26),
    (7, 32),
    (8, 6),
    (10, 5),
    (11, 3),
    (12, 2),
    (13, 6),
    (14, 2),
    (15, 3),
    (19, 3),
    (20, 8),
    (21, 13),
    (22, 26),
    (23, 29),
    (24, 12),
    (25, 4),
    (26, 15),
    (27, 19),
    (28, 29),
    (30, 3),
    // The end-of-string symbol is the fourth of 30 bits and must not occur.
    (31, 0),
];

/// Symbols in the order of their codes.
#[rustfmt::skip]
const SYMBOLS: [u8; 256] = [
    b'0', b'1', b'2', b'a', b'c', b'e', b'i', b'o', b's', b't',
    b' ', b'%', b'-', b'.', b'/', b'3', b'4', b'5', b'6', b'7', b'8', b'9', b'=', b'A', b'_', b'b', b'd', b'f', b'g',
    b'h', b'l', b'm', b'n', b'p', b'r', b'u',
    b':', b'B', b'C', b'D', b'E', b'F', b'G', b'H', b'I', b'J', b'K', b'L', b'M', b'N', b'O', b'P', b'Q', b'R', b'S',
    b'T', b'U', b'V', b'W', b'Y', b'j', b'k', b'q', b'v', b'w', b'x', b'y', b'z',
    b'&', b'*', b',', b';', b'X', b'Z',
    b'!', b'"', b'(', b')', b'?',
    b'\'', b'+', b'|',
    b'#', b'>',
    0, b'$', b'@', b'[', b']', b'~',
    b'^', b'}',
    b'<', b'`', b'{',
    b'\\', 195, 208,
    128, 130, 131, 162, 184, 194, 224, 226,
    153, 161, 167, 172, 176, 177, 179, 209, 216, 217, 227, 229, 230,
    129, 132, 133, 134, 136, 146, 154, 156, 160, 163, 164, 169, 170, 173, 178, 181, 185, 186, 187, 189, 190, 196, 198,
    228, 232, 233,
    1, 135, 137, 138, 139, 140, 141, 143, 147, 149, 150, 151, 152, 155, 157, 158, 165, 166, 168, 174, 175, 180, 182,
    183, 188, 191, 197, 231, 239,
    9, 142, 144, 145, 148, 159, 171, 206, 215, 225, 236, 237,
    199, 207, 234, 235,
    192, 193, 200, 201, 202, 205, 210, 213, 218, 219, 238, 240, 242, 243, 255,
    203, 204, 211, 212, 214, 221, 222, 223, 241, 244, 245, 246, 247, 248, 250, 251, 252, 253, 254,
    2, 3, 4, 5, 6, 7, 8, 11, 12, 14, 15, 16, 17, 18, 19, 20, 21, 23, 24, 25, 26, 27, 28, 29, 30, 31, 127, 220, 249,
    10, 13, 22,
];

/// Decodes a string; `None` if it is malformed: padding of a whole byte or more, or not of ones.
pub(super) fn decode(text: &[u8]) -> Option<Vec<u8>> {
    // No code is shorter than five bits, which bounds the output by the input.
    let mut out = Vec::with_capacity(text.len() * 8 / 5);
    let mut bits = text.iter().flat_map(|byte| (0..8).rev().map(move |i| u32::from(byte >> i & 1)));
    loop {
        let (mut code, mut length) = (0, 0);
        // The first code of the current length, and the symbols before it.
        let (mut first, mut before, mut first_length) = (0, 0, 0);
        'symbol: {
            for (wanted, count) in LENGTHS {
                first <<= wanted - first_length;
                first_length = wanted;
                while length < wanted {
                    let Some(bit) = bits.next() else {
                        let is_padding = length < 8 && code == (1 << length) - 1;
                        return is_padding.then_some(out);
                    };
                    code = code << 1 | bit;
                    length += 1;
                }
                let index = code - first;
                if (index as usize) < count {
                    out.push(SYMBOLS[before + index as usize]);
                    break 'symbol;
                }
                first += count as u32;
                before += count;
            }
            return None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The table is complete: every byte once, and the code space is used up by them and the end-of-string symbol.
    #[test]
    fn table_is_complete() {
        let mut seen = SYMBOLS;
        seen.sort_unstable();
        assert!(seen.iter().enumerate().all(|(i, &symbol)| i == usize::from(symbol)));
        let used: u64 = LENGTHS.iter().map(|&(length, count)| (count as u64) << (31 - length)).sum();
        assert_eq!(used + (1 << 1), 1 << 31);
    }

    /// Strings of RFC 7541 appendix C.6, which use rare symbols and many lengths.
    #[test]
    fn decodes_strings_of_the_rfc() {
        let date = [
            0xd0, 0x7a, 0xbe, 0x94, 0x10, 0x54, 0xd4, 0x44, 0xa8, 0x20, 0x05, 0x95, 0x04, 0x0b, 0x81, 0x66,
            0xe0, 0x82, 0xa6, 0x2d, 0x1b, 0xff,
        ];
        assert_eq!(decode(&date).as_deref(), Some(&b"Mon, 21 Oct 2013 20:13:21 GMT"[..]));
        let location = [
            0x9d, 0x29, 0xad, 0x17, 0x18, 0x63, 0xc7, 0x8f, 0x0b, 0x97, 0xc8, 0xe9, 0xae, 0x82, 0xae, 0x43,
            0xd3,
        ];
        assert_eq!(decode(&location).as_deref(), Some(&b"https://www.example.com"[..]));
    }
}
