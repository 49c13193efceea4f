//! COMMAND: what the table says about the commands. Pure.

use bytes::Bytes;

use crate::args::{is, quoted};
use crate::error::{Outcome, Refusal};
use crate::resp::Value;
use crate::table::{self, Action, Spec, flag};

/// `COMMAND [COUNT|INFO|DOCS|LIST|GETKEYS|HELP …]`
///
/// # Errors
/// As Redis refuses.
pub fn command(argv: &[Bytes]) -> Outcome {
    let Some(subcommand) = argv.get(1) else {
        return Ok(Value::Array(table::all().iter().map(|spec| info(spec)).collect()));
    };
    let names = &argv[2..];
    if is(subcommand, "COUNT") {
        exactly(argv, 2, "command|count")?;
        Ok(Value::count(table::all().len()))
    } else if is(subcommand, "INFO") {
        Ok(Value::Array(match names {
            [] => table::all().iter().map(|spec| info(spec)).collect(),
            names => names.iter().map(|name| table::find(name).map_or(Value::Nil, info)).collect(),
        }))
    } else if is(subcommand, "DOCS") {
        Ok(Value::Map(match names {
            [] => table::all().iter().map(|spec| docs(spec)).collect(),
            names => names.iter().filter_map(|name| table::find(name).map(docs)).collect(),
        }))
    } else if is(subcommand, "LIST") {
        exactly(argv, 2, "command|list")?;
        Ok(Value::Array(table::all().iter().map(|spec| Value::text(spec.name)).collect()))
    } else if is(subcommand, "GETKEYS") {
        if argv.len() < 4 {
            return Err(Refusal::Arity("command|getkeys".into()));
        }
        keys_of(names)
    } else if is(subcommand, "HELP") {
        Ok(help("COMMAND", HELP))
    } else {
        Err(Refusal::UnknownSubcommand(quoted(subcommand, 64), "COMMAND"))
    }
}

const HELP: &[&str] = &[
    "(no subcommand)",
    "    Describe all commands.",
    "COUNT",
    "    Answer the number of commands.",
    "DOCS [<command-name> ...]",
    "    Answer the documentation of commands.",
    "GETKEYS <full-command>",
    "    Answer the keys of a whole command.",
    "INFO [<command-name> ...]",
    "    Describe commands.",
    "LIST",
    "    Answer the names of all commands.",
];

/// The reply to a HELP subcommand.
pub fn help(command: &str, lines: &[&'static str]) -> Value {
    let title = format!("{command} <subcommand> [<arg> [value] [opt] ...]. Subcommands are:");
    let mut all = vec![Value::Simple(title.into())];
    all.extend(lines.iter().map(|line| Value::Simple((*line).into())));
    all.extend(["HELP", "    Print this help."].map(|line| Value::Simple(line.into())));
    Value::Array(all)
}

/// Checks the number of arguments of a subcommand.
///
/// # Errors
/// When it is not exactly `count`.
pub fn exactly(argv: &[Bytes], count: usize, name: &'static str) -> Result<(), Refusal> {
    if argv.len() == count { Ok(()) } else { Err(Refusal::Arity(name.into())) }
}

fn keys_of(argv: &[Bytes]) -> Outcome {
    let Some(spec) = argv.first().and_then(|name| table::find(name)) else {
        return Err(Refusal::Text("ERR Invalid command specified"));
    };
    if spec.check_arity(argv.len()).is_err() {
        return Err(Refusal::Text("ERR Invalid number of arguments specified for command"));
    }
    let keys: Vec<Value> = spec.key_indexes(argv.len()).map(|at| Value::Bulk(argv[at].clone())).collect();
    if keys.is_empty() {
        return Err(Refusal::Text("ERR The command has no key arguments"));
    }
    Ok(Value::Array(keys))
}

fn simple(text: impl Into<String>) -> Value {
    Value::Simple(text.into().into())
}

fn info(spec: &Spec) -> Value {
    let flags = flag::NAMES.iter().filter(|(bit, _)| spec.has(*bit)).map(|(_, name)| simple(*name));
    let (first, last, step) = spec.keys;
    let number = |number: i8| Value::Integer(number.into());
    Value::Array(vec![
        Value::text(spec.name),
        number(spec.arity),
        Value::Set(flags.collect()),
        number(first),
        number(last),
        number(step),
        Value::Set(categories(spec).into_iter().map(simple).collect()),
        Value::Array(Vec::new()),
        Value::Array(key_specs(spec)),
        Value::Array(Vec::new()),
    ])
}

fn categories(spec: &Spec) -> Vec<String> {
    let mut categories = Vec::new();
    if spec.has(flag::WRITE) {
        categories.push("@write".to_owned());
    }
    if spec.has(flag::READONLY) {
        categories.push("@read".to_owned());
    }
    match spec.group {
        "generic" => categories.push("@keyspace".to_owned()),
        "server" | "cluster" => {}
        group => categories.push(format!("@{group}")),
    }
    if spec.has(flag::ADMIN) {
        categories.push("@admin".to_owned());
    }
    categories.push(if spec.has(flag::FAST) { "@fast" } else { "@slow" }.to_owned());
    categories
}

fn key_specs(spec: &Spec) -> Vec<Value> {
    let (first, last, step) = spec.keys;
    if first == 0 {
        return Vec::new();
    }
    let access = match spec.action {
        Action::Write(_) => ["RW", "access", "update"].map(simple).to_vec(),
        _ => ["RO", "access"].map(simple).to_vec(),
    };
    // Redis counts the last key from the first one.
    let last = if last > 0 { last - first } else { last };
    let number = |number: i8| Value::Integer(number.into());
    let search = Value::Map(vec![
        (Value::text("type"), Value::text("index")),
        (Value::text("spec"), Value::Map(vec![(Value::text("index"), number(first))])),
    ]);
    let range = vec![
        (Value::text("lastkey"), number(last)),
        (Value::text("keystep"), number(step)),
        (Value::text("limit"), Value::Integer(0)),
    ];
    let find = Value::Map(vec![
        (Value::text("type"), Value::text("range")),
        (Value::text("spec"), Value::Map(range)),
    ]);
    vec![Value::Map(vec![
        (Value::text("flags"), Value::Set(access)),
        (Value::text("begin_search"), search),
        (Value::text("find_keys"), find),
    ])]
}

fn docs(spec: &'static Spec) -> (Value, Value) {
    let docs = Value::Map(vec![
        (Value::text("summary"), Value::text(spec.summary)),
        (Value::text("since"), Value::text(spec.since)),
        (Value::text("group"), Value::text(spec.group)),
    ]);
    (Value::text(spec.name), docs)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::stories::{shown, split};

    fn ask(line: &str) -> String {
        shown(&crate::error::reply(command(&split(line))))
    }

    #[test]
    fn commands_describe_themselves() {
        assert_eq!(ask("COMMAND COUNT"), format!(":{}", table::all().len()));
        assert_eq!(ask("COMMAND GETKEYS mset a b c d"), "[a, c]");
        assert_eq!(ask("COMMAND GETKEYS ping x"), "-ERR The command has no key arguments");
        assert_eq!(
            ask("COMMAND GETKEYS get"),
            "-ERR wrong number of arguments for 'command|getkeys' command"
        );
        assert_eq!(ask("COMMAND FOO"), "-ERR unknown subcommand 'FOO'. Try COMMAND HELP.");
        assert!(ask("COMMAND INFO get nonsense").starts_with("[[get, :2, "), "{}", ask("COMMAND INFO get"));
        assert!(ask("COMMAND INFO nonsense").contains("(nil)"));
    }
}
