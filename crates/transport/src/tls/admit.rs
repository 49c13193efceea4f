//! The acceptor's side of a handshake: who is it, and what may it do.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::BytesMut;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use trine_types::NodeId;

use super::dial::EXPORTER_LABEL;
use super::greeting::{MAX_GREETING_BYTES, decode_dialler, encode_acceptor};
use super::keys::{JOIN, LANES, node_of};
use super::socket::{prepare, second_handle};
use super::stream::{connection, read_frame, write_frame};
use super::transport::Shared;
use crate::certificate::AdmissionCertificate;
use crate::error::RefusalReason;
use crate::join::{self, EXPORTER_BYTES, JoinAttempt, JoinHandler, JoinRefused, MAX_JOIN_REQUEST_BYTES};
use crate::lane::Lane;
use crate::transport::Connection;

/// What a stranger turned out to be.
pub(super) enum Guest {
    /// An admitted node; its connection is up.
    Node(Connection),
    /// A machine that asks to join.
    Joiner(Box<Joiner>),
    /// Nobody: refused, silent or broken.
    Nobody,
}

/// A join attempt and where its answer goes.
pub(super) struct Joiner {
    session: TlsStream<TcpStream>,
    attempt: JoinAttempt,
}

/// Shakes hands and hears the greeting, within the time limit.
pub(super) async fn receive(shared: Arc<Shared>, stream: TcpStream, source: SocketAddr) -> Guest {
    let limit = shared.config.handshake_timeout;
    match timeout(limit, shake_hands(&shared, stream, source)).await {
        Ok(Ok(guest)) => guest,
        Ok(Err(error)) => {
            tracing::debug!(%source, %error, "handshake failed");
            Guest::Nobody
        }
        Err(_) => {
            tracing::debug!(%source, "handshake took too long");
            Guest::Nobody
        }
    }
}

async fn shake_hands(shared: &Arc<Shared>, stream: TcpStream, source: SocketAddr) -> io::Result<Guest> {
    prepare(&stream, shared.config.dead_after)?;
    let session = TlsAcceptor::from(shared.server.clone()).accept(stream).await?;
    let tls = session.get_ref().1;
    let key = tls.peer_certificates().and_then(<[_]>::first).and_then(|spki| node_of(spki));
    let key = key.ok_or(io::ErrorKind::InvalidData)?;
    match tls.alpn_protocol() {
        Some(LANES) => greet(shared, session, key, source).await,
        Some(JOIN) => hear_joiner(session, key, source).await,
        _ => Err(io::ErrorKind::Unsupported.into()),
    }
}

async fn greet(
    shared: &Arc<Shared>,
    mut session: TlsStream<TcpStream>,
    peer: NodeId,
    source: SocketAddr,
) -> io::Result<Guest> {
    let mut buffer = BytesMut::new();
    let frame = read_frame(&mut session, &mut buffer, MAX_GREETING_BYTES).await?;
    match judge(shared, peer, &frame) {
        Ok((lane, theirs, own)) => {
            let socket = second_handle(session.get_ref().0)?;
            write_frame(&mut session, encode_acceptor(&Ok(own))).await?;
            let connection = connection(&shared.config, (peer, lane), session, socket, buffer);
            shared.enter(peer, &theirs, &connection.closer);
            Ok(Guest::Node(connection))
        }
        Err(reason) => {
            tracing::info!(%source, peer = %peer.short(), %reason, "refused a connection");
            write_frame(&mut session, encode_acceptor(&Err(reason))).await?;
            tokio::io::AsyncWriteExt::shutdown(&mut session).await?;
            Ok(Guest::Nobody)
        }
    }
}

type Judged = (Lane, AdmissionCertificate, AdmissionCertificate);

fn judge(shared: &Shared, peer: NodeId, greeting: &[u8]) -> Result<Judged, RefusalReason> {
    let (lane, theirs) = decode_dialler(greeting)?;
    let trust = shared.trust();
    trust.admit(peer, &theirs, shared.clock.wall_ms())?;
    let own = trust.certificate.clone().ok_or(RefusalReason::OtherCluster)?;
    Ok((lane, theirs, own))
}

async fn hear_joiner(
    mut session: TlsStream<TcpStream>,
    joiner: NodeId,
    source: SocketAddr,
) -> io::Result<Guest> {
    let invalid = |_| io::Error::from(io::ErrorKind::InvalidData);
    let tls = session.get_ref().1;
    let exported = tls.export_keying_material([0; EXPORTER_BYTES], EXPORTER_LABEL, None).map_err(invalid)?;
    let frame = read_frame(&mut session, &mut BytesMut::new(), MAX_JOIN_REQUEST_BYTES).await?;
    match join::decode_request(&frame, source, joiner, exported) {
        Some(attempt) => Ok(Guest::Joiner(Box::new(Joiner { session, attempt }))),
        None => Err(io::ErrorKind::InvalidData.into()),
    }
}

impl Joiner {
    pub(super) fn source(&self) -> SocketAddr {
        self.attempt.source
    }

    /// Lets `handler` judge (`None`: nobody does) and sends the answer.
    pub(super) async fn answer(self, handler: Option<Arc<dyn JoinHandler>>, shared: Arc<Shared>) {
        let Self { mut session, attempt } = self;
        let judging = async {
            match handler {
                Some(handler) => handler.join(attempt).await,
                None => Err(refused("this node cannot admit others yet; try another contact, or later")),
            }
        };
        let outcome = timeout(shared.config.join_timeout, judging)
            .await
            .unwrap_or_else(|_| Err(refused("the cluster did not decide in time; try again")));
        let sending = async {
            write_frame(&mut session, join::encode_reply(&outcome)).await?;
            tokio::io::AsyncWriteExt::shutdown(&mut session).await
        };
        // A joiner that has gone asks again if it wants to know.
        let _ = timeout(shared.config.handshake_timeout, sending).await;
    }

    /// Turns the joiner away for now.
    pub(super) async fn turn_away(self, shared: Arc<Shared>) {
        let Self { mut session, .. } = self;
        let busy = Err(refused("too many machines are joining at once; try again in a moment"));
        let sending = write_frame(&mut session, join::encode_reply(&busy));
        let _ = timeout(shared.config.handshake_timeout, sending).await;
    }
}

fn refused(reason: &str) -> JoinRefused {
    JoinRefused { reason: reason.to_owned() }
}
