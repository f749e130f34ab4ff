//! Unidirectional gRPC from an independent client's call to a node's session and back.
//!
//! The client goes on by itself while a test waits for the server's threads.

use ::http::StatusCode;
use bytes::{Buf, BufMut, Bytes};
use gyre_core::limits::Limits;
use tokio::time::{Duration, timeout};
use tonic::{
    Code, Request, Status, Streaming,
    client::Grpc,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    transport::Endpoint,
};

use crate::{
    http::get_h2,
    server::{exchange, on_shard},
    world::{MESSAGE_BYTES_MAX, PATIENCE, World},
};

const CONSUME: &str = "/centrifugal.centrifugo.unistream.CentrifugoUniStream/Consume";
/// The same, where the test's server takes no more connections.
const FULL: &str = "/centrifugal.centrifugo.unistream.CentrifugoUniStream/Consume?full";

/// Messages as they are.
#[derive(Default)]
struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, out: &mut EncodeBuf<'_>) -> Result<(), Status> {
        out.put(item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(buffer.copy_to_bytes(buffer.remaining())))
    }
}

/// Calls a method with one message.
async fn call(world: &World, path: &'static str, message: &[u8]) -> Result<Streaming<Bytes>, Status> {
    let endpoint = Endpoint::from_shared(format!("http://127.0.0.1:{}", world.port)).unwrap();
    let mut client = Grpc::new(endpoint.connect().await.unwrap());
    client.ready().await.unwrap();
    let message = Request::new(Bytes::copy_from_slice(message));
    client.server_streaming(message, path.parse().unwrap(), Raw).await.map(|answer| answer.into_inner())
}

async fn next(stream: &mut Streaming<Bytes>) -> Option<Bytes> {
    timeout(PATIENCE, stream.message()).await.unwrap().unwrap()
}

/// The next message that is no ping.
async fn next_push(stream: &mut Streaming<Bytes>) -> Bytes {
    loop {
        let push = next(stream).await.unwrap();
        if !push.is_empty() {
            return push;
        }
    }
}

fn holds(push: &[u8], text: &str) -> bool {
    push.windows(text.len()).any(|window| window == text.as_bytes())
}

/// A call gets its connect push, what is published in the channel it asked for, pings, and at the end why: with a small
/// and a large publication, from a call that names its channel.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_call_is_a_connection() {
    let limits =
        Limits { ping_interval: Duration::from_millis(200), pong_timeout: PATIENCE, ..Limits::default() };
    let world = World::with_limits(None, limits);
    // ConnectRequest { subs: {"c": {}} }
    let mut stream = call(&world, CONSUME, &[0x1a, 5, 0x0a, 1, b'c', 0x12, 0]).await.unwrap();
    let connect = next(&mut stream).await.unwrap();
    // Push { connect (10): … }, with the session's address and the subscription.
    assert_eq!(connect[0], 0x52);
    let large = "x".repeat(50_000);
    for data in ["small", &large] {
        world.client().await.round_trip(data).await;
        let publication = next_push(&mut stream).await;
        // Push { channel (2): "c", pub (4): … }
        assert_eq!(publication[..4], [0x12, 1, b'c', 0x22]);
        assert!(holds(&publication, data));
    }
    while !next(&mut stream).await.unwrap().is_empty() {}
    world.stop.send_replace(true);
    let farewell = next_push(&mut stream).await;
    // Push { disconnect (11): { code (1): 3001, reason (2): "shutdown" } }
    assert_eq!(farewell[..5], [0x5a, 13, 0x08, 0xb9, 0x17]);
    assert!(holds(&farewell, "shutdown"));
    assert_eq!(next(&mut stream).await, None);
}

/// A call that cannot become a connection has the status that says why.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn refused_calls_have_a_status() {
    let world = World::start(None);
    let code = async |path, message: &[u8]| match call(&world, path, message).await {
        Err(status) => status.code(),
        // A refusal is an answer without messages, which the client may tell either way.
        Ok(mut stream) => match stream.message().await {
            Err(status) => status.code(),
            Ok(message) => panic!("no refusal, but {message:?}"),
        },
    };
    assert_eq!(code("/a.Service/Method", b"").await, Code::Unimplemented);
    assert_eq!(code(CONSUME, b"\xff").await, Code::Internal);
    assert_eq!(code(FULL, b"").await, Code::Unavailable);
    // ConnectRequest { name (4): "…" }, one byte above the limit with its tag and length.
    let mut large = vec![0x22, 0xdd, 0xd4, 3];
    large.resize(MESSAGE_BYTES_MAX + 1, b'x');
    assert_eq!(code(CONSUME, &large).await, Code::ResourceExhausted);
    drop(call(&world, CONSUME, &large[..0]).await.unwrap());
}

/// What is not gRPC at all is answered as HTTP does.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn other_requests_have_an_http_status() {
    on_shard(async {
        let world = World::start(None);
        let response = get_h2(world.tcp().await, CONSUME).await.unwrap();
        assert_eq!(response.status(), StatusCode::METHOD_NOT_ALLOWED);
        let request =
            format!("POST {CONSUME} HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: 0\r\n\r\n");
        let answer = exchange(&mut world.tcp().await, request).await;
        assert!(answer.starts_with("HTTP/1.1 505 "), "{answer}");
    })
    .await;
}
