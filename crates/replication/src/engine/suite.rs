//! openraft's own suite for log stores and state machines, over the real log
//! on a real and on a simulated disk.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use openraft::EntryPayload;
use openraft::storage::{IOFlushed, RaftLogStorage};
use openraft::testing::log::{StoreBuilder, Suite};
use openraft::type_config::TypeConfigExt;
use tempfile::TempDir;
use trine_storage::{
    Disk, Driver, OrderedStore, RealDisk, SimDisk, Transaction, View, Wal, WalConfig, Workers,
};
use trine_types::GroupId;

use super::log::LogStore;
use super::{Entry, GridRuntime, LogId, ReplicaState, Types};
use crate::apply::ApplyCore;
use crate::machine::{Answer, Machine, ReadTime, Stamp};
use crate::replica::{Replica, Replicas};

struct Nothing;

impl Machine for Nothing {
    fn apply(&self, _tx: &mut Transaction<'_>, _stamp: &Stamp, _command: &[u8]) -> Bytes {
        Bytes::new()
    }

    fn query(&self, _view: &dyn View, _time: ReadTime, _query: &[u8]) -> Answer {
        Answer::Reply(Bytes::new())
    }
}

const GROUP: GroupId = GroupId(1);

fn stores(disk: Arc<dyn Disk>, driver: Driver) -> (LogStore, ReplicaState) {
    let wal = Wal::open(disk, WalConfig::small(), driver).expect("an empty disk opens");
    let replicas = Replicas::open(Arc::new(OrderedStore::new(1))).expect("an empty store opens");
    let keyspace = replicas.keyspace(GROUP, 0).expect("a keyspace");
    let core = ApplyCore::open(Arc::new(Nothing), keyspace.clone()).expect("an empty keyspace");
    let replica = Arc::new(Replica::new(GROUP, keyspace, core.applied));
    let state = ReplicaState::new(core, 0, replica, replicas, Workers::inline());
    (LogStore::new(wal.group(GROUP)), state)
}

struct OnSimDisk;

impl StoreBuilder<Types, LogStore, ReplicaState, ()> for OnSimDisk {
    async fn build(&self) -> Result<((), LogStore, ReplicaState), openraft::StorageError<Types>> {
        let disk = SimDisk::new(1).mount().expect("a new disk mounts");
        let (log, state) = stores(disk, Driver::Task { sync_latency: Duration::from_micros(10) });
        Ok(((), log, state))
    }
}

struct OnRealDisk;

impl StoreBuilder<Types, LogStore, ReplicaState, TempDir> for OnRealDisk {
    async fn build(&self) -> Result<(TempDir, LogStore, ReplicaState), openraft::StorageError<Types>> {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let disk = Arc::new(RealDisk::open(folder.path()).expect("it opens"));
        let (log, state) = stores(disk, Driver::Thread);
        Ok((folder, log, state))
    }
}

fn run(suite: impl Future<Output = Result<(), openraft::StorageError<Types>>>) {
    use openraft::AsyncRuntime;
    GridRuntime::new(1).block_on(suite).expect("the suite passes");
}

#[test]
fn openrafts_suite_passes_on_the_simulated_disk() {
    run(Suite::test_all(OnSimDisk));
}

#[test]
fn openrafts_suite_passes_on_a_real_disk() {
    run(Suite::test_all(OnRealDisk));
}

#[test]
fn entries_that_a_failed_log_refuses_are_an_error_at_once() {
    run(async {
        let simulated = SimDisk::new(1);
        let disk = simulated.mount().expect("a new disk mounts");
        let (mut log, _) = stores(disk, Driver::Task { sync_latency: Duration::from_micros(10) });
        let blank = |index| Entry { log_id: LogId::new_term_index(1, index), payload: EntryPayload::Blank };
        simulated.fail_syncs(1);
        let (flushed, outcome) = Types::oneshot();
        log.append([blank(0)], IOFlushed::signal(flushed)).await.expect("it is taken in");
        assert!(outcome.await.expect("it is told").is_err(), "the sync has failed");
        let refused = log.append([blank(1)], IOFlushed::noop()).await;
        assert!(refused.is_err(), "openraft must not go on as if the entry could be read");
        assert_eq!(log.get_log_state().await.expect("a state").last_log_id, Some(blank(0).log_id));
        Ok(())
    });
}
