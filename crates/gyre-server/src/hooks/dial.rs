//! Connections to backends: over TCP, or over the socket of a path.

use std::{
    future::Future,
    io,
    path::Path,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use http::Uri;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::{
    client::legacy::connect::{Connected, Connection, HttpConnector},
    rt::TokioIo,
};
use tokio::net::{TcpStream, UnixStream};
use tower_service::Service;

/// How a backend is reached.
#[derive(Clone, Debug)]
pub(crate) enum Dialer {
    /// At the host and port of the URL.
    Tcp(HttpConnector),
    /// At this path, whatever the URL says.
    Unix(Arc<Path>),
}

impl Dialer {
    /// Over TCP.
    pub(crate) fn tcp() -> Self {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        // Somebody waits for each question: it must not wait for the acknowledgement of the one before.
        tcp.set_nodelay(true);
        Self::Tcp(tcp)
    }

    /// At the path, if there is one; else over TCP.
    pub(super) fn of(path: Option<&Arc<Path>>) -> Self {
        path.map_or_else(Self::tcp, |path| Self::Unix(path.clone()))
    }
}

impl Service<Uri> for Dialer {
    type Response = Socket;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Socket>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(tcp) => tcp.poll_ready(cx).map_err(io::Error::other),
            Self::Unix(_) => Poll::Ready(Ok(())),
        }
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        match self {
            Self::Tcp(tcp) => {
                let connecting = tcp.call(uri);
                Box::pin(async move { connecting.await.map(Socket::Tcp).map_err(io::Error::other) })
            }
            Self::Unix(path) => {
                let path = path.clone();
                Box::pin(async move { Ok(Socket::Unix(TokioIo::new(UnixStream::connect(path).await?))) })
            }
        }
    }
}

/// A connection to a backend.
#[derive(Debug)]
pub(crate) enum Socket {
    Tcp(TokioIo<TcpStream>),
    Unix(TokioIo<UnixStream>),
}

/// Does the same with whichever it is.
macro_rules! either {
    ($socket:expr, $inner:ident => $work:expr) => {
        match $socket {
            Socket::Tcp($inner) => $work,
            Socket::Unix($inner) => $work,
        }
    };
}

impl Connection for Socket {
    fn connected(&self) -> Connected {
        match self {
            Self::Tcp(tcp) => tcp.connected(),
            Self::Unix(_) => Connected::new(),
        }
    }
}

impl Read for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        either!(self.get_mut(), socket => Pin::new(socket).poll_read(cx, buffer))
    }
}

impl Write for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        either!(self.get_mut(), socket => Pin::new(socket).poll_write(cx, bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        either!(self.get_mut(), socket => Pin::new(socket).poll_write_vectored(cx, slices))
    }

    fn is_write_vectored(&self) -> bool {
        either!(self, socket => socket.is_write_vectored())
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self.get_mut(), socket => Pin::new(socket).poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self.get_mut(), socket => Pin::new(socket).poll_shutdown(cx))
    }
}
