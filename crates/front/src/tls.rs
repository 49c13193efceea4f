//! TLS 1.3 for strangers: from the first byte (Redis, HTTP) or after a plain
//! greeting (NATS), with a certificate that was given or that the node makes
//! for itself.
//!
//! | file | what |
//! |---|---|
//! | [`certificate`] | where certificate and key come from |
//! | [`dialler`] | the other side, for the command line |
//! | [`stream`] | a connection that is plain or encrypted |

pub mod certificate;
pub mod dialler;
pub mod stream;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::net::TcpStream;

pub use certificate::TlsSource;
pub use dialler::{Dialled, TlsDialler};
pub use stream::{ReadHalf, Stream, WriteHalf};

/// A handshake that takes longer is broken off: it costs memory and has no
/// principal yet.
pub const HANDSHAKE_LIMIT: Duration = Duration::from_secs(5);

/// How a surface encrypts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsSettings {
    /// Where certificate and key come from.
    pub source: TlsSource,
    /// Folder for a certificate that the node makes: below its data directory.
    pub folder: PathBuf,
    /// Names and addresses that such a certificate is for, beside loopback's.
    pub names: Vec<String>,
    /// Application protocols that are offered (HTTP: `http/1.1`); may be none.
    pub protocols: Vec<Vec<u8>>,
}

/// Why TLS cannot be offered. Nothing was opened; a certificate may have been
/// made.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read or written.
    #[error("{path}: {source}")]
    File {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file does not hold what it should.
    #[error("{path} holds no {wanted} in PEM form")]
    Pem {
        /// Which file.
        path: PathBuf,
        /// What it should hold.
        wanted: &'static str,
    },
    /// Others may read the key.
    #[error("{path} has mode {mode:o}, so that others may read the key: chmod 600 {path}")]
    ReadableKey {
        /// Which file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// Certificate and key cannot be used.
    #[error("the certificate or key cannot be used: {0}")]
    Unusable(#[from] rustls::Error),
    /// The certificate authority for clients cannot be used.
    #[error("the certificate authority for clients cannot be used: {0}")]
    ClientCa(String),
    /// A certificate could not be made.
    #[error("a certificate could not be made: {0}")]
    Make(String),
}

/// Why a connection did not become an encrypted one. It is closed.
#[derive(Debug, thiserror::Error)]
pub enum HandshakeError {
    /// It took too long.
    #[error("the TLS handshake took longer than {} s", HANDSHAKE_LIMIT.as_secs())]
    TooSlow,
    /// It failed.
    #[error("the TLS handshake failed: {0}")]
    Failed(#[from] io::Error),
}

/// Makes connections encrypted. Cheap to clone.
#[derive(Clone)]
pub struct TlsAcceptor {
    inner: tokio_rustls::TlsAcceptor,
}

impl std::fmt::Debug for TlsAcceptor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TlsAcceptor")
    }
}

impl TlsAcceptor {
    /// Reads (or makes) certificate and key.
    ///
    /// # Errors
    /// [`TlsError`].
    pub fn open(settings: &TlsSettings) -> Result<Self, TlsError> {
        let pair = certificate::obtain(settings)?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ServerConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&[&rustls::version::TLS13])?;
        let builder = match pair.client_ca {
            None => builder.with_no_client_auth(),
            Some(authorities) => {
                let mut roots = RootCertStore::empty();
                for authority in authorities {
                    roots.add(authority).map_err(|error| TlsError::ClientCa(error.to_string()))?;
                }
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
                builder.with_client_cert_verifier(
                    verifier.map_err(|error| TlsError::ClientCa(error.to_string()))?,
                )
            }
        };
        let mut config = builder.with_single_cert(pair.chain, pair.key)?;
        config.alpn_protocols.clone_from(&settings.protocols);
        Ok(Self { inner: Arc::new(config).into() })
    }

    /// Shakes hands as the server.
    ///
    /// # Errors
    /// [`HandshakeError`]; the connection is closed.
    pub async fn accept(&self, stream: TcpStream) -> Result<Stream, HandshakeError> {
        let handshake = self.inner.accept(stream);
        let encrypted =
            tokio::time::timeout(HANDSHAKE_LIMIT, handshake).await.map_err(|_| HandshakeError::TooSlow)??;
        Ok(Stream::Tls(Box::new(encrypted)))
    }
}

#[cfg(test)]
mod tests;
