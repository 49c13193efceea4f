//! RESP, the Redis protocol: what a reply is, in versions 2 and 3.
//!
//! Inside the cluster every reply travels encoded as version 3. Most replies
//! look the same in both versions, so that an entry node passes the bytes on
//! untouched ([`encode::reply`]).

pub mod decode;
pub mod encode;
pub mod request;

use std::borrow::Cow;

use bytes::Bytes;

/// Which version of RESP a connection speaks. `HELLO 3` switches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Protocol {
    /// RESP2, what every connection starts with.
    #[default]
    Two,
    /// RESP3.
    Three,
}

/// A reply.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// `+OK`
    Simple(Cow<'static, str>),
    /// `-ERR …`; the text holds no line break.
    Error(Cow<'static, str>),
    /// `:1`
    Integer(i64),
    /// `$5 hello`
    Bulk(Bytes),
    /// No value: `_` in version 3, `$-1` in version 2.
    Nil,
    /// `*2 …`
    Array(Vec<Value>),
    /// `%1 …`; in version 2 an array of twice the length.
    Map(Vec<(Value, Value)>),
    /// `~1 …`; in version 2 an array.
    Set(Vec<Value>),
    /// `,1.5`; in version 2 a bulk string.
    Double(f64),
    /// `#t`; in version 2 the integer 1 or 0.
    Boolean(bool),
    /// `=8 txt:text`; in version 2 a bulk string. The format has 3 letters.
    Verbatim([u8; 3], Bytes),
}

impl Value {
    /// `+OK`
    pub const OK: Self = Self::Simple(Cow::Borrowed("OK"));

    /// A bulk string.
    pub fn bulk(bytes: impl Into<Bytes>) -> Self {
        Self::Bulk(bytes.into())
    }

    /// A bulk string of constant text.
    pub const fn text(text: &'static str) -> Self {
        Self::Bulk(Bytes::from_static(text.as_bytes()))
    }

    /// An error whose text may be put together; line breaks become spaces.
    pub fn error(text: impl Into<Cow<'static, str>>) -> Self {
        let text = text.into();
        if text.contains(['\r', '\n']) {
            return Self::Error(text.replace(['\r', '\n'], " ").into());
        }
        Self::Error(text)
    }

    /// A count as an integer reply.
    pub fn count(count: usize) -> Self {
        Self::Integer(i64::try_from(count).unwrap_or(i64::MAX))
    }

    /// A duration or time in its unit as an integer reply.
    pub fn unsigned(number: u64) -> Self {
        Self::Integer(i64::try_from(number).unwrap_or(i64::MAX))
    }

    /// A boolean the way Redis's older commands answer: 1 or 0.
    pub fn flag(flag: bool) -> Self {
        Self::Integer(i64::from(flag))
    }

    /// Its size in memory, about.
    pub fn size(&self) -> usize {
        let content = match self {
            Self::Simple(text) | Self::Error(text) => text.len(),
            Self::Bulk(bytes) | Self::Verbatim(_, bytes) => bytes.len(),
            Self::Array(items) | Self::Set(items) => items.iter().map(Self::size).sum(),
            Self::Map(pairs) => pairs.iter().map(|(key, value)| key.size() + value.size()).sum(),
            Self::Integer(_) | Self::Nil | Self::Double(_) | Self::Boolean(_) => 0,
        };
        content + 16
    }

    /// Whether this is an error.
    pub fn is_error(&self) -> bool {
        matches!(self, Self::Error(_))
    }
}
