//! Why a listener could not be opened. Nothing was opened then.

use std::io;
use std::net::SocketAddr;

/// Binding failed; the process holds no socket for this address.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The address is not loopback. Choose `127.0.0.1` or `[::1]`.
    #[error(
        "refusing to listen on {0}: data is served on loopback only (127.0.0.1 or [::1]) until users and rights exist"
    )]
    NotLoopback(SocketAddr),
    /// Another process has the port. Choose another one.
    #[error("{surface} cannot listen on {address}: the port is taken by another process")]
    Taken {
        /// Which surface wanted the port.
        surface: &'static str,
        /// The address it wanted.
        address: SocketAddr,
    },
    /// The operating system refused for another reason.
    #[error("{surface} cannot listen on {address}: {source}")]
    Io {
        /// Which surface wanted the port.
        surface: &'static str,
        /// The address it wanted.
        address: SocketAddr,
        /// What the operating system said.
        source: io::Error,
    },
}
