//! The real program on real sockets: every transport in both encodings does the same, checked through independent
//! clients.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::{
    io::Write,
    net::TcpListener,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::{io::AsyncWriteExt, net::TcpStream, time::timeout};
use tokio_tungstenite::{WebSocketStream, client_async, tungstenite::Message};

const LIMIT: Duration = Duration::from_secs(10);
const KEY: &str = "key";

/// The program with a configuration of its own, ended with the value.
struct Server {
    child: Child,
    port: u16,
    grpc_port: u16,
    folder: PathBuf,
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
        drop(std::fs::remove_dir_all(&self.folder));
    }
}

impl Server {
    async fn start() -> Self {
        let [port, grpc_port] = [0; 2].map(|_| TcpListener::bind("127.0.0.1:0").unwrap());
        let [port, grpc_port] = [port, grpc_port].map(|free| free.local_addr().unwrap().port());
        let folder = std::env::temp_dir().join(format!("gyre-endtoend-{}-{port}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let made = rcgen::generate_simple_self_signed(vec!["localhost".into()]).unwrap();
        let everything = json!({
            "allow_subscribe_for_client": true, "allow_subscribe_for_anonymous": true,
            "allow_publish_for_client": true, "allow_publish_for_anonymous": true,
            "history_size": 100, "history_ttl": "300s", "force_recovery": true,
        });
        let tls = json!({"enabled": true, "cert_pem": made.cert.pem(), "key_pem": made.signing_key.serialize_pem()});
        let config = json!({
            "http_server": {"address": "127.0.0.1", "port": port, "http3": {"enabled": true}, "tls": tls},
            "uni_grpc": {"enabled": true, "address": "127.0.0.1", "port": grpc_port, "tls": tls},
            "webtransport": {"enabled": true},
            "uni_webtransport": {"enabled": true},
            "sse": {"enabled": true},
            "http_stream": {"enabled": true},
            "uni_sse": {"enabled": true},
            "health": {"enabled": true},
            "http_api": {"key": KEY},
            "client": {"allow_anonymous_connect_without_token": true},
            "channel": {"without_namespace": everything},
        });
        let file = folder.join("config.json");
        std::fs::File::create(&file).unwrap().write_all(config.to_string().as_bytes()).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_gyre"))
            .args(["--log.level", "error", "--config"])
            .arg(&file)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let server = Self { child, port, grpc_port, folder };
        let deadline = Instant::now() + LIMIT;
        while TcpStream::connect(("127.0.0.1", port)).await.is_err() {
            assert!(Instant::now() < deadline, "the server does not listen");
            tokio::task::yield_now().await;
        }
        server
    }

    async fn tls(&self) -> tokio_rustls::client::TlsStream<TcpStream> {
        tls(self.port).await
    }

    /// Asks the process to end.
    fn terminate(&self) {
        let id = rustix::process::Pid::from_raw(self.child.id() as i32).unwrap();
        rustix::process::kill_process(id, rustix::process::Signal::TERM).unwrap();
    }

    /// A call of the server API over HTTP/1.1.
    async fn api(&self, method: &str, body: &Value) -> Value {
        use tokio::io::AsyncReadExt;
        let mut tls = self.tls().await;
        let body = body.to_string();
        let head = format!(
            "POST /api/{method} HTTP/1.1\r\nhost: localhost\r\nx-api-key: {KEY}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
            body.len()
        );
        tls.write_all((head + &body).as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        // A peer that closes without a goodbye of TLS is an error to the reader, behind all it wrote.
        drop(tls.read_to_end(&mut answer).await);
        let answer = String::from_utf8(answer).unwrap();
        serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap()
    }
}

async fn tls(port: u16) -> tokio_rustls::client::TlsStream<TcpStream> {
    let connector = tokio_rustls::TlsConnector::from(std::sync::Arc::new(trusting()));
    let tcp = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    connector.connect("localhost".try_into().unwrap(), tcp).await.unwrap()
}

/// TLS that believes every certificate: the test made it itself.
fn trusting() -> rustls::ClientConfig {
    use rustls::{
        DigitallySignedStruct, SignatureScheme,
        client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        pki_types::{CertificateDer, ServerName, UnixTime},
    };
    #[derive(Debug)]
    struct Trusting(rustls::crypto::WebPkiSupportedAlgorithms);
    impl ServerCertVerifier for Trusting {
        fn verify_server_cert(
            &self,
            _: &CertificateDer<'_>,
            _: &[CertificateDer<'_>],
            _: &ServerName<'_>,
            _: &[u8],
            _: UnixTime,
        ) -> Result<ServerCertVerified, rustls::Error> {
            Ok(ServerCertVerified::assertion())
        }
        fn verify_tls12_signature(
            &self,
            message: &[u8],
            certificate: &CertificateDer<'_>,
            signature: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, rustls::Error> {
            rustls::crypto::verify_tls12_signature(message, certificate, signature, &self.0)
        }
        fn verify_tls13_signature(
            &self,
            message: &[u8],
            certificate: &CertificateDer<'_>,
            signature: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, rustls::Error> {
            rustls::crypto::verify_tls13_signature(message, certificate, signature, &self.0)
        }
        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            self.0.supported_schemes()
        }
    }
    let provider = std::sync::Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let algorithms = provider.signature_verification_algorithms;
    rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(std::sync::Arc::new(Trusting(algorithms)))
        .with_no_client_auth()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Encoding {
    Json,
    Protobuf,
}

/// A client of any transport: sends frames, receives bytes.
enum Client {
    WebSocket(Box<WebSocketStream<tokio_rustls::client::TlsStream<TcpStream>>>),
    WebTransport {
        _session: wtransport::Connection,
        send: wtransport::SendStream,
        receive: wtransport::RecvStream,
    },
    /// A response that does not end, and requests beside it.
    Stream {
        port: u16,
        path: &'static str,
        response: Option<Box<tokio_rustls::client::TlsStream<TcpStream>>>,
        received: Vec<u8>,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Route {
    WebSocket,
    WebTransport,
    Sse,
    HttpStream,
}

const EVERY_TRANSPORT: [(Route, Encoding); 7] = [
    (Route::WebSocket, Encoding::Json),
    (Route::WebSocket, Encoding::Protobuf),
    (Route::WebTransport, Encoding::Json),
    (Route::WebTransport, Encoding::Protobuf),
    (Route::Sse, Encoding::Json),
    (Route::HttpStream, Encoding::Json),
    (Route::HttpStream, Encoding::Protobuf),
];

/// Sends a request over HTTP/1.1, the encoding as its type.
async fn post(
    port: u16,
    path: &str,
    encoding: Encoding,
    body: &[u8],
) -> Box<tokio_rustls::client::TlsStream<TcpStream>> {
    let kind = if encoding == Encoding::Protobuf { "application/octet-stream" } else { "application/json" };
    let length = body.len();
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\n\r\n"
    );
    let mut tls = Box::new(tls(port).await);
    tls.write_all(&[head.as_bytes(), body].concat()).await.unwrap();
    tls
}

/// Everything in a connect result that looks like an id: those of client and session, and that of the node unless the
/// transport is unidirectional.
fn ids(received: &[u8]) -> Vec<&str> {
    let is_id = |text: &[u8]| {
        text.iter().enumerate().all(|(i, byte)| match i {
            8 | 13 | 18 | 23 => *byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
    };
    let ids = received.windows(36).filter(|text| is_id(text));
    ids.map(|text| std::str::from_utf8(text).unwrap()).collect()
}

/// Commands for the session whose connect result was received.
fn emulation_request(received: &[u8], encoding: Encoding, command: &[u8]) -> Vec<u8> {
    let [_, session, node] = &ids(received)[..3] else { unreachable!("three ids") };
    match encoding {
        Encoding::Json => {
            let data = std::str::from_utf8(command).unwrap();
            json!({"session": session, "node": node, "data": data}).to_string().into_bytes()
        }
        Encoding::Protobuf => {
            let field = |tag: u8, value: &[u8]| [&[tag, value.len() as u8], value].concat();
            [field(0x0a, node.as_bytes()), field(0x12, session.as_bytes()), field(0x1a, command)].concat()
        }
    }
}

/// Asks for a WebTransport session.
async fn session(
    server: &Server,
    path: &str,
) -> Result<wtransport::Connection, wtransport::error::ConnectingError> {
    let config = wtransport::ClientConfig::builder().with_bind_default().with_no_cert_validation().build();
    let url = format!("https://127.0.0.1:{}{path}", server.port);
    wtransport::Endpoint::client(config).unwrap().connect(url).await
}

impl Client {
    async fn of(server: &Server, transport: Route, encoding: Encoding) -> Self {
        let stream = |path| Self::Stream { port: server.port, path, response: None, received: Vec::new() };
        match transport {
            Route::WebSocket => Self::websocket(server, encoding).await,
            Route::WebTransport => Self::webtransport(server, encoding).await,
            Route::Sse => stream("/connection/sse"),
            Route::HttpStream => stream("/connection/http_stream"),
        }
    }

    async fn websocket(server: &Server, encoding: Encoding) -> Self {
        let query = if encoding == Encoding::Protobuf { "?format=protobuf" } else { "" };
        let url = format!("wss://localhost:{}/connection/websocket{query}", server.port);
        let (socket, _) = client_async(url, server.tls().await).await.unwrap();
        Self::WebSocket(Box::new(socket))
    }

    async fn webtransport(server: &Server, encoding: Encoding) -> Self {
        let query = if encoding == Encoding::Protobuf { "?cf_protocol=protobuf" } else { "" };
        let session = session(server, &format!("/connection/webtransport{query}")).await.unwrap();
        let (send, receive) = session.open_bi().await.unwrap().await.unwrap();
        Self::WebTransport { _session: session, send, receive }
    }

    async fn send(&mut self, encoding: Encoding, command: &[u8]) {
        match (self, encoding) {
            (Self::WebSocket(socket), _) => socket.send(Message::binary(command.to_vec())).await.unwrap(),
            (Self::WebTransport { send, .. }, Encoding::Json) => {
                send.write_all(&[command, b"\n"].concat()).await.unwrap();
            }
            (Self::WebTransport { send, .. }, Encoding::Protobuf) => send.write_all(command).await.unwrap(),
            (Self::Stream { port, path, response: response @ None, .. }, _) => {
                *response = Some(post(*port, path, encoding, command).await);
            }
            (Self::Stream { port, received, .. }, _) => {
                use tokio::io::AsyncReadExt;
                let body = emulation_request(received, encoding, command);
                let mut answer = [0; 12];
                post(*port, "/emulation", encoding, &body).await.read_exact(&mut answer).await.unwrap();
                assert_eq!(&answer, b"HTTP/1.1 204");
            }
        }
    }

    /// Receives until `wanted` was seen; everything received.
    async fn until(&mut self, wanted: &[u8]) -> Vec<u8> {
        let mut seen = Vec::new();
        let receive = async {
            while !seen.windows(wanted.len()).any(|part| part == wanted) {
                match self {
                    Self::WebSocket(socket) => match socket.next().await.expect("a message").unwrap() {
                        Message::Close(Some(close)) => {
                            seen.extend(format!("close {} {}", u16::from(close.code), close.reason).bytes());
                        }
                        message => seen.extend_from_slice(&message.into_data()),
                    },
                    Self::WebTransport { receive, .. } => {
                        let mut buffer = [0; 4096];
                        let read = receive.read(&mut buffer).await.unwrap().expect("the stream goes on");
                        seen.extend_from_slice(&buffer[..read]);
                    }
                    Self::Stream { response, received, .. } => {
                        use tokio::io::AsyncReadExt;
                        let mut buffer = [0; 4096];
                        let response = response.as_mut().expect("a response");
                        let read = response.read(&mut buffer).await.unwrap();
                        assert_ne!(read, 0, "the response goes on");
                        seen.extend_from_slice(&buffer[..read]);
                        received.extend_from_slice(&buffer[..read]);
                    }
                }
            }
        };
        let outcome = timeout(LIMIT, receive).await;
        assert!(outcome.is_ok(), "waiting for {:?}, seen {:?}", wanted.escape_ascii(), seen.escape_ascii());
        seen
    }
}

/// Commands in both encodings: connect (id 1), subscribe to the channel `c` (id 2), publish 1 into it (id 3).
fn commands(encoding: Encoding) -> [Vec<u8>; 3] {
    match encoding {
        Encoding::Json => [
            br#"{"id":1,"connect":{}}"#.to_vec(),
            br#"{"id":2,"subscribe":{"channel":"c"}}"#.to_vec(),
            br#"{"id":3,"publish":{"channel":"c","data":"by client"}}"#.to_vec(),
        ],
        Encoding::Protobuf => {
            let delimited = |body: &[u8]| [&[body.len() as u8], body].concat();
            let publish = [b"\x08\x03\x3a\x10\x0a\x01c\x12\x0b".as_slice(), b"\"by client\""].concat();
            [
                delimited(&[0x08, 0x01, 0x22, 0x00]),
                delimited(b"\x08\x02\x2a\x03\x0a\x01c"),
                delimited(&publish),
            ]
        }
    }
}

/// Connect, subscribe, publish by client and API, and the advice of a disconnect, on every transport in both encodings.
#[tokio::test]
async fn every_transport_does_the_same() {
    for (transport, encoding) in EVERY_TRANSPORT {
        let server = Server::start().await;
        let mut client = Client::of(&server, transport, encoding).await;
        let [connect, subscribe, publish] = commands(encoding);
        client.send(encoding, &connect).await;
        client.until(env!("CARGO_PKG_VERSION").as_bytes()).await;
        client.send(encoding, &subscribe).await;
        let epoch = server.api("history", &json!({"channel": "c"})).await["result"]["epoch"].clone();
        client.until(epoch.as_str().unwrap().as_bytes()).await;
        client.send(encoding, &publish).await;
        client.until(b"\"by client\"").await;
        let published = server.api("publish", &json!({"channel": "c", "data": "by the API"})).await;
        assert_eq!(published["result"]["offset"], 2, "{published}");
        client.until(b"\"by the API\"").await;
        let disconnect = json!({"user": "", "disconnect": {"code": 4501, "reason": "go away"}});
        assert_eq!(server.api("disconnect", &disconnect).await, json!({"result": {}}));
        let seen = client.until(b"go away").await;
        if transport == Route::WebSocket {
            assert!(seen.ends_with(b"close 4501 go away"), "{:?}", seen.escape_ascii());
        } else if encoding == Encoding::Json {
            assert!(String::from_utf8_lossy(&seen).contains(r#"{"push":{"disconnect":{"code":4501"#));
        }
        if matches!(client, Client::Stream { .. }) && !seen.ends_with(b"0\r\n\r\n") {
            client.until(b"0\r\n\r\n").await;
        }
    }
}

/// The API reaches one of several connections of a user by the secret of its connect result, be the transport emulated or
/// unidirectional, with every method that names connections; a secret nobody has, and one of another user, reach none.
/// Method: what the others receive until they are disconnected has none of it.
#[tokio::test]
async fn the_api_names_one_session() {
    let server = Server::start().await;
    let mut clients = Vec::new();
    for path in ["/connection/sse", "/connection/http_stream", "/connection/uni_sse"] {
        let connect: &[u8] = if path.contains("uni") { b"{}" } else { br#"{"id":1,"connect":{}}"# };
        let mut client = Client::Stream { port: server.port, path, response: None, received: Vec::new() };
        client.send(Encoding::Json, connect).await;
        let seen = client.until(br#""session":""#).await;
        let seen = if ids(&seen).len() < 2 { [seen, client.until(b"\n").await].concat() } else { seen };
        let session = ids(&seen)[1].to_owned();
        clients.push((client, session));
    }
    let everyone: Vec<String> = clients.iter().map(|(_, session)| session.clone()).collect();
    for (index, (client, session)) in clients.iter_mut().enumerate() {
        let channel = format!("c{index}");
        let expire_at = 4_000_000_000_u64 + index as u64;
        let calls = [
            ("subscribe", json!({"channel": channel})),
            ("refresh", json!({"expire_at": expire_at})),
            ("unsubscribe", json!({"channel": channel})),
            ("disconnect", json!({"disconnect": {"code": 4501, "reason": format!("bye {channel}")}})),
        ];
        for (method, mut body) in calls {
            let (nobody, another) = ("00000000-0000-4000-8000-000000000000", "another");
            for (session, user) in [(nobody, ""), (session, another), (session, "")] {
                body["session"] = session.into();
                body["user"] = user.into();
                let answer = server.api(method, &body).await;
                assert_eq!(answer, json!({"result": {}}), "{method}");
            }
        }
        let seen = client.until(format!("bye {channel}").as_bytes()).await;
        let seen = String::from_utf8(seen).unwrap();
        for push in ["subscribe", "refresh", "unsubscribe", "disconnect"] {
            let key = format!("\"{push}\":{{");
            assert_eq!(seen.matches(&key).count(), 1, "{push} of {session} among {everyone:?}: {seen}");
        }
        for other in (0..everyone.len()).filter(|other| *other != index) {
            assert!(!seen.contains(&format!("c{other}")), "{seen}");
        }
    }
}

/// An HTTP/3 connection, byte by byte: with the control stream and empty SETTINGS.
async fn http3(server: &Server) -> (quinn::Connection, quinn::SendStream) {
    let mut config = trusting();
    config.alpn_protocols = vec![b"h3".to_vec()];
    let config = quinn::crypto::rustls::QuicClientConfig::try_from(config).unwrap();
    let mut endpoint = quinn::Endpoint::client(([127, 0, 0, 1], 0).into()).unwrap();
    endpoint.set_default_client_config(quinn::ClientConfig::new(std::sync::Arc::new(config)));
    let address = ([127, 0, 0, 1], server.port).into();
    let connection = endpoint.connect(address, "localhost").unwrap().await.unwrap();
    let mut control = connection.open_uni().await.unwrap();
    control.write_all(&[0x00, 0x04, 0x00]).await.unwrap();
    (connection, control)
}

/// A WebSocket over HTTP/3 takes commands that come in pieces, and ends with a close frame and the end of the stream.
/// Method: a client that speaks HTTP/3 byte by byte.
/// Spec: RFC 9220
#[tokio::test]
async fn a_websocket_over_http3_does_the_same() {
    let server = Server::start().await;
    let (connection, _control) = http3(&server).await;
    let (mut send, mut receive) = connection.open_bi().await.unwrap();
    let literal = |name: &[u8], value: &[u8]| {
        let name = [&[0x27, name.len() as u8 - 7], name].concat();
        [&name[..], &[value.len() as u8], value].concat()
    };
    // CONNECT and https from the static table, authority and path by their names in it.
    let path = b"/connection/websocket";
    let fields = [
        b"\x00\x00\xcf\xd7\x50\x09localhost\x51",
        &[path.len() as u8][..],
        path,
        &literal(b":protocol", b"websocket"),
        &literal(b"sec-websocket-version", b"13"),
    ]
    .concat();
    send.write_all(&[&[0x01, 0x40, fields.len() as u8], &fields[..]].concat()).await.unwrap();
    // Text frames with a mask of zeros, each byte in a DATA frame of its own.
    let text = |command: &str| [&[0x81, 0x80 | command.len() as u8, 0, 0, 0, 0], command.as_bytes()].concat();
    let mut seen = Vec::new();
    for (command, reply) in [
        (r#"{"id":1,"connect":{}}"#, r#"{"id":1,"connect":{"#),
        (r#"{"id":2,"subscribe":{"channel":"c"}}"#, r#"{"id":2,"subscribe":{"#),
    ] {
        for byte in text(command) {
            send.write_all(&[0x00, 0x01, byte]).await.unwrap();
        }
        until(&mut receive, &mut seen, reply.as_bytes()).await;
    }
    server.api("publish", &json!({"channel": "c", "data": "published"})).await;
    until(&mut receive, &mut seen, b"published").await;
    server.terminate();
    until(&mut receive, &mut seen, b"\x0b\xb9shutdown").await;
    // The client's close frame, with the same code.
    send.write_all(&[0x00, 0x08, 0x88, 0x82, 0, 0, 0, 0, 0x0b, 0xb9]).await.unwrap();
    assert!(timeout(LIMIT, receive.read_chunk(4096, true)).await.unwrap().unwrap().is_none());
}

/// Receives until `wanted` was seen.
async fn until(receive: &mut quinn::RecvStream, seen: &mut Vec<u8>, wanted: &[u8]) {
    let arrived = async {
        while !seen.windows(wanted.len()).any(|part| part == wanted) {
            let chunk = receive.read_chunk(4096, true).await.unwrap().expect("the body goes on");
            seen.extend_from_slice(&chunk.bytes);
        }
    };
    let outcome = timeout(LIMIT, arrived).await;
    assert!(outcome.is_ok(), "waiting for {:?}, seen {:?}", wanted.escape_ascii(), seen.escape_ascii());
}

/// An event stream over HTTP/3 arrives event by event, and ends its session when the client stops it. Method: a client
/// that speaks HTTP/3 byte by byte; whether the session is there is asked of the server API.
#[tokio::test]
async fn a_body_over_http3_comes_in_pieces_and_can_be_stopped() {
    let server = Server::start().await;
    let (connection, _control) = http3(&server).await;
    // A GET request without body.
    let (mut send, mut receive) = connection.open_bi().await.unwrap();
    let path = b"/connection/uni_sse?cf_connect=%7B%22subs%22%3A%7B%22c%22%3A%7B%7D%7D%7D";
    let fields = [b"\x00\x00\xd1\xd7\x50\x09localhost\x51".as_slice(), &[path.len() as u8], path].concat();
    send.write_all(&[&[0x01, 0x40, fields.len() as u8], &fields[..]].concat()).await.unwrap();
    send.finish().unwrap();
    let mut seen = Vec::new();
    for (wanted, next) in [(r#""connect":{"#, Some("first")), ("first", Some("second")), ("second", None)] {
        until(&mut receive, &mut seen, wanted.as_bytes()).await;
        if let Some(next) = next {
            server.api("publish", &json!({"channel": "c", "data": next})).await;
        }
    }
    let clients = async || server.api("info", &json!({})).await["result"]["nodes"][0]["num_clients"].clone();
    assert_eq!(clients().await, 1);
    receive.stop(0x10c_u32.into()).unwrap();
    let deadline = Instant::now() + LIMIT;
    while clients().await != json!(0) && clients().await != Value::Null {
        assert!(Instant::now() < deadline, "the session goes on");
    }
}

/// What no decoder can read ends the connection with 3501 on every transport.
#[tokio::test]
async fn garbage_is_answered_with_3501() {
    let server = Server::start().await;
    let mut client = Client::websocket(&server, Encoding::Json).await;
    client.send(Encoding::Json, b"{garbage").await;
    client.until(b"close 3501 bad request").await;
    let mut client = Client::webtransport(&server, Encoding::Json).await;
    client.send(Encoding::Json, b"{garbage").await;
    client.until(br#"{"push":{"disconnect":{"code":3501,"reason":"bad request"}}}"#).await;
}

/// SIGTERM tells every client and ends the process with success.
#[tokio::test]
async fn shutdown_reaches_everyone() {
    let mut server = Server::start().await;
    let mut clients = [
        Client::websocket(&server, Encoding::Json).await,
        Client::webtransport(&server, Encoding::Json).await,
    ];
    for client in &mut clients {
        client.send(Encoding::Json, &commands(Encoding::Json)[0]).await;
        client.until(b"connect").await;
    }
    server.terminate();
    clients[0].until(b"close 3001 shutdown").await;
    clients[1].until(br#""disconnect":{"code":3001"#).await;
    drop(clients);
    let status = tokio::task::spawn_blocking(move || server.child.wait()).await.unwrap().unwrap();
    assert!(status.success());
}

/// A request in flight is answered before the process ends. Method: the body comes when the listeners are closed.
#[tokio::test]
async fn shutdown_answers_requests_in_flight() {
    use tokio::io::AsyncReadExt;
    let mut server = Server::start().await;
    let body = json!({"channel": "c", "data": {}}).to_string();
    let mut tls = server.tls().await;
    let head = format!(
        "POST /api/publish HTTP/1.1\r\nhost: localhost\r\nx-api-key: {KEY}\r\ncontent-length: {}\r\nexpect: 100-continue\r\n\r\n",
        body.len()
    );
    tls.write_all(head.as_bytes()).await.unwrap();
    let mut answer = vec![0; 1024];
    let read = timeout(LIMIT, tls.read(&mut answer)).await.unwrap().unwrap();
    assert!(answer[..read].starts_with(b"HTTP/1.1 100 "));
    server.terminate();
    let deadline = Instant::now() + LIMIT;
    while TcpStream::connect(("127.0.0.1", server.port)).await.is_ok() {
        assert!(Instant::now() < deadline, "the server goes on listening");
        tokio::task::yield_now().await;
    }
    tls.write_all(body.as_bytes()).await.unwrap();
    answer.clear();
    // A peer that closes without a goodbye of TLS is an error to the reader, behind all it wrote.
    drop(timeout(LIMIT, tls.read_to_end(&mut answer)).await.unwrap());
    assert!(answer.starts_with(b"HTTP/1.1 200 "), "{}", String::from_utf8_lossy(&answer));
    let status = tokio::task::spawn_blocking(move || server.child.wait()).await.unwrap().unwrap();
    assert!(status.success());
}

/// A unidirectional session is a stream of pushes that the server opens, in either encoding; at the end it says why, and
/// finishes. A connect request that cannot be decoded gets no session.
#[tokio::test]
async fn a_unidirectional_session_listens() {
    use tokio::io::AsyncReadExt;
    let server = Server::start().await;
    let path = "/connection/uni_webtransport";
    assert!(session(&server, &format!("{path}?cf_connect=%7B")).await.is_err());
    let mut streams = Vec::new();
    for query in ["?cf_connect=%7B%22name%22%3A%22a%22%7D", "?cf_protocol=protobuf"] {
        let session = session(&server, &format!("{path}{query}")).await.unwrap();
        let mut stream = timeout(LIMIT, session.accept_uni()).await.unwrap().unwrap();
        let mut first = [0; 12];
        timeout(LIMIT, stream.read_exact(&mut first)).await.unwrap().unwrap();
        streams.push((session, stream, first));
    }
    assert_eq!(&streams[0].2, br#"{"connect":{"#);
    // A length, then the connect push as field 10.
    assert_eq!(streams[1].2[1], 0x52);
    server.terminate();
    let farewells: [&[u8]; 2] = [
        b"{\"disconnect\":{\"code\":3001,\"reason\":\"shutdown\"}}\n",
        b"\x0f\x5a\x0d\x08\xb9\x17\x12\x08shutdown",
    ];
    for ((_session, mut stream, _), farewell) in streams.into_iter().zip(farewells) {
        let mut rest = Vec::new();
        timeout(LIMIT, stream.read_to_end(&mut rest)).await.unwrap().unwrap();
        assert!(rest.ends_with(farewell), "{}", rest.escape_ascii());
    }
}

/// A gRPC call over TLS gets its connect push, and at the end why and a status. Method: a client that speaks HTTP/2 and
/// frames its messages itself.
#[tokio::test]
async fn a_grpc_call_listens() {
    use http_body_util::{BodyExt, Full};
    let server = Server::start().await;
    let mut config = trusting();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let tcp = TcpStream::connect(("127.0.0.1", server.grpc_port)).await.unwrap();
    let connector = tokio_rustls::TlsConnector::from(std::sync::Arc::new(config));
    let tls = connector.connect("localhost".try_into().unwrap(), tcp).await.unwrap();
    let executor = hyper_util::rt::TokioExecutor::new();
    let io = hyper_util::rt::TokioIo::new(tls);
    let (mut client, connection) = hyper::client::conn::http2::handshake(executor, io).await.unwrap();
    let driver = tokio::spawn(connection);
    let request =
        http::Request::post("https://localhost/centrifugal.centrifugo.unistream.CentrifugoUniStream/Consume")
            .header("content-type", "application/grpc+proto")
            .header("te", "trailers")
            // ConnectRequest { name (4): "a" }
            .body(Full::<bytes::Bytes>::from(&b"\x00\x00\x00\x00\x03\x22\x01a"[..]))
            .unwrap();
    let response = timeout(LIMIT, client.send_request(request)).await.unwrap().unwrap();
    assert_eq!(
        (response.status().as_u16(), &response.headers()["content-type"]),
        (200, &"application/grpc".parse().unwrap())
    );
    let mut body = response.into_body();
    let first = timeout(LIMIT, body.frame()).await.unwrap().unwrap().unwrap().into_data().unwrap();
    // Uncompressed, short, and the connect push as field 10.
    assert_eq!((&first[..4], usize::from(first[4]), first[5]), (&[0; 4][..], first.len() - 5, 0x52));
    server.terminate();
    let rest = timeout(LIMIT, body.collect()).await.unwrap().unwrap();
    assert_eq!(rest.trailers().unwrap()["grpc-status"], "0");
    assert_eq!(rest.to_bytes(), b"\x00\x00\x00\x00\x0f\x5a\x0d\x08\xb9\x17\x12\x08shutdown"[..]);
    drop(client);
    driver.await.unwrap().unwrap();
}
