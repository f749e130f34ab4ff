//! Durations as Go writes them.
//!
//! Spec: pkg.go.dev/time, ParseDuration

use std::time::Duration;

/// Parses `300ms`, `1.5s`, `1m30s`, `720h`, `0`; a sign is not accepted.
pub fn parse(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let mut rest = text;
    let mut total = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').filter(|&end| end > 0)?;
        let (number, after) = rest.split_at(digits);
        let unit_end = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, after) = after.split_at(unit_end);
        let seconds = match unit {
            "ns" => 1e-9,
            "us" | "µs" | "μs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return None,
        };
        total += number.parse::<f64>().ok()? * seconds;
        rest = after;
    }
    if text.is_empty() { None } else { Duration::try_from_secs_f64((total * 1e9).round() / 1e9).ok() }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every unit, compounds and fractions; a number without unit is refused.
    #[test]
    fn reads_what_go_reads() {
        for (text, millis) in
            [("300ms", 300), ("1.5s", 1500), ("1m30s", 90_000), ("720h", 2_592_000_000), ("0", 0), ("0s", 0)]
        {
            assert_eq!(parse(text), Some(Duration::from_millis(millis)), "{text}");
        }
        for text in ["25", "", "s", "1d", "-1s", "1s2", "1..5s"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
