//! Whether a principal may run a command on its keys, and the categories of
//! commands that rights and ACL speak of. Pure.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use bytes::Bytes;
use trine_types::Rights;

use crate::error::Refusal;
use crate::table::{self, Spec, flag};

/// All categories, in the order of ACL CAT.
pub const CATEGORIES: [&str; 11] = [
    "keyspace",
    "read",
    "write",
    "string",
    "admin",
    "fast",
    "slow",
    "dangerous",
    "connection",
    "transaction",
    "server",
];

/// Commands beside the administrative ones that touch everything at once.
const DANGEROUS: [&str; 8] = ["acl", "client", "cluster", "flushall", "flushdb", "info", "keys", "config"];
/// Commands that change a key by what it held, and so tell of it.
const TELLING: [&str; 14] = [
    "append",
    "copy",
    "decr",
    "decrby",
    "getdel",
    "getex",
    "getset",
    "incr",
    "incrby",
    "incrbyfloat",
    "rename",
    "renamenx",
    "setrange",
    "msetnx",
];

/// The categories of a command.
pub fn categories(spec: &Spec) -> &'static [&'static str] {
    static ALL: OnceLock<BTreeMap<&'static str, Vec<&'static str>>> = OnceLock::new();
    let all = ALL.get_or_init(|| table::all().iter().map(|spec| (spec.name, of(spec))).collect());
    all.get(spec.name).map_or(&[], Vec::as_slice)
}

fn of(spec: &Spec) -> Vec<&'static str> {
    let mut found = Vec::new();
    let mut note = |is: bool, category| {
        if is {
            found.push(category);
        }
    };
    let data = matches!(spec.group, "generic" | "string");
    note(spec.group == "generic" || matches!(spec.name, "dbsize" | "flushall" | "flushdb"), "keyspace");
    note(spec.has(flag::READONLY) && data, "read");
    note(spec.has(flag::WRITE), "write");
    note(spec.group == "string", "string");
    note(spec.has(flag::ADMIN), "admin");
    note(spec.has(flag::FAST), "fast");
    note(!spec.has(flag::FAST), "slow");
    note(spec.has(flag::ADMIN) || DANGEROUS.contains(&spec.name), "dangerous");
    note(spec.group == "connection", "connection");
    note(spec.group == "transactions", "transaction");
    note(matches!(spec.group, "server" | "cluster"), "server");
    found
}

/// The names of the commands in a category.
pub fn members(category: &str) -> impl Iterator<Item = &'static str> {
    let all = table::all().iter().copied();
    all.filter(move |spec| categories(spec).contains(&category)).map(|spec| spec.name)
}

/// May `rights` run this command on these keys?
///
/// # Errors
/// As Redis refuses.
pub fn check(rights: &Rights, spec: &Spec, argv: &[Bytes]) -> Result<(), Refusal> {
    if spec.has(flag::NO_AUTH) {
        return Ok(());
    }
    if !rights.all_commands() {
        let subcommand = argv.get(1).filter(|_| has_subcommands(spec));
        let subcommand = subcommand.map(|sub| String::from_utf8_lossy(sub).to_ascii_lowercase());
        if !rights.may_run(spec.name, subcommand.as_deref(), categories(spec)) {
            let name = subcommand.map_or_else(|| spec.name.to_owned(), |sub| format!("{}|{sub}", spec.name));
            return Err(Refusal::NotPermitted(name));
        }
    }
    if rights.all_keys() {
        return Ok(());
    }
    for (nth, index) in spec.key_indexes(argv.len()).enumerate() {
        let Some(key) = argv.get(index) else { continue };
        let (reads, writes) = access(spec, nth, argv);
        if (reads && !rights.may_read_key(key)) || (writes && !rights.may_write_key(key)) {
            return Err(Refusal::KeyNotPermitted);
        }
    }
    Ok(())
}

/// Whether the value of the command's `nth` key is read, and changed.
fn access(spec: &Spec, nth: usize, argv: &[Bytes]) -> (bool, bool) {
    if !spec.has(flag::WRITE) {
        return (true, false);
    }
    match (spec.name, nth) {
        ("copy", 0) => (true, false),
        ("copy" | "rename" | "renamenx", 1) => (false, true),
        ("set", _) => (argv.iter().skip(3).any(|option| option.eq_ignore_ascii_case(b"get")), true),
        (name, _) => (TELLING.contains(&name), true),
    }
}

/// Whether the command's first argument is a subcommand.
pub fn has_subcommands(spec: &Spec) -> bool {
    matches!(spec.name, "acl" | "client" | "cluster" | "command" | "config" | "object")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(allow: &[&str], command: &str) -> Result<(), String> {
        let rules = allow.iter().map(|rule| rule.parse().expect("a rule"));
        let argv: Vec<Bytes> =
            command.split(' ').map(|word| Bytes::copy_from_slice(word.as_bytes())).collect();
        let spec = table::resolve(&argv).expect("a command");
        check(&Rights::new(rules, []), spec, &argv).map_err(|refusal| refusal.to_string())
    }

    #[test]
    fn commands_and_keys_are_checked_with_the_texts_of_redis() {
        let allow = ["command:@read", "command:set", "key:app:*", "read:conf"];
        for good in ["GET app:1", "mget app:1 conf", "SET app:1 x", "AUTH x", "hello 3", "quit"] {
            assert_eq!(checked(&allow, good), Ok(()), "{good}");
        }
        let key = "NOPERM this user has no permissions to access one of the keys used as arguments";
        for bad in ["GET other", "SET conf x", "MGET app:1 other", "SET conf x GET"] {
            assert_eq!(checked(&allow, bad), Err(key.into()), "{bad}");
        }
        let command = "NOPERM this user has no permissions to run the 'del' command";
        assert_eq!(checked(&allow, "DEL app:1"), Err(command.into()));
        let sub = "NOPERM this user has no permissions to run the 'config|get' command";
        assert_eq!(checked(&allow, "CONFIG GET x"), Err(sub.into()));
        assert_eq!(checked(&["command:config|get"], "CONFIG GET x"), Ok(()));
    }

    #[test]
    fn who_may_only_write_does_not_learn_what_was_there() {
        let allow = ["command:@all", "write:*"];
        for good in ["SET a 1", "DEL a", "EXPIRE a 1", "MSET a 1 b 2"] {
            assert_eq!(checked(&allow, good), Ok(()), "{good}");
        }
        for bad in ["GET a", "SET a 1 GET", "GETSET a 1", "INCR a", "COPY a b", "RENAME a b", "APPEND a b"] {
            assert!(checked(&allow, bad).is_err(), "{bad}");
        }
        assert_eq!(checked(&["command:@all", "read:a", "write:b"], "COPY a b"), Ok(()));
        assert!(checked(&["command:@all", "read:a", "write:b"], "RENAME a b").is_err());
    }

    #[test]
    fn every_command_is_fast_or_slow_and_every_category_has_members() {
        for spec in table::all() {
            let found = categories(spec);
            assert!(found.contains(&"fast") != found.contains(&"slow"), "{}", spec.name);
            assert!(found.iter().all(|category| CATEGORIES.contains(category)));
        }
        assert!(CATEGORIES.iter().all(|category| members(category).next().is_some()));
    }
}
