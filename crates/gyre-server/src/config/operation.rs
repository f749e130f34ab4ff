//! What an operator sees of the server: metrics, logs, traces, profiles.

use std::time::Duration;

use super::{Section, read::Findings, resolve::non_empty};
use crate::{
    logging::LogLevels,
    metrics::{self, GraphiteOptions},
    telemetry::Traces,
};

/// Shorter intervals of `graphite.interval` are taken as this one.
const GRAPHITE_INTERVAL_MIN: Duration = Duration::from_secs(1);

/// Options of everything that only shows.
#[derive(Clone, Debug)]
pub struct Operation {
    /// What metrics tell.
    pub metrics: metrics::Options,
    /// `graphite`, if enabled.
    pub graphite: Option<GraphiteOptions>,
    /// `opentelemetry`, if enabled.
    pub traces: Option<Traces>,
    /// `debug.handler_prefix`, if enabled.
    pub debug: Option<Box<str>>,
    /// `log.level` and `log.levels`.
    pub log_levels: LogLevels,
}

/// Resolves them.
pub(super) fn operation(raw: &Section, findings: &mut Findings) -> Operation {
    let (prometheus, graphite, debug) =
        (raw.object("prometheus"), raw.object("graphite"), raw.object("debug"));
    let telemetry = raw.object("opentelemetry");
    let log = raw.object("log");
    if telemetry.bool("enabled") && telemetry.bool("google_cloud_adc_auth") {
        let fix = "put the token into OTEL_EXPORTER_OTLP_HEADERS, or send to a collector that has its own";
        findings.problem("opentelemetry.google_cloud_adc_auth", "is not available in this version", fix);
    }
    if prometheus.bool("native_histograms") {
        let message = "prometheus.native_histograms leaves out the quantiles; histograms keep their buckets in this version";
        findings.warnings.push(super::Warning::new(message));
    }
    let log_levels = LogLevels::new(log.text("level"), log.map("levels")).unwrap_or_else(|unknown| {
        let fix = "use none, error, warn, info, debug or trace";
        findings.problem(&format!("log.levels.{unknown}"), "is no level", fix);
        LogLevels::default()
    });
    Operation {
        metrics: metrics::Options {
            with_summaries: !prometheus.bool("native_histograms"),
            with_recovered_publications: prometheus.bool("recovered_publications_histogram"),
            counts_requests: prometheus.bool("instrument_http_handlers"),
        },
        graphite: graphite.bool("enabled").then(|| GraphiteOptions {
            host: non_empty(graphite.text("host")).unwrap_or("localhost").to_owned(),
            port: u16::try_from(graphite.int("port")).unwrap_or_else(|_| {
                findings.problem("graphite.port", "is no port", "use a number from 1 to 65535");
                0
            }),
            prefix: graphite.text("prefix").to_owned(),
            interval: graphite.duration("interval").max(GRAPHITE_INTERVAL_MIN),
            tags: graphite.bool("tags"),
        }),
        traces: telemetry.bool("enabled").then(|| Traces { api: telemetry.bool("api") }),
        debug: super::resolve::endpoint(debug),
        log_levels,
    }
}
