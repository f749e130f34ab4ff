//! Checks and chores of the workspace.
//!
//! `cargo xtask ci` is what people and CI run: format, crate floors, lints, tests, documentation, fuzzing,
//! Autobahn's cases, and the browser test.
//! A step that needs what the machine lacks and cannot install is skipped loudly.

mod browser;
mod floors;
mod fuzz;

use std::process::{Command, ExitCode};

/// What came of a step.
enum Outcome {
    Passed,
    Failed(String),
    Skipped(String),
}

fn main() -> ExitCode {
    match std::env::args().nth(1).as_deref() {
        Some("ci") => ci(),
        Some("floors") => report(&[("floors", floors::check())]),
        Some("fuzz") => report(&[("fuzz", fuzz(std::env::args().nth(2)))]),
        Some("browser") => report(&[("browser", browser::test())]),
        Some("autobahn") => report(&[("autobahn", autobahn())]),
        _ => {
            eprintln!("usage: cargo xtask ci | floors | fuzz [SECONDS] | autobahn | browser");
            ExitCode::FAILURE
        }
    }
}

fn fuzz(seconds: Option<String>) -> Outcome {
    seconds.map_or_else(fuzz::run_all, |seconds| fuzz::run_for(&seconds))
}

type Step = (&'static str, fn() -> Outcome);

fn ci() -> ExitCode {
    let steps: [Step; 8] = [
        ("format", || cargo(&["fmt", "--all", "--check"])),
        ("floors", floors::check),
        ("lints", || cargo(&["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"])),
        ("tests", || cargo(&["test", "--workspace"])),
        ("documentation", documentation),
        ("fuzz", fuzz::run_all),
        ("autobahn", autobahn),
        ("browser", browser::test),
    ];
    let mut outcomes = Vec::new();
    for (name, step) in steps {
        println!("\n== {name}");
        outcomes.push((name, step()));
    }
    report(&outcomes)
}

fn report(outcomes: &[(&str, Outcome)]) -> ExitCode {
    println!();
    let mut is_failed = false;
    for (name, outcome) in outcomes {
        match outcome {
            Outcome::Passed => println!("passed   {name}"),
            Outcome::Skipped(why) => println!("SKIPPED  {name}: {why}"),
            Outcome::Failed(why) => {
                is_failed = true;
                println!("FAILED   {name}: {why}");
            }
        }
    }
    if is_failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn documentation() -> Outcome {
    // Module texts may point into their module, which readers of the source follow.
    let flags = "-D warnings -A rustdoc::private_intra_doc_links";
    let mut command = Command::new("cargo");
    command.args(["doc", "--workspace", "--no-deps", "--quiet"]).env("RUSTDOCFLAGS", flags);
    run(&mut command)
}

/// Autobahn's WebSocket cases. Its program needs Python 2.7, so no package client of today installs it.
fn autobahn() -> Outcome {
    if std::env::var_os("AUTOBAHN").is_none() {
        return Outcome::Skipped("AUTOBAHN does not name Autobahn's program wstest".into());
    }
    cargo(&["test", "--package", "gyre-transport", "--lib", "autobahn", "--", "--ignored"])
}

fn cargo(arguments: &[&str]) -> Outcome {
    run(Command::new("cargo").args(arguments))
}

/// Runs a command to its end.
fn run(command: &mut Command) -> Outcome {
    match command.status() {
        Ok(status) if status.success() => Outcome::Passed,
        Ok(status) => Outcome::Failed(format!("{command:?}: {status}")),
        Err(error) => Outcome::Failed(format!("{command:?}: {error}")),
    }
}

/// True if a command runs and succeeds.
fn succeeds(program: &str, arguments: &[&str]) -> bool {
    Command::new(program).args(arguments).output().is_ok_and(|output| output.status.success())
}
