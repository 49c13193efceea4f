//! The commands: name, arity, flags, where the keys are, and which rule runs.
//!
//! The table is the only list of commands: dispatch, COMMAND, the split over
//! partitions and the refusal of growing writes all read it.

mod cluster;
mod generic;
mod server;
mod strings;
mod transactions;

use bytes::Bytes;

use crate::error::{Outcome, Refusal};
use crate::space::{Space, SpaceMut};

/// Flags of a command, named as in COMMAND's reply.
pub mod flag {
    /// Changes data.
    pub const WRITE: u16 = 1;
    /// Reads data.
    pub const READONLY: u16 = 1 << 1;
    /// May need more disk: refused when the disk is nearly full.
    pub const DENYOOM: u16 = 1 << 2;
    /// Takes constant time.
    pub const FAST: u16 = 1 << 3;
    /// About the server, not the data.
    pub const ADMIN: u16 = 1 << 4;
    /// Not allowed in scripts.
    pub const NOSCRIPT: u16 = 1 << 5;
    /// Allowed while data is loaded.
    pub const LOADING: u16 = 1 << 6;
    /// Allowed on a replica that lags.
    pub const STALE: u16 = 1 << 7;
    /// Allowed before AUTH.
    pub const NO_AUTH: u16 = 1 << 8;
    /// Keys are not at fixed places.
    pub const MOVABLEKEYS: u16 = 1 << 9;

    /// All flags with their names, in the order of COMMAND's reply.
    pub const NAMES: [(u16, &str); 10] = [
        (WRITE, "write"),
        (READONLY, "readonly"),
        (DENYOOM, "denyoom"),
        (ADMIN, "admin"),
        (NOSCRIPT, "noscript"),
        (LOADING, "loading"),
        (STALE, "stale"),
        (FAST, "fast"),
        (NO_AUTH, "no_auth"),
        (MOVABLEKEYS, "movablekeys"),
    ];
}

/// Where the keys are among the arguments: first, last (negative: from the
/// end), step. `(0, 0, 0)` for none.
pub type Keys = (i8, i8, i8);

/// No keys.
pub const NO_KEYS: Keys = (0, 0, 0);
/// One key, the first argument.
pub const ONE_KEY: Keys = (1, 1, 1);
/// Every argument is a key.
pub const ALL_KEYS: Keys = (1, -1, 1);
/// Keys and values in turn.
pub const KEYS_AND_VALUES: Keys = (1, -1, 2);
/// Two keys.
pub const TWO_KEYS: Keys = (1, 2, 1);

/// A rule that reads.
pub type ReadRule = fn(&Space<'_>, &[Bytes]) -> Outcome;
/// A rule that changes.
pub type WriteRule = fn(&mut SpaceMut<'_>, &[Bytes]) -> Outcome;

/// How the replies of several partitions become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Merge {
    /// Add up integers.
    Sum,
    /// All say OK, or the first error.
    AllOk,
    /// One array item per key, in the order of the keys.
    PerKey,
}

/// What executes a command.
#[derive(Clone, Copy)]
pub enum Action {
    /// The entry node, from the state of the connection.
    Session,
    /// The entry node, walking over partitions, after everything before it.
    Walk,
    /// A partition, as a read.
    Read(ReadRule),
    /// A partition, as a write.
    Write(WriteRule),
}

/// One command.
pub struct Spec {
    /// Its name in lower case.
    pub name: &'static str,
    /// Number of arguments with the name; negative: at least so many.
    pub arity: i8,
    /// See [`flag`].
    pub flags: u16,
    /// Where its keys are.
    pub keys: Keys,
    /// What executes it.
    pub action: Action,
    /// How it is put together if its keys are on several partitions, or, for
    /// a command without keys, from all partitions. `None`: it needs one.
    pub merge: Option<Merge>,
    /// Its group in the documentation.
    pub group: &'static str,
    /// The version of Redis that first had it.
    pub since: &'static str,
    /// What it does.
    pub summary: &'static str,
}

impl Spec {
    /// Whether it has this flag.
    pub fn has(&self, flag: u16) -> bool {
        self.flags & flag != 0
    }

    /// Checks the number of arguments.
    ///
    /// # Errors
    /// When there are too few or too many.
    pub fn check_arity(&self, argc: usize) -> Result<(), Refusal> {
        let wanted = usize::from(self.arity.unsigned_abs());
        if argc == wanted || (self.arity < 0 && argc > wanted) {
            return Ok(());
        }
        Err(Refusal::Arity(self.name.into()))
    }

    /// Where the keys are in a command of `argc` arguments.
    pub fn key_indexes(&self, argc: usize) -> impl Iterator<Item = usize> + use<> {
        let (first, last, step) = self.keys;
        let first = usize::from(first.unsigned_abs());
        let last = match usize::try_from(last) {
            Ok(last) => last,
            Err(_) => argc.saturating_sub(usize::from(last.unsigned_abs())),
        };
        let none = first == 0;
        (first..=last.min(argc.saturating_sub(1)))
            .step_by(usize::from(step.unsigned_abs()).max(1))
            .filter(move |_| !none)
    }
}

/// Longest name of a command.
const MAX_NAME: usize = 24;

/// All commands, sorted by name.
pub fn all() -> &'static [&'static Spec] {
    static ALL: std::sync::OnceLock<Vec<&'static Spec>> = std::sync::OnceLock::new();
    ALL.get_or_init(|| {
        let groups = [
            strings::COMMANDS,
            generic::COMMANDS,
            server::COMMANDS,
            cluster::COMMANDS,
            transactions::COMMANDS,
        ];
        let mut all: Vec<_> = groups.into_iter().flatten().collect();
        all.sort_unstable_by_key(|spec| spec.name);
        all
    })
}

/// The command of this name, in any case.
pub fn find(name: &[u8]) -> Option<&'static Spec> {
    let mut lower = [0; MAX_NAME];
    let lower = lower.get_mut(..name.len())?;
    lower.copy_from_slice(name);
    lower.make_ascii_lowercase();
    let all = all();
    let at = all.binary_search_by(|spec| spec.name.as_bytes().cmp(lower)).ok()?;
    Some(all[at])
}

/// Finds the command of `argv` and checks its number of arguments.
///
/// # Errors
/// When there is no such command or the number is wrong.
pub fn resolve(argv: &[Bytes]) -> Result<&'static Spec, Refusal> {
    let (name, arguments) = argv.split_first().ok_or(Refusal::Unreadable("it is empty"))?;
    let Some(spec) = find(name) else {
        return Err(unknown(name, arguments));
    };
    spec.check_arity(argv.len())?;
    Ok(spec)
}

/// Redis shows at most this much of an unknown command.
const SHOWN_BYTES: usize = 128;

fn unknown(name: &[u8], arguments: &[Bytes]) -> Refusal {
    let mut shown = String::new();
    for argument in arguments {
        if shown.len() >= SHOWN_BYTES {
            break;
        }
        let text = crate::args::quoted(argument, SHOWN_BYTES - shown.len());
        shown.extend(["'", &text, "' "]);
    }
    Refusal::UnknownCommand { name: crate::args::quoted(name, SHOWN_BYTES), arguments: shown }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_order() {
        for spec in all() {
            assert!(
                spec.name.len() <= MAX_NAME && spec.name == spec.name.to_ascii_lowercase(),
                "{}",
                spec.name
            );
            assert!(
                find(spec.name.to_ascii_uppercase().as_bytes()).is_some_and(|found| found.name == spec.name)
            );
            let writes = matches!(spec.action, Action::Write(_));
            assert_eq!(
                writes,
                spec.has(flag::WRITE) && !matches!(spec.action, Action::Session),
                "{}",
                spec.name
            );
            assert!(!spec.summary.is_empty() && spec.arity != 0, "{}", spec.name);
        }
        let mut names: Vec<_> = all().iter().map(|spec| spec.name).collect();
        names.dedup();
        assert_eq!(names.len(), all().len(), "a name is there twice");
    }

    #[test]
    fn keys_are_where_the_table_says() {
        let keys = |name: &str, argc| find(name.as_bytes()).unwrap().key_indexes(argc).collect::<Vec<_>>();
        assert_eq!(keys("get", 2), [1]);
        assert_eq!(keys("mset", 5), [1, 3]);
        assert_eq!(keys("del", 4), [1, 2, 3]);
        assert_eq!(keys("rename", 3), [1, 2]);
        assert_eq!(keys("ping", 2), [0_usize; 0]);
    }

    #[test]
    fn unknown_commands_are_refused_as_in_redis() {
        let argv = ["foo", "bar", "b z"].map(Bytes::from);
        let text = resolve(&argv).err().unwrap().to_string();
        assert_eq!(text, "ERR unknown command 'foo', with args beginning with: 'bar' 'b z' ");
        let text = resolve(&[Bytes::from("gEt")]).err().unwrap().to_string();
        assert_eq!(text, "ERR wrong number of arguments for 'get' command");
    }
}
