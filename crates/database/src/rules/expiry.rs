//! Times to live.

use bytes::Bytes;

use crate::args::{Options, integer_arg, is, quoted};
use crate::error::{Outcome, Refusal};
use crate::resp::Value;
use crate::rows::Entry;
use crate::space::{Space, SpaceMut};

/// `EXPIRE key seconds [NX|XX|GT|LT]`
pub fn expire(space: &mut SpaceMut<'_>, argv: &[Bytes]) -> Outcome {
    set_expiry(space, argv, true, true, "expire")
}

/// `PEXPIRE key milliseconds [NX|XX|GT|LT]`
pub fn pexpire(space: &mut SpaceMut<'_>, argv: &[Bytes]) -> Outcome {
    set_expiry(space, argv, false, true, "pexpire")
}

/// `EXPIREAT key seconds [NX|XX|GT|LT]`
pub fn expireat(space: &mut SpaceMut<'_>, argv: &[Bytes]) -> Outcome {
    set_expiry(space, argv, true, false, "expireat")
}

/// `PEXPIREAT key milliseconds [NX|XX|GT|LT]`
pub fn pexpireat(space: &mut SpaceMut<'_>, argv: &[Bytes]) -> Outcome {
    set_expiry(space, argv, false, false, "pexpireat")
}

#[allow(clippy::struct_excessive_bools, reason = "four options that combine")]
#[derive(Debug, Default, Clone, Copy)]
struct When {
    without: bool,
    with: bool,
    later: bool,
    earlier: bool,
}

fn parse_when(argv: &[Bytes]) -> Result<When, Refusal> {
    let mut when = When::default();
    for option in Options::new(argv, 3) {
        if is(option, "NX") {
            when.without = true;
        } else if is(option, "XX") {
            when.with = true;
        } else if is(option, "GT") {
            when.later = true;
        } else if is(option, "LT") {
            when.earlier = true;
        } else {
            return Err(Refusal::UnsupportedOption(quoted(option, 64)));
        }
    }
    if when.without && (when.with || when.later || when.earlier) {
        return Err(Refusal::ExpireNx);
    }
    if when.later && when.earlier {
        return Err(Refusal::ExpireGtLt);
    }
    Ok(when)
}

fn set_expiry(
    space: &mut SpaceMut<'_>,
    argv: &[Bytes],
    seconds: bool,
    from_now: bool,
    name: &'static str,
) -> Outcome {
    let when = parse_when(argv)?;
    let number = integer_arg(&argv[2])?;
    let base = if from_now { i64::try_from(space.now_ms()).unwrap_or(i64::MAX) } else { 0 };
    let at = if seconds { number.checked_mul(1000) } else { Some(number) };
    let at = at.and_then(|at| at.checked_add(base)).ok_or(Refusal::InvalidExpire(name))?;
    let Some(old) = space.get(&argv[1]) else { return Ok(Value::flag(false)) };
    // Before 1970 is as past as 1970.
    let at = u64::try_from(at).unwrap_or(0);
    let refused = match old.expires_ms {
        Some(current) => when.without || (when.later && at <= current) || (when.earlier && at >= current),
        None => when.with || when.later,
    };
    if !refused {
        space.replace(&argv[1], Some(&old), Some(&Entry { expires_ms: Some(at), ..old.clone() }));
    }
    Ok(Value::flag(!refused))
}

/// `PERSIST key`
pub fn persist(space: &mut SpaceMut<'_>, argv: &[Bytes]) -> Outcome {
    let Some(old) = space.get(&argv[1]).filter(|old| old.expires_ms.is_some()) else {
        return Ok(Value::flag(false));
    };
    space.replace(&argv[1], Some(&old), Some(&Entry { expires_ms: None, ..old.clone() }));
    Ok(Value::flag(true))
}

/// `TTL key`
pub fn ttl(space: &Space<'_>, argv: &[Bytes]) -> Outcome {
    Ok(remaining(space, argv, |expires_ms, now_ms| (expires_ms.saturating_sub(now_ms) + 500) / 1000))
}

/// `PTTL key`
pub fn pttl(space: &Space<'_>, argv: &[Bytes]) -> Outcome {
    Ok(remaining(space, argv, u64::saturating_sub))
}

/// `EXPIRETIME key`
pub fn expiretime(space: &Space<'_>, argv: &[Bytes]) -> Outcome {
    Ok(remaining(space, argv, |expires_ms, _| (expires_ms + 500) / 1000))
}

/// `PEXPIRETIME key`
pub fn pexpiretime(space: &Space<'_>, argv: &[Bytes]) -> Outcome {
    Ok(remaining(space, argv, |expires_ms, _| expires_ms))
}

/// -2 for no key, -1 for no expiry, or what `form` makes of it.
fn remaining(space: &Space<'_>, argv: &[Bytes], form: impl Fn(u64, u64) -> u64) -> Value {
    match space.get(&argv[1]) {
        None => Value::Integer(-2),
        Some(entry) => match entry.expires_ms {
            None => Value::Integer(-1),
            Some(expires_ms) => Value::unsigned(form(expires_ms, space.wall_ms())),
        },
    }
}

#[cfg(test)]
mod tests {
    use crate::rules::stories::{START_MS, Story};

    #[test]
    fn a_key_lives_until_its_time_and_not_longer() {
        let mut story = Story::new();
        story.run("SET k v").gives("+OK");
        story.run("TTL k").gives(":-1");
        story.run("EXPIRE k 2").gives(":1");
        story.wait(1999).run("GET k").gives("v");
        story.run("PTTL k").gives(":1");
        story.wait(1).run("GET k").gives("(nil)");
        story.run("TTL k").gives(":-2");
        story.run("EXPIRE k 2").gives(":0");
    }

    #[test]
    fn absolute_times_and_past_ones() {
        let mut story = Story::new();
        story.run("SET k v").gives("+OK");
        story.run(&format!("PEXPIREAT k {}", START_MS + 1600)).gives(":1");
        story.run("PEXPIRETIME k").gives(&format!(":{}", START_MS + 1600));
        story.run("EXPIRETIME k").gives(&format!(":{}", (START_MS + 1600 + 500) / 1000));
        story.run("TTL k").gives(":2");
        story.run("PERSIST k").gives(":1");
        story.run("PERSIST k").gives(":0");
        story.run("EXPIREAT k 1").gives(":1");
        story.run("EXISTS k").gives(":0");
        story.run("SET k v").gives("+OK");
        story.run("EXPIRE k -1").gives(":1");
        story.run("DBSIZE").gives(":0");
    }

    #[test]
    fn conditions_compare_with_the_present_expiry() {
        let mut story = Story::new();
        story.run("SET k v").gives("+OK");
        story.run("EXPIRE k 10 XX").gives(":0");
        story.run("EXPIRE k 10 GT").gives(":0");
        story.run("EXPIRE k 10 LT").gives(":1");
        story.run("EXPIRE k 20 NX").gives(":0");
        story.run("EXPIRE k 20 LT").gives(":0");
        story.run("EXPIRE k 20 GT").gives(":1");
        story.run("EXPIRE k 20 XX GT").gives(":0");
        story.run("TTL k").gives(":20");
        story
            .run("EXPIRE k 1 NX XX")
            .gives("-ERR NX and XX, GT or LT options at the same time are not compatible");
        story.run("EXPIRE k 1 GT LT").gives("-ERR GT and LT options at the same time are not compatible");
        story.run("EXPIRE k 1 AB").gives("-ERR Unsupported option AB");
        story.run("EXPIRE k 9223372036854775807").gives("-ERR invalid expire time in 'expire' command");
        story.run("PEXPIRE k 9223372036854775807").gives("-ERR invalid expire time in 'pexpire' command");
        story.run("EXPIRE k x").gives("-ERR value is not an integer or out of range");
    }

    #[test]
    fn a_read_never_decides_by_the_wall_clock() {
        let mut story = Story::new();
        story.run("SET k v PX 100").gives("+OK");
        story.wall_runs_ahead(100);
        story.run("GET k").needs_time(START_MS + 100);
        story.run("TTL k").needs_time(START_MS + 100);
        story.wait(100).run("GET k").gives("(nil)");
    }
}
