//! The real program's listeners: certificates that change, client certificates, certificates from an authority, sockets
//! of each kind, clients behind proxies. Every option is set in a configuration file and tried from outside.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod acme;
mod certificates;
mod client_certificates;
mod proxies;
mod unix_sockets;

use std::{
    net::TcpListener,
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::{SinkExt, StreamExt};
use rustls::{
    ClientConfig, RootCertStore,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use serde_json::Value;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tokio_tungstenite::{WebSocketStream, client_async, tungstenite::Message};

/// What is to happen happens within it.
const LIMIT: Duration = Duration::from_secs(30);

/// Ports nobody listens on.
fn free_ports<const N: usize>() -> [u16; N] {
    let taken = [0; N].map(|_| TcpListener::bind("127.0.0.1:0").unwrap());
    taken.map(|free| free.local_addr().unwrap().port())
}

/// A folder that ends with the value.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let [port] = free_ports();
        let path = std::env::temp_dir().join(format!("gyre-{name}-{}-{port}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn write(&self, name: &str, content: &str) -> String {
        let path = self.0.join(name);
        std::fs::write(&path, content).unwrap();
        path.to_str().unwrap().to_owned()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = std::fs::read_to_string(self.0.join("log")).unwrap_or_default();
            log.lines()
                .filter(|line| !line.contains("HTTP connection ended"))
                .for_each(|line| eprintln!("{line}"));
        }
        drop(std::fs::remove_dir_all(&self.0));
    }
}

/// The program with a configuration of its own, ended with the value.
struct Server {
    child: Child,
    folder: Folder,
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

impl Server {
    /// Starts it in a folder; it is there when the port is listened on.
    async fn start(folder: Folder, config: &Value, port: u16) -> Self {
        let server = Self::spawn(folder, config);
        within(async || TcpStream::connect(("127.0.0.1", port)).await.is_ok()).await;
        server
    }

    fn spawn(folder: Folder, config: &Value) -> Self {
        let file = folder.write("config.json", &config.to_string());
        let log = std::fs::File::create(folder.0.join("log")).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_gyre"))
            .args(["--log.level", "debug", "--config", &file])
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        Self { child, folder }
    }

    /// True if the log has a line with that.
    fn has_logged(&self, text: &str) -> bool {
        std::fs::read_to_string(self.folder.0.join("log")).unwrap().contains(text)
    }

    fn signal(&self, signal: rustix::process::Signal) {
        let id = rustix::process::Pid::from_raw(self.child.id() as i32).unwrap();
        rustix::process::kill_process(id, signal).unwrap();
    }
}

/// Waits for something that is looked at again and again.
async fn within(mut is_so: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + LIMIT;
    while !is_so().await {
        assert!(Instant::now() < deadline, "it did not happen in time");
        tokio::task::yield_now().await;
    }
}

/// A certificate for `localhost` with its key.
struct Certificate(rcgen::CertifiedKey<rcgen::KeyPair>);

impl Certificate {
    fn new() -> Self {
        Self(rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap())
    }

    fn pem(&self) -> String {
        self.0.cert.pem()
    }

    fn key(&self) -> String {
        self.0.signing_key.serialize_pem()
    }

    /// A client that believes no other.
    fn client(&self, alpn: &[&str]) -> ClientConfig {
        client(&self.pem(), None, alpn)
    }
}

/// A client that believes an authority, and may show a certificate.
fn client(authority: &str, identity: Option<(&str, &str)>, alpn: &[&str]) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority.as_bytes()).unwrap()).unwrap();
    let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
    let builder = builder.with_safe_default_protocol_versions().unwrap().with_root_certificates(roots);
    let mut config = match identity {
        None => builder.with_no_client_auth(),
        Some((chain, key)) => {
            let chain = CertificateDer::pem_slice_iter(chain.as_bytes()).map(Result::unwrap).collect();
            let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
            builder.with_client_auth_cert(chain, key).unwrap()
        }
    };
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    config
}

async fn tls(port: u16, config: ClientConfig, name: &str) -> std::io::Result<TlsStream<TcpStream>> {
    let tcp = TcpStream::connect(("127.0.0.1", port)).await?;
    let name = name.to_owned().try_into().unwrap();
    TlsConnector::from(Arc::new(config)).connect(name, tcp).await
}

/// A QUIC connection and its endpoint.
async fn quic(
    port: u16,
    config: ClientConfig,
    name: &str,
) -> Result<(quinn::Endpoint, quinn::Connection), quinn::ConnectionError> {
    let config = quinn::crypto::rustls::QuicClientConfig::try_from(config).unwrap();
    let mut endpoint = quinn::Endpoint::client(([127, 0, 0, 1], 0).into()).unwrap();
    endpoint.set_default_client_config(quinn::ClientConfig::new(Arc::new(config)));
    let connection = endpoint.connect(([127, 0, 0, 1], port).into(), name).unwrap().await?;
    Ok((endpoint, connection))
}

/// Asks for a path over HTTP/1.1 and returns the whole answer.
async fn get(mut stream: impl AsyncRead + AsyncWrite + Unpin, path: &str, headers: &str) -> String {
    let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n{headers}connection: close\r\n\r\n");
    let exchange = async {
        stream.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        // A peer that closes without a goodbye of TLS is an error to the reader, behind all it wrote.
        drop(stream.read_to_end(&mut answer).await);
        std::io::Result::Ok(String::from_utf8_lossy(&answer).into_owned())
    };
    timeout(LIMIT, exchange).await.unwrap().unwrap_or_default()
}

/// A WebSocket client that is connected.
struct Client<S>(WebSocketStream<S>);

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    async fn connect(stream: S) -> Self {
        let (socket, _) = client_async("ws://localhost/connection/websocket", stream).await.unwrap();
        let mut client = Self(socket);
        assert!(client.ask(r#"{"id":1,"connect":{}}"#).await.contains("\"client\""));
        client
    }

    async fn ask(&mut self, command: &str) -> String {
        self.0.send(Message::text(command)).await.unwrap();
        let reply = timeout(LIMIT, self.0.next()).await.expect("a reply").unwrap().unwrap();
        reply.into_text().unwrap().to_string()
    }

    /// True if it still is.
    async fn is_alive(&mut self) -> bool {
        self.ask(r#"{"id":2,"rpc":{"method":"none"}}"#).await.contains("\"id\":2")
    }
}
