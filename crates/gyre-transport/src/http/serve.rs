//! Accepting connections and speaking HTTP/1.1 or HTTP/2 on them.

use std::{
    cell::Cell,
    future::Future,
    io,
    net::SocketAddr,
    pin::{Pin, pin},
    rc::Rc,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use ::http::HeaderValue;
use http_body_util::BodyExt;
use hyper::{body::Incoming, rt::Executor, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::ServerConfig;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::watch,
    time::timeout,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use super::{BodyError, Peer, Response, Service};
use crate::socket::Socket;

/// Time for the TLS handshake, and for the header of a request.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// HTTP connections of one listener and shard at a time; more are closed at once. Upgraded ones do not count.
const CONNECTIONS_MAX: usize = 16_384;
/// Pause after a failed accept (out of descriptors, mostly).
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Turns true when the server stops.
pub type Shutdown = watch::Receiver<bool>;

/// What is spoken on a listener.
#[derive(Clone)]
pub struct Front {
    /// TLS settings; `None` for plain text.
    pub tls: Option<Arc<ServerConfig>>,
    /// Plain text and TLS on one port, told apart by the first byte. Development only.
    pub accepts_both: bool,
    /// HTTP/2 without TLS, by prior knowledge.
    pub accepts_h2c: bool,
    /// Port of HTTP/3, announced in every answer.
    pub alt_svc_port: Option<u16>,
}

/// Accepts connections until the server stops. Accept errors do not end it.
pub async fn serve_listener<S: Service + 'static>(
    listener: TcpListener,
    front: Front,
    service: Rc<S>,
    mut shutdown: Shutdown,
) {
    let alt_svc =
        front.alt_svc_port.and_then(|port| HeaderValue::try_from(format!("h3=\":{port}\"; ma=86400")).ok());
    let context =
        Rc::new(Serving { front, service, alt_svc, open: Cell::new(0), shutdown: shutdown.clone() });
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = shutdown.wait_for(|stop| *stop) => return,
        };
        match accepted {
            Ok((tcp, address)) if context.open.get() < CONNECTIONS_MAX => {
                tokio::task::spawn_local(context.clone().serve(tcp, address));
            }
            Ok(_) => tracing::warn!(limit = CONNECTIONS_MAX, "too many HTTP connections: one was closed"),
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

struct Serving<S> {
    front: Front,
    service: Rc<S>,
    alt_svc: Option<HeaderValue>,
    open: Cell<usize>,
    shutdown: Shutdown,
}

/// Counts a connection while it lives.
struct Counted<'a>(&'a Cell<usize>);

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

impl<S: Service + 'static> Serving<S> {
    async fn serve(self: Rc<Self>, tcp: TcpStream, address: SocketAddr) {
        self.open.set(self.open.get() + 1);
        let _counted = Counted(&self.open);
        let served = async {
            let stream = self.secure(tcp).await?;
            let is_h2 = stream.is_h2(self.front.accepts_h2c).await?;
            self.speak(stream, address, is_h2).await
        };
        if let Err(error) = served.await {
            tracing::debug!(%address, %error, "HTTP connection ended");
        }
    }

    /// Does the TLS handshake, where TLS is spoken.
    async fn secure(&self, tcp: TcpStream) -> io::Result<Stream> {
        tcp.set_nodelay(true)?;
        let Some(config) = &self.front.tls else { return Ok(Stream::Plain(tcp)) };
        if self.front.accepts_both && !begins_with_tls(&tcp).await? {
            return Ok(Stream::Plain(tcp));
        }
        let tls = timeout(HEADER_TIMEOUT, TlsAcceptor::from(config.clone()).accept(tcp)).await??;
        Ok(Stream::Tls(Box::new(tls)))
    }

    async fn speak(
        self: &Rc<Self>,
        stream: Stream,
        address: SocketAddr,
        is_h2: bool,
    ) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        let peer = Peer { address, is_tls: matches!(stream, Stream::Tls(_)) };
        let service = service_fn(|request| self.clone().answer(peer, request));
        let io = TokioIo::new(stream);
        let mut shutdown = self.shutdown.clone();
        let stop = pin!(async move { drop(shutdown.wait_for(|stop| *stop).await) });
        if is_h2 {
            let mut builder = hyper::server::conn::http2::Builder::new(LocalExecutor);
            builder.timer(TokioTimer::new());
            let mut connection = pin!(builder.serve_connection(io, service));
            tokio::select! {
                result = connection.as_mut() => return Ok(result?),
                () = stop => connection.as_mut().graceful_shutdown(),
            }
            return Ok(connection.await?);
        }
        let mut builder = hyper::server::conn::http1::Builder::new();
        builder.timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT).pipeline_flush(true);
        let mut connection = pin!(builder.serve_connection(io, service).with_upgrades());
        tokio::select! {
            result = connection.as_mut() => return Ok(result?),
            () = stop => connection.as_mut().graceful_shutdown(),
        }
        Ok(connection.await?)
    }

    async fn answer(
        self: Rc<Self>,
        peer: Peer,
        request: ::http::Request<Incoming>,
    ) -> Result<Response, std::convert::Infallible> {
        let mut request = request.map(|body| {
            body.map_err(|error| BodyError::Incomplete { reason: error.to_string() }).boxed_unsync()
        });
        request.extensions_mut().insert(peer);
        let mut response = self.service.clone().call(request).await;
        if let Some(alt_svc) = &self.alt_svc {
            response.headers_mut().insert(::http::header::ALT_SVC, alt_svc.clone());
        }
        Ok(response)
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

/// Runs tasks of HTTP/2 on the shard's thread.
#[derive(Clone)]
struct LocalExecutor;

impl<F: Future + 'static> Executor<F> for LocalExecutor {
    fn execute(&self, future: F) {
        tokio::task::spawn_local(async move { drop(future.await) });
    }
}

/// What HTTP is spoken on.
#[derive(Debug)]
pub(super) enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Stream {
    pub(super) fn into_socket(self) -> Socket {
        match self {
            Self::Plain(tcp) => Socket::plain(tcp),
            Self::Tls(tls) => {
                let (tcp, connection) = tls.into_inner();
                Socket::tls(tcp, connection)
            }
        }
    }

    async fn is_h2(&self, accepts_h2c: bool) -> io::Result<bool> {
        match self {
            Self::Tls(tls) => Ok(tls.get_ref().1.alpn_protocol() == Some(b"h2")),
            Self::Plain(tcp) if accepts_h2c => {
                let mut first = [0; 3];
                let read = timeout(HEADER_TIMEOUT, tcp.peek(&mut first)).await??;
                Ok(first[..read] == *b"PRI")
            }
            Self::Plain(_) => Ok(false),
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_read(cx, buffer),
            Self::Tls(tls) => Pin::new(tls).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_write(cx, bytes),
            Self::Tls(tls) => Pin::new(tls).poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_write_vectored(cx, slices),
            Self::Tls(tls) => Pin::new(tls).poll_write_vectored(cx, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(tcp) => tcp.is_write_vectored(),
            Self::Tls(tls) => tls.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_flush(cx),
            Self::Tls(tls) => Pin::new(tls).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_shutdown(cx),
            Self::Tls(tls) => Pin::new(tls).poll_shutdown(cx),
        }
    }
}
