//! Joining: how a machine that is no node yet asks to become one.
//!
//! It has an application protocol (ALPN) of its own, so that nothing else can
//! be reached by a key that is not admitted. The joiner verifies the contact's
//! key (from the ticket), sends one frame, and gets one frame back:
//!
//! ```text
//! request  | version 1 u8 | ticket id 8 | proof 32 | request ...   | at most 1 KiB
//! reply    | 0 | reply ...    or    | 1 | reason, UTF-8 ...         | at most 64 KiB
//! ```
//!
//! `proof` is HMAC-SHA256 (RFC 2104) with [`crate::ticket::Secret::verifier`]
//! as its key over a value that only the two ends of this TLS session know
//! (an exporter, RFC 8446 section 7.5) and the joiner's key: overheard or
//! relayed, it is worth nothing in another session.

use std::fmt;
use std::net::SocketAddr;

use bytes::{Bytes, BytesMut};
use futures::future::BoxFuture;
use ring::hmac;
use trine_types::NodeId;

use crate::certificate::take;
use crate::error::OpenError;
use crate::ticket::Secret;

/// Largest join request on the wire, in bytes.
pub const MAX_JOIN_REQUEST_BYTES: usize = 1024;

/// Largest body of a join request: what a joiner may say about itself.
pub const MAX_JOIN_BODY_BYTES: usize = MAX_JOIN_REQUEST_BYTES - 1 - 8 - 32;

/// Largest join reply on the wire, in bytes: a certificate and who is there.
pub const MAX_JOIN_REPLY_BYTES: usize = 64 * 1024;

/// Longest reason of a refusal, in bytes; longer ones are cut.
const MAX_REASON_BYTES: usize = 512;

const VERSION: u8 = 1;
const ACCEPTED: u8 = 0;
const REFUSED: u8 = 1;

/// Bytes of the TLS exporter that proofs are bound to.
pub(crate) const EXPORTER_BYTES: usize = 32;

/// Somebody asks to join. The handler finds the ticket by its id, asks
/// [`JoinAttempt::proves`], and only then believes anything.
#[derive(Clone)]
pub struct JoinAttempt {
    /// Where it connected from.
    pub source: SocketAddr,
    /// The key that it proved in the handshake.
    pub joiner: NodeId,
    /// Which ticket it claims to hold; see [`Secret::id`].
    pub ticket: [u8; 8],
    /// What it says about itself.
    pub request: Bytes,
    proof: [u8; 32],
    session: [u8; EXPORTER_BYTES],
}

impl JoinAttempt {
    /// Whether the joiner knows the secret that `verifier` was made from (see
    /// [`Secret::verifier`]). Compares in constant time.
    #[must_use]
    pub fn proves(&self, verifier: &[u8; 32]) -> bool {
        let key = hmac::Key::new(hmac::HMAC_SHA256, verifier);
        hmac::verify(&key, &proven(&self.session, self.joiner), &self.proof).is_ok()
    }
}

impl fmt::Debug for JoinAttempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinAttempt")
            .field("source", &self.source)
            .field("joiner", &self.joiner)
            .finish_non_exhaustive()
    }
}

/// Why a handler does not admit, in words for the person at the joining
/// machine.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct JoinRefused {
    /// What is wrong and what to do next; at most 512 bytes are sent.
    pub reason: String,
}

/// Decides about join attempts; `cluster` is one.
pub trait JoinHandler: Send + Sync + 'static {
    /// Judges one attempt. The reply (at most [`MAX_JOIN_REPLY_BYTES`] - 1)
    /// goes to the joiner. The future is dropped when the joiner leaves or the
    /// time limit for joining is over.
    fn join(&self, attempt: JoinAttempt) -> BoxFuture<'static, Result<Bytes, JoinRefused>>;
}

/// Why joining failed. The ticket may have been used up in
/// [`JoinError::Interrupted`] only; asking again with the same key is safe.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JoinError {
    /// No contact of the ticket could be reached; the error of the last one.
    #[error("no contact named in the ticket can be reached: {0}")]
    NoContact(#[source] OpenError),
    /// What this machine says about itself does not fit. A bug.
    #[error("the join request has {0} bytes; the limit is {MAX_JOIN_BODY_BYTES}")]
    TooLarge(usize),
    /// The cluster said no.
    #[error("the cluster refused: {0}")]
    Refused(JoinRefused),
    /// The contact stopped answering: ask again, the outcome is unknown.
    #[error("the contact went away before it answered; try again")]
    Interrupted,
}

fn proven(session: &[u8; EXPORTER_BYTES], joiner: NodeId) -> [u8; EXPORTER_BYTES + 32] {
    let mut message = [0; EXPORTER_BYTES + 32];
    message[..EXPORTER_BYTES].copy_from_slice(session);
    message[EXPORTER_BYTES..].copy_from_slice(&joiner.0);
    message
}

/// The one frame that a joiner sends.
pub(crate) fn encode_request(
    secret: &Secret,
    joiner: NodeId,
    session: &[u8; EXPORTER_BYTES],
    request: &[u8],
) -> Result<Bytes, JoinError> {
    if request.len() > MAX_JOIN_BODY_BYTES {
        return Err(JoinError::TooLarge(request.len()));
    }
    let key = hmac::Key::new(hmac::HMAC_SHA256, &secret.verifier());
    let proof = hmac::sign(&key, &proven(session, joiner));
    let mut out = BytesMut::with_capacity(MAX_JOIN_REQUEST_BYTES);
    out.extend_from_slice(&[VERSION]);
    out.extend_from_slice(&secret.id());
    out.extend_from_slice(proof.as_ref());
    out.extend_from_slice(request);
    Ok(out.freeze())
}

/// Reads a joiner's frame; `None` when it is none of this version.
pub(crate) fn decode_request(
    frame: &Bytes,
    source: SocketAddr,
    joiner: NodeId,
    session: [u8; EXPORTER_BYTES],
) -> Option<JoinAttempt> {
    let mut rest = &frame[..];
    let [version] = take(&mut rest)?;
    let ticket = take(&mut rest)?;
    let proof = take(&mut rest)?;
    let known = version == VERSION && frame.len() <= MAX_JOIN_REQUEST_BYTES;
    known.then(|| JoinAttempt { source, joiner, ticket, request: frame.slice_ref(rest), proof, session })
}

/// The one frame that a joiner gets.
pub(crate) fn encode_reply(outcome: &Result<Bytes, JoinRefused>) -> Bytes {
    let (kind, body) = match outcome {
        Ok(reply) if reply.len() < MAX_JOIN_REPLY_BYTES => (ACCEPTED, &reply[..]),
        Ok(_) => (REFUSED, &b"the reply of the cluster is too long"[..]),
        Err(refused) => {
            let mut end = refused.reason.len().min(MAX_REASON_BYTES);
            while !refused.reason.is_char_boundary(end) {
                end -= 1;
            }
            (REFUSED, &refused.reason.as_bytes()[..end])
        }
    };
    [&[kind], body].concat().into()
}

/// Reads what a joiner gets; `None` when it is no reply.
pub(crate) fn decode_reply(frame: &Bytes) -> Option<Result<Bytes, JoinRefused>> {
    match frame.split_first()? {
        (&ACCEPTED, _) => Some(Ok(frame.slice(1..))),
        (&REFUSED, reason) => Some(Err(JoinRefused { reason: String::from_utf8_lossy(reason).into_owned() })),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const JOINER: NodeId = NodeId([3; 32]);
    const SESSION: [u8; 32] = [4; 32];

    fn source() -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], 9))
    }

    fn attempt(secret: &Secret, joiner: NodeId, session: [u8; 32]) -> JoinAttempt {
        let frame = encode_request(secret, JOINER, &SESSION, b"hello").unwrap();
        decode_request(&frame, source(), joiner, session).unwrap()
    }

    #[test]
    fn a_proof_holds_for_its_secret_session_and_joiner_only() {
        let secret = Secret([1; 16]);
        let good = attempt(&secret, JOINER, SESSION);
        assert!(good.proves(&secret.verifier()));
        assert_eq!((good.ticket, &good.request[..]), (secret.id(), &b"hello"[..]));
        assert!(!good.proves(&Secret([2; 16]).verifier()));
        assert!(!attempt(&secret, NodeId([9; 32]), SESSION).proves(&secret.verifier()), "another joiner");
        assert!(!attempt(&secret, JOINER, [9; 32]).proves(&secret.verifier()), "relayed to another session");
    }

    #[test]
    fn too_much_is_not_sent() {
        let body = [0; MAX_JOIN_BODY_BYTES + 1];
        let error = encode_request(&Secret([1; 16]), JOINER, &SESSION, &body).unwrap_err();
        assert_eq!(error, JoinError::TooLarge(body.len()));
        let largest = encode_request(&Secret([1; 16]), JOINER, &SESSION, &body[1..]).unwrap();
        assert_eq!(largest.len(), MAX_JOIN_REQUEST_BYTES);
    }

    proptest! {
        #[test]
        fn replies_round_trip(reply in prop_oneof![
            prop::collection::vec(any::<u8>(), 0..100).prop_map(|bytes| Ok(Bytes::from(bytes))),
            "\\PC{0,100}".prop_map(|reason| Err(JoinRefused { reason })),
        ]) {
            prop_assert_eq!(decode_reply(&encode_reply(&reply)), Some(reply));
        }

        #[test]
        fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            let bytes = Bytes::from(bytes);
            let _ = decode_reply(&bytes);
            let _ = decode_request(&bytes, source(), JOINER, SESSION);
        }
    }
}
