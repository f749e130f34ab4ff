//! Which pages may talk to the server.
//!
//! Spec: configuration `client.allowed_origins`; WHATWG Fetch, "CORS protocol".

use std::sync::Arc;

use arc_swap::ArcSwap;

use ::http::{HeaderMap, HeaderName, HeaderValue, header};

/// Decides by the `Origin` header. A request without one does not come from a page and passes. Clones are one policy.
#[derive(Clone)]
pub struct OriginPolicy(Arc<ArcSwap<Decide>>);

type Decide = Box<dyn Fn(&str) -> bool + Send + Sync>;

impl std::fmt::Debug for OriginPolicy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("OriginPolicy")
    }
}

impl OriginPolicy {
    /// A policy that asks `is_allowed` with the origin in lower case.
    pub fn new(is_allowed: impl Fn(&str) -> bool + Send + Sync + 'static) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(Box::new(is_allowed))))
    }

    /// Decides as another policy does now from here on, and all clones with it.
    pub fn replace(&self, other: &Self) {
        self.0.store(other.0.load_full());
    }

    /// True if a request with these headers may go on.
    pub fn allows(&self, headers: &HeaderMap) -> bool {
        match headers.get(header::ORIGIN) {
            None => true,
            Some(origin) => origin.to_str().is_ok_and(|origin| self.0.load()(&origin.to_ascii_lowercase())),
        }
    }

    /// Adds the headers that let an allowed page read the answer.
    pub fn add_cors(&self, request: &HeaderMap, response: &mut HeaderMap) {
        let Some(origin) = request.get(header::ORIGIN).filter(|_| self.allows(request)) else { return };
        response.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        response.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
        const REQUESTED: HeaderName = header::ACCESS_CONTROL_REQUEST_HEADERS;
        if let Some(requested) = request.get(REQUESTED).filter(|value| !value.is_empty()) {
            response.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, requested.clone());
        }
        response.append(header::VARY, HeaderValue::from_static("Origin"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(HeaderName, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.clone(), HeaderValue::from_static(value))).collect()
    }

    fn policy() -> OriginPolicy {
        OriginPolicy::new(|origin| origin == "https://allowed.example")
    }

    /// No origin passes, an allowed one in whatever case, and nothing else; the policy sees lower case.
    #[test]
    fn only_allowed_origins_pass() {
        let allows = |origin| policy().allows(&headers(&[(header::ORIGIN, origin)]));
        assert!(policy().allows(&HeaderMap::new()));
        assert!(allows("https://allowed.example"));
        assert!(allows("HTTPS://Allowed.Example"));
        assert!(!allows("https://allowed.example.evil"));
        assert!(!allows("null"));
        let mut not_text = HeaderMap::new();
        not_text
            .insert(header::ORIGIN, HeaderValue::from_bytes(b"\xff").unwrap_or(HeaderValue::from_static("")));
        assert!(!OriginPolicy::new(|_| true).allows(&not_text), "not text, whatever is allowed");
    }

    /// An allowed page gets its own origin (never `*`, which browsers refuse with credentials) and its headers back;
    /// another page gets nothing.
    ///
    /// Spec: WHATWG Fetch, "CORS protocol and credentials"
    #[test]
    fn cors_headers_echo_the_request() {
        let added = |request: HeaderMap| {
            let mut response = HeaderMap::new();
            policy().add_cors(&request, &mut response);
            response
        };
        let origin = (header::ORIGIN, "https://Allowed.example");
        let requested = (header::ACCESS_CONTROL_REQUEST_HEADERS, "x-one, x-two");
        let expected = [
            (header::ACCESS_CONTROL_ALLOW_ORIGIN, "https://Allowed.example"),
            (header::ACCESS_CONTROL_ALLOW_CREDENTIALS, "true"),
            (header::VARY, "Origin"),
        ];
        assert_eq!(added(headers(std::slice::from_ref(&origin))), headers(&expected));
        let with_requested = added(headers(&[origin, requested]));
        assert_eq!(with_requested[header::ACCESS_CONTROL_ALLOW_HEADERS], "x-one, x-two");
        assert_eq!(added(headers(&[(header::ORIGIN, "https://evil.example")])), HeaderMap::new());
        assert_eq!(added(HeaderMap::new()), HeaderMap::new());
    }
}
