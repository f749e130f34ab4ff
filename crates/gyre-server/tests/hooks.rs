//! The real program asks a real backend on loopback: one test for each hook, and what one client's waiting does not do
//! to another.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::{
    net::TcpListener,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::{Duration, Instant, SystemTime},
};

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::{mpsc, oneshot},
    time::timeout,
};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async, tungstenite::Message};

const LIMIT: Duration = Duration::from_secs(10);

/// One request of the server, to be answered by the test.
struct Call {
    path: String,
    /// Names in lower case.
    headers: Vec<(String, String)>,
    body: Value,
    answer: oneshot::Sender<String>,
}

impl Call {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| &**value)
    }

    fn answer(self, body: &Value) {
        let body = body.to_string();
        self.respond(&format!("200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len()));
    }

    /// Answers with what follows the version of HTTP.
    fn respond(self, response: &str) {
        self.answer.send(format!("HTTP/1.1 {response}")).expect("the server waits");
    }
}

/// The application's backend. Every request waits for the test to answer it.
struct Backend {
    port: u16,
    calls: mpsc::Receiver<Call>,
}

impl Backend {
    async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (sender, calls) = mpsc::channel(16);
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                tokio::spawn(serve(socket, sender.clone()));
            }
        });
        Self { port, calls }
    }

    /// A proxy whose endpoint has that path.
    fn at(&self, path: &str) -> Value {
        json!({"endpoint": format!("http://127.0.0.1:{}/{path}", self.port), "timeout": "60s"})
    }

    async fn call(&mut self, path: &str) -> Call {
        let call = timeout(LIMIT, self.calls.recv()).await.expect("the backend is asked").unwrap();
        assert_eq!(call.path, format!("/{path}"), "{}", call.body);
        call
    }
}

/// Reads requests of one connection and writes what the test answers.
async fn serve(mut socket: TcpStream, calls: mpsc::Sender<Call>) {
    let mut received = Vec::new();
    loop {
        let Some(call) = read_request(&mut socket, &mut received).await else { return };
        let (answer, answered) = oneshot::channel();
        let (path, headers, body) = call;
        if calls.send(Call { path, headers, body, answer }).await.is_err() {
            return;
        }
        let Ok(response) = answered.await else { return };
        if socket.write_all(response.as_bytes()).await.is_err() {
            return;
        }
    }
}

async fn read_request(
    socket: &mut TcpStream,
    received: &mut Vec<u8>,
) -> Option<(String, Vec<(String, String)>, Value)> {
    loop {
        if let Some(end) = received.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
            let head = String::from_utf8(received[..end].to_vec()).unwrap();
            let mut lines = head.lines();
            let path = lines.next()?.split(' ').nth(1)?.to_owned();
            let headers: Vec<_> = lines
                .filter_map(|line| line.split_once(": "))
                .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
                .collect();
            let length = headers.iter().find(|(name, _)| name == "content-length");
            let length: usize = length.map_or(0, |(_, length)| length.parse().unwrap());
            if received.len() >= end + 4 + length {
                let body = received[end + 4..end + 4 + length].to_vec();
                received.drain(..end + 4 + length);
                let body = if body.is_empty() { Value::Null } else { serde_json::from_slice(&body).unwrap() };
                return Some((path, headers, body));
            }
        }
        if socket.read_buf(received).await.ok()? == 0 {
            return None;
        }
    }
}

/// The program with a configuration of its own, ended with the value.
struct Server {
    child: Child,
    port: u16,
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
    async fn start(mut config: Value) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let folder = std::env::temp_dir().join(format!("gyre-hooks-{}-{port}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        config["http_server"] = json!({"address": "127.0.0.1", "port": port});
        let file = folder.join("config.json");
        std::fs::write(&file, config.to_string()).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_gyre"))
            .args(["--log.level", "error", "--config"])
            .arg(&file)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let server = Self { child, port, folder };
        let deadline = Instant::now() + LIMIT;
        while TcpStream::connect(("127.0.0.1", port)).await.is_err() {
            assert!(Instant::now() < deadline, "the server does not listen");
            tokio::task::yield_now().await;
        }
        server
    }

    async fn client(&self) -> Client {
        let url = format!("ws://127.0.0.1:{}/connection/websocket", self.port);
        Client(connect_async(url).await.unwrap().0)
    }

    /// Publishes by the server API.
    async fn publish(&self, channel: &str, data: u32) {
        let body = json!({"channel": channel, "data": data}).to_string();
        let mut socket = TcpStream::connect(("127.0.0.1", self.port)).await.unwrap();
        let head = "POST /api/publish HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length:";
        socket.write_all(format!("{head} {}\r\n\r\n{body}", body.len()).as_bytes()).await.unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("result"), "{answer}");
    }

    /// A client that is connected without asking anybody.
    async fn connected(&self) -> Client {
        let mut client = self.client().await;
        client.send(json!({"id": 1, "connect": {}})).await;
        assert!(client.next().await["connect"].is_object());
        client
    }
}

struct Client(WebSocketStream<MaybeTlsStream<TcpStream>>);

impl Client {
    async fn send(&mut self, command: Value) {
        self.0.send(Message::text(command.to_string())).await.unwrap();
    }

    async fn next(&mut self) -> Value {
        match timeout(LIMIT, self.0.next()).await.expect("a message comes").unwrap().unwrap() {
            Message::Text(text) => serde_json::from_str(text.lines().next().unwrap()).unwrap(),
            Message::Close(Some(frame)) => json!({"closed": u16::from(frame.code)}),
            other => panic!("{other:?}"),
        }
    }
}

fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs()
}

/// Anonymous clients, and channels without namespace with these options.
fn open(options: Value) -> Value {
    json!({
        "client": {"allow_anonymous_connect_without_token": true, "presence_update_interval": "1s"},
        "channel": {"without_namespace": options},
    })
}

/// The backend says who connects; headers of the handshake and of the connect reach it where they are listed.
#[tokio::test]
async fn connect() {
    let mut backend = Backend::start().await;
    let mut proxy = backend.at("connect");
    proxy["enabled"] = true.into();
    proxy["http_headers"] = json!(["X-Request"]);
    proxy["emulated_headers"] = json!(["x-emulated"]);
    proxy["http"] = json!({"static_headers": {"x-static": "fixed"}});
    let server = Server::start(json!({"client": {"proxy": {"connect": proxy}}})).await;

    let mut request = tokio_tungstenite::tungstenite::client::IntoClientRequest::into_client_request(
        format!("ws://127.0.0.1:{}/connection/websocket", server.port),
    )
    .unwrap();
    request.headers_mut().insert("x-request", "r".parse().unwrap());
    let mut client = Client(connect_async(request).await.unwrap().0);
    client.send(json!({"id": 1, "connect": {"data": 1, "headers": {"X-Emulated": "e"}}})).await;
    let call = backend.call("connect").await;
    assert_eq!(
        ["x-request", "x-emulated", "x-static", "content-type"].map(|name| call.header(name)),
        [Some("r"), Some("e"), Some("fixed"), Some("application/json")]
    );
    assert_eq!((&call.body["transport"], &call.body["data"]), (&"websocket".into(), &1.into()));
    call.answer(&json!({"result": {"user": "42", "data": {"welcome": 1}}}));
    assert_eq!(client.next().await["connect"]["data"], json!({"welcome": 1}));

    let mut refused = server.client().await;
    refused.send(json!({"id": 1, "connect": {}})).await;
    backend.call("connect").await.answer(&json!({"disconnect": {"code": 4500, "reason": "no"}}));
    assert_eq!(refused.next().await, json!({"closed": 4500}));
}

/// The backend lets a connection end.
#[tokio::test]
async fn refresh() {
    let mut backend = Backend::start().await;
    let (mut connect, mut refresh) = (backend.at("connect"), backend.at("refresh"));
    (connect["enabled"], refresh["enabled"]) = (true.into(), true.into());
    let server = Server::start(json!({"client": {"proxy": {"connect": connect, "refresh": refresh}}})).await;
    let mut client = server.client().await;
    client.send(json!({"id": 1, "connect": {}})).await;
    let soon = json!({"result": {"user": "42", "expire_at": unix_seconds() + 3}});
    backend.call("connect").await.answer(&soon);
    assert_eq!(client.next().await["connect"]["expires"], Value::Null);
    let call = backend.call("refresh").await;
    assert_eq!(call.body["user"], "42");
    call.answer(&json!({}));
    assert_eq!(client.next().await, json!({"closed": 3005}));
}

/// The backend lets a client subscribe, with data of its own, or does not.
#[tokio::test]
async fn subscribe() {
    let mut backend = Backend::start().await;
    let mut config = open(json!({"subscribe_proxy_enabled": true}));
    config["channel"]["proxy"] = json!({"subscribe": backend.at("subscribe")});
    let server = Server::start(config).await;
    let mut client = server.connected().await;
    client.send(json!({"id": 2, "subscribe": {"channel": "c", "data": 1}})).await;
    let call = backend.call("subscribe").await;
    assert_eq!((&call.body["channel"], &call.body["user"]), (&"c".into(), &"".into()));
    call.answer(&json!({"result": {"data": 2}}));
    assert_eq!(client.next().await, json!({"id": 2, "subscribe": {"data": 2}}));
    client.send(json!({"id": 3, "subscribe": {"channel": "d"}})).await;
    backend.call("subscribe").await.respond("500 Broken\r\ncontent-length: 0\r\n\r\n");
    assert_eq!(client.next().await["error"]["code"], 100);
}

/// What the backend makes of a publication is what subscribers get. Its redirect is followed, body and all.
#[tokio::test]
async fn publish() {
    let mut backend = Backend::start().await;
    let mut config = open(json!({
        "allow_subscribe_for_client": true, "allow_subscribe_for_anonymous": true, "publish_proxy_enabled": true,
        "publish_proxy_name": "publish",
    }));
    let mut proxy = backend.at("publish");
    proxy["name"] = "publish".into();
    config["proxies"] = json!([proxy]);
    let server = Server::start(config).await;
    let mut client = server.connected().await;
    client.send(json!({"id": 2, "subscribe": {"channel": "c"}})).await;
    assert!(client.next().await["subscribe"].is_object());
    client.send(json!({"id": 3, "publish": {"channel": "c", "data": 1}})).await;
    let moved = "307 Moved\r\nlocation: /elsewhere\r\ncontent-length: 0\r\n\r\n";
    backend.call("publish").await.respond(moved);
    let call = backend.call("elsewhere").await;
    assert_eq!((&call.body["channel"], &call.body["data"]), (&"c".into(), &1.into()));
    call.answer(&json!({"result": {"data": 2}}));
    let mut messages = [client.next().await, client.next().await];
    messages.sort_by_key(|message| message.get("push").is_some());
    assert_eq!(messages[0], json!({"id": 3, "publish": {}}));
    assert_eq!(messages[1]["push"]["pub"]["data"], 2);
}

/// A method is the backend's, and its answer the client's. User and password of its URL are told.
#[tokio::test]
async fn rpc() {
    let mut backend = Backend::start().await;
    let mut config = open(json!({}));
    let mut proxy = backend.at("rpc");
    proxy["endpoint"] = proxy["endpoint"].as_str().unwrap().replace("http://", "http://user:p%40ss@").into();
    config["rpc"] = json!({"proxy": proxy, "namespaces": [{"name": "math", "proxy_enabled": true}]});
    let server = Server::start(config).await;
    let mut client = server.connected().await;
    client.send(json!({"id": 2, "rpc": {"method": "math:sum", "data": [1, 2]}})).await;
    let call = backend.call("rpc").await;
    assert_eq!(call.header("authorization"), Some("Basic dXNlcjpwQHNz"));
    assert_eq!(call.header("host"), Some(&*format!("127.0.0.1:{}", backend.port)));
    assert_eq!((&call.body["method"], &call.body["data"]), (&"math:sum".into(), &json!([1, 2])));
    call.answer(&json!({"result": {"data": 3}}));
    assert_eq!(client.next().await, json!({"id": 2, "rpc": {"data": 3}}));
}

/// The backend lets a subscription end.
#[tokio::test]
async fn sub_refresh() {
    let mut backend = Backend::start().await;
    let mut config = open(json!({"subscribe_proxy_enabled": true, "sub_refresh_proxy_enabled": true}));
    config["channel"]["proxy"] =
        json!({"subscribe": backend.at("subscribe"), "sub_refresh": backend.at("sub_refresh")});
    let server = Server::start(config).await;
    let mut client = server.connected().await;
    client.send(json!({"id": 2, "subscribe": {"channel": "c"}})).await;
    let soon = json!({"result": {"expire_at": unix_seconds() + 3}});
    backend.call("subscribe").await.answer(&soon);
    assert_eq!(client.next().await, json!({"id": 2, "subscribe": {}}));
    let call = backend.call("sub_refresh").await;
    assert_eq!(call.body["channel"], "c");
    call.answer(&json!({"result": {"expired": true}}));
    assert_eq!(client.next().await["push"]["unsubscribe"]["code"], 2501);
}

/// A backend that takes its time holds up the client it was asked about, whose commands keep their order, and nobody
/// else: the other client is answered while the question is open, on whichever shard they both are.
#[tokio::test]
async fn a_waiting_client_holds_up_nobody_else() {
    let mut backend = Backend::start().await;
    let mut config = open(json!({}));
    config["rpc"] = json!({
        "proxy": backend.at("rpc"), "without_namespace": {"proxy_enabled": true},
        "ping": {"enabled": true, "method": "ping"},
    });
    let server = Server::start(config).await;
    let mut waiting = server.connected().await;
    waiting.send(json!({"id": 2, "rpc": {"method": "slow"}})).await;
    let call = backend.call("rpc").await;
    waiting.send(json!({"id": 3, "rpc": {"method": "ping"}})).await;
    // More clients than there are shards, so that one of them shares the shard of the waiting one.
    let shards = std::thread::available_parallelism().unwrap().get();
    let mut others = Vec::new();
    for _ in 0..shards * 8 {
        let mut other = server.connected().await;
        other.send(json!({"id": 2, "rpc": {"method": "ping"}})).await;
        assert_eq!(other.next().await["id"], 2);
        others.push(other);
    }
    call.answer(&json!({"result": {"data": 1}}));
    assert_eq!(waiting.next().await, json!({"id": 2, "rpc": {"data": 1}}));
    assert_eq!(waiting.next().await, json!({"id": 3, "rpc": {}}));

    // A client that is gone before its answer leaves nothing behind that would hold up its successor.
    waiting.send(json!({"id": 4, "rpc": {"method": "slow"}})).await;
    let call = backend.call("rpc").await;
    drop(waiting);
    let mut next = server.connected().await;
    call.answer(&json!({"result": {"data": 1}}));
    next.send(json!({"id": 2, "rpc": {"method": "other"}})).await;
    backend.call("rpc").await.answer(&json!({"error": {"code": 1000, "message": "no"}}));
    assert_eq!(next.next().await["error"]["code"], 1000);
}

/// Keys of tokens that are long in coming hold up the client whose token names one, and nobody else; a token whose key
/// is not published is refused.
#[tokio::test]
async fn a_token_whose_key_is_fetched_holds_up_nobody_else() {
    let mut backend = Backend::start().await;
    let mut config = open(json!({}));
    config["client"]["token"] = json!({"jwks_public_endpoint": backend.at("jwks")["endpoint"]});
    let server = Server::start(config).await;
    let mut waiting = server.client().await;
    // {"alg":"RS256","kid":"a"}, {"sub":"42"}, and a signature of one byte.
    let token = "eyJhbGciOiJSUzI1NiIsImtpZCI6ImEifQ.eyJzdWIiOiI0MiJ9.AA";
    waiting.send(json!({"id": 1, "connect": {"token": token}})).await;
    let call = backend.call("jwks").await;
    let shards = std::thread::available_parallelism().unwrap().get();
    for _ in 0..shards * 2 {
        server.connected().await;
    }
    // The fetch may have run into its time limit by now, which refuses the token as well.
    drop(call.answer.send("HTTP/1.1 200 OK\r\ncontent-length: 11\r\n\r\n{\"keys\":[]}".into()));
    assert_eq!(waiting.next().await, json!({"closed": 3500}));
}

/// A subscriber that finds nothing to recover makes the backend be told, once for all that wait; what it publishes
/// before it answers is what they recover.
///
/// Spec: centrifugal.dev, "Channel cache empty events"
#[tokio::test]
async fn cache_empty() {
    let mut backend = Backend::start().await;
    let mut config = open(json!({
        "allow_subscribe_for_client": true, "allow_subscribe_for_anonymous": true, "history_size": 1,
        "history_ttl": "60s", "force_recovery": true, "force_recovery_mode": "cache",
        "cache_empty_proxy_enabled": true,
    }));
    config["channel"]["proxy"] = json!({"cache_empty": backend.at("cache_empty")});
    config["http_api"] = json!({"insecure": true});
    let server = Server::start(config).await;
    let subscribe = json!({"id": 2, "subscribe": {"channel": "c", "recover": true}});
    let mut clients = [server.connected().await, server.connected().await];
    for client in &mut clients {
        client.send(subscribe.clone()).await;
    }
    let call = backend.call("cache_empty").await;
    assert_eq!(call.body, json!({"channel": "c"}));
    let mut later = server.connected().await;
    later.send(subscribe).await;
    server.publish("c", 7).await;
    call.answer(&json!({"result": {"populated": true}}));
    for client in clients.iter_mut().chain([&mut later]) {
        let reply = client.next().await;
        // Whoever was not yet waiting when the publication came has found it.
        assert_eq!(reply["subscribe"]["publications"][0]["data"], 7, "{reply}");
    }
    // Without an answer that says so nothing is read again.
    clients[0].send(json!({"id": 3, "subscribe": {"channel": "d", "recover": true}})).await;
    backend.call("cache_empty").await.answer(&json!({}));
    assert_eq!(clients[0].next().await["subscribe"]["publications"], Value::Null);
}

/// First and last subscribers are told, repeatedly until the backend has answered; a channel that is left and entered
/// again within the delay is not told of at all.
///
/// Spec: centrifugal.dev, "Channel state events"
#[tokio::test]
async fn channel_states() {
    let mut backend = Backend::start().await;
    let open_options = json!({"allow_subscribe_for_client": true, "allow_subscribe_for_anonymous": true, "state_proxy_enabled": true});
    let mut config = open(open_options.clone());
    config["channel"]["proxy"] = json!({"state": backend.at("state")});
    config["channel"]["vacated_delay"] = "300ms".into();
    let server = Server::start(config).await;
    let (mut one, mut two) = (server.connected().await, server.connected().await);
    let subscribe = json!({"id": 2, "subscribe": {"channel": "c"}});
    one.send(subscribe.clone()).await;
    assert!(one.next().await["subscribe"].is_object());
    let told = |call: &Call| {
        let events = call.body["events"].as_array().unwrap().iter();
        events
            .map(|event| {
                assert!(event["time_ms"].as_u64().unwrap() > 1_700_000_000_000);
                format!("{} {}", event["channel"].as_str().unwrap(), event["type"].as_str().unwrap())
            })
            .collect::<Vec<_>>()
    };
    let call = backend.call("state").await;
    assert_eq!(told(&call), ["c occupied"]);
    call.respond("503 Later\r\ncontent-length: 0\r\n\r\n");
    let again = backend.call("state").await;
    assert_eq!(told(&again), ["c occupied"]);
    // Everything that changes meanwhile waits for the answer.
    two.send(subscribe.clone()).await;
    two.next().await;
    let leave = json!({"id": 3, "unsubscribe": {"channel": "c"}});
    for client in [&mut one, &mut two] {
        client.send(leave.clone()).await;
        client.next().await;
    }
    one.send(subscribe).await;
    one.next().await;
    two.send(json!({"id": 4, "subscribe": {"channel": "d"}})).await;
    two.next().await;
    again.answer(&json!({"result": {}}));
    let call = backend.call("state").await;
    assert_eq!(told(&call), ["d occupied"]);
    call.answer(&json!({}));
    drop((one, two));
    let mut vacated = Vec::new();
    while vacated.len() < 2 {
        let call = backend.call("state").await;
        vacated.extend(told(&call));
        // A refusal is an answer as well.
        call.answer(&json!({"error": {"code": 1000, "message": "no"}}));
    }
    vacated.sort();
    assert_eq!(vacated, ["c vacated", "d vacated"]);
}

/// The backend is told who has left, how and after how long, again if it does not answer; also of those whom the end of
/// the server sends away. Whoever never was connected is not told of.
#[tokio::test]
async fn disconnect() {
    let mut backend = Backend::start().await;
    let (mut connect, mut disconnect) = (backend.at("connect"), backend.at("disconnect"));
    (connect["enabled"], disconnect["enabled"]) = (true.into(), true.into());
    disconnect["include_connection_meta"] = true.into();
    let proxy = json!({"connect": connect, "disconnect": disconnect});
    let mut server = Server::start(json!({"client": {"proxy": proxy}})).await;
    let granted = json!({"result": {"user": "42", "meta": {"m": 1}}});
    let mut clients = [server.client().await, server.client().await, server.client().await];
    for client in &mut clients[..2] {
        client.send(json!({"id": 1, "connect": {}})).await;
        backend.call("connect").await.answer(&granted);
        assert!(client.next().await["connect"].is_object());
    }
    let [leaving, mut staying, stranger] = clients;
    drop(stranger);
    drop(leaving);
    for is_last in [false, true] {
        let call = backend.call("disconnect").await;
        let body = &call.body;
        assert_eq!(
            (&body["user"], &body["code"], &body["meta"]),
            (&"42".into(), &3000.into(), &json!({"m": 1}))
        );
        assert_eq!((&body["transport"], &body["reason"]), (&"websocket".into(), &"connection closed".into()));
        assert!(body["client"].is_string() && body["time_ms"].as_u64().unwrap() > 1_700_000_000_000);
        match is_last {
            false => call.respond("503 Later\r\ncontent-length: 0\r\n\r\n"),
            true => call.answer(&json!({})),
        }
    }
    let stopped = Command::new("kill").args(["-TERM", &server.child.id().to_string()]).status().unwrap();
    assert!(stopped.success());
    assert_eq!(staying.next().await, json!({"closed": 3001}));
    let call = backend.call("disconnect").await;
    assert_eq!(call.body["code"], 3001);
    call.answer(&json!({}));
    drop(staying);
    assert!(server.child.wait().unwrap().success());
}

/// One client whose question hangs keeps none of many others from connecting, whatever order the backend answers in.
#[tokio::test]
async fn a_hanging_connect_holds_up_no_other() {
    let mut backend = Backend::start().await;
    let mut connect = backend.at("connect");
    connect["enabled"] = true.into();
    let server = Server::start(json!({"client": {"proxy": {"connect": connect}}})).await;
    let mut waiting = server.client().await;
    waiting.send(json!({"id": 1, "connect": {}})).await;
    let hanging = backend.call("connect").await;
    let shards = std::thread::available_parallelism().unwrap().get();
    let (mut others, mut calls) = (Vec::new(), Vec::new());
    for i in 0..shards * 8 {
        let mut other = server.client().await;
        other.send(json!({"id": 1, "connect": {"data": i}})).await;
        others.push(other);
        calls.push(backend.call("connect").await);
    }
    for call in calls.into_iter().rev() {
        let user = call.body["data"].to_string();
        call.answer(&json!({"result": {"user": user, "data": call_data(&user)}}));
    }
    for (i, other) in others.iter_mut().enumerate() {
        assert_eq!(other.next().await["connect"]["data"], call_data(&i.to_string()));
    }
    hanging.answer(&json!({"result": {"user": "late"}}));
    assert!(waiting.next().await["connect"].is_object());
}

fn call_data(user: &str) -> Value {
    json!({"for": user})
}

/// As many questions are under way as the configuration says; further ones wait for their turn, within their own time,
/// and the clients that ask nothing for nobody.
#[tokio::test]
async fn questions_under_way_are_limited() {
    let mut backend = Backend::start().await;
    let mut config = open(json!({}));
    let mut proxy = backend.at("rpc");
    proxy["concurrency_limit"] = 1.into();
    let mut hasty = backend.at("hasty");
    (hasty["concurrency_limit"], hasty["timeout"], hasty["name"]) =
        (1.into(), "100ms".into(), "hasty".into());
    config["proxies"] = json!([hasty]);
    config["rpc"] = json!({
        "proxy": proxy, "without_namespace": {"proxy_enabled": true},
        "namespaces": [{"name": "hasty", "proxy_enabled": true, "proxy_name": "hasty"}],
        "ping": {"enabled": true, "method": "ping"},
    });
    let server = Server::start(config).await;
    let (mut one, mut two) = (server.connected().await, server.connected().await);
    let mut other = server.connected().await;
    one.send(json!({"id": 2, "rpc": {"method": "m", "data": 1}})).await;
    let call = backend.call("rpc").await;
    two.send(json!({"id": 2, "rpc": {"method": "m", "data": 2}})).await;
    for _ in 0..20 {
        other.send(json!({"id": 2, "rpc": {"method": "ping"}})).await;
        assert_eq!(other.next().await["id"], 2);
    }
    assert!(backend.calls.try_recv().is_err(), "it waits for its turn");
    call.answer(&json!({"result": {"data": 1}}));
    assert_eq!(one.next().await["rpc"]["data"], 1);
    let call = backend.call("rpc").await;
    assert_eq!(call.body["data"], 2);
    call.answer(&json!({"result": {"data": 2}}));
    assert_eq!(two.next().await["rpc"]["data"], 2);
    // Nobody's turn: error 100 when its time is over.
    for client in [&mut one, &mut two] {
        client.send(json!({"id": 3, "rpc": {"method": "hasty:m"}})).await;
    }
    let _held = backend.call("hasty").await;
    for client in [&mut one, &mut two] {
        assert_eq!(client.next().await["error"]["code"], 100);
    }
}

/// What a status stands for is what the client gets: an error, a disconnect; any other is error 100.
///
/// Spec: centrifugal.dev, "Proxy events from clients to the backend", HTTP status transforms
#[tokio::test]
async fn statuses_are_transformed() {
    let mut backend = Backend::start().await;
    let mut config = open(json!({}));
    let mut proxy = backend.at("rpc");
    proxy["http"] = json!({"status_to_code_transforms": [
        {"status_code": 404, "to_error": {"code": 1404, "message": "none", "temporary": true}},
        {"status_code": 403, "to_disconnect": {"code": 4403, "reason": "go"}},
    ]});
    config["rpc"] = json!({"proxy": proxy, "without_namespace": {"proxy_enabled": true}});
    let server = Server::start(config).await;
    let mut client = server.connected().await;
    let cases = [
        ("404 None", json!({"code": 1404, "message": "none", "temporary": true})),
        ("201 Made", json!({"code": 100, "message": "internal server error", "temporary": true})),
    ];
    for (status, error) in cases {
        client.send(json!({"id": 2, "rpc": {"method": "m"}})).await;
        backend.call("rpc").await.respond(&format!("{status}\r\ncontent-length: 0\r\n\r\n"));
        assert_eq!(client.next().await["error"], error);
    }
    client.send(json!({"id": 2, "rpc": {"method": "m"}})).await;
    backend.call("rpc").await.respond("403 No\r\ncontent-length: 0\r\n\r\n");
    assert_eq!(client.next().await, json!({"closed": 4403}));
}
