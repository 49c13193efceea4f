//! The protocol inside a WebSocket: binary messages in both directions, whose
//! borders mean nothing.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes};
use futures::{Sink, Stream as _};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error, Message};
use trine_front::tls::Stream;

use crate::message::MAX_MESSAGE_BYTES;

/// Most bytes that leave in one frame: browsers hand a frame on when it is
/// complete.
const FRAME_BYTES: usize = 64 * 1024;

/// Largest frame or message from a client: one of ours with its line.
const MAX_IN_BYTES: usize = MAX_MESSAGE_BYTES + 64 * 1024;

/// A WebSocket as a stream of bytes.
pub(super) struct WebSocket {
    inner: WebSocketStream<Stream>,
    /// What came and was not read yet.
    rest: Bytes,
}

/// Shakes hands as the server.
pub(super) async fn accept(stream: Stream, limit: Duration) -> io::Result<WebSocket> {
    let config =
        WebSocketConfig::default().max_message_size(Some(MAX_IN_BYTES)).max_frame_size(Some(MAX_IN_BYTES));
    let handshake = tokio_tungstenite::accept_async_with_config(stream, Some(config));
    let inner = tokio::time::timeout(limit, handshake)
        .await
        .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
        .map_err(plain)?;
    Ok(WebSocket { inner, rest: Bytes::new() })
}

fn plain(error: Error) -> io::Error {
    match error {
        Error::Io(error) => error,
        Error::ConnectionClosed | Error::AlreadyClosed => io::ErrorKind::BrokenPipe.into(),
        other => io::Error::other(other),
    }
}

impl AsyncRead for WebSocket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        while this.rest.is_empty() {
            match ready!(Pin::new(&mut this.inner).poll_next(cx)) {
                Some(Ok(Message::Binary(bytes))) => this.rest = bytes,
                Some(Ok(Message::Text(text))) => this.rest = text.into(),
                // Pings are answered inside.
                Some(Ok(_)) => {}
                None | Some(Err(Error::ConnectionClosed | Error::AlreadyClosed)) => {
                    return Poll::Ready(Ok(()));
                }
                Some(Err(error)) => return Poll::Ready(Err(plain(error))),
            }
        }
        let length = this.rest.len().min(into.remaining());
        into.put_slice(&this.rest[..length]);
        this.rest.advance(length);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for WebSocket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let mut inner = Pin::new(&mut self.get_mut().inner);
        ready!(inner.as_mut().poll_ready(cx)).map_err(plain)?;
        let length = bytes.len().min(FRAME_BYTES);
        let frame = Message::Binary(Bytes::copy_from_slice(&bytes[..length]));
        inner.start_send(frame).map_err(plain)?;
        Poll::Ready(Ok(length))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_flush(cx).map_err(plain)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_close(cx).map_err(plain)
    }
}
