//! A shard's socket over TLS: readiness must tell the truth although bytes wait inside TLS.

use std::{
    future::poll_fn,
    io::{self, IoSlice},
    time::Duration,
};

use gyre_transport::socket::Socket;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::timeout,
};
use tokio_rustls::{TlsAcceptor, client::TlsStream};

use crate::certificate::{Certificate, connect_tls};

/// A connection with a client that sends `early` right behind its handshake.
async fn connected(early: &[u8]) -> (Socket, TlsStream<TcpStream>) {
    let certificate = Certificate::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let tcp = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (accepted, _) = listener.accept().await.unwrap();
    let client = async {
        let mut stream = connect_tls(tcp, certificate.client(&[])).await.unwrap();
        stream.write_all(early).await.unwrap();
        stream
    };
    let accept = TlsAcceptor::from(certificate.tcp_config()).accept(accepted);
    let (server, client) = tokio::join!(accept, client);
    let mut server = server.unwrap();
    if !early.is_empty() {
        // Reads one byte while TLS decrypts all of them, as HTTP may.
        server.read_exact(&mut [0]).await.unwrap();
    }
    let (tcp, connection) = server.into_inner();
    (Socket::tls(tcp, connection), client)
}

/// Reads once the socket says it is ready.
async fn read(socket: &Socket, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        timeout(Duration::from_secs(10), poll_fn(|cx| socket.poll_read_ready(cx))).await.unwrap()?;
        match socket.try_read(buffer) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            result => return result,
        }
    }
}

/// A record larger than the buffer is read to its end by readiness alone: nothing more comes from TCP.
#[tokio::test]
async fn a_record_is_read_in_small_pieces() {
    let (socket, mut client) = connected(b"").await;
    let sent: Vec<u8> = (0..10_000).map(|i| (i % 251) as u8).collect();
    client.write_all(&sent).await.unwrap();
    let (mut received, mut buffer) = (Vec::new(), [0; 100]);
    while received.len() < sent.len() {
        let read = read(&socket, &mut buffer).await.unwrap();
        received.extend_from_slice(&buffer[..read]);
    }
    assert_eq!(received, sent);
}

/// Bytes decrypted before the socket left HTTP are readable.
#[tokio::test]
async fn early_bytes_are_readable() {
    let (socket, _client) = connected(b"?early").await;
    let mut buffer = [0; 100];
    let read = read(&socket, &mut buffer).await.unwrap();
    assert_eq!(&buffer[..read], b"early");
}

/// A peer that does not read blocks the socket with at most a record held back; once it reads, waiting for readiness
/// alone sends the rest, and every byte counted as written arrives.
#[tokio::test]
async fn a_blocked_peer_gets_what_was_accepted() {
    let (socket, mut client) = connected(b"").await;
    let chunk: Vec<u8> = (0..100_000).map(|i| (i % 251) as u8).collect();
    let mut written = Vec::new();
    loop {
        match socket.try_write_vectored(&[IoSlice::new(&chunk[..7]), IoSlice::new(&chunk[7..])]) {
            Ok(accepted) => {
                assert!((1..=16 * 1024).contains(&accepted), "{accepted}");
                written.extend_from_slice(&chunk[..accepted]);
            }
            Err(error) => {
                assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
                break;
            }
        }
    }
    assert!(socket.has_unsent());
    let mut received = vec![0; written.len()];
    let (flushed, read) = tokio::join!(
        timeout(Duration::from_secs(10), poll_fn(|cx| socket.poll_write_ready(cx))),
        timeout(Duration::from_secs(10), client.read_exact(&mut received)),
    );
    flushed.unwrap().unwrap();
    read.unwrap().unwrap();
    assert!(!socket.has_unsent());
    assert!(received == written);
}

/// The end is told both ways: `close_notify` to the client, 0 to the server, also when it came together with data.
#[tokio::test]
async fn both_ends_say_goodbye() {
    let (socket, mut client) = connected(b"").await;
    client.write_all(b"last").await.unwrap();
    client.shutdown().await.unwrap();
    let mut buffer = [0; 100];
    assert_eq!(read(&socket, &mut buffer).await.unwrap(), 4);
    assert_eq!(read(&socket, &mut buffer).await.unwrap(), 0);
    socket.shutdown();
    assert_eq!(client.read(&mut buffer).await.unwrap(), 0, "an end without close_notify would be an error");
}

/// Bytes that are no TLS end the connection with an error, not with data.
#[tokio::test]
async fn garbage_is_an_error() {
    let (socket, mut client) = connected(b"").await;
    client.get_mut().0.write_all(b"this is not a record").await.unwrap();
    let error = read(&socket, &mut [0; 100]).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidData);
}
