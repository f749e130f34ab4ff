//! Running the server: from arguments to the end of the process.

use std::{
    env,
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{CommandFactory, Parser};
use serde_json::Value;
use tokio::{
    runtime::Runtime,
    signal::unix::{Signal, SignalKind, signal},
};

use super::{Arguments, Command, client, generate, reference, tokens};
use crate::{
    config::{self, Environment, Loaded, Problem, Section, Sources, Warning, dotenv},
    dev::{Development, DevelopmentError, StateLocations, run_clock},
    logging::Logging,
    wiring::{self, Additions, Server},
};

/// File that is read when none is named.
const DEFAULT_FILE: &str = "config.json";
/// File with variables that the server reads at its start.
const DOTENV: &str = ".env";

/// The program.
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match &arguments.command {
        None | Some(Command::Serve) => serve(&arguments),
        Some(Command::Checkconfig { strict }) => check_config(&arguments, *strict),
        Some(command) => match help(&arguments, command) {
            Ok(text) => {
                print!("{text}");
                ExitCode::SUCCESS
            }
            Err(message) => {
                println!("{message}");
                ExitCode::FAILURE
            }
        },
    }
}

/// Runs a command that needs no server; returns what it prints, or why it failed.
fn help(arguments: &Arguments, command: &Command) -> Result<String, String> {
    let target = || arguments.config.clone().unwrap_or_else(|| PathBuf::from(DEFAULT_FILE));
    let resolved = || loaded(sources(arguments)).map(|loaded| loaded.resolved);
    match command {
        Command::Serve | Command::Checkconfig { .. } => Ok(String::new()),
        Command::Version => Ok(format!("Gyre v{}\n", env!("CARGO_PKG_VERSION"))),
        Command::Genconfig => {
            generate::write_new(&target(), &generate::minimal()?)?;
            Ok(String::new())
        }
        Command::Defaultconfig { base, dry_run } => {
            let tree = loaded(based_on(base.as_ref()))?.raw.to_tree();
            match dry_run {
                true => generate::format_of(&target())?.write(&tree),
                false => generate::write_new(&target(), &tree).map(|()| String::new()),
            }
        }
        Command::Defaultenv { base, base_non_zero_only } => {
            let lines = loaded(based_on(base.as_ref()))?.raw.to_environment(*base_non_zero_only);
            Ok(lines.join("\n") + "\n")
        }
        Command::Configdoc { reference } => reference::tell(reference),
        Command::Gentoken { subject } => tokens::generate(&resolved()?, subject, None),
        Command::Gensubtoken { subject, channel } => tokens::generate(&resolved()?, subject, Some(channel)),
        Command::Checktoken { token } => tokens::check_connection(&resolved()?, token),
        Command::Checksubtoken { token } => tokens::check_subscription(&resolved()?, token),
        Command::Health(health) => client::health(health, &resolved()?).map(|()| String::new()),
        Command::Pub(publish) => client::publish(publish, &resolved()?).map(|()| String::new()),
        Command::Sub(sub) => client::subscribe(sub, &resolved()?).map(|()| String::new()),
        Command::Bench(workload) => client::bench(workload, &resolved()?).map(|()| String::new()),
        Command::Completion { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(*shell, &mut Arguments::command(), "gyre", &mut script);
            String::from_utf8(script).map_err(|error| error.to_string())
        }
    }
}

/// Only a file that is named, and neither environment nor flags.
fn based_on(file: Option<&PathBuf>) -> Sources {
    Sources { file: file.cloned(), ..Sources::default() }
}

fn loaded(sources: Sources) -> Result<Loaded, String> {
    config::load(&sources).map_err(|problems| {
        let problems: Vec<_> = problems.iter().map(|problem| format!("\n  {problem}")).collect();
        format!("the configuration cannot be used:{}", problems.concat())
    })
}

fn sources(arguments: &Arguments) -> Sources {
    Sources {
        file: Some(arguments.config.clone().unwrap_or_else(|| PathBuf::from(DEFAULT_FILE))),
        may_be_missing: true,
        environment: Environment::new(variables()),
        flags: arguments.flags.0.clone(),
        defaults_below: Value::Null,
    }
}

/// Variables whose name and value are text.
fn variables() -> impl Iterator<Item = (String, String)> {
    env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
}

fn check_config(arguments: &Arguments, strict: bool) -> ExitCode {
    let sources = Sources { may_be_missing: false, ..sources(arguments) };
    match config::load(&sources) {
        Err(problems) => report(&problems),
        Ok(loaded) => {
            let is_told = |warning: &&Warning| warning.is_unknown_key || (strict && warning.is_open_door);
            let told: Vec<_> = loaded.warnings.iter().filter(is_told).collect();
            told.iter().for_each(|warning| println!("{}", warning.message));
            if strict && !told.is_empty() { ExitCode::FAILURE } else { ExitCode::SUCCESS }
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
    match dotenv::read(Path::new(DOTENV)) {
        Ok(below) => sources.environment = Environment::new(dotenv::over(below, variables())),
        Err(message) => return failed(&message),
    }
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
    let log_levels = &loaded.resolved.operation.log_levels;
    let logging = match Logging::start(log_levels, loaded.resolved.log_file.as_deref()) {
        Ok(logging) => logging,
        Err(message) => return failed(&message),
    };
    for warning in &loaded.warnings {
        tracing::warn!("{}", warning.message);
    }
    warn_about_open_doors(&loaded);
    let control = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&format!("cannot start the control runtime: {error}")),
    };
    // Before clients are served: whoever reaches the server can end it as it should end.
    let signals = match Signals::new(&control) {
        Ok(signals) => signals,
        Err(error) => return failed(&format!("cannot wait for signals: {error}")),
    };
    let additions = Additions {
        extra: development.as_ref().map(Development::endpoints),
        accepts_both: development.is_some(),
    };
    let shown = config::shown(&loaded, &loaded.raw);
    let server = match wiring::start(&loaded.resolved, additions, &control) {
        Ok(server) => server,
        Err(error) => return failed(&error.to_string()),
    };
    server.show_configuration(shown);
    if let Some(development) = development {
        begin_development(development, &server, &control, loaded.resolved.server.port);
    }
    tracing::info!(
        addresses = %addresses(&loaded.resolved.server.addresses),
        http3 = loaded.resolved.server.http3,
        version = env!("CARGO_PKG_VERSION"),
        "serving"
    );
    if let Some(path) = &loaded.resolved.pid_file
        && let Err(error) = std::fs::write(path, std::process::id().to_string())
    {
        return failed(&format!("pid_file: cannot write {path}: {error}"));
    }
    control.block_on(until_stopped(signals, &server, &sources, &logging, loaded.raw.clone()));
    if let Some(path) = &loaded.resolved.pid_file
        && let Err(error) = std::fs::remove_file(path)
    {
        tracing::warn!(%error, path, "cannot remove the pid file");
    }
    match server.stop() {
        true => ExitCode::SUCCESS,
        false => failed("clients did not leave in time"),
    }
}

fn addresses(listed: &[config::Address]) -> String {
    listed.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
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

/// What the process is told by its operator.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    /// From now on they do not end the process by themselves.
    fn new(control: &Runtime) -> std::io::Result<Self> {
        let _entered = control.enter();
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }
}

/// Waits for SIGTERM or SIGINT; SIGHUP reloads.
async fn until_stopped(
    mut signals: Signals,
    server: &Server,
    sources: &Sources,
    logging: &Logging,
    mut current: Section,
) {
    let started = current.clone();
    loop {
        tokio::select! {
            _ = signals.terminate.recv() => return,
            _ = signals.interrupt.recv() => return,
            _ = signals.hangup.recv() => reload(server, sources, logging, &started, &mut current),
        }
    }
}

/// Reads the configuration anew. A bad one is logged, and the old one stays.
fn reload(server: &Server, sources: &Sources, logging: &Logging, started: &Section, current: &mut Section) {
    match config::load(sources) {
        Ok(loaded) => match server.reload(&loaded.resolved) {
            Ok(()) => {
                logging.change(&loaded.resolved.operation.log_levels);
                tracing::info!("configuration reloaded");
                loaded.warnings.iter().for_each(|warning| tracing::warn!("{}", warning.message));
                for change in config::changes(current, &loaded.raw) {
                    match change.needs_restart() {
                        true => tracing::warn!("{change}: counts from the next start on"),
                        false => tracing::info!("{change}"),
                    }
                }
                server.show_configuration(config::shown(&loaded, started));
                *current = loaded.raw;
            }
            Err(error) => tracing::error!(%error, "the new configuration cannot be used: the old one stays"),
        },
        Err(problems) => {
            for problem in problems {
                tracing::error!("the new configuration cannot be used: {problem}");
            }
        }
    }
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
