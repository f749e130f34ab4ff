//! Sockets to listen on: one per shard and address, told apart by the kernel (SO_REUSEPORT).

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, ToSocketAddrs, UdpSocket},
};

use socket2::{Domain, Protocol, Socket, Type};

/// Connections waiting to be accepted at most.
const BACKLOG: i32 = 4096;
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
                let required: Vec<_> = (host, port).to_socket_addrs()?.collect();
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
    tcp.listen(1)?;
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

/// A UDP socket that shares its address with the other shards'.
///
/// # Errors
/// If it cannot be bound.
pub fn bind_udp(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = new_socket(address, Type::DGRAM, Protocol::UDP)?;
    socket.set_reuse_port(true)?;
    // The kernel cuts this to its own maximum without an error.
    socket.set_recv_buffer_size(UDP_BUFFER_BYTES)?;
    socket.set_send_buffer_size(UDP_BUFFER_BYTES)?;
    socket.bind(&address.into())?;
    Ok(socket.into())
}

fn new_socket(address: SocketAddr, kind: Type, protocol: Protocol) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), kind, Some(protocol))?;
    if address.is_ipv6() {
        socket.set_only_v6(!address.ip().is_unspecified())?;
    }
    socket.set_nonblocking(true)?;
    Ok(socket)
}
