//! MULTI, EXEC, DISCARD, WATCH on a connection: commands are collected here
//! and become one proposal to the one partition that all their keys are on.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use trine_types::limits::MAX_COMMAND_BYTES;

use crate::codec::{self, Command, Transaction, Watched};
use crate::error::{Outcome, Refusal};
use crate::plan::{Access, Join, Part, Plan};
use crate::resp::{Value, decode};
use crate::slots::Partitions;
use crate::table::{self, Action, Spec};
use crate::walks::Ground;

/// Keys that a connection watches, at most.
const MAX_WATCHED: usize = 1024;

/// What EXEC costs per command beside its arguments.
const COMMAND_OVERHEAD_BYTES: usize = 16;

// WATCH asks partitions in a future that cannot borrow the connection, in the
// same task: the lock is never contended.
pub(crate) type Watches = Arc<Mutex<Vec<Watched>>>;

/// A connection's part in transactions.
#[derive(Debug, Default)]
pub struct Collected {
    /// The commands since MULTI.
    open: Option<Open>,
    watched: Watches,
}

#[derive(Debug, Default)]
struct Open {
    commands: Vec<Command>,
    bytes: usize,
    failed: bool,
}

/// What becomes of a command with regard to transactions.
pub(crate) enum Verdict {
    /// Nothing: it is executed as usual.
    Usual,
    /// It is answered.
    Answered(Value),
    /// It is EXEC, and this is what it executes.
    Execute(Plan),
}

impl Collected {
    fn watched(&self) -> MutexGuard<'_, Vec<Watched>> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where WATCH puts what it notes.
    pub(crate) fn watches(&self) -> Watches {
        Arc::clone(&self.watched)
    }

    /// The commands since MULTI.
    pub(crate) fn commands(&self) -> &[Command] {
        self.open.as_ref().map_or(&[], |open| &open.commands)
    }

    /// A command was refused; if it was meant for a transaction, EXEC fails.
    pub(crate) fn refused(&mut self) {
        if let Some(open) = &mut self.open {
            open.failed = true;
        }
    }

    /// Forgets everything.
    pub(crate) fn clear(&mut self) {
        self.open = None;
        self.watched().clear();
    }

    /// Looks at a command before it is executed.
    pub(crate) fn consider(
        &mut self,
        partitions: Partitions,
        spec: &'static Spec,
        db: u8,
        argv: &[Bytes],
    ) -> Result<Verdict, Refusal> {
        Ok(match (spec.name, &mut self.open) {
            // These two refuse the command and let the transaction be.
            ("multi", Some(_)) => {
                Verdict::Answered(Refusal::Text("ERR MULTI calls can not be nested").into())
            }
            ("watch", Some(_)) => {
                Verdict::Answered(Refusal::Text("ERR WATCH inside MULTI is not allowed").into())
            }
            ("multi", open) => {
                *open = Some(Open::default());
                Verdict::Answered(Value::OK)
            }
            ("discard", None) => return Err(Refusal::Text("ERR DISCARD without MULTI")),
            ("discard", Some(_)) => {
                self.clear();
                Verdict::Answered(Value::OK)
            }
            ("exec", None) => return Err(Refusal::Text("ERR EXEC without MULTI")),
            ("exec", Some(_)) => self.execute(partitions)?,
            ("unwatch", None) => {
                self.watched().clear();
                Verdict::Answered(Value::OK)
            }
            (_, None) | ("quit" | "reset", _) => Verdict::Usual,
            (_, Some(open)) => open.collect(spec, db, argv)?,
        })
    }

    fn execute(&mut self, partitions: Partitions) -> Result<Verdict, Refusal> {
        let open = self.open.take().unwrap_or_default();
        let watched = std::mem::take(&mut *self.watched());
        if open.failed {
            return Err(Refusal::Text("EXECABORT Transaction discarded because of previous errors."));
        }
        let transaction = Transaction { watched, commands: open.commands };
        let Some(partition) = one_partition(partitions, &transaction)? else {
            return Ok(Verdict::Answered(Value::Array(Vec::new())));
        };
        let part = Part { partition, access: Access::Write, body: codec::transaction(&transaction) };
        Ok(Verdict::Execute(Plan { parts: vec![part], join: Join::Pass }))
    }
}

impl Open {
    fn collect(&mut self, spec: &'static Spec, db: u8, argv: &[Bytes]) -> Result<Verdict, Refusal> {
        if !matches!(spec.action, Action::Read(_) | Action::Write(_)) || spec.keys == table::NO_KEYS {
            return Err(Refusal::Text("ERR only commands on keys are supported in a transaction"));
        }
        self.bytes += argv.iter().map(|argument| argument.len() + COMMAND_OVERHEAD_BYTES).sum::<usize>();
        if self.bytes > MAX_COMMAND_BYTES {
            return Err(Refusal::TooLarge("the transaction is larger than 17 MiB"));
        }
        self.commands.push(Command { db, argv: argv.to_vec() });
        Ok(Verdict::Answered(Value::Simple("QUEUED".into())))
    }
}

/// The partition of all keys of a transaction; none if it has no key.
fn one_partition(partitions: Partitions, transaction: &Transaction) -> Result<Option<u16>, Refusal> {
    let mut found = None;
    let mut add = |key: &[u8]| {
        let partition = partitions.of_key(key);
        if *found.get_or_insert(partition) == partition { Ok(()) } else { Err(Refusal::CrossSlot) }
    };
    for watched in &transaction.watched {
        add(&watched.key)?;
    }
    for command in &transaction.commands {
        let spec = table::resolve(&command.argv)?;
        for at in spec.key_indexes(command.argv.len()) {
            add(&command.argv[at])?;
        }
    }
    Ok(found)
}

/// `WATCH key…`: notes the keys as they are now.
///
/// # Errors
/// When a partition does not answer, or too many keys are watched.
pub(crate) async fn watch(ground: Ground<'_>, kept: Watches, argv: &[Bytes]) -> Outcome {
    let mut noted = Vec::new();
    for key in &argv[1..] {
        let partition = ground.partitions.of_key(key);
        let reply = ground.groups.query(partition, codec::fingerprint(ground.db, key)).await?;
        let Some(Value::Bulk(number)) = decode::value(&reply.body) else {
            return Err(Refusal::Unreadable("broken fingerprint"));
        };
        let fingerprint = std::str::from_utf8(&number).ok().and_then(|number| number.parse().ok());
        let fingerprint = fingerprint.ok_or(Refusal::Unreadable("broken fingerprint"))?;
        noted.push(Watched { db: ground.db, key: key.clone(), fingerprint });
    }
    let mut watched = kept.lock().unwrap_or_else(PoisonError::into_inner);
    if watched.len() + noted.len() > MAX_WATCHED {
        return Err(Refusal::Text("ERR a connection watches at most 1024 keys"));
    }
    watched.extend(noted);
    Ok(Value::OK)
}
