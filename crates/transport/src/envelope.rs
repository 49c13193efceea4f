//! What a frame between two endpoints says: a call, a notice, or the reply to
//! a call.
//!
//! ```text
//! call     | 1 | service u16 | id u64 | body ...      |
//! notice   | 2 | service u16 | body ...               |
//! reply    | 3 | id u64 | body ...                    |
//! refusal  | 4 | id u64 | code u8 | detail ...        |   all little-endian
//! ```
//!
//! The id is the caller's: unique among its calls in flight on a connection.

use bytes::{Buf, Bytes};

use crate::error::CallRefused;
use crate::frame::Frame;
use crate::lane::Service;

const CALL: u8 = 1;
const NOTICE: u8 = 2;
const REPLY: u8 = 3;
const REFUSAL: u8 = 4;

const UNKNOWN_SERVICE: u8 = 0;
const UNAVAILABLE: u8 = 1;
const MALFORMED: u8 = 2;
const REJECTED: u8 = 3;

/// Bytes that an envelope adds to a body, at most.
pub const ENVELOPE_BYTES: usize = 11;

/// One decoded frame between endpoints.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Envelope {
    /// Asks for a reply with the same id.
    Call {
        /// Who shall handle it.
        service: Service,
        /// Chosen by the caller.
        id: u64,
        /// The service's own encoding.
        body: Bytes,
    },
    /// Asks for nothing.
    Notice {
        /// Who shall handle it.
        service: Service,
        /// The service's own encoding.
        body: Bytes,
    },
    /// Answers a call.
    Reply {
        /// The call's id.
        id: u64,
        /// The handler's answer.
        answer: Result<Bytes, CallRefused>,
    },
}

/// The frame was not an envelope: the peer speaks something else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an envelope of this protocol")]
pub struct NotAnEnvelope;

impl Envelope {
    /// The frame that carries this envelope; a body is not copied.
    #[must_use]
    pub fn into_frame(self) -> Frame {
        match self {
            Self::Call { service, id, body } => {
                let mut head = [CALL; 11];
                head[1..3].copy_from_slice(&service.0.to_le_bytes());
                head[3..].copy_from_slice(&id.to_le_bytes());
                Frame::new(&head, body)
            }
            Self::Notice { service, body } => {
                let mut head = [NOTICE; 3];
                head[1..].copy_from_slice(&service.0.to_le_bytes());
                Frame::new(&head, body)
            }
            Self::Reply { id, answer: Ok(body) } => {
                let mut head = [REPLY; 9];
                head[1..].copy_from_slice(&id.to_le_bytes());
                Frame::new(&head, body)
            }
            Self::Reply { id, answer: Err(refused) } => {
                let (code, detail) = match refused {
                    CallRefused::UnknownService => (UNKNOWN_SERVICE, Bytes::new()),
                    CallRefused::Unavailable => (UNAVAILABLE, Bytes::new()),
                    CallRefused::Malformed => (MALFORMED, Bytes::new()),
                    CallRefused::Rejected(detail) => (REJECTED, detail),
                };
                let mut head = [REFUSAL; 10];
                head[1..9].copy_from_slice(&id.to_le_bytes());
                head[9] = code;
                Frame::new(&head, detail)
            }
        }
    }

    /// Reads an envelope; the body shares the frame's memory.
    ///
    /// # Errors
    /// [`NotAnEnvelope`] when the frame is none: close the connection.
    pub fn decode(mut frame: Bytes) -> Result<Self, NotAnEnvelope> {
        match frame.try_get_u8().map_err(|_| NotAnEnvelope)? {
            CALL => {
                let service = Service(frame.try_get_u16_le().map_err(|_| NotAnEnvelope)?);
                let id = frame.try_get_u64_le().map_err(|_| NotAnEnvelope)?;
                Ok(Self::Call { service, id, body: frame })
            }
            NOTICE => {
                let service = Service(frame.try_get_u16_le().map_err(|_| NotAnEnvelope)?);
                Ok(Self::Notice { service, body: frame })
            }
            REPLY => {
                let id = frame.try_get_u64_le().map_err(|_| NotAnEnvelope)?;
                Ok(Self::Reply { id, answer: Ok(frame) })
            }
            REFUSAL => {
                let id = frame.try_get_u64_le().map_err(|_| NotAnEnvelope)?;
                let refused = match frame.try_get_u8().map_err(|_| NotAnEnvelope)? {
                    UNKNOWN_SERVICE => CallRefused::UnknownService,
                    UNAVAILABLE => CallRefused::Unavailable,
                    MALFORMED => CallRefused::Malformed,
                    REJECTED => CallRefused::Rejected(frame),
                    _ => return Err(NotAnEnvelope),
                };
                Ok(Self::Reply { id, answer: Err(refused) })
            }
            _ => Err(NotAnEnvelope),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bytes() -> impl Strategy<Value = Bytes> {
        prop::collection::vec(any::<u8>(), 0..64).prop_map(Bytes::from)
    }

    fn answer() -> impl Strategy<Value = Result<Bytes, CallRefused>> {
        prop_oneof![
            bytes().prop_map(Ok),
            bytes().prop_map(|detail| Err(CallRefused::Rejected(detail))),
            Just(Err(CallRefused::UnknownService)),
            Just(Err(CallRefused::Unavailable)),
            Just(Err(CallRefused::Malformed)),
        ]
    }

    fn envelope() -> impl Strategy<Value = Envelope> {
        prop_oneof![
            (any::<u16>(), any::<u64>(), bytes()).prop_map(|(service, id, body)| Envelope::Call {
                service: Service(service),
                id,
                body
            }),
            (any::<u16>(), bytes()).prop_map(|(s, body)| Envelope::Notice { service: Service(s), body }),
            (any::<u64>(), answer()).prop_map(|(id, answer)| Envelope::Reply { id, answer }),
        ]
    }

    proptest! {
        #[test]
        fn round_trip(envelope in envelope()) {
            let frame = envelope.clone().into_frame();
            prop_assert!(frame.head().len() <= ENVELOPE_BYTES);
            prop_assert_eq!(Envelope::decode(frame.into_bytes()), Ok(envelope));
        }

        #[test]
        fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            let _ = Envelope::decode(Bytes::from(bytes));
        }
    }
}
