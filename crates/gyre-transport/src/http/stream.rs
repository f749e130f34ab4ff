//! What HTTP is spoken on: TCP or TLS, told apart by the first bytes, with a deadline for peers that stop reading.

use std::{
    future::Future,
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use rustls::server::Acceptor;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::{Sleep, sleep, timeout},
};
use tokio_rustls::{LazyConfigAcceptor, TlsAcceptor, server::TlsStream};

use super::serve::{Front, HEADER_TIMEOUT};
use crate::{
    socket::Socket,
    tls::{CHALLENGE_PROTOCOL, ServerTls},
};

/// A peer that takes nothing of an answer for this long is dropped.
///
/// Spec: configuration `http_server`, write timeout.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
/// Pause before looking again for the rest of a beginning that came in pieces.
const BEGINNING_PAUSE: Duration = Duration::from_millis(5);

/// A connection HTTP is spoken on.
#[derive(Debug)]
pub(super) struct Stream {
    kind: Kind,
    /// Runs while the peer takes nothing.
    stalled: Option<Pin<Box<Sleep>>>,
}

#[derive(Debug)]
enum Kind {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Stream {
    /// Does the TLS handshake, where TLS is spoken.
    ///
    /// # Errors
    /// If the handshake fails, or takes longer than [`HEADER_TIMEOUT`].
    pub(super) async fn accept(tcp: TcpStream, front: &Front) -> io::Result<Self> {
        match &front.tls {
            Some(tls) if !front.accepts_both || begins_with_tls(&tcp).await? => Self::tls(tcp, tls).await,
            _ => Ok(Self { kind: Kind::Plain(tcp), stalled: None }),
        }
    }

    async fn tls(tcp: TcpStream, tls: &ServerTls) -> io::Result<Self> {
        let handshake = async {
            let Some(challenges) = tls.challenges() else {
                return TlsAcceptor::from(tls.tcp()).accept(tcp).await;
            };
            let start = LazyConfigAcceptor::new(Acceptor::default(), tcp).await?;
            let is_challenge = {
                let hello = start.client_hello();
                let mut protocols = hello.alpn().into_iter().flatten();
                protocols.next() == Some(CHALLENGE_PROTOCOL) && protocols.next().is_none()
            };
            if !is_challenge {
                return start.into_stream(tls.tcp()).await;
            }
            drop(start.into_stream(challenges.clone()).await?);
            Err(io::Error::other("an authority has looked whether a name is ours"))
        };
        let tls = timeout(HEADER_TIMEOUT, handshake).await??;
        Ok(Self { kind: Kind::Tls(Box::new(tls)), stalled: None })
    }

    pub(super) fn is_tls(&self) -> bool {
        matches!(self.kind, Kind::Tls(_))
    }

    /// True if HTTP/2 is spoken: by ALPN over TLS, else (where that is accepted) by its preface.
    pub(super) async fn is_h2(&self, accepts_h2c: bool) -> io::Result<bool> {
        match &self.kind {
            Kind::Tls(tls) => Ok(tls.get_ref().1.alpn_protocol() == Some(b"h2")),
            Kind::Plain(tcp) if accepts_h2c => begins_with_h2(tcp).await,
            Kind::Plain(_) => Ok(false),
        }
    }

    /// Leaves HTTP.
    pub(super) fn into_socket(self) -> Socket {
        match self.kind {
            Kind::Plain(tcp) => Socket::plain(tcp),
            Kind::Tls(tls) => {
                let (tcp, connection) = tls.into_inner();
                Socket::tls(tcp, connection)
            }
        }
    }

    /// Lets a write wait no longer than [`WRITE_TIMEOUT`].
    fn within_timeout<T>(
        &mut self,
        cx: &mut Context<'_>,
        written: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.stalled = None;
            return written;
        }
        let deadline = self.stalled.get_or_insert_with(|| Box::pin(sleep(WRITE_TIMEOUT)));
        deadline.as_mut().poll(cx).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

/// A TLS handshake begins with the content type "handshake" (22), a request never does.
///
/// Spec: RFC 8446 section 5.1
async fn begins_with_tls(tcp: &TcpStream) -> io::Result<bool> {
    let mut first = [0];
    let read = timeout(HEADER_TIMEOUT, tcp.peek(&mut first)).await??;
    Ok(read == 1 && first[0] == 22)
}

/// The preface of HTTP/2 begins with a method that HTTP/1.1 does not have.
///
/// Spec: RFC 9113 section 3.4
async fn begins_with_h2(tcp: &TcpStream) -> io::Result<bool> {
    let peek = async {
        let mut first = [0; 3];
        loop {
            let read = tcp.peek(&mut first).await?;
            let is_undecided = (1..first.len()).contains(&read) && b"PRI".starts_with(&first[..read]);
            if !is_undecided {
                return Ok(first[..read] == *b"PRI");
            }
            // A peek of bytes already there does not wait for more.
            sleep(BEGINNING_PAUSE).await;
        }
    };
    timeout(HEADER_TIMEOUT, peek).await?
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut self.get_mut().kind {
            Kind::Plain(tcp) => Pin::new(tcp).poll_read(cx, buffer),
            Kind::Tls(tls) => Pin::new(tls).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = match &mut this.kind {
            Kind::Plain(tcp) => Pin::new(tcp).poll_write(cx, bytes),
            Kind::Tls(tls) => Pin::new(tls).poll_write(cx, bytes),
        };
        this.within_timeout(cx, written)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = match &mut this.kind {
            Kind::Plain(tcp) => Pin::new(tcp).poll_write_vectored(cx, slices),
            Kind::Tls(tls) => Pin::new(tls).poll_write_vectored(cx, slices),
        };
        this.within_timeout(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        match &self.kind {
            Kind::Plain(tcp) => tcp.is_write_vectored(),
            Kind::Tls(tls) => tls.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let flushed = match &mut this.kind {
            Kind::Plain(tcp) => Pin::new(tcp).poll_flush(cx),
            Kind::Tls(tls) => Pin::new(tls).poll_flush(cx),
        };
        this.within_timeout(cx, flushed)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let shut = match &mut this.kind {
            Kind::Plain(tcp) => Pin::new(tcp).poll_shutdown(cx),
            Kind::Tls(tls) => Pin::new(tls).poll_shutdown(cx),
        };
        this.within_timeout(cx, shut)
    }
}
