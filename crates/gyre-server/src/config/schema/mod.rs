//! Every configuration key: its name, kind, default and meaning. Reading, environment names, hints for misspelt keys,
//! the reference (`gyre configdoc`, docs/configuration.md) and the JSON schema all come from this table.
//!
//! Spec: centrifugal.dev, "Configure"; centrifugo `internal/configtypes/types.go`.

mod channel;
mod client;
mod consumers;
mod engines;
mod operation;
mod server;
mod shared;
mod transports;

/// What a key holds.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// `true` or `false`.
    Bool,
    /// A whole number.
    Int,
    /// Text.
    Text,
    /// A duration such as `1m30s`.
    Duration,
    /// Texts.
    List,
    /// Texts by name: an object, or a list of `{"key", "value"}` where the case of names matters.
    Map,
    /// PEM: the text itself, its base64, or the path of a file.
    Pem,
    /// An object of keys.
    Object(&'static [Key]),
    /// A list of objects. Those with a `name` can be addressed by environment variables.
    Objects(&'static [Key]),
}

/// What a number below zero is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Negative {
    /// Taken for zero, with a warning: so does the reference.
    IsZero,
    /// A problem.
    Refused,
    /// A value as others.
    Allowed,
}

/// One key.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// Name within its object.
    pub name: &'static str,
    /// What it holds.
    pub kind: Kind,
    /// Default as it would be written; empty for the zero value.
    pub default: &'static str,
    /// What it is for: one or more sentences of Markdown.
    pub about: &'static str,
    /// The only values of a text; empty if any will do.
    pub choices: &'static [&'static str],
    /// Its value is never shown, and may be read from a file: `<name>_file` is a key as well.
    pub is_secret: bool,
    /// Zero makes no sense and stands for the default.
    pub zero_is_default: bool,
    /// What a number below zero is.
    pub negative: Negative,
}

const fn key(name: &'static str, kind: Kind, default: &'static str, about: &'static str) -> Key {
    Key {
        name,
        kind,
        default,
        about,
        choices: &[],
        is_secret: false,
        zero_is_default: false,
        negative: Negative::IsZero,
    }
}

/// A switch that is off unless it is turned on.
const fn switch(name: &'static str, about: &'static str) -> Key {
    key(name, Kind::Bool, "", about)
}

/// A text that is empty unless it is set.
const fn text(name: &'static str, about: &'static str) -> Key {
    key(name, Kind::Text, "", about)
}

/// A text that nobody is to see.
const fn secret(name: &'static str, about: &'static str) -> Key {
    Key { is_secret: true, ..text(name, about) }
}

/// An object of keys.
const fn object(name: &'static str, keys: &'static [Key], about: &'static str) -> Key {
    key(name, Kind::Object(keys), "", about)
}

/// A list of objects.
const fn objects(name: &'static str, keys: &'static [Key], about: &'static str) -> Key {
    key(name, Kind::Objects(keys), "", about)
}

impl Key {
    const fn one_of(self, choices: &'static [&'static str]) -> Self {
        Self { choices, ..self }
    }

    const fn zero_is_default(self) -> Self {
        Self { zero_is_default: true, ..self }
    }

    const fn negative(self, negative: Negative) -> Self {
        Self { negative, ..self }
    }

    /// True for a key that means the same.
    fn is_same(&self, other: &Self) -> bool {
        self.name == other.name && self.about == other.about && self.default == other.default
    }

    /// The keys of its object, or of each of its objects.
    pub fn keys(&self) -> &'static [Self] {
        match self.kind {
            Kind::Object(keys) | Kind::Objects(keys) => keys,
            _ => &[],
        }
    }

    /// Name of the key that names a file with its value. PEM may be given as a path anyway; older versions had such
    /// names for it.
    pub(super) fn file_name(&self) -> Option<String> {
        (self.is_secret || matches!(self.kind, Kind::Pem)).then(|| format!("{}{FILE_SUFFIX}", self.name))
    }
}

/// What the name of a secret's key ends in when its value is in a file.
pub(super) const FILE_SUFFIX: &str = "_file";

pub use channel::CHANNEL_OPTIONS;

/// The key at a dotted path, in which entries of lists have their number or name in brackets. Keys of maps are none.
pub fn find(path: &str) -> Option<&'static Key> {
    let mut bare = String::new();
    let mut depth = 0_usize;
    for c in path.chars() {
        match c {
            '[' => depth += 1,
            ']' => depth = depth.saturating_sub(1),
            c if depth == 0 => bare.push(c),
            _ => {}
        }
    }
    let mut found: Option<&'static Key> = None;
    for name in bare.split('.') {
        let keys = found.map_or(ROOT, Key::keys);
        found = Some(keys.iter().find(|key| key.name == name)?);
    }
    found
}

/// Keys that several objects have.
#[derive(Debug)]
pub struct Shape {
    /// What such an object is called.
    pub title: &'static str,
    /// What it is.
    pub about: &'static str,
    /// The keys that all of them have.
    pub keys: &'static [Key],
}

impl Shape {
    /// True if all its keys are among these.
    pub fn is_in(&self, keys: &[Key]) -> bool {
        self.keys.iter().all(|key| keys.iter().any(|other| key.is_same(other)))
    }

    /// True if it has that key.
    pub fn has(&self, key: &Key) -> bool {
        self.keys.iter().any(|own| own.is_same(key))
    }

    /// True if it has a key of that name, or one that is read from the file of that name.
    pub fn has_name(&self, name: &str) -> bool {
        self.keys.iter().any(|key| key.name == name || key.file_name().as_deref() == Some(name))
    }
}

/// Shapes, in the order in which they are looked for and documented.
pub const SHAPES: &[Shape] = &[
    Shape {
        title: "Channel options",
        about: "Options of the channels of one namespace.",
        keys: CHANNEL_OPTIONS,
    },
    Shape { title: "Proxy", about: "How one backend is called.", keys: shared::PROXY },
    Shape { title: "Token", about: "How tokens of one kind are verified.", keys: client::TOKEN_KEYS },
    Shape { title: "Redis", about: "A connection to Redis.", keys: shared::REDIS },
    Shape {
        title: "PostgreSQL outbox",
        about: "A broker in PostgreSQL: entries are written to an outbox, and readers deliver them.",
        keys: shared::POSTGRES_BROKER,
    },
    Shape { title: "TLS", about: "TLS of a listener, or towards a server.", keys: shared::TLS },
];

/// The keys at the top.
pub const ROOT: &[Key] = &[
    object(
        "http_server",
        server::HTTP_SERVER,
        "The listeners of HTTP/1.1, HTTP/2 and HTTP/3, and their TLS.",
    ),
    object("log", server::LOG, "What is logged, and where."),
    text("pid_file", "File the process id is written to; removed when the server stops."),
    object("node", server::NODE, "How this node presents itself."),
    object("shutdown", server::SHUTDOWN, "How the server stops after SIGTERM or SIGINT."),
    switch("enable_unreleased_features", "Accepted for compatibility; every feature of Gyre is released."),
    object(
        "usage_stats",
        &[switch("disabled", "Accepted for compatibility: Gyre never sends statistics.")],
        "Usage statistics of Centrifugo.",
    ),
    object("client", client::CLIENT, "Connections of clients: who gets in, limits and intervals."),
    object("channel", channel::CHANNEL, "Channels: namespaces, their options, names and hooks."),
    object("rpc", channel::RPC, "Calls of clients that the application answers."),
    object("shared_poll", channel::SHARED_POLL, "What all channels of shared polls have in common."),
    objects(
        "proxies",
        shared::NAMED_PROXY,
        "Backends that hooks refer to by name (`…_proxy_name`). Names are unique, at least two characters of `a-z`, \
         `A-Z`, `0-9`, `-`, `_` and `.`; `default` is taken.",
    ),
    object("http_api", server::HTTP_API, "The server API over HTTP."),
    object("grpc_api", server::GRPC_API, "The server API over gRPC, on a port of its own."),
    objects(
        "consumers",
        consumers::CONSUMER,
        "Sources of API commands besides the API: queues and outbox tables. Names are unique, at least two letters, \
         digits or underscores. Gyre does not have them yet: an enabled one is refused at start.",
    ),
    object("websocket", transports::WEBSOCKET, "WebSocket, bidirectional: over HTTP/1.1, HTTP/2 and HTTP/3."),
    object(
        "webtransport",
        transports::WEBTRANSPORT,
        "WebTransport over HTTP/3, one bidirectional stream a session.",
    ),
    object("sse", transports::SSE, "Server-sent events; commands come over `emulation`."),
    object(
        "http_stream",
        transports::HTTP_STREAM,
        "A response that never ends, JSON or Protobuf; commands come over `emulation`.",
    ),
    object(
        "emulation",
        transports::EMULATION,
        "The endpoint for commands of clients that are connected over `sse` or `http_stream`; served when one of them \
         is enabled.",
    ),
    object("uni_websocket", transports::UNI_WEBSOCKET, "WebSocket, pushes only."),
    object("uni_sse", transports::UNI_SSE, "Server-sent events, pushes only."),
    object("uni_http_stream", transports::UNI_HTTP_STREAM, "A response that never ends, pushes only."),
    object(
        "uni_webtransport",
        transports::UNI_WEBTRANSPORT,
        "WebTransport, pushes only, on one stream that the server opens. What else is set comes from `webtransport`.",
    ),
    object(
        "uni_grpc",
        transports::UNI_GRPC,
        "A gRPC call whose response is the connection; a port of its own.",
    ),
    object(
        "init",
        transports::INIT,
        "An endpoint that answers `{}`: clients use it to learn whether the server can be reached.",
    ),
    object("admin", operation::ADMIN, "The interface for people who run the server."),
    object(
        "prometheus",
        operation::PROMETHEUS,
        "Metrics in the format of Prometheus, on the internal port if there is one.",
    ),
    object(
        "health",
        operation::HEALTH,
        "An endpoint that answers `{}` with 200 as long as the process runs.",
    ),
    object(
        "swagger",
        operation::SWAGGER,
        "The description of the HTTP API as an OpenAPI document, and a page that shows it.",
    ),
    object("debug", operation::DEBUG, "Profiles of the running process."),
    object(
        "opentelemetry",
        operation::OPENTELEMETRY,
        "Traces; the exporter is set by the `OTEL_…` variables.",
    ),
    object("graphite", operation::GRAPHITE, "Metrics pushed to a Graphite server."),
    object("engine", engines::ENGINE, "Where history, presence and publications between nodes are kept."),
    object("broker", engines::BROKER, "A broker apart from the engine: publications and history."),
    object("presence_manager", engines::PRESENCE_MANAGER, "Presence apart from the engine."),
    object("map_broker", engines::MAP_BROKER, "Where the state of maps is kept."),
    object("controller", engines::CONTROLLER, "What nodes tell each other, apart from the engine."),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn each(keys: &'static [Key], path: &str, look: &mut impl FnMut(&str, &'static Key, &'static [Key])) {
        for key in keys {
            let path = if path.is_empty() { key.name.to_owned() } else { format!("{path}.{}", key.name) };
            look(&path, key, keys);
            each(key.keys(), &path, look);
        }
    }

    /// Each key is explained in sentences, has a default of its kind, and a name that no other key of its object has,
    /// files of secrets included.
    #[test]
    fn the_table_is_whole() {
        let mut count = 0;
        each(ROOT, "", &mut |path, key, siblings| {
            count += 1;
            assert!(key.about.ends_with(['.', ':']), "{path}: {}", key.about);
            assert!(siblings.iter().filter(|other| other.name == key.name).count() == 1, "{path}");
            assert!(siblings.iter().all(|other| other.file_name().as_deref() != Some(key.name)), "{path}");
            match key.kind {
                Kind::Bool => assert!(matches!(key.default, "" | "true"), "{path}"),
                Kind::Int => assert!(key.default.is_empty() || key.default.parse::<i64>().is_ok(), "{path}"),
                Kind::Duration => assert!(
                    key.default.is_empty() || super::super::duration::parse(key.default).is_some(),
                    "{path}"
                ),
                _ => {}
            }
            if key.zero_is_default {
                assert!(
                    !matches!(key.default, "" | "0" | "0s"),
                    "{path}: zero must have a default to stand for"
                );
            }
            if !key.choices.is_empty() {
                assert!(key.choices.contains(&key.default) || key.default.is_empty(), "{path}");
            }
        });
        assert!(count > 900, "{count}");
    }
}
