//! Why a listener could not be opened. Nothing was opened then.

use std::io;
use std::net::SocketAddr;

use crate::exposure::Exposed;

/// Binding failed; the process holds no socket for this address.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// It may not listen there; the text says what would be needed.
    #[error(transparent)]
    Exposed(#[from] Exposed),
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
