//! The server API over HTTP, and in `grpc` over gRPC: authentication, formats and errors. What a request does is an
//! operation of the node.
//!
//! Spec: centrifugal.dev, "Server API"; centrifugo `internal/api/handler.go`.

mod descriptor;
mod execute;
mod grpc;
mod legacy;
mod map;
mod reflection;

use std::sync::Arc;

use ::http::{HeaderMap, HeaderValue, Method as HttpMethod, StatusCode, Uri, header};
use gyre_node::Node;
use gyre_protocol::api::{self, Method, Outcome, ResultBody};
use gyre_transport::http::{BodyError, Request, Response, full, read_body, status};

use self::execute::Operations;
pub use self::grpc::{GrpcApi, GrpcApiOptions};
use crate::{metrics::ApiMetrics, secret::Secret};

/// Bytes of a request body at most; more is answered with 413. Large, because the reference has no limit.
pub const BODY_BYTES_MAX: usize = 64 << 20;
/// Commands of a batch carried out before other tasks of the shard get their turn.
const BATCH_SLICE: usize = 64;

/// What is configured of the HTTP API.
#[derive(Debug, Default)]
pub struct ApiOptions {
    /// `http_api.key`; without one nobody gets in unless `insecure`.
    pub key: Option<Secret<String>>,
    /// `http_api.insecure`.
    pub insecure: bool,
    /// `http_api.error_mode: transport`.
    pub transport_errors: bool,
    /// `http_api.connections`.
    pub lists_connections: bool,
}

/// The HTTP API.
#[derive(Debug)]
pub struct HttpApi {
    operations: Operations,
    options: ApiOptions,
}

/// What a path below the API's prefix names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// One method.
    Method(Method),
    /// Many commands at once.
    Batch,
    /// The format of old libraries, at the prefix itself.
    Legacy,
}

impl Endpoint {
    /// The endpoint of that path; `None` if there is none.
    pub fn of_path(path: &str, prefix: &str) -> Option<Self> {
        let prefix = prefix.trim_end_matches('/');
        match path.strip_prefix(prefix)? {
            "" => Some(Self::Legacy),
            "/" if prefix.is_empty() => Some(Self::Legacy),
            "/batch" => Some(Self::Batch),
            rest => Method::from_name(rest.strip_prefix('/')?).map(Self::Method),
        }
    }
}

impl HttpApi {
    /// An API in front of a node.
    pub fn new(node: Arc<Node>, options: ApiOptions, metrics: Arc<ApiMetrics>) -> Self {
        let operations = Operations::new(node, metrics, "http", options.lists_connections);
        Self { operations, options }
    }

    /// The endpoint of that path; `None` if there is none.
    pub fn endpoint(&self, path: &str, prefix: &str) -> Option<Endpoint> {
        let endpoint = Endpoint::of_path(path, prefix)?;
        let is_there =
            endpoint != Endpoint::Method(Method::Connections) || self.operations.lists_connections();
        is_there.then_some(endpoint)
    }

    /// Answers one request.
    pub async fn call(&self, endpoint: Endpoint, request: Request) -> Response {
        if request.method() != HttpMethod::POST {
            return status(StatusCode::METHOD_NOT_ALLOWED, "");
        }
        let (head, body) = request.into_parts();
        if !self.is_authorized(&head.headers, &head.uri) {
            return status(StatusCode::UNAUTHORIZED, "");
        }
        let name = match endpoint {
            Endpoint::Method(method) => method.name(),
            Endpoint::Batch => "batch",
            Endpoint::Legacy => "legacy",
        };
        let body = match read_body(body, BODY_BYTES_MAX).await {
            Ok(body) => body,
            Err(BodyError::TooLarge { .. }) => {
                self.operations.count_error(name, "read_body");
                return status(StatusCode::PAYLOAD_TOO_LARGE, "request body too large\n");
            }
            Err(BodyError::Incomplete { .. }) => {
                self.operations.count_error(name, "read_body");
                return status(StatusCode::INTERNAL_SERVER_ERROR, "Internal Server Error\n");
            }
        };
        let answer = match endpoint {
            Endpoint::Method(method) => {
                let transport_errors = self.options.transport_errors
                    || head.headers.get("x-centrifugo-error-mode").is_some_and(|mode| mode == "transport");
                self.one(method, &body, transport_errors).await
            }
            Endpoint::Batch => self.batch(&body).await,
            Endpoint::Legacy => self.legacy(&body).await,
        };
        answer.unwrap_or_else(|| {
            self.operations.count_error(name, "unmarshal");
            status(StatusCode::BAD_REQUEST, "Bad Request\n")
        })
    }

    /// One method's request. `None` if the body is malformed.
    async fn one(&self, method: Method, body: &[u8], transport_errors: bool) -> Option<Response> {
        let request = api::decode_request(method, body).ok()?;
        let outcome = self.operations.run(request).await;
        let mut out = Vec::with_capacity(64);
        let code = match &outcome {
            Err(error) if transport_errors => {
                api::encode_error(error, &mut out);
                http_status(error.code)
            }
            outcome => {
                write_outcome(outcome, &mut out);
                StatusCode::OK
            }
        };
        Some(json(code, out))
    }

    async fn batch(&self, body: &[u8]) -> Option<Response> {
        let (commands, _) = api::decode_batch(body).ok()?;
        if commands.is_empty() {
            return Some(json(StatusCode::OK, b"{}".to_vec()));
        }
        let mut out = Vec::with_capacity(64 * commands.len());
        out.extend_from_slice(b"{\"replies\":");
        for (i, command) in commands.into_iter().enumerate() {
            out.push(if i == 0 { b'[' } else { b',' });
            if i % BATCH_SLICE == BATCH_SLICE - 1 {
                tokio::task::yield_now().await;
            }
            match command {
                Ok(request) => {
                    let method = request.method();
                    match self.operations.run(request).await {
                        Ok(result) => write_member(method.name(), &result, &mut out),
                        error => write_outcome(&error, &mut out),
                    }
                }
                Err(is_null) => write_outcome(&self.operations.refuse(is_null), &mut out),
            }
        }
        out.extend_from_slice(b"]}");
        Some(json(StatusCode::OK, out))
    }

    /// The key may come in `X-API-Key`, else in `Authorization: apikey KEY`, or, after both failed, in the query.
    fn is_authorized(&self, headers: &HeaderMap, uri: &Uri) -> bool {
        if self.options.insecure {
            return true;
        }
        let Some(key) = self.options.key.as_ref().filter(|key| !key.expose().is_empty()) else {
            tracing::error!("an API request was refused because no http_api.key is configured");
            return false;
        };
        let is_key = |given: &str| is_equal(given.as_bytes(), key.expose().as_bytes());
        let text = |name: &str| {
            headers.get(name).and_then(|value| value.to_str().ok()).filter(|text| !text.is_empty())
        };
        let by_header = match text("x-api-key") {
            Some(given) => is_key(given),
            None => text(header::AUTHORIZATION.as_str()).is_some_and(|value| {
                let mut words = value.split_whitespace();
                match (words.next(), words.next(), words.next()) {
                    (Some(scheme), Some(given), None) => {
                        scheme.eq_ignore_ascii_case("apikey") && is_key(given)
                    }
                    _ => false,
                }
            }),
        };
        by_header
            || uri.query().unwrap_or("").split('&').filter_map(|pair| pair.strip_prefix("api_key=")).any(
                |given| {
                    percent_encoding::percent_decode_str(given)
                        .decode_utf8()
                        .is_ok_and(|given| is_key(&given))
                },
            )
    }
}

/// Compares without telling by time where the difference is.
fn is_equal(a: &[u8], b: &[u8]) -> bool {
    aws_lc_rs::constant_time::verify_slices_are_equal(a, b).is_ok()
}

/// Spec: centrifugo `internal/apiproto/errors.go`, transport error mode.
fn http_status(code: u32) -> StatusCode {
    match code {
        102 | 104 => StatusCode::NOT_FOUND,
        107 | 108 => StatusCode::BAD_REQUEST,
        112 => StatusCode::RANGE_NOT_SATISFIABLE,
        113 => StatusCode::CONFLICT,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// Appends `{"result":…}` or `{"error":…}`.
fn write_outcome(outcome: &Outcome, out: &mut Vec<u8>) {
    match outcome {
        Ok(result) => write_member("result", result, out),
        Err(error) => {
            out.extend_from_slice(b"{\"error\":");
            api::encode_error(error, out);
            out.push(b'}');
        }
    }
}

/// Appends an object with one member. A result with a payload that is no JSON becomes an error.
fn write_member(name: &str, result: &ResultBody, out: &mut Vec<u8>) {
    let start = out.len();
    out.extend_from_slice(b"{\"");
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\":");
    if api::encode_result(result, out).is_err() {
        out.truncate(start);
        return write_outcome(&Err(execute::internal_error()), out);
    }
    out.push(b'}');
}

fn json(code: StatusCode, body: Vec<u8>) -> Response {
    let mut response = Response::new(full(body));
    *response.status_mut() = code;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
