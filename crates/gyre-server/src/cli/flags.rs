//! Flags of the command line that are keys of the configuration.
//!
//! Spec: configuration part 2.

use clap::{Arg, ArgAction, ArgMatches, Args, Command};
use serde_json::Value;

/// What was given by flags: key paths and values, which win over file and environment.
#[derive(Clone, Debug, Default)]
pub(super) struct Flags(pub(super) Vec<(String, Value)>);

/// How a flag's value is written.
#[derive(Clone, Copy)]
enum Kind {
    Text,
    /// `--key` or `--key=true`.
    Switch,
}
use Kind::{Switch, Text};

/// Key path, one-letter form, kind.
const FLAGS: &[(&str, Option<char>, Kind)] = &[
    ("pid_file", None, Text),
    ("http_server.address", Some('a'), Text),
    ("http_server.port", Some('p'), Text),
    ("http_server.internal_address", None, Text),
    ("http_server.internal_port", None, Text),
    ("engine.type", None, Text),
    ("broker.enabled", None, Switch),
    ("broker.type", None, Text),
    ("presence_manager.enabled", None, Switch),
    ("presence_manager.type", None, Text),
    ("map_broker.type", None, Text),
    ("log.level", None, Text),
    ("log.file", None, Text),
    ("debug.enabled", None, Switch),
    ("admin.enabled", None, Switch),
    ("admin.external", None, Switch),
    ("admin.insecure", None, Switch),
    ("prometheus.enabled", None, Switch),
    ("swagger.enabled", None, Switch),
    ("health.enabled", None, Switch),
    ("init.enabled", None, Switch),
    ("uni_websocket.enabled", None, Switch),
    ("uni_sse.enabled", None, Switch),
    ("uni_http_stream.enabled", None, Switch),
    ("sse.enabled", None, Switch),
    ("http_stream.enabled", None, Switch),
    ("client.insecure", None, Switch),
    ("http_api.insecure", None, Switch),
    ("http_api.external", None, Switch),
    ("grpc_api.enabled", None, Switch),
    ("grpc_api.port", None, Text),
    ("uni_grpc.enabled", None, Switch),
    ("uni_grpc.port", None, Text),
];

impl Args for Flags {
    fn augment_args(command: Command) -> Command {
        FLAGS.iter().fold(command, |command, &(path, short, kind)| command.arg(flag(path, short, kind)))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

fn flag(path: &'static str, short: Option<char>, kind: Kind) -> Arg {
    let flag = Arg::new(path).long(path).action(ArgAction::Set).help(format!("The key {path}"));
    let flag = match short {
        Some(letter) => flag.short(letter).alias(path.rsplit('.').next().unwrap_or(path)),
        None => flag,
    };
    match kind {
        Text => flag.value_name("VALUE"),
        Switch => {
            flag.num_args(0..=1).require_equals(true).default_missing_value("true").value_name("true|false")
        }
    }
}

impl clap::FromArgMatches for Flags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let given = FLAGS.iter().filter_map(|&(path, _, _)| {
            let value = matches.try_get_one::<String>(path).ok().flatten()?;
            Some((path.to_owned(), Value::from(value.as_str())))
        });
        Ok(Self(given.collect()))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::config::{Environment, Sources, load};

    fn parse(arguments: &[&str]) -> Flags {
        let matches = Flags::augment_args(Command::new("gyre")).try_get_matches_from(arguments).unwrap();
        clap::FromArgMatches::from_arg_matches(&matches).unwrap()
    }

    /// Flags in all their forms become key paths, and the values are read like those of a file.
    #[test]
    fn flags_are_keys() {
        let flags = parse(&[
            "gyre",
            "-p",
            "9000",
            "--address",
            "127.0.0.1",
            "--client.insecure",
            "--health.enabled=false",
            "--log.level=debug",
        ]);
        let expected = [
            ("http_server.address", json!("127.0.0.1")),
            ("http_server.port", json!("9000")),
            ("log.level", json!("debug")),
            ("health.enabled", json!("false")),
            ("client.insecure", json!("true")),
        ];
        let expected: Vec<_> = expected.map(|(path, value)| (path.to_owned(), value)).into();
        assert_eq!(flags.0, expected);
        let sources = Sources { environment: Environment::new([]), flags: flags.0, ..Sources::default() };
        let resolved = load(&sources).unwrap().resolved;
        assert!(resolved.server.port == 9000 && resolved.rules.connect.insecure);
    }

    /// Every flag is a key that exists.
    #[test]
    fn every_flag_is_known() {
        for (path, _, kind) in FLAGS {
            let value = match kind {
                Switch => json!("false"),
                Text if path.ends_with("port") => json!("9000"),
                Text if path.ends_with("type") => json!("memory"),
                Text => json!("info"),
            };
            let flags = vec![((*path).to_owned(), value)];
            let sources = Sources { environment: Environment::new([]), flags, ..Sources::default() };
            let loaded = load(&sources).unwrap();
            assert!(!loaded.warnings.iter().any(|warning| warning.is_unknown_key), "{path}");
        }
    }
}
