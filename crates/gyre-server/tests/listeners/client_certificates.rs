//! Clients that have to show a certificate.

use serde_json::json;

use super::*;

/// An authority of client certificates.
struct Authority {
    params: rcgen::CertificateParams,
    key: rcgen::KeyPair,
    certificate: rcgen::Certificate,
}

impl Authority {
    fn new() -> Self {
        let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        Self { params, key, certificate }
    }

    /// A certificate of its own and the key.
    fn issue(&self) -> (String, String) {
        let key = rcgen::KeyPair::generate().unwrap();
        let issuer = rcgen::Issuer::from_params(&self.params, &self.key);
        let leaf = rcgen::CertificateParams::new(["client".to_owned()]).unwrap();
        (leaf.signed_by(&key, &issuer).unwrap().pem(), key.serialize_pem())
    }
}

/// With `client_ca_pem` only clients with a certificate of that authority get in, at the ports of HTTP, HTTP/3 and both
/// kinds of gRPC; another authority in the file counts without a restart, and a client that was let in stays. Method: one
/// exchange with each, because a client of TLS 1.3 learns of its refusal behind the handshake.
#[tokio::test]
async fn client_certificates_are_demanded_everywhere() {
    let (certificate, first, second) = (Certificate::new(), Authority::new(), Authority::new());
    let folder = Folder::new("client-certificates");
    let authorities = folder.write("clients.pem", &first.certificate.pem());
    let [port, internal, uni_grpc, grpc_api] = free_ports();
    let mut tls_options =
        json!({"enabled": true, "cert_pem": certificate.pem(), "key_pem": certificate.key()});
    tls_options["client_ca_pem"] = authorities.into();
    let config = json!({
        "http_server": {
            "address": "127.0.0.1", "port": port, "internal_port": internal.to_string(),
            "tls": tls_options, "http3": {"enabled": true},
        },
        "health": {"enabled": true},
        "init": {"enabled": true},
        "uni_grpc": {"enabled": true, "address": "127.0.0.1", "port": uni_grpc, "tls": tls_options},
        "grpc_api": {"enabled": true, "address": "127.0.0.1", "port": grpc_api, "tls": tls_options},
        "client": {"allow_anonymous_connect_without_token": true},
    });
    let server = Server::start(folder, &config, port).await;
    let as_client = |identity: Option<&(String, String)>, alpn: &[&str]| {
        let identity = identity.map(|(chain, key)| (chain.as_str(), key.as_str()));
        client(&certificate.pem(), identity, alpn)
    };
    // Which of the five doors are open.
    let doors = async |identity: Option<&(String, String)>| {
        let mut open = Vec::new();
        for (port, path) in [(port, "/connection/init"), (internal, "/health")] {
            let answer = match tls(port, as_client(identity, &["http/1.1"]), "localhost").await {
                Ok(stream) => get(stream, path, "").await,
                Err(_) => String::new(),
            };
            open.push(answer.starts_with("HTTP/1.1 200"));
        }
        for port in [uni_grpc, grpc_api] {
            open.push(match tls(port, as_client(identity, &["h2"]), "localhost").await {
                // The first frame of a server of HTTP/2 are its settings.
                Ok(mut stream) => {
                    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.is_ok()
                        && matches!(timeout(LIMIT, stream.read(&mut [0; 64])).await.unwrap(), Ok(1..))
                }
                Err(_) => false,
            });
        }
        open.push(match quic(port, as_client(identity, &["h3"]), "localhost").await {
            // The control stream of HTTP/3.
            Ok((_endpoint, connection)) => {
                timeout(LIMIT, connection.accept_uni()).await.unwrap().is_ok()
                    && is_answered(&connection).await
            }
            Err(_) => false,
        });
        open
    };
    let (of_first, of_second) = (first.issue(), second.issue());
    assert_eq!(doors(Some(&of_first)).await, [true; 5]);
    assert_eq!(doors(None).await, [false; 5]);
    assert_eq!(doors(Some(&of_second)).await, [false; 5]);
    let stream = tls(port, as_client(Some(&of_first), &[]), "localhost").await.unwrap();
    let mut connected = Client::connect(stream).await;

    server.folder.write("clients.pem", &second.certificate.pem());
    within(async || doors(Some(&of_second)).await == [true; 5]).await;
    assert_eq!(doors(Some(&of_first)).await, [false; 5]);
    assert!(connected.is_alive().await);
}

/// True if a request over HTTP/3 gets an answer.
async fn is_answered(connection: &quinn::Connection) -> bool {
    let Ok((mut send, mut receive)) = connection.open_bi().await else { return false };
    // HEADERS: GET and https of the static table, authority and path as literals with names of it.
    let path = b"/connection/init";
    let mut head = vec![0, 0, 0xc0 | 17, 0xc0 | 23, 0x50, 9];
    head.extend_from_slice(b"localhost");
    head.extend_from_slice(&[0x51, path.len() as u8]);
    head.extend_from_slice(path);
    let frame = [&[0x01, head.len() as u8], &*head].concat();
    if send.write_all(&frame).await.is_err() || send.finish().is_err() {
        return false;
    }
    timeout(LIMIT, receive.read_to_end(4096)).await.unwrap().is_ok_and(|answer| !answer.is_empty())
}
