//! The server API over gRPC: one call for each method, on a port of its own.
//!
//! Spec: centrifugal.dev, "Server API walkthrough", GRPC API; centrifugo `internal/api/grpc.go`

use std::sync::Arc;

use ::http::{HeaderMap, header};
use bytes::Bytes;
use gyre_node::Node;
use gyre_protocol::{
    api::{
        Error, Method,
        protobuf::{decode_batch, decode_request, encode_error, encode_reply, encode_response},
    },
    codec::protobuf::wire::Message,
};
use gyre_transport::http::{
    Request, Response,
    grpc::{self, Code, Status},
};

use super::{BATCH_SLICE, execute::Operations, is_equal, reflection};
use crate::{metrics::ApiMetrics, secret::Secret, telemetry::Telemetry};

/// What the paths of all calls begin with.
const SERVICE: &str = "/centrifugal.centrifugo.api.CentrifugoApi/";
/// Names the type of an error in the details of a status.
const ERROR_TYPE: &str = "type.googleapis.com/centrifugal.centrifugo.api.Error";
const UNAUTHENTICATED: Status = Status::new(Code::Unauthenticated, "unauthenticated");

/// What is configured of the gRPC API.
#[derive(Clone, Debug)]
pub struct GrpcApiOptions {
    /// `grpc_api.key`; without one everybody gets in.
    pub key: Option<Secret<String>>,
    /// `grpc_api.error_mode: transport`.
    pub transport_errors: bool,
    /// `grpc_api.max_receive_message_size`: bytes of a request; more is answered with RESOURCE_EXHAUSTED.
    pub message_bytes_max: usize,
    /// `grpc_api.reflection`: tells generic clients what there is.
    pub has_reflection: bool,
    /// `grpc_api.connections`.
    pub lists_connections: bool,
}

/// The gRPC API.
#[derive(Debug)]
pub struct GrpcApi {
    operations: Operations,
    options: GrpcApiOptions,
    telemetry: Telemetry,
}

impl GrpcApi {
    /// An API in front of a node.
    pub fn new(
        node: Arc<Node>,
        options: GrpcApiOptions,
        metrics: Arc<ApiMetrics>,
        telemetry: Telemetry,
    ) -> Self {
        let operations = Operations::new(node, metrics, "grpc", options.lists_connections);
        Self { operations, options, telemetry }
    }

    /// Answers one call.
    pub async fn call(&self, request: Request) -> Response {
        if let Some(response) = grpc::refuse(&request) {
            return response;
        }
        if self.options.has_reflection && reflection::is_path(request.uri().path()) {
            return reflection::call(request);
        }
        let (path, metadata) = (request.uri().path(), request.headers().clone());
        let name = path.trim_start_matches('/').to_owned();
        let answer = self.telemetry.serve("grpc", name, &metadata, self.answer(request), |_| 0);
        answer.await.unwrap_or_else(|status| status.response())
    }

    async fn answer(&self, request: Request) -> Result<Response, Status> {
        let name = request.uri().path().strip_prefix(SERVICE).ok_or(Status::UNKNOWN_METHOD)?;
        let method = match name {
            "Batch" => None,
            name => Some(Method::from_rpc_name(name).ok_or(Status::UNKNOWN_METHOD)?),
        };
        if !self.is_authorized(request.headers()) {
            return Err(UNAUTHENTICATED);
        }
        let transport_errors = self.options.transport_errors
            || request.headers().get("x-centrifugo-error-mode").is_some_and(|mode| mode == "transport");
        let message = grpc::read_message(request, self.options.message_bytes_max).await;
        let name = method.map_or("batch", Method::name);
        let message = message.inspect_err(|_| self.operations.count_error(name, "read_body"))?;
        let answered = match method {
            Some(method) => self.one(method, &message, transport_errors).await,
            None => self.batch(&message).await,
        };
        answered.unwrap_or_else(|| {
            self.operations.count_error(name, "unmarshal");
            Err(Status::MALFORMED)
        })
    }

    /// One method's call. `None` if the request is malformed.
    async fn one(
        &self,
        method: Method,
        message: &Bytes,
        transport_errors: bool,
    ) -> Option<Result<Response, Status>> {
        let request = decode_request(method, message).ok()?;
        Some(match self.operations.run(request).await {
            Err(error) if transport_errors => Err(status(&error)),
            outcome => Ok(grpc::reply(|out| encode_response(&outcome, out))),
        })
    }

    /// A batch. Its errors are in its replies, whatever the mode.
    async fn batch(&self, message: &Bytes) -> Option<Result<Response, Status>> {
        let commands = decode_batch(message).ok()?;
        let mut replies = Vec::new();
        for (i, command) in commands.into_iter().enumerate() {
            if i % BATCH_SLICE == BATCH_SLICE - 1 {
                tokio::task::yield_now().await;
            }
            let method = command.as_ref().map(|request| request.method());
            let outcome = match command {
                Some(request) => self.operations.run(request).await,
                None => self.operations.refuse(false),
            };
            encode_reply(method, &outcome, &mut replies);
        }
        Some(Ok(grpc::reply(|out| out.append(&mut replies))))
    }

    /// The key has one spelling here, unlike over HTTP.
    fn is_authorized(&self, metadata: &HeaderMap) -> bool {
        let Some(key) = &self.options.key else { return true };
        let given = metadata.get(header::AUTHORIZATION).map_or(&b""[..], |value| value.as_bytes());
        given.strip_prefix(b"apikey ").is_some_and(|given| is_equal(given, key.expose().as_bytes()))
    }
}

/// The status an error stands for, with the error in its details.
///
/// Spec: centrifugo `internal/apiproto/errors.go`; googleapis `google/rpc/status.proto`
fn status(error: &Error) -> Status {
    let code = match error.code {
        102 | 104 => Code::NotFound,
        107 | 108 => Code::InvalidArgument,
        112 => Code::OutOfRange,
        113 => Code::AlreadyExists,
        _ => Code::Internal,
    };
    let (mut content, mut details) = (Vec::new(), Vec::new());
    encode_error(error, &mut content);
    let mut m = Message::new(&mut details);
    m.uint(1, code as u64);
    m.string(2, &error.message);
    m.message(3, |m| {
        m.string(1, ERROR_TYPE);
        m.bytes(2, &content);
    });
    Status { code, message: error.message.clone(), details }
}
