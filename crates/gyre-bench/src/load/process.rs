//! Processor time and memory of another process. Spec: proc_pid_stat(5).

use std::{fs, time::Duration};

use rustix::param::{clock_ticks_per_second, page_size};
use serde::Serialize;

/// What a process has used so far.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Usage {
    /// Processor time in its own code.
    pub user: Duration,
    /// Processor time in the system.
    pub system: Duration,
    /// Memory in use, in bytes.
    pub resident: u64,
}

/// The process cannot be looked at.
#[derive(Debug, thiserror::Error)]
#[error("process {process}: {problem} (its figures can be read on Linux, on the same machine)")]
pub struct UsageError {
    process: u32,
    problem: String,
}

impl Usage {
    /// Looks at a process.
    ///
    /// # Errors
    /// [`UsageError`] if it does not exist or the system tells nothing.
    pub fn of(process: u32) -> Result<Self, UsageError> {
        let text = fs::read_to_string(format!("/proc/{process}/stat"));
        let text = text.map_err(|error| UsageError { process, problem: error.to_string() })?;
        parse(&text).ok_or_else(|| UsageError { process, problem: "stat cannot be read".into() })
    }

    /// Processor time since an earlier look.
    pub fn time_since(&self, earlier: &Self) -> Duration {
        (self.user + self.system).saturating_sub(earlier.user + earlier.system)
    }
}

fn parse(stat: &str) -> Option<Usage> {
    // The name may hold anything, closing brackets too.
    let fields: Vec<&str> = stat[stat.rfind(')')? + 1..].split_ascii_whitespace().collect();
    let number = |i: usize| fields.get(i)?.parse::<u64>().ok();
    let time = |ticks: u64| Duration::from_secs_f64(ticks as f64 / clock_ticks_per_second() as f64);
    Some(Usage {
        user: time(number(11)?),
        system: time(number(12)?),
        resident: number(21)? * page_size() as u64,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A line with brackets and spaces in the name gives the times and the memory behind it.
    #[test]
    fn names_may_hold_brackets() {
        let line = "7 (a) b) S 1 7 7 0 -1 4194304 1 0 0 0 250 50 0 0 20 0 1 0 9 1000 3 18446744073709551615";
        let usage = parse(line).unwrap();
        let ticks = clock_ticks_per_second() as f64;
        assert_eq!(usage.user, Duration::from_secs_f64(250.0 / ticks));
        assert_eq!(usage.system, Duration::from_secs_f64(50.0 / ticks));
        assert_eq!(usage.resident, 3 * page_size() as u64);
        assert!(parse("7 (a").is_none());
    }
}
