//! The web interface for admins behind real sockets: who gets in, what is told to whom, and that nobody waits for it.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use serde_json::{Value, json};

const LIMIT: Duration = Duration::from_secs(10);
const PASSWORD: &str = "let me in";

/// The program with the interface at `/ops`, ended with the value.
struct Server {
    child: Child,
    port: u16,
    file: PathBuf,
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
        drop(std::fs::remove_file(&self.file));
    }
}

impl Server {
    fn start() -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let config = json!({
            "http_server": {"address": "127.0.0.1", "port": port},
            "admin": {"enabled": true, "password": PASSWORD, "secret": "hush", "handler_prefix": "/ops"},
            "channel": {"without_namespace": {"history_size": 2, "history_ttl": "60s"}},
        });
        let file = std::env::temp_dir().join(format!("gyre-admin-{}-{port}.json", std::process::id()));
        std::fs::write(&file, config.to_string()).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_gyre"))
            .args(["--log.level", "error", "--config"])
            .arg(&file)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let server = Self { child, port, file };
        let deadline = Instant::now() + LIMIT;
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(Instant::now() < deadline, "the server does not listen");
            std::thread::yield_now();
        }
        server
    }

    /// Sends a request, and gives the stream of its answer, the head read.
    fn ask(&self, method: &str, path: &str, headers: &str, body: &str) -> (String, BufReader<TcpStream>) {
        let mut tcp = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        tcp.set_read_timeout(Some(LIMIT)).unwrap();
        let length = body.len();
        let head = format!("{method} {path} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {length}\r\n");
        tcp.write_all(format!("{head}connection: close\r\n{headers}\r\n{body}").as_bytes()).unwrap();
        let mut answer = BufReader::new(tcp);
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            assert!(answer.read_line(&mut head).unwrap() > 0, "the answer broke off");
        }
        (head, answer)
    }

    fn status(&self, method: &str, path: &str, headers: &str, body: &str) -> String {
        self.ask(method, path, headers, body).0.split(' ').nth(1).unwrap().to_owned()
    }

    fn json(&self, method: &str, path: &str, headers: &str, body: &str) -> Value {
        let (_, mut answer) = self.ask(method, path, headers, body);
        let mut text = String::new();
        answer.read_to_string(&mut text).unwrap();
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
    }

    /// Logs in; the header that proves it.
    fn log_in(&self) -> String {
        let form = "password=let+me+in";
        let token = self.json("POST", "/ops/admin/auth", "", form)["token"].as_str().unwrap().to_owned();
        format!("authorization: token {token}\r\n")
    }
}

/// The next event of a stream.
fn event(stream: &mut BufReader<TcpStream>) -> Value {
    loop {
        let mut line = String::new();
        assert!(stream.read_line(&mut line).unwrap() > 0, "the stream ended");
        if let Some(data) = line.strip_prefix("data: ") {
            return serde_json::from_str(data).unwrap();
        }
    }
}

/// Pages are for everybody, what they show for those who have logged in; nothing tells a secret.
#[test]
fn only_those_who_have_logged_in_see_anything() {
    let server = Server::start();
    assert!(server.ask("GET", "/ops", "", "").0.contains("location: ops/admin/\r\n"));
    assert!(server.ask("GET", "/ops/", "", "").0.contains("location: admin/\r\n"));
    for page in ["", "app.js", "style.css"] {
        assert_eq!(server.status("GET", &format!("/ops/admin/{page}"), "", ""), "200", "{page}");
    }
    assert_eq!(server.status("POST", "/ops/admin/auth", "", "password=wrong"), "400");
    let login = server.log_in();
    let views = ["state", "configuration", "channel?channel=a", "trace?channel=a", "trace?user="];
    for view in views.map(|view| format!("/ops/admin/{view}")) {
        for header in ["", "authorization: token 1.x\r\n"] {
            assert_eq!(server.status("GET", &view, header, ""), "401", "{view}");
        }
        assert_eq!(server.status("GET", &view, &login, ""), "200", "{view}");
        let foreign = format!("{login}sec-fetch-site: cross-site\r\n");
        assert_eq!(server.status("GET", &view, &foreign, ""), "403", "{view}");
        assert_eq!(server.status("POST", &view, &login, ""), "405", "{view}");
    }
    let configuration = server.json("GET", "/ops/admin/configuration", &login, "").to_string();
    assert!(!configuration.contains(PASSWORD) && !configuration.contains("hush"));
    assert!(configuration.contains("client.ping_interval"));
    assert!(server.json("GET", "/ops/admin/state", &login, "")["node"]["shards"].as_u64().unwrap() > 0);
    let options = server.json("GET", "/ops/admin/channel?channel=a", &login, "");
    assert_eq!(options["options"]["history"]["size"], 2);
    assert_eq!(server.status("GET", "/ops/admin/trace", &login, ""), "400");
    assert_eq!(server.status("GET", "/ops/admin/trace?channel=nowhere:a", &login, ""), "404");
}

/// What is published is seen at once, also what is no JSON; a server that stops does not wait for those who look.
#[test]
fn live_views_are_live_and_hold_nobody_up() {
    let mut server = Server::start();
    let login = server.log_in();
    let (head, mut stream) = server.ask("GET", "/ops/admin/trace?channel=a%20b", &login, "");
    assert!(head.contains("content-type: text/event-stream\r\n"), "{head}");
    let publish = |channel: &str, data: &str| {
        let body = format!(r#"{{"method":"publish","params":{{"channel":"{channel}",{data}}}}}"#);
        assert!(server.json("POST", "/ops/admin/api", &login, &body)["result"].is_object());
    };
    publish("other", r#""data":0"#);
    publish("a b", r#""data":{"text":"hello"}"#);
    publish("a b", r#""b64data":"AP8=""#);
    for (offset, data) in [(1, json!({"text": "hello"})), (2, json!({"base64": "AP8="}))] {
        let push = &event(&mut stream)["push"];
        assert_eq!((&push["channel"], &push["pub"]["offset"]), (&json!("a b"), &json!(offset)));
        assert_eq!(push["pub"]["data"], data);
    }

    let id = rustix::process::Pid::from_raw(server.child.id() as i32).unwrap();
    let asked_at = Instant::now();
    rustix::process::kill_process(id, rustix::process::Signal::TERM).unwrap();
    let status = server.child.wait().unwrap();
    assert!(status.success(), "{status}");
    assert!(asked_at.elapsed() < LIMIT / 2, "the server waited for {:?}", asked_at.elapsed());
    let mut rest = Vec::new();
    drop(stream.read_to_end(&mut rest));
}
