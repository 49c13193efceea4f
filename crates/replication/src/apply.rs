//! The one way in which entries change state. Runs of entries become one
//! transaction and one atomic batch, which carries the position that it
//! brings the state to. Pure but for the keyspace that it reads and commits.
//!
//! ```text
//! key 0x00 'a' -> term:u64 index:u64 time_ms:u64 digest:u64     where the state is
//! key 0x00 'm' -> postcard(StoredMembership)                    who the members are
//! key 0x00 's' node -> session row, see session.rs
//! ```
//! The digest covers every row but the first two.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use openraft::EntryPayload;
use trine_storage::{Keyspace, Transaction, View};
use trine_types::NodeNumber;

use crate::batch::{Batch, Content, Part};
use crate::bytes_codec::{DecodeError, get_u64};
use crate::engine::{Entry, LogId, Outcomes, StoredMembership};
use crate::machine::{Machine, Stamp};
use crate::planted;
use crate::session::{Admission, Outcome, SessionRow, enter, session_key};

const APPLIED_KEY: &[u8] = &[0x00, b'a'];
const MEMBERSHIP_KEY: &[u8] = &[0x00, b'm'];

/// Where a replica's state is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct AppliedRow {
    pub(crate) last: Option<LogId>,
    pub(crate) time_ms: u64,
    pub(crate) digest: u64,
}

impl AppliedRow {
    fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(32);
        let last = self.last.unwrap_or(LogId::new_term_index(0, 0));
        for field in [last.leader_id.term, last.index, self.time_ms, self.digest] {
            out.put_u64_le(field);
        }
        out.freeze()
    }

    fn decode(mut input: Bytes) -> Result<Self, DecodeError> {
        let input = &mut input;
        let last = Some(LogId::new_term_index(get_u64(input)?, get_u64(input)?));
        let row = Self { last, time_ms: get_u64(input)?, digest: get_u64(input)? };
        if input.has_remaining() { Err(DecodeError::Trailing) } else { Ok(row) }
    }

    /// What a view says about its own position; nothing applied if it is empty.
    pub(crate) fn read(view: &dyn View) -> io::Result<Self> {
        match view.get(APPLIED_KEY).map_err(io::Error::other)? {
            None => Ok(Self::default()),
            Some(bytes) => Self::decode(bytes).map_err(invalid),
        }
    }
}

/// The members according to a view.
pub(crate) fn read_membership(view: &dyn View) -> io::Result<StoredMembership> {
    match view.get(MEMBERSHIP_KEY).map_err(io::Error::other)? {
        None => Ok(StoredMembership::default()),
        Some(bytes) => postcard::from_bytes(&bytes).map_err(invalid),
    }
}

fn invalid(error: impl std::error::Error + Send + Sync + 'static) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

/// What the entries of a run asked for besides state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Event {
    /// The digest at this index is to be reported.
    Mark { index: u64, digest: u64 },
    /// This is what the majority had at that index.
    Verdict { index: u64, digest: Option<u64> },
}

/// The state of one replica: rows in a keyspace, and what is worth having in
/// memory. Owned by whoever applies.
pub(crate) struct ApplyCore {
    machine: Arc<dyn Machine>,
    keyspace: Arc<dyn Keyspace>,
    pub(crate) applied: AppliedRow,
    pub(crate) membership: StoredMembership,
    /// The rows as the state has them; `None`: there is no such row.
    sessions: BTreeMap<NodeNumber, Option<SessionRow>>,
}

impl ApplyCore {
    /// Picks up where the keyspace is.
    pub(crate) fn open(machine: Arc<dyn Machine>, keyspace: Arc<dyn Keyspace>) -> io::Result<Self> {
        let view = keyspace.view();
        Ok(Self {
            machine,
            applied: AppliedRow::read(&*view)?,
            membership: read_membership(&*view)?,
            sessions: BTreeMap::new(),
            keyspace,
        })
    }

    pub(crate) fn keyspace(&self) -> &Arc<dyn Keyspace> {
        &self.keyspace
    }

    pub(crate) fn machine(&self) -> &Arc<dyn Machine> {
        &self.machine
    }

    /// Applies entries in order and commits. A mark ends a run, so that the
    /// digest is that of its index: entries after it are left over.
    ///
    /// An error leaves the keyspace as it was; the replica must stop.
    pub(crate) fn apply_run(&mut self, entries: &[Entry]) -> io::Result<(Vec<Outcomes>, Vec<Event>)> {
        let keyspace = self.keyspace.clone();
        let mut run = Run {
            core: &mut *self,
            tx: Transaction::new(&*keyspace),
            dirty: BTreeSet::new(),
            new_membership: false,
            events: Vec::new(),
        };
        let mut results = Vec::with_capacity(entries.len());
        let mut marked = false;
        for entry in entries {
            results.push(run.entry(entry, &mut marked)?);
            if marked {
                break;
            }
        }
        let Run { tx, dirty, new_membership, mut events, .. } = run;
        self.commit(tx, &dirty, new_membership)?;
        if let (true, Some(last)) = (marked, self.applied.last) {
            events.push(Event::Mark { index: last.index, digest: self.applied.digest });
        }
        Ok((results, events))
    }

    fn commit(
        &mut self,
        mut tx: Transaction<'_>,
        dirty: &BTreeSet<NodeNumber>,
        new_membership: bool,
    ) -> io::Result<()> {
        for node in dirty {
            if let Some(Some(row)) = self.sessions.get(node) {
                tx.put(session_key(*node), row.encode()).map_err(io::Error::other)?;
            }
        }
        let (mut batch, digest_delta) = tx.into_batch().map_err(io::Error::other)?;
        self.applied.digest = self.applied.digest.wrapping_add(digest_delta);
        batch.put(APPLIED_KEY, self.applied.encode());
        if new_membership {
            let row = postcard::to_stdvec(&self.membership).map_err(io::Error::other)?;
            batch.put(MEMBERSHIP_KEY, row);
        }
        self.keyspace.commit(batch).map_err(io::Error::other)
    }
}

/// One transaction in the making.
struct Run<'c, 'k> {
    core: &'c mut ApplyCore,
    tx: Transaction<'k>,
    dirty: BTreeSet<NodeNumber>,
    new_membership: bool,
    events: Vec<Event>,
}

impl Run<'_, '_> {
    fn entry(&mut self, entry: &Entry, marked: &mut bool) -> io::Result<Outcomes> {
        let mut outcomes = Vec::new();
        match &entry.payload {
            EntryPayload::Blank => {}
            EntryPayload::Membership(members) => {
                self.core.membership = StoredMembership::new(Some(entry.log_id), members.clone());
                self.new_membership = true;
            }
            EntryPayload::Normal(command) => {
                let batch = Batch::decode(command.0.clone()).map_err(|error| {
                    io::Error::new(io::ErrorKind::InvalidData, format!("entry {}: {error}", entry.log_id))
                })?;
                let time_ms = self.core.applied.time_ms.max(batch.time_ms);
                self.core.applied.time_ms = time_ms;
                match batch.content {
                    Content::Mark => *marked = true,
                    Content::Verdict { index, digest } => {
                        self.events.push(Event::Verdict { index, digest });
                    }
                    Content::Commands(parts) => {
                        let mut stamp = Stamp { time_ms, seed: batch.seed, semantics: batch.semantics };
                        for part in parts {
                            outcomes.push(self.part(&part, &mut stamp)?);
                        }
                    }
                }
            }
        }
        self.core.applied.last = Some(entry.log_id);
        Ok(Outcomes(outcomes))
    }

    fn part(&mut self, part: &Part, stamp: &mut Stamp) -> io::Result<Vec<Outcome>> {
        let node = part.session.node;
        if !self.core.sessions.contains_key(&node) {
            let row = self.tx.get(&session_key(node)).map_err(io::Error::other)?;
            let row = row.map(SessionRow::decode).transpose().map_err(invalid)?;
            self.core.sessions.insert(node, row);
        }
        let slot = self.core.sessions.entry(node).or_default();
        let row = match enter(slot, part.session, part.acked, part.first) {
            Ok(row) => row,
            Err(outcome) => return Ok(vec![outcome; part.commands.len()]),
        };
        self.dirty.insert(node);
        let mut outcomes = Vec::with_capacity(part.commands.len());
        for (sequence, command) in (part.first..).zip(&part.commands) {
            let admission = row.admit(sequence);
            let skip_dedupe = planted::active(planted::DEDUPE_SKIPPED);
            outcomes.push(match admission {
                Admission::Answer(Outcome::Done(_) | Outcome::ReplyLost) if skip_dedupe => {
                    Outcome::Done(self.core.machine.apply(&mut self.tx, stamp, command))
                }
                Admission::Answer(outcome) => outcome,
                Admission::Execute => {
                    let reply = self.core.machine.apply(&mut self.tx, stamp, command);
                    row.executed(&reply);
                    Outcome::Done(reply)
                }
            });
            stamp.seed = next_seed(stamp.seed);
        }
        Ok(outcomes)
    }
}

/// A fresh seed for each command of a batch (splitmix64).
fn next_seed(seed: u64) -> u64 {
    let z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests;
