//! A connected byte stream owned by a shard: read and written without waiting, polled for readiness.

use std::{
    cell::RefCell,
    io::{self, IoSlice, Read, Write},
    net::SocketAddr,
    task::{Context, Poll},
};

use rustls::ServerConnection;
use tokio::net::TcpStream;

/// Plain text or TLS over TCP. Holds no buffer of its own while idle.
#[derive(Debug)]
pub struct Socket {
    tcp: TcpStream,
    tls: Option<Box<RefCell<ServerConnection>>>,
}

impl Socket {
    /// A plain connection.
    pub fn plain(tcp: TcpStream) -> Self {
        Self { tcp, tls: None }
    }

    /// A TLS connection after its handshake.
    pub fn tls(tcp: TcpStream, mut connection: ServerConnection) -> Self {
        // More plain text is accepted only after the last was sent, so a record's worth is the most that waits.
        connection.set_buffer_limit(Some(PLAIN_BYTES_MAX));
        Self { tcp, tls: Some(Box::new(RefCell::new(connection))) }
    }

    /// The peer's address, if it is still known.
    pub fn peer_address(&self) -> Option<SocketAddr> {
        self.tcp.peer_addr().ok()
    }

    /// Reads what is there. 0 is the end of the stream.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] if nothing is there yet; others end the connection.
    pub fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(tls) = &self.tls else { return self.tcp.try_read(buffer) };
        let mut tls = tls.borrow_mut();
        loop {
            match tls.reader().read(buffer) {
                // A peer that leaves without close_notify has left all the same.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(0),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => return result,
            }
            let received = tls.read_tls(&mut Tcp(&self.tcp))?;
            tls.process_new_packets().map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
            if received == 0 && !tls.wants_write() {
                return match tls.reader().read(buffer) {
                    Ok(read) => Ok(read),
                    Err(_) => Ok(0),
                };
            }
            if tls.wants_write() {
                // Key updates and alerts; what does not fit now goes out with the next write.
                match tls.write_tls(&mut Tcp(&self.tcp)) {
                    Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Err(error),
                    _ if received == 0 => return Ok(0),
                    _ => {}
                }
            }
        }
    }

    /// Writes what the peer takes now.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] if it takes nothing; others end the connection.
    pub fn try_write_vectored(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let Some(tls) = &self.tls else { return self.tcp.try_write_vectored(slices) };
        let mut tls = tls.borrow_mut();
        flush_tls(&self.tcp, &mut tls)?;
        let written = tls.writer().write_vectored(slices)?;
        match flush_tls(&self.tcp, &mut tls) {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
            // Encrypted bytes that are left count as written: they go first next time.
            _ => Ok(written),
        }
    }

    /// Sends what TLS still holds back. Ready when nothing is left.
    pub fn poll_flush(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(tls) = &self.tls else { return Poll::Ready(Ok(())) };
        loop {
            match flush_tls(&self.tcp, &mut tls.borrow_mut()) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    std::task::ready!(self.tcp.poll_write_ready(cx))?;
                }
                result => return Poll::Ready(result),
            }
        }
    }

    /// True if TLS holds encrypted bytes that the peer did not take yet.
    pub fn has_unsent(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.borrow().wants_write())
    }

    /// Ready when reading may give something.
    pub fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.tcp.poll_read_ready(cx)
    }

    /// Ready when the peer may take something.
    pub fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.tcp.poll_write_ready(cx)
    }

    /// Says goodbye as far as that is possible without waiting; dropping the socket then closes it.
    pub fn shutdown(&self) {
        if let Some(tls) = &self.tls {
            let mut tls = tls.borrow_mut();
            tls.send_close_notify();
            if let Err(error) = flush_tls(&self.tcp, &mut tls) {
                tracing::trace!(%error, "close_notify was not sent");
            }
        }
        if let Err(error) = socket2::SockRef::from(&self.tcp).shutdown(std::net::Shutdown::Write) {
            tracing::trace!(%error, "the connection was gone before it was shut down");
        }
    }
}

/// Plain text that waits to be sent encrypted at most: one TLS record.
const PLAIN_BYTES_MAX: usize = 16 * 1024;

fn flush_tls(tcp: &TcpStream, tls: &mut ServerConnection) -> io::Result<()> {
    while tls.wants_write() {
        tls.write_tls(&mut Tcp(tcp))?;
    }
    Ok(())
}

/// Lets rustls read and write a socket that never blocks.
struct Tcp<'a>(&'a TcpStream);

impl Read for Tcp<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.try_read(buffer)
    }
}

impl Write for Tcp<'_> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.0.try_write(buffer)
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.0.try_write_vectored(slices)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
