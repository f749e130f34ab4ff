//! Certificates from an authority: Pebble, the one of Let's Encrypt for tests, where it is installed.

use serde_json::{Value, json};

use super::*;

const NAME: &str = "a.example.com";
const OTHER_NAME: &str = "b.example.com";

/// Pebble and a DNS in which every name is this machine.
struct Authority {
    child: Child,
    folder: Folder,
    certificate: Certificate,
    port: u16,
    management: u16,
}

impl Drop for Authority {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Where it looks for proofs, and what it gives.
struct Ways {
    tls: u16,
    http: u16,
    validity_seconds: u64,
    wants_account: bool,
}

impl Authority {
    /// Starts it; `None`, said loudly, where it is not installed.
    async fn start(ways: &Ways) -> Option<Self> {
        let program = installed("pebble")?;
        let folder = Folder::new("pebble");
        let certificate = Certificate::new();
        let [port, management] = free_ports();
        let mut config = json!({
            "listenAddress": format!("127.0.0.1:{port}"),
            "managementListenAddress": format!("127.0.0.1:{management}"),
            "certificate": folder.write("cert.pem", &certificate.pem()),
            "privateKey": folder.write("key.pem", &certificate.key()),
            "httpPort": ways.http,
            "tlsPort": ways.tls,
            "profiles": {"default": {"description": "all", "validityPeriod": ways.validity_seconds}},
        });
        if ways.wants_account {
            config["externalAccountBindingRequired"] = true.into();
            config["externalAccountMACKeys"] =
                json!({"kid": "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W"});
        }
        let config = folder.write("pebble.json", &json!({"pebble": config}).to_string());
        let log = std::fs::File::create(folder.0.join("log")).unwrap();
        let child = Command::new(program)
            .args(["-config", &config, "-dnsserver", &format!("127.0.0.1:{}", names().await)])
            .env("PEBBLE_VA_NOSLEEP", "1")
            // Every answer in twenty would be a refusal, to try clients: three of them in a row are too many for ours.
            .env("PEBBLE_WFE_NONCEREJECT", "0")
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        within(async || TcpStream::connect(("127.0.0.1", management)).await.is_ok()).await;
        within(async || TcpStream::connect(("127.0.0.1", port)).await.is_ok()).await;
        Some(Self { child, folder, certificate, port, management })
    }

    /// The certificate all of its certificates come from, of this start.
    async fn root(&self) -> String {
        let stream = tls(self.management, self.certificate.client(&[]), "localhost").await.unwrap();
        let answer = get(stream, "/roots/0", "").await;
        answer[answer.find("-----BEGIN").unwrap()..].to_owned()
    }

    /// What a server needs to know of it.
    fn autocert(&self) -> Value {
        json!({
            "enabled": true,
            "email": "someone@example.com",
            "directory_url": format!("https://localhost:{}/dir", self.port),
            "directory_ca_pem": self.folder.0.join("cert.pem"),
        })
    }
}

fn installed(name: &str) -> Option<PathBuf> {
    let folders = std::env::var_os("PATH").unwrap_or_default();
    let home = std::env::var_os("HOME").map(|home| PathBuf::from(home).join("go/bin"));
    let found = std::env::split_paths(&folders).chain(home).map(|folder| folder.join(name));
    let found = found.into_iter().find(|program| program.is_file());
    if found.is_none() {
        eprintln!(
            "SKIPPED: {name} is not installed (go install github.com/letsencrypt/pebble/v2/cmd/pebble@latest)"
        );
    }
    found
}

/// Answers every question for an IPv4 address with this machine, and others with nothing.
///
/// Spec: RFC 1035 section 4
async fn names() -> u16 {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(answer_names(stream));
        }
    });
    port
}

async fn answer_names(mut stream: TcpStream) -> std::io::Result<()> {
    loop {
        let mut query = vec![0; stream.read_u16().await?.into()];
        stream.read_exact(&mut query).await?;
        let name = query[12..].iter().position(|byte| *byte == 0).unwrap();
        let question = &query[12..12 + name + 5];
        let is_ipv4 = question[name + 1..name + 3] == [0, 1];
        let head = [0x81, 0x80, 0, 1, 0, u8::from(is_ipv4), 0, 0, 0, 0];
        let mut answer = [&query[..2], &head, question].concat();
        if is_ipv4 {
            answer.extend_from_slice(&[0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 127, 0, 0, 1]);
        }
        stream.write_u16(answer.len() as u16).await?;
        stream.write_all(&answer).await?;
    }
}

fn config(port: u16, autocert: Value) -> Value {
    json!({
        "http_server": {
            "address": "127.0.0.1", "port": port, "http3": {"enabled": true}, "tls_autocert": autocert,
        },
        "webtransport": {"enabled": true},
        "client": {"allow_anonymous_connect_without_token": true},
    })
}

/// A certificate is obtained by TLS-ALPN-01 on the server's own port and shown over TCP and QUIC; it is renewed in time
/// under an open connection; and after a restart it is there at once, without the authority. Method: certificates that
/// are valid for nine seconds, then for a day.
#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_is_obtained_renewed_and_kept() {
    let [port, unused] = free_ports();
    let ways = Ways { tls: port, http: unused, validity_seconds: 9, wants_account: false };
    let Some(authority) = Authority::start(&ways).await else { return };
    let root = authority.root().await;
    let folder = Folder::new("autocert");
    let mut autocert = authority.autocert();
    autocert["host_whitelist"] = json!([NAME]);
    autocert["cache_dir"] = folder.0.join("cache").to_str().unwrap().into();
    let server = Server::start(folder, &config(port, autocert.clone()), port).await;
    let shown = async || {
        let stream = tls(port, client(&root, None, &["http/1.1"]), NAME).await.ok()?;
        Some(stream.get_ref().1.peer_certificates()?.first()?.to_vec())
    };
    within(async || shown().await.is_some()).await;
    quic(port, client(&root, None, &["h3"]), NAME).await.unwrap();
    assert!(tls(port, client(&root, None, &[]), OTHER_NAME).await.is_err(), "it is not a configured name");

    let mut connected = Client::connect(tls(port, client(&root, None, &[]), NAME).await.unwrap()).await;
    let first = shown().await.unwrap();
    within(async || shown().await.is_some_and(|now| now != first)).await;
    assert!(connected.is_alive().await);
    drop((server, authority));

    let ways = Ways { validity_seconds: 86_400, ..ways };
    let authority = Authority::start(&ways).await.unwrap();
    let root = authority.root().await;
    let folder = Folder::new("autocert-again");
    let cache = Folder::new("autocert-cache");
    let mut autocert = authority.autocert();
    autocert["host_whitelist"] = json!([NAME]);
    autocert["cache_dir"] = cache.0.to_str().unwrap().into();
    let server = Server::start(folder, &config(port, autocert.clone()), port).await;
    within(async || tls(port, client(&root, None, &[]), NAME).await.is_ok()).await;
    drop((server, authority));
    autocert.as_object_mut().unwrap().remove("directory_ca_pem");
    let _server = Server::start(Folder::new("autocert-third"), &config(port, autocert), port).await;
    tls(port, client(&root, None, &[]), NAME).await.unwrap();
    quic(port, client(&root, None, &["h3"]), NAME).await.unwrap();
}

/// Where the authority cannot come by TLS, HTTP-01 proves the name, with an external account; other requests at that port
/// are sent to HTTPS.
#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_is_obtained_over_http() {
    let [port, http, unused] = free_ports();
    let ways = Ways { tls: unused, http, validity_seconds: 86_400, wants_account: true };
    let Some(authority) = Authority::start(&ways).await else { return };
    let root = authority.root().await;
    let mut autocert = authority.autocert();
    autocert["host_whitelist"] = json!([NAME]);
    autocert["server_name"] = NAME.into();
    autocert["http"] = true.into();
    autocert["http_addr"] = format!("127.0.0.1:{http}").into();
    autocert["eab_key_id"] = "kid".into();
    autocert["eab_hmac_key"] = "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W".into();
    let _server = Server::start(Folder::new("autocert-http"), &config(port, autocert), port).await;
    within(async || tls(port, client(&root, None, &[]), NAME).await.is_ok()).await;
    let mut without_name = client(&root, None, &[]);
    without_name.enable_sni = false;
    tls(port, without_name, NAME).await.unwrap();
    let redirect = get(TcpStream::connect(("127.0.0.1", http)).await.unwrap(), "/a?b", "").await;
    assert!(
        redirect.starts_with("HTTP/1.1 302") && redirect.contains("location: https://localhost/a?b"),
        "{redirect}"
    );
}

/// Without configured names a certificate is obtained for the name a client asks for, though other clients have to show
/// certificates; names no authority would know are not asked for.
#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_is_obtained_on_demand() {
    let [port, unused] = free_ports();
    let ways = Ways { tls: port, http: unused, validity_seconds: 86_400, wants_account: false };
    let Some(authority) = Authority::start(&ways).await else { return };
    let root = authority.root().await;
    let mut config = config(port, authority.autocert());
    let clients = Certificate::new();
    config["http_server"]["tls"] = json!({"enabled": true, "client_ca_pem": clients.pem()});
    let server = Server::start(Folder::new("autocert-demand"), &config, port).await;
    assert!(tls(port, client(&root, None, &[]), "localhost").await.is_err());
    within(async || tls(port, client(&root, None, &[]), OTHER_NAME).await.is_ok()).await;
    assert!(!server.has_logged("name=\"localhost\""));
    let refused = tls(port, client(&root, None, &["http/1.1"]), OTHER_NAME).await.unwrap();
    assert_eq!(get(refused, "/", "").await, "", "a client without certificate");
}

/// A proof that fails is logged with what to do about it, and the certificate from the files is shown meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn a_failure_says_what_to_do() {
    let [port, unused, also_unused] = free_ports();
    let ways = Ways { tls: unused, http: also_unused, validity_seconds: 86_400, wants_account: false };
    let Some(authority) = Authority::start(&ways).await else { return };
    let mut autocert = authority.autocert();
    autocert["host_whitelist"] = json!([NAME]);
    let mut config = config(port, autocert);
    let own = Certificate::new();
    config["http_server"]["tls"] = json!({"enabled": true, "cert_pem": own.pem(), "key_pem": own.key()});
    let server = Server::start(Folder::new("autocert-failure"), &config, port).await;
    tls(port, own.client(&[]), "localhost").await.unwrap();
    within(async || server.has_logged("let the authority reach this server, and no other")).await;
}
