//! Several addresses, proxies in front of the server, and what browsers are told.

use serde_json::json;

use super::*;

/// A backend of the connect hook, which notes what the server says of the client.
pub(super) async fn backend() -> (u16, tokio::sync::mpsc::UnboundedReceiver<String>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (seen, requests) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = vec![0; 4096];
            let read = stream.read(&mut request).await.unwrap_or(0);
            request.truncate(read);
            seen.send(String::from_utf8_lossy(&request).to_lowercase()).unwrap();
            let answer = "HTTP/1.1 200 OK\r\ncontent-length: 24\r\nconnection: close\r\n\r\n{\"result\":{\"user\":\"42\"}}";
            drop(stream.write_all(answer.as_bytes()).await);
        }
    });
    (port, requests)
}

fn config(port: u16, hook: u16) -> Value {
    json!({
        "http_server": {"address": "127.0.0.1", "port": port},
        "health": {"enabled": true},
        "client": {"proxy": {"connect": {
            "enabled": true, "endpoint": format!("http://127.0.0.1:{hook}/"),
            "http_headers": ["X-Real-IP", "X-Forwarded-For"],
        }}},
    })
}

/// A connected client whose connection begins with that, and whose request has those headers.
async fn connect(
    port: u16,
    begin: &[u8],
    headers: &[(&'static str, &'static str)],
) -> Option<Client<TcpStream>> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    stream.write_all(begin).await.unwrap();
    let mut request = tokio_tungstenite::tungstenite::client::IntoClientRequest::into_client_request(
        "ws://localhost/connection/websocket",
    )
    .unwrap();
    for (name, value) in headers {
        request.headers_mut().insert(*name, value.parse().unwrap());
    }
    let (socket, _) = timeout(LIMIT, client_async(request, stream)).await.unwrap().ok()?;
    let mut client = Client(socket);
    assert!(client.ask(r#"{"id":1,"connect":{}}"#).await.contains("\"client\""));
    Some(client)
}

/// The address of the client, as the hook sees it, is what headers say by default, whoever sent them; with trusted
/// forwarders only what those say.
#[tokio::test]
async fn only_trusted_forwarders_are_believed() {
    for (networks, expected) in [
        (json!([]), "x-forwarded-for: 192.0.2.1"),
        (json!(["127.0.0.0/8"]), "x-real-ip: 192.0.2.1"),
        (json!(["10.0.0.0/8"]), "x-real-ip: 127.0.0.1"),
    ] {
        let (hook, mut seen) = backend().await;
        let [port] = free_ports();
        let mut config = config(port, hook);
        config["http_server"]["trusted_forwarders"] = networks.clone();
        let _server = Server::start(Folder::new("forwarders"), &config, port).await;
        connect(port, b"", &[("x-forwarded-for", "192.0.2.1")]).await.unwrap();
        let request = seen.recv().await.unwrap();
        assert!(request.contains(expected), "{networks}: {request}");
    }
}

/// Where the PROXY protocol is on, the client is who its header names, in both versions, and a connection without one is
/// closed; connections from other networks need none.
#[tokio::test]
async fn the_proxy_protocol_names_the_client() {
    let (hook, mut seen) = backend().await;
    let [port, direct] = free_ports();
    let mut server_config = config(port, hook);
    server_config["http_server"]["proxy_protocol"] = json!({"enabled": true});
    server_config["http_server"]["trusted_forwarders"] = json!(["10.0.0.0/8"]);
    let _server = Server::start(Folder::new("proxy-protocol"), &server_config, port).await;
    let second = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x07\x7f\0\0\x01\x12\x34\x01\xbb";
    for (begin, expected) in [
        (&b"PROXY TCP4 192.0.2.6 127.0.0.1 4660 443\r\n"[..], "x-real-ip: 192.0.2.6"),
        (second, "x-real-ip: 192.0.2.7"),
    ] {
        connect(port, begin, &[("x-real-ip", "198.51.100.1")]).await.unwrap();
        let request = seen.recv().await.unwrap();
        assert!(request.contains(expected), "{request}");
    }
    assert!(connect(port, b"", &[]).await.is_none());

    let mut server_config = config(direct, hook);
    server_config["http_server"]["proxy_protocol"] = json!({"enabled": true, "networks": ["10.0.0.0/8"]});
    let _server = Server::start(Folder::new("proxy-networks"), &server_config, direct).await;
    connect(direct, b"", &[]).await.unwrap();
}

/// Every listed address is served like the first, over TLS and HTTP/3 as well, and announces its own port; answers over
/// TLS have the header that keeps browsers there; operation endpoints are at the internal addresses only.
#[tokio::test]
async fn all_addresses_are_served() {
    let certificate = Certificate::new();
    let [first, second, internal] = free_ports();
    let config = json!({
        "http_server": {
            "address": "127.0.0.1", "port": first, "http3": {"enabled": true}, "tls_external": true,
            "addresses": [format!("127.0.0.1:{second}")],
            "internal_addresses": [format!("127.0.0.1:{internal}")],
            "tls": {"enabled": true, "cert_pem": certificate.pem(), "key_pem": certificate.key()},
            "hsts": {"enabled": true, "include_subdomains": true, "preload": true},
        },
        "init": {"enabled": true},
        "health": {"enabled": true},
    });
    let _server = Server::start(Folder::new("addresses"), &config, first).await;
    for port in [first, second] {
        let stream = tls(port, certificate.client(&["http/1.1"]), "localhost").await.unwrap();
        let answer = get(stream, "/connection/init", "").await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        assert!(answer.contains(&format!("alt-svc: h3=\":{port}\"")), "{answer}");
        let kept = "strict-transport-security: max-age=31536000; includeSubDomains; preload\r\n";
        assert!(answer.contains(kept), "{answer}");
        let stream = tls(port, certificate.client(&["http/1.1"]), "localhost").await.unwrap();
        assert!(get(stream, "/health", "").await.starts_with("HTTP/1.1 404"));
        quic(port, certificate.client(&["h3"]), "localhost").await.unwrap();
    }
    let plain = get(TcpStream::connect(("127.0.0.1", internal)).await.unwrap(), "/health", "").await;
    assert!(plain.starts_with("HTTP/1.1 200") && !plain.contains("strict-transport-security"), "{plain}");
}

/// What is not written right is refused with its key, all of it at once.
#[tokio::test]
async fn mistakes_are_named() {
    let folder = Folder::new("mistakes");
    let config = json!({"http_server": {
        "addresses": ["nowhere"],
        "internal_addresses": [":0"],
        "proxy_protocol": {"enabled": true, "networks": ["10.0.0.0/40"], "timeout": "1ns"},
        "trusted_forwarders": ["proxy.example"],
        "hsts": {"enabled": true, "preload": true},
        "tls_autocert": {
            "enabled": true, "host_whitelist": ["*.example.com"], "directory_url": "http://a", "email": "nobody",
            "http": true, "http_addr": "80", "eab_key_id": "kid", "directory_ca_pem": "nothing",
        },
    }});
    let file = folder.write("config.json", &config.to_string());
    let checked =
        Command::new(env!("CARGO_BIN_EXE_gyre")).args(["checkconfig", "--config", &file]).output().unwrap();
    let text = String::from_utf8(checked.stderr).unwrap();
    assert!(!checked.status.success());
    for key in [
        "addresses",
        "internal_addresses",
        "proxy_protocol.networks",
        "trusted_forwarders",
        "hsts.preload",
        "tls_autocert.host_whitelist",
        "tls_autocert.directory_url",
        "tls_autocert.email",
        "tls_autocert.http_addr",
        "tls_autocert.eab_hmac_key",
        "tls_autocert.directory_ca_pem",
    ] {
        assert!(text.contains(&format!("http_server.{key}: ")), "{key}: {text}");
    }
}
