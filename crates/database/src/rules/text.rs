//! Strings as bytes: read, cut, append, overwrite.

use bytes::{Bytes, BytesMut};
use trine_types::limits::MAX_VALUE_BYTES;

use crate::args::integer_arg;
use crate::error::{Outcome, Refusal};
use crate::resp::Value;
use crate::rows::Entry;
use crate::space::{Space, SpaceMut, string_of};

/// Why values that are fine one by one are refused together.
const ANSWER_TOO_LARGE: &str =
    "the values of one partition are larger than 16 MiB together, ask for fewer at once";

/// `GET key`
pub fn get(space: &Space<'_>, argv: &[Bytes]) -> Outcome {
    Ok(space.string(&argv[1])?.map_or(Value::Nil, Value::Bulk))
}

/// `MGET key…`: other types and missing keys are nil.
pub fn mget(space: &Space<'_>, argv: &[Bytes]) -> Outcome {
    let mut values = Vec::with_capacity(argv.len());
    let mut bytes = 0;
    for key in &argv[1..] {
        let value = space.string(key).ok().flatten();
        bytes += value.as_ref().map_or(0, Bytes::len);
        if bytes > MAX_VALUE_BYTES {
            return Err(Refusal::TooLarge(ANSWER_TOO_LARGE));
        }
        values.push(value.map_or(Value::Nil, Value::Bulk));
    }
    Ok(Value::Array(values))
}

/// `STRLEN key`
pub fn strlen(space: &Space<'_>, argv: &[Bytes]) -> Outcome {
    Ok(Value::count(space.string(&argv[1])?.map_or(0, |value| value.len())))
}

/// `GETRANGE key start end`, both included, negative from the end.
pub fn getrange(space: &Space<'_>, argv: &[Bytes]) -> Outcome {
    let (start, end) = (integer_arg(&argv[2])?, integer_arg(&argv[3])?);
    let value = space.string(&argv[1])?.unwrap_or_default();
    Ok(Value::Bulk(cut(&value, start, end)))
}

fn cut(value: &Bytes, start: i64, end: i64) -> Bytes {
    if start < 0 && end < 0 && start > end {
        return Bytes::new();
    }
    let length = i64::try_from(value.len()).unwrap_or(i64::MAX);
    let from_start = |index: i64| if index < 0 { length.saturating_add(index).max(0) } else { index };
    let (start, end) = (from_start(start), from_start(end).min(length - 1));
    match (usize::try_from(start), usize::try_from(end)) {
        (Ok(start), Ok(end)) if start <= end => value.slice(start..=end),
        _ => Bytes::new(),
    }
}

/// `GETDEL key`
pub fn getdel(space: &mut SpaceMut<'_>, argv: &[Bytes]) -> Outcome {
    let Some(entry) = space.get(&argv[1]) else { return Ok(Value::Nil) };
    let value = string_of(entry.clone())?;
    space.replace(&argv[1], Some(&entry), None);
    Ok(Value::Bulk(value))
}

/// `APPEND key value`
pub fn append(space: &mut SpaceMut<'_>, argv: &[Bytes]) -> Outcome {
    edit(space, &argv[1], &argv[2], |old| Ok(old.len()))
}

/// `SETRANGE key offset value`
pub fn setrange(space: &mut SpaceMut<'_>, argv: &[Bytes]) -> Outcome {
    let offset = integer_arg(&argv[2])?;
    let offset = usize::try_from(offset).map_err(|_| Refusal::Offset)?;
    if argv[3].is_empty() {
        return strlen(&space.read(), argv);
    }
    edit(space, &argv[1], &argv[3], |_| Ok(offset))
}

/// Writes `patch` over the string at `key`, from where `offset_of` says;
/// a gap is filled with zeros. The expiry stays. Answers the length.
fn edit(
    space: &mut SpaceMut<'_>,
    key: &[u8],
    patch: &[u8],
    offset_of: impl Fn(&[u8]) -> Result<usize, Refusal>,
) -> Outcome {
    let old = space.get(key);
    let before = old.clone().map(string_of).transpose()?.unwrap_or_default();
    let offset = offset_of(&before)?;
    let end =
        offset.checked_add(patch.len()).filter(|end| *end <= MAX_VALUE_BYTES).ok_or(Refusal::TooLong)?;
    let mut after = BytesMut::with_capacity(end.max(before.len()));
    after.extend_from_slice(&before);
    if after.len() < end {
        after.resize(end, 0);
    }
    after[offset..end].copy_from_slice(patch);
    let length = after.len();
    let expires_ms = old.as_ref().and_then(|old| old.expires_ms);
    let new = Entry { expires_ms, ..Entry::string(after.freeze()) };
    space.replace(key, old.as_ref(), Some(&new));
    Ok(Value::count(length))
}

#[cfg(test)]
mod tests {
    use crate::rules::stories::Story;

    #[test]
    fn a_string_is_cut_as_people_expect() {
        let mut story = Story::new();
        story.run("SET k Hello").gives("+OK");
        story.run("GETRANGE k 1 3").gives("ell");
        story.run("GETRANGE k -3 -1").gives("llo");
        story.run("GETRANGE k 0 -1").gives("Hello");
        story.run("GETRANGE k 3 100").gives("lo");
        story.run("GETRANGE k -100 1").gives("He");
        story.run("GETRANGE k 4 2").gives("");
        story.run("GETRANGE k -1 -5").gives("");
        story.run("SUBSTR k 0 0").gives("H");
        story.run("GETRANGE missing 0 -1").gives("");
        story.run("GETRANGE k a 1").gives("-ERR value is not an integer or out of range");
    }

    #[test]
    fn appending_and_overwriting_keep_the_expiry() {
        let mut story = Story::new();
        story.run("APPEND k ab").gives(":2");
        story.run("PEXPIRE k 1000").gives(":1");
        story.run("APPEND k cd").gives(":4");
        story.run("SETRANGE k 6 X").gives(":7");
        story.run("GET k").gives("abcd\0\0X");
        story.run("PTTL k").gives(":1000");
        story.run("SETRANGE k 1 ZZ").gives(":7");
        story.run("STRLEN k").gives(":7");
    }

    #[test]
    fn offsets_and_sizes_have_bounds() {
        let mut story = Story::new();
        story.run("SETRANGE k -1 x").gives("-ERR offset is out of range");
        story
            .run("SETRANGE k 16777216 x")
            .gives("-ERR string exceeds maximum allowed size (proto-max-bulk-len)");
        story
            .run("SETRANGE k 9223372036854775807 x")
            .gives("-ERR string exceeds maximum allowed size (proto-max-bulk-len)");
        story.run("SETRANGE missing 5 \"\"").gives(":0");
        story.run("EXISTS k missing").gives(":0");
    }

    #[test]
    fn reading_and_deleting_at_once() {
        let mut story = Story::new();
        story.run("SET k v").gives("+OK");
        story.run("GETDEL k").gives("v");
        story.run("GETDEL k").gives("(nil)");
        story.run("MGET k k").gives("[(nil), (nil)]");
    }
}
