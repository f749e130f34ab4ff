//! What a peer that does nothing may hold, and for how long. Time is paused: it moves when everything waits.

use std::time::Duration;

use gyre_transport::http::{ConnectionEvent, Front};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::Instant,
};

use crate::{
    certificate::{Certificate, connect_tls},
    server::{Server, exchange, on_shard_without_limit},
};

/// Waits until the server closes the only connection, and returns the seconds that took.
async fn seconds_until_closed(server: &Server) -> u64 {
    let start = Instant::now();
    server.paths.observed(ConnectionEvent::Closed).await;
    start.elapsed().as_secs_f64().round() as u64
}

/// A connection that sends nothing, half a header, or nothing after an answer is closed after 10 seconds.
#[tokio::test(start_paused = true)]
async fn a_request_has_a_deadline() {
    on_shard_without_limit(async {
        for sent in ["", "GET / HTTP/1.1\r\nhost", "GET / HTTP/1.1\r\nhost: a\r\n\r\n"] {
            let server = Server::start(Front::default());
            let mut stream = server.connect().await;
            stream.write_all(sent.as_bytes()).await.unwrap();
            assert_eq!(seconds_until_closed(&server).await, 10, "{sent:?}");
        }
    })
    .await;
}

/// A TLS handshake, and the wait for the first byte in development mode, have the same deadline.
#[tokio::test(start_paused = true)]
async fn a_handshake_has_a_deadline() {
    on_shard_without_limit(async {
        let tls = Some(Certificate::new().tls());
        for accepts_both in [false, true] {
            let server = Server::start(Front { tls: tls.clone(), accepts_both, ..Front::default() });
            let _stream = server.connect().await;
            assert_eq!(seconds_until_closed(&server).await, 10);
        }
    })
    .await;
}

/// An HTTP/2 connection that sends no preface is dropped: 10 seconds for a request, and 10 to answer the goodbye.
#[tokio::test(start_paused = true)]
async fn http2_without_a_preface_is_dropped() {
    on_shard_without_limit(async {
        let certificate = Certificate::new();
        let server = Server::start(Front { tls: Some(certificate.tls()), ..Front::default() });
        let _tls = connect_tls(server.connect().await, certificate.client(&["h2"])).await.unwrap();
        assert_eq!(seconds_until_closed(&server).await, 20);
    })
    .await;
}

/// A peer that stops reading its answer is dropped after 10 seconds.
#[tokio::test(start_paused = true)]
async fn an_answer_nobody_reads_is_given_up() {
    on_shard_without_limit(async {
        let server = Server::start(Front::default());
        let mut stream = server.connect().await;
        stream.write_all(b"GET /endless HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
        assert_eq!(seconds_until_closed(&server).await, 10);
    })
    .await;
}

/// A body that does not come is given up after 30 seconds, with an answer.
#[tokio::test(start_paused = true)]
async fn a_body_has_a_deadline() {
    on_shard_without_limit(async {
        let server = Server::start(Front::default());
        let start = Instant::now();
        let request = "POST /body HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\n12";
        let answer = exchange(&mut server.connect().await, request).await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
        assert_eq!(start.elapsed().as_secs(), 30);
    })
    .await;
}

/// A request that never ends delays the shutdown by 10 seconds and no more.
#[tokio::test(start_paused = true)]
async fn shutdown_has_a_deadline() {
    on_shard_without_limit(async {
        let server = Server::start(Front::default());
        let mut stream = server.connect().await;
        stream.write_all(b"GET /wait HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
        server.paths.waiting.notified().await;
        let start = Instant::now();
        server.shutdown.send(true).unwrap();
        server.serving.await.unwrap();
        assert_eq!(start.elapsed(), Duration::from_secs(10));
        assert_eq!(stream.read(&mut [0]).await.unwrap_or(0), 0);
    })
    .await;
}
