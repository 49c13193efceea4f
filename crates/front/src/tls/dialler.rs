//! The other side: TLS 1.3 towards a surface, for the command line. It trusts
//! the certificates that it is given and no others.

use std::io;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;

use super::{HANDSHAKE_LIMIT, HandshakeError, TlsError, certificate};

/// An encrypted connection to a surface.
pub type Dialled = tokio_rustls::client::TlsStream<TcpStream>;

/// Makes connections to surfaces encrypted. Cheap to clone.
#[derive(Clone)]
pub struct TlsDialler {
    inner: tokio_rustls::TlsConnector,
}

impl std::fmt::Debug for TlsDialler {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TlsDialler")
    }
}

impl TlsDialler {
    /// Trusts the certificates in the PEM file `trusted`: authorities, or one
    /// that a node made for itself.
    ///
    /// # Errors
    /// [`TlsError`]: the file cannot be used.
    pub fn open(trusted: &Path) -> Result<Self, TlsError> {
        let mut roots = RootCertStore::empty();
        for certificate in certificate::certificates(trusted)? {
            roots.add(certificate)?;
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self { inner: Arc::new(config).into() })
    }

    /// Shakes hands as the client. The surface must prove that it is `name`,
    /// or, without one, that it is at `address`.
    ///
    /// # Errors
    /// [`HandshakeError`]; the connection is closed.
    pub async fn dial(
        &self,
        stream: TcpStream,
        name: Option<&str>,
        address: IpAddr,
    ) -> Result<Dialled, HandshakeError> {
        let name = match name {
            None => ServerName::from(address),
            Some(name) => ServerName::try_from(name.to_owned())
                .map_err(|_| HandshakeError::Failed(io::Error::other("that is no name of a machine")))?,
        };
        let handshake = self.inner.connect(name, stream);
        let encrypted = tokio::time::timeout(HANDSHAKE_LIMIT, handshake).await;
        Ok(encrypted.map_err(|_| HandshakeError::TooSlow)??)
    }
}
