//! The grammar of `trine user`, `trine token` and `trine audit`. A password is
//! never an argument: other users of a machine see those.

use std::time::Duration;

use clap::{Args, Subcommand};

use super::{NodeTarget, parse_duration};

/// What a rule may be, for `--help`.
const RULES: &str = "\
Rules: everything, data, admin, subject:FILTER, publish:FILTER, subscribe:FILTER, key:PATTERN, \
read:PATTERN, write:PATTERN, command:NAME, command:@CATEGORY, channel:PATTERN, jobs:PATTERN. \
A denial wins. Without --allow: all data.";

/// Users.
#[derive(Debug, Subcommand)]
pub enum UserCommand {
    /// Add a user. Once there is one, every connection must log in.
    #[command(after_help = RULES)]
    Add(UserArgs),
    /// List the users.
    Ls(NodeTarget),
    /// Show one user.
    Show(NamedArgs),
    /// Give a user another password, other nkeys or other rights; its connections are cut.
    #[command(after_help = RULES)]
    Rotate(UserArgs),
    /// Remove a user; its connections are cut.
    Remove(NamedArgs),
}

/// Tokens.
#[derive(Debug, Subcommand)]
pub enum TokenCommand {
    /// Add a token; its secret is printed once.
    #[command(after_help = RULES)]
    Add(TokenAddArgs),
    /// List the tokens.
    Ls(NodeTarget),
    /// Show one token.
    Show(NamedArgs),
    /// Print a new secret for a token; who holds the old one is cut off.
    Rotate(TokenRotateArgs),
    /// Remove a token; who holds it is cut off.
    Remove(NamedArgs),
}

/// `trine user add` and `rotate`.
#[derive(Debug, Args)]
pub struct UserArgs {
    /// The user's name.
    pub name: String,
    /// Allow something (may be repeated).
    #[arg(long, value_name = "RULE")]
    pub allow: Vec<String>,
    /// Deny something, whatever is allowed (may be repeated).
    #[arg(long, value_name = "RULE")]
    pub deny: Vec<String>,
    /// Read the password from the first line of standard input instead of asking.
    #[arg(long)]
    pub password_stdin: bool,
    /// Any password is right and none is needed.
    #[arg(long, conflicts_with = "password_stdin")]
    pub no_password: bool,
    /// A public nkey (U…) by which it logs in (may be repeated).
    #[arg(long, value_name = "NKEY")]
    pub nkey: Vec<String>,
    /// Which node to ask.
    #[command(flatten)]
    pub node: NodeTarget,
}

/// A command about one user or token.
#[derive(Debug, Args)]
pub struct NamedArgs {
    /// Its name.
    pub name: String,
    /// Which node to ask.
    #[command(flatten)]
    pub node: NodeTarget,
}

/// `trine token add`.
#[derive(Debug, Args)]
pub struct TokenAddArgs {
    /// The token's name.
    pub name: String,
    /// Allow something (may be repeated).
    #[arg(long, value_name = "RULE")]
    pub allow: Vec<String>,
    /// Deny something, whatever is allowed (may be repeated).
    #[arg(long, value_name = "RULE")]
    pub deny: Vec<String>,
    /// How long it is good for, like 30m, 12h or 90d [default: without end].
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    pub expires: Option<Duration>,
    /// Which node to ask.
    #[command(flatten)]
    pub node: NodeTarget,
}

/// `trine token rotate`.
#[derive(Debug, Args)]
pub struct TokenRotateArgs {
    /// The token's name.
    pub name: String,
    /// How long the new secret is good for [default: without end].
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    pub expires: Option<Duration>,
    /// Which node to ask.
    #[command(flatten)]
    pub node: NodeTarget,
}

/// `trine audit`.
#[derive(Debug, Args)]
pub struct AuditArgs {
    /// How many of the last actions to show.
    #[arg(long, value_name = "N", default_value_t = 50)]
    pub last: usize,
    /// Which node to ask.
    #[command(flatten)]
    pub node: NodeTarget,
}
