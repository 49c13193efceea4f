//! Ranges of tasks as the log has them, kept in memory up to a bound, so that
//! granting a task does not read and cut its whole range again. Pure.

use std::collections::BTreeMap;

use bytes::Bytes;
use trine_storage::View;

use crate::codec::{self, RANGE, part_key};
use crate::command::Refusal;
use crate::spec::JobId;

/// Bytes of ranges that are kept in memory, about.
const CACHED_BYTES: usize = 32 * 1024 * 1024;

/// The tasks of ranges, cut but not decoded.
#[derive(Debug, Default)]
pub(super) struct Cache {
    ranges: BTreeMap<(JobId, u64), Vec<Bytes>>,
    bytes: usize,
}

impl Cache {
    /// The encoded tasks of the range that begins at `first`; none if the log
    /// has no such range.
    ///
    /// # Errors
    /// The row cannot be read or decoded.
    pub(super) fn range(&mut self, view: &dyn View, job: JobId, first: u64) -> Result<&[Bytes], Refusal> {
        let size = |tasks: &[Bytes]| tasks.iter().map(Bytes::len).sum::<usize>();
        if !self.ranges.contains_key(&(job, first)) {
            let row = view.get(&part_key(RANGE, job, first))?;
            let tasks = codec::split_tasks(row.unwrap_or_default())?;
            while self.bytes > CACHED_BYTES {
                let Some((_, old)) = self.ranges.pop_first() else { break };
                self.bytes = self.bytes.saturating_sub(size(&old));
            }
            self.bytes += size(&tasks);
            self.ranges.insert((job, first), tasks);
        }
        Ok(self.ranges.get(&(job, first)).map_or(&[], Vec::as_slice))
    }

    /// A job is over.
    pub(super) fn forget(&mut self, job: JobId) {
        let gone: Vec<_> = self.ranges.range((job, 0)..=(job, u64::MAX)).map(|(key, _)| *key).collect();
        for key in gone {
            let tasks = self.ranges.remove(&key).unwrap_or_default();
            self.bytes = self.bytes.saturating_sub(tasks.iter().map(Bytes::len).sum());
        }
    }
}
