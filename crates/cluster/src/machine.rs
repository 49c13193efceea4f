//! The rules of `meta` as a [`Machine`]: load the state, apply a command,
//! store the rows that differ. After each commit the new state is published,
//! on every replica, to whoever follows it.

use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::watch;
use trine_replication::{Answer as Read, Machine, ReadTime, Stamp};
use trine_storage::{Keyspace, StateError, Transaction, View};

use crate::codec::{self, CLUSTER_KEY};
use crate::command::{Answer, Command, Query, Refusal};
use crate::state::{ClusterRow, MetaState};

/// Most rows that `meta` can have: all its bounds together, generously.
const MAX_ROWS: usize = 100_000;

/// The machine of group `meta`, and where its state is published.
pub struct MetaMachine {
    published: watch::Sender<Arc<MetaState>>,
}

impl MetaMachine {
    /// A machine whose state is empty until the replica opens.
    pub fn new() -> (Arc<Self>, watch::Receiver<Arc<MetaState>>) {
        let (published, state) = watch::channel(Arc::new(MetaState::default()));
        (Arc::new(Self { published }), state)
    }
}

fn load(view: &dyn View) -> Result<MetaState, Refusal> {
    let corrupt = |error: &dyn std::fmt::Display| Refusal::Corrupt(error.to_string());
    // Keys under 0x01 are replication's own.
    let rows =
        view.scan(Bound::Included(&[0x01]), Bound::Unbounded, MAX_ROWS).map_err(|error| corrupt(&error))?;
    codec::decode_rows(rows.iter().map(|(key, value)| (&key[..], &value[..])))
        .map_err(|error| corrupt(&error))
}

fn execute(tx: &mut Transaction<'_>, now_ms: u64, command: &[u8]) -> Result<Answer, Refusal> {
    let command: Command =
        codec::decode(command, "command").map_err(|error| Refusal::Bad(error.to_string()))?;
    let before = load(tx)?;
    let mut after = before.clone();
    let answer = after.apply(now_ms, command);
    let store = |error: StateError| Refusal::Corrupt(error.to_string());
    for (key, value) in codec::changes(&before, &after) {
        match value {
            Some(value) => tx.put(key, value).map_err(store)?,
            None => tx.delete(key).map_err(store)?,
        }
    }
    Ok(answer)
}

impl Machine for MetaMachine {
    fn apply(&self, tx: &mut Transaction<'_>, stamp: &Stamp, command: &[u8]) -> Bytes {
        codec::encode(&execute(tx, stamp.time_ms, command).unwrap_or_else(Answer::Refused))
    }

    fn query(&self, view: &dyn View, _time: ReadTime, query: &[u8]) -> Read {
        let reply = match codec::decode::<Query>(query, "query") {
            Ok(query) => load(view).map(|state| answer(&state, &query)),
            Err(error) => Err(Refusal::Bad(error.to_string())),
        };
        // Every reply to a query is Result<_, Refusal>, encoded.
        Read::Reply(reply.unwrap_or_else(|refusal| codec::encode(&Err::<(), _>(refusal))))
    }

    fn applied(&self, state: &Arc<dyn Keyspace>, _index: u64) {
        let row = state.get(CLUSTER_KEY).ok().flatten();
        let row = row.and_then(|row| codec::decode::<ClusterRow>(&row, "cluster row").ok());
        let current = self.published.borrow().revision();
        if row.is_none_or(|row| row.revision == current) {
            return;
        }
        match load(&*state.view()) {
            Ok(state) => drop(self.published.send_replace(Arc::new(state))),
            Err(refusal) => tracing::error!(%refusal, "the state of meta cannot be followed"),
        }
    }
}

fn answer(state: &MetaState, query: &Query) -> Bytes {
    match query {
        Query::State { unless } => {
            let news = (*unless != Some(state.revision())).then(|| rows(state));
            codec::encode(&Ok::<_, Refusal>(news))
        }
        Query::Verifier { ticket } => {
            codec::encode(&Ok::<_, Refusal>(state.tickets.get(ticket).map(|row| row.verifier)))
        }
        Query::Revision => codec::encode(&Ok::<_, Refusal>(state.revision())),
        Query::Certifiable { node } => codec::encode(&Ok::<_, Refusal>(state.certifiable(node))),
    }
}

/// A state as rows, to be sent.
pub type Rows = Vec<(Vec<u8>, Vec<u8>)>;

fn rows(state: &MetaState) -> Rows {
    let all = codec::changes(&MetaState::default(), state);
    all.into_iter().filter_map(|(key, value)| Some((key.to_vec(), value?.to_vec()))).collect()
}

#[cfg(test)]
mod tests {
    use trine_storage::{OrderedStore, StateStore};

    use super::*;
    use crate::nodes::tests::applicant;
    use crate::state::tests::CLUSTER;

    fn stamp(time_ms: u64) -> Stamp {
        Stamp { time_ms, seed: 0, semantics: 1 }
    }

    fn genesis() -> Bytes {
        codec::encode(&Command::Genesis {
            cluster: CLUSTER,
            partitions: 4,
            issuer: [1; 32],
            founder: applicant(1),
        })
    }

    fn commit(machine: &MetaMachine, rows: &Arc<dyn Keyspace>, command: &[u8], index: u64) -> Answer {
        let mut tx = Transaction::new(&**rows);
        let answer = machine.apply(&mut tx, &stamp(index * 1_000), command);
        let (batch, _) = tx.into_batch().expect("nothing failed");
        rows.commit(batch).expect("committed");
        machine.applied(rows, index);
        codec::decode(&answer, "answer").expect("an answer")
    }

    #[test]
    fn what_is_applied_is_published_and_can_be_read() {
        let (machine, mut meta) = MetaMachine::new();
        let rows = OrderedStore::new(1).keyspace("meta").expect("opened");
        assert!(matches!(commit(&machine, &rows, &genesis(), 1), Answer::Admitted { .. }));
        assert!(meta.has_changed().expect("alive"));
        assert_eq!(meta.borrow_and_update().assignments.len(), 6);
        commit(&machine, &rows, b"nonsense", 2);
        assert!(!meta.has_changed().expect("alive"), "nothing changed");

        let time = ReadTime { state_ms: 0, wall_ms: 0 };
        let query = codec::encode(&Query::State { unless: None });
        let Read::Reply(reply) = machine.query(&*rows.view(), time, &query) else { panic!("no time needed") };
        let reply: Result<Option<Rows>, Refusal> = codec::decode(&reply, "rows").expect("rows");
        let all = reply.expect("not refused").expect("news");
        let read = codec::decode_rows(all.iter().map(|(k, v)| (&k[..], &v[..]))).expect("a state");
        assert_eq!(&read, &**meta.borrow());
    }

    #[test]
    fn a_reopened_replica_publishes_what_it_has() {
        let rows = OrderedStore::new(1).keyspace("meta").expect("opened");
        let (machine, _meta) = MetaMachine::new();
        commit(&machine, &rows, &genesis(), 1);
        let (again, meta) = MetaMachine::new();
        again.applied(&rows, 1);
        assert_eq!(meta.borrow().revision(), 1);
    }
}
