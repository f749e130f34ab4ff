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

/// Writes a duration in the same form: `168h0m0s`, `1m30s`, `1.5s`, `300ms`, `0s`.
pub fn format(duration: Duration) -> String {
    let (seconds, nanos) = (duration.as_secs(), duration.subsec_nanos());
    let decimal = |whole: u64, part: u32, digits: usize, unit: &str| match part {
        0 => format!("{whole}{unit}"),
        _ => format!("{whole}.{}{unit}", format!("{part:0digits$}").trim_end_matches('0')),
    };
    match (seconds, nanos) {
        (0, 0) => "0s".into(),
        (0, 0..1_000) => format!("{nanos}ns"),
        (0, 1_000..1_000_000) => decimal(u64::from(nanos / 1_000), nanos % 1_000, 3, "us"),
        (0, _) => decimal(u64::from(nanos / 1_000_000), nanos % 1_000_000, 6, "ms"),
        (0..60, _) => decimal(seconds, nanos, 9, "s"),
        (60..3600, _) => format!("{}m{}", seconds / 60, decimal(seconds % 60, nanos, 9, "s")),
        _ => format!("{}h{}m{}", seconds / 3600, seconds / 60 % 60, decimal(seconds % 60, nanos, 9, "s")),
    }
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

    /// Written as Go writes them, and read back.
    #[test]
    fn durations_are_read_back() {
        let cases = [
            ("168h0m0s", 604_800_000_000_000),
            ("1m30s", 90_000_000_000),
            ("1.5s", 1_500_000_000),
            ("300ms", 300_000_000),
            ("1.25ms", 1_250_000),
            ("7us", 7_000),
            ("3ns", 3),
            ("0s", 0),
        ];
        for (text, nanos) in cases {
            let duration = Duration::from_nanos(nanos);
            assert_eq!(format(duration), text);
            assert_eq!(parse(text), Some(duration), "{text}");
        }
    }
}
