//! The real program and gRPC, with an independent client and server: messages are bytes written by hand from the numbers
//! of the schema.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod api;
mod backend;
mod hooks;
mod raw;
mod streams;

use std::{
    net::TcpListener,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use serde_json::Value;
use tokio::net::TcpStream;

const LIMIT: Duration = Duration::from_secs(10);

/// A port nobody listens on.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// The program with a configuration of its own, ended with the value.
struct Server {
    child: Child,
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
    /// Starts it; it is there when all ports are listened on.
    async fn start(config: &Value, ports: &[u16]) -> Self {
        let folder = std::env::temp_dir().join(format!("gyre-grpc-{}-{}", std::process::id(), ports[0]));
        std::fs::create_dir_all(&folder).unwrap();
        let file = folder.join("config.json");
        std::fs::write(&file, config.to_string()).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_gyre"))
            .args(["--log.level", "error", "--config"])
            .arg(&file)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let server = Self { child, folder };
        let deadline = Instant::now() + LIMIT;
        for port in ports {
            while TcpStream::connect(("127.0.0.1", *port)).await.is_err() {
                assert!(Instant::now() < deadline, "the server does not listen");
                tokio::task::yield_now().await;
            }
        }
        server
    }
}
