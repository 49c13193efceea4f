//! A small vocabulary for stories about one partition: run a command as a
//! client would type it, let time pass, look at the reply.

use bytes::{Bytes, BytesMut};
use trine_storage::{Keyspace, OrderedStore, StateStore, Transaction};

use super::chores::Chores;
use super::walk;
use crate::codec::{self, Walk};
use crate::machine::{self, Read};
use crate::resp::request::RequestParser;
use crate::resp::{Value, decode};
use crate::space::Now;
use crate::table::{self, Action};

/// State time at the start of a story.
pub(crate) const START_MS: u64 = 1_700_000_000_000;

/// One partition with nothing around it.
pub(crate) struct Story {
    state: std::sync::Arc<dyn Keyspace>,
    now: Now,
    db: u8,
}

/// A reply to be looked at.
pub(crate) struct Said {
    what: String,
    read: Read,
}

impl Story {
    pub(crate) fn new() -> Self {
        let state = OrderedStore::new(1).keyspace("story").expect("a map in memory opens");
        Self { state, now: Now { state_ms: START_MS, wall_ms: START_MS }, db: 0 }
    }

    /// Time passes, for the group and on the wall.
    pub(crate) fn wait(&mut self, ms: u64) -> &mut Self {
        self.now.state_ms += ms;
        self.now.wall_ms = self.now.wall_ms.max(self.now.state_ms);
        self
    }

    /// Time passes on the wall only.
    pub(crate) fn wall_runs_ahead(&mut self, ms: u64) {
        self.now.wall_ms += ms;
    }

    pub(crate) fn in_db(&mut self, db: u8) -> &mut Self {
        self.db = db;
        self
    }

    pub(crate) fn run(&mut self, line: &str) -> Said {
        let argv = split(line);
        self.run_argv(line, &argv)
    }

    pub(crate) fn run_argv(&mut self, what: &str, argv: &[Bytes]) -> Said {
        let action = table::resolve(argv).map(|spec| spec.action);
        let read = match action {
            Ok(Action::Walk) => Read::Reply(crate::resp::encode::encoded(&Value::Array(self.keys(&argv[1])))),
            Ok(Action::Write(_)) => return self.propose(&codec::command(self.db, argv)).of(what),
            _ => machine::query(&*self.state.view(), self.now, &codec::command(self.db, argv)),
        };
        Said { what: what.to_owned(), read }
    }

    pub(crate) fn once(&mut self, id: &str, sequence: u64, line: &str) -> Said {
        let proposal = codec::once(id.as_bytes(), sequence, self.db, &split(line));
        self.propose(&proposal).of(line)
    }

    pub(crate) fn propose(&mut self, proposal: &[u8]) -> Said {
        let view = self.state.view();
        let mut tx = Transaction::new(&*view);
        let reply = machine::apply(&mut tx, self.now.state_ms, proposal);
        let (batch, _) = tx.into_batch().expect("a map in memory does not fail");
        self.state.commit(batch).expect("a map in memory does not fail");
        Said { what: "proposal".to_owned(), read: Read::Reply(reply) }
    }

    pub(crate) fn chores(&self) -> Chores {
        match machine::query(&*self.state.view(), self.now, &codec::CHORES) {
            Read::Reply(reply) => Chores::decode(&reply).expect("nine bytes"),
            Read::NeedsTime(_) => panic!("chores need no time"),
        }
    }

    /// Keys by a walk in small steps.
    pub(crate) fn keys(&self, pattern: &Bytes) -> Vec<Value> {
        let (mut all, mut from) = (Vec::new(), 0);
        loop {
            let step = Walk {
                db: self.db,
                from,
                to: u64::MAX - 1,
                limit: 3,
                bytes: 100,
                kind: 0,
                pattern: pattern.clone(),
            };
            let Read::Reply(reply) = machine::query(&*self.state.view(), self.now, &codec::walk(&step))
            else {
                panic!("a key is about to expire");
            };
            let (next, keys) = decode::value(&reply).and_then(walk::split).expect("a step's reply");
            all.extend(keys);
            match next.and_then(crate::rows::Position::from_cursor) {
                Some(next) => from = next.0,
                None => return all,
            }
        }
    }

    /// How many rows there are.
    pub(crate) fn rows(&self) -> usize {
        let all = self.state.scan(std::ops::Bound::Unbounded, std::ops::Bound::Unbounded, usize::MAX);
        all.expect("a map in memory does not fail").len()
    }
}

/// Splits a line as the inline form of the protocol does.
pub(crate) fn split(line: &str) -> Vec<Bytes> {
    let mut input = BytesMut::from(format!("{line}\n").as_bytes());
    RequestParser::default().next(&mut input).expect("quotes close").expect("a line is whole")
}

impl Said {
    fn of(mut self, what: &str) -> Self {
        what.clone_into(&mut self.what);
        self
    }

    pub(crate) fn value(&self) -> Value {
        match &self.read {
            Read::Reply(reply) => decode::value(reply).expect("a reply"),
            Read::NeedsTime(at_ms) => panic!("{}: needs time {at_ms}", self.what),
        }
    }

    pub(crate) fn gives(&self, expected: &str) {
        assert_eq!(shown(&self.value()), expected, "{}", self.what);
    }

    pub(crate) fn needs_time(&self, at_ms: u64) {
        assert_eq!(self.read, Read::NeedsTime(at_ms), "{}", self.what);
    }
}

/// A reply as a story writes it.
pub(crate) fn shown(value: &Value) -> String {
    match value {
        Value::Simple(text) => format!("+{text}"),
        Value::Error(text) => format!("-{text}"),
        Value::Integer(number) => format!(":{number}"),
        Value::Bulk(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        Value::Nil => "(nil)".to_owned(),
        Value::Array(items) => format!("[{}]", items.iter().map(shown).collect::<Vec<_>>().join(", ")),
        other => format!("{other:?}"),
    }
}
