//! Which pages may talk to the server.
//!
//! Spec: configuration `client.allowed_origins`; WHATWG Fetch, "CORS protocol".

use std::sync::Arc;

use ::http::{HeaderMap, HeaderName, HeaderValue, header};

/// Decides by the `Origin` header. A request without one does not come from a page and passes.
#[derive(Clone)]
pub struct OriginPolicy(Arc<dyn Fn(&str) -> bool + Send + Sync>);

impl std::fmt::Debug for OriginPolicy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("OriginPolicy")
    }
}

impl OriginPolicy {
    /// A policy that asks `is_allowed` with the origin in lower case.
    pub fn new(is_allowed: impl Fn(&str) -> bool + Send + Sync + 'static) -> Self {
        Self(Arc::new(is_allowed))
    }

    /// True if a request with these headers may go on.
    pub fn allows(&self, headers: &HeaderMap) -> bool {
        match headers.get(header::ORIGIN) {
            None => true,
            Some(origin) => origin.to_str().is_ok_and(|origin| (self.0)(&origin.to_ascii_lowercase())),
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
