//! Proofs over HTTP, and a redirect for everybody else who comes to that port.
//!
//! Spec: RFC 8555 section 8.3

use std::{
    future::{Future, ready},
    pin::Pin,
    rc::Rc,
    sync::{Arc, Mutex, PoisonError},
};

use ::http::{HeaderValue, Method, StatusCode, header};
use gyre_transport::http::{Request, Response, Service, full, status};
use hashbrown::HashMap;

const CHALLENGE_PATH: &str = "/.well-known/acme-challenge/";

/// What is shown by token while an authority looks. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Tokens(Arc<Mutex<HashMap<String, String>>>);

impl Tokens {
    pub(super) fn show(&self, token: &str, proof: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(token.into(), proof.into());
    }

    pub(super) fn hide(&self, token: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(token);
    }

    fn find(&self, token: &str) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(token).cloned()
    }
}

/// The service of that port.
pub struct Http01(pub Tokens);

impl Http01 {
    fn answer(&self, request: &Request) -> Response {
        let path = request.uri().path();
        if let Some(token) = path.strip_prefix(CHALLENGE_PATH) {
            return match self.0.find(token) {
                Some(proof) => Response::new(full(proof)),
                None => status(StatusCode::NOT_FOUND, ""),
            };
        }
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            return status(StatusCode::BAD_REQUEST, "use HTTPS\n");
        }
        let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or("");
        let host =
            host.rsplit_once(':').filter(|(_, port)| !port.contains(']')).map_or(host, |(host, _)| host);
        let target = request.uri().path_and_query().map_or("/", |target| target.as_str());
        match HeaderValue::try_from(format!("https://{host}{target}")) {
            Ok(location) if !host.is_empty() => {
                let mut response = status(StatusCode::FOUND, "");
                response.headers_mut().insert(header::LOCATION, location);
                response
            }
            _ => status(StatusCode::BAD_REQUEST, "use HTTPS\n"),
        }
    }
}

impl Service for Http01 {
    fn call(self: Rc<Self>, request: Request) -> Pin<Box<dyn Future<Output = Response>>> {
        Box::pin(ready(self.answer(&request)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(service: &Http01, method: Method, target: &str, host: &str) -> Response {
        let request = ::http::Request::builder().method(method).uri(target).header(header::HOST, host);
        service.answer(&request.body(full("")).unwrap())
    }

    /// A token that is shown is found while it is, and other requests are sent to HTTPS.
    #[test]
    fn proofs_are_shown_and_others_redirected() {
        let tokens = Tokens::default();
        let service = Http01(tokens.clone());
        tokens.show("token", "proof");
        let status = |method, target: &str| ask(&service, method, target, "a.example").status();
        assert_eq!(status(Method::GET, "/.well-known/acme-challenge/token"), 200);
        assert_eq!(status(Method::GET, "/.well-known/acme-challenge/other"), 404);
        tokens.hide("token");
        assert_eq!(status(Method::GET, "/.well-known/acme-challenge/token"), 404);
        assert_eq!(status(Method::POST, "/"), 400);
        for (host, location) in [
            ("a.example", "https://a.example/b?c"),
            ("a.example:80", "https://a.example/b?c"),
            ("[::1]:80", "https://[::1]/b?c"),
            ("[::1]", "https://[::1]/b?c"),
        ] {
            let response = ask(&service, Method::GET, "/b?c", host);
            assert_eq!(response.status(), 302);
            assert_eq!(response.headers()[header::LOCATION], location);
        }
        assert_eq!(ask(&service, Method::GET, "/", "").status(), 400);
    }
}
