//! From a command to its parts: which partitions execute what, and how their
//! replies become one. Pure.

use std::collections::BTreeMap;

use bytes::{Bytes, BytesMut};

use crate::codec;
use crate::error::Refusal;
use crate::groups::{PartitionReply, Timing};
use crate::resp::{Protocol, Value, decode, encode};
use crate::rows::MAX_KEY_BYTES;
use crate::slots::Partitions;
use crate::table::{Action, Merge, Spec};

/// Whether a part reads or changes its partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// A query.
    Read,
    /// A proposal.
    Write,
}

/// What one partition is to execute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// The partition.
    pub partition: u16,
    /// Query or proposal.
    pub access: Access,
    /// Encoded, see [`codec`].
    pub body: Bytes,
}

/// How the replies of the parts become one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Join {
    /// There is one part and its reply is the reply.
    Pass,
    /// Add up integers.
    Sum,
    /// All say OK, or the first error.
    AllOk,
    /// For each part, where its items belong among all.
    Places(Vec<Vec<usize>>),
}

/// A command taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// At least one.
    pub parts: Vec<Part>,
    /// How to put it together again.
    pub join: Join,
}

/// How a command is wrapped on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wrap<'a> {
    /// Not at all.
    Plain,
    /// In `TRINE.ONCE`.
    Once {
        /// Who sends it.
        id: &'a [u8],
        /// Its sequence number.
        sequence: u64,
    },
}

/// Takes apart a command whose action reads or writes.
///
/// # Errors
/// When its keys are too long, or on several partitions and it needs one.
pub fn plan(
    partitions: Partitions,
    spec: &'static Spec,
    db: u8,
    argv: &[Bytes],
    wrap: Wrap<'_>,
) -> Result<Plan, Refusal> {
    let access = match spec.action {
        Action::Read(_) => Access::Read,
        _ => Access::Write,
    };
    let part = |partition: u16, argv: &[Bytes]| {
        let body = match wrap {
            Wrap::Once { id, sequence } if access == Access::Write => codec::once(id, sequence, db, argv),
            _ => codec::command(db, argv),
        };
        Part { partition, access, body }
    };
    let mut first = None;
    let mut same = true;
    for at in spec.key_indexes(argv.len()) {
        if argv[at].len() > MAX_KEY_BYTES {
            return Err(Refusal::KeyTooLong);
        }
        let partition = partitions.of_key(&argv[at]);
        same &= *first.get_or_insert(partition) == partition;
    }
    match (first, spec.merge) {
        (Some(partition), _) if same => Ok(Plan { parts: vec![part(partition, argv)], join: Join::Pass }),
        (None, Some(merge)) => {
            let parts = partitions.all().map(|partition| part(partition, argv)).collect();
            Ok(Plan { parts, join: join_of(merge, Vec::new()) })
        }
        (Some(_), Some(merge)) => split(partitions, spec, argv, merge, part),
        // Without a key: any partition can say what is wrong with it.
        (None, None) => Ok(Plan { parts: vec![part(0, argv)], join: Join::Pass }),
        (Some(_), None) => Err(Refusal::CrossSlot),
    }
}

fn join_of(merge: Merge, places: Vec<Vec<usize>>) -> Join {
    match merge {
        Merge::Sum => Join::Sum,
        Merge::AllOk => Join::AllOk,
        Merge::PerKey => Join::Places(places),
    }
}

fn split(
    partitions: Partitions,
    spec: &Spec,
    argv: &[Bytes],
    merge: Merge,
    part: impl Fn(u16, &[Bytes]) -> Part,
) -> Result<Plan, Refusal> {
    let step = usize::from(spec.keys.2.unsigned_abs()).max(1);
    if !(argv.len() - 1).is_multiple_of(step) {
        return Err(Refusal::Arity(spec.name.into()));
    }
    let mut pieces: BTreeMap<u16, (Vec<Bytes>, Vec<usize>)> = BTreeMap::new();
    for (place, at) in spec.key_indexes(argv.len()).enumerate() {
        let piece =
            pieces.entry(partitions.of_key(&argv[at])).or_insert_with(|| (vec![argv[0].clone()], vec![]));
        piece.0.extend_from_slice(&argv[at..at + step]);
        piece.1.push(place);
    }
    let parts = pieces.iter().map(|(partition, (argv, _))| part(*partition, argv)).collect();
    let places = pieces.into_values().map(|(_, places)| places).collect();
    Ok(Plan { parts, join: join_of(merge, places) })
}

/// A reply on its way to the client.
#[derive(Debug, Clone, PartialEq)]
pub enum Reply {
    /// Encoded as RESP version 3 by a partition.
    Encoded(Bytes),
    /// Made at this node.
    Value(Value),
}

impl Reply {
    /// The reply as a value.
    pub fn into_value(self) -> Value {
        match self {
            Self::Value(value) => value,
            Self::Encoded(bytes) => {
                decode::value(&bytes).unwrap_or_else(|| Refusal::Unreadable("broken reply").into())
            }
        }
    }

    /// Appends it to a connection's output.
    pub fn encode(&self, protocol: Protocol, out: &mut BytesMut) {
        match self {
            Self::Encoded(bytes) => encode::reply(bytes, protocol, out),
            Self::Value(value) => encode::encode(value, protocol, out),
        }
    }

    /// Its size, about.
    pub fn size(&self) -> usize {
        match self {
            Self::Encoded(bytes) => bytes.len(),
            Self::Value(_) => 64,
        }
    }

    /// Whether it is an error.
    pub fn is_error(&self) -> bool {
        match self {
            Self::Encoded(bytes) => bytes.first() == Some(&b'-'),
            Self::Value(value) => value.is_error(),
        }
    }
}

/// Puts the replies of all parts together, in the order of the parts.
pub fn join(join: &Join, replies: Vec<PartitionReply>) -> (Reply, Timing) {
    let mut bodies = Vec::with_capacity(replies.len());
    let mut timing = Timing::default();
    let mut refusal = None;
    for reply in replies {
        match reply {
            Ok(answered) => {
                timing = timing.slower(answered.timing);
                bodies.push(answered.body);
            }
            // A write whose outcome is unknown is the news that matters most.
            Err(new) => {
                if refusal.is_none() || matches!(new, Refusal::Unknown(_)) {
                    refusal = Some(new);
                }
            }
        }
    }
    let reply = match refusal {
        Some(refusal) => Reply::Value(refusal.into()),
        None => join_bodies(join, bodies),
    };
    (reply, timing)
}

fn join_bodies(join: &Join, mut bodies: Vec<Bytes>) -> Reply {
    if *join == Join::Pass
        && let Some(body) = bodies.pop()
    {
        return Reply::Encoded(body);
    }
    if let Some(error) = bodies.iter().find(|body| body.first() == Some(&b'-')) {
        return Reply::Encoded(error.clone());
    }
    let broken = || Reply::Value(Refusal::Unreadable("broken reply").into());
    match join {
        Join::Pass => broken(),
        Join::AllOk => Reply::Value(Value::OK),
        Join::Sum => {
            let sum = bodies.iter().try_fold(0_i64, |sum, body| match decode::value(body)? {
                Value::Integer(number) => sum.checked_add(number),
                _ => None,
            });
            sum.map_or_else(broken, |sum| Reply::Value(Value::Integer(sum)))
        }
        Join::Places(places) => {
            let mut all = vec![Value::Nil; places.iter().map(Vec::len).sum()];
            for (places, body) in places.iter().zip(&bodies) {
                let Some(Value::Array(items)) = decode::value(body) else { return broken() };
                for (place, item) in places.iter().zip(items) {
                    all[*place] = item;
                }
            }
            Reply::Value(Value::Array(all))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::stories::split as words;
    use crate::table;

    fn planned(line: &str) -> Result<Plan, Refusal> {
        let argv = words(line);
        plan(Partitions::new(16), table::resolve(&argv)?, 0, &argv, Wrap::Plain)
    }

    #[allow(clippy::unnecessary_wraps, reason = "what it stands for can fail")]
    fn ok(value: &Value) -> PartitionReply {
        let body = encode::encoded(value);
        Ok(crate::groups::Answered { body, timing: Timing::default() })
    }

    #[test]
    fn one_partition_gets_the_command_as_it_is() {
        let plan = planned("MSET {a}1 x {a}2 y").unwrap();
        assert_eq!((plan.parts.len(), plan.join), (1, Join::Pass));
        assert_eq!(plan.parts[0].body, codec::command(0, &words("MSET {a}1 x {a}2 y")));
    }

    #[test]
    fn several_partitions_get_their_keys_and_the_places_are_kept() {
        let plan = planned("MGET a b c a").unwrap();
        assert!(plan.parts.len() > 1);
        let Join::Places(places) = &plan.join else { panic!("MGET is put together by key") };
        let replies = plan.parts.iter().zip(places).map(|(part, _)| {
            let Some(codec::Query::Command(command)) = codec::decode_query(&part.body) else {
                panic!("a command")
            };
            ok(&Value::Array(command.argv[1..].iter().cloned().map(Value::Bulk).collect()))
        });
        let (reply, _) = join(&plan.join, replies.collect());
        let expected = ["a", "b", "c", "a"].map(|key| Value::bulk(key.as_bytes()));
        assert_eq!(reply, Reply::Value(Value::Array(expected.to_vec())));
    }

    #[test]
    fn what_cannot_be_split_says_crossslot() {
        for line in ["MSETNX a 1 b 2", "RENAME a b", "RENAMENX a b", "COPY a b"] {
            assert_eq!(planned(line), Err(Refusal::CrossSlot), "{line}");
        }
        assert!(planned("RENAME {x}a {x}b").is_ok());
    }

    #[test]
    fn without_keys_all_partitions_are_asked() {
        assert_eq!(planned("DBSIZE").unwrap().parts.len(), 16);
        let plan = planned("FLUSHALL").unwrap();
        assert!(plan.parts.iter().all(|part| part.access == Access::Write));
        let replies = (0..16).map(|_| ok(&Value::OK)).collect();
        assert_eq!(join(&plan.join, replies).0, Reply::Value(Value::OK));
    }

    #[test]
    fn an_unknown_outcome_outweighs_other_refusals() {
        let unknown = Refusal::Unknown("no reply".into());
        let replies = vec![ok(&Value::OK), Err(Refusal::DiskLow), Err(unknown.clone())];
        assert_eq!(join(&Join::AllOk, replies).0, Reply::Value(unknown.into()));
        let replies = vec![ok(&Value::Integer(2)), ok(&Value::error("ERR x"))];
        assert!(join(&Join::Sum, replies).0.is_error());
    }

    #[test]
    fn keys_have_a_greatest_length() {
        let argv = [Bytes::from("GET"), Bytes::from(vec![b'k'; MAX_KEY_BYTES + 1])];
        let refused = plan(Partitions::new(16), table::resolve(&argv).unwrap(), 0, &argv, Wrap::Plain);
        assert_eq!(refused, Err(Refusal::KeyTooLong));
    }
}
