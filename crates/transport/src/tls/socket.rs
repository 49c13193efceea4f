//! TCP sockets and their options. A cut cable sends nothing: it is noticed by
//! data that is not acknowledged (`TCP_USER_TIMEOUT`, RFC 5482) or, on an idle
//! connection, by probes that are not answered.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use socket2::{SockRef, Socket, TcpKeepalive};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

/// Connections that the kernel holds until they are accepted.
const BACKLOG: u32 = 1024;

/// Probes without an answer after which an idle connection is dead.
const PROBES: u32 = 3;

/// Sets the options of a new connection; `dead_after` bounds how long a
/// silent peer is believed in.
pub(super) fn prepare(stream: &TcpStream, dead_after: Duration) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    let interval = (dead_after / PROBES).max(Duration::from_secs(1));
    let keepalive = TcpKeepalive::new().with_time(dead_after).with_interval(interval).with_retries(PROBES);
    socket.set_tcp_keepalive(&keepalive)?;
    socket.set_tcp_user_timeout(Some(dead_after))
}

/// A second handle to the socket, for ending the connection while the first
/// is busy.
pub(super) fn second_handle(stream: &TcpStream) -> io::Result<Socket> {
    SockRef::from(stream).try_clone()
}

/// Listens at `address`; also right after another process did.
pub(super) fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}
