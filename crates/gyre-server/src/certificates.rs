//! Certificates of listeners that change while the server runs: by a reload of the configuration, or because their files
//! changed.
//!
//! A new certificate counts for the next handshakes and touches no connection that is open. One that cannot be used
//! changes nothing and is logged.

use std::{
    fs,
    os::unix::fs::MetadataExt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use gyre_transport::tls::{CertificateResolver, Prepared, ServerTls, TlsError};

use crate::config::{InternalTls, Resolved, TlsOptions, TlsSource};

/// How often the files are looked at. What is found changed is read when it was the same twice: a certificate and its
/// key are mostly written one after the other.
const WATCH_INTERVAL: Duration = Duration::from_secs(1);

/// The certificates of all listeners that have TLS of their own.
#[derive(Debug, Default)]
pub struct Certificates(Vec<Watched>);

#[derive(Debug)]
struct Watched {
    tls: Arc<ServerTls>,
    /// What was last taken over. Development mode replaces certificates in its own way: a configuration that is read
    /// again and has not changed must not undo that.
    options: Mutex<TlsOptions>,
}

/// What a reload will change.
#[derive(Debug)]
pub struct Changes(Vec<(usize, TlsOptions, Prepared)>);

/// What tells a file that has changed.
type Fingerprint = Vec<Option<(SystemTime, u64, u64)>>;

impl Certificates {
    /// Adds the TLS of a listener.
    pub fn add(&mut self, options: TlsOptions, tls: Arc<ServerTls>) {
        self.0.push(Watched { tls, options: Mutex::new(options) });
    }

    /// Where the certificate of the external port is replaced, if it has one.
    pub fn external(&self) -> Option<Arc<CertificateResolver>> {
        let external = self.0.iter().find(|watched| watched.options().source.path == "http_server.tls")?;
        Some(external.tls.resolver().clone())
    }

    /// Where each certificate is, by the key of its TLS object.
    pub fn resolvers(&self) -> Vec<(String, Arc<CertificateResolver>)> {
        let name = |watched: &Watched| watched.options().source.path.to_string();
        self.0.iter().map(|watched| (name(watched), watched.tls.resolver().clone())).collect()
    }

    /// Checks what a configuration that was read again has in their place; nothing is changed yet.
    ///
    /// # Errors
    /// If something of it cannot be used.
    pub fn prepare(&self, resolved: &Resolved) -> Result<Changes, TlsError> {
        let mut changes = Vec::new();
        for options in objects(resolved) {
            let find =
                |(_, watched): &(usize, &Watched)| watched.options().source.path == options.source.path;
            if let Some((at, watched)) = self.0.iter().enumerate().find(find)
                && *watched.options() != *options
            {
                changes.push((at, options.clone(), watched.tls.prepare(options.identity())?));
            }
        }
        Ok(Changes(changes))
    }

    /// Takes it over.
    pub fn apply(&self, changes: Changes) {
        for (at, options, prepared) in changes.0 {
            if let Some(watched) = self.0.get(at) {
                watched.tls.apply(prepared);
                *watched.options() = options;
            }
        }
    }

    /// Looks at the files for as long as the server runs.
    pub async fn watch(self: Arc<Self>) {
        let mut interval = tokio::time::interval(WATCH_INTERVAL);
        // Nothing is known yet: what changed between reading and watching is found by the first comparison.
        let mut states: Vec<(Fingerprint, bool)> = vec![(Vec::new(), true); self.0.len()];
        loop {
            interval.tick().await;
            let watched = self.clone();
            // File systems of networks may take their time.
            let looked = tokio::task::spawn_blocking(move || {
                watched.look(&mut states);
                states
            });
            match looked.await {
                Ok(looked) => states = looked,
                Err(error) => return tracing::error!(%error, "certificate files are not watched any more"),
            }
        }
    }

    fn look(&self, states: &mut [(Fingerprint, bool)]) {
        for (watched, (seen, is_unsettled)) in self.0.iter().zip(states) {
            let source = watched.options().source.clone();
            let now = fingerprint(&source);
            if now != *seen {
                (*seen, *is_unsettled) = (now, true);
            } else if std::mem::take(is_unsettled) {
                watched.read_again(&source);
            }
        }
    }
}

impl Watched {
    fn read_again(&self, source: &TlsSource) {
        let key = &source.path;
        let options = match source.read() {
            Ok(options) => options,
            Err(error) => {
                return tracing::error!(key, %error, "the new certificate cannot be used: the old one stays");
            }
        };
        if *self.options() == options {
            return;
        }
        match self.tls.prepare(options.identity()) {
            Ok(prepared) => {
                self.tls.apply(prepared);
                *self.options() = options;
                tracing::info!(key, "the certificate's files have changed: the new one is served");
            }
            Err(error) => {
                tracing::error!(key, %error, "the new certificate cannot be used: the old one stays")
            }
        }
    }

    fn options(&self) -> MutexGuard<'_, TlsOptions> {
        self.options.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Every TLS object of a listener.
fn objects(resolved: &Resolved) -> impl Iterator<Item = &TlsOptions> {
    let internal = match &resolved.server.internal_tls {
        InternalTls::Own(options) => Some(options),
        InternalTls::Plain | InternalTls::External => None,
    };
    let uni_grpc = resolved.uni_grpc.as_ref().and_then(|grpc| grpc.tls.as_ref());
    let grpc_api = resolved.grpc_api.as_ref().and_then(|grpc| grpc.tls.as_ref());
    [resolved.server.tls.as_ref(), internal, uni_grpc, grpc_api].into_iter().flatten()
}

fn fingerprint(source: &TlsSource) -> Fingerprint {
    let of_file = |path: &std::path::Path| {
        let metadata = fs::metadata(path).ok()?;
        Some((metadata.modified().ok()?, metadata.len(), metadata.ino()))
    };
    source.files().map(of_file).collect()
}
