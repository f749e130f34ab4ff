//! Unix sockets to listen on: their files, and connections handed to the shards in turn.
//!
//! The kernel does not spread connections of a unix socket over listeners as it does for a port, so that one task
//! accepts for all shards.

use std::{
    fs::{self, Permissions},
    io,
    net::{Ipv4Addr, SocketAddr, SocketAddrV4},
    os::{
        fd::OwnedFd,
        unix::{
            fs::{FileTypeExt, MetadataExt, PermissionsExt},
            net::UnixListener,
        },
    },
    path::{Path, PathBuf},
    time::Duration,
};

use socket2::{Domain, SockAddr, Socket, Type};
use tokio::{net::TcpStream, sync::mpsc, time::sleep};

use super::{Accept, Shutdown, listener::BACKLOG};

/// Who is connected over a unix socket: nobody has this address otherwise.
pub const UNIX_PEER: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0));

/// Accepted connections that wait for their shard at most; then all wait in the kernel.
const WAITING_MAX: usize = 128;
/// Pause after a failed accept (out of descriptors, mostly).
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// The file of a socket that is listened on; removed with the value, unless another has taken its place.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    /// Device and inode.
    identity: (u64, u64),
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let is_ours = fs::symlink_metadata(&self.path)
            .is_ok_and(|metadata| (metadata.dev(), metadata.ino()) == self.identity);
        if is_ours && let Err(error) = fs::remove_file(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "cannot remove the socket");
        }
    }
}

/// Listens on a unix socket whose file has these permissions. A socket that an ended process has left there is
/// replaced.
///
/// # Errors
/// [`io::ErrorKind::AddrInUse`] if somebody listens there, [`io::ErrorKind::AlreadyExists`] if there is a file that is no
/// socket, others if the system refuses it.
pub fn bind_unix(path: &Path, mode: u32) -> io::Result<(UnixListener, SocketFile)> {
    let address = SockAddr::unix(path)?;
    remove_stale(path, &address)?;
    let socket = new_socket()?;
    socket.bind(&address)?;
    let metadata = fs::symlink_metadata(path)?;
    let file = SocketFile { path: path.to_owned(), identity: (metadata.dev(), metadata.ino()) };
    // Nobody gets in before it is listened on.
    fs::set_permissions(path, Permissions::from_mode(mode))?;
    socket.listen(BACKLOG)?;
    Ok((UnixListener::from(OwnedFd::from(socket)), file))
}

fn remove_stale(path: &Path, address: &SockAddr) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
        Ok(metadata) if !metadata.file_type().is_socket() => {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, "there is a file that is no socket"));
        }
        Ok(_) => {}
    }
    match new_socket()?.connect(address) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
        // A full backlog is somebody's.
        Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
        _ => Err(io::ErrorKind::AddrInUse.into()),
    }
}

fn new_socket() -> io::Result<Socket> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// Accepts the connections of a unix socket for all shards.
#[derive(Debug)]
pub struct UnixAcceptor {
    listener: UnixListener,
    shards: Vec<mpsc::Sender<io::Result<std::net::TcpStream>>>,
}

/// The connections of a unix socket that are one shard's.
#[derive(Debug)]
pub struct UnixConnections(mpsc::Receiver<io::Result<std::net::TcpStream>>);

impl UnixAcceptor {
    /// The acceptor, and where each shard gets its connections from.
    pub fn new(listener: UnixListener, shards: usize) -> (Self, Vec<UnixConnections>) {
        let (shards, connections) = (0..shards)
            .map(|_| {
                let (shard, connections) = mpsc::channel(WAITING_MAX);
                (shard, UnixConnections(connections))
            })
            .unzip();
        (Self { listener, shards }, connections)
    }

    /// Accepts until the server stops. Failures are told to the shard whose turn it is, and do not end it.
    pub async fn run(self, mut shutdown: Shutdown) {
        tokio::select! {
            result = self.accept() => {
                if let Err(error) = result {
                    tracing::error!(%error, "a unix socket is not served");
                }
            }
            _ = shutdown.wait_for(|stop| *stop) => {}
        }
    }

    async fn accept(self) -> io::Result<()> {
        let listener = tokio::net::UnixListener::from_std(self.listener)?;
        for shard in self.shards.iter().cycle() {
            let accepted = listener.accept().await.and_then(|(stream, _)| stream.into_std());
            let has_failed = accepted.is_err();
            // As a `TcpStream` it is read and written by the same calls, and needs no case of its own anywhere.
            let stream = accepted.map(|stream| std::net::TcpStream::from(OwnedFd::from(stream)));
            if shard.send(stream).await.is_err() {
                // The shards end.
                return Ok(());
            }
            if has_failed {
                sleep(ACCEPT_PAUSE).await;
            }
        }
        Ok(())
    }
}

impl Accept for UnixConnections {
    async fn accept(&mut self) -> io::Result<(TcpStream, SocketAddr)> {
        let Some(stream) = self.0.recv().await else {
            // The server stops, which its listeners are told by other means.
            return std::future::pending().await;
        };
        Ok((TcpStream::from_std(stream?)?, UNIX_PEER))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("gyre-unix-{name}-{}", std::process::id()));
            fs::create_dir_all(&path).unwrap();
            Self(path)
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            drop(fs::remove_dir_all(&self.0));
        }
    }

    /// A socket has the permissions asked for, is refused to a second listener, and its file goes with it; one that was
    /// left is replaced, and what somebody has put in its place stays.
    #[test]
    fn only_stale_sockets_are_replaced() {
        let folder = Folder::new("stale");
        let path = folder.0.join("socket");
        let (listener, file) = bind_unix(&path, 0o640).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
        assert_eq!(bind_unix(&path, 0o600).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        drop(file);
        assert!(!path.exists());
        drop(listener);

        drop(UnixListener::bind(&path).unwrap());
        let (_listener, file) = bind_unix(&path, 0o600).unwrap();
        fs::remove_file(&path).unwrap();
        fs::write(&path, "text").unwrap();
        drop(file);
        assert_eq!(fs::read_to_string(&path).unwrap(), "text");
    }

    /// What is no socket stays: a file, a folder, a link to a socket that nobody listens on.
    #[test]
    fn other_files_are_left_alone() {
        let folder = Folder::new("files");
        let [file, link, socket] = ["file", "link", "socket"].map(|name| folder.0.join(name));
        fs::write(&file, "text").unwrap();
        drop(UnixListener::bind(&socket).unwrap());
        std::os::unix::fs::symlink(&socket, &link).unwrap();
        for path in [&file, &folder.0, &link] {
            assert_eq!(bind_unix(path, 0o600).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        }
        assert_eq!(fs::read_to_string(&file).unwrap(), "text");
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink() && socket.exists());
        assert!(bind_unix(&folder.0.join("x".repeat(200)), 0o600).is_err());
    }

    /// Shards get connections in turn, and the socket is closed when the server stops.
    #[tokio::test]
    async fn shards_take_turns() {
        let folder = Folder::new("turns");
        let path = folder.0.join("socket");
        let (listener, _file) = bind_unix(&path, 0o600).unwrap();
        let (acceptor, mut shards) = UnixAcceptor::new(listener, 2);
        let (stop, shutdown) = tokio::sync::watch::channel(false);
        let running = tokio::spawn(acceptor.run(shutdown));
        let _clients: Vec<_> = (0..6).map(|_| UnixStream::connect(&path).unwrap()).collect();
        for _ in 0..3 {
            for shard in &mut shards {
                assert_eq!(shard.accept().await.unwrap().1, UNIX_PEER);
            }
        }
        stop.send_replace(true);
        running.await.unwrap();
        assert!(UnixStream::connect(&path).is_err());
    }
}
