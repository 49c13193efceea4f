//! Accepting connections, and what comes before the first operation: INFO,
//! TLS before or after it, a WebSocket's handshake.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;
use trine_front::tls::{Stream, TlsAcceptor};
use trine_front::{Accepted, Listener};

use super::connection::{Connection, Shown};
use super::websocket;
use crate::nats::client::Client;
use crate::nats::encode;
use crate::nats::handle::{Entrance, Nats, Phase, Shared, TlsFirst};
use crate::nats::info::Security;

/// What a connection over the limit is sent, to be given to the listener.
pub const TOO_MANY_CONNECTIONS: &[u8] = b"-ERR 'maximum connections exceeded'\r\n";

/// Longest that a greeting may take; a handshake has a limit of its own.
const GREETING_LIMIT: Duration = Duration::from_secs(5);

/// First byte of a TLS handshake.
const TLS_HANDSHAKE: u8 = 0x16;

impl Nats {
    /// Serves the connections of `listener` until [`Nats::shut_down`], or
    /// until the last one has left in lame duck mode. Dropping the future ends
    /// all of them at once.
    pub async fn serve(self, listener: Listener, entrance: Entrance) {
        let shared = self.shared;
        let mut news = shared.news.subscribe();
        let mut changes = shared.login.changes();
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                biased;
                _ = news.wait_for(|news| news.phase != Phase::Open) => break,
                Some(_) = connections.join_next(), if !connections.is_empty() => {}
                Ok(()) = changes.changed() => shared.news.send_modify(|news| news.rights += 1),
                accepted = listener.accept() => {
                    connections.spawn(connection(shared.clone(), accepted, entrance.clone()));
                }
            }
        }
        drop(listener);
        while connections.join_next().await.is_some() {}
    }
}

/// One connection from its first byte to its last.
async fn connection(shared: Arc<Shared>, accepted: Accepted, entrance: Entrance) {
    let Accepted { stream, peer, permit, .. } = accepted;
    let client = shared.enter(peer);
    if let Err(error) = enter(&shared, stream, &client, entrance).await {
        tracing::debug!(cid = client.cid, %peer, %error, "connection ended before it began");
    }
    shared.leave(&client);
    drop(permit);
}

async fn enter(
    shared: &Arc<Shared>,
    stream: TcpStream,
    client: &Arc<Client>,
    entrance: Entrance,
) -> io::Result<()> {
    match entrance {
        Entrance::Plain => {
            talk(shared, stream, client, Security::default()).await;
        }
        Entrance::Tls { acceptor, verify, first } => {
            let security = Security { tls_required: true, tls_verify: verify, ..Security::default() };
            encrypted(shared, stream, client, &acceptor, security, first).await?;
        }
        Entrance::WebSocket(None) => {
            let stream = websocket::accept(Stream::from(stream), GREETING_LIMIT).await?;
            talk(shared, stream, client, Security::default()).await;
        }
        Entrance::WebSocket(Some(acceptor)) => {
            let stream = acceptor.accept(stream).await.map_err(io::Error::other)?;
            let security = Security { tls_required: true, ..Security::default() };
            talk(shared, websocket::accept(stream, GREETING_LIMIT).await?, client, security).await;
        }
    }
    Ok(())
}

async fn encrypted(
    shared: &Arc<Shared>,
    mut stream: TcpStream,
    client: &Arc<Client>,
    acceptor: &TlsAcceptor,
    security: Security,
    first: TlsFirst,
) -> io::Result<()> {
    let begins = match first {
        TlsFirst::No => false,
        TlsFirst::Always => true,
        TlsFirst::Within(limit) => begins_tls(&stream, limit).await,
    };
    if begins {
        let stream = acceptor.accept(stream).await.map_err(io::Error::other)?;
        talk(shared, stream, client, security).await;
        return Ok(());
    }
    let mut greeting = shared.greeting(client, security);
    let mut line = Vec::new();
    encode::info(&mut line, &shared.info_json(client, &mut greeting));
    within(stream.write_all(&line)).await?;
    let stream = acceptor.accept(stream).await.map_err(io::Error::other)?;
    spoken(shared, stream, client, greeting).await;
    Ok(())
}

/// Whether the client begins a TLS handshake by itself within `limit`.
async fn begins_tls(stream: &TcpStream, limit: Duration) -> bool {
    let mut first = [0];
    matches!(timeout(limit, stream.peek(&mut first)).await, Ok(Ok(1))) && first[0] == TLS_HANDSHAKE
}

/// Says INFO, and serves.
async fn talk<S>(shared: &Arc<Shared>, stream: S, client: &Arc<Client>, security: Security)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut greeting = shared.greeting(client, security);
    let json = shared.info_json(client, &mut greeting);
    let _ = client.outbox.append(|out| encode::info(out, &json));
    spoken(shared, stream, client, greeting).await;
}

/// Serves a client that has read INFO.
async fn spoken<S>(shared: &Arc<Shared>, stream: S, client: &Arc<Client>, greeting: Shown)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    Connection::new(shared.clone(), stream, client.clone(), greeting).run().await;
}

/// Bounds a part of the greeting.
async fn within<T>(work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    timeout(GREETING_LIMIT, work).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
}
