//! Ten seconds of every fuzz target, where a nightly toolchain and cargo-fuzz are installed.

use std::process::Command;

use crate::{Outcome, run};

const TARGETS: [&str; 4] = ["json_commands", "protobuf_frames", "websocket_frames", "session"];

/// Runs each target for ten seconds. What it finds is left in `fuzz/artifacts`, and the corpus as it is.
pub(crate) fn run_all() -> Outcome {
    let version = Command::new("cargo").args(["+nightly", "fuzz", "--version"]).output();
    if !version.is_ok_and(|output| output.status.success()) {
        return Outcome::Skipped("a nightly toolchain with cargo-fuzz is not installed".into());
    }
    for target in TARGETS {
        let corpus = format!("target/fuzz-corpus/{target}");
        if let Err(error) = std::fs::create_dir_all(format!("fuzz/{corpus}")) {
            return Outcome::Failed(format!("cannot make fuzz/{corpus}: {error}"));
        }
        // New inputs go to the first folder.
        let mut command = Command::new("cargo");
        command.args(["+nightly", "fuzz", "run", target, &corpus, &format!("corpus/{target}"), "--"]);
        command.args(["-max_total_time=10", "-rss_limit_mb=2048", "-timeout=20"]).current_dir("fuzz");
        match run(&mut command) {
            Outcome::Passed => {}
            other => return other,
        }
    }
    Outcome::Passed
}
