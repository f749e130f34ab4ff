//! Fuzzing without a nightly toolchain: the pinned compiler builds the targets with the flags that `cargo fuzz` would give.

use std::process::Command;

use crate::{Outcome, run, succeeds};

const TARGETS: [&str; 4] = ["json_commands", "protobuf_frames", "websocket_frames", "session"];
/// How long each target runs where nobody says: enough to replay its corpus and look around.
const SECONDS: &str = "10";
/// Sanitizers want the target named, so that build scripts are built without them.
const TRIPLE: &str = "x86_64-unknown-linux-gnu";
/// Coverage of edges and comparisons for libFuzzer, the address sanitizer, and every check the code makes of itself.
const FLAGS: &str = "--cfg fuzzing -Zsanitizer=address -Cdebug-assertions -Coverflow-checks -Cpasses=sancov-module \
     -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
     -Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares";

/// Runs each target for ten seconds.
pub(crate) fn run_all() -> Outcome {
    run_for(SECONDS)
}

/// Runs each target for `seconds`, one after the other. What it finds is left in `fuzz/artifacts`, new inputs in
/// `target/fuzz/corpus`, and the kept corpus as it is.
pub(crate) fn run_for(seconds: &str) -> Outcome {
    if !cfg!(all(target_os = "linux", target_arch = "x86_64")) {
        return Outcome::Skipped(format!("the targets are built for {TRIPLE} only"));
    }
    if !succeeds("c++", &["--version"]) {
        return Outcome::Skipped(
            "libFuzzer is compiled with a C++ compiler, and c++ is not installed".into(),
        );
    }
    match build() {
        Outcome::Passed => {}
        other => return other,
    }
    for target in TARGETS {
        match run_one(target, seconds) {
            Outcome::Passed => {}
            other => return other,
        }
    }
    Outcome::Passed
}

fn build() -> Outcome {
    let mut command = Command::new("cargo");
    command.args(["build", "--package", "gyre-fuzz", "--bins", "--release"]);
    command.args(["--target", TRIPLE, "--target-dir", "target/fuzz"]);
    // Sanitizers and passes are unstable flags, which this variable permits to a stable compiler.
    command.env("RUSTC_BOOTSTRAP", "1").env("RUSTFLAGS", FLAGS);
    // Built in a third of the time of a release, and fast enough to fuzz.
    command.env("CARGO_PROFILE_RELEASE_LTO", "off").env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "1");
    command.env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "16");
    run(&mut command)
}

fn run_one(target: &str, seconds: &str) -> Outcome {
    let found = format!("target/fuzz/corpus/{target}");
    for folder in [found.as_str(), "fuzz/artifacts"] {
        if let Err(error) = std::fs::create_dir_all(folder) {
            return Outcome::Failed(format!("cannot make {folder}: {error}"));
        }
    }
    let mut command = Command::new(format!("target/fuzz/{TRIPLE}/release/{target}"));
    // New inputs go to the first folder.
    command.args([
        found.as_str(),
        &format!("fuzz/corpus/{target}"),
        "-rss_limit_mb=2048",
        "-timeout=20",
        "-verbosity=0",
    ]);
    command
        .args([format!("-max_total_time={seconds}"), format!("-artifact_prefix=fuzz/artifacts/{target}-")]);
    run(&mut command)
}
