//! Certificates that change under open connections.

use serde_json::{Value, json};

use super::*;

/// WebSocket connections that must not notice anything.
const CONNECTIONS: usize = 100;
/// The same over WebTransport.
const SESSIONS: usize = 10;

fn config(port: u16, grpc: u16, chain: &str, key: &str) -> Value {
    let tls = json!({"enabled": true, "cert_pem": chain, "key_pem": key});
    json!({
        "http_server": {"address": "127.0.0.1", "port": port, "http3": {"enabled": true}, "tls": tls},
        "webtransport": {"enabled": true},
        "grpc_api": {"enabled": true, "address": "127.0.0.1", "port": grpc, "tls": tls},
        "client": {"allow_anonymous_connect_without_token": true},
    })
}

struct Session {
    _endpoint: wtransport::Endpoint<wtransport::endpoint::endpoint_side::Client>,
    _connection: wtransport::Connection,
    send: wtransport::SendStream,
    receive: wtransport::RecvStream,
}

impl Session {
    async fn connect(port: u16) -> Self {
        let config =
            wtransport::ClientConfig::builder().with_bind_default().with_no_cert_validation().build();
        let endpoint = wtransport::Endpoint::client(config).unwrap();
        let url = format!("https://127.0.0.1:{port}/connection/webtransport");
        let connection = endpoint.connect(url).await.unwrap();
        let (send, receive) = connection.open_bi().await.unwrap().await.unwrap();
        let mut session = Self { _endpoint: endpoint, _connection: connection, send, receive };
        assert!(session.ask("{\"id\":1,\"connect\":{}}\n").await.contains("\"client\""));
        session
    }

    async fn ask(&mut self, command: &str) -> String {
        self.send.write_all(command.as_bytes()).await.unwrap();
        let mut reply = Vec::new();
        while !reply.ends_with(b"\n") {
            let mut buffer = [0; 1024];
            let read =
                timeout(LIMIT, self.receive.read(&mut buffer)).await.expect("a reply").unwrap().unwrap();
            reply.extend_from_slice(&buffer[..read]);
        }
        String::from_utf8(reply).unwrap()
    }
}

/// New handshakes see a certificate whose files have changed, over TCP, QUIC and at the port of gRPC, and no open
/// connection is lost; one that cannot be used changes nothing and is logged; SIGHUP does the same at once. Method: each
/// client believes one certificate only, and the open connections are asked something after every change.
#[tokio::test]
async fn a_certificate_changes_under_open_connections() {
    let (old, new, third) = (Certificate::new(), Certificate::new(), Certificate::new());
    let folder = Folder::new("certificates");
    let [port, grpc] = free_ports();
    let (chain, key) = (folder.write("chain.pem", &old.pem()), folder.write("key.pem", &old.key()));
    let server = Server::start(folder, &config(port, grpc, &chain, &key), port).await;
    let mut clients = Vec::new();
    for _ in 0..CONNECTIONS {
        clients.push(Client::connect(tls(port, old.client(&[]), "localhost").await.unwrap()).await);
    }
    let mut sessions = Vec::new();
    for _ in 0..SESSIONS {
        sessions.push(Session::connect(port).await);
    }
    let all_serve = async |certificate: &Certificate| {
        tls(port, certificate.client(&[]), "localhost").await.is_ok()
            && tls(grpc, certificate.client(&["h2"]), "localhost").await.is_ok()
            && quic(port, certificate.client(&["h3"]), "localhost").await.is_ok()
    };

    server.folder.write("chain.pem", &new.pem());
    server.folder.write("key.pem", &new.key());
    within(async || all_serve(&new).await).await;
    assert!(!all_serve(&old).await);

    server.folder.write("chain.pem", "no certificate");
    within(async || server.has_logged("the old one stays")).await;
    assert!(all_serve(&new).await);
    server.folder.write("chain.pem", &third.pem());
    within(async || server.has_logged("the private key does not match the certificate")).await;
    assert!(all_serve(&new).await);

    server.folder.write("key.pem", &third.key());
    server.signal(rustix::process::Signal::HUP);
    within(async || all_serve(&third).await).await;

    for client in &mut clients {
        assert!(client.is_alive().await);
    }
    for session in &mut sessions {
        assert!(session.ask("{\"id\":2,\"rpc\":{\"method\":\"none\"}}\n").await.contains("\"id\":2"));
    }
}
