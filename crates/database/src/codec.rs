//! What travels to a partition: commands to apply and questions to answer.
//!
//! ```text
//! proposal: 00 db argc  (length bytes)…                              a command
//!           01 length id sequence db argc (length bytes)…            TRINE.ONCE
//!           02 limit                                                 delete what is due
//!           03 limit                                                 collect flushed rows
//!           04 n (db length key fingerprint)… n (db argc (length bytes)…)…   EXEC
//! query:    00 db argc (length bytes)…                               a command
//!           01 db from to limit bytes kind length pattern            a step of a walk
//!           02                                                       what is to be done?
//!           03                                                       how many keys are there?
//!           04 db length key                                         the fingerprint of a key
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
    /// All commands at once, if all watched keys are as they were.
    Transaction(Transaction),
}

/// What EXEC proposes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Transaction {
    /// What WATCH noted.
    pub watched: Vec<Watched>,
    /// What came since MULTI.
    pub commands: Vec<Command>,
}

/// A key as it was when it was watched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Watched {
    /// The database of the key.
    pub db: u8,
    /// The key.
    pub key: Bytes,
    /// See [`crate::rules::transaction::fingerprint`].
    pub fingerprint: u64,
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
    /// What is the fingerprint of a key, for WATCH?
    Fingerprint(u8, Bytes),
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

/// Encodes a transaction.
pub fn transaction(transaction: &Transaction) -> Bytes {
    let size: usize = transaction.commands.iter().map(|command| command_size(&command.argv)).sum();
    let mut out = BytesMut::with_capacity(size + 16 * transaction.watched.len() + 16);
    out.put_u8(4);
    put_varint(transaction.watched.len() as u64, &mut out);
    for watched in &transaction.watched {
        out.put_u8(watched.db);
        put_bytes(&watched.key, &mut out);
        put_varint(watched.fingerprint, &mut out);
    }
    put_varint(transaction.commands.len() as u64, &mut out);
    for command in &transaction.commands {
        put_command(command.db, &command.argv, &mut out);
    }
    out.freeze()
}

/// Encodes the question for a key's fingerprint.
pub fn fingerprint(db: u8, key: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(8 + key.len());
    out.put_u8(4);
    out.put_u8(db);
    put_bytes(key, &mut out);
    out.freeze()
}

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
        4 => Proposal::Transaction(reader.transaction()?),
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
        4 => Query::Fingerprint(reader.byte()?, reader.bytes()?),
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

    fn transaction(&mut self) -> Option<Transaction> {
        let mut transaction = Transaction::default();
        for _ in 0..self.varint()? {
            let (db, key) = (self.byte()?, self.bytes()?);
            transaction.watched.push(Watched { db, key, fingerprint: self.varint()? });
        }
        for _ in 0..self.varint()? {
            transaction.commands.push(self.command()?);
        }
        Some(transaction)
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

    fn expected_key(argv: &[Bytes]) -> Bytes {
        argv.first().cloned().unwrap_or_default()
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
            let both = Transaction {
                watched: vec![Watched { db, key: expected_key(&argv), fingerprint: sequence }],
                commands: vec![Command { db, argv: argv.clone() }; 2],
            };
            prop_assert_eq!(decode_proposal(&transaction(&both)), Some(Proposal::Transaction(both)));
            let key = expected_key(&argv);
            prop_assert_eq!(decode_query(&fingerprint(db, &key)), Some(Query::Fingerprint(db, key)));
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
