//! Running the server: from arguments to the end of the process.

use std::{env, path::PathBuf, process::ExitCode};

use clap::Parser;
use serde_json::Value;
use tokio::{
    runtime::Runtime,
    signal::unix::{SignalKind, signal},
};
use tracing_subscriber::{EnvFilter, layer::SubscriberExt, util::SubscriberInitExt};

use super::{Arguments, Command};
use crate::{
    config::{self, Environment, Loaded, Problem, Sources},
    dev::{Development, DevelopmentError, StateLocations, run_clock},
    wiring::{self, Additions, Server},
};

/// File that is read when none is named.
const DEFAULT_FILE: &str = "config.json";

/// The program.
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match arguments.command {
        Some(Command::Version) => {
            println!("Gyre v{}", env!("CARGO_PKG_VERSION"));
            ExitCode::SUCCESS
        }
        Some(Command::Checkconfig { strict }) => check_config(&arguments, strict),
        Some(Command::Serve) | None => serve(&arguments),
    }
}

fn sources(arguments: &Arguments) -> Sources {
    let mut flags = Vec::new();
    let mut flag =
        |path: &str, value: Option<Value>| flags.extend(value.map(|value| (path.to_owned(), value)));
    flag("http_server.address", arguments.address.clone().map(Value::from));
    flag("http_server.port", arguments.port.map(Value::from));
    flag("log.level", arguments.log_level.clone().map(Value::from));
    Sources {
        file: Some(arguments.config.clone().unwrap_or_else(|| PathBuf::from(DEFAULT_FILE))),
        may_be_missing: true,
        environment: Environment::new(env::vars()),
        flags,
        defaults_below: Value::Null,
    }
}

fn check_config(arguments: &Arguments, strict: bool) -> ExitCode {
    let sources = Sources { may_be_missing: false, ..sources(arguments) };
    match config::load(&sources) {
        Err(problems) => report(&problems),
        Ok(loaded) => {
            let unknown: Vec<_> = loaded.warnings.iter().filter(|warning| warning.is_unknown_key).collect();
            unknown.iter().for_each(|warning| println!("{}", warning.message));
            if strict && !unknown.is_empty() { ExitCode::FAILURE } else { ExitCode::SUCCESS }
        }
    }
}

/// Prints all problems at once.
fn report(problems: &[Problem]) -> ExitCode {
    eprintln!("the configuration cannot be used:");
    problems.iter().for_each(|problem| eprintln!("  {problem}"));
    ExitCode::FAILURE
}

fn serve(arguments: &Arguments) -> ExitCode {
    let mut sources = sources(arguments);
    let (development, loaded) = if arguments.dev {
        // Only a file that is named is read.
        sources.file.clone_from(&arguments.config);
        sources.may_be_missing = false;
        match Development::prepare(&mut sources, &StateLocations::of_process()) {
            Ok((development, loaded)) => (Some(development), loaded),
            Err(DevelopmentError::Configuration(problems)) => return report(&problems),
            Err(error) => return failed(&error.to_string()),
        }
    } else {
        match config::load(&sources) {
            Ok(loaded) => (None, loaded),
            Err(problems) => return report(&problems),
        }
    };
    init_logging(&loaded.resolved.log_level);
    for warning in &loaded.warnings {
        tracing::warn!("{}", warning.message);
    }
    warn_about_open_doors(&loaded);
    let control = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&format!("cannot start the control runtime: {error}")),
    };
    let additions = Additions {
        extra: development.as_ref().map(Development::endpoints),
        accepts_both: development.is_some(),
    };
    let server = match wiring::start(&loaded.resolved, additions, &control) {
        Ok(server) => server,
        Err(error) => return failed(&error.to_string()),
    };
    if let Some(development) = development {
        begin_development(development, &server, &control, loaded.resolved.server.port);
    }
    tracing::info!(
        address = loaded.resolved.server.address,
        port = loaded.resolved.server.port,
        http3 = loaded.resolved.server.http3,
        version = env!("CARGO_PKG_VERSION"),
        "serving"
    );
    if let Some(path) = &loaded.resolved.pid_file
        && let Err(error) = std::fs::write(path, std::process::id().to_string())
    {
        return failed(&format!("pid_file: cannot write {path}: {error}"));
    }
    let outcome = control.block_on(until_stopped(&server, &sources));
    if let Some(path) = &loaded.resolved.pid_file
        && let Err(error) = std::fs::remove_file(path)
    {
        tracing::warn!(%error, path, "cannot remove the pid file");
    }
    match outcome {
        Err(error) => failed(&format!("cannot wait for signals: {error}")),
        Ok(()) if server.stop() => ExitCode::SUCCESS,
        Ok(()) => failed("clients did not leave in time"),
    }
}

/// Shows the banner, and starts what runs beside a development server.
fn begin_development(development: Development, server: &Server, control: &Runtime, port: u16) {
    for warning in development.warnings() {
        tracing::warn!("{warning}");
    }
    println!("{}", development.banner(port));
    control.spawn(run_clock(server.node.clone()));
    if let Some(resolver) = server.certificate() {
        control.spawn(development.keep_certificate(resolver));
    }
}

fn failed(message: &str) -> ExitCode {
    tracing::error!("{message}");
    eprintln!("{message}");
    ExitCode::FAILURE
}

/// Waits for SIGTERM or SIGINT; SIGHUP reloads.
async fn until_stopped(server: &Server, sources: &Sources) -> std::io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hangup = signal(SignalKind::hangup())?;
    loop {
        tokio::select! {
            _ = terminate.recv() => return Ok(()),
            _ = interrupt.recv() => return Ok(()),
            _ = hangup.recv() => reload(server, sources),
        }
    }
}

/// Reads the configuration anew. A bad one is logged, and the old one stays.
fn reload(server: &Server, sources: &Sources) {
    match config::load(sources) {
        Ok(loaded) => match server.reload(&loaded.resolved) {
            Ok(()) => tracing::info!("configuration reloaded"),
            Err(error) => tracing::error!(%error, "the new configuration cannot be used: the old one stays"),
        },
        Err(problems) => {
            for problem in problems {
                tracing::error!("the new configuration cannot be used: {problem}");
            }
        }
    }
}

fn init_logging(level: &str) {
    let level = match level {
        "none" => "off",
        "fatal" => "error",
        "trace" | "debug" | "info" | "warn" | "error" => level,
        _ => "info",
    };
    let layer = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let filter = EnvFilter::new(level);
    // Fails only if a subscriber is installed already: then that one stays.
    drop(tracing_subscriber::registry().with(filter).with(layer).try_init());
}

/// Whatever lets people in without asking is said at every start.
fn warn_about_open_doors(loaded: &Loaded) {
    let resolved = &loaded.resolved;
    let doors = [
        (resolved.rules.connect.insecure, "client.insecure"),
        (resolved.api.insecure, "http_api.insecure"),
        (resolved.connection_token.skip_signature, "client.insecure_skip_token_signature_verify"),
    ];
    for (_, key) in doors.iter().filter(|(is_open, _)| *is_open) {
        tracing::warn!("{key} is on: never use this in production");
    }
}
