//! Calls to the application's backend: JSON over HTTP, each bounded in time and size.
//!
//! One client for all hooks; what differs is the body. Calls run on the control runtime, never on a shard.
//!
//! Spec: centrifugal.dev, "Proxy to backend"; centrifugo `internal/proxy`.

mod map;
mod shared_poll;

use std::{collections::HashMap, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use bytes::Bytes;
use gyre_core::ports::HookRefusal;
use http::{HeaderName, HeaderValue, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};

/// Bytes of a backend's answer at most; a longer one is a failure. The reference has no limit.
const RESPONSE_BYTES_MAX: usize = 16 << 20;
/// Idle connections kept for each host, as many as the reference keeps.
const IDLE_PER_HOST: usize = 255;

/// Reads a backend's answer, which is an object: serde would take a list for one whose fields are all missing.
fn parse<'a, T: serde::Deserialize<'a>>(answer: &'a [u8]) -> serde_json::Result<T> {
    match answer.trim_ascii_start().first() {
        Some(b'{') => serde_json::from_slice(answer),
        _ => Err(serde::de::Error::custom("the answer is not an object")),
    }
}

/// Where and how a hook is called.
#[derive(Clone, Debug)]
pub struct Target {
    /// `endpoint`, with scheme `http` or `https`.
    pub endpoint: Uri,
    /// `timeout`: from the first byte sent to the last one received.
    pub timeout: Duration,
    /// `http.static_headers`.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// `binary_encoding`: data is carried in base64.
    pub is_binary: bool,
    /// `http.status_to_code_transforms`: statuses that are answers.
    pub transforms: Vec<(StatusCode, HookRefusal)>,
}

/// Targets by the names that channel options refer to.
pub type Targets = HashMap<Box<str>, Target>;

/// Calls hooks. Cheap to clone.
#[derive(Clone)]
pub struct Hooks(Arc<Inner>);

struct Inner {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    targets: ArcSwap<Targets>,
}

/// Why a call gave no usable answer.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// The configuration names no such target (any more).
    #[error("the hook \"{0}\" is not configured")]
    UnknownTarget(String),
    /// No connection, or it broke.
    #[error("cannot reach the backend: {0}")]
    Unreachable(String),
    /// It took too long.
    #[error("the backend did not answer within {0:?}")]
    TimedOut(Duration),
    /// Answered with something else than 200.
    #[error("the backend answered with status {0}")]
    Status(StatusCode),
    /// The answer is too long or broke off.
    #[error("the backend's answer cannot be read: {0}")]
    Body(String),
}

impl Hooks {
    /// A caller of these targets. Hosts with TLS are verified against the system's authorities.
    ///
    /// # Errors
    /// If TLS cannot be set up at all.
    pub fn new(targets: Targets) -> Result<Self, rustls::Error> {
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        let builder = HttpsConnectorBuilder::new();
        let builder = match builder.with_provider_and_native_roots(provider.clone()) {
            Ok(builder) => builder,
            Err(error) => {
                // Most systems call no hook over TLS: those that do will see their calls fail.
                tracing::warn!(%error, "no certificate authorities: hooks over https will fail");
                let config = rustls::ClientConfig::builder_with_provider(Arc::new(provider))
                    .with_safe_default_protocol_versions()?
                    .with_root_certificates(rustls::RootCertStore::empty())
                    .with_no_client_auth();
                HttpsConnectorBuilder::new().with_tls_config(config)
            }
        };
        let connector = builder.https_or_http().enable_http1().build();
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_max_idle_per_host(IDLE_PER_HOST)
            .build(connector);
        Ok(Self(Arc::new(Inner { client, targets: ArcSwap::from_pointee(targets) })))
    }

    /// Uses other targets from now on.
    pub fn replace(&self, targets: Targets) {
        self.0.targets.store(Arc::new(targets));
    }

    /// The target of that name.
    ///
    /// # Errors
    /// If there is none.
    pub fn target(&self, name: &str) -> Result<Target, CallError> {
        self.0.targets.load().get(name).cloned().ok_or_else(|| CallError::UnknownTarget(name.into()))
    }

    /// Posts a JSON body and returns the body of the answer.
    ///
    /// # Errors
    /// If there is no answer with status 200 in time.
    ///
    /// # Cancel safety
    /// Dropping the future abandons the call; the backend may have received it.
    pub async fn call(&self, target: &Target, body: Vec<u8>) -> Result<Bytes, CallError> {
        match tokio::time::timeout(target.timeout, self.post(target, body)).await {
            Ok(answer) => answer,
            Err(_) => Err(CallError::TimedOut(target.timeout)),
        }
    }

    async fn post(&self, target: &Target, body: Vec<u8>) -> Result<Bytes, CallError> {
        let mut request = Request::new(Full::new(Bytes::from(body)));
        *request.method_mut() = http::Method::POST;
        *request.uri_mut() = target.endpoint.clone();
        for (name, value) in &target.headers {
            request.headers_mut().insert(name.clone(), value.clone());
        }
        let json = HeaderValue::from_static("application/json");
        request.headers_mut().insert(header::CONTENT_TYPE, json);
        let sent = self.0.client.request(request).await;
        let response = sent.map_err(|error| CallError::Unreachable(error.to_string()))?;
        if response.status() != StatusCode::OK {
            return Err(CallError::Status(response.status()));
        }
        let body = Limited::new(response.into_body(), RESPONSE_BYTES_MAX).collect().await;
        Ok(body.map_err(|error| CallError::Body(error.to_string()))?.to_bytes())
    }
}

impl std::fmt::Debug for Hooks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hooks").field("targets", &self.0.targets.load().keys()).finish_non_exhaustive()
    }
}
