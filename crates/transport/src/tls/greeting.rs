//! The first frame each way on a lane: who I am, and may I.
//!
//! ```text
//! dialler   | "trine" 5 | version 1 u8 | lane u8 | certificate ... |
//! acceptor  | 0 u8 | certificate ... |    or    | reason u8 |       then it closes
//! ```
//!
//! Nothing else is read from the dialler before its greeting was accepted.

use bytes::Bytes;

use crate::certificate::{AdmissionCertificate, MAX_CERTIFICATE_BYTES};
use crate::error::RefusalReason;
use crate::lane::Lane;

/// Largest greeting, in bytes.
pub(super) const MAX_GREETING_BYTES: usize = 16 + MAX_CERTIFICATE_BYTES;

const START: &[u8] = b"trine\x01";
const WELCOME: u8 = 0;

/// Every reason; its position here plus one is its byte on the wire.
const REASONS: [RefusalReason; 7] = [
    RefusalReason::BadCertificate,
    RefusalReason::OtherKey,
    RefusalReason::OtherCluster,
    RefusalReason::Expired,
    RefusalReason::Revoked,
    RefusalReason::BadGreeting,
    RefusalReason::Busy,
];

/// The dialler's greeting.
pub(super) fn encode_dialler(lane: Lane, certificate: &AdmissionCertificate) -> Bytes {
    [START, &[lane.number()], &certificate.encode()].concat().into()
}

/// Reads the dialler's greeting.
pub(super) fn decode_dialler(frame: &[u8]) -> Result<(Lane, AdmissionCertificate), RefusalReason> {
    let rest = frame.strip_prefix(START).ok_or(RefusalReason::BadGreeting)?;
    let (lane, certificate) = rest.split_first().ok_or(RefusalReason::BadGreeting)?;
    let lane = Lane::from_number(*lane).ok_or(RefusalReason::BadGreeting)?;
    let certificate = AdmissionCertificate::decode(certificate).map_err(|_| RefusalReason::BadCertificate)?;
    Ok((lane, certificate))
}

/// The acceptor's greeting.
pub(super) fn encode_acceptor(answer: &Result<AdmissionCertificate, RefusalReason>) -> Bytes {
    match answer {
        Ok(certificate) => [&[WELCOME][..], &certificate.encode()].concat().into(),
        Err(reason) => {
            let position = REASONS.iter().position(|known| known == reason).unwrap_or(0);
            vec![u8::try_from(position + 1).unwrap_or(u8::MAX)].into()
        }
    }
}

/// Reads the acceptor's greeting.
pub(super) fn decode_acceptor(frame: &[u8]) -> Result<AdmissionCertificate, RefusalReason> {
    match frame.split_first() {
        Some((&WELCOME, certificate)) => {
            AdmissionCertificate::decode(certificate).map_err(|_| RefusalReason::BadCertificate)
        }
        Some((&reason, [])) => {
            let known = usize::from(reason).checked_sub(1).and_then(|position| REASONS.get(position));
            Err(known.copied().unwrap_or(RefusalReason::BadGreeting))
        }
        _ => Err(RefusalReason::BadGreeting),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::certificate::tests::admission;
    use crate::identity::IssuingKey;
    use proptest::prelude::*;
    use trine_types::NodeId;

    #[test]
    fn greetings_round_trip() {
        let certificate =
            AdmissionCertificate::issue(admission(NodeId([1; 32])), &IssuingKey::from_seed([2; 32]));
        for lane in Lane::ALL {
            let frame = encode_dialler(lane, &certificate);
            assert!(frame.len() <= MAX_GREETING_BYTES);
            assert_eq!(decode_dialler(&frame), Ok((lane, certificate.clone())));
        }
        let answers = REASONS.into_iter().map(Err).chain([Ok(certificate)]);
        for answer in answers {
            let frame = encode_acceptor(&answer);
            assert!(frame.len() <= MAX_GREETING_BYTES);
            assert_eq!(decode_acceptor(&frame), answer);
        }
    }

    proptest! {
        #[test]
        fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = decode_acceptor(&bytes);
            let _ = decode_dialler(&bytes);
            let _ = decode_dialler(&[START, &bytes].concat());
        }
    }
}
