//! Log lines: where they go, and from which level on, by part of the server.
//!
//! Levels change at run time. What a file gets is JSON, one object a line, with the fields of the event beside `message`.

use std::{collections::BTreeMap, fs::OpenOptions, sync::Mutex};

use tracing_subscriber::{EnvFilter, Registry, fmt, layer::SubscriberExt, reload, util::SubscriberInitExt};

/// Parts of the server by the names that `log.levels` knows, and the modules they are.
const SUBSYSTEMS: &[(&str, &[&str])] = &[
    ("admin", &["gyre_server::admin"]),
    ("api", &["gyre_server::api", "gyre_node::ops"]),
    ("auth", &["gyre_server::auth"]),
    ("certificates", &["gyre_server::certificates", "gyre_server::acme", "gyre_transport::tls"]),
    ("client", &["gyre_core", "gyre_node"]),
    ("config", &["gyre_server::config"]),
    ("engine", &["gyre_engine"]),
    ("hooks", &["gyre_server::hooks"]),
    ("http", &["gyre_transport::http", "hyper", "hyper_util", "h2"]),
    ("metrics", &["gyre_server::metrics", "gyre_server::telemetry"]),
    ("quic", &["gyre_transport::quic", "gyre_h3", "quinn", "quinn_proto", "quinn_udp"]),
    ("sse", &["gyre_transport::streaming"]),
    ("tls", &["rustls", "tokio_rustls"]),
    ("websocket", &["gyre_transport::websocket"]),
    ("webtransport", &["gyre_transport::webtransport"]),
];

/// The level of everything, and those of parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLevels {
    level: &'static str,
    /// By module, so that a more specific one wins.
    modules: BTreeMap<String, &'static str>,
}

impl Default for LogLevels {
    fn default() -> Self {
        Self { level: "info", modules: BTreeMap::new() }
    }
}

impl LogLevels {
    /// `log.level` and `log.levels`: levels of subsystems, or of modules by their paths.
    ///
    /// # Errors
    /// The name of an entry whose level there is not. (An unknown `log.level` is `info`, as in the reference.)
    pub fn new<'a>(
        level: &str,
        levels: impl IntoIterator<Item = &'a (String, String)>,
    ) -> Result<Self, String> {
        let mut modules = BTreeMap::new();
        for (name, text) in levels {
            let level = parse(text).ok_or_else(|| name.clone())?;
            match SUBSYSTEMS.iter().find(|(known, _)| known == name) {
                Some((_, paths)) => modules.extend(paths.iter().map(|path| ((*path).to_owned(), level))),
                None => drop(modules.insert(name.replace('-', "_"), level)),
            }
        }
        Ok(Self { level: parse(level).unwrap_or("info"), modules })
    }

    fn filter(&self) -> EnvFilter {
        let modules = self.modules.iter().map(|(module, level)| format!(",{module}={level}"));
        EnvFilter::new(self.level.to_owned() + &modules.collect::<String>())
    }
}

/// The names of levels, those of the reference included.
fn parse(level: &str) -> Option<&'static str> {
    Some(match level.to_lowercase().as_str() {
        "none" | "off" => "off",
        "fatal" | "error" => "error",
        "warn" => "warn",
        "info" => "info",
        "debug" => "debug",
        "trace" => "trace",
        _ => return None,
    })
}

/// Where levels are changed.
#[derive(Clone, Debug)]
pub struct Logging(reload::Handle<EnvFilter, Registry>);

impl Logging {
    /// Text to the standard error output; into a file, where one is named, JSON lines.
    ///
    /// # Errors
    /// If the file cannot be opened.
    pub fn start(levels: &LogLevels, file: Option<&str>) -> Result<Self, String> {
        let file = file.map(|path| {
            let opened = OpenOptions::new().append(true).create(true).open(path);
            opened.map_err(|error| format!("log.file: cannot open {path}: {error}"))
        });
        let lines = file
            .transpose()?
            .map(|file| fmt::layer().json().flatten_event(true).with_writer(Mutex::new(file)));
        let text = lines.is_none().then(|| fmt::layer().with_writer(std::io::stderr));
        let (filter, handle) = reload::Layer::new(levels.filter());
        // Fails only if a subscriber is installed already: then that one stays.
        drop(tracing_subscriber::registry().with(filter).with(text).with(lines).try_init());
        Ok(Self(handle))
    }

    /// Other levels from now on.
    pub fn change(&self, levels: &LogLevels) {
        if let Err(error) = self.0.reload(levels.filter()) {
            tracing::error!(%error, "cannot change the levels of the log");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io,
        sync::{Arc, PoisonError},
    };

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn levels(level: &str, parts: &[(&str, &str)]) -> Result<LogLevels, String> {
        let parts: Vec<_> = parts.iter().map(|(name, level)| ((*name).into(), (*level).into())).collect();
        LogLevels::new(level, &parts)
    }

    /// A part is logged from its own level on, a module by its path as well, everything else from the common one; after a
    /// change the new ones count. Lines of three modules are written and looked for.
    #[test]
    fn levels_count_by_part_and_can_change() {
        let lines = Lines::default();
        let first = levels("warn", &[("hooks", "debug"), ("some-crate", "trace")]).unwrap();
        let (filter, handle) = reload::Layer::new(first.filter());
        let writer = lines.clone();
        let subscriber = tracing_subscriber::registry()
            .with(filter)
            .with(fmt::layer().with_writer(move || writer.clone()));
        let written = |say: &dyn Fn()| {
            say();
            String::from_utf8(std::mem::take(&mut *lines.0.lock().unwrap())).unwrap()
        };
        tracing::subscriber::with_default(subscriber, || {
            let say = || {
                tracing::debug!(target: "gyre_server::hooks::http", "one");
                tracing::trace!(target: "some_crate", "two");
                tracing::info!(target: "gyre_server::api", "three");
            };
            let text = written(&say);
            assert!(text.contains("one") && text.contains("two") && !text.contains("three"), "{text}");
            handle.reload(levels("info", &[("some-crate", "none")]).unwrap().filter()).unwrap();
            let text = written(&say);
            assert!(!text.contains("one") && !text.contains("two") && text.contains("three"), "{text}");
        });
    }

    /// A level there is not is told with the name it stands at; an unknown common one counts as `info`.
    #[test]
    fn unknown_levels_are_told() {
        assert_eq!(levels("info", &[("api", "loud")]), Err("api".into()));
        assert_eq!(levels("loud", &[]), Ok(LogLevels::default()));
        assert_eq!(levels("NONE", &[]).map(|levels| levels.level), Ok("off"));
    }
}
