//! The server API over gRPC.

use bytes::Bytes;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tonic::{
    Code, Request, Status,
    client::Grpc,
    codec::CompressionEncoding,
    transport::{Channel, Endpoint},
};

use crate::{Server, free_port, raw::Raw};

/// A server with the API on a port of its own, and a client of it.
struct World {
    _server: Server,
    http: u16,
    client: Grpc<Channel>,
}

impl World {
    async fn start() -> Self {
        Self::with(json!({"key": "k"})).await
    }

    /// A server with these options of the API.
    async fn with(options: Value) -> Self {
        let (http, grpc) = (free_port(), free_port());
        let mut api = json!({
            "enabled": true, "address": "127.0.0.1", "port": grpc, "max_receive_message_size": 10_000,
        });
        api.as_object_mut().unwrap().extend(options.as_object().unwrap().clone());
        let config = json!({
            "http_server": {"address": "127.0.0.1", "port": http},
            "grpc_api": api,
            "prometheus": {"enabled": true},
            "channel": {"without_namespace": {"history_size": 10, "history_ttl": "300s"}},
        });
        let server = Server::start(&config, &[http, grpc]).await;
        let endpoint = Endpoint::from_shared(format!("http://127.0.0.1:{grpc}")).unwrap();
        Self { _server: server, http, client: Grpc::new(endpoint.connect().await.unwrap()) }
    }

    /// Calls a method with the key and further metadata.
    async fn call(
        &self,
        method: &str,
        message: &[u8],
        metadata: &[(&'static str, &str)],
    ) -> Result<Bytes, Status> {
        let mut request = Request::new(Bytes::copy_from_slice(message));
        for (name, value) in metadata {
            request.metadata_mut().append(*name, value.parse().unwrap());
        }
        let mut client = self.client.clone();
        client.ready().await.unwrap();
        let path = format!("/centrifugal.centrifugo.api.CentrifugoApi/{method}");
        client.unary(request, path.parse().unwrap(), Raw).await.map(|answer| answer.into_inner())
    }

    async fn ok(&self, method: &str, message: &[u8]) -> Bytes {
        self.call(method, message, &[("authorization", "apikey k")]).await.unwrap()
    }
}

/// What is published by one call is read by another, data that is no JSON included; then the same in a batch.
///
/// Spec: centrifugo `internal/apiproto/api.proto`
#[tokio::test]
async fn calls_are_operations() {
    let world = World::start().await;
    // PublishRequest { channel (1): "c", data (2): ff }
    let published = world.ok("Publish", b"\x0a\x01c\x12\x01\xff").await;
    // PublishResponse { result (2): { offset (1): 1, epoch (2): … } }
    assert_eq!((published[0], &published[2..5]), (0x12, &b"\x08\x01\x12"[..]));
    let epoch = published.slice(6..);
    // HistoryRequest { channel (1): "c", limit (2): 9 }
    let history = world.ok("History", b"\x0a\x01c\x10\x09").await;
    // HistoryResponse { result (2): { publications (1): [{ data (2): ff, offset (4): 1 }], epoch (2), offset (3): 1 } }
    let length = epoch.len() as u8;
    let expected =
        [&[0x12, 11 + length], &b"\x0a\x05\x12\x01\xff\x20\x01\x12"[..], &[length], &epoch, b"\x18\x01"];
    assert_eq!(history, expected.concat());
    // BatchRequest { commands (1): [{ rpc (14): { method (1): "m" } }, { history_remove (12): { channel (1): "c" } }, {}] }
    let batch = b"\x0a\x05\x72\x03\x0a\x01m\x0a\x05\x62\x03\x0a\x01c\x0a\x00";
    let not_found = b"\x0a\x0f\x12\x0d\x08\x68\x12\x09not found";
    assert_eq!(world.ok("Batch", batch).await, [&not_found[..], b"\x0a\x02\x62\x00", not_found].concat());
    assert_eq!(world.ok("Batch", b"").await, Bytes::new());
    // InfoResponse { result (2): { nodes (1): [{ uid (1): … }] } }
    assert_eq!(world.ok("Info", b"").await[0], 0x12);
}

/// Errors are in the response unless the call or the configuration wants statuses.
///
/// Spec: centrifugo `internal/apiproto/errors.go`
#[tokio::test]
async fn errors_are_responses_or_statuses() {
    let world = World::start().await;
    // PublishResponse { error (1): { code (1): 107, message (2) } }
    assert_eq!(world.ok("Publish", b"").await, &b"\x0a\x0f\x08\x6b\x12\x0bbad request"[..]);
    let transport = [("authorization", "apikey k"), ("x-centrifugo-error-mode", "transport")];
    let status = world.call("Publish", b"", &transport).await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::InvalidArgument, "bad request"));
    // google.rpc.Status { code (1): 3, message (2), details (3): [{ type_url (1), value (2): Error }] }
    let kind = b"type.googleapis.com/centrifugal.centrifugo.api.Error";
    let details =
        [b"\x08\x03\x12\x0bbad request\x1a\x47\x0a\x34", &kind[..], b"\x12\x0f\x08\x6b\x12\x0bbad request"];
    assert_eq!(status.details(), details.concat());
    let unknown = world.call("Publish", b"\x0a\x03x:c\x12\x011", &transport).await.unwrap_err();
    assert_eq!(unknown.code(), Code::NotFound);
}

/// What gets no answer has the status that says why: with each way to miss the key, methods of other editions, requests
/// that are too long or malformed.
///
/// Spec: grpc/grpc doc/statuscodes.md
#[tokio::test]
async fn refused_calls_have_a_status() {
    let world = World::start().await;
    let keys = ["k", "apikey x", "Apikey k", "apikey  k", "apikey", "apikey k k"];
    for key in keys {
        let status = world.call("Info", b"", &[("authorization", key)]).await.unwrap_err();
        assert_eq!((status.code(), status.message()), (Code::Unauthenticated, "unauthenticated"), "{key}");
    }
    assert_eq!(world.call("Info", b"", &[]).await.unwrap_err().code(), Code::Unauthenticated);
    let only_first = [("authorization", "no"), ("authorization", "apikey k")];
    assert_eq!(world.call("Info", b"", &only_first).await.unwrap_err().code(), Code::Unauthenticated);
    let key = [("authorization", "apikey k")];
    for method in ["BlockUser", "publish", "Rpc"] {
        let status = world.call(method, b"", &key).await.unwrap_err();
        assert_eq!(status.code(), Code::Unimplemented, "{method}");
    }
    let large = world.call("Publish", &[0; 10_001], &key).await.unwrap_err();
    assert_eq!(large.code(), Code::ResourceExhausted);
    assert_eq!(world.call("Publish", b"\xff", &key).await.unwrap_err().code(), Code::Internal);
}

/// Without a key everybody gets in; the configuration can ask for statuses as well. Errors within a batch and within a
/// broadcast stay where they are.
///
/// Spec: centrifugo `internal/apiproto/errors.go`
#[tokio::test]
async fn options_are_obeyed() {
    let world = World::with(json!({"error_mode": "transport"})).await;
    let status = world.call("RPC", b"\x0a\x01m", &[]).await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::NotFound, "not found"));
    // BatchRequest { commands (1): [{ rpc (14): {} }] }
    let batch = world.call("Batch", b"\x0a\x02\x72\x00", &[]).await.unwrap();
    assert_eq!(batch, &b"\x0a\x11\x12\x0f\x08\x6b\x12\x0bbad request"[..]);
    // BroadcastRequest { channels (1): [""], data (2): "1" }
    let broadcast = world.call("Broadcast", b"\x0a\x00\x12\x011", &[]).await.unwrap();
    assert_eq!(broadcast, &b"\x12\x13\x0a\x11\x0a\x0f\x08\x6b\x12\x0bbad request"[..]);
}

/// A compressed request is read; it and a failing one are counted under the door they came through.
///
/// Spec: grpc/grpc doc/compression.md
#[tokio::test]
async fn compressed_calls_are_read_and_counted() {
    let mut world = World::start().await;
    world.client = world.client.clone().send_compressed(CompressionEncoding::Gzip);
    assert_eq!(world.ok("Presence", b"").await[..6], *b"\x0a\x0f\x08\x6b\x12\x0b");
    assert_eq!(world.ok("Publish", b"\x0a\x01c\x12\x02{}").await[0], 0x12);
    let mut tcp = tokio::net::TcpStream::connect(("127.0.0.1", world.http)).await.unwrap();
    tcp.write_all(b"GET /metrics HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n").await.unwrap();
    let mut metrics = String::new();
    tcp.read_to_string(&mut metrics).await.unwrap();
    for line in [
        r#"centrifugo_api_command_errors_total{error="107",method="presence",protocol="grpc"} 1"#,
        r#"centrifugo_api_command_duration_seconds_histogram_count{method="publish",protocol="grpc"} 1"#,
    ] {
        assert!(metrics.contains(line), "{line} in {metrics}");
    }
}

/// Generic clients ask what there is, on one call and in both versions, without a key; unless it is switched off.
///
/// Spec: grpc/grpc-proto `grpc/reflection/v1/reflection.proto`
#[tokio::test]
async fn the_api_describes_itself() {
    let world = World::with(json!({"key": "k", "reflection": true})).await;
    let closed = World::start().await;
    for version in ["v1", "v1alpha"] {
        let path = format!("/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo");
        let ask = async |world: &World, questions: &[&'static [u8]]| {
            let questions: Vec<_> = questions.iter().map(|question| Bytes::from_static(question)).collect();
            let mut client = world.client.clone();
            client.ready().await.unwrap();
            let questions = Request::new(futures_util::stream::iter(questions));
            client.streaming(questions, path.parse().unwrap(), Raw).await
        };
        // ServerReflectionRequest { list_services (7): "*" }, { file_containing_symbol (4) }, { file_by_filename (3): "x" }
        let symbol = b"\x22\x28centrifugal.centrifugo.api.CentrifugoApi";
        let answers = ask(&world, &[b"\x3a\x01*", symbol, b"\x1a\x01x"]).await.unwrap();
        let mut answers = answers.into_inner();
        // ServerReflectionResponse { original_request (2), list_services_response (6): { service (1): [{ name (1) }] } }
        let name = b"centrifugal.centrifugo.api.CentrifugoApi";
        let expected = [b"\x12\x03\x3a\x01*\x32\x2c\x0a\x2a\x0a\x28", &name[..]].concat();
        assert_eq!(answers.message().await.unwrap().unwrap(), expected);
        let described = answers.message().await.unwrap().unwrap();
        for part in ["api.proto", "PublishRequest", "idempotency_key", "InvalidateUserTokens"] {
            assert!(described.windows(part.len()).any(|window| window == part.as_bytes()), "{part}");
        }
        // error_response (7): { error_code (1): 5, error_message (2) }
        let missing = answers.message().await.unwrap().unwrap();
        assert_eq!(missing, &b"\x12\x03\x1a\x01x\x3a\x0d\x08\x05\x12\x09not found"[..]);
        assert_eq!(answers.message().await.unwrap(), None);
        let malformed = ask(&world, &[b"\xff"]).await.unwrap().into_inner().message().await.unwrap_err();
        assert_eq!(malformed.code(), Code::Internal);
        assert_eq!(ask(&closed, &[b"\x3a\x01*"]).await.unwrap_err().code(), Code::Unimplemented);
    }
}
