//! CONFIG: the settings that exist, under the names that Redis gives them.
//! All are fixed while a node runs; setting one to what it is succeeds.

use bytes::Bytes;
use trine_types::glob;
use trine_types::limits::MAX_VALUE_BYTES;

use crate::args::{is, quoted};
use crate::describe::{exactly, help};
use crate::error::{Outcome, Refusal};
use crate::resp::Value;
use crate::rows::DATABASES;

/// What CONFIG knows about this node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings(Vec<(&'static str, String)>);

impl Settings {
    /// The settings of a node that listens on `port` for at most
    /// `max_clients` connections.
    #[must_use]
    pub fn new(port: u16, max_clients: usize) -> Self {
        let text = str::to_owned;
        Self(vec![
            ("appendfsync", text("always")),
            ("appendonly", text("yes")),
            ("bind", text("127.0.0.1")),
            ("cluster-enabled", text("yes")),
            ("databases", DATABASES.to_string()),
            ("maxclients", max_clients.to_string()),
            ("maxmemory", text("0")),
            ("maxmemory-policy", text("noeviction")),
            ("port", port.to_string()),
            ("proto-max-bulk-len", MAX_VALUE_BYTES.to_string()),
            ("save", String::new()),
            ("timeout", text("0")),
        ])
    }

    /// `CONFIG GET|SET|RESETSTAT|REWRITE|HELP …`
    ///
    /// # Errors
    /// As Redis refuses.
    pub fn config(&self, argv: &[Bytes]) -> Outcome {
        let subcommand = &argv[1];
        if is(subcommand, "GET") {
            if argv.len() < 3 {
                return Err(Refusal::Arity("config|get".into()));
            }
            Ok(self.get(&argv[2..]))
        } else if is(subcommand, "SET") {
            if argv.len() < 4 {
                return Err(Refusal::Arity("config|set".into()));
            }
            Ok(self.set(&argv[2..]))
        } else if is(subcommand, "RESETSTAT") {
            exactly(argv, 2, "config|resetstat")?;
            Ok(Value::OK)
        } else if is(subcommand, "REWRITE") {
            exactly(argv, 2, "config|rewrite")?;
            Err(Refusal::Text("ERR The server is running without a config file"))
        } else if is(subcommand, "HELP") {
            Ok(help(
                "CONFIG",
                &["GET <pattern>", "    Answer settings.", "SET <directive> <value>", "    Set."],
            ))
        } else {
            Err(Refusal::UnknownSubcommand(quoted(subcommand, 64), "CONFIG"))
        }
    }

    fn get(&self, patterns: &[Bytes]) -> Value {
        let patterns: Vec<_> = patterns.iter().map(|pattern| pattern.to_ascii_lowercase()).collect();
        let asked = self
            .0
            .iter()
            .filter(|(name, _)| patterns.iter().any(|pattern| glob::matches(pattern, name.as_bytes())));
        Value::Map(asked.map(|(name, value)| (Value::text(name), Value::bulk(value.clone()))).collect())
    }

    fn set(&self, pairs: &[Bytes]) -> Value {
        for pair in pairs.chunks(2) {
            let name = quoted(&pair[0], 64);
            let known = self.0.iter().find(|(known, _)| known.eq_ignore_ascii_case(&name));
            let (Some((_, value)), Some(wanted)) = (known, pair.get(1)) else {
                return Value::error(format!(
                    "ERR Unknown option or number of arguments for CONFIG SET - '{name}'"
                ));
            };
            if value.as_bytes() != &wanted[..] {
                return Value::error(format!(
                    "ERR CONFIG SET failed (possibly related to argument '{name}') - can't set immutable config"
                ));
            }
        }
        Value::OK
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::stories::{shown, split};

    #[test]
    fn what_exists_can_be_read_and_set_to_itself() {
        let settings = Settings::new(6379, 100);
        let ask = |line: &str| crate::error::reply(settings.config(&split(line)));
        let pair = (Value::text("maxclients"), Value::text("100"));
        assert_eq!(ask("CONFIG GET MAXCLI*"), Value::Map(vec![pair]));
        assert_eq!(ask("CONFIG GET nonsense"), Value::Map(vec![]));
        assert_eq!(ask("CONFIG SET appendonly yes"), Value::OK);
        let refused = shown(&ask("CONFIG SET appendonly no"));
        assert!(refused.ends_with("can't set immutable config"), "{refused}");
        let unknown = shown(&ask("CONFIG SET foo bar"));
        assert_eq!(unknown, "-ERR Unknown option or number of arguments for CONFIG SET - 'foo'");
        assert_eq!(shown(&ask("CONFIG GET")), "-ERR wrong number of arguments for 'config|get' command");
        assert_eq!(shown(&ask("CONFIG FOO")), "-ERR unknown subcommand 'FOO'. Try CONFIG HELP.");
    }
}
