//! Binding where it is allowed, and accepting within the limits.

use std::io;
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;

use crate::admission::{Admission, Permit, Refusals};
use crate::config::Limits;
use crate::error::BindError;
use crate::exposure::Exposure;

/// Pause after the operating system could not give a connection (usually:
/// too many open files). Long enough to let others close, short for a human.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(50);

/// How long a silent connection lives before the kernel asks whether the
/// other side still exists.
const KEEPALIVE: Duration = Duration::from_mins(2);

/// What a socket takes at most before the kernel could send it (128 KiB).
/// Without it megabytes disappear in the socket's buffer at once, then nothing
/// for seconds, and who waits for a slow client cannot tell it from a dead one.
const UNSENT_BYTES: u32 = 128 * 1024;

/// Opens listeners.
#[derive(Debug)]
pub struct Listeners;

impl Listeners {
    /// Listens on `address` for `surface` (its name in the settings).
    /// `refusal` is what a connection over the limit is sent before it is
    /// closed, in the protocol that is spoken there. Whether there are users
    /// is for the caller to check once it knows ([`Exposure::check_users`]).
    ///
    /// # Errors
    /// When `exposure` does not allow the address, it is taken, or the system
    /// refuses.
    pub fn bind(
        surface: &'static str,
        address: SocketAddr,
        exposure: Exposure,
        limits: Limits,
        refusal: &'static [u8],
    ) -> Result<Listener, BindError> {
        exposure.check_transport(surface, address)?;
        let backlog = i32::try_from(limits.backlog).unwrap_or(i32::MAX);
        let listener = open(address, backlog).map_err(|source| match source.kind() {
            io::ErrorKind::AddrInUse => BindError::Taken { surface, address },
            _ => BindError::Io { surface, address, source },
        })?;
        let local = listener.local_addr().map_err(|source| BindError::Io { surface, address, source })?;
        let admission = Admission::new(limits);
        Ok(Listener { socket: listener, local, admission, refusal, refusals: Mutex::default() })
    }
}

fn open(address: SocketAddr, backlog: i32) -> io::Result<TcpListener> {
    use socket2::{Domain, Protocol, Socket, Type};
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(backlog)?;
    TcpListener::from_std(socket.into())
}

/// One open listener. Connections come out of [`Listener::accept`].
#[derive(Debug)]
pub struct Listener {
    socket: TcpListener,
    local: SocketAddr,
    admission: Admission,
    refusal: &'static [u8],
    // Accepting takes `&self`; touched per refused connection only.
    refusals: Mutex<Refusals>,
}

/// A connection that was let in.
#[derive(Debug)]
pub struct Accepted {
    /// The socket: no delay, keep-alive on.
    pub stream: TcpStream,
    /// Where it comes from.
    pub peer: SocketAddr,
    /// Where it arrived.
    pub local: SocketAddr,
    /// To be kept as long as the connection lives.
    pub permit: Permit,
}

impl Listener {
    /// The address that is listened on (with the real port if 0 was asked).
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// Connections that are let in at this moment.
    pub fn connections(&self) -> usize {
        self.admission.admitted()
    }

    /// The next connection that is within the limits. Others get the refusal.
    /// Cancel safe.
    pub async fn accept(&self) -> Accepted {
        loop {
            match self.socket.accept().await {
                Ok((stream, peer)) => {
                    if let Some(accepted) = self.let_in(stream, peer) {
                        return accepted;
                    }
                }
                Err(error) => {
                    tracing::warn!(local = %self.local, %error, "cannot accept a connection, pausing");
                    tokio::time::sleep(ACCEPT_BACKOFF).await;
                }
            }
        }
    }

    fn let_in(&self, stream: TcpStream, peer: SocketAddr) -> Option<Accepted> {
        let Some(permit) = self.admission.admit(peer.ip()) else {
            let told = self.refusals.lock().unwrap_or_else(PoisonError::into_inner).note(Instant::now());
            if let Some(refused) = told {
                tracing::warn!(%peer, local = %self.local, refused, "too many connections, refused the newest");
            }
            // Best effort: a fresh socket's buffer takes a line at once.
            let _ = stream.try_write(self.refusal);
            return None;
        };
        let local = stream.local_addr().unwrap_or(self.local);
        // No option is needed for correctness; a dying socket refuses them.
        let _ = stream.set_nodelay(true);
        let keepalive = socket2::TcpKeepalive::new().with_time(KEEPALIVE);
        let socket = socket2::SockRef::from(&stream);
        let _ = socket.set_tcp_keepalive(&keepalive);
        let _ = socket.set_tcp_notsent_lowat(UNSENT_BYTES);
        Some(Accepted { stream, peer, local, permit })
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;

    use super::*;

    const REFUSAL: &[u8] = b"-ERR max number of clients reached\r\n";

    fn bind(address: &str, limits: Limits) -> Result<Listener, BindError> {
        Listeners::bind("redis", address.parse().unwrap(), Exposure::default(), limits, REFUSAL)
    }

    #[tokio::test]
    async fn plain_text_beyond_loopback_refuses_to_start() {
        let error = bind("0.0.0.0:0", Limits::default()).expect_err("everybody could come in");
        assert!(error.to_string().contains("without TLS"), "{error}");
    }

    #[tokio::test]
    async fn a_taken_port_is_named() {
        let first = bind("127.0.0.1:0", Limits::default()).unwrap();
        let error = bind(&first.local_addr().to_string(), Limits::default()).expect_err("the port is taken");
        assert!(matches!(error, BindError::Taken { .. }), "{error}");
        assert!(error.to_string().contains(&first.local_addr().to_string()), "{error}");
    }

    #[tokio::test]
    async fn over_the_limit_gets_the_refusal_and_leaves_the_others_alone() {
        let limits = Limits { max_connections: 1, max_per_source: 1, backlog: 8 };
        let listener = bind("127.0.0.1:0", limits).unwrap();
        let _first = TcpStream::connect(listener.local_addr()).await.unwrap();
        let accepted = listener.accept().await;
        let mut second = TcpStream::connect(listener.local_addr()).await.unwrap();
        let refused = async {
            let mut text = Vec::new();
            second.read_to_end(&mut text).await.unwrap();
            text
        };
        tokio::select! {
            biased;
            _ = listener.accept() => panic!("there was no room"),
            text = refused => assert_eq!(text, REFUSAL),
        }
        drop(accepted);
        let _third = TcpStream::connect(listener.local_addr()).await.unwrap();
        listener.accept().await;
    }
}
