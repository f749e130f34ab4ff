//! `gyre health`, `pub`, `sub` and `bench` against the real program, over WebSocket and WebTransport.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    path::PathBuf,
    process::{Child, Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

const LIMIT: Duration = Duration::from_secs(20);

/// A server with a configuration file that its clients read as well; it ends with the value.
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
    fn start(tls: &Value) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let folder = std::env::temp_dir().join(format!("gyre-clients-{}-{port}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let is_secure = tls.is_object();
        let config = json!({
            "http_server": {"address": "127.0.0.1", "port": port, "http3": {"enabled": is_secure}, "tls": tls},
            "webtransport": {"enabled": is_secure},
            "health": {"enabled": true},
            "http_api": {"key": "key"},
            "client": {"token": {"hmac_secret_key": "secret"}, "allow_anonymous_connect_without_token": true},
            "channel": {"without_namespace": {
                "allow_subscribe_for_client": true, "allow_subscribe_for_anonymous": true,
                "allow_publish_for_client": true, "allow_publish_for_anonymous": true,
                "history_size": 100, "history_ttl": "300s", "force_recovery": true,
            }},
        });
        std::fs::write(folder.join("config.json"), config.to_string()).unwrap();
        let child = gyre(&folder).args(["--log.level", "error"]).stdout(Stdio::null()).spawn().unwrap();
        let server = Self { child, port, folder };
        let deadline = Instant::now() + LIMIT;
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(Instant::now() < deadline, "the server does not listen");
            thread::yield_now();
        }
        server
    }

    fn with_tls() -> Self {
        let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".into(), "localhost".into()]).unwrap();
        let (certificate, key) = (made.cert.pem(), made.signing_key.serialize_pem());
        let server = Self::start(&json!({"enabled": true, "cert_pem": certificate, "key_pem": key}));
        std::fs::write(server.folder.join("ca.pem"), certificate).unwrap();
        server
    }

    /// Runs a command to its end.
    fn run(&self, arguments: &[&str]) -> Output {
        gyre(&self.folder).args(arguments).output().unwrap()
    }

    fn succeed(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    fn api(&self, method: &str, body: &Value) {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        let body = body.to_string();
        let length = body.len();
        let head =
            format!("POST /api/{method} HTTP/1.1\r\nHost: x\r\nX-API-Key: key\r\nConnection: close\r\n");
        write!(stream, "{head}Content-Length: {length}\r\n\r\n{body}").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.contains("\"result\""), "{answer}");
    }
}

fn gyre(folder: &PathBuf) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gyre"));
    command.current_dir(folder).stdin(Stdio::null()).args(["--config", "config.json"]);
    command
}

/// A `gyre sub` that runs; what it prints is read line by line.
struct Subscriber {
    child: Child,
    notes: BufReader<std::process::ChildStderr>,
}

impl Subscriber {
    fn start(server: &Server, arguments: &[&str]) -> Self {
        let mut command = gyre(&server.folder);
        command.arg("sub").args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let notes = BufReader::new(child.stderr.take().unwrap());
        Self { child, notes }
    }

    /// Reads what it says until a line begins like this.
    fn wait_for(&mut self, note: &str) {
        let mut all = String::new();
        while self.notes.read_line(&mut all).unwrap() > 0 {
            if all.lines().any(|line| line.contains(note)) {
                return;
            }
        }
        panic!("no {note:?} in {all:?}");
    }

    /// Waits for its end; returns what it printed.
    fn lines(self) -> Vec<String> {
        let output = self.child.wait_with_output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap().lines().map(Into::into).collect()
    }
}

/// What is published as a client, through the API and line by line as text arrives at a subscriber, in order and unchanged.
#[test]
fn published_is_subscribed() {
    let server = Server::start(&Value::Null);
    let mut subscriber = Subscriber::start(&server, &["-n", "4", "news"]);
    subscriber.wait_for("subscribed to news");
    server.succeed(&["pub", "news", r#"{"a": 1}"#]);
    server.succeed(&["pub", "--api", "news", "[2]"]);
    let mut lines = gyre(&server.folder);
    let mut lines = lines.args(["pub", "--text", "news"]).stdin(Stdio::piped()).spawn().unwrap();
    lines.stdin.take().unwrap().write_all(b"three\nfo\"ur\n").unwrap();
    assert!(lines.wait().unwrap().success());
    assert_eq!(subscriber.lines(), [r#"{"a": 1}"#, "[2]", r#""three""#, r#""fo\"ur""#]);
    let refused = server.run(&["pub", "news", "hey"]);
    assert!(
        !refused.status.success() && String::from_utf8_lossy(&refused.stdout).contains("--text"),
        "{refused:?}"
    );
    let refused = server.run(&["pub", "no:such", "1"]);
    assert!(String::from_utf8_lossy(&refused.stdout).contains("102"), "{refused:?}");
}

/// The same over WebTransport and over WebSocket with TLS, with the server's certificate trusted by a file; without it
/// nobody connects.
#[test]
fn tls_and_webtransport() {
    let server = Server::with_tls();
    for scheme in ["https", "wss"] {
        let path = if scheme == "https" { "webtransport" } else { "websocket" };
        let url = format!("{scheme}://localhost:{}/connection/{path}", server.port);
        let mut subscriber =
            Subscriber::start(&server, &["--verbose", "-n", "1", "--url", &url, "--ca", "ca.pem", scheme]);
        subscriber.wait_for("subscribed to");
        server.succeed(&["pub", scheme, "7", "--url", &url, "--ca", "ca.pem"]);
        let lines = subscriber.lines();
        let line: Value = serde_json::from_str(&lines[0]).unwrap();
        let seen = (&line["channel"], &line["pub"]["data"], &line["pub"]["offset"]);
        assert_eq!(seen, (&json!(scheme), &json!(7), &json!(1)), "{lines:?}");
        let refused = server.run(&["pub", scheme, "7", "--url", &url]);
        assert!(!refused.status.success(), "a certificate nobody vouches for: {refused:?}");
    }
    server.succeed(&["health", "--insecure"]);
}

/// A subscriber whose connection is ended with advice to come back comes back, and gets what was published meanwhile; one
/// that is told to stay away ends and says why.
#[test]
fn a_lost_connection_is_taken_up() {
    let server = Server::start(&Value::Null);
    let mut subscriber = Subscriber::start(&server, &["-n", "2", "--user", "u", "news"]);
    subscriber.wait_for("subscribed to news");
    server.succeed(&["pub", "--api", "news", "1"]);
    server.api("disconnect", &json!({"user": "u", "disconnect": {"code": 4000, "reason": "come back"}}));
    subscriber.wait_for("4000 come back; connecting again");
    server.succeed(&["pub", "--api", "news", "2"]);
    assert_eq!(subscriber.lines(), ["1", "2"]);

    let mut subscriber = Subscriber::start(&server, &["--user", "u", "news"]);
    subscriber.wait_for("subscribed to news");
    server.api("disconnect", &json!({"user": "u", "disconnect": {"code": 4500, "reason": "stay away"}}));
    let output = subscriber.child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(!output.status.success() && said.contains("4500 stay away"), "{output:?}");
}

/// A bench of fan-out counts each delivery once and misses none; one of connections counts them all, each with its token.
#[test]
fn benches_count_exactly() {
    let server = Server::start(&Value::Null);
    let pid = server.child.id().to_string();
    let common = ["--clients", "20", "--json", "--user", "u", "--server-pid", &pid];
    let fanout = ["bench", "fanout", "--channels", "2", "--rate", "50", "--duration", "1s", "--size", "200"];
    for way in [&[][..], &["--api"]] {
        let report: Value =
            serde_json::from_str(&server.succeed(&[&fanout, &common[..], way].concat())).unwrap();
        let counts =
            (&report["subscribers"], &report["published"], &report["expected"], &report["delivered"]);
        assert_eq!(counts, (&json!(20), &json!(50), &json!(500), &json!(500)), "{report}");
        assert!(report["latency"]["p99"].as_u64().expect("latencies") > 0, "{report}");
        assert_eq!(report["failures"], json!({"by_cause": {}}), "{report}");
    }
    let report: Value =
        serde_json::from_str(&server.succeed(&[&["bench", "connect"], &common[..]].concat())).unwrap();
    assert_eq!((&report["connected"], &report["failures"]["by_cause"]), (&json!(20), &json!({})), "{report}");
    let wrong = server.succeed(&["bench", "connect", "--clients", "3", "--json", "--token", "wrong"]);
    let report: Value = serde_json::from_str(&wrong).unwrap();
    assert_eq!(report["connected"], json!(0), "{report}");
    let causes = report["failures"]["by_cause"].as_object().unwrap();
    assert_eq!(causes.values().collect::<Vec<_>>(), [&json!(3)], "{report}");
}

/// Health is asked where the configuration says it is; a server that is not there is not well.
#[test]
fn health_tells_the_truth() {
    let server = Server::start(&Value::Null);
    server.succeed(&["health"]);
    let missing = server.run(&["health", "--url", &format!("http://127.0.0.1:{}/nothing", server.port)]);
    assert!(
        !missing.status.success() && String::from_utf8_lossy(&missing.stdout).contains("404"),
        "{missing:?}"
    );
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    assert!(!server.run(&["health", "--url", &format!("http://127.0.0.1:{free}/health")]).status.success());
}
