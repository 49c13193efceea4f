//! Bytes of a message between members (postcard: numbers as LEB128, options
//! and enums tagged by one such number, lists after their length):
//!
//! ```text
//! | version u8 | start | refuted | load | kind | kind's fields | n | n updates |
//! update: | member | start | refuted | state | m | m members who suspect     |
//! ```

use bytes::Bytes;

use super::message::{MAX_FRESH, MAX_REPEATED, Message};
use super::profile::MAX_PROFILE_BYTES;
use super::suspicion::MAX_SUSPECTING;

const VERSION: u8 = 1;
/// Longest message: every update names its suspecting members, each number
/// and life at its longest, beside a profile.
pub const MAX_MESSAGE_BYTES: usize =
    64 + MAX_PROFILE_BYTES + (MAX_FRESH + MAX_REPEATED) * (10 + 16 + 2 + 10 * MAX_SUSPECTING);

/// The bytes were not a message of this version, or break its bounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a message between members of this version; it was ignored")]
pub struct NotAMessage;

/// Writes a message.
#[must_use]
pub fn encode(message: &Message) -> Bytes {
    postcard::to_extend(message, vec![VERSION]).map(Bytes::from).unwrap_or_default()
}

/// Reads a message.
///
/// # Errors
/// [`NotAMessage`]; ignore it.
pub fn decode(bytes: &[u8]) -> Result<Message, NotAMessage> {
    let body = match bytes.split_first() {
        Some((&VERSION, body)) if bytes.len() <= MAX_MESSAGE_BYTES => body,
        _ => return Err(NotAMessage),
    };
    let message: Message = postcard::from_bytes(body).map_err(|_| NotAMessage)?;
    let fits = message.updates.len() <= MAX_FRESH + MAX_REPEATED
        && message.updates.iter().all(|update| update.by.len() <= MAX_SUSPECTING);
    if fits { Ok(message) } else { Err(NotAMessage) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use trine_types::NodeNumber;

    use super::*;
    use crate::members::life::{Belief, Life, State};
    use crate::members::message::{Kind, Update};

    fn life() -> impl Strategy<Value = Life> {
        (any::<u64>(), any::<u32>()).prop_map(|(start, refuted)| Life { start, refuted })
    }

    fn belief() -> impl Strategy<Value = Belief> {
        let states = [State::Alive, State::Suspect, State::Failed, State::Left];
        (life(), prop::sample::select(states.to_vec())).prop_map(|(life, state)| Belief { life, state })
    }

    fn number() -> impl Strategy<Value = NodeNumber> {
        any::<u64>().prop_map(NodeNumber)
    }

    fn kind() -> impl Strategy<Value = Kind> {
        let profile = prop::collection::vec(any::<u8>(), 0..MAX_PROFILE_BYTES);
        prop_oneof![
            (any::<u32>(), belief(), any::<u32>()).prop_map(|(probe, you, knows)| Kind::Ping {
                probe,
                you,
                knows
            }),
            (any::<u32>(), prop::option::of(profile))
                .prop_map(|(probe, profile)| Kind::Ack { probe, profile }),
            (any::<u32>(), number(), any::<u16>()).prop_map(|(probe, target, wait_ms)| Kind::PingFor {
                probe,
                target,
                wait_ms
            }),
            any::<u32>().prop_map(|probe| Kind::AckFor { probe }),
            any::<u32>().prop_map(|probe| Kind::NackFor { probe }),
            Just(Kind::Gossip),
        ]
    }

    fn update() -> impl Strategy<Value = Update> {
        (number(), belief(), prop::collection::vec(number(), 0..=MAX_SUSPECTING))
            .prop_map(|(member, belief, by)| Update { member, belief, by })
    }

    proptest! {
        #[test]
        fn round_trip(
            life in life(), load in any::<u16>(), kind in kind(),
            updates in prop::collection::vec(update(), 0..=MAX_FRESH + MAX_REPEATED),
        ) {
            let message = Message { life, load, kind, updates };
            let bytes = encode(&message);
            prop_assert!(bytes.len() <= MAX_MESSAGE_BYTES);
            prop_assert_eq!(decode(&bytes), Ok(message));
        }

        #[test]
        fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            let _ = decode(&bytes);
        }
    }
}
