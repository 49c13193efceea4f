//! Everything that a command can be refused for, with the exact words that
//! Redis uses, because clients match on them.
//!
//! A refusal never changes state, with one exception that says so:
//! [`Refusal::Unknown`].

use std::borrow::Cow;

use crate::resp::Value;

/// Why a command was not executed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The options make no sense.
    #[error("ERR syntax error")]
    Syntax,
    /// An argument or the stored value should have been an integer.
    #[error("ERR value is not an integer or out of range")]
    NotInteger,
    /// An argument or the stored value should have been a number.
    #[error("ERR value is not a valid float")]
    NotFloat,
    /// The result of an increment would be infinite or no number.
    #[error("ERR increment would produce NaN or Infinity")]
    NotFinite,
    /// The result of an increment does not fit 64 bits.
    #[error("ERR increment or decrement would overflow")]
    Overflow,
    /// The decrement cannot be negated.
    #[error("ERR decrement would overflow")]
    DecrementOverflow,
    /// The key holds another type.
    #[error("WRONGTYPE Operation against a key holding the wrong kind of value")]
    WrongType,
    /// The command needs an existing key.
    #[error("ERR no such key")]
    NoSuchKey,
    /// An expiry that is not after 1970 or overflows.
    #[error("ERR invalid expire time in '{0}' command")]
    InvalidExpire(&'static str),
    /// `EXPIRE` options that exclude each other.
    #[error("ERR NX and XX, GT or LT options at the same time are not compatible")]
    ExpireNx,
    /// `EXPIRE` options that exclude each other.
    #[error("ERR GT and LT options at the same time are not compatible")]
    ExpireGtLt,
    /// An option that does not exist.
    #[error("ERR Unsupported option {0}")]
    UnsupportedOption(String),
    /// A negative or too large offset.
    #[error("ERR offset is out of range")]
    Offset,
    /// The value would become larger than a value may be.
    #[error("ERR string exceeds maximum allowed size (proto-max-bulk-len)")]
    TooLong,
    /// A key longer than [`crate::rows::MAX_KEY_BYTES`].
    #[error("ERR key is too long (a key has at most {} bytes)", crate::rows::MAX_KEY_BYTES)]
    KeyTooLong,
    /// `COPY` onto itself.
    #[error("ERR source and destination objects are the same")]
    SameObject,
    /// A database number that is not 0 to 15.
    #[error("ERR DB index is out of range")]
    DbIndex,
    /// A cursor that is not a number.
    #[error("ERR invalid cursor")]
    Cursor,
    /// Too few or too many arguments.
    #[error("ERR wrong number of arguments for '{0}' command")]
    Arity(Cow<'static, str>),
    /// No such command, with how it was written.
    #[error("ERR unknown command '{name}', with args beginning with: {arguments}")]
    UnknownCommand {
        /// The name as it was sent.
        name: String,
        /// The first arguments, quoted.
        arguments: String,
    },
    /// No such subcommand.
    #[error("ERR unknown subcommand '{0}'. Try {1} HELP.")]
    UnknownSubcommand(String, &'static str),
    /// The keys are on several partitions and the command cannot be split.
    #[error("CROSSSLOT Keys in request don't hash to the same partition")]
    CrossSlot,
    /// A command that cannot be wrapped in the named one.
    #[error("ERR {0} takes a command that {1}")]
    CannotWrap(&'static str, &'static str),
    /// `TRINE.ONCE`: the partition remembers as many ids as it may.
    #[error("TRYAGAIN TRINE.ONCE: too many ids in use, each is kept for 10 minutes")]
    TooManyIds,
    /// `TRINE.ONCE`: a newer sequence number of the id was executed.
    #[error("ERR TRINE.ONCE: sequence {0} of this id was already followed by {1}")]
    SequencePassed(u64, u64),
    /// `TRINE.ONCE`: the id or sequence is not acceptable.
    #[error("ERR TRINE.ONCE: {0}")]
    OnceArgument(&'static str),
    /// The disk is nearly full and the command would need more of it.
    #[error("OOM command not allowed: the disk of this node is nearly full (deletes still work)")]
    DiskLow,
    /// The partition did not answer; nothing was executed and trying again is safe.
    #[error("TRYAGAIN {0}")]
    TryAgain(String),
    /// The partition has no majority or no leader; nothing was executed.
    #[error("CLUSTERDOWN {0}")]
    Down(String),
    /// Nobody knows whether the write was executed.
    #[error("UNKNOWN outcome: {0}; the write may or may not have happened")]
    Unknown(String),
    /// A reply or request is larger than may travel between nodes.
    #[error("ERR {0}")]
    TooLarge(&'static str),
    /// The bytes that arrived at the partition are no command.
    #[error("ERR this node cannot read the command: {0}")]
    Unreadable(&'static str),
    /// The connection must log in first.
    #[error("NOAUTH Authentication required.")]
    NotLoggedIn,
    /// The principal may not run the command.
    #[error("NOPERM this user has no permissions to run the '{0}' command")]
    NotPermitted(String),
    /// The principal may not use one of the keys.
    #[error("NOPERM this user has no permissions to access one of the keys used as arguments")]
    KeyNotPermitted,
    /// The principal may not run all of a transaction any more.
    #[error("NOPERM this user's rights changed since the commands were queued: nothing was executed")]
    RightsChanged,
    /// ACL: what cannot be done, in words.
    #[error("ERR {0}")]
    Acl(String),
    /// Constant text, for the rest.
    #[error("{0}")]
    Text(&'static str),
}

impl From<Refusal> for Value {
    fn from(refusal: Refusal) -> Self {
        Self::error(refusal.to_string())
    }
}

/// What a rule answers.
pub type Outcome = Result<Value, Refusal>;

/// Turns an outcome into the reply that it stands for.
pub fn reply(outcome: Outcome) -> Value {
    outcome.unwrap_or_else(Value::from)
}
