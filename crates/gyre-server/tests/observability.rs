//! What the program shows of itself: metrics, health, traces, profiles, Graphite; asked over real sockets.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    net::TcpListener,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use tokio_tungstenite::{client_async, tungstenite::Message};

const LIMIT: Duration = Duration::from_secs(20);

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
    async fn start(more: Value, environment: &[(&str, &str)]) -> Self {
        let port = free_port();
        let folder = std::env::temp_dir().join(format!("gyre-observability-{}-{port}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let mut config = json!({
            "http_server": {"address": "127.0.0.1", "port": port},
            "health": {"enabled": true},
            "prometheus": {"enabled": true},
            "http_api": {"insecure": true},
            "client": {"allow_anonymous_connect_without_token": true},
            "channel": {"without_namespace": {
                "allow_subscribe_for_client": true, "allow_subscribe_for_anonymous": true,
            }},
        });
        for (key, value) in more.as_object().unwrap() {
            config[key] = value.clone();
        }
        let server = Self { child: spawn(&folder, &config, environment), port, folder };
        let deadline = Instant::now() + LIMIT;
        while TcpStream::connect(("127.0.0.1", port)).await.is_err() {
            assert!(Instant::now() < deadline, "the server does not listen");
            tokio::task::yield_now().await;
        }
        server
    }

    fn configure(&self, config: &Value) {
        std::fs::write(self.folder.join("config.json"), config.to_string()).unwrap();
    }

    fn signal(&self, signal: rustix::process::Signal) {
        let id = rustix::process::Pid::from_raw(self.child.id() as i32).unwrap();
        rustix::process::kill_process(id, signal).unwrap();
    }

    async fn ask(&self, request: &str) -> (u16, Vec<u8>) {
        let mut tcp = TcpStream::connect(("127.0.0.1", self.port)).await.unwrap();
        tcp.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        timeout(LIMIT, tcp.read_to_end(&mut answer)).await.unwrap().unwrap();
        let end = answer.windows(4).position(|window| window == b"\r\n\r\n").unwrap();
        let status = std::str::from_utf8(&answer[9..12]).unwrap().parse().unwrap();
        (status, answer[end + 4..].to_vec())
    }

    async fn get(&self, path: &str) -> (u16, Vec<u8>) {
        self.ask(&format!("GET {path} HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n")).await
    }

    async fn text(&self, path: &str) -> (u16, String) {
        let (status, body) = self.get(path).await;
        (status, String::from_utf8(body).unwrap())
    }

    async fn health(&self, path: &str) -> (u16, Value) {
        let (status, body) = self.get(path).await;
        (status, serde_json::from_slice(&body).unwrap())
    }

    async fn publish(&self, headers: &str) {
        let body = r#"{"channel":"c","data":{}}"#;
        let request = format!(
            "POST /api/publish HTTP/1.1\r\nhost: h\r\n{headers}content-length: {}\r\nconnection: close\r\n\r\n{body}",
            body.len()
        );
        assert_eq!(self.ask(&request).await.0, 200);
    }
}

fn spawn(folder: &std::path::Path, config: &Value, environment: &[(&str, &str)]) -> Child {
    let file = folder.join("config.json");
    std::fs::write(&file, config.to_string()).unwrap();
    Command::new(env!("CARGO_BIN_EXE_gyre"))
        .args(["--config"])
        .arg(&file)
        .envs(environment.iter().copied())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A connected client over WebSocket, subscribed to `c`, has received a publication; then the metrics count all of it,
/// under the names and labels that Centrifugo's dashboards ask for.
///
/// Spec: centrifugal.dev, "Metrics monitoring"
#[tokio::test]
async fn metrics_have_the_names_of_dashboards() {
    let prometheus = json!({
        "enabled": true, "instrument_http_handlers": true, "recovered_publications_histogram": true,
    });
    let server = Server::start(json!({ "prometheus": prometheus }), &[]).await;
    let tcp = TcpStream::connect(("127.0.0.1", server.port)).await.unwrap();
    let url = format!("ws://127.0.0.1:{}/connection/websocket", server.port);
    let (mut client, _) = client_async(url, tcp).await.unwrap();
    let subscribe = r#"{"id":2,"subscribe":{"channel":"c"}}"#;
    for command in [r#"{"id":1,"connect":{"name":"js"}}"#, subscribe] {
        client.send(Message::text(command)).await.unwrap();
        timeout(LIMIT, client.next()).await.unwrap().unwrap().unwrap();
    }
    server.publish("").await;
    let push = timeout(LIMIT, client.next()).await.unwrap().unwrap().unwrap();
    assert!(push.to_text().unwrap().contains("\"pub\""), "{push}");

    let (status, text) = server.text("/metrics").await;
    assert_eq!(status, 200);
    let sent_bytes = push.len() + 2;
    for line in [
        "# TYPE centrifugo_node_num_clients gauge",
        "# TYPE centrifugo_client_connections_accepted counter",
        "centrifugo_node_num_clients 1",
        "centrifugo_node_num_subscriptions 1",
        r#"centrifugo_node_action_count{action="add_client",channel_namespace=""} 1"#,
        r#"centrifugo_node_action_count{action="add_subscription",channel_namespace=""} 1"#,
        r#"centrifugo_node_action_count{action="broker_subscribe",channel_namespace=""} 1"#,
        r#"centrifugo_node_messages_sent_count{channel_namespace="",type="publication"} 1"#,
        r#"centrifugo_node_messages_received_count{channel_namespace="",type="publication"} 1"#,
        r#"centrifugo_node_broadcast_duration_seconds_count{channel_namespace="",type="publication"} 1"#,
        r#"centrifugo_client_command_duration_seconds_count{channel_namespace="",method="subscribe"} 1"#,
        r#"centrifugo_client_command_duration_seconds_histogram_bucket{channel_namespace="",method="connect",le="+Inf"} 1"#,
        r#"centrifugo_client_connections_accepted{accept_protocol="h1",client_name="unregistered",client_version="unversioned",transport="websocket"} 1"#,
        r#"centrifugo_client_connections_inflight{accept_protocol="h1",client_name="unregistered",client_version="unversioned",transport="websocket"} 1"#,
        r#"centrifugo_client_subscriptions_inflight{channel_namespace="",client_name="unregistered"} 1"#,
        r#"centrifugo_client_recovered_publications_count{channel_namespace=""} 0"#,
        r#"centrifugo_transport_messages_received{channel_namespace="",frame_type="subscribe",transport="websocket"} 1"#,
        &format!(
            r#"centrifugo_transport_messages_received_size{{channel_namespace="",frame_type="subscribe",transport="websocket"}} {}"#,
            subscribe.len()
        ),
        r#"centrifugo_transport_messages_sent{channel_namespace="",frame_type="push_publication",transport="websocket"} 1"#,
        &format!(
            r#"centrifugo_transport_messages_sent_size{{channel_namespace="",frame_type="push_publication",transport="websocket"}} {sent_bytes}"#
        ),
        r#"centrifugo_api_command_duration_seconds_count{method="publish",protocol="http"} 1"#,
        r#"centrifugo_node_incoming_http_requests_total{method="post",path="/api/publish",status="200"} 1"#,
    ] {
        assert!(text.lines().any(|known| known == line), "{line} in\n{text}");
    }
    for name in [
        "process_cpu_seconds_total ",
        "process_resident_memory_bytes ",
        "centrifugo_node_build{version=",
        "centrifugo_api_command_duration_seconds{method=\"publish\",protocol=\"http\",quantile=\"0.99\"} ",
        "gyre_shard_heartbeat_age_seconds{shard=\"0\"} ",
    ] {
        assert!(text.lines().any(|line| line.starts_with(name)), "{name} in\n{text}");
    }
}

/// `/health` stays as it was; a server that listens is live and ready, and tells why.
#[tokio::test]
async fn a_server_is_ready() {
    let server = Server::start(json!({}), &[]).await;
    assert_eq!(server.health("/health").await, (200, json!({})));
    let deadline = Instant::now() + LIMIT;
    while server.health("/health/ready").await.0 != 200 {
        assert!(Instant::now() < deadline, "{:?}", server.health("/health/ready").await);
    }
    let (status, live) = server.health("/health/live").await;
    assert_eq!((status, &live["status"], &live["causes"]), (200, &json!("ok"), &json!([])));
    let (_, ready) = server.health("/health/ready").await;
    assert_eq!(ready["checks"][0], json!({"name": "listeners", "ok": true}));
    assert_eq!(server.get("/health/other").await.0, 404);
}

/// A hook whose backend is not there makes the server not ready after three calls, and says which; it lives on.
#[tokio::test]
async fn a_dead_backend_is_told() {
    let connect = json!({"enabled": true, "endpoint": format!("http://127.0.0.1:{}", free_port())});
    let server = Server::start(json!({"client": {"proxy": {"connect": connect}}}), &[]).await;
    for _ in 0..3 {
        let tcp = TcpStream::connect(("127.0.0.1", server.port)).await.unwrap();
        let url = format!("ws://127.0.0.1:{}/connection/websocket", server.port);
        let (mut client, _) = client_async(url, tcp).await.unwrap();
        client.send(Message::text(r#"{"id":1,"connect":{}}"#)).await.unwrap();
        timeout(LIMIT, client.next()).await.unwrap();
    }
    let (status, ready) = server.health("/health/ready").await;
    assert_eq!(status, 503, "{ready}");
    let cause = ready["causes"][0].as_str().unwrap();
    assert!(cause.starts_with("the last 3 calls of the hook"), "{cause}");
    assert_eq!(server.health("/health").await.0, 200);
    assert_eq!(server.health("/health/live").await.0, 200);
}

/// A publish with a trace of its own arrives at a collector named by the environment, also when the server ends at once:
/// what waits is exported before the process goes.
///
/// Spec: opentelemetry.io, "OTLP Exporter Configuration"
#[tokio::test]
async fn traces_reach_a_collector() {
    let collector = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", collector.local_addr().unwrap());
    let enabled = json!({"opentelemetry": {"enabled": true, "api": true}});
    let server = Server::start(enabled, &[("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint)]).await;
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    server.publish(&format!("traceparent: 00-{trace}-00f067aa0ba902b7-01\r\n")).await;
    server.signal(rustix::process::Signal::TERM);
    let (mut tcp, _) = timeout(LIMIT, collector.accept()).await.unwrap().unwrap();
    let (mut bytes, mut buffer) = (Vec::new(), [0; 4096]);
    let trace_id: Vec<u8> =
        (0..32).step_by(2).map(|at| u8::from_str_radix(&trace[at..at + 2], 16).unwrap()).collect();
    let count =
        |bytes: &[u8], part: &[u8]| bytes.windows(part.len()).filter(|window| *window == part).count();
    // The request, the operation and the publication.
    while count(&bytes, &trace_id) < 3 {
        let read = timeout(LIMIT, tcp.read(&mut buffer)).await.unwrap().unwrap();
        assert!(read > 0, "{}", String::from_utf8_lossy(&bytes));
        bytes.extend_from_slice(&buffer[..read]);
    }
    tcp.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.unwrap();
    assert_eq!(count(&bytes, b"publication"), 1);
}

/// A profile of one second is one, as the tool reads it: compressed, with samples and names. A second one at the same
/// time is refused.
///
/// Spec: google/pprof `proto/profile.proto`
#[tokio::test]
async fn a_profile_is_made() {
    let server = Server::start(json!({"debug": {"enabled": true}}), &[]).await;
    let busy = async {
        // Something to see, until the profile is there.
        loop {
            server.publish("").await;
        }
    };
    let profile = tokio::select! {
        profile = server.get("/debug/pprof/profile?seconds=2") => profile,
        () = busy => unreachable!(),
    };
    assert_eq!(profile.0, 200);
    assert_eq!(&profile.1[..2], b"\x1f\x8b", "{:?}", &profile.1[..20]);
    std::fs::write(server.folder.join("profile"), &profile.1).unwrap();
    if let Some(keep) = std::env::var_os("GYRE_TEST_PROFILE") {
        std::fs::write(keep, &profile.1).unwrap();
    }
    let (first, second) = tokio::join!(
        server.get("/debug/pprof/profile?seconds=1"),
        server.get("/debug/pprof/profile?seconds=1")
    );
    let mut statuses = [first.0, second.0];
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 409]);
    assert_eq!(server.get("/debug/pprof/").await.0, 200);
    assert_eq!(server.get("/debug/pprof/heap").await.0, 404);
}

/// Lines arrive at a Graphite that listens.
#[tokio::test]
async fn graphite_is_sent_lines() {
    let graphite = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = graphite.local_addr().unwrap().port();
    let more = json!({
        "graphite": {"enabled": true, "host": "127.0.0.1", "port": port, "interval": "1s", "prefix": "p"},
        "node": {"name": "a.b"},
    });
    let _server = Server::start(more, &[]).await;
    let (mut tcp, _) = timeout(LIMIT, graphite.accept()).await.unwrap().unwrap();
    let mut bytes = Vec::new();
    let line = b"p.a_b.centrifugo.node.num_clients 0 ";
    while !bytes.windows(line.len()).any(|window| window == line) {
        let read = timeout(LIMIT, tcp.read_buf(&mut bytes)).await.unwrap().unwrap();
        assert!(read > 0);
    }
}

/// A reload changes the level of one part: before it a refused command leaves no line in the log file, after it one.
#[tokio::test]
async fn levels_change_by_reload() {
    let folder = std::env::temp_dir().join(format!("gyre-levels-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let file = folder.join("log");
    let log = |level: &str| json!({"level": "info", "file": file, "levels": {"client": level}});
    let server = Server::start(json!({"log": log("info")}), &[]).await;
    let lines = || std::fs::read_to_string(&file).unwrap_or_default();
    let connect = || async {
        let tcp = TcpStream::connect(("127.0.0.1", server.port)).await.unwrap();
        let url = format!("ws://127.0.0.1:{}/connection/websocket", server.port);
        let (mut client, _) = client_async(url, tcp).await.unwrap();
        client.send(Message::text("nonsense")).await.unwrap();
        while let Some(Ok(_)) = timeout(LIMIT, client.next()).await.unwrap() {}
    };
    connect().await;
    assert!(!lines().contains("client disconnected"), "{}", lines());
    let mut config: Value =
        serde_json::from_slice(&std::fs::read(server.folder.join("config.json")).unwrap()).unwrap();
    config["log"] = log("debug");
    server.configure(&config);
    server.signal(rustix::process::Signal::HUP);
    let deadline = Instant::now() + LIMIT;
    while !lines().contains("log.levels") {
        assert!(Instant::now() < deadline, "{}", lines());
        tokio::task::yield_now().await;
    }
    connect().await;
    while !lines().contains("client disconnected") {
        assert!(Instant::now() < deadline, "{}", lines());
        tokio::task::yield_now().await;
    }
    // Every line is an object.
    assert!(
        lines().lines().all(|line| serde_json::from_str::<Value>(line).is_ok_and(|line| line.is_object()))
    );
    std::fs::remove_dir_all(folder).unwrap();
}
