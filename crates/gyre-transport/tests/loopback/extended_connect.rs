//! WebSocket over HTTP/2, and what it stands on: a stream of a request that becomes a socket.
//!
//! Spec: RFC 8441

use std::time::Duration;

use ::http::{Method, Request, Response, StatusCode, Version};
use bytes::Bytes;
use gyre_transport::http::{ConnectionEvent, Front};
use http_body_util::Empty;
use hyper::{
    body::Incoming,
    client::conn::http2::{self, SendRequest},
    ext::Protocol,
    upgrade::Upgraded,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    time::{Instant, timeout},
};
use tokio_tungstenite::{WebSocketStream, tungstenite::protocol::Role};

use crate::{
    certificate::{Certificate, connect_tls},
    server::{Server, on_shard, on_shard_without_limit},
    websocket::Client,
    world::{PATIENCE, World},
};

/// An HTTP/2 connection, driven by a task of its own.
async fn http2(io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> SendRequest<Empty<Bytes>> {
    let (client, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(io)).await.unwrap();
    tokio::spawn(connection);
    client
}

/// Asks for a protocol.
async fn connect(
    client: &mut SendRequest<Empty<Bytes>>,
    path: &str,
    protocol: &'static str,
    headers: &[(&str, &str)],
) -> Response<Incoming> {
    let mut request = Request::new(Empty::new());
    *request.method_mut() = Method::CONNECT;
    *request.uri_mut() = format!("https://localhost{path}").parse().unwrap();
    *request.version_mut() = Version::HTTP_2;
    request.extensions_mut().insert(Protocol::from_static(protocol));
    for (name, value) in headers {
        let name = ::http::HeaderName::try_from(*name).unwrap();
        request.headers_mut().append(name, value.parse().unwrap());
    }
    // The server's SETTINGS, which allow it, may not be here yet.
    client.ready().await.unwrap();
    timeout(PATIENCE, client.send_request(request)).await.unwrap().unwrap()
}

async fn tunnel(client: &mut SendRequest<Empty<Bytes>>, path: &str) -> TokioIo<Upgraded> {
    let response = connect(client, path, "websocket", &[("sec-websocket-version", "13")]).await;
    assert_eq!(response.status(), StatusCode::OK);
    TokioIo::new(hyper::upgrade::on(response).await.unwrap())
}

/// Several WebSocket connections share one HTTP/2 connection: each with its commands and publications, small and large,
/// and with the server's close frame at the end.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn websockets_share_an_http2_connection() {
    let certificate = Certificate::new();
    let world = World::start(Some(certificate.tls()));
    let tls = connect_tls(world.tcp().await, certificate.client(&["h2"])).await.unwrap();
    let mut http2 = http2(tls).await;
    let mut clients = Vec::new();
    let large = "x".repeat(50_000);
    for data in ["small", &large] {
        let stream = tunnel(&mut http2, "/connection/websocket").await;
        let mut client = Client(WebSocketStream::from_raw_socket(stream, Role::Client, None).await);
        client.send(r#"{"id":1,"connect":{}}"#).await;
        assert!(client.text().await.contains(r#""connect":{"client":""#));
        client.round_trip(data).await;
        clients.push(client);
    }
    world.stop.send_replace(true);
    // The first one hears what the second one has published.
    assert!(clients[0].text().await.contains("xxx"));
    for mut client in clients {
        assert_eq!(client.close_frame().await, (3001, "shutdown".into()));
    }
}

/// Extended CONNECT is refused by the same rules as an upgrade, and for what it does not know.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn bad_requests_are_refused() {
    let world = World::start(None);
    let mut http2 = http2(world.tcp().await).await;
    let version = ("sec-websocket-version", "13");
    let mut status = async |protocol, headers: &[(&str, &str)]| {
        connect(&mut http2, "/connection/websocket", protocol, headers).await.status()
    };
    assert_eq!(status("connect-udp", &[version]).await, StatusCode::NOT_IMPLEMENTED);
    assert_eq!(status("websocket", &[]).await, StatusCode::UPGRADE_REQUIRED);
    assert_eq!(
        status("websocket", &[version, ("origin", "https://evil.example")]).await,
        StatusCode::FORBIDDEN
    );
    assert_eq!(status("websocket", &[version, ("origin", "https://allowed.example")]).await, StatusCode::OK);
    let protocols = [version, ("sec-websocket-protocol", "other, centrifuge-protobuf")];
    let response = connect(&mut http2, "/connection/websocket", "websocket", &protocols).await;
    assert_eq!(response.headers()["sec-websocket-protocol"], "centrifuge-protobuf");
    assert!(!response.headers().contains_key("connection"));
}

/// Whatever is sent comes back in order, more than the windows of HTTP/2 hold, and the end behind it.
#[tokio::test]
async fn a_stream_is_a_socket() {
    on_shard(async {
        let server = Server::start(Front { accepts_h2c: true, ..Front::default() });
        let mut http2 = http2(server.connect().await).await;
        let (mut read, mut write) = tokio::io::split(tunnel(&mut http2, "/echo").await);
        let sent: Vec<u8> = (0..5_000_000_u32).map(|i| (i % 251) as u8).collect();
        let mut received = Vec::new();
        let send = async {
            write.write_all(&sent).await.unwrap();
            write.shutdown().await.unwrap();
        };
        let (_, read) = tokio::join!(send, read.read_to_end(&mut received));
        read.unwrap();
        assert!(received == sent, "{} of {} bytes", received.len(), sent.len());
    })
    .await;
}

/// An HTTP/2 connection with nothing but such a stream is not idle, and becomes idle with its end; with paused time.
#[tokio::test(start_paused = true)]
async fn a_quiet_stream_keeps_its_connection() {
    on_shard_without_limit(async {
        let server = Server::start(Front { accepts_h2c: true, ..Front::default() });
        let mut http2 = http2(server.connect().await).await;
        let mut stream = tunnel(&mut http2, "/echo").await;
        tokio::time::sleep(Duration::from_secs(300)).await;
        let mut echoed = [0; 5];
        stream.write_all(b"hello").await.unwrap();
        stream.read_exact(&mut echoed).await.unwrap();
        assert_eq!(&echoed, b"hello");
        let end = Instant::now();
        drop(stream);
        server.paths.observed(ConnectionEvent::Closed).await;
        assert!(end.elapsed() <= Duration::from_secs(70), "{:?}", end.elapsed());
    })
    .await;
}
