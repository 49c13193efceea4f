//! What a principal may do: rules that allow and rules that deny, and a denial
//! wins. Every surface asks here, so that a user has one set of rights whatever
//! protocol it speaks.
//!
//! A subscriber may hold a filter that is wider than a denial: it is then let
//! in, and each message is asked for with [`Rights::may_receive`].

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::rule::{Access, Rule, Subscription};

/// Most rules of one principal, allowing and denying together: a check walks
/// them.
pub const MAX_RULES: usize = 256;

/// What a principal may do.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(from = "Written", into = "Written")]
pub struct Rights {
    allow: BTreeSet<Rule>,
    deny: BTreeSet<Rule>,
    open: Open,
}

/// Resources of which everything is allowed: the checks that most principals
/// pass without looking at a rule.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "one independent answer per resource")]
struct Open {
    publish: bool,
    subscribe: bool,
    keys: bool,
    commands: bool,
}

/// The rules alone, as they are stored and shown.
#[derive(Clone, Serialize, Deserialize)]
struct Written {
    allow: BTreeSet<Rule>,
    deny: BTreeSet<Rule>,
}

impl From<Written> for Rights {
    fn from(Written { allow, deny }: Written) -> Self {
        Self::new(allow, deny)
    }
}

impl From<Rights> for Written {
    fn from(Rights { allow, deny, .. }: Rights) -> Self {
        Self { allow, deny }
    }
}

/// The answer to a wish to subscribe.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Subscribing {
    /// Not allowed.
    Refused,
    /// Allowed, all of it.
    Whole,
    /// Allowed, but some subjects that match are denied: ask
    /// [`Rights::may_receive`] for each message.
    Filtered,
}

impl Rights {
    /// The rights that these rules give.
    #[must_use]
    pub fn new(allow: impl IntoIterator<Item = Rule>, deny: impl IntoIterator<Item = Rule>) -> Self {
        let (allow, deny) = (allow.into_iter().collect(), deny.into_iter().collect());
        let mut rights = Self { allow, deny, open: Open::default() };
        rights.open = Open {
            publish: rights.is_open(Rule::is_all_publish, Rule::is_about_publish),
            subscribe: rights.is_open(Rule::is_all_subscribe, Rule::is_about_subscribe),
            keys: rights.is_open(Rule::is_all_keys, Rule::is_about_keys),
            commands: rights.is_open(Rule::is_all_commands, Rule::is_about_commands),
        };
        rights
    }

    /// All there is, administration too.
    #[must_use]
    pub fn everything() -> Self {
        Self::new([Rule::Everything], [])
    }

    /// All data of all models; no administration.
    #[must_use]
    pub fn data() -> Self {
        Self::new([Rule::Data], [])
    }

    /// Nothing at all.
    #[must_use]
    pub fn nothing() -> Self {
        Self::default()
    }

    /// The rules that allow.
    pub fn allowed(&self) -> impl Iterator<Item = &Rule> {
        self.allow.iter()
    }

    /// The rules that deny.
    pub fn denied(&self) -> impl Iterator<Item = &Rule> {
        self.deny.iter()
    }

    /// How many rules there are.
    pub fn rules(&self) -> usize {
        self.allow.len() + self.deny.len()
    }

    fn is_open(&self, all: fn(&Rule) -> bool, about: fn(&Rule) -> bool) -> bool {
        self.allow.iter().any(all) && !self.deny.iter().any(about)
    }

    fn may(&self, matches: impl Fn(&Rule) -> bool) -> bool {
        self.allow.iter().any(&matches) && !self.deny.iter().any(&matches)
    }

    /// Whether a message may be published to `subject`.
    pub fn may_publish(&self, subject: &[u8]) -> bool {
        self.open.publish || self.may(|rule| rule.publishes(subject))
    }

    /// Whether `filter` may be subscribed to, as a member of `queue` if given.
    /// A rule that names a queue speaks of members of that queue only; where
    /// such rules allow the filter, they alone decide about members.
    pub fn may_subscribe(&self, filter: &[u8], queue: Option<&[u8]>) -> Subscribing {
        if self.open.subscribe {
            return Subscribing::Whole;
        }
        let wish = Subscription { filter, queue };
        let members_only = queue.is_some() && self.allow.iter().any(|rule| rule.has_queue_for(filter));
        let allows = |rule: &Rule| rule.covers(wish) && (!members_only || rule.names_queue());
        if !self.allow.iter().any(allows) || self.deny.iter().any(|rule| rule.covers(wish)) {
            return Subscribing::Refused;
        }
        if self.deny.iter().any(|rule| rule.overlaps(wish)) {
            Subscribing::Filtered
        } else {
            Subscribing::Whole
        }
    }

    /// Whether a message on `subject` may reach a subscriber (a member of
    /// `queue` if given) whose filter was allowed.
    pub fn may_receive(&self, subject: &[u8], queue: Option<&[u8]>) -> bool {
        self.open.subscribe
            || !self.deny.iter().any(|rule| rule.covers(Subscription { filter: subject, queue }))
    }

    /// Whether messages may be published to and received from all subjects.
    pub fn all_subjects(&self) -> bool {
        self.open.publish && self.open.subscribe
    }

    /// Whether the value of `key` may be read.
    pub fn may_read_key(&self, key: &[u8]) -> bool {
        self.open.keys || self.may(|rule| rule.accesses(Access::Read, key))
    }

    /// Whether the value of `key` may be changed.
    pub fn may_write_key(&self, key: &[u8]) -> bool {
        self.open.keys || self.may(|rule| rule.accesses(Access::Write, key))
    }

    /// Whether all keys may be read and changed.
    pub fn all_keys(&self) -> bool {
        self.open.keys
    }

    /// Whether a command of the database may be run: its name and, if it has
    /// any, its subcommand, in lower case; and the categories that it is in.
    pub fn may_run(&self, command: &str, subcommand: Option<&str>, categories: &[&str]) -> bool {
        self.open.commands || self.may(|rule| rule.runs(command, subcommand, categories))
    }

    /// Whether all commands of the database may be run.
    pub fn all_commands(&self) -> bool {
        self.open.commands
    }

    /// Whether the database's channel (Redis's PUBLISH and SUBSCRIBE) may be used.
    pub fn may_use_channel(&self, channel: &[u8]) -> bool {
        self.may(|rule| rule.opens_channel(channel))
    }

    /// Whether jobs may be put into `queue`, looked at and cancelled.
    pub fn may_use_jobs(&self, queue: &str) -> bool {
        self.may(|rule| rule.opens_jobs(queue))
    }

    /// Whether the cluster may be administered: nodes, users, tickets.
    pub fn is_admin(&self) -> bool {
        self.may(|rule| matches!(rule, Rule::Everything | Rule::Admin))
    }
}

#[cfg(test)]
mod tests;
