//! The commands of one connection that are in flight: their replies leave in
//! the order in which the commands came.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::BytesMut;
use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, StreamExt};

use super::lanes::{Lanes, Ticket};
use crate::groups::PartitionReply;
use crate::handle::{Begun, Database, Finish};
use crate::plan::{Join, Reply};
use crate::resp::{Protocol, Value};

/// Bytes of replies that a connection may wait for, as far as the size of
/// recent ones tells.
const REPLY_WINDOW_BYTES: usize = 64 * 1024 * 1024;

/// Bytes of commands that a connection may have in flight; at least one
/// command may be.
const COMMAND_WINDOW_BYTES: usize = 32 * 1024 * 1024;

/// Commands in flight before the first replies have shown their sizes.
const FIRST_WINDOW: usize = 128;

/// What a reply costs beside its bytes.
const REPLY_OVERHEAD_BYTES: usize = 256;

/// A command whose reply has not left yet.
enum Slot {
    /// Its reply is there.
    Done(Reply),
    /// Some of its parts are not.
    Waiting { replies: Vec<Option<PartitionReply>>, missing: usize, bytes: usize, join: Join, finish: Finish },
    /// It waits for everything before it.
    Later(Option<BoxFuture<'static, Value>>),
}

struct Queued {
    slot: Slot,
    protocol: Protocol,
    wanted: bool,
}

/// Something that is executed at this moment.
enum Running {
    Part { partition: u16, ticket: Ticket, reply: BoxFuture<'static, PartitionReply> },
    Later { command: u64, reply: BoxFuture<'static, Value> },
}

/// It is finished.
pub(super) enum Finished {
    /// A part of a command.
    Part(u16, Ticket, PartitionReply),
    /// A command that had waited for everything before it.
    Later(u64, Value),
}

impl Future for Running {
    type Output = Finished;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Finished> {
        match self.get_mut() {
            Self::Part { partition, ticket, reply } => {
                reply.as_mut().poll(context).map(|reply| Finished::Part(*partition, *ticket, reply))
            }
            Self::Later { command, reply } => {
                reply.as_mut().poll(context).map(|reply| Finished::Later(*command, reply))
            }
        }
    }
}

/// See the module.
pub(super) struct Pipeline {
    database: Database,
    queue: VecDeque<Queued>,
    /// Number of the command at the head of the queue.
    head: u64,
    lanes: Lanes,
    running: FuturesUnordered<Running>,
    /// A command that waits for everything before it, and holds up what
    /// comes after it, is in the queue.
    barrier: bool,
    window: usize,
    recent_reply_bytes: usize,
    /// Bytes of the commands that are executed or wait for it.
    command_bytes: usize,
}

impl Pipeline {
    pub(super) fn new(database: Database) -> Self {
        Self {
            window: FIRST_WINDOW.min(database.config().commands_in_flight),
            database,
            queue: VecDeque::new(),
            head: 0,
            lanes: Lanes::default(),
            running: FuturesUnordered::new(),
            barrier: false,
            recent_reply_bytes: 0,
            command_bytes: 0,
        }
    }

    /// Whether one more command may come.
    pub(super) fn has_room(&self) -> bool {
        !self.barrier && self.queue.len() < self.window && self.command_bytes < COMMAND_WINDOW_BYTES
    }

    /// Whether all replies have left.
    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Takes a command that was begun. `wanted`: its reply is to be sent.
    pub(super) fn push(&mut self, begun: Begun, protocol: Protocol, wanted: bool) {
        let command = self.head + self.queue.len() as u64;
        let slot = match begun {
            Begun::Done(reply) => Slot::Done(reply),
            Begun::Later(future) => {
                self.barrier = true;
                Slot::Later(Some(future))
            }
            Begun::Partitions(plan, finish) => {
                let missing = plan.parts.len();
                let bytes = plan.parts.iter().map(|part| part.body.len()).sum();
                self.command_bytes += bytes;
                for (part, body) in plan.parts.into_iter().enumerate() {
                    if let Some((part, ticket)) = self.lanes.enter(body, Ticket { command, part }) {
                        let partition = part.partition;
                        let reply = self.database.start(part);
                        self.running.push(Running::Part { partition, ticket, reply });
                    }
                }
                Slot::Waiting { replies: vec![None; missing], missing, bytes, join: plan.join, finish }
            }
        };
        self.queue.push_back(Queued { slot, protocol, wanted });
        self.start_barrier();
    }

    /// The next thing that is finished; never returns if nothing runs.
    /// Cancel safe.
    pub(super) async fn next(&mut self) -> Finished {
        match self.running.next().await {
            Some(finished) => finished,
            None => std::future::pending().await,
        }
    }

    /// Takes what is finished.
    pub(super) fn finish(&mut self, finished: Finished) {
        match finished {
            Finished::Later(command, value) => {
                self.settle(command, Slot::Done(Reply::Value(value)));
                self.barrier = false;
            }
            Finished::Part(partition, ticket, reply) => {
                let (database, running) = (&self.database, &self.running);
                self.lanes.leave(partition, |part, ticket| {
                    let partition = part.partition;
                    running.push(Running::Part { partition, ticket, reply: database.start(part) });
                });
                self.take_part(ticket, reply);
            }
        }
    }

    fn slot(&mut self, command: u64) -> Option<&mut Slot> {
        let index = usize::try_from(command.checked_sub(self.head)?).ok()?;
        self.queue.get_mut(index).map(|queued| &mut queued.slot)
    }

    fn settle(&mut self, command: u64, settled: Slot) {
        if let Some(slot) = self.slot(command) {
            *slot = settled;
        }
    }

    fn take_part(&mut self, ticket: Ticket, reply: PartitionReply) {
        let Some(Slot::Waiting { replies, missing, bytes, join, finish }) = self.slot(ticket.command) else {
            return;
        };
        replies[ticket.part] = Some(reply);
        *missing -= 1;
        if *missing > 0 {
            return;
        }
        let replies = std::mem::take(replies).into_iter().flatten().collect();
        let (join, finish, bytes) = (std::mem::replace(join, Join::Pass), *finish, *bytes);
        self.command_bytes -= bytes;
        let reply = self.database.finish(&join, finish, replies);
        self.learn(reply.size());
        self.settle(ticket.command, Slot::Done(reply));
    }

    /// Adapts the number of commands in flight to the size of their replies.
    fn learn(&mut self, reply_bytes: usize) {
        self.recent_reply_bytes = reply_bytes.max(self.recent_reply_bytes - self.recent_reply_bytes / 8);
        let fits = REPLY_WINDOW_BYTES / (self.recent_reply_bytes + REPLY_OVERHEAD_BYTES);
        let grown = self.window + 1 + self.window / 8;
        self.window = fits.clamp(4, self.database.config().commands_in_flight.max(4)).min(grown);
    }

    /// Moves the replies at the head of the queue to `out`, up to `limit` bytes.
    pub(super) fn drain(&mut self, out: &mut BytesMut, limit: usize) {
        while out.len() < limit
            && let Some(Queued { slot: Slot::Done(reply), protocol, wanted }) = self.queue.front()
        {
            if *wanted {
                reply.encode(*protocol, out);
            }
            self.queue.pop_front();
            self.head += 1;
        }
        self.start_barrier();
    }

    /// Starts a command that waited for everything before it.
    fn start_barrier(&mut self) {
        if let Some(Queued { slot: Slot::Later(future), .. }) = self.queue.front_mut()
            && let Some(reply) = future.take()
        {
            self.running.push(Running::Later { command: self.head, reply });
        }
    }
}
