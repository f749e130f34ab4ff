//! The command line.

mod client;
mod flags;
mod generate;
mod reference;
mod run;
mod tokens;

use std::path::PathBuf;

use clap::{Parser, Subcommand};

use flags::Flags;
use reference::Reference;
pub use run::main;
use tokens::Subject;

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
    #[command(flatten)]
    flags: Flags,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the server (the default)
    Serve,
    /// Check a configuration and exit
    Checkconfig {
        /// Fail on unknown keys and on an open gRPC API as well
        #[arg(short, long)]
        strict: bool,
    },
    /// Write a minimal configuration with fresh secrets to the file named by --config
    Genconfig,
    /// Write a configuration with every key and its value to the file named by --config
    Defaultconfig {
        /// Configuration whose values replace the defaults
        #[arg(short, long, value_name = "FILE")]
        base: Option<PathBuf>,
        /// Print instead of writing
        #[arg(short, long)]
        dry_run: bool,
    },
    /// Print every key as an environment variable
    Defaultenv {
        /// Configuration whose values replace the defaults
        #[arg(short, long, value_name = "FILE")]
        base: Option<PathBuf>,
        /// Leave out variables that hold nothing, zero or false
        #[arg(long)]
        base_non_zero_only: bool,
    },
    /// Show the reference of all configuration keys: a page on localhost, or printed
    Configdoc {
        #[command(flatten)]
        reference: Reference,
    },
    /// Make a connection token
    Gentoken {
        #[command(flatten)]
        subject: Subject,
    },
    /// Make a subscription token
    Gensubtoken {
        #[command(flatten)]
        subject: Subject,
        /// Channel it allows
        #[arg(short = 's', long, default_value = "")]
        channel: String,
    },
    /// Check a connection token
    Checktoken {
        /// The token
        token: String,
    },
    /// Check a subscription token
    Checksubtoken {
        /// The token
        token: String,
    },
    /// Ask a running server whether it is well; fails if it is not
    Health(client::Health),
    /// Publish into a channel
    Pub(client::Pub),
    /// Subscribe to channels and print what is published
    Sub(client::Sub),
    /// Put load on a server and report what it made of it
    #[command(subcommand)]
    Bench(client::Workload),
    /// Print a script that completes commands in a shell
    Completion {
        /// bash, elvish, fish, powershell or zsh
        shell: clap_complete::Shell,
    },
    /// Print the version
    Version,
}
