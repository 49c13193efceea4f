//! A message: borrowed while it is on its way through a node, so that the
//! only copy made of it is the one into each receiver's outbox.

use bytes::Bytes;

/// Largest headers and payload of one message together, in bytes. A single
/// message must fit into a frame between nodes with room to spare.
pub const MAX_MESSAGE_BYTES: usize = 8 * 1024 * 1024;

/// A message under way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Message<'a> {
    /// What it was published to: a valid subject.
    pub subject: &'a [u8],
    /// Where the sender wants replies.
    pub reply: Option<&'a [u8]>,
    /// The header block with its version line and final empty line, as NATS
    /// defines it; empty if there is none.
    pub headers: &'a [u8],
    /// What it says.
    pub payload: &'a [u8],
}

impl Message<'_> {
    /// Headers and payload together, in bytes.
    #[must_use]
    pub const fn body_bytes(&self) -> usize {
        self.headers.len() + self.payload.len()
    }

    /// A copy that can be kept.
    #[must_use]
    pub fn to_kept(&self) -> Kept {
        Kept {
            subject: Bytes::copy_from_slice(self.subject),
            reply: self.reply.map(Bytes::copy_from_slice),
            headers: Bytes::copy_from_slice(self.headers),
            payload: Bytes::copy_from_slice(self.payload),
        }
    }
}

/// A message that somebody keeps.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    /// See [`Message::subject`].
    pub subject: Bytes,
    /// See [`Message::reply`].
    pub reply: Option<Bytes>,
    /// See [`Message::headers`].
    pub headers: Bytes,
    /// See [`Message::payload`].
    pub payload: Bytes,
}

impl Kept {
    /// The message, borrowed, to publish it again.
    #[must_use]
    pub fn as_message(&self) -> Message<'_> {
        Message {
            subject: &self.subject,
            reply: self.reply.as_deref(),
            headers: &self.headers,
            payload: &self.payload,
        }
    }

    /// What it takes of a queue's budget, in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let reply = self.reply.as_ref().map_or(0, Bytes::len);
        self.subject.len() + reply + self.headers.len() + self.payload.len()
    }
}
