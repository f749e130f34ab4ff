//! Where the log goes, and from which level on.

use std::{fs::OpenOptions, sync::Mutex};

use tracing_subscriber::{EnvFilter, Registry, fmt, layer::SubscriberExt, reload, util::SubscriberInitExt};

/// The log of the process, whose level can change.
pub(super) struct Logging(reload::Handle<EnvFilter, Registry>);

impl Logging {
    /// Text to the standard error output; into a file, where one is named, JSON lines.
    ///
    /// # Errors
    /// If the file cannot be opened.
    pub(super) fn start(level: &str, file: Option<&str>) -> Result<Self, String> {
        let file = file.map(|path| {
            let opened = OpenOptions::new().append(true).create(true).open(path);
            opened.map_err(|error| format!("log.file: cannot open {path}: {error}"))
        });
        let lines = file
            .transpose()?
            .map(|file| fmt::layer().json().flatten_event(true).with_writer(Mutex::new(file)));
        let text = lines.is_none().then(|| fmt::layer().with_writer(std::io::stderr));
        let (filter, handle) = reload::Layer::new(filter(level));
        // Fails only if a subscriber is installed already: then that one stays.
        drop(tracing_subscriber::registry().with(filter).with(text).with(lines).try_init());
        Ok(Self(handle))
    }

    /// Logs from another level on.
    pub(super) fn set_level(&self, level: &str) {
        // Fails only if the subscriber is gone, which ends with the process.
        drop(self.0.reload(filter(level)));
    }
}

/// `log.level` as a filter: an unknown level counts as `info`.
fn filter(level: &str) -> EnvFilter {
    EnvFilter::new(match level {
        "none" => "off",
        "fatal" => "error",
        "trace" | "debug" | "info" | "warn" | "error" => level,
        _ => "info",
    })
}
