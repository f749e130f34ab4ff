//! The admin API: a login, and the server API in its old format for those who have logged in.
//!
//! Spec: centrifugo `internal/admin/handlers.go`.

use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use ::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use aws_lc_rs::{constant_time::verify_slices_are_equal, hmac};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use gyre_node::Node;
use gyre_transport::http::{Request, Response, full, read_body, status};

use crate::{
    api::{ApiOptions, Endpoint, HttpApi},
    metrics::ApiMetrics,
    rate::RateLimit,
    secret::Secret,
};

/// How long a login holds.
const TOKEN_LIFETIME: Duration = Duration::from_secs(30 * 24 * 3600);
/// Bytes of a login form at most.
const FORM_BYTES_MAX: usize = 1 << 20;
/// Logins looked at in a second: whoever guesses passwords gets no further.
const LOGINS_PER_SECOND: usize = 10;
/// Tells these signatures from others made with the same secret.
const PURPOSE: &str = "gyre admin ";

/// What is configured of it.
#[derive(Clone, Debug)]
pub struct AdminOptions {
    /// `admin.handler_prefix`.
    pub prefix: Box<str>,
    /// `admin.password`; without one nobody can log in.
    pub password: Secret<String>,
    /// `admin.secret`, which signs tokens; without one nobody can log in.
    pub secret: Secret<String>,
    /// `admin.insecure`: nobody has to.
    pub insecure: bool,
    /// `admin.external`: also on the port of clients where there is an internal one.
    pub external: bool,
}

/// The admin API.
#[derive(Debug)]
pub struct Admin {
    options: AdminOptions,
    api: HttpApi,
    logins: RateLimit,
}

/// What a path below the prefix names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AdminEndpoint {
    /// What a page has to know before a login.
    Init,
    /// The login.
    Auth,
    /// The server API.
    Api,
}

impl Admin {
    /// An API in front of a node.
    pub fn new(node: Arc<Node>, options: AdminOptions, metrics: Arc<ApiMetrics>) -> Self {
        // Who may call is decided here.
        let api = HttpApi::new(node, ApiOptions { insecure: true, ..ApiOptions::default() }, metrics);
        Self { options, api, logins: RateLimit::new(LOGINS_PER_SECOND, Instant::now()) }
    }

    /// The endpoint of that path; `None` if there is none.
    pub fn endpoint(&self, path: &str) -> Option<AdminEndpoint> {
        match path.strip_prefix(self.options.prefix.trim_end_matches('/'))? {
            "/admin/init" => Some(AdminEndpoint::Init),
            "/admin/auth" => Some(AdminEndpoint::Auth),
            "/admin/api" => Some(AdminEndpoint::Api),
            _ => None,
        }
    }

    /// Answers one request.
    pub async fn call(&self, endpoint: AdminEndpoint, request: Request) -> Response {
        match endpoint {
            AdminEndpoint::Init => self.init(request.headers()),
            AdminEndpoint::Auth => self.log_in(request).await,
            AdminEndpoint::Api if self.is_authorized(request.headers()) => {
                self.api.call(Endpoint::Legacy, request).await
            }
            AdminEndpoint::Api => status(StatusCode::UNAUTHORIZED, ""),
        }
    }

    fn init(&self, headers: &HeaderMap) -> Response {
        let (authenticated, insecure) = (self.is_authorized(headers), self.options.insecure);
        json(format!(r#"{{"authenticated":{authenticated},"edition":"oss","insecure":{insecure}}}"#))
    }

    async fn log_in(&self, request: Request) -> Response {
        if request.method() != Method::POST {
            return status(StatusCode::METHOD_NOT_ALLOWED, "");
        }
        if !self.logins.admits(Instant::now()) {
            return status(StatusCode::TOO_MANY_REQUESTS, "too many logins\n");
        }
        let refused = || status(StatusCode::BAD_REQUEST, "Bad Request\n");
        let Ok(body) = read_body(request.into_body(), FORM_BYTES_MAX).await else { return refused() };
        let mut fields = form_urlencoded::parse(&body);
        let password = fields.find(|(name, _)| name == "password").map(|(_, value)| value);
        match password.and_then(|password| self.options.log_in(&password, now())) {
            Some(token) => json(format!(r#"{{"token":"{token}"}}"#)),
            None => refused(),
        }
    }

    /// True for `Authorization: token TOKEN` with a token that holds.
    fn is_authorized(&self, headers: &HeaderMap) -> bool {
        if self.options.insecure {
            return true;
        }
        let value = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let mut words = value.unwrap_or("").split(' ');
        match (words.next(), words.next(), words.next()) {
            (Some(scheme), Some(token), None) if scheme.eq_ignore_ascii_case("token") => {
                self.options.is_valid(token, now())
            }
            _ => false,
        }
    }
}

impl AdminOptions {
    /// A token, if that is the password.
    fn log_in(&self, password: &str, now: Duration) -> Option<String> {
        let expected = self.password.expose();
        let is_right = verify_slices_are_equal(&digest(password), &digest(expected)).is_ok();
        let can_log_in = !expected.is_empty() && !self.secret.expose().is_empty();
        (is_right && can_log_in).then(|| self.token(now + TOKEN_LIFETIME))
    }

    /// A token: when it expires, and a signature of that.
    fn token(&self, expires_at: Duration) -> String {
        let expires_at = expires_at.as_secs();
        format!("{expires_at}.{}", URL_SAFE_NO_PAD.encode(self.sign(expires_at)))
    }

    fn sign(&self, expires_at: u64) -> hmac::Tag {
        let key = hmac::Key::new(hmac::HMAC_SHA256, self.secret.expose().as_bytes());
        hmac::sign(&key, format!("{PURPOSE}{expires_at}").as_bytes())
    }

    fn is_valid(&self, token: &str, now: Duration) -> bool {
        let Some((expires_at, signature)) = token.split_once('.') else { return false };
        let (Ok(expires_at), Ok(signature)) = (expires_at.parse::<u64>(), URL_SAFE_NO_PAD.decode(signature))
        else {
            return false;
        };
        !self.secret.expose().is_empty()
            && verify_slices_are_equal(self.sign(expires_at).as_ref(), &signature).is_ok()
            && now.as_secs() < expires_at
    }
}

/// Of one length, so that comparing tells nothing of the password's.
fn digest(text: &str) -> [u8; 32] {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, text.as_bytes());
    digest.as_ref().try_into().unwrap_or([0; 32])
}

fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

fn json(text: String) -> Response {
    let mut response = Response::new(full(text));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(password: &str, secret: &str) -> AdminOptions {
        AdminOptions {
            prefix: "".into(),
            password: Secret::new(password.into()),
            secret: Secret::new(secret.into()),
            insecure: false,
            external: false,
        }
    }

    /// The right password gives a token that holds for thirty days and with its own secret only; without password or
    /// secret nobody gets one, not even with an empty password.
    #[test]
    fn tokens_are_for_those_who_know_the_password() {
        let (admin, start) = (options("pass", "secret"), Duration::from_secs(1_000_000));
        assert_eq!(admin.log_in("wrong", start), None);
        assert_eq!(admin.log_in("", start), None);
        let token = admin.log_in("pass", start).unwrap();
        let last = start + TOKEN_LIFETIME - Duration::from_secs(1);
        assert!(admin.is_valid(&token, start) && admin.is_valid(&token, last));
        assert!(!admin.is_valid(&token, start + TOKEN_LIFETIME));
        assert!(!options("pass", "other").is_valid(&token, start));
        let (expires_at, signature) = token.split_once('.').unwrap();
        let later = expires_at.parse::<u64>().unwrap() + 1;
        for forged in [format!("{later}.{signature}"), format!("{expires_at}."), "".into(), ".".into()] {
            assert!(!admin.is_valid(&forged, start), "{forged}");
        }
        assert_eq!(options("", "secret").log_in("", start), None);
        let unsigned = options("pass", "");
        assert_eq!(unsigned.log_in("pass", start), None);
        assert!(!unsigned.is_valid(&unsigned.token(last), start));
    }
}
