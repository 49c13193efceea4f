//! The order of one connection's commands per partition. Pure.
//!
//! Writes to a partition run together, and so do reads; but a read waits for
//! the writes before it and a write for the reads before it. So a client that
//! pipelines sees on each key what it would have seen one by one.

use std::collections::{BTreeMap, VecDeque};

use crate::plan::{Access, Part};

/// Which part of which command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ticket {
    /// Number of the command on its connection.
    pub(super) command: u64,
    /// Number of the part in its command.
    pub(super) part: usize,
}

#[derive(Debug)]
struct Lane {
    access: Access,
    running: usize,
    waiting: VecDeque<(Part, Ticket)>,
}

/// The lanes of one connection; a partition without commands has none.
#[derive(Debug, Default)]
pub(super) struct Lanes {
    lanes: BTreeMap<u16, Lane>,
}

impl Lanes {
    /// A new part; it is handed back if it may start at once.
    pub(super) fn enter(&mut self, part: Part, ticket: Ticket) -> Option<(Part, Ticket)> {
        let lane = self.lanes.entry(part.partition).or_insert_with(|| Lane {
            access: part.access,
            running: 0,
            waiting: VecDeque::new(),
        });
        if lane.waiting.is_empty() && (lane.running == 0 || lane.access == part.access) {
            lane.access = part.access;
            lane.running += 1;
            return Some((part, ticket));
        }
        lane.waiting.push_back((part, ticket));
        None
    }

    /// A part of `partition` is finished; those that may start now are handed
    /// to `start` in order.
    pub(super) fn leave(&mut self, partition: u16, mut start: impl FnMut(Part, Ticket)) {
        let Some(lane) = self.lanes.get_mut(&partition) else { return };
        lane.running = lane.running.saturating_sub(1);
        if lane.running > 0 {
            return;
        }
        let Some((first, _)) = lane.waiting.front() else {
            self.lanes.remove(&partition);
            return;
        };
        lane.access = first.access;
        let access = lane.access;
        while let Some((part, ticket)) = lane.waiting.pop_front_if(|(part, _)| part.access == access) {
            lane.running += 1;
            start(part, ticket);
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn part(partition: u16, access: Access) -> Part {
        Part { partition, access, body: Bytes::new() }
    }

    fn ticket(command: u64) -> Ticket {
        Ticket { command, part: 0 }
    }

    fn leave(lanes: &mut Lanes, partition: u16) -> Vec<u64> {
        let mut started = Vec::new();
        lanes.leave(partition, |_, ticket| started.push(ticket.command));
        started
    }

    #[test]
    fn a_read_waits_for_writes_before_it_and_a_write_for_reads() {
        let mut lanes = Lanes::default();
        assert!(lanes.enter(part(1, Access::Write), ticket(1)).is_some());
        assert!(lanes.enter(part(1, Access::Write), ticket(2)).is_some());
        assert!(lanes.enter(part(1, Access::Read), ticket(3)).is_none());
        assert!(lanes.enter(part(1, Access::Write), ticket(4)).is_none(), "behind the read");
        assert!(lanes.enter(part(1, Access::Write), ticket(5)).is_none());
        assert_eq!(leave(&mut lanes, 1), [0_u64; 0]);
        assert_eq!(leave(&mut lanes, 1), [3]);
        assert_eq!(leave(&mut lanes, 1), [4, 5]);
        assert_eq!(leave(&mut lanes, 1), [0_u64; 0]);
        assert_eq!(leave(&mut lanes, 1), [0_u64; 0]);
        assert!(lanes.lanes.is_empty());
    }

    #[test]
    fn partitions_do_not_wait_for_each_other() {
        let mut lanes = Lanes::default();
        assert!(lanes.enter(part(1, Access::Write), ticket(1)).is_some());
        assert!(lanes.enter(part(2, Access::Read), ticket(2)).is_some());
        assert!(lanes.enter(part(2, Access::Read), ticket(3)).is_some());
    }
}
