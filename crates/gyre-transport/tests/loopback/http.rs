//! HTTP/1.1 and HTTP/2 on one service.

use std::rc::Rc;

use ::http::{StatusCode, Version, header};
use bytes::Bytes;
use gyre_transport::http::{ConnectionEvent, Front};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
};

use crate::{
    certificate::{Certificate, connect_tls},
    server::{Server, exchange, on_shard},
};

/// Sends one request over HTTP/2 and reads the answer.
pub(crate) async fn get_h2(
    io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    path: &str,
) -> hyper::Result<::http::Response<String>> {
    let (mut client, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(io)).await?;
    let driver = tokio::task::spawn_local(connection);
    let request =
        ::http::Request::get(format!("https://localhost{path}")).body(Full::<Bytes>::default()).unwrap();
    let (head, body) = client.send_request(request).await?.into_parts();
    let body = body.collect().await?.to_bytes();
    driver.abort();
    Ok(::http::Response::from_parts(head, String::from_utf8_lossy(&body).into_owned()))
}

/// Two requests on one HTTP/1.1 connection are answered in order, and the connection is observed from open to close.
#[tokio::test]
async fn http1_keeps_the_connection() {
    on_shard(async {
        let server = Server::start(Front::default());
        let mut stream = server.connect().await;
        let request =
            "GET /1 HTTP/1.1\r\nhost: a\r\n\r\nGET /2 HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
        let answer = exchange(&mut stream, request).await;
        assert_eq!(answer.matches("HTTP/1.1 200 OK").count(), 2, "{answer}");
        assert_eq!(answer.matches("HTTP/1.1 tls=false").count(), 2, "{answer}");
        assert!(!answer.contains("alt-svc"), "{answer}");
        server.paths.observed(ConnectionEvent::Closed).await;
        assert_eq!(server.paths.count(ConnectionEvent::Opened), 1);
    })
    .await;
}

/// HTTP/2 is chosen by ALPN, and the same service answers; every answer announces HTTP/3 if that is on.
#[tokio::test]
async fn http2_over_tls_announces_http3() {
    on_shard(async {
        let certificate = Certificate::new();
        let server = Server::start(Front {
            tls: Some(certificate.tls()),
            alt_svc_port: Some(8443),
            ..Front::default()
        });
        let tls = connect_tls(server.connect().await, certificate.client(&["h2"])).await.unwrap();
        let response = get_h2(tls, "/").await.unwrap();
        assert_eq!((response.status(), response.version()), (StatusCode::OK, Version::HTTP_2));
        assert_eq!(response.headers()[header::ALT_SVC], "h3=\":8443\"; ma=86400");
        assert_eq!(response.body(), "HTTP/2.0 tls=true");
    })
    .await;
}

/// Without ALPN, or with HTTP/1.1 preferred, TLS carries HTTP/1.1.
#[tokio::test]
async fn http1_over_tls() {
    on_shard(async {
        let certificate = Certificate::new();
        let server = Server::start(Front { tls: Some(certificate.tls()), ..Front::default() });
        for alpn in [&[][..], &["http/1.1"]] {
            let mut tls = connect_tls(server.connect().await, certificate.client(alpn)).await.unwrap();
            let answer = exchange(&mut tls, "GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await;
            assert!(answer.ends_with("HTTP/1.1 tls=true"), "{answer}");
        }
    })
    .await;
}

/// In development mode one port speaks plain text and TLS by the first byte; otherwise a port with TLS answers no plain
/// request.
#[tokio::test]
async fn the_first_byte_tells_tls_from_plain_text() {
    on_shard(async {
        let certificate = Certificate::new();
        let request = "GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
        let both = Front { tls: Some(certificate.tls()), accepts_both: true, ..Front::default() };
        let server = Server::start(both.clone());
        assert!(exchange(&mut server.connect().await, request).await.ends_with("tls=false"));
        let mut tls = connect_tls(server.connect().await, certificate.client(&[])).await.unwrap();
        assert!(exchange(&mut tls, request).await.ends_with("tls=true"));

        let server = Server::start(Front { accepts_both: false, ..both });
        let answer = exchange(&mut server.connect().await, request).await;
        assert!(!answer.contains("HTTP/1.1"), "{answer}");
    })
    .await;
}

/// Cleartext HTTP/2 is spoken by prior knowledge beside HTTP/1.1 where it is accepted, also if its preface comes in
/// pieces; elsewhere it is refused.
#[tokio::test]
async fn cleartext_http2_only_where_accepted() {
    on_shard(async {
        let server = Server::start(Front { accepts_h2c: true, ..Front::default() });
        let response = get_h2(server.connect().await, "/").await.unwrap();
        assert_eq!(response.body(), "HTTP/2.0 tls=false");
        let http1 = exchange(&mut server.connect().await, "GET / HTTP/1.0\r\n\r\n").await;
        assert!(http1.ends_with("HTTP/1.0 tls=false"), "{http1}");
        assert_eq!(first_frame_after_split_preface(&server).await[3], 4, "the server's SETTINGS");

        let server = Server::start(Front::default());
        assert!(get_h2(server.connect().await, "/").await.is_err());
    })
    .await;
}

/// The header of the server's first frame, for a preface sent in two parts with the server's turn between them.
async fn first_frame_after_split_preface(server: &Server) -> [u8; 9] {
    let mut stream = server.connect().await;
    stream.set_nodelay(true).unwrap();
    stream.write_all(b"P").await.unwrap();
    server.paths.observed(ConnectionEvent::Opened).await;
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
    stream.write_all(b"RI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
    let mut frame = [0; 9];
    stream.read_exact(&mut frame).await.unwrap();
    frame
}

/// Sends a request with this header and body to `/body`, and returns the status line.
async fn post(server: &Server, header: &str, body: &str) -> String {
    let mut stream = server.connect().await;
    let request = format!("POST /body HTTP/1.1\r\nhost: a\r\nconnection: close\r\n{header}\r\n\r\n{body}");
    let answer = exchange(&mut stream, &request).await;
    answer.lines().next().unwrap_or_default().to_owned()
}

/// A body of exactly the limit is read; a longer one is refused, by its declared length before it comes, else by its
/// bytes.
#[tokio::test]
async fn bodies_have_a_limit() {
    on_shard(async {
        let server = Server::start(Front::default());
        assert_eq!(post(&server, "content-length: 10", "0123456789").await, "HTTP/1.1 200 OK");
        let too_large = "HTTP/1.1 413 Payload Too Large";
        assert_eq!(post(&server, "content-length: 99999999999", "").await, too_large);
        let chunked = "transfer-encoding: chunked";
        assert_eq!(post(&server, chunked, "5\r\n01234\r\n5\r\n56789\r\n0\r\n\r\n").await, "HTTP/1.1 200 OK");
        assert_eq!(post(&server, chunked, "5\r\n01234\r\n6\r\n567890\r\n").await, too_large);
    })
    .await;
}

/// A header above the limit is refused without being read on.
#[tokio::test]
async fn headers_have_a_limit() {
    on_shard(async {
        let server = Server::start(Front::default());
        let start = "GET / HTTP/1.1\r\nhost: a\r\nx: ";
        let request = format!("{start}{}", "x".repeat(64 * 1024 - start.len()));
        let answer = exchange(&mut server.connect().await, &request).await;
        assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
    })
    .await;
}

/// A service that panics ends its own connection and nothing else.
#[tokio::test]
async fn a_panic_ends_one_connection() {
    on_shard(async {
        let server = Server::start(Front { accepts_h2c: true, ..Front::default() });
        let answer = exchange(&mut server.connect().await, "GET /panic HTTP/1.1\r\nhost: a\r\n\r\n").await;
        assert_eq!(answer, "");
        assert!(get_h2(server.connect().await, "/panic").await.is_err());
        assert_eq!(get_h2(server.connect().await, "/").await.unwrap().status(), StatusCode::OK);
        assert!(!server.serving.is_finished());
    })
    .await;
}

/// At shutdown the port is closed at once, the request being answered still gets its answer, and the listener ends.
#[tokio::test]
async fn shutdown_lets_requests_end() {
    on_shard(async {
        let server = Server::start(Front::default());
        let mut stream = server.connect().await;
        let mut idle = server.connect().await;
        stream.write_all(b"GET /wait HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
        server.paths.waiting.notified().await;
        server.shutdown.send(true).unwrap();
        assert_eq!(idle.read(&mut [0]).await.unwrap_or(0), 0, "a connection without a request is closed");
        assert!(TcpStream::connect(server.address).await.is_err());

        let paths = Rc::clone(&server.paths);
        paths.release.notify_one();
        let answer = exchange(&mut stream, "").await;
        assert!(answer.ends_with("waited"), "{answer}");
        server.serving.await.unwrap();
        assert_eq!(paths.count(ConnectionEvent::Opened), paths.count(ConnectionEvent::Closed));
    })
    .await;
}
