//! Commands that walk over partitions: SCAN, KEYS, RANDOMKEY, and what counts
//! keys for INFO and CLUSTER. Each step is one linearizable query; a walk as
//! a whole is not one moment.

use bytes::Bytes;
use futures::future::join_all;

use crate::args::{Options, integer_arg, is};
use crate::codec::{self, Walk};
use crate::error::{Outcome, Refusal};
use crate::groups::Groups;
use crate::resp::{Value, decode};
use crate::rows::{Kind, Position};
use crate::rules::walk;
use crate::slots::{Partitions, SLOTS};

/// Bytes of keys in one step's reply.
const STEP_BYTES: u32 = 1024 * 1024;

/// Keys that one step looks at, at most.
const STEP_KEYS: u32 = 10_000;

/// Partitions that one call of SCAN asks, at most: a nearly empty database is
/// walked in few calls, a large number of partitions not in one long one.
const SCAN_STEPS: usize = 32;

/// Bytes of keys that KEYS answers, at most. It has to hold them all.
const KEYS_BYTES: usize = 64 * 1024 * 1024;

/// Partitions that KEYS and counting ask at the same time.
const AT_ONCE: usize = 16;

const TOO_MANY_KEYS: &str = "the keys are larger than 64 MiB together, use SCAN";

/// The partitions and who answers for them.
#[derive(Clone, Copy)]
pub struct Ground<'a> {
    /// Where to ask.
    pub groups: &'a dyn Groups,
    /// Which partition has which slot.
    pub partitions: Partitions,
    /// The database.
    pub db: u8,
}

/// What a walk looks for.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Filter {
    pattern: Bytes,
    kind: u8,
}

struct Step {
    keys: Vec<Value>,
    next: Option<u64>,
}

impl Ground<'_> {
    /// Looks at up to `limit` keys from position `from` to the end of its
    /// partition, or to `last` if that is before.
    async fn step(
        self,
        from: Position,
        last: Position,
        limit: u32,
        filter: &Filter,
    ) -> Result<Step, Refusal> {
        let partition = self.partitions.of_slot(from.slot());
        let (_, last_slot) = self.partitions.slots(partition);
        let to = Position(Position::start_of(last_slot + 1).0 - 1).min(last);
        let step = Walk {
            db: self.db,
            from: from.0,
            to: to.0,
            limit: limit.clamp(1, STEP_KEYS),
            bytes: STEP_BYTES,
            kind: filter.kind,
            pattern: filter.pattern.clone(),
        };
        let reply = self.groups.query(partition, codec::walk(&step)).await?;
        let value = decode::value(&reply.body);
        if let Some(Value::Error(_)) = value {
            return Err(Refusal::TryAgain("a partition could not be read".into()));
        }
        let (next, keys) = value.and_then(walk::split).ok_or(Refusal::Unreadable("broken step"))?;
        Ok(Step { keys, next })
    }

    /// All keys from `first` to `last` within one partition.
    async fn keys_between(
        self,
        first: Position,
        last: Position,
        filter: &Filter,
    ) -> Result<Vec<Value>, Refusal> {
        let (mut all, mut bytes, mut from) = (Vec::new(), 0, first);
        loop {
            let step = self.step(from, last, STEP_KEYS, filter).await?;
            bytes += step.keys.iter().filter_map(walk::key_bytes).map(Bytes::len).sum::<usize>();
            if bytes > KEYS_BYTES {
                return Err(Refusal::TooLarge(TOO_MANY_KEYS));
            }
            all.extend(step.keys);
            match step.next.and_then(Position::from_cursor) {
                Some(next) => from = next,
                None => return Ok(all),
            }
        }
    }
}

/// `SCAN cursor [MATCH pattern] [COUNT count] [TYPE type]`
///
/// # Errors
/// As Redis refuses, or when a partition does not answer.
pub async fn scan(ground: Ground<'_>, argv: &[Bytes]) -> Outcome {
    let cursor = std::str::from_utf8(&argv[1]).ok().and_then(|cursor| cursor.parse::<u64>().ok());
    let cursor = cursor.ok_or(Refusal::Cursor)?;
    let mut filter = Filter { pattern: Bytes::new(), kind: 0 };
    let mut count: i64 = 10;
    let mut options = Options::new(argv, 2);
    while let Some(option) = options.next() {
        let value = options.value()?;
        if is(option, "COUNT") {
            count = integer_arg(value)?;
            if count < 1 {
                return Err(Refusal::Syntax);
            }
        } else if is(option, "MATCH") {
            filter.pattern = value.clone();
        } else if is(option, "TYPE") {
            let string = value.eq_ignore_ascii_case(Kind::String.name().as_bytes());
            filter.kind = if string { Kind::String as u8 } else { walk::NO_KIND };
        } else {
            return Err(Refusal::Syntax);
        }
    }
    let mut left = u32::try_from(count).unwrap_or(u32::MAX).min(STEP_KEYS);
    let mut steps = 0;
    let mut keys = Vec::new();
    let mut next = Position::from_cursor(cursor);
    while let Some(from) = next.filter(|_| left > 0 && steps < SCAN_STEPS) {
        steps += 1;
        let step = ground.step(from, Position(u64::MAX), left, &filter).await?;
        let used = u32::try_from(step.keys.len()).unwrap_or(u32::MAX);
        left = if step.next.is_some() { 0 } else { left.saturating_sub(used) };
        keys.extend(step.keys);
        next = match step.next {
            Some(cursor) => Position::from_cursor(cursor),
            None => after_partition(ground.partitions, from),
        };
    }
    let cursor = next.map_or(0, Position::cursor);
    Ok(Value::Array(vec![Value::bulk(cursor.to_string()), Value::Array(keys)]))
}

fn after_partition(partitions: Partitions, at: Position) -> Option<Position> {
    let (_, last) = partitions.slots(partitions.of_slot(at.slot()));
    (last + 1 < SLOTS).then(|| Position::start_of(last + 1))
}

/// `KEYS pattern`
///
/// # Errors
/// When a partition does not answer, or the keys are too large together.
pub async fn keys(ground: Ground<'_>, argv: &[Bytes]) -> Outcome {
    let filter = Filter { pattern: argv[1].clone(), kind: 0 };
    let all: Vec<u16> = ground.partitions.all().collect();
    let (mut keys, mut bytes) = (Vec::new(), 0);
    for some in all.chunks(AT_ONCE) {
        let walks = some.iter().map(|partition| {
            let (first, last) = ground.partitions.slots(*partition);
            let last = Position(Position::start_of(last + 1).0 - 1);
            ground.keys_between(Position::start_of(first), last, &filter)
        });
        for found in join_all(walks).await {
            let found = found?;
            bytes += found.iter().filter_map(walk::key_bytes).map(Bytes::len).sum::<usize>();
            if bytes > KEYS_BYTES {
                return Err(Refusal::TooLarge(TOO_MANY_KEYS));
            }
            keys.extend(found);
        }
    }
    Ok(Value::Array(keys))
}

/// `RANDOMKEY`: the first key after a random position, wrapping around.
///
/// # Errors
/// When a partition does not answer.
pub async fn random_key(ground: Ground<'_>, random: u64) -> Outcome {
    let filter = Filter { pattern: Bytes::new(), kind: 0 };
    let position = Position(random >> 2);
    let everything = Position(u64::MAX);
    let start = ground.partitions.of_slot(position.slot());
    let mut from = position;
    for turn in 0..=ground.partitions.count() {
        let mut next = Some(from);
        while let Some(at) = next {
            let step = ground.step(at, everything, 1, &filter).await?;
            if let Some(key) = step.keys.into_iter().next() {
                return Ok(key);
            }
            next = step.next.and_then(Position::from_cursor);
        }
        let following = (u32::from(start) + u32::from(turn) + 1) % u32::from(ground.partitions.count());
        let following = u16::try_from(following).unwrap_or(0);
        from = Position::start_of(ground.partitions.slots(following).0);
    }
    Ok(Value::Nil)
}

/// The keys of one slot, at most `limit`.
///
/// # Errors
/// When the partition does not answer.
pub async fn keys_in_slot(ground: Ground<'_>, slot: u16, limit: usize) -> Result<Vec<Value>, Refusal> {
    let filter = Filter { pattern: Bytes::new(), kind: 0 };
    let last = Position(Position::start_of(slot + 1).0 - 1);
    let mut keys = ground.keys_between(Position::start_of(slot), last, &filter).await?;
    keys.truncate(limit);
    Ok(keys)
}

/// Keys and expiring keys of each database that has some.
///
/// # Errors
/// When a partition does not answer.
pub async fn counts(groups: &dyn Groups, partitions: Partitions) -> Result<Vec<(u8, u64, u64)>, Refusal> {
    let all: Vec<u16> = partitions.all().collect();
    let mut sums = std::collections::BTreeMap::new();
    for some in all.chunks(AT_ONCE) {
        for reply in join_all(some.iter().map(|partition| groups.query(*partition, codec::COUNTS))).await {
            let body = reply?.body;
            for (db, keys, expiring) in crate::rules::chores::decode_counts(&body) {
                let sum: &mut (u64, u64) = sums.entry(db).or_default();
                *sum = (sum.0 + keys, sum.1 + expiring);
            }
        }
    }
    Ok(sums.into_iter().map(|(db, (keys, expiring))| (db, keys, expiring)).collect())
}
