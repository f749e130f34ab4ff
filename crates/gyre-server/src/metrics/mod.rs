//! Prometheus metrics under the names of Centrifugo, so that its dashboards work; ours beside them begin with `gyre_`.
//!
//! Figures of connections are kept by the shards and read when somebody asks; only those of the API, of hooks and of HTTP
//! requests are counted here, on stripes that threads do not share.
//!
//! Spec: centrifugal.dev, "Metrics monitoring"

mod api;
mod exposition;
mod graphite;
mod node;
mod process;
mod quic;

use std::sync::Arc;

use gyre_node::Node;

use self::api::Windows;
pub use self::{
    api::{ApiMetrics, HookCall, HookMetrics, HttpMetrics},
    exposition::{CONTENT_TYPE, Exposition, Family, Kind, Labels, Sample},
    graphite::{Graphite, GraphiteOptions},
};
use crate::{health::Health, hooks::Hooks};

/// What is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Quantiles beside histograms: unless `prometheus.native_histograms`.
    pub with_summaries: bool,
    /// `prometheus.recovered_publications_histogram`.
    pub with_recovered_publications: bool,
    /// `prometheus.instrument_http_handlers`: requests of HTTP are counted.
    pub counts_requests: bool,
}

/// Everything that counts, in one place.
#[derive(Debug)]
pub struct Metrics {
    /// What is told.
    pub options: Options,
    /// The server API.
    pub api: Arc<ApiMetrics>,
    /// Requests of HTTP.
    pub http: HttpMetrics,
    windows: Windows,
}

impl Metrics {
    /// Nothing is counted yet.
    pub fn new(options: Options) -> Self {
        Self { options, api: Arc::default(), http: HttpMetrics::default(), windows: Windows::default() }
    }

    /// All figures of this moment. Asks every shard and waits for them.
    pub async fn gather(
        &self,
        node: &Node,
        hooks: &Hooks,
        health: &Health,
        quic: &gyre_transport::quic::Statistics,
    ) -> Exposition {
        let mut exposition = Exposition::default();
        node::add(&mut exposition, node, self.options, &self.windows).await;
        self.api.add(&mut exposition, self.options.with_summaries);
        hooks.metrics().add(&mut exposition, self.options.with_summaries);
        self.http.add(&mut exposition);
        health.add(&mut exposition);
        quic::add(&mut exposition, &quic.counts());
        process::add(&mut exposition);
        exposition
    }
}
