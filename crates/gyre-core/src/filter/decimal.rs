//! Decimal numbers of any size, compared as they are written.

use std::cmp::Ordering;

/// A number, as the digits that count before and after its point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Decimal<'a> {
    is_negative: bool,
    /// Without leading zeros.
    integer: &'a str,
    /// Without trailing zeros.
    fraction: &'a str,
}

impl<'a> Decimal<'a> {
    /// Reads an optional sign, digits, and optionally a point and more digits. No exponent, no spaces.
    pub(super) fn parse(text: &'a str) -> Option<Self> {
        let is_digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
        let (integer, fraction) = digits.split_once('.').unwrap_or((digits, "0"));
        if !is_digits(integer) || !is_digits(fraction) {
            return None;
        }
        let (integer, fraction) = (integer.trim_start_matches('0'), fraction.trim_end_matches('0'));
        let is_zero = integer.is_empty() && fraction.is_empty();
        Some(Self { is_negative: text.starts_with('-') && !is_zero, integer, fraction })
    }
}

impl Ord for Decimal<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        // Digits of equal number compare as text does, and so do fractions of any length.
        let size = |number: &Self| (number.integer.len(), number.integer, number.fraction);
        match (self.is_negative, other.is_negative) {
            (false, false) => size(self).cmp(&size(other)),
            (true, true) => size(other).cmp(&size(self)),
            (false, true) => Ordering::Greater,
            (true, false) => Ordering::Less,
        }
    }
}

impl PartialOrd for Decimal<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A list in ascending order, with equal numbers written in several ways: every pair of it is compared.
    #[test]
    fn numbers_have_their_order() {
        let ascending = [
            &["-10000000000000000000000000000001"][..],
            &["-10000000000000000000000000000000"],
            &["-10.5", "-10.50", "-0010.5"],
            &["-2"],
            &["-0.1"],
            &["0", "-0", "+0", "0.0", "-0.00", "000"],
            &["0.000000000000000000000000001"],
            &["0.09"],
            &["0.1", "00.10", "+0.1"],
            &["9", "9.0"],
            &["10", "+10", "010"],
            &["10.49999"],
            &["10.5"],
            &["18446744073709551616"],
            &["18446744073709551616.1"],
        ];
        let parse = |text: &'static str| Decimal::parse(text).unwrap();
        for (i, some) in ascending.iter().enumerate() {
            for (k, others) in ascending.iter().enumerate() {
                for (a, b) in some.iter().flat_map(|a| others.iter().map(move |b| (a, b))) {
                    assert_eq!(parse(a).cmp(&parse(b)), i.cmp(&k), "{a} {b}");
                }
            }
        }
    }

    /// What is no number is not taken for one.
    #[test]
    fn other_text_is_no_number() {
        for text in
            ["", "-", "+", ".", "1.", ".5", "1e3", "1,5", " 1", "1 ", "--1", "+-1", "1.2.3", "x", "NaN", "٣"]
        {
            assert_eq!(Decimal::parse(text), None, "{text}");
        }
    }
}
