//! One rule about what a principal may or may not do, and its text form, which
//! is how people write it and how it is stored.
//!
//! ```text
//! everything              all data, and administration
//! data                    all data of all models
//! admin                   administration
//! subject:FILTER          publish to and subscribe to
//! publish:FILTER
//! subscribe:FILTER        or `subscribe:FILTER QUEUE`: as a member of QUEUE
//! key:PATTERN             read and change keys (`*`, `?`, `[a-z]`)
//! read:PATTERN  write:PATTERN
//! command:NAME            or `command:NAME|SUBCOMMAND`, `command:@CATEGORY`
//! channel:PATTERN         of the database
//! jobs:PATTERN            queues of jobs
//! ```

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{glob, subject};

/// Longest text of a rule, in bytes.
pub const MAX_RULE_BYTES: usize = 512;
/// The category that every command of the database is in.
const ALL_COMMANDS: &str = "all";

/// What is done to a key.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Access {
    /// Its value is read.
    Read,
    /// Its value is changed.
    Write,
    /// Both.
    Both,
}

/// One rule. Whether it allows or denies is said by the list that it is in.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Rule {
    /// All data, and administration.
    Everything,
    /// All data of all models.
    Data,
    /// Administration.
    Admin,
    /// Publish to and subscribe to subjects.
    Subject(String),
    /// Publish to subjects.
    Publish(String),
    /// Subscribe to subjects; with a queue: as a member of it only.
    Subscribe(String, Option<String>),
    /// Access to keys.
    Key(Access, String),
    /// A command of the database, or one of its subcommands.
    Command(String),
    /// The commands of one category.
    Category(String),
    /// Channels of the database.
    Channel(String),
    /// Queues of jobs.
    Jobs(String),
}

/// A wish to subscribe, as rules see it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Subscription<'a> {
    /// Which subjects.
    pub filter: &'a [u8],
    /// As a member of which queue group.
    pub queue: Option<&'a [u8]>,
}

impl Rule {
    /// Whether it is about publishing to this subject.
    pub fn publishes(&self, name: &[u8]) -> bool {
        match self {
            Self::Everything | Self::Data => true,
            Self::Subject(filter) | Self::Publish(filter) => subject::matches(filter.as_bytes(), name),
            _ => false,
        }
    }

    /// Whether it is about all of this subscription.
    pub fn covers(&self, wish: Subscription<'_>) -> bool {
        self.concerns(wish, subject::covers)
    }

    /// Whether it is about some subjects of this subscription.
    pub fn overlaps(&self, wish: Subscription<'_>) -> bool {
        self.concerns(wish, subject::overlaps)
    }

    fn concerns(&self, wish: Subscription<'_>, of: fn(&[u8], &[u8]) -> bool) -> bool {
        match self {
            Self::Everything | Self::Data => true,
            Self::Subject(filter) | Self::Subscribe(filter, None) => of(filter.as_bytes(), wish.filter),
            Self::Subscribe(filter, Some(queue)) => {
                let member = wish.queue.is_some_and(|wished| subject::matches(queue.as_bytes(), wished));
                member && of(filter.as_bytes(), wish.filter)
            }
            _ => false,
        }
    }

    /// Whether it names a queue for subscriptions to this filter.
    pub fn has_queue_for(&self, filter: &[u8]) -> bool {
        matches!(self, Self::Subscribe(own, Some(_)) if subject::covers(own.as_bytes(), filter))
    }

    /// Whether it is about members of a queue only.
    pub fn names_queue(&self) -> bool {
        matches!(self, Self::Subscribe(_, Some(_)))
    }

    /// Whether it is about this access to this key.
    pub fn accesses(&self, access: Access, key: &[u8]) -> bool {
        match self {
            Self::Everything | Self::Data => true,
            Self::Key(given, pattern) => {
                (*given == access || *given == Access::Both) && glob::matches(pattern.as_bytes(), key)
            }
            _ => false,
        }
    }

    /// Whether it is about running this command.
    pub fn runs(&self, command: &str, subcommand: Option<&str>, categories: &[&str]) -> bool {
        match self {
            Self::Everything | Self::Data => true,
            Self::Category(category) => category == ALL_COMMANDS || categories.contains(&category.as_str()),
            Self::Command(name) => match name.split_once('|') {
                Some((name, sub)) => name == command && subcommand == Some(sub),
                None => name == command,
            },
            _ => false,
        }
    }

    /// Whether it is about this channel.
    pub fn opens_channel(&self, channel: &[u8]) -> bool {
        match self {
            Self::Everything | Self::Data => true,
            Self::Channel(pattern) => glob::matches(pattern.as_bytes(), channel),
            _ => false,
        }
    }

    /// Whether it is about this queue of jobs.
    pub fn opens_jobs(&self, queue: &str) -> bool {
        match self {
            Self::Everything | Self::Data => true,
            Self::Jobs(pattern) => glob::matches(pattern.as_bytes(), queue.as_bytes()),
            _ => false,
        }
    }

    fn is_all(&self) -> bool {
        matches!(self, Self::Everything | Self::Data)
    }

    pub(crate) fn is_all_publish(&self) -> bool {
        self.is_all() || matches!(self, Self::Subject(filter) | Self::Publish(filter) if filter == ">")
    }

    pub(crate) fn is_about_publish(&self) -> bool {
        self.is_all() || matches!(self, Self::Subject(_) | Self::Publish(_))
    }

    pub(crate) fn is_all_subscribe(&self) -> bool {
        self.is_all()
            || matches!(self, Self::Subject(filter) | Self::Subscribe(filter, None) if filter == ">")
    }

    pub(crate) fn is_about_subscribe(&self) -> bool {
        self.is_all() || matches!(self, Self::Subject(_) | Self::Subscribe(..))
    }

    pub(crate) fn is_all_keys(&self) -> bool {
        self.is_all() || matches!(self, Self::Key(Access::Both, pattern) if pattern == "*")
    }

    pub(crate) fn is_about_keys(&self) -> bool {
        self.is_all() || matches!(self, Self::Key(..))
    }

    pub(crate) fn is_all_commands(&self) -> bool {
        self.is_all() || matches!(self, Self::Category(category) if category == ALL_COMMANDS)
    }

    pub(crate) fn is_about_commands(&self) -> bool {
        self.is_all() || matches!(self, Self::Command(_) | Self::Category(_))
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Everything => f.write_str("everything"),
            Self::Data => f.write_str("data"),
            Self::Admin => f.write_str("admin"),
            Self::Subject(filter) => write!(f, "subject:{filter}"),
            Self::Publish(filter) => write!(f, "publish:{filter}"),
            Self::Subscribe(filter, None) => write!(f, "subscribe:{filter}"),
            Self::Subscribe(filter, Some(queue)) => write!(f, "subscribe:{filter} {queue}"),
            Self::Key(Access::Both, pattern) => write!(f, "key:{pattern}"),
            Self::Key(Access::Read, pattern) => write!(f, "read:{pattern}"),
            Self::Key(Access::Write, pattern) => write!(f, "write:{pattern}"),
            Self::Command(name) => write!(f, "command:{name}"),
            Self::Category(category) => write!(f, "command:@{category}"),
            Self::Channel(pattern) => write!(f, "channel:{pattern}"),
            Self::Jobs(pattern) => write!(f, "jobs:{pattern}"),
        }
    }
}

impl From<Rule> for String {
    fn from(rule: Rule) -> Self {
        rule.to_string()
    }
}

/// The text is no rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParseRuleError {
    text: String,
    wanted: &'static str,
}

impl fmt::Display for ParseRuleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} is not a rule: {}", self.text, self.wanted)
    }
}

impl std::error::Error for ParseRuleError {}

/// What a rule may be, for people.
const KINDS: &str = "write everything, data, admin, subject:FILTER, publish:FILTER, subscribe:FILTER, \
    key:PATTERN, read:PATTERN, write:PATTERN, command:NAME, command:@CATEGORY, channel:PATTERN or jobs:PATTERN";

impl TryFrom<String> for Rule {
    type Error = ParseRuleError;

    fn try_from(text: String) -> Result<Self, ParseRuleError> {
        text.parse()
    }
}

impl FromStr for Rule {
    type Err = ParseRuleError;

    fn from_str(text: &str) -> Result<Self, ParseRuleError> {
        let refuse = |wanted| ParseRuleError { text: text.chars().take(80).collect(), wanted };
        if text.len() > MAX_RULE_BYTES {
            return Err(refuse("it has more than 512 bytes"));
        }
        match text {
            "everything" => return Ok(Self::Everything),
            "data" => return Ok(Self::Data),
            "admin" => return Ok(Self::Admin),
            _ => {}
        }
        let (kind, rest) = text.split_once(':').ok_or_else(|| refuse(KINDS))?;
        parse(kind, rest).map_err(refuse)
    }
}

fn parse(kind: &str, rest: &str) -> Result<Rule, &'static str> {
    let filter = |filter: &str| {
        let fits = subject::is_valid_filter(filter.as_bytes());
        fits.then(|| filter.to_owned())
            .ok_or("what follows is no subject: tokens divided by dots, `*` for one, `>` for all that follow")
    };
    let pattern = |pattern: &str| {
        (!pattern.is_empty()).then(|| pattern.to_owned()).ok_or("a pattern must follow; `*` is all")
    };
    Ok(match kind {
        "subject" => Rule::Subject(filter(rest)?),
        "publish" => Rule::Publish(filter(rest)?),
        "subscribe" => match rest.split_once(' ') {
            Some((subjects, queue)) => Rule::Subscribe(filter(subjects)?, Some(filter(queue)?)),
            None => Rule::Subscribe(filter(rest)?, None),
        },
        "key" => Rule::Key(Access::Both, pattern(rest)?),
        "read" => Rule::Key(Access::Read, pattern(rest)?),
        "write" => Rule::Key(Access::Write, pattern(rest)?),
        "command" => command(rest)?,
        "channel" => Rule::Channel(pattern(rest)?),
        "jobs" => Rule::Jobs(pattern(rest)?),
        _ => return Err(KINDS),
    })
}

fn command(text: &str) -> Result<Rule, &'static str> {
    let name = text.strip_prefix('@').unwrap_or(text);
    let is_name = |part: &str| {
        !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
    };
    let parts = name.split('|').count();
    if !name.split('|').all(is_name) || parts > 2 || (parts > 1 && text.starts_with('@')) {
        return Err("the name of a command, `command|subcommand` or `@category` must follow");
    }
    let name = name.to_ascii_lowercase();
    Ok(if text.starts_with('@') { Rule::Category(name) } else { Rule::Command(name) })
}
