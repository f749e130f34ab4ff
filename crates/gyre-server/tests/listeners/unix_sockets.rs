//! Unix sockets: what is served on them, their files, and who is connected over them.

use std::{
    os::unix::fs::{FileTypeExt, PermissionsExt},
    path::Path,
};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use serde_json::json;
use tokio::net::UnixStream;

use super::{proxies::backend, *};

/// A server that is there when something answers at the socket.
async fn start(folder: Folder, config: &Value, socket: &str) -> Server {
    let server = Server::spawn(folder, config);
    within(async || UnixStream::connect(socket).await.is_ok()).await;
    server
}

async fn connect(socket: &str) -> UnixStream {
    UnixStream::connect(socket).await.unwrap()
}

/// Publishes by the server API over HTTP/1.1, and returns the answer.
async fn publish(socket: &str, data: &str) -> String {
    let body = format!(r#"{{"channel":"news","data":{data}}}"#);
    let length = body.len();
    let mut stream = connect(socket).await;
    let request = format!(
        "POST /api/publish HTTP/1.1\r\nhost: a\r\nx-api-key: key\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    timeout(LIMIT, stream.read_to_string(&mut answer)).await.unwrap().unwrap();
    answer
}

async fn subscribed(socket: &str) -> Client<UnixStream> {
    let mut client = Client::connect(connect(socket).await).await;
    let reply = client.ask(r#"{"id":2,"subscribe":{"channel":"news"}}"#).await;
    assert!(reply.contains("\"subscribe\""), "{reply}");
    client
}

async fn next<S: AsyncRead + AsyncWrite + Unpin>(client: &mut Client<S>) -> String {
    let message = timeout(LIMIT, client.0.next()).await.expect("a push").unwrap().unwrap();
    message.into_text().unwrap().to_string()
}

/// An answer over HTTP/2 without TLS, and the connection it came on.
async fn ask_http2(
    stream: UnixStream,
    request: http::Request<Full<Bytes>>,
) -> (tokio::task::JoinHandle<()>, http::Response<hyper::body::Incoming>) {
    let io = hyper_util::rt::TokioIo::new(stream);
    let executor = hyper_util::rt::TokioExecutor::new();
    let (mut client, connection) = hyper::client::conn::http2::handshake(executor, io).await.unwrap();
    let connection = tokio::spawn(async { drop(connection.await) });
    let response = timeout(LIMIT, client.send_request(request)).await.unwrap().unwrap();
    (connection, response)
}

fn mode(socket: &str) -> u32 {
    std::fs::metadata(socket).unwrap().permissions().mode() & 0o777
}

/// A server without any port serves clients at one socket and the API at another: a publication made there reaches
/// WebSocket clients on every shard and a client of HTTP/2. The files have the permissions asked for, and go at the end.
#[tokio::test]
async fn clients_and_the_api_are_served() {
    let folder = Folder::new("unix");
    let [external, internal] = ["client", "api"].map(|name| folder.0.join(name).to_str().unwrap().to_owned());
    let config = json!({
        "http_server": {
            "address": format!("unix:{external}"), "internal_addresses": [format!("unix:{internal}")],
            "unix_socket_mode": "0600",
        },
        "http_api": {"key": "key"},
        "client": {"insecure": true},
        "channel": {"without_namespace": {"allow_subscribe_for_client": true}},
        "uni_sse": {"enabled": true},
    });
    let mut server = start(folder, &config, &internal).await;
    assert_eq!((mode(&external), mode(&internal)), (0o600, 0o600));
    let mut clients = Vec::new();
    for _ in 0..8 {
        clients.push(subscribed(&external).await);
    }
    let request = http::Request::get("http://a/connection/uni_sse?cf_connect=%7B%7D").body(Full::default());
    let (_connection, response) = ask_http2(connect(&external).await, request.unwrap()).await;
    assert_eq!((response.status(), response.version()), (http::StatusCode::OK, http::Version::HTTP_2));
    drop(response);

    let answer = publish(&internal, "{\"a\":7}").await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("\"result\""), "{answer}");
    for client in &mut clients {
        let push = next(client).await;
        assert!(push.contains("\"data\":{\"a\":7}"), "{push}");
    }
    assert!(publish(&external, "1").await.starts_with("HTTP/1.1 404"));

    server.signal(rustix::process::Signal::TERM);
    for client in &mut clients {
        let goodbye = timeout(LIMIT, client.0.next()).await.unwrap().unwrap().unwrap();
        assert!(
            matches!(&goodbye, Message::Close(Some(frame)) if u16::from(frame.code) == 3001),
            "{goodbye}"
        );
    }
    drop(clients);
    assert!(server.child.wait().unwrap().success());
    assert!(!Path::new(&external).exists() && !Path::new(&internal).exists());
}

/// A server that is killed leaves its socket, which the next one replaces; while that one listens a third is refused, as
/// is one that would take the place of an ordinary file; neither touches what is there.
#[tokio::test]
async fn only_stale_sockets_are_replaced() {
    let folder = Folder::new("unix-stale");
    let socket = folder.0.join("socket").to_str().unwrap().to_owned();
    let config = |path: &str| {
        let [port] = free_ports();
        json!({
            "http_server": {"address": "127.0.0.1", "port": port, "addresses": [format!("unix:{path}")]},
            "health": {"enabled": true},
        })
    };
    let mut first = start(Folder::new("unix-first"), &config(&socket), &socket).await;
    first.child.kill().unwrap();
    first.child.wait().unwrap();
    assert!(std::fs::metadata(&socket).unwrap().file_type().is_socket());

    let second = start(Folder::new("unix-second"), &config(&socket), &socket).await;
    assert_eq!(mode(&socket), 0o660);
    let file = folder.write("file", "text");
    for path in [&socket, &file] {
        let mut refused = Server::spawn(Folder::new("unix-refused"), &config(path));
        assert_eq!(refused.child.wait().unwrap().code(), Some(1));
        assert!(refused.has_logged(&format!("cannot listen on unix:{path}")));
    }
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "text");
    assert!(get(connect(&socket).await, "/health", "").await.starts_with("HTTP/1.1 200"));
    drop(second);
}

/// What proxies on a unix socket forward is believed if they are trusted, and only then; networks of addresses, even all
/// of them, do not mean them.
#[tokio::test]
async fn forwarders_on_sockets_are_trusted_by_name() {
    for (networks, expected) in
        [(json!(["unix"]), "x-real-ip: 192.0.2.1"), (json!(["0.0.0.0/0", "::/0"]), "x-real-ip: 0.0.0.0")]
    {
        let (hook, mut seen) = backend().await;
        let folder = Folder::new("unix-forwarders");
        let socket = folder.0.join("socket").to_str().unwrap().to_owned();
        let config = json!({
            "http_server": {"address": format!("unix:{socket}"), "trusted_forwarders": networks},
            "client": {"proxy": {"connect": {
                "enabled": true, "endpoint": format!("http://127.0.0.1:{hook}/"), "http_headers": ["X-Real-IP"],
            }}},
        });
        let _server = start(folder, &config, &socket).await;
        let mut request = tokio_tungstenite::tungstenite::client::IntoClientRequest::into_client_request(
            "ws://localhost/connection/websocket",
        )
        .unwrap();
        request.headers_mut().insert("x-forwarded-for", "192.0.2.1".parse().unwrap());
        let (stream, _) = client_async(request, connect(&socket).await).await.unwrap();
        assert!(Client(stream).ask(r#"{"id":1,"connect":{}}"#).await.contains("\"client\""));
        let request = seen.recv().await.unwrap();
        assert!(request.contains(expected), "{networks}: {request}");
    }
}

/// gRPC is served on a socket as on a port, and connections there begin with the header of the PROXY protocol where it
/// is on: without it a call gets no answer.
#[tokio::test]
async fn grpc_is_served_behind_proxies() {
    let folder = Folder::new("unix-grpc");
    let socket = folder.0.join("socket").to_str().unwrap().to_owned();
    let [port] = free_ports();
    let config = json!({
        "http_server": {"address": "127.0.0.1", "port": port},
        "grpc_api": {
            "enabled": true, "address": format!("unix:{socket}"), "proxy_protocol": {"enabled": true},
        },
    });
    let _server = start(folder, &config, &socket).await;
    let call = || {
        http::Request::post("http://a/centrifugal.centrifugo.api.CentrifugoApi/Info")
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(Full::new(Bytes::from_static(&[0; 5])))
            .unwrap()
    };
    let mut stream = connect(&socket).await;
    stream.write_all(b"PROXY TCP4 192.0.2.6 127.0.0.1 4660 443\r\n").await.unwrap();
    let (_connection, response) = ask_http2(stream, call()).await;
    let answer = response.into_body().collect().await.unwrap();
    assert_eq!(answer.trailers().unwrap()["grpc-status"], "0");
    assert!(get(connect(&socket).await, "/", "").await.is_empty());
}
