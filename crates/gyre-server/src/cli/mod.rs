//! The command line.

mod run;

use std::path::PathBuf;

use clap::{Parser, Subcommand};

pub use run::main;

/// A real-time messaging server: WebTransport, WebSocket, Centrifugo's protocol, API and configuration.
#[derive(Debug, Parser)]
#[command(name = "gyre", version, disable_help_subcommand = true)]
pub struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    /// Configuration file: .json, .yaml, .yml or .toml
    #[arg(short, long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Development server on localhost with its own certificate; open to everyone who can reach it
    #[arg(long)]
    dev: bool,
    /// Host to listen on
    #[arg(short, long = "http_server.address", alias = "address", value_name = "HOST")]
    address: Option<String>,
    /// Port to listen on
    #[arg(short, long = "http_server.port", alias = "port", value_name = "PORT")]
    port: Option<u16>,
    /// trace, debug, info, warn, error or none
    #[arg(long = "log.level", value_name = "LEVEL")]
    log_level: Option<String>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the server (the default)
    Serve,
    /// Check a configuration and exit
    Checkconfig {
        /// Fail on unknown keys as well
        #[arg(short, long)]
        strict: bool,
    },
    /// Print the version
    Version,
}
