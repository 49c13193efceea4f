//! Reading arguments the way Redis reads them: strict integers, floats,
//! options in any case.

use bytes::Bytes;

use crate::error::Refusal;

/// A 64-bit integer as Redis accepts it: no sign but `-`, no leading zeros,
/// no spaces, nothing else.
pub fn integer(bytes: &[u8]) -> Option<i64> {
    let digits = bytes.strip_prefix(b"-").unwrap_or(bytes);
    let canonical = match digits {
        [b'0'] => bytes.len() == 1,
        [] | [b'0', ..] => false,
        _ => digits.len() <= 19,
    };
    if !canonical || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let negative = digits.len() != bytes.len();
    digits.iter().try_fold(0_i64, |number, digit| {
        let digit = i64::from(digit - b'0');
        let number = number.checked_mul(10)?;
        if negative { number.checked_sub(digit) } else { number.checked_add(digit) }
    })
}

/// An integer argument, or Redis's refusal.
///
/// # Errors
/// When the argument is no canonical 64-bit integer.
pub fn integer_arg(bytes: &[u8]) -> Result<i64, Refusal> {
    integer(bytes).ok_or(Refusal::NotInteger)
}

/// A number as Redis accepts it for `INCRBYFLOAT`: no spaces, no NaN.
pub fn float(bytes: &[u8]) -> Option<f64> {
    let text = std::str::from_utf8(bytes).ok()?;
    let number: f64 = text.parse().ok()?;
    (!number.is_nan()).then_some(number)
}

/// Whether `argument` is the option `name` (given in upper case).
pub fn is(argument: &[u8], name: &str) -> bool {
    argument.eq_ignore_ascii_case(name.as_bytes())
}

/// Text for an error message: printable, bounded.
pub fn quoted(argument: &[u8], limit: usize) -> String {
    let shown = &argument[..argument.len().min(limit)];
    String::from_utf8_lossy(shown).replace(['\r', '\n', '\0'], " ")
}

/// The arguments after the command's name, taken one by one.
#[derive(Debug, Clone)]
pub struct Options<'a> {
    rest: &'a [Bytes],
}

impl<'a> Options<'a> {
    /// The arguments from `from` on.
    pub fn new(argv: &'a [Bytes], from: usize) -> Self {
        Self { rest: argv.get(from..).unwrap_or_default() }
    }

    /// The value that must follow an option.
    ///
    /// # Errors
    /// A syntax error when there is none.
    pub fn value(&mut self) -> Result<&'a Bytes, Refusal> {
        self.next().ok_or(Refusal::Syntax)
    }

    /// The integer that must follow an option.
    ///
    /// # Errors
    /// When there is none or it is no integer.
    pub fn integer(&mut self) -> Result<i64, Refusal> {
        integer_arg(self.value()?)
    }

    /// How many arguments are left.
    pub fn left(&self) -> usize {
        self.rest.len()
    }
}

impl<'a> Iterator for Options<'a> {
    type Item = &'a Bytes;

    fn next(&mut self) -> Option<&'a Bytes> {
        let (first, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_are_canonical_or_nothing() {
        for (text, number) in [
            ("0", Some(0)),
            ("-1", Some(-1)),
            ("9223372036854775807", Some(i64::MAX)),
            ("-9223372036854775808", Some(i64::MIN)),
            ("9223372036854775808", None),
            ("-9223372036854775809", None),
            ("99999999999999999999", None),
            ("", None),
            ("-", None),
            ("-0", None),
            ("01", None),
            ("+1", None),
            (" 1", None),
            ("1x", None),
        ] {
            assert_eq!(integer(text.as_bytes()), number, "{text:?}");
        }
    }

    #[test]
    fn floats_know_exponents_and_infinity_but_no_spaces() {
        assert_eq!(float(b"1.5e3"), Some(1500.0));
        assert_eq!(float(b"-inf"), Some(f64::NEG_INFINITY));
        assert_eq!(float(b" 1"), None);
        assert_eq!(float(b"nan"), None);
        assert_eq!(float(b"1x"), None);
    }
}
