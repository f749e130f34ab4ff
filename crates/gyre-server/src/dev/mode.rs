//! What development mode is made of: defaults, certificate, page, clock.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use gyre_node::{Node, ops::PublishRequest};
use gyre_protocol::Payload;
use gyre_transport::tls::CertificateResolver;
use serde_json::{Value, json};

use super::{
    Banner, CertificateError, Certificates, Change, Endpoints, Secrets, StateFolder, StateLocations,
    StateWarning,
};
use crate::{
    config::{self, Loaded, Problem, Sources},
    routes::Extra,
};

/// Channel of the clock.
const CLOCK_CHANNEL: &str = "demo:clock";
/// How often the clock publishes while someone is subscribed.
const CLOCK_INTERVAL: Duration = Duration::from_secs(1);
/// How often a first subscriber of the clock is looked for.
const CLOCK_LOOK_INTERVAL: Duration = Duration::from_millis(50);
/// How often it is looked whether the certificate is due for a change; sleeping machines miss longer timers.
const CERTIFICATE_INTERVAL: Duration = Duration::from_secs(60);
const DEFAULT_PORT: u16 = 8000;

/// Everything development mode adds to a server.
pub struct Development {
    certificates: Certificates,
    secrets: Secrets,
    endpoints: Arc<Endpoints>,
    warnings: Vec<StateWarning>,
}

/// Why development mode cannot start.
#[derive(Debug, thiserror::Error)]
pub enum DevelopmentError {
    /// Neither the state folder nor a temporary one can be used.
    #[error("cannot keep certificate and secrets: {0}")]
    State(#[from] std::io::Error),
    /// The certificate cannot be made.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// What was configured besides is wrong.
    #[error("the configuration cannot be used")]
    Configuration(Vec<Problem>),
}

impl Development {
    /// Prepares certificate and secrets, and loads the configuration over the defaults of development mode.
    ///
    /// # Errors
    /// If the state cannot be kept, or the configuration has problems.
    pub fn prepare(
        sources: &mut Sources,
        locations: &StateLocations,
    ) -> Result<(Self, Loaded), DevelopmentError> {
        let mut warnings = Vec::new();
        let folder = StateFolder::open(locations, &mut warnings)?;
        let secrets = Secrets::load_or_create(&folder, &mut warnings);
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        let now = SystemTime::now();
        let certificates = Certificates::load_or_create(folder, &[host], now, &mut warnings)?;
        // Origins name the port, and open channels depend on namespaces: both may be configured.
        sources.defaults_below = defaults(&certificates, &secrets, DEFAULT_PORT, true);
        let loaded = config::load(sources).map_err(DevelopmentError::Configuration)?;
        let port = loaded.resolved.server.port;
        let has_namespaces = !loaded.resolved.rules.namespaces.named.is_empty();
        sources.defaults_below = defaults(&certificates, &secrets, port, !has_namespaces);
        let loaded = config::load(sources).map_err(DevelopmentError::Configuration)?;
        let prefix = loaded.raw.object("webtransport").text("handler_prefix");
        let endpoints =
            Arc::new(Endpoints::new(prefix, loaded.resolved.origins.clone(), &certificates.hashes()));
        Ok((Self { certificates, secrets, endpoints, warnings }, loaded))
    }

    /// The endpoints beside the server's own.
    pub fn endpoints(&self) -> Arc<dyn Extra> {
        self.endpoints.clone()
    }

    /// What was odd about the state.
    pub fn warnings(&self) -> &[StateWarning] {
        &self.warnings
    }

    /// What the terminal shows.
    pub fn banner(&self, port: u16) -> String {
        let api_key = &self.secrets.api_key;
        Banner { host: "localhost", port, hashes: &self.certificates.hashes(), api_key }.to_string()
    }

    /// Keeps the certificate fresh for as long as the server runs.
    pub async fn keep_certificate(mut self, resolver: Arc<CertificateResolver>) {
        let mut interval = tokio::time::interval(CERTIFICATE_INTERVAL);
        loop {
            interval.tick().await;
            let now = SystemTime::now();
            if now < self.certificates.next_change() {
                continue;
            }
            let mut warnings = Vec::new();
            match self.certificates.advance(now, &mut warnings) {
                Ok(Change::Nothing) => {}
                Ok(change) => {
                    self.endpoints.announce(&self.certificates.hashes());
                    let current = self.certificates.current();
                    let (chain, key) = (current.certificate_pem(), current.private_key_pem());
                    match resolver.replace(chain.as_bytes(), key.as_bytes()) {
                        Ok(()) => tracing::info!(?change, "the development certificate moved on"),
                        Err(error) => {
                            tracing::error!(%error, "the next development certificate cannot be used")
                        }
                    }
                }
                Err(error) => tracing::error!(%error, "the development certificate cannot be renewed"),
            }
            warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
        }
    }
}

/// Publishes the time once a second while someone is subscribed.
pub async fn run_clock(node: Arc<Node>) {
    loop {
        // Looked for often, so that a page that has just subscribed sees a message at once.
        if !node.has_subscribers(CLOCK_CHANNEL) {
            tokio::time::sleep(CLOCK_LOOK_INTERVAL).await;
            continue;
        }
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let data = Payload::json(json!({ "unix_ms": since.as_millis() as u64 }).to_string());
        let published = node.publish(CLOCK_CHANNEL, PublishRequest { data, ..PublishRequest::default() });
        if let Err(error) = published.wait().await {
            tracing::warn!(code = error.code, "the clock could not publish");
        }
        tokio::time::sleep(CLOCK_INTERVAL).await;
    }
}

/// The configuration of development mode, laid under whatever else is configured.
fn defaults(certificates: &Certificates, secrets: &Secrets, port: u16, is_without_namespaces: bool) -> Value {
    let current = certificates.current();
    // `[` would begin a class of characters in a pattern.
    let origins: Vec<String> = ["http", "https"]
        .iter()
        .flat_map(|scheme| {
            ["localhost", "127.0.0.1", "[[]::1]"].map(|host| format!("{scheme}://{host}:{port}"))
        })
        .collect();
    let mut channel = json!({
        "without_namespace": {
            "presence": true, "join_leave": true, "history_size": 100, "history_ttl": "300s", "allow_recovery": true,
            "allow_positioning": true,
            "allow_subscribe_for_client": true, "allow_subscribe_for_anonymous": true,
            "allow_publish_for_client": true, "allow_publish_for_anonymous": true,
            "allow_presence_for_client": true, "allow_presence_for_anonymous": true,
            "allow_history_for_client": true, "allow_history_for_anonymous": true,
        },
    });
    if is_without_namespaces {
        // Every name is a channel, also one that looks like that of a namespace.
        channel["namespace_boundary"] = "".into();
    }
    json!({
        "http_server": {
            "address": "localhost",
            "port": port,
            "tls": {
                "enabled": true, "cert_pem": current.certificate_pem(), "key_pem": current.private_key_pem(),
            },
            "http3": { "enabled": true },
        },
        "webtransport": { "enabled": true },
        "health": { "enabled": true },
        "prometheus": { "enabled": true },
        "init": { "enabled": true },
        "http_api": { "key": secrets.api_key, "connections": true },
        // Whoever has the key may do everything already.
        "admin": { "enabled": true, "password": secrets.api_key, "secret": secrets.token_secret },
        "client": {
            "allowed_origins": origins,
            "allow_anonymous_connect_without_token": true,
            "token": { "hmac_secret_key": secrets.token_secret },
        },
        "rpc": { "ping": { "enabled": true } },
        "channel": channel,
    })
}
