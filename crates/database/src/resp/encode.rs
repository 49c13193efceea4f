//! Replies to bytes.
//!
//! ```text
//! +OK\r\n   -ERR text\r\n   :1\r\n   $5\r\nhello\r\n   *2\r\n..      both versions
//! _\r\n  %1\r\n..  ~1\r\n..  ,1.5\r\n  #t\r\n  =8\r\ntxt:text\r\n    version 3
//! $-1\r\n  *2..    *1..      $3\r\n1.5\r\n :1  $4\r\ntext\r\n        the same in version 2
//! ```

use bytes::{BufMut, Bytes, BytesMut};

use super::{Protocol, Value, decode};

/// Encodes `value` as version 3, the form in which replies travel.
pub fn encoded(value: &Value) -> Bytes {
    let mut out = BytesMut::with_capacity(match value {
        Value::Bulk(bytes) => bytes.len() + 32,
        _ => 64,
    });
    encode(value, Protocol::Three, &mut out);
    out.freeze()
}

/// Appends a reply that is already encoded as version 3 to `out` in
/// `protocol`. Replies that look the same in both versions are copied.
pub fn reply(encoded: &[u8], protocol: Protocol, out: &mut BytesMut) {
    let same_in_both = matches!(encoded.first(), Some(b'+' | b'-' | b':' | b'$'));
    if same_in_both || protocol == Protocol::Three {
        out.extend_from_slice(encoded);
        return;
    }
    match decode::value(encoded) {
        Some(value) => encode(&value, protocol, out),
        None => encode(&Value::error("ERR a node sent a reply that cannot be read"), protocol, out),
    }
}

/// Appends `value` to `out`.
pub fn encode(value: &Value, protocol: Protocol, out: &mut BytesMut) {
    let three = protocol == Protocol::Three;
    match value {
        Value::Simple(text) => line(b'+', text.as_bytes(), out),
        Value::Error(text) => line(b'-', text.as_bytes(), out),
        Value::Integer(number) => header(b':', *number, out),
        Value::Bulk(bytes) => bulk(bytes, out),
        Value::Nil if three => out.extend_from_slice(b"_\r\n"),
        Value::Nil => out.extend_from_slice(b"$-1\r\n"),
        Value::Array(items) => sequence(b'*', items, protocol, out),
        Value::Set(items) => sequence(if three { b'~' } else { b'*' }, items, protocol, out),
        Value::Map(pairs) => {
            let (kind, length) = if three { (b'%', pairs.len()) } else { (b'*', pairs.len() * 2) };
            size(kind, length, out);
            for (key, value) in pairs {
                encode(key, protocol, out);
                encode(value, protocol, out);
            }
        }
        Value::Double(number) if three => line(b',', double(*number).as_bytes(), out),
        Value::Double(number) => bulk(double(*number).as_bytes(), out),
        Value::Boolean(flag) if three => line(b'#', if *flag { b"t" } else { b"f" }, out),
        Value::Boolean(flag) => header(b':', i64::from(*flag), out),
        Value::Verbatim(format, text) if three => {
            size(b'=', text.len() + 4, out);
            out.extend_from_slice(format);
            out.put_u8(b':');
            out.extend_from_slice(text);
            out.extend_from_slice(b"\r\n");
        }
        Value::Verbatim(_, text) => bulk(text, out),
    }
}

fn double(number: f64) -> String {
    if number.is_nan() {
        "nan".to_owned()
    } else if number.is_infinite() {
        if number > 0.0 { "inf" } else { "-inf" }.to_owned()
    } else {
        number.to_string()
    }
}

fn line(kind: u8, text: &[u8], out: &mut BytesMut) {
    out.reserve(text.len() + 3);
    out.put_u8(kind);
    out.extend_from_slice(text);
    out.extend_from_slice(b"\r\n");
}

fn bulk(bytes: &[u8], out: &mut BytesMut) {
    out.reserve(bytes.len() + 24);
    size(b'$', bytes.len(), out);
    out.extend_from_slice(bytes);
    out.extend_from_slice(b"\r\n");
}

fn sequence(kind: u8, items: &[Value], protocol: Protocol, out: &mut BytesMut) {
    size(kind, items.len(), out);
    for item in items {
        encode(item, protocol, out);
    }
}

fn size(kind: u8, length: usize, out: &mut BytesMut) {
    header(kind, i64::try_from(length).unwrap_or(i64::MAX), out);
}

fn header(kind: u8, number: i64, out: &mut BytesMut) {
    out.put_u8(kind);
    put_decimal(number, out);
    out.extend_from_slice(b"\r\n");
}

/// Appends `number` in decimal without allocating.
pub fn put_decimal(number: i64, out: &mut BytesMut) {
    let mut digits = [0_u8; 20];
    let mut at = digits.len();
    let mut rest = number.unsigned_abs();
    loop {
        at -= 1;
        digits[at] = b'0' + u8::try_from(rest % 10).expect("a digit fits a byte");
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    if number < 0 {
        out.put_u8(b'-');
    }
    out.extend_from_slice(&digits[at..]);
}
