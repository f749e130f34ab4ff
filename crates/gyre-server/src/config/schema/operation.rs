//! Looking at the server: admin, metrics, health, traces.

use super::{
    Key,
    Kind::{Duration, Int, Text},
    Negative, key, secret, switch, text,
};

/// An endpoint that can be enabled.
macro_rules! endpoint {
    ($prefix:literal $(, $more:expr)* $(,)?) => {
        &[
            switch("enabled", "Serves the endpoint."),
            key("handler_prefix", Text, $prefix, "Path of the endpoint."),
            $($more,)*
        ]
    };
}
pub(super) use endpoint;

pub(super) const ADMIN: &[Key] = endpoint!(
    "",
    secret("password", "Password of the login. Without one nobody can log in."),
    secret("secret", "Secret that login tokens are signed with. Without one nobody can log in."),
    switch("insecure", "Nobody has to log in. For tests only."),
    text("web_path", "Folder whose files are served in place of the built-in pages."),
    text("web_proxy_address", "URL of a server that pages come from, while they are developed."),
    switch("external", "Serves it on the external port too, where there is an internal one."),
);

pub(super) const PROMETHEUS: &[Key] = endpoint!(
    "/metrics",
    switch("instrument_http_handlers", "Counts HTTP requests by path, method and status."),
    switch("recovered_publications_histogram", "Adds a histogram of publications recovered at once."),
    switch("native_histograms", "Adds native histograms and leaves out summaries."),
);

pub(super) const HEALTH: &[Key] = endpoint!("/health");
pub(super) const SWAGGER: &[Key] = endpoint!("/swagger");
pub(super) const DEBUG: &[Key] = endpoint!("/debug/pprof");

pub(super) const OPENTELEMETRY: &[Key] = &[
    switch("enabled", "Traces are exported."),
    switch("api", "Traces requests to the server API."),
    switch("consuming", "Traces what consumers do."),
    switch("google_cloud_adc_auth", "Authenticates to Google Cloud with its default credentials."),
];

pub(super) const GRAPHITE: &[Key] = &[
    switch("enabled", "Metrics are pushed."),
    key("host", Text, "localhost", "Host of the Graphite server."),
    key("port", Int, "2003", "Port of the Graphite server.").zero_is_default().negative(Negative::Allowed),
    key("prefix", Text, "centrifugo", "Prefix of all names of metrics."),
    key("interval", Duration, "10s", "Time between two pushes."),
    switch("tags", "Labels are sent as tags instead of parts of the name."),
];
