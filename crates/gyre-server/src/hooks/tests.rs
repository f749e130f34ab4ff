use super::*;

/// A target with nothing but an endpoint.
pub(super) fn target(endpoint: &str) -> Target {
    Target {
        endpoint: endpoint.parse().unwrap(),
        timeout: Duration::from_secs(1),
        static_headers: HeaderMap::new(),
        http_headers: Vec::new(),
        emulated_headers: Vec::new(),
        is_binary: false,
        includes_meta: false,
        tls: None,
        transforms: Vec::new(),
    }
}
