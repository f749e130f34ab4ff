//! Sockets to listen on: one per shard and address, told apart by the kernel (SO_REUSEPORT).

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, ToSocketAddrs, UdpSocket},
};

use socket2::{Domain, Protocol, SockRef, Socket, Type};

/// Connections waiting to be accepted at most.
pub(super) const BACKLOG: i32 = 4096;
/// Size asked for the buffers of a QUIC socket.
const UDP_BUFFER_BYTES: usize = 8 << 20;

/// Addresses to listen on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Addresses {
    /// All must be bound.
    pub required: Vec<SocketAddr>,
    /// Bound where the machine has them.
    pub optional: Vec<SocketAddr>,
}

/// The addresses of a configured host: none means all of the machine, `localhost` both loopback addresses.
///
/// # Errors
/// If a host name cannot be resolved.
pub fn resolve(host: &str, port: u16) -> io::Result<Addresses> {
    let one = |ip: IpAddr| Addresses { required: vec![SocketAddr::new(ip, port)], optional: Vec::new() };
    match host {
        "" => {
            let has_ipv6 = Socket::new(Domain::IPV6, Type::STREAM, Some(Protocol::TCP)).is_ok();
            Ok(one(if has_ipv6 { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() }))
        }
        "localhost" => Ok(Addresses {
            required: vec![SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port)],
            optional: vec![SocketAddr::new(Ipv6Addr::LOCALHOST.into(), port)],
        }),
        host => match host.trim_matches(['[', ']']).parse() {
            Ok(ip) => Ok(one(ip)),
            Err(_) => {
                let mut required = Vec::new();
                for address in (host, port).to_socket_addrs()? {
                    // A hosts file may name an address twice.
                    if !required.contains(&address) {
                        required.push(address);
                    }
                }
                Ok(Addresses { required, optional: Vec::new() })
            }
        },
    }
}

/// Binds an address alone, TCP and optionally UDP, and lets go of it: a port in use must be an error, not a second
/// server that silently shares it.
///
/// # Errors
/// If the address is in use or not of this machine.
pub fn bind_check(address: SocketAddr, with_udp: bool) -> io::Result<()> {
    let tcp = new_socket(address, Type::STREAM, Protocol::TCP)?;
    // Connections of an earlier process in TIME_WAIT are no obstacle.
    tcp.set_reuse_address(true)?;
    tcp.bind(&address.into())?;
    // Never listened on: a client that came now would be lost.
    if with_udp {
        new_socket(address, Type::DGRAM, Protocol::UDP)?.bind(&address.into())?;
    }
    Ok(())
}

/// A listener that shares its address with the other shards'.
///
/// # Errors
/// If it cannot be bound.
pub fn bind_tcp(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = new_socket(address, Type::STREAM, Protocol::TCP)?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.set_tcp_nodelay(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// A UDP socket that shares its address with the other shards'. 8 MB of buffer are asked for each way; whether they
/// were given is told by [`clamped_buffers`].
///
/// # Errors
/// If it cannot be bound.
pub fn bind_udp(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = new_socket(address, Type::DGRAM, Protocol::UDP)?;
    socket.set_reuse_port(true)?;
    // Some kernels cut this to their maximum, others refuse it; a smaller buffer costs speed and no more.
    let sized =
        socket.set_recv_buffer_size(UDP_BUFFER_BYTES).and(socket.set_send_buffer_size(UDP_BUFFER_BYTES));
    if let Err(error) = sized {
        tracing::debug!(%error, "UDP buffers keep their default size");
    }
    socket.bind(&address.into())?;
    Ok(socket.into())
}

/// Buffers of a UDP socket that are smaller than asked for (on Linux: `net.core.rmem_max` and `wmem_max`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClampedBuffers {
    /// Bytes asked for.
    pub wanted: usize,
    /// Bytes for datagrams not yet read.
    pub receive: usize,
    /// Bytes for datagrams not yet sent.
    pub send: usize,
}

/// Tells if the kernel gave a socket smaller buffers than [`bind_udp`] asked for: worth a warning once.
///
/// # Errors
/// If the socket cannot be asked.
pub fn clamped_buffers(socket: &UdpSocket) -> io::Result<Option<ClampedBuffers>> {
    let socket = SockRef::from(socket);
    // Linux reports twice the usable size.
    let factor = if cfg!(target_os = "linux") { 2 } else { 1 };
    let receive = socket.recv_buffer_size()? / factor;
    let send = socket.send_buffer_size()? / factor;
    let is_clamped = receive.min(send) < UDP_BUFFER_BYTES;
    Ok(is_clamped.then_some(ClampedBuffers { wanted: UDP_BUFFER_BYTES, receive, send }))
}

fn new_socket(address: SocketAddr, kind: Type, protocol: Protocol) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), kind, Some(protocol))?;
    if address.is_ipv6() {
        socket.set_only_v6(!address.ip().is_unspecified())?;
    }
    socket.set_nonblocking(true)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANY_PORT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

    /// A host's forms give the addresses they stand for.
    #[test]
    fn hosts_resolve() {
        let port_1 = |text: &str| Addresses { required: vec![text.parse().unwrap()], optional: Vec::new() };
        assert_eq!(resolve("127.0.0.1", 1).unwrap(), port_1("127.0.0.1:1"));
        assert_eq!(resolve("::1", 1).unwrap(), port_1("[::1]:1"));
        assert_eq!(resolve("[::1]", 1).unwrap(), port_1("[::1]:1"));
        let all = resolve("", 1).unwrap();
        assert!(all == port_1("[::]:1") || all == port_1("0.0.0.0:1"));
        let localhost = resolve("localhost", 1).unwrap();
        assert_eq!(localhost.required, port_1("127.0.0.1:1").required);
        assert_eq!(localhost.optional, port_1("[::1]:1").required);
        assert!(resolve("no host", 1).is_err());
    }

    /// Shards share a port with each other, and the check sees their port as taken, for TCP and for UDP.
    #[test]
    fn a_taken_port_is_an_error() {
        let first = bind_tcp(ANY_PORT).unwrap();
        let address = first.local_addr().unwrap();
        let second = bind_tcp(address).unwrap();
        assert_eq!(bind_check(address, false).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        drop((first, second));
        bind_check(address, false).unwrap();

        let udp = bind_udp(address).unwrap();
        let _shared = bind_udp(address).unwrap();
        assert_eq!(bind_check(address, true).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        bind_check(address, false).unwrap();
        assert_eq!(udp.local_addr().unwrap(), address);
    }

    /// The report of clamped buffers agrees with the size the kernel tells for a buffer known to be small.
    #[test]
    fn small_udp_buffers_are_reported() {
        let socket = bind_udp(ANY_PORT).unwrap();
        SockRef::from(&socket).set_recv_buffer_size(64 * 1024).unwrap();
        let clamped = clamped_buffers(&socket).unwrap().unwrap();
        assert_eq!((clamped.wanted, clamped.receive), (8 << 20, 64 * 1024));
    }

    /// The wildcard of IPv6 takes connections of IPv4 too.
    #[test]
    fn the_ipv6_wildcard_is_dual_stack() {
        let Ok(listener) = bind_tcp(SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), 0)) else { return };
        assert!(!SockRef::from(&listener).only_v6().unwrap());
        let port = listener.local_addr().unwrap().port();
        std::net::TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
    }
}
