//! For people who run the server: a login, the server API in its old format for those who have logged in, and the web
//! interface with what it shows beside that.
//!
//! Spec: centrifugo `internal/admin/handlers.go`.

mod channel;
mod files;
mod page;
mod state;
mod trace;

use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use ::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use arc_swap::ArcSwap;
use aws_lc_rs::{constant_time::verify_slices_are_equal, hmac};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use gyre_node::Node;
use gyre_transport::{
    http::{Request, Response, full, read_body, status},
    quic,
};
use serde_json::Value;

use self::{files::Files, page::Asset, state::LatestState};
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
    /// `admin.web_path`: a folder with another web interface.
    pub web_path: Box<str>,
    /// `admin.web_proxy_address`: where another web interface is served.
    pub web_proxy_address: Box<str>,
}

/// Login, API and web interface.
#[derive(Debug)]
pub struct Admin {
    options: AdminOptions,
    node: Arc<Node>,
    quic: Option<Arc<quic::Statistics>>,
    api: HttpApi,
    logins: RateLimit,
    files: Files,
    state: LatestState,
    /// The configuration as a JSON document, secrets hidden.
    configuration: ArcSwap<Bytes>,
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
    /// Something the web interface shows.
    View(View),
    /// A file of the web interface.
    Page(&'static Asset),
}

/// What the web interface shows beside the answers of the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum View {
    /// Figures of the node.
    State,
    /// The options of a channel.
    Channel,
    /// The configuration.
    Configuration,
    /// What happens in a channel or to a user, live.
    Trace,
}

impl Admin {
    /// All of it in front of a node. `quic` has the figures of HTTP/3, if that is served.
    pub fn new(
        node: Arc<Node>,
        options: AdminOptions,
        metrics: Arc<ApiMetrics>,
        quic: Option<Arc<quic::Statistics>>,
    ) -> Self {
        // Who may call is decided here.
        let api = HttpApi::new(
            node.clone(),
            ApiOptions { insecure: true, lists_connections: true, ..ApiOptions::default() },
            metrics,
        );
        Self {
            files: Files::new(&options),
            options,
            node,
            quic,
            api,
            logins: RateLimit::new(LOGINS_PER_SECOND, Instant::now()),
            state: LatestState::default(),
            configuration: ArcSwap::from_pointee(Bytes::from_static(b"[]")),
        }
    }

    /// Shows this configuration from now on, as [`crate::config::shown`] has made it.
    pub fn show_configuration(&self, shown: &Value) {
        self.configuration.store(Arc::new(shown.to_string().into()));
    }

    /// The endpoint of that path; `None` if there is none.
    pub fn endpoint(&self, path: &str) -> Option<AdminEndpoint> {
        let name = self.below_prefix(path)?.strip_prefix("/admin/")?;
        Some(match name {
            "init" => AdminEndpoint::Init,
            "auth" => AdminEndpoint::Auth,
            "api" => AdminEndpoint::Api,
            "state" => AdminEndpoint::View(View::State),
            "channel" => AdminEndpoint::View(View::Channel),
            "configuration" => AdminEndpoint::View(View::Configuration),
            "trace" => AdminEndpoint::View(View::Trace),
            name => AdminEndpoint::Page(page::asset(name)?),
        })
    }

    fn below_prefix<'a>(&self, path: &'a str) -> Option<&'a str> {
        path.strip_prefix(self.options.prefix.trim_end_matches('/'))
    }

    /// Answers one request.
    pub async fn call(&self, endpoint: AdminEndpoint, request: Request) -> Response {
        match endpoint {
            AdminEndpoint::Init => self.init(request.headers()),
            AdminEndpoint::Auth => self.log_in(request).await,
            AdminEndpoint::Page(asset) => page::answer(asset, &request),
            AdminEndpoint::Api | AdminEndpoint::View(_) if !self.is_authorized(request.headers()) => {
                status(StatusCode::UNAUTHORIZED, "")
            }
            // Without a token, a foreign page in an operator's browser must not get through.
            AdminEndpoint::Api | AdminEndpoint::View(_) if is_cross_site(request.headers()) => {
                status(StatusCode::FORBIDDEN, "requests of other sites are refused\n")
            }
            AdminEndpoint::Api => self.api.call(Endpoint::Legacy, request).await,
            AdminEndpoint::View(_) if request.method() != Method::GET => {
                status(StatusCode::METHOD_NOT_ALLOWED, "")
            }
            AdminEndpoint::View(view) => self.view(view, request.uri().query().unwrap_or("")).await,
        }
    }

    async fn view(&self, view: View, query: &str) -> Response {
        match view {
            View::State => uncached(self.state.document(&self.node, self.quic.as_deref()).await),
            View::Channel => channel::answer(&self.node, query),
            View::Configuration => uncached(Bytes::clone(&self.configuration.load())),
            View::Trace => trace::answer(&self.node, query).await,
        }
    }

    /// Answers what nothing else has answered: with another web interface, where one is configured, or by showing the way
    /// to ours. `None` if the path is not below the prefix or names nothing.
    pub async fn rest(&self, request: &Request) -> Option<Response> {
        let path = self.below_prefix(request.uri().path())?;
        if !path.is_empty() && !path.starts_with('/') {
            return None;
        }
        self.files.answer(path, request).await
    }

    fn init(&self, headers: &HeaderMap) -> Response {
        let (authenticated, insecure) = (self.is_authorized(headers), self.options.insecure);
        json(format!(r#"{{"authenticated":{authenticated},"edition":"oss","insecure":{insecure}}}"#).into())
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
            Some(token) => json(format!(r#"{{"token":"{token}"}}"#).into()),
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

/// True if a browser says that the request comes from a page of another site.
///
/// Spec: W3C Fetch Metadata Request Headers, `Sec-Fetch-Site`
fn is_cross_site(headers: &HeaderMap) -> bool {
    headers.get("sec-fetch-site").is_some_and(|site| site == "cross-site" || site == "same-site")
}

fn json(text: Bytes) -> Response {
    let mut response = Response::new(full(text));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// JSON that no cache may keep.
fn uncached(text: Bytes) -> Response {
    let mut response = json(text);
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// The value of a field of a query.
fn parameter(query: &str, name: &str) -> Option<String> {
    let mut fields = form_urlencoded::parse(query.as_bytes());
    fields.find(|(field, _)| field == name).map(|(_, value)| value.into_owned())
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
            web_path: "".into(),
            web_proxy_address: "".into(),
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
