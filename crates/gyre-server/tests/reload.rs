//! What SIGHUP takes over while the real program runs, and what it says of the rest.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    path::PathBuf,
    process::{Child, ChildStderr, Command, Stdio},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

/// What is to happen happens within it.
const LIMIT: Duration = Duration::from_secs(30);

/// The program with a configuration that changes; ended with the value.
struct Server {
    child: Child,
    log: BufReader<ChildStderr>,
    file: PathBuf,
    port: u16,
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
        drop(self.file.parent().map(std::fs::remove_dir_all));
    }
}

impl Server {
    fn start(config: impl Fn(u16) -> Value) -> Self {
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = free.local_addr().unwrap().port();
        drop(free);
        let folder = std::env::temp_dir().join(format!("gyre-reload-{}-{port}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let file = folder.join("config.json");
        std::fs::write(&file, config(port).to_string()).unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_gyre"))
            .arg("--config")
            .arg(&file)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = BufReader::new(child.stderr.take().unwrap());
        let server = Self { child, log, file, port };
        let started = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(started.elapsed() < LIMIT, "the server does not listen");
            std::thread::yield_now();
        }
        server
    }

    /// Writes another configuration and reloads it. Returns what is logged, up to a line with `end`.
    fn reload(&mut self, config: &str, end: &str) -> String {
        std::fs::write(&self.file, config).unwrap();
        kill_process(Pid::from_raw(self.child.id() as i32).unwrap(), Signal::HUP).unwrap();
        let mut lines = String::new();
        loop {
            let read = self.log.read_line(&mut lines).unwrap();
            assert!(read > 0, "the log ends:\n{lines}");
            if lines.lines().last().is_some_and(|line| line.contains(end)) {
                return lines;
            }
        }
    }

    /// Status and body of a request.
    fn request(&self, request: &str, body: &str) -> (u16, String) {
        let mut connection = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        connection.set_read_timeout(Some(LIMIT)).unwrap();
        let length = body.len();
        write!(connection, "{request}\r\nHost: x\r\nContent-Length: {length}\r\n\r\n{body}").unwrap();
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") {
            connection.read_exact(&mut byte).unwrap();
            head.extend(byte);
        }
        let head = String::from_utf8(head).unwrap().to_lowercase();
        let length =
            head.split("content-length: ").nth(1).and_then(|rest| rest.split("\r\n").next()?.parse().ok());
        let mut body = vec![0; length.unwrap_or(0)];
        connection.read_exact(&mut body).unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), String::from_utf8(body).unwrap())
    }

    /// Status of a page's WebSocket.
    fn websocket(&self, origin: &str) -> u16 {
        let request = format!(
            "GET /connection/websocket HTTP/1.1\r\nOrigin: {origin}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA=="
        );
        self.request(&request, "").0
    }

    fn publish(&self, channel: &str) -> String {
        let body = json!({"channel": channel, "data": {}}).to_string();
        self.request("POST /api/publish HTTP/1.1\r\nX-API-Key: k\r\nConnection: close", &body).1
    }
}

fn config(port: u16, origin: &str, more: Value) -> Value {
    let mut config = json!({
        "http_server": {"address": "127.0.0.1", "port": port},
        "client": {"allowed_origins": [origin]},
        "http_api": {"key": "k"},
        "log": {"level": "error"},
    });
    config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    config
}

/// Origins, namespaces, limits and the level of the log are taken over by SIGHUP, which says what it changed and what
/// waits for a restart, and no secret; a file with mistakes changes nothing and has each of them logged. Method: the
/// program is asked over HTTP before and after each reload.
#[test]
fn a_reload_takes_effect() {
    let mut server = Server::start(|port| config(port, "https://a.example", json!({})));
    let port = server.port;
    assert_eq!((server.websocket("https://a.example"), server.websocket("https://b.example")), (101, 403));
    assert!(server.publish("chat:x").contains("102"));

    let more = json!({
        "channel": {"namespaces": [{"name": "chat"}]},
        "log": {"level": "info"},
        "http_api": {"key": "other-secret"},
        "health": {"enabled": true},
    });
    let log =
        server.reload(&config(port, "https://b.example", more).to_string(), "health.enabled: false → true");
    assert!(log.contains("configuration reloaded") && log.contains("channel.namespaces[chat]"), "{log}");
    assert!(log.contains("health.enabled: false → true: counts from the next start on"), "{log}");
    assert!(
        log.contains("http_api.key: (secret) → (secret): counts") && !log.contains("other-secret"),
        "{log}"
    );
    assert_eq!((server.websocket("https://a.example"), server.websocket("https://b.example")), (403, 101));
    assert_eq!(server.publish("chat:x"), r#"{"result":{}}"#);
    assert_eq!(server.request("GET /health HTTP/1.1", "").0, 404, "an endpoint waits for a restart");

    let broken =
        json!({"client": {"allowed_origins": ["["], "ping_interval": "1s"}, "channel": {"namespaces": 1}});
    let log = server.reload(&broken.to_string(), "channel.namespaces");
    assert!(!log.contains("configuration reloaded"), "{log}");
    let log = server.reload("{", "cannot be parsed");
    assert!(log.contains("client.allowed_origins") && log.contains("client.ping_interval"), "{log}");
    assert_eq!(
        (server.websocket("https://b.example"), server.publish("chat:x").contains("102")),
        (101, false)
    );

    let more = json!({"log": {"level": "info"}, "client": {"connection_rate_limit": 1}});
    server.reload(&config(port, "", more).to_string(), "client.connection_rate_limit");
    let statuses = [(); 3].map(|()| server.websocket("https://b.example"));
    assert!(statuses.contains(&503), "{statuses:?}");
}
