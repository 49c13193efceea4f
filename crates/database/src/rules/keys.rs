//! Keys of any type: delete, rename, copy, count, flush.

use bytes::Bytes;

use crate::args::{Options, integer, integer_arg, is, quoted};
use crate::error::{Outcome, Refusal};
use crate::resp::Value;
use crate::rows::{DATABASES, Entry, Kind};
use crate::space::{Space, SpaceMut};

/// Longest string that Redis keeps in one allocation with its header.
const EMBEDDED_BYTES: usize = 44;

/// `DEL key…`, `UNLINK key…`
pub fn del(space: &mut SpaceMut<'_>, argv: &[Bytes]) -> Outcome {
    let mut deleted = 0;
    for key in &argv[1..] {
        deleted += usize::from(space.delete(key));
    }
    Ok(Value::count(deleted))
}

/// `EXISTS key…`, `TOUCH key…`: a key that is named twice counts twice.
pub fn exists(space: &Space<'_>, argv: &[Bytes]) -> Outcome {
    Ok(Value::count(argv[1..].iter().filter(|key| space.get(key).is_some()).count()))
}

/// `TYPE key`
pub fn type_of(space: &Space<'_>, argv: &[Bytes]) -> Outcome {
    Ok(Value::Simple(space.get(&argv[1]).map_or("none", |entry| entry.kind.name()).into()))
}

/// `RENAME key newkey`
pub fn rename(space: &mut SpaceMut<'_>, argv: &[Bytes]) -> Outcome {
    let entry = space.get(&argv[1]).ok_or(Refusal::NoSuchKey)?;
    if argv[1] != argv[2] {
        let target = space.get(&argv[2]);
        move_to(space, argv, &entry, target.as_ref());
    }
    Ok(Value::OK)
}

/// `RENAMENX key newkey`
pub fn renamenx(space: &mut SpaceMut<'_>, argv: &[Bytes]) -> Outcome {
    let entry = space.get(&argv[1]).ok_or(Refusal::NoSuchKey)?;
    let free = space.get(&argv[2]).is_none();
    if free {
        move_to(space, argv, &entry, None);
    }
    Ok(Value::flag(free))
}

fn move_to(space: &mut SpaceMut<'_>, argv: &[Bytes], entry: &Entry, target: Option<&Entry>) {
    space.replace(&argv[2], target, Some(entry));
    space.replace(&argv[1], Some(entry), None);
}

/// `COPY source destination [DB number] [REPLACE]`
pub fn copy(space: &mut SpaceMut<'_>, argv: &[Bytes]) -> Outcome {
    let (mut db, mut replace) = (space.db(), false);
    let mut options = Options::new(argv, 3);
    while let Some(option) = options.next() {
        if is(option, "REPLACE") {
            replace = true;
        } else if is(option, "DB") && options.left() > 0 {
            db = database_number(options.value()?)?;
        } else {
            return Err(Refusal::Syntax);
        }
    }
    if db == space.db() && argv[1] == argv[2] {
        return Err(Refusal::SameObject);
    }
    let Some(entry) = space.get(&argv[1]) else { return Ok(Value::flag(false)) };
    let put = |target: &mut SpaceMut<'_>| {
        let old = target.get(&argv[2]);
        let free = replace || old.is_none();
        if free {
            target.replace(&argv[2], old.as_ref(), Some(&entry));
        }
        Value::flag(free)
    };
    Ok(if db == space.db() { put(space) } else { put(&mut space.other(db)) })
}

/// Reads the number of a database.
///
/// # Errors
/// When it is no integer or not one of the databases.
pub fn database_number(argument: &[u8]) -> Result<u8, Refusal> {
    let number = integer_arg(argument)?;
    u8::try_from(number).ok().filter(|db| *db < DATABASES).ok_or(Refusal::DbIndex)
}

/// `OBJECT ENCODING|REFCOUNT|IDLETIME|FREQ key`
pub fn object(space: &Space<'_>, argv: &[Bytes]) -> Outcome {
    let subcommand = &argv[0..2];
    let known = ["ENCODING", "REFCOUNT", "IDLETIME", "FREQ"].into_iter().find(|name| is(&argv[1], name));
    let Some(name) = known else {
        return Err(Refusal::UnknownSubcommand(quoted(&subcommand[1], 64), "OBJECT"));
    };
    if argv.len() != 3 {
        return Err(Refusal::Arity(format!("object|{}", name.to_ascii_lowercase()).into()));
    }
    let Some(entry) = space.get(&argv[2]) else { return Ok(Value::Nil) };
    Ok(match name {
        "ENCODING" => Value::text(encoding(&entry)),
        "REFCOUNT" => Value::Integer(1),
        "IDLETIME" => Value::Integer(0),
        _ => {
            return Err(Refusal::Text(
                "ERR An LFU maxmemory policy is not selected, access frequency not tracked. \
                 Please note that when switching between policies at runtime LRU and LFU data \
                 will take some time to adjust.",
            ));
        }
    })
}

fn encoding(entry: &Entry) -> &'static str {
    match entry.kind {
        Kind::String if integer(&entry.body).is_some() => "int",
        Kind::String if entry.body.len() <= EMBEDDED_BYTES => "embstr",
        Kind::String => "raw",
    }
}

/// `DBSIZE`, the part of one partition.
pub fn dbsize(space: &Space<'_>, _argv: &[Bytes]) -> Outcome {
    Ok(Value::unsigned(space.counts().keys))
}

/// `FLUSHDB [ASYNC|SYNC]`, the part of one partition.
pub fn flushdb(space: &mut SpaceMut<'_>, argv: &[Bytes]) -> Outcome {
    check_flush(argv)?;
    space.flush();
    Ok(Value::OK)
}

/// `FLUSHALL [ASYNC|SYNC]`, the part of one partition.
pub fn flushall(space: &mut SpaceMut<'_>, argv: &[Bytes]) -> Outcome {
    check_flush(argv)?;
    for db in 0..DATABASES {
        space.other(db).flush();
    }
    Ok(Value::OK)
}

fn check_flush(argv: &[Bytes]) -> Result<(), Refusal> {
    match argv {
        [_] => Ok(()),
        [_, option] if is(option, "ASYNC") || is(option, "SYNC") => Ok(()),
        _ => Err(Refusal::Syntax),
    }
}

#[cfg(test)]
mod tests {
    use crate::rules::stories::Story;

    #[test]
    fn deleting_counts_what_was_there() {
        let mut story = Story::new();
        story.run("MSET a 1 b 2").gives("+OK");
        story.run("EXISTS a a b c").gives(":3");
        story.run("TOUCH a c").gives(":1");
        story.run("DEL a a c").gives(":1");
        story.run("UNLINK b").gives(":1");
        story.run("TYPE b").gives("+none");
        story.run("DBSIZE").gives(":0");
    }

    #[test]
    fn renaming_takes_the_expiry_along() {
        let mut story = Story::new();
        story.run("SET a 1 EX 10").gives("+OK");
        story.run("SET b 2").gives("+OK");
        story.run("RENAMENX a b").gives(":0");
        story.run("RENAME a b").gives("+OK");
        story.run("GET b").gives("1");
        story.run("TTL b").gives(":10");
        story.run("RENAME b b").gives("+OK");
        story.run("RENAMENX b b").gives(":0");
        story.run("RENAME a b").gives("-ERR no such key");
        story.run("DBSIZE").gives(":1");
    }

    #[test]
    fn copies_are_their_own_even_in_another_database() {
        let mut story = Story::new();
        story.run("SET a 1 EX 10").gives("+OK");
        story.run("COPY a b").gives(":1");
        story.run("COPY a b").gives(":0");
        story.run("SET a 2").gives("+OK");
        story.run("COPY a b REPLACE").gives(":1");
        story.run("GET b").gives("2");
        story.run("COPY a a").gives("-ERR source and destination objects are the same");
        story.run("COPY a a DB 3").gives(":1");
        story.run("COPY a a DB 16").gives("-ERR DB index is out of range");
        story.run("COPY a b DB").gives("-ERR syntax error");
        story.in_db(3).run("GET a").gives("2");
        story.run("DBSIZE").gives(":1");
    }

    #[test]
    fn a_flush_empties_one_database_or_all() {
        let mut story = Story::new();
        story.run("SET a 1").gives("+OK");
        story.in_db(1).run("SET a 1").gives("+OK");
        story.run("FLUSHDB").gives("+OK");
        story.run("GET a").gives("(nil)");
        story.run("SET a 2").gives("+OK");
        story.in_db(0).run("GET a").gives("1");
        story.run("FLUSHALL ASYNC").gives("+OK");
        story.run("DBSIZE").gives(":0");
        story.in_db(1).run("DBSIZE").gives(":0");
        story.run("FLUSHDB NOW").gives("-ERR syntax error");
    }

    #[test]
    fn encodings_are_named_as_in_redis() {
        let mut story = Story::new();
        story.run("SET n 12").gives("+OK");
        story.run("SET s short").gives("+OK");
        story.run("OBJECT ENCODING n").gives("int");
        story.run("OBJECT ENCODING s").gives("embstr");
        story.run("OBJECT ENCODING missing").gives("(nil)");
        story.run("OBJECT FOO s").gives("-ERR unknown subcommand 'FOO'. Try OBJECT HELP.");
    }
}
