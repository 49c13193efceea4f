//! The dialler's side of a handshake, for lanes and for joining.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use trine_types::NodeId;

use super::greeting::{MAX_GREETING_BYTES, decode_acceptor, encode_dialler};
use super::keys::{JOIN, LANES};
use super::socket::{prepare, second_handle};
use super::stream::{connection, read_frame, write_frame};
use super::transport::Shared;
use crate::error::{OpenError, UnreachableCause};
use crate::join::{self, EXPORTER_BYTES, JoinError, MAX_JOIN_REPLY_BYTES};
use crate::lane::Lane;
use crate::ticket::{Contact, Ticket};
use crate::transport::Connection;

/// The exporter's label (RFC 8446, section 7.5).
pub(super) const EXPORTER_LABEL: &[u8] = b"EXPORTER-trine-join";

/// Opens a lane at the first of the peer's addresses that works.
pub(super) async fn open(shared: Arc<Shared>, peer: NodeId, lane: Lane) -> Result<Connection, OpenError> {
    if shared.is_stopped() {
        return Err(OpenError::ShutDown);
    }
    let mut last = OpenError::UnknownAddress;
    for address in shared.addresses(peer) {
        match within(&shared, open_at(&shared, peer, lane, address)).await {
            Ok(connection) => return Ok(connection),
            Err(error) => last = error,
        }
    }
    Err(last)
}

async fn within<T>(
    shared: &Shared,
    attempt: impl Future<Output = Result<T, OpenError>>,
) -> Result<T, OpenError> {
    let limit = shared.config.handshake_timeout;
    timeout(limit, attempt).await.unwrap_or(Err(OpenError::Unreachable(UnreachableCause::TimedOut)))
}

async fn open_at(
    shared: &Arc<Shared>,
    peer: NodeId,
    lane: Lane,
    address: SocketAddr,
) -> Result<Connection, OpenError> {
    let own = shared.trust().certificate.clone();
    let own = own.ok_or(OpenError::Refused(crate::error::RefusalReason::BadCertificate))?;
    let mut session = shake_hands(shared, peer, address, LANES).await?;
    write_frame(&mut session, encode_dialler(lane, &own)).await.map_err(|error| broken(&error))?;
    let mut buffer = BytesMut::new();
    let frame = read_frame(&mut session, &mut buffer, MAX_GREETING_BYTES).await;
    let theirs = decode_acceptor(&frame.map_err(|error| broken(&error))?).map_err(OpenError::Refused)?;
    shared
        .trust()
        .admit(peer, &theirs, shared.clock.wall_ms())
        .map_err(|_| OpenError::WrongPeer("its admission certificate is not valid here"))?;
    let socket = second_handle(session.get_ref().0).map_err(|error| broken(&error))?;
    let connection = connection(&shared.config, (peer, lane), session, socket, buffer);
    shared.enter(peer, &theirs, &connection.closer);
    Ok(connection)
}

async fn shake_hands(
    shared: &Shared,
    peer: NodeId,
    address: SocketAddr,
    protocol: &[u8],
) -> Result<TlsStream<TcpStream>, OpenError> {
    let failed = |error: io::Error| OpenError::Unreachable(UnreachableCause::Io(error.kind()));
    let stream = timeout(shared.config.connect_timeout, TcpStream::connect(address))
        .await
        .map_err(|_| OpenError::Unreachable(UnreachableCause::TimedOut))?
        .map_err(failed)?;
    prepare(&stream, shared.config.dead_after).map_err(failed)?;
    let config = shared
        .keys
        .client(peer, protocol)
        .map_err(|_| OpenError::WrongPeer("the TLS settings are not usable"))?;
    // Names play no part: the key is the name.
    let name = ServerName::from(address.ip());
    TlsConnector::from(Arc::new(config)).connect(name, stream).await.map_err(|error| broken(&error))
}

/// A failed handshake or greeting in words.
fn broken(error: &io::Error) -> OpenError {
    let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match tls {
        Some(rustls::Error::InvalidCertificate(_)) => OpenError::WrongPeer("it proved another key"),
        Some(_) => OpenError::WrongPeer("it does not speak this protocol"),
        None => OpenError::Unreachable(UnreachableCause::Broken),
    }
}

/// Asks the ticket's contacts in turn until one answers.
pub(super) async fn join(shared: Arc<Shared>, ticket: Ticket, request: Bytes) -> Result<Bytes, JoinError> {
    let mut last = OpenError::UnknownAddress;
    for contact in &ticket.contacts {
        let attempt = shake_hands(&shared, contact.node, contact.address, JOIN);
        match within(&shared, attempt).await {
            Ok(session) => return ask(&shared, session, &ticket, contact, &request).await,
            Err(error) => last = error,
        }
    }
    Err(JoinError::NoContact(last))
}

async fn ask(
    shared: &Shared,
    mut session: TlsStream<TcpStream>,
    ticket: &Ticket,
    contact: &Contact,
    request: &[u8],
) -> Result<Bytes, JoinError> {
    let exported = session.get_ref().1.export_keying_material([0; EXPORTER_BYTES], EXPORTER_LABEL, None);
    let Ok(exported) = exported else {
        let reason = OpenError::WrongPeer("its TLS session exports no key");
        return Err(JoinError::NoContact(reason));
    };
    let frame = join::encode_request(&ticket.secret, shared.local, &exported, request)?;
    let talking = async {
        write_frame(&mut session, frame).await?;
        read_frame(&mut session, &mut BytesMut::new(), MAX_JOIN_REPLY_BYTES).await
    };
    let limit = shared.config.join_timeout + shared.config.handshake_timeout;
    let frame = timeout(limit, talking).await.map_err(|_| JoinError::Interrupted)?;
    let reply = frame.ok().and_then(|frame| join::decode_reply(&frame)).ok_or_else(|| {
        tracing::debug!(contact = %contact.address, "the contact broke off");
        JoinError::Interrupted
    })?;
    reply.map_err(JoinError::Refused)
}
