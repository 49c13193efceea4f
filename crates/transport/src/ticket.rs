//! Tickets: one line of text that lets a machine join a cluster.
//!
//! ```text
//! trine-<base32, lower case, without padding, of>
//! | version 1 u8 | cluster 16 | secret 16 | not after u64 ms | contacts u8 |
//! | per contact: 4 or 6 u8, address 4 or 16, port u16, key 32 |
//! | checksum 4: the first bytes of SHA-256 over all before |   little-endian
//! ```
//!
//! The secret never travels: the joiner proves that it knows it by a MAC over
//! what only the two ends of its TLS session know (see [`crate::join`]). The
//! cluster stores [`Secret::id`] and [`Secret::verifier`].

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use bytes::{Buf, BufMut};
use data_encoding::BASE32_NOPAD;
use ring::digest::{SHA256, digest};
use trine_types::{ClusterId, Entropy, NodeId};

use crate::certificate::take;

/// Most contacts of one ticket.
pub const MAX_CONTACTS: usize = 3;

/// Longest text that is looked at, in characters; a real ticket has fewer.
pub const MAX_TICKET_CHARS: usize = 1024;

const PREFIX: &str = "trine-";
const VERSION: u8 = 1;
const CHECKSUM_BYTES: usize = 4;

/// The one-time secret of a ticket.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Secret(pub [u8; 16]);

impl Secret {
    /// A new secret.
    #[must_use]
    pub fn generate(entropy: &dyn Entropy) -> Self {
        let mut bytes = [0; 16];
        entropy.fill(&mut bytes);
        Self(bytes)
    }

    /// Names the ticket without telling the secret.
    #[must_use]
    pub fn id(&self) -> [u8; 8] {
        let mut id = [0; 8];
        id.copy_from_slice(&self.hash(b"trine ticket id v1\0")[..8]);
        id
    }

    /// The key that a joiner's proof is verified with.
    #[must_use]
    pub fn verifier(&self) -> [u8; 32] {
        self.hash(b"trine ticket verifier v1\0")
    }

    fn hash(&self, context: &[u8]) -> [u8; 32] {
        let mut hash = [0; 32];
        hash.copy_from_slice(digest(&SHA256, &[context, &self.0].concat()).as_ref());
        hash
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// A node to join through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Contact {
    /// Where it listens for nodes.
    pub address: SocketAddr,
    /// The key that it must prove.
    pub node: NodeId,
}

/// A ticket. `Display` gives its line of text, `FromStr` reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ticket {
    /// The cluster to join.
    pub cluster: ClusterId,
    /// One to [`MAX_CONTACTS`] nodes, tried in this order.
    pub contacts: Vec<Contact>,
    /// Proves the right to join.
    pub secret: Secret,
    /// When it expires, in ms of wall clock since the Unix epoch. For people:
    /// the cluster decides by its own record.
    pub not_after_ms: u64,
}

/// Why a text is no usable ticket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TicketError {
    /// Something else altogether.
    #[error(
        "this is not a ticket: a ticket is one line that begins with \"{PREFIX}\" (print one with `trine ticket`)"
    )]
    NotATicket,
    /// Cut short, or a character changed on the way.
    #[error("the ticket is damaged: copy the whole line again, from \"{PREFIX}\" to its end")]
    Damaged,
    /// Made by a newer version.
    #[error("the ticket is of a newer version of Trine: update this machine first")]
    NewerVersion,
}

impl fmt::Display for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{}", BASE32_NOPAD.encode(&self.encode()).to_ascii_lowercase())
    }
}

impl FromStr for Ticket {
    type Err = TicketError;

    /// White space around and within (a line that was wrapped) is ignored, as
    /// is case.
    fn from_str(text: &str) -> Result<Self, TicketError> {
        if text.len() > MAX_TICKET_CHARS {
            return Err(TicketError::NotATicket);
        }
        let text: String = text.split_whitespace().collect::<String>().to_ascii_lowercase();
        let code = text.strip_prefix(PREFIX).ok_or(TicketError::NotATicket)?;
        let bytes =
            BASE32_NOPAD.decode(code.to_ascii_uppercase().as_bytes()).map_err(|_| TicketError::Damaged)?;
        Self::decode(&bytes)
    }
}

impl Ticket {
    /// Whether the ticket is past its time by this machine's clock.
    #[must_use]
    pub fn is_expired(&self, now_ms: u64) -> bool {
        now_ms > self.not_after_ms
    }

    fn encode(&self) -> Vec<u8> {
        let contacts = &self.contacts[..self.contacts.len().min(MAX_CONTACTS)];
        let mut out = vec![VERSION];
        out.put_slice(&self.cluster.0);
        out.put_slice(&self.secret.0);
        out.put_u64_le(self.not_after_ms);
        out.put_u8(u8::try_from(contacts.len()).unwrap_or(u8::MAX));
        for contact in contacts {
            match contact.address.ip() {
                IpAddr::V4(ip) => {
                    out.put_u8(4);
                    out.put_slice(&ip.octets());
                }
                IpAddr::V6(ip) => {
                    out.put_u8(6);
                    out.put_slice(&ip.octets());
                }
            }
            out.put_u16_le(contact.address.port());
            out.put_slice(&contact.node.0);
        }
        let checksum = checksum(&out);
        out.put_slice(&checksum);
        out
    }

    fn decode(bytes: &[u8]) -> Result<Self, TicketError> {
        let (body, sum) = bytes.split_last_chunk::<CHECKSUM_BYTES>().ok_or(TicketError::Damaged)?;
        if checksum(body) != *sum {
            return Err(TicketError::Damaged);
        }
        match body.first() {
            Some(&VERSION) => decode_body(&body[1..]).ok_or(TicketError::Damaged),
            Some(_) => Err(TicketError::NewerVersion),
            None => Err(TicketError::Damaged),
        }
    }
}

fn decode_body(mut bytes: &[u8]) -> Option<Ticket> {
    let cluster = ClusterId(take(&mut bytes)?);
    let secret = Secret(take(&mut bytes)?);
    let not_after_ms = bytes.try_get_u64_le().ok()?;
    let count = usize::from(bytes.try_get_u8().ok()?);
    if !(1..=MAX_CONTACTS).contains(&count) {
        return None;
    }
    let mut contacts = Vec::with_capacity(count);
    for _ in 0..count {
        let ip = match bytes.try_get_u8().ok()? {
            4 => IpAddr::from(take::<4>(&mut bytes)?),
            6 => IpAddr::from(take::<16>(&mut bytes)?),
            _ => return None,
        };
        let port = bytes.try_get_u16_le().ok()?;
        contacts.push(Contact { address: SocketAddr::new(ip, port), node: NodeId(take(&mut bytes)?) });
    }
    bytes.is_empty().then_some(Ticket { cluster, contacts, secret, not_after_ms })
}

fn checksum(bytes: &[u8]) -> [u8; CHECKSUM_BYTES] {
    let mut sum = [0; CHECKSUM_BYTES];
    sum.copy_from_slice(&digest(&SHA256, bytes).as_ref()[..CHECKSUM_BYTES]);
    sum
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ticket() -> impl Strategy<Value = Ticket> {
        let contact = (any::<IpAddr>(), any::<u16>(), any::<[u8; 32]>())
            .prop_map(|(ip, port, key)| Contact { address: SocketAddr::new(ip, port), node: NodeId(key) });
        let contacts = prop::collection::vec(contact, 1..=MAX_CONTACTS);
        (any::<[u8; 16]>(), contacts, any::<[u8; 16]>(), any::<u64>()).prop_map(
            |(cluster, contacts, secret, time)| Ticket {
                cluster: ClusterId(cluster),
                contacts,
                secret: Secret(secret),
                not_after_ms: time,
            },
        )
    }

    proptest! {
        #[test]
        fn round_trip_through_text(ticket in ticket()) {
            let line = ticket.to_string();
            prop_assert!(!line.contains(char::is_whitespace) && line.len() < MAX_TICKET_CHARS);
            prop_assert_eq!(line.parse(), Ok(ticket.clone()));
            let wrapped = format!("  {}\n {}\r\n", &line[..40], &line[40..].to_uppercase());
            prop_assert_eq!(wrapped.parse(), Ok(ticket));
        }

        #[test]
        fn a_changed_character_is_noticed(ticket in ticket(), at in any::<prop::sample::Index>(), to in "[a-z2-7]") {
            let line = ticket.to_string();
            let at = PREFIX.len() + at.index(line.len() - PREFIX.len());
            let mut changed = line.clone();
            changed.replace_range(at..=at, &to);
            prop_assume!(changed != line);
            prop_assert_eq!(changed.parse::<Ticket>(), Err(TicketError::Damaged));
        }

        #[test]
        fn a_ticket_cut_short_is_noticed(ticket in ticket(), cut in any::<prop::sample::Index>()) {
            let line = ticket.to_string();
            let cut = PREFIX.len() + cut.index(line.len() - PREFIX.len());
            prop_assert_eq!(line[..cut].parse::<Ticket>(), Err(TicketError::Damaged));
        }

        #[test]
        fn random_text_never_panics(text in "\\PC{0,80}", bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(text.parse::<Ticket>().is_err());
            let sealed = [&bytes[..], &checksum(&bytes)].concat();
            let _ = format!("{PREFIX}{}", BASE32_NOPAD.encode(&sealed)).parse::<Ticket>();
        }
    }

    #[test]
    fn errors_tell_what_to_do() {
        assert_eq!("".parse::<Ticket>(), Err(TicketError::NotATicket));
        assert!("hello".parse::<Ticket>().unwrap_err().to_string().contains("trine ticket"));
        let body = [9, 1, 2, 3];
        let newer = format!("{PREFIX}{}", BASE32_NOPAD.encode(&[&body[..], &checksum(&body)].concat()));
        assert_eq!(newer.parse::<Ticket>(), Err(TicketError::NewerVersion));
    }

    #[test]
    fn what_the_cluster_stores_does_not_tell_the_secret() {
        let (one, two) = (Secret([1; 16]), Secret([2; 16]));
        assert_ne!(one.id(), two.id());
        assert_ne!(one.verifier(), two.verifier());
        assert_ne!(one.verifier()[..8], one.id());
        assert!(!format!("{one:?}").contains('1'));
    }
}
