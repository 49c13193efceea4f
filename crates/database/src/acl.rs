//! ACL: Redis's words for users and rights, onto the cluster's. Pure; the
//! users themselves are behind the seam [`Accounts`].
//!
//! In Redis the last rule about a command decides; here a denial wins. Rules
//! are therefore put so that what is left says the same: `-@dangerous +keys`
//! becomes a denial of every dangerous command but KEYS.

use std::collections::BTreeSet;

use bytes::Bytes;
use futures::future::BoxFuture;
use trine_types::rule::Access;
use trine_types::{Rights, Rule};

use crate::access::{CATEGORIES, categories, has_subcommands, members};
use crate::args::quoted;
use crate::error::Refusal;
use crate::resp::Value;
use crate::table;

/// Most users that ACL DELUSER removes at once, and rules that SETUSER takes.
pub const MAX_ARGUMENTS: usize = 256;

/// A user as ACL sees it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Account {
    /// It may log in.
    pub on: bool,
    /// It needs no password.
    pub nopass: bool,
    /// How many passwords it has.
    pub passwords: usize,
    /// What it may do.
    pub rights: Rights,
}

/// What ACL SETUSER does to passwords.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Password {
    /// One more.
    Add(String),
    /// One less.
    Remove(String),
    /// None any more.
    Clear,
}

/// The users of the cluster.
pub trait Accounts: Send + Sync + 'static {
    /// All of them, by name.
    fn all(&self) -> Vec<(String, Account)>;

    /// Changes or adds a user by rules of ACL SETUSER; `who` asks.
    fn set(&self, who: String, name: String, rules: Vec<Bytes>) -> BoxFuture<'static, Result<(), Refusal>>;

    /// Removes users; answers how many there were.
    fn remove(&self, who: String, names: Vec<String>) -> BoxFuture<'static, Result<usize, Refusal>>;
}

/// Applies rules of ACL SETUSER in their order.
///
/// # Errors
/// The first rule that is none or cannot be kept here, in Redis's words where
/// it has some.
pub fn apply(account: &mut Account, rules: &[Bytes]) -> Result<Vec<Password>, Refusal> {
    let mut allow: BTreeSet<Rule> = account.rights.allowed().cloned().collect();
    let mut deny: BTreeSet<Rule> = account.rights.denied().cloned().collect();
    let mut passwords = Vec::new();
    for rule in rules {
        let refuse =
            |why: &str| Refusal::Acl(format!("Error in ACL SETUSER modifier '{}': {why}", quoted(rule, 64)));
        let text = std::str::from_utf8(rule).map_err(|_| refuse("Syntax error"))?;
        if let Some(changes) = logins(account, text) {
            passwords.extend(changes);
            if text.eq_ignore_ascii_case("reset") {
                allow.clear();
                deny.clear();
            }
            continue;
        }
        let changed = match text.as_bytes() {
            [b'#' | b'!', ..] => Err("passwords are kept as argon2id: give the password itself, with > or <"),
            [b'(', ..] => Err("selectors are not supported: give the user's rules themselves"),
            [b'~' | b'%', ..] => keys(&mut allow, text),
            [b'&', ..] => channels(&mut allow, &text[1..]),
            [b'+', ..] => allow_command(&mut allow, &mut deny, &text[1..]),
            [b'-', ..] => deny_command(&mut allow, &mut deny, &text[1..]),
            _ => word(&mut allow, &mut deny, text),
        };
        changed.map_err(refuse)?;
    }
    account.rights = Rights::new(allow, deny);
    Ok(passwords)
}

/// Rules about whether and how a user logs in.
fn logins(account: &mut Account, text: &str) -> Option<Vec<Password>> {
    let lower = text.to_ascii_lowercase();
    match lower.as_str() {
        "on" => account.on = true,
        "off" => account.on = false,
        "nopass" => {
            account.nopass = true;
            return Some(vec![Password::Clear]);
        }
        "resetpass" => {
            account.nopass = false;
            return Some(vec![Password::Clear]);
        }
        "reset" => {
            (account.on, account.nopass) = (false, false);
            return Some(vec![Password::Clear]);
        }
        "sanitize-payload" | "skip-sanitize-payload" | "clearselectors" => {}
        _ => {
            return match text.split_at_checked(1) {
                Some((">", password)) => {
                    account.nopass = false;
                    Some(vec![Password::Add(password.to_owned())])
                }
                Some(("<", password)) => Some(vec![Password::Remove(password.to_owned())]),
                _ => None,
            };
        }
    }
    Some(Vec::new())
}

type Changed = Result<(), &'static str>;

fn word(allow: &mut BTreeSet<Rule>, deny: &mut BTreeSet<Rule>, text: &str) -> Changed {
    match text.to_ascii_lowercase().as_str() {
        "allkeys" => keys(allow, "~*"),
        "resetkeys" => {
            expand(allow);
            allow.retain(|rule| !matches!(rule, Rule::Key(..)));
            Ok(())
        }
        "allchannels" => channels(allow, "*"),
        "resetchannels" => {
            expand(allow);
            allow.retain(|rule| !matches!(rule, Rule::Channel(_)));
            Ok(())
        }
        "allcommands" => allow_command(allow, deny, "@all"),
        "nocommands" => deny_command(allow, deny, "@all"),
        _ => Err("Syntax error"),
    }
}

/// Replaces what stands for many things by the things, so that some of them
/// can be taken away.
fn expand(allow: &mut BTreeSet<Rule>) {
    let admin = allow.remove(&Rule::Everything);
    if allow.remove(&Rule::Data) || admin {
        let all = || "*".to_owned();
        allow.extend([
            Rule::Subject(">".into()),
            Rule::Key(Access::Both, all()),
            Rule::Category("all".into()),
            Rule::Channel(all()),
            Rule::Jobs(all()),
        ]);
    }
    if admin {
        allow.insert(Rule::Admin);
    }
}

fn keys(allow: &mut BTreeSet<Rule>, text: &str) -> Changed {
    let (access, pattern) = match text.strip_prefix('%') {
        None => (Access::Both, &text[1..]),
        Some(rest) => {
            let (letters, pattern) = rest.split_once('~').ok_or("Syntax error")?;
            let access = match letters.to_ascii_uppercase().as_str() {
                "R" => Access::Read,
                "W" => Access::Write,
                "RW" | "WR" => Access::Both,
                _ => return Err("Syntax error"),
            };
            (access, pattern)
        }
    };
    let rule = Rule::Key(access, pattern.to_owned());
    if Rights::new(allow.iter().cloned(), []).all_keys() && pattern != "*" {
        return Err(
            "Adding a pattern after the * pattern (or the 'allkeys' flag) is not valid and does not have any \
             effect. Try 'resetkeys' to start with an empty list of patterns",
        );
    }
    if pattern.is_empty() || rule.to_string().parse() != Ok(rule.clone()) {
        return Err("Syntax error");
    }
    allow.insert(rule);
    Ok(())
}

fn channels(allow: &mut BTreeSet<Rule>, pattern: &str) -> Changed {
    let rule = Rule::Channel(pattern.to_owned());
    if rule.to_string().parse() != Ok(rule.clone()) {
        return Err("Syntax error");
    }
    allow.insert(rule);
    Ok(())
}

const UNKNOWN: &str = "Unknown command or category name in ACL";

/// A command or category that there is, as a rule.
fn parse(text: &str) -> Result<Rule, &'static str> {
    let lower = text.to_ascii_lowercase();
    if let Some(category) = lower.strip_prefix('@') {
        let known = category == "all" || CATEGORIES.contains(&category);
        return if known { Ok(Rule::Category(category.to_owned())) } else { Err(UNKNOWN) };
    }
    let (name, sub) = lower.split_once('|').map_or((lower.as_str(), None), |(name, sub)| (name, Some(sub)));
    let spec = table::find(name.as_bytes()).ok_or(UNKNOWN)?;
    if sub.is_some_and(|sub| sub.is_empty() || !has_subcommands(spec)) {
        return Err(UNKNOWN);
    }
    Ok(Rule::Command(lower))
}

/// Whether the rule `inner` is about nothing that `outer` is not about.
fn within(inner: &Rule, outer: &Rule) -> bool {
    match (inner, outer) {
        (Rule::Command(_) | Rule::Category(_), Rule::Category(all)) if all == "all" => true,
        (Rule::Command(name), Rule::Category(category)) => {
            let spec = table::find(name.split('|').next().unwrap_or_default().as_bytes());
            spec.is_some_and(|spec| categories(spec).contains(&category.as_str()))
        }
        (Rule::Command(inner), Rule::Command(outer)) => {
            inner == outer || inner.split('|').next() == Some(outer.as_str())
        }
        (inner, outer) => inner == outer,
    }
}

fn allow_command(allow: &mut BTreeSet<Rule>, deny: &mut BTreeSet<Rule>, text: &str) -> Changed {
    let rule = parse(text)?;
    deny.retain(|denied| !within(denied, &rule));
    // A denied category that the command is in becomes its other commands.
    let wider: Vec<Rule> = deny.iter().filter(|denied| overlaps(denied, &rule)).cloned().collect();
    for denied in wider {
        deny.remove(&denied);
        if let Rule::Category(category) = &denied {
            let others = members(category).map(|name| Rule::Command(name.to_owned()));
            deny.extend(others.filter(|other| !within(other, &rule) && !within(&rule, other)));
        }
    }
    let all = Rights::new(allow.iter().cloned(), []).all_commands();
    if !all {
        allow.retain(|allowed| !within(allowed, &rule));
        allow.insert(rule);
    }
    Ok(())
}

/// Whether some command is in both.
fn overlaps(denied: &Rule, rule: &Rule) -> bool {
    match (denied, rule) {
        (Rule::Category(one), Rule::Category(other)) => {
            members(one).any(|name| within(&Rule::Command(name.to_owned()), &Rule::Category(other.clone())))
        }
        (denied, rule) => within(rule, denied),
    }
}

fn deny_command(allow: &mut BTreeSet<Rule>, deny: &mut BTreeSet<Rule>, text: &str) -> Changed {
    let rule = parse(text)?;
    if rule == Rule::Category("all".into()) {
        expand(allow);
        let about = |rule: &Rule| matches!(rule, Rule::Command(_) | Rule::Category(_));
        allow.retain(|rule| !about(rule));
        deny.retain(|rule| !about(rule));
        return Ok(());
    }
    allow.retain(|allowed| !within(allowed, &rule));
    let left = allow.iter().any(|allowed| {
        matches!(allowed, Rule::Everything | Rule::Data) || within(&rule, allowed) || overlaps(allowed, &rule)
    });
    if left {
        deny.insert(rule);
    }
    Ok(())
}

/// The commands as ACL LIST and GETUSER show them.
fn commands(rights: &Rights) -> String {
    let all = |rule: &&Rule| {
        matches!(rule, Rule::Everything | Rule::Data) || **rule == Rule::Category("all".into())
    };
    let mut words = vec![if rights.allowed().any(|rule| all(&rule)) { "+@all" } else { "-@all" }.to_owned()];
    let mut show = |sign: char, rule: &Rule| match rule {
        Rule::Command(name) => words.push(format!("{sign}{name}")),
        Rule::Category(category) if category != "all" => words.push(format!("{sign}@{category}")),
        _ => {}
    };
    rights.allowed().for_each(|rule| show('+', rule));
    rights.denied().for_each(|rule| show('-', rule));
    words.join(" ")
}

fn patterns(rights: &Rights) -> String {
    let shown = rights.allowed().filter_map(|rule| match rule {
        Rule::Everything | Rule::Data => Some("~*".to_owned()),
        Rule::Key(Access::Both, pattern) => Some(format!("~{pattern}")),
        Rule::Key(Access::Read, pattern) => Some(format!("%R~{pattern}")),
        Rule::Key(Access::Write, pattern) => Some(format!("%W~{pattern}")),
        _ => None,
    });
    shown.collect::<Vec<_>>().join(" ")
}

fn channel_patterns(rights: &Rights) -> String {
    let shown = rights.allowed().filter_map(|rule| match rule {
        Rule::Everything | Rule::Data => Some("&*".to_owned()),
        Rule::Channel(pattern) => Some(format!("&{pattern}")),
        _ => None,
    });
    shown.collect::<Vec<_>>().join(" ")
}

/// What stands for a password's hash, which is nobody's business.
const HASH: &str = "argon2id";

/// One line of ACL LIST.
pub fn line(name: &str, account: &Account) -> String {
    let mut words = vec!["user".to_owned(), name.to_owned()];
    words.push(if account.on { "on" } else { "off" }.to_owned());
    words.extend(account.nopass.then(|| "nopass".to_owned()));
    words.extend((0..account.passwords).map(|_| format!("#{HASH}")));
    let channels = channel_patterns(&account.rights);
    let channels = if channels.is_empty() { "resetchannels".to_owned() } else { channels };
    words.extend(
        [patterns(&account.rights), channels, commands(&account.rights)]
            .into_iter()
            .filter(|w| !w.is_empty()),
    );
    words.join(" ")
}

/// The reply of ACL GETUSER.
pub fn describe(account: &Account) -> Value {
    let mut flags = vec![Value::text(if account.on { "on" } else { "off" })];
    flags.extend(account.nopass.then(|| Value::text("nopass")));
    Value::Map(vec![
        (Value::text("flags"), Value::Array(flags)),
        (Value::text("passwords"), Value::Array(vec![Value::text(HASH); account.passwords])),
        (Value::text("commands"), Value::bulk(commands(&account.rights))),
        (Value::text("keys"), Value::bulk(patterns(&account.rights))),
        (Value::text("channels"), Value::bulk(channel_patterns(&account.rights))),
        (Value::text("selectors"), Value::Array(Vec::new())),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(account: &mut Account, rules: &str) -> Result<Vec<Password>, String> {
        let rules: Vec<Bytes> =
            rules.split(' ').map(|rule| Bytes::copy_from_slice(rule.as_bytes())).collect();
        apply(account, &rules).map_err(|refusal| refusal.to_string())
    }

    fn shown(rules: &str) -> String {
        let mut account = Account::default();
        set(&mut account, rules).expect("rules");
        line("ann", &account)
    }

    #[test]
    fn rules_read_back() {
        assert_eq!(shown("on"), "user ann on resetchannels -@all");
        assert_eq!(
            shown("on ~app:* %R~conf &news.* +get +@write"),
            "user ann on %R~conf ~app:* &news.* -@all +get +@write"
        );
        assert_eq!(shown("on nopass allkeys allchannels allcommands"), "user ann on nopass ~* &* +@all");
        assert_eq!(shown("+@all -flushall"), "user ann off resetchannels +@all -flushall");
        assert_eq!(shown("+get -get"), "user ann off resetchannels -@all");
        assert_eq!(shown("+@all -@write +@write"), "user ann off resetchannels +@all");
        assert_eq!(shown("on ~a +get reset"), "user ann off resetchannels -@all");
    }

    #[test]
    fn the_last_rule_about_a_command_decides() {
        let mut account = Account::default();
        set(&mut account, "+@all -@dangerous +keys").expect("rules");
        let may = |account: &Account, name: &str| {
            let spec = table::find(name.as_bytes()).expect("a command");
            account.rights.may_run(name, None, categories(spec))
        };
        assert!(may(&account, "keys") && may(&account, "get") && !may(&account, "flushall"));
        set(&mut account, "-@all +@read -keys").expect("rules");
        assert!(may(&account, "get") && !may(&account, "keys") && !may(&account, "set"));
        set(&mut account, "+@keyspace").expect("rules");
        assert!(may(&account, "keys") && may(&account, "del"));
    }

    #[test]
    fn rights_of_other_models_stay() {
        let mut account = Account { rights: Rights::everything(), ..Account::default() };
        set(&mut account, "resetkeys ~app:* -@all +get").expect("rules");
        assert!(
            account.rights.is_admin() && account.rights.may_publish(b"a") && account.rights.may_use_jobs("q")
        );
        assert!(!account.rights.may_read_key(b"x") && account.rights.may_read_key(b"app:1"));
    }

    #[test]
    fn passwords_are_changed_in_order() {
        let mut account = Account::default();
        let changes = set(&mut account, "nopass >a <b resetpass").expect("rules");
        let expected =
            [Password::Clear, Password::Add("a".into()), Password::Remove("b".into()), Password::Clear];
        assert_eq!(changes, expected);
        assert!(!account.nopass);
    }

    #[test]
    fn what_cannot_be_kept_is_said() {
        for (rules, text) in [
            (
                "+nosuch",
                "ERR Error in ACL SETUSER modifier '+nosuch': Unknown command or category name in ACL",
            ),
            (
                "+@nosuch",
                "ERR Error in ACL SETUSER modifier '+@nosuch': Unknown command or category name in ACL",
            ),
            ("zzz", "ERR Error in ACL SETUSER modifier 'zzz': Syntax error"),
            ("%X~a", "ERR Error in ACL SETUSER modifier '%X~a': Syntax error"),
            ("#abc", "argon2id"),
            ("(+get", "selectors"),
            ("allkeys ~x", "Adding a pattern after the * pattern"),
        ] {
            let refused = set(&mut Account::default(), rules).expect_err(rules);
            assert!(refused.contains(text), "{rules}: {refused}");
        }
    }
}
