//! A connection that is plain or encrypted. Who wants the plain one at its
//! full speed matches on [`Stream`]; who does not care reads and writes it.
//!
//! A plain socket needs no flush. An encrypted one does, once nothing more is
//! to be written: what the socket did not take stays with it until then.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

type Encrypted = tokio_rustls::server::TlsStream<TcpStream>;

/// A connection.
#[derive(Debug)]
pub enum Stream {
    /// Plain.
    Plain(TcpStream),
    /// Encrypted.
    Tls(Box<Encrypted>),
}

/// The half that is read.
#[derive(Debug)]
pub enum ReadHalf {
    /// Plain.
    Plain(OwnedReadHalf),
    /// Encrypted.
    Tls(tokio::io::ReadHalf<Box<Encrypted>>),
}

/// The half that is written.
#[derive(Debug)]
pub enum WriteHalf {
    /// Plain.
    Plain(OwnedWriteHalf),
    /// Encrypted.
    Tls(tokio::io::WriteHalf<Box<Encrypted>>),
}

impl Stream {
    /// Whether it is encrypted.
    pub fn is_encrypted(&self) -> bool {
        matches!(self, Self::Tls(_))
    }

    /// Two halves that may go to two tasks.
    pub fn into_split(self) -> (ReadHalf, WriteHalf) {
        match self {
            Self::Plain(stream) => {
                let (reader, writer) = stream.into_split();
                (ReadHalf::Plain(reader), WriteHalf::Plain(writer))
            }
            Self::Tls(stream) => {
                let (reader, writer) = tokio::io::split(stream);
                (ReadHalf::Tls(reader), WriteHalf::Tls(writer))
            }
        }
    }
}

impl From<TcpStream> for Stream {
    fn from(stream: TcpStream) -> Self {
        Self::Plain(stream)
    }
}

macro_rules! reads {
    ($name:ident) => {
        impl AsyncRead for $name {
            fn poll_read(
                self: Pin<&mut Self>,
                context: &mut Context<'_>,
                into: &mut ReadBuf<'_>,
            ) -> Poll<io::Result<()>> {
                match self.get_mut() {
                    Self::Plain(inner) => Pin::new(inner).poll_read(context, into),
                    Self::Tls(inner) => Pin::new(inner).poll_read(context, into),
                }
            }
        }
    };
}

macro_rules! writes {
    ($name:ident) => {
        impl AsyncWrite for $name {
            fn poll_write(
                self: Pin<&mut Self>,
                context: &mut Context<'_>,
                bytes: &[u8],
            ) -> Poll<io::Result<usize>> {
                match self.get_mut() {
                    Self::Plain(inner) => Pin::new(inner).poll_write(context, bytes),
                    Self::Tls(inner) => Pin::new(inner).poll_write(context, bytes),
                }
            }

            fn poll_write_vectored(
                self: Pin<&mut Self>,
                context: &mut Context<'_>,
                slices: &[io::IoSlice<'_>],
            ) -> Poll<io::Result<usize>> {
                match self.get_mut() {
                    Self::Plain(inner) => Pin::new(inner).poll_write_vectored(context, slices),
                    Self::Tls(inner) => Pin::new(inner).poll_write_vectored(context, slices),
                }
            }

            fn is_write_vectored(&self) -> bool {
                match self {
                    Self::Plain(inner) => inner.is_write_vectored(),
                    Self::Tls(inner) => inner.is_write_vectored(),
                }
            }

            fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
                match self.get_mut() {
                    Self::Plain(inner) => Pin::new(inner).poll_flush(context),
                    Self::Tls(inner) => Pin::new(inner).poll_flush(context),
                }
            }

            fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
                match self.get_mut() {
                    Self::Plain(inner) => Pin::new(inner).poll_shutdown(context),
                    Self::Tls(inner) => Pin::new(inner).poll_shutdown(context),
                }
            }
        }
    };
}

reads!(Stream);
reads!(ReadHalf);
writes!(Stream);
writes!(WriteHalf);
