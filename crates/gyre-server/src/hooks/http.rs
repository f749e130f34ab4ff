//! One call over HTTP: headers, redirects, limits.

use std::time::Duration;

use bytes::Bytes;
use gyre_core::ports::ConnectionHeaders;
use gyre_transport::http::grpc::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper_util::{
    client::legacy::Client,
    rt::{TokioExecutor, TokioTimer},
};

use super::{Protocol, Target, grpc, tls::Connector};

/// Bytes of a backend's answer at most; a longer one is a failure. The reference has no limit.
const RESPONSE_BYTES_MAX: usize = 16 << 20;
/// Idle connections kept for each host, as many as the reference keeps.
const IDLE_PER_HOST: usize = 255;
/// A connection that is quiet is asked for a sign of life this often, so that one that is gone is noticed.
pub(super) const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(10);
/// Redirects followed in one call, as many as the reference follows.
const REDIRECTS_MAX: usize = 10;
/// Headers that belong to one request on one connection: never passed on, whatever is configured.
///
/// Spec: RFC 9110 section 7.6.1
const NEVER_PASSED_ON: [HeaderName; 9] = [
    header::HOST,
    header::CONTENT_LENGTH,
    header::TRANSFER_ENCODING,
    header::TRAILER,
    header::TE,
    header::CONNECTION,
    header::UPGRADE,
    HeaderName::from_static("keep-alive"),
    header::EXPECT,
];
/// Who we say we are, unless something else is configured: some backends refuse whoever says nothing.
const USER_AGENT: HeaderValue = HeaderValue::from_static(concat!("gyre/", env!("CARGO_PKG_VERSION")));
/// Headers that another host than the one they were meant for must not see.
const SENSITIVE: [HeaderName; 3] = [header::AUTHORIZATION, header::COOKIE, header::WWW_AUTHENTICATE];

/// A pooling client. Cheap to clone.
#[derive(Clone)]
pub(crate) struct HttpClient(Client<Connector, Full<Bytes>>);

/// Why a call gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// No connection, or it broke.
    #[error("cannot reach the backend: {0}")]
    Unreachable(String),
    /// It took too long.
    #[error("the backend did not answer within {0:?}")]
    TimedOut(Duration),
    /// Answered with something else than 200.
    #[error("the backend answered with status {0}")]
    Status(StatusCode),
    /// The call over gRPC ended with an error.
    #[error("the backend answered with gRPC status {code}: {message}")]
    Grpc {
        /// Its number.
        code: u32,
        /// What the backend says.
        message: String,
    },
    /// The answer is too long or broke off.
    #[error("the backend's answer cannot be read: {0}")]
    Body(String),
    /// Redirected in a circle, or to somewhere that is no URL.
    #[error("the backend redirects too often, or to no URL")]
    Redirect,
}

impl HttpClient {
    pub(super) fn new(connector: Connector) -> Self {
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_max_idle_per_host(IDLE_PER_HOST)
            .build(connector);
        Self(client)
    }

    /// A client that speaks HTTP/2 only, over one connection to each host.
    pub(super) fn http2(connector: Connector) -> Self {
        let client = Client::builder(TokioExecutor::new())
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            .http2_only(true)
            .http2_keep_alive_interval(KEEP_ALIVE_INTERVAL)
            .build(connector);
        Self(client)
    }

    /// Makes a call of gRPC and returns the message that answers it.
    ///
    /// # Errors
    /// If there is no answer with status 0 in time.
    ///
    /// # Cancel safety
    /// As [`Self::post`].
    pub(super) async fn call(
        &self,
        request: Request<Full<Bytes>>,
        timeout: Duration,
    ) -> Result<Bytes, CallError> {
        let answered = async {
            let sent = self.0.request(request).await;
            let response = sent.map_err(|error| CallError::Unreachable(causes(&error)))?;
            grpc::answer(response, RESPONSE_BYTES_MAX).await
        };
        tokio::time::timeout(timeout, answered).await.unwrap_or(Err(CallError::TimedOut(timeout)))
    }

    /// Posts a JSON body and returns the body of the answer.
    ///
    /// # Errors
    /// If there is no answer with status 200 in time.
    ///
    /// # Cancel safety
    /// Dropping the future abandons the call; the backend may have received it.
    pub(super) async fn post(
        &self,
        target: &Target,
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<Bytes, CallError> {
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = target.endpoint.clone();
        *request.headers_mut() = headers;
        self.exchange(request, target.timeout, RESPONSE_BYTES_MAX).await
    }

    /// Gets a document, `bytes_max` long at most.
    ///
    /// # Errors
    /// As [`Self::post`].
    pub(crate) async fn get(
        &self,
        url: Uri,
        timeout: Duration,
        bytes_max: usize,
    ) -> Result<Bytes, CallError> {
        let mut request = Request::new(Full::default());
        *request.uri_mut() = url;
        request.headers_mut().insert(header::USER_AGENT, USER_AGENT);
        self.exchange(request, timeout, bytes_max).await
    }

    async fn exchange(
        &self,
        request: Request<Full<Bytes>>,
        timeout: Duration,
        bytes_max: usize,
    ) -> Result<Bytes, CallError> {
        match tokio::time::timeout(timeout, self.follow(request, bytes_max)).await {
            Ok(answer) => answer,
            Err(_) => Err(CallError::TimedOut(timeout)),
        }
    }

    async fn follow(&self, mut request: Request<Full<Bytes>>, bytes_max: usize) -> Result<Bytes, CallError> {
        for _ in 0..=REDIRECTS_MAX {
            let sent = self.0.request(request.clone()).await;
            let response = sent.map_err(|error| CallError::Unreachable(causes(&error)))?;
            if !redirect(&mut request, &response)? {
                return read(response, bytes_max).await;
            }
        }
        Err(CallError::Redirect)
    }
}

/// An error with what caused it: the client's own says little.
pub(super) fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

async fn read(response: Response<Incoming>, bytes_max: usize) -> Result<Bytes, CallError> {
    if response.status() != StatusCode::OK {
        return Err(CallError::Status(response.status()));
    }
    let body = Limited::new(response.into_body(), bytes_max).collect().await;
    Ok(body.map_err(|error| CallError::Body(error.to_string()))?.to_bytes())
}

/// Turns a request into the one a redirect asks for; false if the response is none.
///
/// Spec: RFC 9110 section 15.4; after 301 to 303 a POST becomes a GET, as in all clients
fn redirect<B>(request: &mut Request<Full<Bytes>>, response: &Response<B>) -> Result<bool, CallError> {
    let keeps_method = match response.status().as_u16() {
        301..=303 => false,
        307 | 308 => true,
        _ => return Ok(false),
    };
    let Some(location) = response.headers().get(header::LOCATION) else { return Ok(false) };
    let location = location.to_str().map_err(|_| CallError::Redirect)?;
    let next = resolve(request.uri(), location).ok_or(CallError::Redirect)?;
    if next.authority() != request.uri().authority() {
        for name in SENSITIVE {
            request.headers_mut().remove(name);
        }
    }
    if !keeps_method {
        *request.method_mut() = Method::GET;
        request.headers_mut().remove(header::CONTENT_TYPE);
        *request.body_mut() = Full::default();
    }
    *request.uri_mut() = next;
    Ok(true)
}

/// The URL a reference stands for. Dot segments are left to the server.
///
/// Spec: RFC 3986 section 5.2
fn resolve(base: &Uri, reference: &str) -> Option<Uri> {
    let reference = reference.split('#').next()?;
    let (scheme, authority) = (base.scheme_str()?, base.authority()?);
    let absolute = if reference.contains("://") {
        reference.to_owned()
    } else if reference.starts_with("//") {
        format!("{scheme}:{reference}")
    } else if reference.starts_with('/') {
        format!("{scheme}://{authority}{reference}")
    } else {
        let folder = base.path().rsplit_once('/').map_or("", |(folder, _)| folder);
        format!("{scheme}://{authority}{folder}/{reference}")
    };
    absolute.parse::<Uri>().ok().filter(|uri| matches!(uri.scheme_str(), Some("http" | "https")))
}

/// The headers of a call: those of the configuration, then what the connect command named, then what came with the
/// client's own request; what comes later replaces what came before.
pub(super) fn headers(target: &Target, connection: Option<&ConnectionHeaders>) -> HeaderMap {
    let mut headers = target.static_headers.clone();
    headers.entry(header::USER_AGENT).or_insert(USER_AGENT);
    if let Some(connection) = connection {
        let emulated = connection.emulated.iter().map(|(name, value)| (&**name, value.as_bytes()));
        replace(&mut headers, &target.emulated_headers, emulated);
        let request = connection.request.iter().map(|(name, value)| (&**name, &**value));
        replace(&mut headers, &target.http_headers, request);
        let metadata = connection.metadata.iter().map(|(name, value)| (&**name, &**value));
        replace(&mut headers, &target.grpc_metadata, metadata);
    }
    let content_type = match target.protocol {
        Protocol::Http { .. } => HeaderValue::from_static("application/json"),
        Protocol::Grpc { .. } => CONTENT_TYPE,
    };
    headers.insert(header::CONTENT_TYPE, content_type);
    headers
}

/// Puts in the headers that are allowed, with all their values.
fn replace<'a>(
    headers: &mut HeaderMap,
    allowed: &[HeaderName],
    given: impl Iterator<Item = (&'a str, &'a [u8])> + Clone,
) {
    for name in allowed.iter().filter(|name| !NEVER_PASSED_ON.contains(name)) {
        let values = given.clone().filter(|(known, _)| *known == name.as_str());
        // A value with control characters cannot be written: it came from a client, who has no say beyond values.
        let mut values = values.filter_map(|(_, value)| HeaderValue::from_bytes(value).ok());
        if let Some(first) = values.next() {
            headers.insert(name.clone(), first);
            for value in values {
                headers.append(name.clone(), value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(names: &[&'static str]) -> Vec<HeaderName> {
        names.iter().map(|name| HeaderName::from_static(name)).collect()
    }

    /// What is passed on and what wins, tried with one header of each origin; what cannot be a header is left out.
    ///
    /// Spec: centrifugal.dev, "Proxy events from clients to the backend", headers
    #[test]
    fn listed_headers_are_passed_on() {
        let mut target = crate::hooks::tests::target("http://localhost/");
        target.static_headers.insert("x-static", HeaderValue::from_static("fixed"));
        target.static_headers.insert("x-both", HeaderValue::from_static("fixed"));
        target.emulated_headers = named(&["x-emulated", "x-both", "x-broken", "content-length"]);
        target.http_headers = named(&["cookie", "x-both", "host"]);
        target.grpc_metadata = named(&["x-metadata"]);
        let connection = ConnectionHeaders {
            request: [
                ("cookie", "a=1"),
                ("cookie", "b=2"),
                ("x-both", "request"),
                ("host", "h"),
                ("x-other", "o"),
            ]
            .map(|(name, value)| (name.into(), value.as_bytes().into()))
            .into(),
            metadata: [("x-metadata".into(), b"m"[..].into()), ("cookie".into(), b"c=3"[..].into())].into(),
            emulated: [
                ("x-emulated", "e"),
                ("x-both", "frame"),
                ("x-broken", "a\nb"),
                ("content-length", "9"),
            ]
            .map(|(name, value)| (name.into(), value.into()))
            .into(),
        };
        let mut headers = headers(&target, Some(&connection));
        assert_eq!(headers.remove(header::USER_AGENT), Some(USER_AGENT));
        let mut seen: Vec<_> =
            headers.iter().map(|(name, value)| format!("{name}={}", value.to_str().unwrap())).collect();
        seen.sort();
        assert_eq!(
            seen,
            [
                "content-type=application/json",
                "cookie=a=1",
                "cookie=b=2",
                "x-both=request",
                "x-emulated=e",
                "x-metadata=m",
                "x-static=fixed"
            ]
        );
    }

    /// Redirects of each kind, and what another host is not told.
    ///
    /// Spec: RFC 9110 section 15.4
    #[test]
    fn redirects_are_followed() {
        let redirected = |status: u16, location: &str| {
            let mut request =
                Request::post("http://a:1/x/y?z").body(Full::new(Bytes::from_static(b"{}"))).unwrap();
            request.headers_mut().insert(header::COOKIE, HeaderValue::from_static("a=1"));
            let response =
                Response::builder().status(status).header(header::LOCATION, location).body(()).unwrap();
            redirect(&mut request, &response).map(|is_redirect| {
                let has_cookie = request.headers().contains_key(header::COOKIE);
                is_redirect.then(|| (request.method().clone(), request.uri().to_string(), has_cookie))
            })
        };
        let post = |uri: &str, has_cookie| Some((Method::POST, uri.to_owned(), has_cookie));
        assert_eq!(redirected(200, "/n").unwrap(), None);
        assert_eq!(redirected(307, "/n").unwrap(), post("http://a:1/n", true));
        assert_eq!(redirected(308, "n").unwrap(), post("http://a:1/x/n", true));
        assert_eq!(redirected(307, "//b/n").unwrap(), post("http://b/n", false));
        assert_eq!(redirected(307, "https://b/n#f").unwrap(), post("https://b/n", false));
        assert_eq!(redirected(302, "/n").unwrap(), Some((Method::GET, "http://a:1/n".into(), true)));
        assert!(redirected(307, "ftp://b/").is_err());
        let mut request = Request::post("http://a/").body(Full::<Bytes>::default()).unwrap();
        let without_location = Response::builder().status(307).body(()).unwrap();
        assert!(!redirect(&mut request, &without_location).unwrap());
    }
}
