//! openraft's log store over this group's part of the node's shared log. The
//! log does the work: appends of all groups share one sync, recent entries are
//! in memory. Votes go through the same queue, so that a vote and an append
//! are never reordered on disk (Raft, figure 2: both are persistent state).

use std::fmt::Debug;
use std::future::Future;
use std::io;
use std::ops::{Bound, RangeBounds};

use futures::{Stream, stream};
use openraft::storage::{IOFlushed, LogState, RaftLogStorage};
use openraft::{OptionalSend, RaftLogReader};
use tokio::sync::oneshot;
use trine_storage::{Done, GroupLog, WalError};

use super::entry::{from_log, log_id, position, to_log};
use super::{Entry, LogId, Types, Vote};
use crate::planted;

/// Bytes of entries that one append message to a follower carries, unless a
/// single entry is larger.
const APPEND_BYTES: usize = 1 << 20;
/// Bytes of entries that are read at once to be applied.
const APPLY_BYTES: usize = 4 << 20;

/// See the module.
#[derive(Clone)]
pub(crate) struct LogStore {
    log: GroupLog,
}

impl LogStore {
    pub(crate) fn new(log: GroupLog) -> Self {
        Self { log }
    }

    fn read(&self, from: u64, to: u64, max_bytes: usize) -> io::Result<Vec<Entry>> {
        if from >= to {
            return Ok(Vec::new());
        }
        let entries = self.log.read(from, to, max_bytes).map_err(io::Error::other)?;
        entries.into_iter().map(from_log).collect()
    }

    fn vote(&self) -> io::Result<Option<Vote>> {
        let Some(bytes) = self.log.bounds().vote else { return Ok(None) };
        let vote = postcard::from_bytes(&bytes)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, format!("the vote: {error}")))?;
        Ok(Some(vote))
    }
}

/// Starts an operation of the log and waits until it is on disk.
pub(crate) fn durable<R>(start: impl FnOnce(Done) -> R) -> impl Future<Output = io::Result<()>> + Send {
    let (done, finished) = oneshot::channel::<Result<(), WalError>>();
    start(Box::new(move |result| {
        // Nobody waits any more if the group is being closed.
        let _ = done.send(result);
    }));
    async move {
        match finished.await {
            Ok(result) => result.map_err(io::Error::other),
            Err(_) => Err(io::Error::other("the log is closed")),
        }
    }
}

fn start_and_end(range: &impl RangeBounds<u64>) -> (u64, u64) {
    let start = match range.start_bound() {
        Bound::Included(at) => *at,
        Bound::Excluded(at) => at + 1,
        Bound::Unbounded => 0,
    };
    let end = match range.end_bound() {
        Bound::Included(at) => at + 1,
        Bound::Excluded(at) => *at,
        Bound::Unbounded => u64::MAX,
    };
    (start, end)
}

impl RaftLogReader<Types> for LogStore {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<Entry>, io::Error> {
        let (start, end) = start_and_end(&range);
        self.read(start, end, usize::MAX)
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, io::Error> {
        self.vote()
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> Result<Vec<Entry>, io::Error> {
        self.read(start, end, APPEND_BYTES)
    }

    /// Reads page by page, so that replaying a long log is bounded in memory.
    async fn entries_stream<RB>(
        &mut self,
        range: RB,
    ) -> impl Stream<Item = Result<Entry, io::Error>> + OptionalSend
    where
        RB: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        let (start, end) = start_and_end(&range);
        let log = self.clone();
        let pages = stream::unfold(Some(start), move |from| {
            let page = from.filter(|from| *from < end).map(|from| log.read(from, end, APPLY_BYTES));
            async move {
                let page = page?;
                let next = match &page {
                    Ok(entries) => entries.last().map(|last| last.log_id.index + 1),
                    Err(_) => None,
                };
                let items = match page {
                    Ok(entries) => entries.into_iter().map(Ok).collect::<Vec<_>>(),
                    Err(error) => vec![Err(error)],
                };
                Some((stream::iter(items), next))
            }
        });
        Box::pin(futures::StreamExt::flatten(pages))
    }
}

impl RaftLogStorage<Types> for LogStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<Types>, io::Error> {
        let bounds = self.log.bounds();
        let last_purged_log_id = bounds.purged.map(log_id);
        Ok(LogState { last_purged_log_id, last_log_id: bounds.last.map(log_id).or(last_purged_log_id) })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), io::Error> {
        if planted::active(planted::VOTE_NOT_PERSISTED) {
            return Ok(());
        }
        let bytes = postcard::to_stdvec(vote).map_err(io::Error::other)?;
        durable(|done| self.log.save_vote(bytes.into(), done)).await
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<Types>) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let entries = entries.into_iter().map(|entry| to_log(&entry)).collect::<io::Result<Vec<_>>>()?;
        // The back-pressure of the log.
        self.log.ready().await;
        let done = Box::new(|result: Result<(), WalError>| {
            callback.io_completed(result.map_err(io::Error::other));
        });
        // Were a refusal told to `done` alone, openraft would go on to apply
        // entries that cannot be read, and take them for applied.
        self.log.append(entries, done).map_err(io::Error::other)
    }

    async fn truncate_after(&mut self, last_log_id: Option<LogId>) -> Result<(), io::Error> {
        durable(|done| self.log.truncate_after(last_log_id.map(|id| id.index), done)).await
    }

    async fn purge(&mut self, log_id: LogId) -> Result<(), io::Error> {
        durable(|done| self.log.purge(position(log_id), done)).await
    }
}
