//! Exactly-once, in order: the rules by which a replica decides whether a
//! command that arrives (perhaps again) is executed.
//!
//! Per entry node there is one row: its current session, the last sequence
//! number that was executed, and the replies that the entry node may still
//! ask for. The row is part of the replicated state, so that every later
//! leader answers a retry like the first one (Raft, Ongaro's thesis, §6.3).
//!
//! ```text
//! key = 0x00 's' node:u64 (big-endian)
//! row = incarnation:u64 epoch:u32 last:u64 count:varint reply*
//! reply = length+1:varint byte*, or 0:varint for one that was too large
//! ```
//! The replies are those of the last `count` sequence numbers.

use std::collections::VecDeque;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use trine_types::{Incarnation, NodeNumber};

use crate::batch::SessionId;
use crate::bytes_codec::{DecodeError, get_u32, get_u64, get_varint, put_varint};

/// A reply larger than this is not kept for retries: a retry of its command
/// answers "outcome unknown".
pub(crate) const MAX_KEPT_REPLY_BYTES: usize = 4096;
/// Replies of one session that are kept at most, together, in bytes.
const MAX_KEPT_TOTAL_BYTES: usize = 256 * 1024;
/// What a kept reply costs besides its bytes.
const KEPT_OVERHEAD_BYTES: usize = 8;

/// What became of one command of a part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Executed (now or earlier): the reply.
    Done(Bytes),
    /// Not executed: an earlier command of the session is missing. Resend in
    /// order from the oldest that is not acknowledged.
    Gap,
    /// Executed earlier, but its reply is not kept any more.
    ReplyLost,
    /// Not executed: the state does not know what the session says was
    /// acknowledged (a majority was lost and the group recovered without it).
    Forgotten,
    /// Not executed: the node has begun a newer session.
    Superseded,
}

/// What to do with one command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Admission {
    /// It is the next one: execute it, then call [`SessionRow::executed`].
    Execute,
    /// Answer this instead.
    Answer(Outcome),
}

/// One entry node's session as the state has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SessionRow {
    incarnation: Incarnation,
    epoch: u32,
    last: u64,
    replies: VecDeque<Option<Bytes>>,
    kept_bytes: usize,
}

/// The rows that start with `0x00` are replication's; this is where sessions are.
const SESSION_PREFIX: [u8; 2] = [0x00, b's'];

/// The key of a node's session row.
pub(crate) fn session_key(node: NodeNumber) -> Bytes {
    let mut key = BytesMut::with_capacity(10);
    key.extend_from_slice(&SESSION_PREFIX);
    key.put_u64(node.0);
    key.freeze()
}

fn cost(reply: Option<&Bytes>) -> usize {
    KEPT_OVERHEAD_BYTES + reply.map_or(0, Bytes::len)
}

/// Takes a part of `session` to the row of its node, which may be missing.
/// `Ok`: go through the part's commands with [`SessionRow::admit`].
/// `Err`: every command of the part has this outcome, the row stays as it is.
pub(crate) fn enter(
    row: &mut Option<SessionRow>,
    session: SessionId,
    acked: u64,
    first: u64,
) -> Result<&mut SessionRow, Outcome> {
    let newer =
        row.as_ref().is_none_or(|row| (session.incarnation, session.epoch) > (row.incarnation, row.epoch));
    let older =
        row.as_ref().is_some_and(|row| (session.incarnation, session.epoch) < (row.incarnation, row.epoch));
    if older {
        return Err(Outcome::Superseded);
    }
    if newer {
        if acked > 0 {
            return Err(Outcome::Forgotten);
        }
        if first > 1 {
            return Err(Outcome::Gap);
        }
        *row = Some(SessionRow {
            incarnation: session.incarnation,
            epoch: session.epoch,
            last: 0,
            replies: VecDeque::new(),
            kept_bytes: 0,
        });
    }
    match row {
        Some(row) if acked > row.last => Err(Outcome::Forgotten),
        Some(row) => {
            row.acknowledge(acked);
            Ok(row)
        }
        None => Err(Outcome::Forgotten), // cannot be: a missing row was created above
    }
}

impl SessionRow {
    fn first_kept(&self) -> u64 {
        self.last + 1 - self.replies.len() as u64
    }

    fn drop_oldest(&mut self) {
        if let Some(reply) = self.replies.pop_front() {
            self.kept_bytes -= cost(reply.as_ref());
        }
    }

    fn acknowledge(&mut self, acked: u64) {
        while !self.replies.is_empty() && self.first_kept() <= acked {
            self.drop_oldest();
        }
    }

    /// Decides about the command with sequence number `sequence`.
    pub(crate) fn admit(&self, sequence: u64) -> Admission {
        if sequence == self.last + 1 {
            return Admission::Execute;
        }
        if sequence > self.last {
            return Admission::Answer(Outcome::Gap);
        }
        let kept = sequence
            .checked_sub(self.first_kept())
            .and_then(|at| usize::try_from(at).ok())
            .and_then(|at| self.replies.get(at))
            .and_then(Option::as_ref);
        Admission::Answer(kept.map_or(Outcome::ReplyLost, |reply| Outcome::Done(reply.clone())))
    }

    /// The next command was executed with this reply.
    pub(crate) fn executed(&mut self, reply: &Bytes) {
        let keep = (reply.len() <= MAX_KEPT_REPLY_BYTES).then(|| reply.clone());
        self.last += 1;
        self.kept_bytes += cost(keep.as_ref());
        self.replies.push_back(keep);
        while self.kept_bytes > MAX_KEPT_TOTAL_BYTES {
            self.drop_oldest();
        }
    }

    pub(crate) fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(32 + self.kept_bytes);
        out.put_u64_le(self.incarnation.0);
        out.put_u32_le(self.epoch);
        out.put_u64_le(self.last);
        put_varint(&mut out, self.replies.len() as u64);
        for reply in &self.replies {
            match reply {
                None => put_varint(&mut out, 0),
                Some(reply) => {
                    put_varint(&mut out, reply.len() as u64 + 1);
                    out.extend_from_slice(reply);
                }
            }
        }
        out.freeze()
    }

    pub(crate) fn decode(mut input: Bytes) -> Result<Self, DecodeError> {
        let input = &mut input;
        let (incarnation, epoch, last) = (Incarnation(get_u64(input)?), get_u32(input)?, get_u64(input)?);
        let count = get_varint(input)?;
        if count > last || count > input.remaining() as u64 {
            return Err(DecodeError::TooMany);
        }
        let mut replies = VecDeque::new();
        let mut kept_bytes = 0;
        for _ in 0..count {
            let reply = match usize::try_from(get_varint(input)?).map_err(|_| DecodeError::TooMany)? {
                0 => None,
                length if length - 1 > input.remaining() => return Err(DecodeError::Short),
                // Copied: a slice would pin the whole row.
                length => Some(Bytes::copy_from_slice(&input.split_to(length - 1))),
            };
            kept_bytes += cost(reply.as_ref());
            replies.push_back(reply);
        }
        if input.has_remaining() {
            return Err(DecodeError::Trailing);
        }
        Ok(Self { incarnation, epoch, last, replies, kept_bytes })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn session(epoch: u32) -> SessionId {
        SessionId { node: NodeNumber(1), incarnation: Incarnation(1), epoch }
    }

    fn reply_of(sequence: u64) -> Bytes {
        Bytes::from(format!("reply {sequence}"))
    }

    /// Runs a part; returns outcomes and pushes what was executed.
    fn run(
        row: &mut Option<SessionRow>,
        epoch: u32,
        acked: u64,
        first: u64,
        count: u64,
        log: &mut Vec<u64>,
    ) -> Vec<Outcome> {
        match enter(row, session(epoch), acked, first) {
            Err(outcome) => vec![outcome; usize::try_from(count).unwrap()],
            Ok(row) => (first..first + count)
                .map(|sequence| match row.admit(sequence) {
                    Admission::Answer(outcome) => outcome,
                    Admission::Execute => {
                        log.push(sequence);
                        row.executed(&reply_of(sequence));
                        Outcome::Done(reply_of(sequence))
                    }
                })
                .collect(),
        }
    }

    #[test]
    fn a_retry_gets_the_first_reply() {
        let (mut row, mut log) = (None, vec![]);
        let first = run(&mut row, 1, 0, 1, 3, &mut log);
        assert_eq!(run(&mut row, 1, 0, 1, 3, &mut log), first);
        assert_eq!(log, [1, 2, 3]);
    }

    #[test]
    fn a_gap_executes_nothing_and_creates_nothing() {
        let (mut row, mut log) = (None, vec![]);
        assert_eq!(run(&mut row, 1, 0, 2, 1, &mut log), [Outcome::Gap]);
        assert_eq!(row, None);
        run(&mut row, 1, 0, 1, 1, &mut log);
        assert_eq!(run(&mut row, 1, 0, 3, 1, &mut log), [Outcome::Gap]);
        assert_eq!(log, [1]);
    }

    #[test]
    fn an_acknowledged_reply_is_forgotten_and_a_large_one_never_kept() {
        let (mut row, mut log) = (None, vec![]);
        run(&mut row, 1, 0, 1, 2, &mut log);
        run(&mut row, 1, 2, 3, 1, &mut log);
        assert_eq!(run(&mut row, 1, 0, 2, 1, &mut log), [Outcome::ReplyLost]);
        let row = row.as_mut().unwrap();
        row.executed(&Bytes::from(vec![0; MAX_KEPT_REPLY_BYTES + 1]));
        assert_eq!(row.admit(4), Admission::Answer(Outcome::ReplyLost));
    }

    #[test]
    fn a_newer_session_ends_the_older_one() {
        let (mut row, mut log) = (None, vec![]);
        run(&mut row, 2, 0, 1, 1, &mut log);
        assert_eq!(run(&mut row, 1, 0, 1, 1, &mut log), [Outcome::Superseded]);
        assert_eq!(run(&mut row, 3, 5, 6, 1, &mut log), [Outcome::Forgotten]);
        run(&mut row, 3, 0, 1, 1, &mut log);
        assert_eq!(log, [1, 1]);
    }

    #[test]
    fn kept_replies_are_bounded() {
        let (mut row, mut log) = (None, vec![]);
        run(&mut row, 1, 0, 1, 1, &mut log);
        let row = row.as_mut().unwrap();
        let reply = Bytes::from(vec![7; MAX_KEPT_REPLY_BYTES]);
        for _ in 0..200 {
            row.executed(&reply);
        }
        assert!(row.kept_bytes <= MAX_KEPT_TOTAL_BYTES);
        assert_eq!(row.admit(201), Admission::Answer(Outcome::Done(reply)));
        assert_eq!(row.admit(2), Admission::Answer(Outcome::ReplyLost));
    }

    proptest! {
        /// Whatever duplicates, gaps, reorderings and acknowledgements arrive:
        /// commands execute once each and in order, and a reply is the right one.
        #[test]
        fn each_command_executes_once_and_in_order(
            parts in prop::collection::vec((1u64..20, 1u64..6, 0u64..20), 0..60)
        ) {
            let (mut row, mut log) = (None, vec![]);
            for (first, count, acked) in parts {
                let acked = acked.min(first - 1);
                let outcomes = run(&mut row, 1, acked, first, count, &mut log);
                for (sequence, outcome) in (first..).zip(outcomes) {
                    if let Outcome::Done(reply) = outcome {
                        prop_assert_eq!(reply, reply_of(sequence));
                        prop_assert!(log.contains(&sequence));
                    }
                }
            }
            let expected: Vec<u64> = (1..=log.len() as u64).collect();
            prop_assert_eq!(log, expected);
        }

        #[test]
        fn rows_survive_their_bytes(parts in prop::collection::vec((1u64..9, 1u64..6), 0..20)) {
            let (mut row, mut log) = (None, vec![]);
            for (first, count) in parts {
                run(&mut row, 1, 0, first, count, &mut log);
            }
            if let Some(row) = row {
                prop_assert_eq!(SessionRow::decode(row.encode()), Ok(row));
            }
        }

        #[test]
        fn any_bytes_decode_or_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            let _ = SessionRow::decode(Bytes::from(bytes));
        }
    }
}
