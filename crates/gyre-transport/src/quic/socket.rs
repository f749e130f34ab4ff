//! A UDP socket that receives datagrams in batches and sends several in one call, where the system can.

use std::{
    io::{self, IoSliceMut},
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use quinn_proto::EcnCodepoint;
use quinn_udp::{BATCH_SIZE, RecvMeta, Transmit, UdpSockRef, UdpSocketState};
use tokio::{io::Interest, net::UdpSocket};

/// Bytes of one receive buffer: the longest run of datagrams the system hands over at once.
const RECEIVE_BYTES: usize = 64 * 1024;
/// Datagrams sent in one call; more would keep other connections waiting.
const SEGMENTS_MAX: usize = 32;

pub(super) struct Socket {
    io: UdpSocket,
    state: UdpSocketState,
    received: Box<[u8]>,
}

/// Where a datagram came from, and where it arrived.
#[derive(Clone, Copy, Debug)]
pub(super) struct Route {
    pub(super) remote: SocketAddr,
    pub(super) local: Option<IpAddr>,
    pub(super) ecn: Option<EcnCodepoint>,
}

/// What came of sending.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Sent {
    /// The system took it, or lost it as the network might have.
    Done,
    /// The socket takes nothing now.
    Blocked,
}

impl Socket {
    pub(super) fn new(socket: std::net::UdpSocket) -> io::Result<Self> {
        let state = UdpSocketState::new(UdpSockRef::from(&socket))?;
        let io = UdpSocket::from_std(socket)?;
        Ok(Self { io, state, received: vec![0; RECEIVE_BYTES * BATCH_SIZE].into_boxed_slice() })
    }

    pub(super) async fn readable(&self) {
        if let Err(error) = self.io.readable().await {
            tracing::warn!(%error, "the UDP socket cannot be waited for");
            // A socket in this state stays in it: trying at once again would be a busy loop.
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }

    pub(super) async fn writable(&self) {
        if self.io.writable().await.is_err() {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }

    /// Datagrams that one call of [`Socket::send`] takes.
    pub(super) fn segments_max(&self) -> usize {
        self.state.max_gso_segments().min(SEGMENTS_MAX)
    }

    /// True if the system may split datagrams on their way.
    pub(super) fn may_fragment(&self) -> bool {
        self.state.may_fragment()
    }

    /// Receives one batch, datagram by datagram; false if there was none.
    pub(super) fn receive(&mut self, mut each: impl FnMut(Route, &[u8])) -> bool {
        let mut metas = [RecvMeta::default(); BATCH_SIZE];
        let mut buffers = self.received.chunks_exact_mut(RECEIVE_BYTES).map(IoSliceMut::new);
        let mut buffers: [IoSliceMut<'_>; BATCH_SIZE] =
            std::array::from_fn(|_| buffers.next().unwrap_or_else(|| IoSliceMut::new(&mut [])));
        let received = self.io.try_io(Interest::READABLE, || {
            self.state.recv(UdpSockRef::from(&self.io), &mut buffers, &mut metas)
        });
        let count = match received {
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return false,
            Err(error) => {
                // Errors of datagrams sent earlier; the next call receives again.
                tracing::trace!(%error, "UDP receive");
                return true;
            }
        };
        for (meta, buffer) in metas[..count].iter().zip(&buffers) {
            let ecn = meta.ecn.and_then(|ecn| EcnCodepoint::from_bits(ecn as u8));
            let route = Route { remote: meta.addr, local: meta.dst_ip, ecn };
            buffer[..meta.len].chunks(meta.stride.max(1)).for_each(|datagram| each(route, datagram));
        }
        true
    }

    /// Sends the datagrams of one transmit.
    pub(super) fn send(&self, transmit: &quinn_proto::Transmit, datagrams: &[u8]) -> Sent {
        let transmit = Transmit {
            destination: transmit.destination,
            ecn: transmit.ecn.and_then(|ecn| quinn_udp::EcnCodepoint::from_bits(ecn as u8)),
            contents: &datagrams[..transmit.size],
            segment_size: transmit.segment_size,
            src_ip: transmit.src_ip,
        };
        // The socket is asked at once: only one that takes nothing is worth the runtime's notes about it.
        match self.state.try_send(UdpSockRef::from(&self.io), &transmit) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                // An error, as said.
                _ = self.io.try_io(Interest::WRITABLE, || Err::<(), _>(error));
                Sent::Blocked
            }
            Err(error) => {
                tracing::trace!(%error, to = %transmit.destination, "UDP send");
                Sent::Done
            }
            Ok(()) => Sent::Done,
        }
    }
}
