//! Bytes to replies: what an entry node does with the parts of a reply that
//! it must merge, and what tests do with everything.

use bytes::Bytes;

use super::Value;

/// Replies nest at most this deep; deeper is not a reply of ours.
const MAX_DEPTH: usize = 16;

/// Decodes exactly one reply (version 2 or 3). `None` when it is not one.
pub fn value(bytes: &[u8]) -> Option<Value> {
    let mut reader = Reader { bytes, at: 0 };
    let value = reader.value(0)?;
    (reader.at == bytes.len()).then_some(value)
}

/// Decodes the first reply in `bytes` and says how long it was.
/// `None` when it is incomplete or not a reply.
pub fn first(bytes: &[u8]) -> Option<(Value, usize)> {
    let mut reader = Reader { bytes, at: 0 };
    let value = reader.value(0)?;
    Some((value, reader.at))
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn line(&mut self) -> Option<&'a [u8]> {
        let rest = self.bytes.get(self.at..)?;
        let end = rest.windows(2).position(|pair| pair == b"\r\n")?;
        self.at += end + 2;
        Some(&rest[..end])
    }

    fn number(&mut self) -> Option<i64> {
        std::str::from_utf8(self.line()?).ok()?.parse().ok()
    }

    fn body(&mut self, length: usize) -> Option<&'a [u8]> {
        let end = self.at.checked_add(length)?;
        let body = self.bytes.get(self.at..end)?;
        (self.bytes.get(end..end + 2)? == b"\r\n").then(|| self.at = end + 2)?;
        Some(body)
    }

    fn items(&mut self, count: i64, depth: usize) -> Option<Vec<Value>> {
        let count = usize::try_from(count).ok()?;
        // Each item takes at least three bytes, so a lie cannot reserve much.
        let mut items = Vec::with_capacity(count.min(self.bytes.len() / 3));
        for _ in 0..count {
            items.push(self.value(depth + 1)?);
        }
        Some(items)
    }

    fn value(&mut self, depth: usize) -> Option<Value> {
        if depth > MAX_DEPTH {
            return None;
        }
        let kind = *self.bytes.get(self.at)?;
        self.at += 1;
        Some(match kind {
            b'+' => Value::Simple(text(self.line()?)?.into()),
            b'-' => Value::Error(text(self.line()?)?.into()),
            b':' => Value::Integer(self.number()?),
            b'$' => match self.number()? {
                -1 => Value::Nil,
                length => Value::Bulk(Bytes::copy_from_slice(self.body(usize::try_from(length).ok()?)?)),
            },
            b'_' => {
                self.line()?;
                Value::Nil
            }
            b'*' => match self.number()? {
                -1 => Value::Nil,
                count => Value::Array(self.items(count, depth)?),
            },
            b'~' => {
                let count = self.number()?;
                Value::Set(self.items(count, depth)?)
            }
            b'%' => {
                let count = self.number()?.checked_mul(2)?;
                let mut items = self.items(count, depth)?.into_iter();
                let mut pairs = Vec::new();
                while let (Some(key), Some(value)) = (items.next(), items.next()) {
                    pairs.push((key, value));
                }
                Value::Map(pairs)
            }
            b',' => Value::Double(text(self.line()?)?.parse().ok()?),
            b'#' => Value::Boolean(self.line()? == b"t"),
            b'=' => {
                let length = self.number()?;
                let body = self.body(usize::try_from(length).ok()?)?;
                let (format, text) = (body.get(..3)?, body.get(4..)?);
                Value::Verbatim(format.try_into().ok()?, Bytes::copy_from_slice(text))
            }
            _ => return None,
        })
    }
}

fn text(bytes: &[u8]) -> Option<String> {
    String::from_utf8(bytes.to_vec()).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::resp::{Protocol, encode};

    fn any_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            "[a-zA-Z ]{0,12}".prop_map(|text| Value::Simple(text.into())),
            "[A-Z]{1,6} [a-z ]{0,12}".prop_map(|text| Value::Error(text.into())),
            any::<i64>().prop_map(Value::Integer),
            proptest::collection::vec(any::<u8>(), 0..40).prop_map(Value::bulk),
            Just(Value::Nil),
            (-1e9..1e9).prop_map(Value::Double),
            any::<bool>().prop_map(Value::Boolean),
            proptest::collection::vec(any::<u8>(), 0..9).prop_map(|t| Value::Verbatim(*b"txt", t.into())),
        ];
        leaf.prop_recursive(3, 24, 4, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::Array),
                proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::Set),
                proptest::collection::vec((inner.clone(), inner), 0..3).prop_map(Value::Map),
            ]
        })
    }

    proptest! {
        #[test]
        fn version_three_round_trips(value in any_value()) {
            prop_assert_eq!(super::value(&encode::encoded(&value)), Some(value));
        }

        #[test]
        fn version_two_is_always_readable(value in any_value()) {
            let mut out = bytes::BytesMut::new();
            encode::reply(&encode::encoded(&value), Protocol::Two, &mut out);
            prop_assert!(super::value(&out).is_some(), "{:?}", out);
            prop_assert!(!out.contains(&b'_') || out.windows(3).all(|w| w != b"_\r\n") || value != Value::Nil);
        }

        #[test]
        fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = super::value(&bytes);
        }

        #[test]
        fn a_cut_reply_is_incomplete(value in any_value(), at in any::<prop::sample::Index>()) {
            let bytes = encode::encoded(&value);
            let cut = at.index(bytes.len());
            prop_assert_eq!(super::value(&bytes[..cut]), None);
        }
    }

    #[test]
    fn version_two_has_its_own_nil_and_maps() {
        let mut out = bytes::BytesMut::new();
        encode::encode(&Value::Map(vec![(Value::text("a"), Value::Nil)]), Protocol::Two, &mut out);
        assert_eq!(&out[..], b"*2\r\n$1\r\na\r\n$-1\r\n");
    }
}
