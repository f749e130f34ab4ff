//! What development mode serves beside the server's own endpoints: the demo page and the certificate hashes.

use std::sync::Arc;

use arc_swap::ArcSwap;
use bytes::Bytes;
use gyre_transport::http::{OriginPolicy, Request, Response, full, status};
use http::{HeaderValue, Method, StatusCode, header};

use super::{
    certificate::{CertificateHash, hashes_document},
    page::{self, CONTENT_SECURITY_POLICY},
};
use crate::routes::Extra;

/// The endpoints of development mode.
#[derive(Debug)]
pub struct Endpoints {
    /// `webtransport.handler_prefix` and `/hashes`.
    hashes_path: String,
    origins: OriginPolicy,
    /// The answer of the hash endpoint; replaced whole when a certificate is announced or changes.
    hashes: ArcSwap<Bytes>,
}

impl Endpoints {
    /// Endpoints that announce these certificates. `webtransport_prefix` is the path of the WebTransport endpoint.
    pub fn new(webtransport_prefix: &str, origins: OriginPolicy, hashes: &[CertificateHash]) -> Self {
        let hashes_path = format!("{webtransport_prefix}/hashes");
        Self { hashes_path, origins, hashes: ArcSwap::from_pointee(document(hashes)) }
    }

    /// Announces these certificates from now on.
    pub fn announce(&self, hashes: &[CertificateHash]) {
        self.hashes.store(Arc::new(document(hashes)));
    }

    fn hashes(&self, request: &Request) -> Response {
        let body = Bytes::clone(&self.hashes.load());
        let mut response = answer(body, "application/json; charset=utf-8");
        self.origins.add_cors(request.headers(), response.headers_mut());
        response
    }
}

impl Extra for Endpoints {
    fn answer(&self, request: &Request) -> Option<Response> {
        let path = request.uri().path();
        let asset = page::asset(path);
        if asset.is_none() && path != self.hashes_path {
            return None;
        }
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            return Some(status(StatusCode::METHOD_NOT_ALLOWED, ""));
        }
        let Some(asset) = asset else { return Some(self.hashes(request)) };
        let mut response = answer(Bytes::from_static(asset.body.as_bytes()), asset.content_type);
        let policy = HeaderValue::from_static(CONTENT_SECURITY_POLICY);
        response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, policy);
        Some(response)
    }
}

fn document(hashes: &[CertificateHash]) -> Bytes {
    hashes_document(hashes).into()
}

/// An answer that is never stored: after an update or a change of certificate the next load must see the new one.
fn answer(body: Bytes, content_type: &'static str) -> Response {
    let mut response = Response::new(full(body));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

#[cfg(test)]
mod tests {
    use gyre_transport::http::read_body;

    use super::*;

    fn hash(value: &str) -> CertificateHash {
        let value = value.to_owned();
        CertificateHash { algorithm: "sha-256", value, spki: "s".to_owned(), not_after: "n".to_owned() }
    }

    fn origins() -> OriginPolicy {
        OriginPolicy::new(|origin| origin == "https://allowed.example")
    }

    fn ask(endpoints: &Endpoints, method: Method, path: &str) -> Option<Response> {
        let mut request = Request::new(full(""));
        *request.method_mut() = method;
        *request.uri_mut() = path.parse().unwrap();
        endpoints.answer(&request)
    }

    async fn text(response: Response) -> String {
        String::from_utf8(read_body(response.into_body(), 1 << 20).await.unwrap().to_vec()).unwrap()
    }

    #[tokio::test]
    async fn hashes_follow_the_announcement() {
        // The hash endpoint answers below the configured path with the hashes of the last announcement.
        let endpoints = Endpoints::new("/wt", origins(), &[hash("one")]);
        let response = ask(&endpoints, Method::GET, "/wt/hashes?x=1").unwrap();
        assert_eq!(response.headers()[header::CACHE_CONTROL], "no-store");
        assert_eq!(text(response).await, hashes_document(&[hash("one")]));
        endpoints.announce(&[hash("one"), hash("two")]);
        let response = ask(&endpoints, Method::GET, "/wt/hashes").unwrap();
        assert_eq!(text(response).await, hashes_document(&[hash("one"), hash("two")]));
    }

    #[test]
    fn hashes_are_for_allowed_pages() {
        // A page of an allowed origin may read the hashes, another one may not.
        let endpoints = Endpoints::new("/wt", origins(), &[]);
        for (origin, is_allowed) in [("https://allowed.example", true), ("https://other.example", false)] {
            let mut request = Request::new(full(""));
            *request.uri_mut() = "/wt/hashes".parse().unwrap();
            request.headers_mut().insert(header::ORIGIN, HeaderValue::from_static(origin));
            let response = endpoints.answer(&request).unwrap();
            let allowed = response.headers().get(header::ACCESS_CONTROL_ALLOW_ORIGIN);
            assert_eq!(allowed.is_some_and(|allowed| allowed == origin), is_allowed);
        }
    }

    #[tokio::test]
    async fn page_and_nothing_else() {
        // Files of the page are served with their type; other methods are refused, other paths left to the server.
        let endpoints = Endpoints::new("/wt", origins(), &[]);
        let response = ask(&endpoints, Method::GET, "/").unwrap();
        assert_eq!(response.headers()[header::CONTENT_TYPE], "text/html; charset=utf-8");
        assert_eq!(response.headers()[header::CONTENT_SECURITY_POLICY], CONTENT_SECURITY_POLICY);
        assert!(text(response).await.starts_with("<!doctype html>"));
        let refused = ask(&endpoints, Method::POST, "/wt/hashes").unwrap();
        assert_eq!(refused.status(), StatusCode::METHOD_NOT_ALLOWED);
        for path in ["/wt", "/hashes", "/demo", "/index.html", "/api/publish"] {
            assert!(ask(&endpoints, Method::GET, path).is_none(), "{path}");
        }
    }
}
