//! What travels to a partition: commands to apply and questions to answer.
//!
//! ```text
//! proposal: 00 db argc  (length bytes)…                              a command
//!           01 length id sequence db argc (length bytes)…            TRINE.ONCE
//!           02 limit                                                 delete what is due
//!           03 limit                                                 collect flushed rows
//! query:    00 db argc (length bytes)…                               a command
//!           01 db from to limit bytes kind length pattern            a step of a walk
//!           02                                                       what is to be done?
//!           03                                                       how many keys are there?
//! numbers are LEB128 varints; a reply is RESP version 3
//! ```

use bytes::{BufMut, Bytes, BytesMut};

/// A command that changes a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Proposal {
    /// A user's command in a database.
    Command(Command),
    /// The same, at most once per id and sequence number.
    Once {
        /// Who sends it.
        id: Bytes,
        /// Grows with each new command of the id.
        sequence: u64,
        /// What to do.
        command: Command,
    },
    /// Delete at most so many keys that are due by state time.
    DeleteDue(u32),
    /// Collect at most so many rows of flushed databases.
    Collect(u32),
}

/// A user's command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    /// The database that the connection selected.
    pub db: u8,
    /// Name and arguments.
    pub argv: Vec<Bytes>,
}

/// A question to a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Query {
    /// A user's command in a database.
    Command(Command),
    /// A step of SCAN, KEYS or RANDOMKEY.
    Walk(Walk),
    /// When is the next key due, and is there something to collect?
    Chores,
    /// How many keys does each database have?
    Counts,
}

/// A step of a walk over the keys of a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Walk {
    /// The database.
    pub db: u8,
    /// First position.
    pub from: u64,
    /// Last position.
    pub to: u64,
    /// Rows to look at, at most.
    pub limit: u32,
    /// Bytes of keys to answer, about.
    pub bytes: u32,
    /// Only keys of this kind; 0 for all, 255 for none.
    pub kind: u8,
    /// Only keys that match; empty for all.
    pub pattern: Bytes,
}

/// Encodes a user's command as a proposal or a query: both begin alike.
pub fn command(db: u8, argv: &[Bytes]) -> Bytes {
    let mut out = BytesMut::with_capacity(command_size(argv) + 1);
    out.put_u8(0);
    put_command(db, argv, &mut out);
    out.freeze()
}

/// Encodes a command of `TRINE.ONCE`.
pub fn once(id: &[u8], sequence: u64, db: u8, argv: &[Bytes]) -> Bytes {
    let mut out = BytesMut::with_capacity(command_size(argv) + id.len() + 24);
    out.put_u8(1);
    put_bytes(id, &mut out);
    put_varint(sequence, &mut out);
    put_command(db, argv, &mut out);
    out.freeze()
}

/// Encodes a proposal to delete what is due.
pub fn delete_due(limit: u32) -> Bytes {
    limited(2, limit)
}

/// Encodes a proposal to collect flushed rows.
pub fn collect(limit: u32) -> Bytes {
    limited(3, limit)
}

fn limited(kind: u8, limit: u32) -> Bytes {
    let mut out = BytesMut::with_capacity(8);
    out.put_u8(kind);
    put_varint(u64::from(limit), &mut out);
    out.freeze()
}

/// Encodes a step of a walk.
pub fn walk(walk: &Walk) -> Bytes {
    let mut out = BytesMut::with_capacity(48 + walk.pattern.len());
    out.put_u8(1);
    out.put_u8(walk.db);
    put_varint(walk.from, &mut out);
    put_varint(walk.to, &mut out);
    put_varint(u64::from(walk.limit), &mut out);
    put_varint(u64::from(walk.bytes), &mut out);
    out.put_u8(walk.kind);
    put_bytes(&walk.pattern, &mut out);
    out.freeze()
}

/// The question what is to be done.
pub const CHORES: Bytes = Bytes::from_static(&[2]);

/// The question how many keys there are.
pub const COUNTS: Bytes = Bytes::from_static(&[3]);

fn command_size(argv: &[Bytes]) -> usize {
    argv.iter().map(|argument| argument.len() + 4).sum::<usize>() + 8
}

fn put_command(db: u8, argv: &[Bytes], out: &mut BytesMut) {
    out.put_u8(db);
    put_varint(argv.len() as u64, out);
    for argument in argv {
        put_bytes(argument, out);
    }
}

fn put_bytes(bytes: &[u8], out: &mut BytesMut) {
    put_varint(bytes.len() as u64, out);
    out.extend_from_slice(bytes);
}

fn put_varint(mut number: u64, out: &mut BytesMut) {
    loop {
        let low = u8::try_from(number & 0x7f).expect("seven bits fit a byte");
        number >>= 7;
        if number == 0 {
            out.put_u8(low);
            return;
        }
        out.put_u8(low | 0x80);
    }
}

/// Decodes a proposal; `None` for bytes that are none.
pub fn decode_proposal(bytes: &[u8]) -> Option<Proposal> {
    let mut reader = Reader(bytes);
    let proposal = match reader.byte()? {
        0 => Proposal::Command(reader.command()?),
        1 => Proposal::Once { id: reader.bytes()?, sequence: reader.varint()?, command: reader.command()? },
        2 => Proposal::DeleteDue(reader.small()?),
        3 => Proposal::Collect(reader.small()?),
        _ => return None,
    };
    reader.0.is_empty().then_some(proposal)
}

/// Decodes a query; `None` for bytes that are none.
pub fn decode_query(bytes: &[u8]) -> Option<Query> {
    let mut reader = Reader(bytes);
    let query = match reader.byte()? {
        0 => Query::Command(reader.command()?),
        1 => Query::Walk(Walk {
            db: reader.byte()?,
            from: reader.varint()?,
            to: reader.varint()?,
            limit: reader.small()?,
            bytes: reader.small()?,
            kind: reader.byte()?,
            pattern: reader.bytes()?,
        }),
        2 => Query::Chores,
        3 => Query::Counts,
        _ => return None,
    };
    reader.0.is_empty().then_some(query)
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    fn varint(&mut self) -> Option<u64> {
        let mut number = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let low = u64::from(byte & 0x7f);
            if low << shift >> shift != low {
                return None;
            }
            number |= low << shift;
            if byte & 0x80 == 0 {
                return Some(number);
            }
        }
        None
    }

    fn small(&mut self) -> Option<u32> {
        u32::try_from(self.varint()?).ok()
    }

    fn bytes(&mut self) -> Option<Bytes> {
        let length = usize::try_from(self.varint()?).ok()?;
        let (bytes, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(Bytes::copy_from_slice(bytes))
    }

    fn command(&mut self) -> Option<Command> {
        let db = self.byte()?;
        let count = usize::try_from(self.varint()?).ok()?;
        // Each argument takes at least a byte, so a lie cannot reserve much.
        let mut argv = Vec::with_capacity(count.min(self.0.len()));
        for _ in 0..count {
            argv.push(self.bytes()?);
        }
        Some(Command { db, argv })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_bytes() -> impl Strategy<Value = Bytes> {
        proptest::collection::vec(any::<u8>(), 0..200).prop_map(Bytes::from)
    }

    proptest! {
        #[test]
        fn commands_round_trip(db in any::<u8>(), argv in proptest::collection::vec(any_bytes(), 0..5),
                               id in any_bytes(), sequence in any::<u64>(), limit in any::<u32>()) {
            let expected = Command { db, argv: argv.clone() };
            let bytes = command(db, &argv);
            prop_assert_eq!(decode_proposal(&bytes), Some(Proposal::Command(expected.clone())));
            prop_assert_eq!(decode_query(&bytes), Some(Query::Command(expected.clone())));
            let bytes = once(&id, sequence, db, &argv);
            prop_assert_eq!(decode_proposal(&bytes), Some(Proposal::Once { id, sequence, command: expected }));
            prop_assert_eq!(decode_proposal(&delete_due(limit)), Some(Proposal::DeleteDue(limit)));
            prop_assert_eq!(decode_proposal(&collect(limit)), Some(Proposal::Collect(limit)));
        }

        #[test]
        fn walks_round_trip(db in any::<u8>(), from in any::<u64>(), to in any::<u64>(), limit in any::<u32>(),
                            bytes in any::<u32>(), kind in any::<u8>(), pattern in any_bytes()) {
            let expected = Walk { db, from, to, limit, bytes, kind, pattern };
            prop_assert_eq!(decode_query(&walk(&expected)), Some(Query::Walk(expected)));
        }

        #[test]
        fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _ = (decode_proposal(&bytes), decode_query(&bytes));
        }
    }
}
