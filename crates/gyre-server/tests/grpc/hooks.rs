//! Hooks over gRPC.

use std::collections::VecDeque;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::{net::TcpStream, time::timeout};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async, tungstenite::Message};
use tonic::{Request, Status, client::Grpc, transport::Endpoint};

use crate::{
    LIMIT, Server,
    backend::{Backend, tls},
    free_port,
    raw::Raw,
};

/// A client in JSON.
pub(crate) struct Client(WebSocketStream<MaybeTlsStream<TcpStream>>, VecDeque<String>);

impl Client {
    pub(crate) async fn open(port: u16) -> Self {
        let url = format!("ws://127.0.0.1:{port}/connection/websocket");
        Self(connect_async(url).await.unwrap().0, VecDeque::new())
    }

    pub(crate) async fn send(&mut self, command: &Value) {
        self.0.send(Message::text(command.to_string())).await.unwrap();
    }

    pub(crate) async fn message(&mut self) -> Message {
        timeout(LIMIT, self.0.next()).await.expect("the server says something").unwrap().unwrap()
    }

    pub(crate) async fn reply(&mut self) -> Value {
        serde_json::from_str(&self.text().await).unwrap()
    }

    /// The next line: messages of one turn come in one frame.
    pub(crate) async fn text(&mut self) -> String {
        loop {
            if let Some(line) = self.1.pop_front() {
                return line;
            }
            match self.message().await {
                Message::Text(text) => self.1.extend(text.lines().map(str::to_owned)),
                other => panic!("{other:?}"),
            }
        }
    }
}

/// A server whose hooks are at one backend; `proxy` says how it is called.
async fn start(proxy: Value, more: Value) -> (Server, u16) {
    let port = free_port();
    let mut connect = proxy.clone();
    connect["enabled"] = true.into();
    let mut config = json!({
        "http_server": {"address": "127.0.0.1", "port": port},
        "client": {"proxy": {"connect": connect}},
        "channel": {
            "proxy": {"subscribe": proxy, "publish": proxy},
            "without_namespace": {"subscribe_proxy_enabled": true, "publish_proxy_enabled": true},
        },
        "rpc": {"proxy": proxy, "without_namespace": {"proxy_enabled": true}},
    });
    config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    (Server::start(&config, &[port]).await, port)
}

/// ConnectResponse { result (1): { user (1): "42" } }
const USER_42: &[u8] = b"\x0a\x04\x0a\x0242";

/// A session whose every step is asked of the backend: what it is told, with which metadata, and what its answers do.
///
/// Spec: centrifugo `internal/proxyproto/proxy.proto`
#[tokio::test]
async fn sessions_are_asked_for() {
    let mut backend = Backend::start(None).await;
    let proxy = json!({
        "endpoint": format!("grpc://127.0.0.1:{}", backend.port), "timeout": "60s",
        "http_headers": ["x-request", "x-key"], "emulated_headers": ["x-frame"],
        "grpc": {
            "static_metadata": {"x-static": "s"}, "credentials_key": "x-key", "credentials_value": "secret",
        },
    });
    let (_server, port) = start(proxy, json!({})).await;
    let mut request = tokio_tungstenite::tungstenite::client::IntoClientRequest::into_client_request(
        format!("ws://127.0.0.1:{port}/connection/websocket"),
    )
    .unwrap();
    request.headers_mut().insert("x-request", "r".parse().unwrap());
    request.headers_mut().insert("x-key", "forged".parse().unwrap());
    let mut client = Client(connect_async(request).await.unwrap().0, VecDeque::new());
    client
        .send(&json!({"id": 1, "connect": {"data": {"d": 1}, "name": "js", "headers": {"x-frame": "f"}}}))
        .await;
    let call = backend.call("Connect").await;
    assert_eq!(call.field(2), Some(&b"websocket"[..]));
    assert_eq!((call.field(10), call.field(12)), (Some(&b"{\"d\":1}"[..]), Some(&b"js"[..])));
    let expected = [
        ("x-static", "s"),
        ("x-key", "secret"),
        ("x-request", "r"),
        ("x-frame", "f"),
        ("grpc-timeout", "60000m"),
    ];
    for (name, value) in expected {
        assert_eq!(call.header(name), Some(value), "{name}");
    }
    call.answer(Ok(USER_42));
    assert!(client.reply().await["connect"]["client"].is_string());

    client.send(&json!({"id": 2, "subscribe": {"channel": "c"}})).await;
    let call = backend.call("Subscribe").await;
    assert_eq!((call.field(10), call.field(11)), (Some(&b"42"[..]), Some(&b"c"[..])));
    // SubscribeResponse { result (1): { data (4): {"s":1} } }
    call.answer(Ok(b"\x0a\x09\x22\x07{\"s\":1}"));
    assert_eq!(client.reply().await["subscribe"]["data"], json!({"s": 1}));

    client.send(&json!({"id": 3, "publish": {"channel": "c", "data": 1}})).await;
    // PublishResponse { result (1): { data (1): 2 } }
    backend.call("Publish").await.answer(Ok(b"\x0a\x03\x0a\x012"));
    let both = [client.reply().await, client.reply().await];
    assert!(both.iter().any(|message| message["push"]["pub"]["data"] == 2), "{both:?}");

    client.send(&json!({"id": 4, "rpc": {"method": "m", "data": 5}})).await;
    let call = backend.call("RPC").await;
    assert_eq!((call.field(11), call.field(12)), (Some(&b"m"[..]), Some(&b"5"[..])));
    call.answer(Ok(b"\x0a\x03\x0a\x016"));
    assert_eq!(client.reply().await, json!({"id": 4, "rpc": {"data": 6}}));
}

/// What a backend refuses and what fails are what they are over HTTP: errors and disconnects of the application, error
/// 100 for a status, for an answer that makes no sense and for none in time.
///
/// Spec: centrifugal.dev, "Proxy events from clients to the backend"
#[tokio::test]
async fn failures_are_those_of_http() {
    let mut backend = Backend::start(None).await;
    let proxy = json!({"endpoint": format!("127.0.0.1:{}", backend.port), "timeout": "60s"});
    let hasty =
        json!({"name": "hasty", "endpoint": format!("127.0.0.1:{}", backend.port), "timeout": "50ms"});
    let more = json!({
        "proxies": [hasty],
        "rpc": {
            "proxy": proxy, "without_namespace": {"proxy_enabled": true},
            "namespaces": [{"name": "hasty", "proxy_enabled": true, "proxy_name": "hasty"}],
        },
    });
    let (_server, port) = start(proxy, more).await;
    let mut client = Client::open(port).await;
    client.send(&json!({"id": 1, "connect": {}})).await;
    backend.call("Connect").await.answer(Ok(USER_42));
    client.reply().await;
    let ask = json!({"id": 2, "rpc": {"method": "m"}});
    let internal = json!({"code": 100, "message": "internal server error", "temporary": true});
    let cases: [(Result<&'static [u8], Status>, Value); 3] = [
        (Ok(b"\x12\x07\x08\xe8\x07\x12\x02no"), json!({"code": 1000, "message": "no"})),
        (Ok(b"\xff"), internal.clone()),
        (Err(Status::not_found("no such method")), internal.clone()),
    ];
    for (answer, expected) in cases {
        client.send(&ask).await;
        backend.call("RPC").await.answer(answer);
        assert_eq!(client.reply().await["error"], expected);
    }
    client.send(&json!({"id": 3, "rpc": {"method": "hasty:m"}})).await;
    let late = backend.call("RPC").await;
    assert_eq!(client.reply().await["error"], internal);
    drop(late);
    client.send(&ask).await;
    // RPCResponse { disconnect (3): { code (1): 4000, reason (2): "r" } }
    backend.call("RPC").await.answer(Ok(b"\x1a\x06\x08\xa0\x1f\x12\x01r"));
    let closed = client.message().await;
    assert!(matches!(&closed, Message::Close(Some(frame)) if u16::from(frame.code) == 4000), "{closed:?}");
}

/// A backend with TLS is verified with its own authority; questions go compressed, answers come so.
///
/// Spec: grpc/grpc doc/compression.md
#[tokio::test]
async fn backends_have_tls_and_compression() {
    let (acceptor, authority) = tls();
    let mut backend = Backend::start(Some(acceptor)).await;
    let proxy = json!({
        "endpoint": format!("grpc://127.0.0.1:{}", backend.port), "timeout": "60s",
        "grpc": {
            "compression": true,
            "tls": {"enabled": true, "server_ca_pem": authority, "server_name": "localhost"},
        },
    });
    let (_server, port) = start(proxy, json!({})).await;
    let mut client = Client::open(port).await;
    client.send(&json!({"id": 1, "connect": {"name": "js"}})).await;
    let call = backend.call("Connect").await;
    assert_eq!((call.header("grpc-encoding"), call.field(12)), (Some("gzip"), Some(&b"js"[..])));
    call.answer(Ok(USER_42));
    assert!(client.reply().await["connect"]["client"].is_string());
}

/// Metadata of a client that came over gRPC itself is passed on if it is listed.
///
/// Spec: configuration, `grpc_metadata`
#[tokio::test]
async fn metadata_is_passed_on() {
    let mut backend = Backend::start(None).await;
    let uni = free_port();
    let proxy = json!({
        "endpoint": format!("grpc://127.0.0.1:{}", backend.port), "timeout": "60s", "grpc_metadata": ["x-token"],
    });
    let more = json!({"uni_grpc": {"enabled": true, "address": "127.0.0.1", "port": uni}});
    let (_server, _) = start(proxy, more).await;
    let connection = loop {
        let endpoint = Endpoint::from_shared(format!("http://127.0.0.1:{uni}")).unwrap();
        if let Ok(connection) = endpoint.connect().await {
            break connection;
        }
        tokio::task::yield_now().await;
    };
    let mut request = Request::new(Bytes::new());
    request.metadata_mut().insert("x-token", "t".parse().unwrap());
    request.metadata_mut().insert("x-other", "o".parse().unwrap());
    let stream = tokio::spawn(async move {
        let mut client = Grpc::new(connection);
        client.ready().await.unwrap();
        let path = "/centrifugal.centrifugo.unistream.CentrifugoUniStream/Consume".parse().unwrap();
        client.server_streaming(request, path, Raw).await.unwrap().into_inner().message().await.unwrap()
    });
    let call = backend.call("Connect").await;
    assert_eq!(call.field(2), Some(&b"uni_grpc"[..]));
    assert_eq!((call.header("x-token"), call.header("x-other")), (Some("t"), None));
    call.answer(Ok(USER_42));
    // Push { connect (10): … }
    assert_eq!(timeout(LIMIT, stream).await.unwrap().unwrap().unwrap()[0], 0x52);
}

/// A backend is found under the names that gRPC has for it: a unix socket, a host that is looked up.
///
/// Spec: grpc/grpc doc/naming.md
#[tokio::test]
async fn backends_have_names() {
    let path = std::env::temp_dir().join(format!("gyre-grpc-{}.sock", std::process::id()));
    let mut local = Backend::at(&path);
    let mut remote = Backend::start(None).await;
    let names = [
        format!("unix:{}", path.display()),
        format!("unix://{}", path.display()),
        format!("dns:///localhost:{}", remote.port),
        format!("passthrough:///127.0.0.1:{}", remote.port),
    ];
    for name in names {
        let (_server, port) = start(json!({"endpoint": name, "timeout": "60s"}), json!({})).await;
        let mut client = Client::open(port).await;
        client.send(&json!({"id": 1, "connect": {}})).await;
        let backend = if name.starts_with("unix") { &mut local } else { &mut remote };
        backend.call("Connect").await.answer(Ok(USER_42));
        assert!(client.reply().await["connect"]["client"].is_string(), "{name}");
    }
    std::fs::remove_file(path).unwrap();
}
