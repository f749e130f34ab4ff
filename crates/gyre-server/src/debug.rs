//! Profiles of the processor time, as `go tool pprof` reads them: `/debug/pprof/profile?seconds=30`.
//!
//! Sampled by a signal, of all threads; nothing runs while nobody asks. One profile at a time. The memory profiles of Go
//! have no counterpart here.
//!
//! Spec: google/pprof `proto/profile.proto`; pkg.go.dev/net/http/pprof

use std::{
    collections::HashMap,
    io::Write as _,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, UNIX_EPOCH},
};

use flate2::{Compression, write::GzEncoder};
use gyre_protocol::codec::protobuf::wire::Message;
use gyre_transport::http::{Request, Response, full, status};
use http::{HeaderValue, StatusCode, header};
use pprof::{ProfilerGuardBuilder, Report};

/// Samples a second: odd, so that it beats with nothing that happens a hundred times.
const FREQUENCY: i32 = 99;
/// Without `seconds`.
const SECONDS_DEFAULT: u64 = 30;
/// Longer ones are cut.
const SECONDS_MAX: u64 = 300;
/// Code in which a signal may come while the stack cannot be walked.
const BLOCKED: [&str; 4] = ["libc", "libgcc", "pthread", "vdso"];

const INDEX: &str =
    "profile?seconds=30\tprocessor time, for go tool pprof\ncmdline\targuments of the process\n";

static IS_PROFILING: AtomicBool = AtomicBool::new(false);

/// Answers a request below `prefix`; `None` if the path is elsewhere.
pub async fn answer(request: &Request, prefix: &str) -> Option<Response> {
    let name = request.uri().path().strip_prefix(prefix)?;
    Some(match name {
        "" | "/" => status(StatusCode::OK, INDEX),
        "/cmdline" => {
            // Separated as the system has them, which is what the tool expects.
            let arguments: Vec<_> = std::env::args().collect();
            Response::new(full(arguments.join("\0")))
        }
        "/profile" => profile(seconds(request.uri().query().unwrap_or(""))).await,
        _ if name.starts_with('/') => status(StatusCode::NOT_FOUND, "there is no such profile\n"),
        _ => return None,
    })
}

fn seconds(query: &str) -> u64 {
    let wanted = query.split('&').find_map(|pair| pair.strip_prefix("seconds=")?.parse().ok());
    wanted.filter(|seconds| *seconds > 0).unwrap_or(SECONDS_DEFAULT).min(SECONDS_MAX)
}

/// Ends the profile with its request, also if that is given up.
struct Turn;

impl Turn {
    fn take() -> Option<Self> {
        (!IS_PROFILING.swap(true, Ordering::Acquire)).then_some(Self)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        IS_PROFILING.store(false, Ordering::Release);
    }
}

async fn profile(seconds: u64) -> Response {
    let Some(turn) = Turn::take() else {
        return status(StatusCode::CONFLICT, "another profile is being made\n");
    };
    let failed = |error: &dyn std::fmt::Display| {
        tracing::error!(%error, "cannot make a profile");
        status(StatusCode::INTERNAL_SERVER_ERROR, "cannot make a profile\n")
    };
    let guard = match ProfilerGuardBuilder::default().frequency(FREQUENCY).blocklist(&BLOCKED).build() {
        Ok(guard) => guard,
        Err(error) => return failed(&error),
    };
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    // Names are looked up in the program's debug information, which takes a while: not on the shard.
    let encoded = tokio::task::spawn_blocking(move || {
        let report = guard.report().build();
        drop((guard, turn));
        report.map(|report| gzip(&encode(&report)))
    });
    match encoded.await {
        Ok(Ok(profile)) => {
            let mut response = Response::new(full(profile));
            let headers = response.headers_mut();
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
            let disposition = HeaderValue::from_static("attachment; filename=\"profile\"");
            headers.insert(header::CONTENT_DISPOSITION, disposition);
            response
        }
        Ok(Err(error)) => failed(&error),
        Err(error) => failed(&error),
    }
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    // Writing into memory cannot fail.
    drop(encoder.write_all(bytes));
    encoder.finish().unwrap_or_default()
}

/// Things by number, each once; 0 is the first.
#[derive(Default)]
struct Table<T>(HashMap<T, u64>);

impl<T: std::hash::Hash + Eq + Clone> Table<T> {
    fn number(&mut self, thing: T) -> u64 {
        let next = self.0.len() as u64;
        *self.0.entry(thing).or_insert(next)
    }

    fn in_order(self) -> Vec<T> {
        let mut all: Vec<_> = self.0.into_iter().collect();
        all.sort_by_key(|(_, number)| *number);
        all.into_iter().map(|(thing, _)| thing).collect()
    }
}

/// A function: its name and file.
type Function = (u64, u64);
/// A place in the code: its function and line.
type Location = (u64, u64);

fn encode(report: &Report) -> Vec<u8> {
    let (mut texts, mut functions, mut locations) =
        (Table::<String>::default(), Table::<Function>::default(), Table::<Location>::default());
    // The first text is the empty one.
    texts.number(String::new());
    let (samples, count, cpu, nanoseconds, thread) =
        ["samples", "count", "cpu", "nanoseconds", "thread"].map(|text| texts.number(text.into())).into();
    let period = 1_000_000_000 / u64::try_from(report.timing.frequency.max(1)).unwrap_or(1);
    let mut out = Vec::new();
    let mut m = Message::new(&mut out);
    for (kind, unit) in [(samples, count), (cpu, nanoseconds)] {
        m.message(1, |m| value_type(m, kind, unit));
    }
    for (frames, hits) in &report.data {
        let hits = u64::try_from(*hits).unwrap_or(0);
        // Innermost first, inlined functions before those they are in.
        let stack = frames.frames.iter().flatten().map(|symbol| {
            let function =
                functions.number((texts.number(symbol.name()), texts.number(symbol.filename().into_owned())));
            locations.number((function, symbol.lineno().into())) + 1
        });
        let stack: Vec<u64> = stack.collect();
        let thread_name = texts.number(frames.thread_name.clone());
        m.message(2, |m| {
            stack.iter().for_each(|location| m.uint(1, *location));
            m.uint(2, hits);
            m.uint(2, hits * period);
            m.message(3, |m| {
                m.uint(1, thread);
                m.uint(2, thread_name);
            });
        });
    }
    for (i, (function, line)) in locations.in_order().into_iter().enumerate() {
        m.message(4, |m| {
            m.uint(1, i as u64 + 1);
            m.message(4, |m| {
                m.uint(1, function + 1);
                m.uint(2, line);
            });
        });
    }
    for (i, (name, file)) in functions.in_order().into_iter().enumerate() {
        m.message(5, |m| {
            m.uint(1, i as u64 + 1);
            m.uint(2, name);
            m.uint(3, name);
            m.uint(4, file);
        });
    }
    texts.in_order().iter().for_each(|text| m.item(6, text));
    let began = report.timing.start_time.duration_since(UNIX_EPOCH).unwrap_or_default();
    m.uint(9, u64::try_from(began.as_nanos()).unwrap_or(0));
    m.uint(10, u64::try_from(report.timing.duration.as_nanos()).unwrap_or(0));
    m.message(11, |m| value_type(m, cpu, nanoseconds));
    m.uint(12, period);
    out
}

fn value_type(m: &mut Message<'_>, kind: u64, unit: u64) {
    m.uint(1, kind);
    m.uint(2, unit);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What was asked for within bounds.
    #[test]
    fn seconds_are_bounded() {
        assert_eq!(
            ["", "seconds=0", "a=1&seconds=5", "seconds=x", "seconds=9999"].map(seconds),
            [30, 30, 5, 30, 300]
        );
    }

    /// Equal things have one number, in the order of their coming.
    #[test]
    fn tables_number_things() {
        let mut table = Table::default();
        assert_eq!(["a", "b", "a", "c"].map(|text| table.number(text)), [0, 1, 0, 2]);
        assert_eq!(table.in_order(), ["a", "b", "c"]);
    }
}
