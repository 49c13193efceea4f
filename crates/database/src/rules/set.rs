//! Setting strings: SET and its relatives.

use bytes::Bytes;

use crate::args::{Options, integer_arg, is};
use crate::error::{Outcome, Refusal};
use crate::resp::Value;
use crate::rows::Entry;
use crate::space::{SpaceMut, string_of};

/// An expiry as it was asked for, not yet placed in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Asked {
    number: i64,
    seconds: bool,
    from_now: bool,
}

impl Asked {
    /// Seconds from now.
    const fn seconds(number: i64) -> Self {
        Self { number, seconds: true, from_now: true }
    }

    /// When that is; it must be after 1970 and within range.
    fn at(self, now_ms: u64, command: &'static str) -> Result<u64, Refusal> {
        let invalid = Refusal::InvalidExpire(command);
        let milliseconds = if self.seconds { self.number.checked_mul(1000) } else { Some(self.number) };
        let base = if self.from_now { i64::try_from(now_ms).unwrap_or(i64::MAX) } else { 0 };
        match milliseconds {
            Some(milliseconds) if milliseconds > 0 => {
                let at = milliseconds.checked_add(base).ok_or(invalid)?;
                Ok(at.unsigned_abs())
            }
            _ => Err(invalid),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expiry {
    /// The new value does not expire.
    Forget,
    /// The expiry stays as it is.
    Keep,
    /// It expires then.
    At(Asked),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Condition {
    Always,
    Missing,
    Existing,
    Equal(Bytes),
    NotEqual(Bytes),
}

struct SetOptions {
    condition: Condition,
    answer_old: bool,
    expiry: Expiry,
}

fn parse_set(argv: &[Bytes]) -> Result<SetOptions, Refusal> {
    let (mut condition, mut answer_old, mut expiry) = (Condition::Always, false, Expiry::Forget);
    let mut options = Options::new(argv, 3);
    while let Some(option) = options.next() {
        let unconditional = condition == Condition::Always;
        if is(option, "NX") && (unconditional || condition == Condition::Missing) {
            condition = Condition::Missing;
        } else if is(option, "XX") && (unconditional || condition == Condition::Existing) {
            condition = Condition::Existing;
        } else if is(option, "IFEQ") && unconditional {
            condition = Condition::Equal(options.value()?.clone());
        } else if is(option, "IFNE") && unconditional {
            condition = Condition::NotEqual(options.value()?.clone());
        } else if is(option, "GET") {
            answer_old = true;
        } else if is(option, "KEEPTTL") && matches!(expiry, Expiry::Forget | Expiry::Keep) {
            expiry = Expiry::Keep;
        } else if expiry == Expiry::Forget {
            expiry = Expiry::At(parse_expiry(option, &mut options)?);
        } else {
            return Err(Refusal::Syntax);
        }
    }
    Ok(SetOptions { condition, answer_old, expiry })
}

/// `EX seconds`, `PX milliseconds`, `EXAT …`, `PXAT …`
fn parse_expiry(option: &[u8], options: &mut Options<'_>) -> Result<Asked, Refusal> {
    let (seconds, from_now) = if is(option, "EX") {
        (true, true)
    } else if is(option, "PX") {
        (false, true)
    } else if is(option, "EXAT") {
        (true, false)
    } else if is(option, "PXAT") {
        (false, false)
    } else {
        return Err(Refusal::Syntax);
    };
    // A number that cannot be read is the business of who uses it: Redis
    // reports syntax errors of later options first.
    let value = options.value()?;
    let rest_is_fine =
        options.clone().all(|option| is(option, "GET") || is(option, "NX") || is(option, "XX"));
    match integer_arg(value) {
        Err(_) if !rest_is_fine => Err(Refusal::Syntax),
        number => Ok(Asked { number: number?, seconds, from_now }),
    }
}

/// `SET key value [NX|XX|IFEQ old|IFNE old] [GET] [EX s|PX ms|EXAT s|PXAT ms|KEEPTTL]`
pub fn set(space: &mut SpaceMut<'_>, argv: &[Bytes]) -> Outcome {
    let options = parse_set(argv)?;
    let expires_ms = match options.expiry {
        Expiry::At(asked) => Some(asked.at(space.now_ms(), "set")?),
        Expiry::Forget | Expiry::Keep => None,
    };
    let old = space.get(&argv[1]);
    let old_value = match &old {
        Some(old) if options.answer_old => Some(string_of(old.clone())?),
        _ => None,
    };
    let body = old.as_ref().map(|old| &old.body);
    let holds = match &options.condition {
        Condition::Always => true,
        Condition::Missing => old.is_none(),
        Condition::Existing => old.is_some(),
        Condition::Equal(value) => body == Some(value),
        Condition::NotEqual(value) => body != Some(value),
    };
    if holds {
        let kept = old.as_ref().and_then(|old| old.expires_ms).filter(|_| options.expiry == Expiry::Keep);
        let new = Entry { expires_ms: expires_ms.or(kept), ..Entry::string(argv[2].clone()) };
        space.replace(&argv[1], old.as_ref(), Some(&new));
    }
    Ok(match (options.answer_old, holds) {
        (true, _) => old_value.map_or(Value::Nil, Value::Bulk),
        (false, true) => Value::OK,
        (false, false) => Value::Nil,
    })
}

/// `SETNX key value`
pub fn setnx(space: &mut SpaceMut<'_>, argv: &[Bytes]) -> Outcome {
    let missing = space.get(&argv[1]).is_none();
    if missing {
        space.replace(&argv[1], None, Some(&Entry::string(argv[2].clone())));
    }
    Ok(Value::flag(missing))
}

/// `SETEX key seconds value`
pub fn setex(space: &mut SpaceMut<'_>, argv: &[Bytes]) -> Outcome {
    set_expiring(space, argv, Asked::seconds(integer_arg(&argv[2])?), "setex")
}

/// `PSETEX key milliseconds value`
pub fn psetex(space: &mut SpaceMut<'_>, argv: &[Bytes]) -> Outcome {
    let asked = Asked { number: integer_arg(&argv[2])?, seconds: false, from_now: true };
    set_expiring(space, argv, asked, "psetex")
}

fn set_expiring(space: &mut SpaceMut<'_>, argv: &[Bytes], asked: Asked, command: &'static str) -> Outcome {
    let expires_ms = Some(asked.at(space.now_ms(), command)?);
    let old = space.get(&argv[1]);
    space.replace(&argv[1], old.as_ref(), Some(&Entry { expires_ms, ..Entry::string(argv[3].clone()) }));
    Ok(Value::OK)
}

/// `GETSET key value`
pub fn getset(space: &mut SpaceMut<'_>, argv: &[Bytes]) -> Outcome {
    let old = space.get(&argv[1]);
    let value = old.clone().map(string_of).transpose()?;
    space.replace(&argv[1], old.as_ref(), Some(&Entry::string(argv[2].clone())));
    Ok(value.map_or(Value::Nil, Value::Bulk))
}

/// `GETEX key [EX s|PX ms|EXAT s|PXAT ms|PERSIST]`
pub fn getex(space: &mut SpaceMut<'_>, argv: &[Bytes]) -> Outcome {
    let mut options = Options::new(argv, 2);
    let mut expiry = Expiry::Keep;
    while let Some(option) = options.next() {
        if expiry != Expiry::Keep {
            return Err(Refusal::Syntax);
        }
        expiry = if is(option, "PERSIST") {
            Expiry::Forget
        } else {
            Expiry::At(parse_expiry(option, &mut options)?)
        };
    }
    let Some(old) = space.get(&argv[1]) else { return Ok(Value::Nil) };
    let value = string_of(old.clone())?;
    let expires_ms = match expiry {
        Expiry::Keep => return Ok(Value::Bulk(value)),
        Expiry::Forget => None,
        Expiry::At(asked) => Some(asked.at(space.now_ms(), "getex")?),
    };
    space.replace(&argv[1], Some(&old), Some(&Entry { expires_ms, ..old.clone() }));
    Ok(Value::Bulk(value))
}

/// `MSET key value…`
pub fn mset(space: &mut SpaceMut<'_>, argv: &[Bytes]) -> Outcome {
    for (key, value) in pairs(argv, "mset")? {
        let old = space.get(key);
        space.replace(key, old.as_ref(), Some(&Entry::string(value.clone())));
    }
    Ok(Value::OK)
}

/// `MSETNX key value…`: all or nothing.
pub fn msetnx(space: &mut SpaceMut<'_>, argv: &[Bytes]) -> Outcome {
    for (key, _) in pairs(argv, "msetnx")? {
        if space.get(key).is_some() {
            return Ok(Value::flag(false));
        }
    }
    mset(space, argv)?;
    Ok(Value::flag(true))
}

fn pairs<'a>(
    argv: &'a [Bytes],
    command: &'static str,
) -> Result<impl Iterator<Item = (&'a Bytes, &'a Bytes)>, Refusal> {
    if argv.len().is_multiple_of(2) {
        return Err(Refusal::Arity(command.into()));
    }
    Ok(argv[1..].chunks_exact(2).map(|pair| (&pair[0], &pair[1])))
}

#[cfg(test)]
mod tests {
    use crate::rules::stories::Story;

    #[test]
    fn conditions_decide_and_get_answers_the_old_value() {
        let mut story = Story::new();
        story.run("SET k 1 XX").gives("(nil)");
        story.run("SET k 1 NX").gives("+OK");
        story.run("SET k 2 NX").gives("(nil)");
        story.run("SET k 2 NX GET").gives("1");
        story.run("SET k 2 XX GET").gives("1");
        story.run("SET new 1 GET").gives("(nil)");
        story.run("GET new").gives("1");
        story.run("SET k 3 NX XX").gives("-ERR syntax error");
        story.run("SETNX k 9").gives(":0");
        story.run("GETSET k 4").gives("2");
    }

    #[test]
    fn compare_and_set_is_an_option() {
        let mut story = Story::new();
        story.run("SET k 1 IFEQ 0").gives("(nil)");
        story.run("EXISTS k").gives(":0");
        story.run("SET k 1 IFNE 0").gives("+OK");
        story.run("SET k 2 IFEQ 1").gives("+OK");
        story.run("SET k 3 IFEQ 1").gives("(nil)");
        story.run("SET k 3 IFEQ 1 GET").gives("2");
        story.run("SET k 3 IFEQ 2 NX").gives("-ERR syntax error");
        story.run("SET k 3 IFEQ").gives("-ERR syntax error");
    }

    #[test]
    fn expiries_are_set_kept_and_forgotten() {
        let mut story = Story::new();
        story.run("SET k v EX 10").gives("+OK");
        story.run("PTTL k").gives(":10000");
        story.run("SET k w KEEPTTL").gives("+OK");
        story.run("TTL k").gives(":10");
        story.run("SET k w").gives("+OK");
        story.run("TTL k").gives(":-1");
        story.run("SETEX k 5 v").gives("+OK");
        story.run("GETEX k PERSIST").gives("v");
        story.run("TTL k").gives(":-1");
        story.run("GETEX k PX 700").gives("v");
        story.wait(700).run("GET k").gives("(nil)");
        story.run("SET k v NX").gives("+OK");
        story.run("DBSIZE").gives(":1");
    }

    #[test]
    fn expiries_must_make_sense() {
        let mut story = Story::new();
        story.run("SET k v EX 0").gives("-ERR invalid expire time in 'set' command");
        story.run("SET k v PX -1").gives("-ERR invalid expire time in 'set' command");
        story.run("SET k v EX 9223372036854775807").gives("-ERR invalid expire time in 'set' command");
        story.run("SET k v PX 9223372036854775807").gives("-ERR invalid expire time in 'set' command");
        story.run("SETEX k 0 v").gives("-ERR invalid expire time in 'setex' command");
        story.run("PSETEX k x v").gives("-ERR value is not an integer or out of range");
        story.run("SET k v EX").gives("-ERR syntax error");
        story.run("SET k v EX 1 KEEPTTL").gives("-ERR syntax error");
        story.run("GETEX k EX 1 PX 1").gives("-ERR syntax error");
        story.run("EXISTS k").gives(":0");
    }

    #[test]
    fn several_at_once_are_all_or_nothing_where_promised() {
        let mut story = Story::new();
        story.run("MSET a 1 b 2").gives("+OK");
        story.run("MSETNX c 3 a 9").gives(":0");
        story.run("MGET a b c").gives("[1, 2, (nil)]");
        story.run("MSETNX c 3 d 4").gives(":1");
        story.run("MSET a").gives("-ERR wrong number of arguments for 'mset' command");
        story.run("MSET a 1 b").gives("-ERR wrong number of arguments for 'mset' command");
    }
}
