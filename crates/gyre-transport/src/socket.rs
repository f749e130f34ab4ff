//! A connected byte stream owned by a shard: read and written without waiting, polled for readiness.

use std::{
    cell::{Cell, RefCell},
    io::{self, IoSlice, Read, Write},
    task::{Context, Poll},
};

use rustix::{io::Errno, net::SendFlags};
use rustls::ServerConnection;
use tokio::{io::Interest, net::TcpStream};

use crate::tunnel::Tunnel;

/// Plain text or TLS over TCP, or a stream of HTTP/2 or 3. None allocates while idle; a TLS connection keeps the small
/// read buffer of rustls.
#[derive(Debug)]
pub struct Socket(Kind);

#[derive(Debug)]
enum Kind {
    Plain(TcpStream),
    Tls(TcpStream, Box<Tls>),
    Tunnel(Box<Tunnel>),
}

/// Every idle connection pays for it.
const _: () = assert!(size_of::<Socket>() <= size_of::<TcpStream>() + size_of::<usize>());

impl Socket {
    /// A plain connection.
    pub fn plain(tcp: TcpStream) -> Self {
        Self(Kind::Plain(tcp))
    }

    /// A TLS connection after its handshake.
    pub fn tls(tcp: TcpStream, mut connection: ServerConnection) -> Self {
        // More plain text is accepted only after the last was sent, so a record's worth is the most that waits.
        connection.set_buffer_limit(Some(PLAIN_BYTES_MAX));
        let tls = Tls { connection: RefCell::new(connection), may_have_early_bytes: Cell::new(true) };
        Self(Kind::Tls(tcp, Box::new(tls)))
    }

    pub(crate) fn tunnel(tunnel: Tunnel) -> Self {
        Self(Kind::Tunnel(Box::new(tunnel)))
    }

    /// Reads what is there. 0 is the end of the stream.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] if nothing is there yet; others end the connection.
    pub fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        match &self.0 {
            Kind::Plain(tcp) => tcp.try_read(buffer),
            Kind::Tls(tcp, tls) => tls.try_read(tcp, buffer),
            Kind::Tunnel(tunnel) => tunnel.try_read(buffer),
        }
    }

    /// Writes what the peer takes now. Over TLS at most one record is accepted at a time, and none while an earlier
    /// one is not sent; what was accepted counts as written and is sent by [`Self::poll_write_ready`] or the next write.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] if it takes nothing; others end the connection.
    pub fn try_write_vectored(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match &self.0 {
            // `send` is cheaper in the kernel than `writev`, and one frame per turn is the common case; called without the
            // C library, which makes it a point of cancellation, it takes fifty instructions less. The socket is asked at
            // once: only one that takes nothing is worth the runtime's notes about it.
            Kind::Plain(tcp) => match slices {
                [slice] => match rustix::net::send(tcp, slice, SendFlags::NOSIGNAL) {
                    Err(Errno::WOULDBLOCK) => {
                        tcp.try_io(Interest::WRITABLE, || Err(io::ErrorKind::WouldBlock.into()))
                    }
                    sent => sent.map_err(io::Error::from),
                },
                _ => tcp.try_write_vectored(slices),
            },
            Kind::Tls(tcp, tls) => tls.try_write_vectored(tcp, slices),
            Kind::Tunnel(tunnel) => tunnel.try_write_vectored(slices),
        }
    }

    /// Ready when TLS holds nothing back any more and the peer may take something.
    pub fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let (tcp, tls) = match &self.0 {
            Kind::Plain(tcp) => return tcp.poll_write_ready(cx),
            Kind::Tls(tcp, tls) => (tcp, tls),
            Kind::Tunnel(tunnel) => return tunnel.poll_write_ready(cx),
        };
        loop {
            std::task::ready!(tcp.poll_write_ready(cx))?;
            match flush(tcp, &mut tls.connection.borrow_mut()) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => return Poll::Ready(result),
            }
        }
    }

    /// True if TLS holds encrypted bytes that the peer did not take yet; [`Self::poll_write_ready`] sends them.
    pub fn has_unsent(&self) -> bool {
        matches!(&self.0, Kind::Tls(_, tls) if tls.connection.borrow().wants_write())
    }

    /// Ready when reading may give something.
    pub fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &self.0 {
            Kind::Tls(_, tls) if tls.may_have_early_bytes.get() => Poll::Ready(Ok(())),
            Kind::Plain(tcp) | Kind::Tls(tcp, _) => tcp.poll_read_ready(cx),
            Kind::Tunnel(tunnel) => tunnel.poll_read_ready(cx),
        }
    }

    /// Says goodbye as far as that is possible without waiting; dropping the socket then closes it.
    pub fn shutdown(&self) {
        let tcp = match &self.0 {
            Kind::Plain(tcp) => tcp,
            Kind::Tls(tcp, tls) => {
                let mut connection = tls.connection.borrow_mut();
                connection.send_close_notify();
                if let Err(error) = flush(tcp, &mut connection) {
                    tracing::trace!(%error, "close_notify was not sent");
                }
                tcp
            }
            Kind::Tunnel(tunnel) => return tunnel.shutdown(),
        };
        if let Err(error) = socket2::SockRef::from(tcp).shutdown(std::net::Shutdown::Write) {
            tracing::trace!(%error, "the connection was gone before it was shut down");
        }
    }
}

/// Plain text that waits to be sent encrypted at most: one TLS record.
const PLAIN_BYTES_MAX: usize = 16 * 1024;
/// Reads of the TCP socket in one [`Socket::try_read`]. A peer that sends records without content must not keep the
/// thread.
const READS_MAX: usize = 16;

#[derive(Debug)]
struct Tls {
    connection: RefCell<ServerConnection>,
    /// Bytes may have been decrypted before the connection left HTTP, which found TCP empty then. Later TCP stays
    /// readable until a read finds it empty, and that is tried only after all decrypted bytes are taken.
    may_have_early_bytes: Cell<bool>,
}

impl Tls {
    fn try_read(&self, tcp: &TcpStream, buffer: &mut [u8]) -> io::Result<usize> {
        let mut connection = self.connection.borrow_mut();
        for _ in 0..READS_MAX {
            match connection.reader().read(buffer) {
                Ok(read) => return Ok(read),
                // A peer that leaves without close_notify has left all the same: every transport above marks the end
                // of its messages itself.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(0),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.may_have_early_bytes.set(false)
                }
                Err(error) => return Err(error),
            }
            self.receive(tcp, &mut connection)?;
        }
        Err(io::ErrorKind::WouldBlock.into())
    }

    /// Takes encrypted bytes from TCP, and sends what they ask for (key updates, alerts) as far as that goes now.
    fn receive(&self, tcp: &TcpStream, connection: &mut ServerConnection) -> io::Result<()> {
        connection.read_tls(&mut Tcp(tcp))?;
        let processed = connection.process_new_packets();
        match flush(tcp, connection) {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Err(error),
            _ => {}
        }
        processed.map(drop).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
    }

    fn try_write_vectored(&self, tcp: &TcpStream, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut connection = self.connection.borrow_mut();
        flush(tcp, &mut connection)?;
        let written = connection.writer().write_vectored(slices)?;
        if written == 0 && slices.iter().any(|slice| !slice.is_empty()) {
            return Err(io::ErrorKind::WriteZero.into());
        }
        match flush(tcp, &mut connection) {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
            _ => Ok(written),
        }
    }
}

/// Sends what TLS holds back.
fn flush(tcp: &TcpStream, connection: &mut ServerConnection) -> io::Result<()> {
    while connection.wants_write() {
        connection.write_tls(&mut Tcp(tcp))?;
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
