//! What the system knows of this process.
//!
//! Spec: prometheus.io, "Writing client libraries", process metrics; proc(5)

use std::fs;

use rustix::{
    param::{clock_ticks_per_second, page_size},
    process::{Resource, getrlimit},
};

use super::exposition::Exposition;

/// Adds them. What the system does not tell is left out.
pub(super) fn add(exposition: &mut Exposition) {
    if let Some(stat) = fs::read_to_string("/proc/self/stat").ok().as_deref().and_then(Stat::parse) {
        let ticks = clock_ticks_per_second() as f64;
        exposition.sample(
            "process_cpu_seconds_total",
            "Time that processors have spent on this process.",
            super::exposition::Kind::Counter,
            super::exposition::Labels::new(),
            stat.cpu_ticks as f64 / ticks,
        );
        exposition.gauge("process_virtual_memory_bytes", "Virtual memory.", stat.virtual_bytes as f64);
        let resident = stat.resident_pages as f64 * page_size() as f64;
        exposition.gauge("process_resident_memory_bytes", "Memory in use.", resident);
        exposition.gauge("process_threads", "Threads.", stat.threads as f64);
        if let Some(booted) = boot_time() {
            let started = booted + stat.start_ticks as f64 / ticks;
            exposition.gauge("process_start_time_seconds", "When it started, in Unix time.", started);
        }
    }
    if let Ok(open) = fs::read_dir("/proc/self/fd") {
        // The one it is counted with is not the process's own.
        let open = open.count().saturating_sub(1);
        exposition.gauge("process_open_fds", "Open file descriptors.", open as f64);
    }
    if let Some(limit) = getrlimit(Resource::Nofile).current {
        exposition.gauge("process_max_fds", "File descriptors it may have.", limit as f64);
    }
}

/// Unix time in seconds at which the system began to count.
fn boot_time() -> Option<f64> {
    let stat = fs::read_to_string("/proc/stat").ok()?;
    stat.lines().find_map(|line| line.strip_prefix("btime "))?.parse().ok()
}

/// What of `/proc/self/stat` counts.
#[derive(Debug, PartialEq, Eq)]
struct Stat {
    cpu_ticks: u64,
    threads: u64,
    start_ticks: u64,
    virtual_bytes: u64,
    resident_pages: u64,
}

impl Stat {
    fn parse(text: &str) -> Option<Self> {
        // The name, second, may hold anything; its last parenthesis is the last of all.
        let fields: Vec<&str> = text.rsplit_once(") ")?.1.split(' ').collect();
        // Fields are numbered from 1 in the documentation; the first of these is the third.
        let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
        Some(Self {
            cpu_ticks: field(14)? + field(15)?,
            threads: field(20)?,
            start_ticks: field(22)?,
            virtual_bytes: field(23)?,
            resident_pages: field(24)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A line as the system writes it, with a name that is hard to read.
    #[test]
    fn reads_a_line_of_the_system() {
        let line = "7 (a) (b c) S 1 7 7 0 -1 4194560 900 0 0 0 30 12 0 0 20 0 5 0 777 4096000 250 18446744073709551615";
        let stat = Stat {
            cpu_ticks: 42,
            threads: 5,
            start_ticks: 777,
            virtual_bytes: 4_096_000,
            resident_pages: 250,
        };
        assert_eq!(Stat::parse(line), Some(stat));
        assert_eq!(Stat::parse("7 (a"), None);
    }

    /// This process has used memory and has a descriptor open.
    #[test]
    fn tells_of_this_process() {
        let mut exposition = Exposition::default();
        add(&mut exposition);
        let value = |name: &str| {
            let family = exposition.families().iter().find(|family| family.name == name).unwrap();
            family.samples[0].value
        };
        assert!(value("process_resident_memory_bytes") > 100_000.0);
        assert!(value("process_open_fds") >= 1.0 && value("process_max_fds") > 1.0);
        assert!(value("process_start_time_seconds") > 1.6e9);
    }
}
