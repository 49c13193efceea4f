//! Strings as numbers: counting up and down. Increments are exact decimal
//! sums where that is possible, as Redis's 80-bit floats make them look.

use bytes::Bytes;

use crate::args::{float, integer, integer_arg};
use crate::error::{Outcome, Refusal};
use crate::resp::Value;
use crate::rows::Entry;
use crate::space::{SpaceMut, string_of};

/// `INCR key`
pub fn incr(space: &mut SpaceMut<'_>, argv: &[Bytes]) -> Outcome {
    add(space, &argv[1], 1)
}

/// `DECR key`
pub fn decr(space: &mut SpaceMut<'_>, argv: &[Bytes]) -> Outcome {
    add(space, &argv[1], -1)
}

/// `INCRBY key number`
pub fn incrby(space: &mut SpaceMut<'_>, argv: &[Bytes]) -> Outcome {
    add(space, &argv[1], integer_arg(&argv[2])?)
}

/// `DECRBY key number`
pub fn decrby(space: &mut SpaceMut<'_>, argv: &[Bytes]) -> Outcome {
    let number = integer_arg(&argv[2])?.checked_neg().ok_or(Refusal::DecrementOverflow)?;
    add(space, &argv[1], number)
}

fn add(space: &mut SpaceMut<'_>, key: &[u8], number: i64) -> Outcome {
    let old = space.get(key);
    let before = match &old {
        Some(old) => integer(&string_of(old.clone())?).ok_or(Refusal::NotInteger)?,
        None => 0,
    };
    let after = before.checked_add(number).ok_or(Refusal::Overflow)?;
    keep_expiry(space, key, old.as_ref(), after.to_string().into());
    Ok(Value::Integer(after))
}

/// `INCRBYFLOAT key number`
pub fn incrbyfloat(space: &mut SpaceMut<'_>, argv: &[Bytes]) -> Outcome {
    let old = space.get(&argv[1]);
    let before = match &old {
        Some(old) => string_of(old.clone())?,
        None => Bytes::from_static(b"0"),
    };
    let (first, second) =
        (float(&before).ok_or(Refusal::NotFloat)?, float(&argv[2]).ok_or(Refusal::NotFloat)?);
    let after: Bytes = match exact_sum(&before, &argv[2]) {
        Some(sum) => sum.into(),
        None if (first + second).is_finite() => (first + second).to_string().into(),
        None => return Err(Refusal::NotFinite),
    };
    keep_expiry(space, &argv[1], old.as_ref(), after.clone());
    Ok(Value::Bulk(after))
}

fn keep_expiry(space: &mut SpaceMut<'_>, key: &[u8], old: Option<&Entry>, body: Bytes) {
    let expires_ms = old.and_then(|old| old.expires_ms);
    space.replace(key, old, Some(&Entry { expires_ms, ..Entry::string(body) }));
}

/// Decimals behind the point that a sum keeps, as in Redis.
const DECIMALS: usize = 17;

/// The sum of two plain decimal numbers, exact; `None` if either is written
/// otherwise (exponent, infinity) or has too many digits.
fn exact_sum(first: &[u8], second: &[u8]) -> Option<String> {
    let sum = scaled(first)?.checked_add(scaled(second)?)?;
    let scale = 10_i128.pow(u32::try_from(DECIMALS).ok()?);
    let (whole, part) =
        (sum.unsigned_abs() / scale.unsigned_abs(), sum.unsigned_abs() % scale.unsigned_abs());
    let sign = if sum < 0 { "-" } else { "" };
    if part == 0 {
        return Some(format!("{sign}{whole}"));
    }
    let part = format!("{part:0DECIMALS$}");
    Some(format!("{sign}{whole}.{}", part.trim_end_matches('0')))
}

/// The number times 10 to the 17th.
fn scaled(text: &[u8]) -> Option<i128> {
    let exponent = text.iter().position(|byte| byte.eq_ignore_ascii_case(&b'e'));
    let (text, exponent) = match exponent {
        Some(at) => (&text[..at], std::str::from_utf8(&text[at + 1..]).ok()?.parse::<i32>().ok()?),
        None => (text, 0),
    };
    let (negative, digits) = match text.split_first()? {
        (b'-', digits) => (true, digits),
        (b'+', digits) => (false, digits),
        _ => (false, text),
    };
    let mut decimals: Option<usize> = None;
    let mut number = 0_i128;
    for byte in digits {
        match byte {
            b'.' if decimals.is_none() => decimals = Some(0),
            b'0'..=b'9' => {
                number = number.checked_mul(10)?.checked_add(i128::from(byte - b'0'))?;
                decimals = decimals.map(|decimals| decimals + 1);
            }
            _ => return None,
        }
    }
    let missing = i32::try_from(DECIMALS).ok()?.checked_sub(i32::try_from(decimals.unwrap_or(0)).ok()?)?;
    let missing = u32::try_from(missing.checked_add(exponent)?).ok()?;
    let number = number.checked_mul(10_i128.checked_pow(missing)?)?;
    Some(if negative { -number } else { number })
}

#[cfg(test)]
mod tests {
    use crate::rules::stories::Story;

    #[test]
    fn counting_starts_at_zero_and_keeps_the_expiry() {
        let mut story = Story::new();
        story.run("INCR n").gives(":1");
        story.run("INCRBY n 41").gives(":42");
        story.run("DECRBY n 2").gives(":40");
        story.run("PEXPIRE n 500").gives(":1");
        story.run("DECR n").gives(":39");
        story.run("PTTL n").gives(":500");
        story.run("OBJECT ENCODING n").gives("int");
    }

    #[test]
    fn what_is_no_integer_is_refused() {
        let mut story = Story::new();
        story.run("SET k abc").gives("+OK");
        story.run("INCR k").gives("-ERR value is not an integer or out of range");
        story.run("SET k 01").gives("+OK");
        story.run("INCR k").gives("-ERR value is not an integer or out of range");
        story.run("INCRBY n 1.5").gives("-ERR value is not an integer or out of range");
        story.run("SET k 9223372036854775807").gives("+OK");
        story.run("INCR k").gives("-ERR increment or decrement would overflow");
        story.run("DECRBY k -9223372036854775808").gives("-ERR decrement would overflow");
    }

    #[test]
    fn decimal_sums_look_as_on_paper() {
        let mut story = Story::new();
        story.run("INCRBYFLOAT f 0.1").gives("0.1");
        story.run("INCRBYFLOAT f 0.2").gives("0.3");
        story.run("INCRBYFLOAT f -1").gives("-0.7");
        story.run("INCRBYFLOAT f 0.7").gives("0");
        story.run("SET f 5.0e3").gives("+OK");
        story.run("INCRBYFLOAT f 200").gives("5200");
        story.run("INCRBYFLOAT f 1e-5").gives("5200.00001");
        story.run("INCRBYFLOAT f x").gives("-ERR value is not a valid float");
        story.run("INCRBYFLOAT f inf").gives("-ERR increment would produce NaN or Infinity");
        story.run("SET f abc").gives("+OK");
        story.run("INCRBYFLOAT f 1").gives("-ERR value is not a valid float");
    }
}
