//! `trine user`, `trine token` and `trine audit`: what they ask of a node and
//! how they print it.

use std::io::{BufRead, IsTerminal};

use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};

use super::print;
use crate::admin::client::AdminClient;
use crate::admin::logins::{AuditReport, Proofs, Rules, SecretReport, TokenReport, UserReport};
use crate::admin::protocol::{Answer, Request};
use crate::admin::report::table;
use crate::cli::{AuditArgs, NodeTarget, TokenCommand, UserArgs, UserCommand};
use crate::failure::Failure;

/// Longest password line that is read, in bytes.
const MAX_LINE_BYTES: u64 = 4 * 1024;

/// Runs `trine user …`.
pub(super) async fn user(command: UserCommand, json: bool) -> Result<(), Failure> {
    match command {
        UserCommand::Add(args) => {
            let wants_password = args.nkey.is_empty() && !args.no_password;
            let proofs = proofs(&args, wants_password)?;
            let request = Request::AddUser { name: args.name, proofs, rules: rules(args.allow, args.deny) };
            let added = users(ask(&args.node, request).await?)?;
            print(json, &added, |added| format!("added {}\n", names(added)))?;
            eprintln!("from now on every connection must log in, on loopback too");
            let behind: Vec<_> =
                added.iter().flat_map(|user| &user.unknown_at).map(|n| format!("n{n}")).collect();
            if !behind.is_empty() {
                eprintln!(
                    "not said yet by {}: who connects there may need no login until it hears of the first user",
                    behind.join(", ")
                );
            }
            Ok(())
        }
        UserCommand::Ls(node) => {
            let users = users(ask(&node, Request::Users {}).await?)?;
            print(json, &users, |users| user_table(users))
        }
        UserCommand::Show(args) => {
            let users = users(ask(&args.node, Request::Users {}).await?)?;
            let user = users.into_iter().find(|user| user.name == args.name);
            let user = user.ok_or_else(|| Failure::new(format!("there is no user {:?}", args.name)))?;
            print(json, &user, |user| user_table(std::slice::from_ref(user)))
        }
        UserCommand::Rotate(args) => {
            let rules_only = !args.allow.is_empty() || !args.deny.is_empty();
            let wants_password = args.nkey.is_empty() && !args.no_password && !rules_only;
            let proofs = proofs(&args, wants_password)?;
            let request =
                Request::RotateUser { name: args.name, proofs, rules: rules(args.allow, args.deny) };
            let changed = users(ask(&args.node, request).await?)?;
            print(json, &changed, |changed| format!("changed {}; its connections are cut\n", names(changed)))
        }
        UserCommand::Remove(args) => {
            gone(ask(&args.node, Request::RemoveUser { name: args.name }).await?, json)
        }
    }
}

/// Runs `trine token …`.
pub(super) async fn token(command: TokenCommand, json: bool) -> Result<(), Failure> {
    let life = |life: Option<std::time::Duration>| life.map(|life| life.as_secs());
    match command {
        TokenCommand::Add(args) => {
            let (name, life_s) = (args.name, life(args.expires));
            let request = Request::AddToken { name, life_s, rules: rules(args.allow, args.deny) };
            secret(ask(&args.node, request).await?, json)
        }
        TokenCommand::Ls(node) => {
            let tokens = tokens(ask(&node, Request::Tokens {}).await?)?;
            print(json, &tokens, |tokens| token_table(tokens))
        }
        TokenCommand::Show(args) => {
            let tokens = tokens(ask(&args.node, Request::Tokens {}).await?)?;
            let token = tokens.into_iter().find(|token| token.name == args.name);
            let token = token.ok_or_else(|| Failure::new(format!("there is no token {:?}", args.name)))?;
            print(json, &token, |token| token_table(std::slice::from_ref(token)))
        }
        TokenCommand::Rotate(args) => {
            let request = Request::RotateToken { name: args.name, life_s: life(args.expires) };
            secret(ask(&args.node, request).await?, json)
        }
        TokenCommand::Remove(args) => {
            gone(ask(&args.node, Request::RemoveToken { name: args.name }).await?, json)
        }
    }
}

/// Runs `trine audit`.
pub(super) async fn audit(args: &AuditArgs, json: bool) -> Result<(), Failure> {
    match ask(&args.node, Request::Audit { last: args.last }).await? {
        Answer::Audit(actions) => print(json, &actions, |actions| audit_table(actions)),
        other => Err(unexpected(&other)),
    }
}

async fn ask(node: &NodeTarget, request: Request) -> Result<Answer, Failure> {
    AdminClient::find(node)?.ask(&request).await
}

fn unexpected(answer: &Answer) -> Failure {
    Failure::new(format!("the node answered something else: {answer:?}"))
}

fn users(answer: Answer) -> Result<Vec<UserReport>, Failure> {
    if let Answer::Users(users) = answer { Ok(users) } else { Err(unexpected(&answer)) }
}

fn tokens(answer: Answer) -> Result<Vec<TokenReport>, Failure> {
    if let Answer::Tokens(tokens) = answer { Ok(tokens) } else { Err(unexpected(&answer)) }
}

fn secret(answer: Answer, json: bool) -> Result<(), Failure> {
    let Answer::Secret(secret) = answer else { return Err(unexpected(&answer)) };
    print(json, &secret, |secret: &SecretReport| secret.token.clone() + "\n")?;
    eprintln!("this is the only time that the secret of {} is shown", secret.name);
    Ok(())
}

fn gone(answer: Answer, json: bool) -> Result<(), Failure> {
    let Answer::Gone { name } = answer else { return Err(unexpected(&answer)) };
    let report = serde_json::json!({ "removed": name });
    print(json, &report, |_| format!("removed {name}; its connections are cut\n"))
}

fn rules(allow: Vec<String>, deny: Vec<String>) -> Rules {
    Rules { allow, deny }
}

fn proofs(args: &UserArgs, wants_password: bool) -> Result<Proofs, Failure> {
    let password =
        if args.password_stdin || wants_password { Some(read_password(args.password_stdin)?) } else { None };
    Ok(Proofs { password, nkeys: args.nkey.clone(), no_password: args.no_password })
}

/// One line: of standard input, or typed unseen, twice.
fn read_password(from_stdin: bool) -> Result<String, Failure> {
    if from_stdin {
        return line();
    }
    if !std::io::stdin().is_terminal() {
        return Err(Failure::new("no password was given").hint("pipe it in with --password-stdin").usage());
    }
    let (first, second) = (unseen("Password: ")?, unseen("Again: ")?);
    if first == second { Ok(first) } else { Err(Failure::new("the two are not the same")) }
}

fn line() -> Result<String, Failure> {
    let mut line = String::new();
    let mut input = std::io::Read::take(std::io::stdin().lock(), MAX_LINE_BYTES);
    input.read_line(&mut line).map_err(Failure::new)?;
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}

/// Types a line that is not shown.
pub(crate) fn unseen(prompt: &str) -> Result<String, Failure> {
    eprint!("{prompt}");
    let stdin = std::io::stdin();
    let seen = tcgetattr(&stdin).map_err(Failure::new)?;
    let mut unseen = seen.clone();
    unseen.local_modes.remove(LocalModes::ECHO);
    tcsetattr(&stdin, OptionalActions::Flush, &unseen).map_err(Failure::new)?;
    let typed = line();
    tcsetattr(&stdin, OptionalActions::Flush, &seen).map_err(Failure::new)?;
    eprintln!();
    typed
}

fn names(users: &[UserReport]) -> String {
    users.iter().map(|user| user.name.as_str()).collect::<Vec<_>>().join(", ")
}

fn cells(row: &[&str]) -> Vec<String> {
    row.iter().map(|cell| (*cell).to_owned()).collect()
}

fn words(rules: &Rules) -> String {
    let denied = rules.deny.iter().map(|rule| format!("-{rule}"));
    rules.allow.iter().cloned().chain(denied).collect::<Vec<_>>().join(" ")
}

fn user_table(users: &[UserReport]) -> String {
    let mut rows = vec![cells(&["NAME", "STATE", "PROOFS", "RIGHTS (- denies)"])];
    for user in users {
        let mut proofs = Vec::new();
        if user.no_password {
            proofs.push("none needed".to_owned());
        }
        if user.passwords > 0 {
            proofs.push(format!("{} passwords", user.passwords));
        }
        proofs.extend(user.nkeys.iter().cloned());
        let state = if user.enabled { "on" } else { "off" };
        rows.push(cells(&[&user.name, state, &proofs.join(", "), &words(&user.rules)]));
    }
    table(&rows)
}

fn token_table(tokens: &[TokenReport]) -> String {
    let mut rows = vec![cells(&["NAME", "ENDS", "RIGHTS (- denies)"])];
    for token in tokens {
        let end = token.not_after_ms.map_or_else(|| "never".to_owned(), utc);
        rows.push(cells(&[&token.name, &end, &words(&token.rules)]));
    }
    table(&rows)
}

fn audit_table(actions: &[AuditReport]) -> String {
    let mut rows = vec![cells(&["NR", "WHEN (UTC)", "WHO", "WHAT"])];
    for action in actions {
        rows.push(cells(&[&action.serial.to_string(), &utc(action.at_ms), &action.who, &action.what]));
    }
    table(&rows)
}

/// Milliseconds since the epoch as `2026-11-23 11:27:10`.
fn utc(ms: u64) -> String {
    let (days, seconds) = (ms / 86_400_000, ms / 1_000 % 86_400);
    // Civil date from days, by eras of 400 years that begin in March.
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}")
}

#[cfg(test)]
mod tests {
    use super::utc;

    #[test]
    fn times_are_dates() {
        for (seconds, text) in [
            (0, "1970-01-01 00:00:00"),
            (951_782_400, "2000-02-29 00:00:00"),
            (1_795_433_230, "2026-11-23 11:27:10"),
            (4_107_542_399, "2100-02-28 23:59:59"),
        ] {
            assert_eq!(utc(seconds * 1_000), text);
        }
    }
}
