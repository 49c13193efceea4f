//! `cargo xtask check` and `fix`: what is quick to know before a push.

use std::path::PathBuf;
use std::time::Duration;

use crate::command::{Trouble, cargo, command, root, run, target};
use crate::{parts, tidy};

/// Format, clippy, tidy, licences, advisories: one line each.
pub(crate) fn check() -> bool {
    let mut good = true;
    let mut line = |name: &str, verdict: Result<parts::Count, Trouble>| {
        let count = verdict.unwrap_or_else(|trouble| parts::Count::one(false, trouble.to_string()));
        let word = if count.failed == 0 { "PASS" } else { "FAIL" };
        println!("{word}     {name}");
        if !count.report.is_empty() {
            println!("{}", count.report.trim_end());
        }
        good &= count.failed == 0;
    };
    line("format", parts::lint::formatting());
    line("clippy", parts::lint::clippy());
    let untidy = tidy::report(root());
    line("tidy", Ok(parts::Count::one(untidy, "")));
    line("licences, bans and sources", deny(&["licenses", "bans", "sources"]));
    match advisories() {
        Advisories::Clean => println!("PASS     advisories"),
        Advisories::Found(report) => {
            println!("FAIL     advisories\n{report}");
            good = false;
        }
        Advisories::NotRun(why) => println!("NOT RUN  advisories: {why}"),
    }
    good
}

/// Formats, and applies what clippy can fix by itself.
pub(crate) fn fix() -> bool {
    let limit = Duration::from_mins(30);
    let clippy =
        ["clippy", "--quiet", "--fix", "--allow-dirty", "--allow-staged", "--workspace", "--all-targets"];
    let steps = [cargo(&clippy), cargo(&["fmt", "--all"])];
    let mut good = true;
    for mut step in steps {
        match run(&mut step, limit).and_then(crate::command::Finished::required) {
            Ok(_) => {}
            Err(trouble) => {
                eprintln!("{trouble}");
                good = false;
            }
        }
    }
    good
}

enum Advisories {
    Clean,
    Found(String),
    /// The database of advisories could not be had; this is not a pass.
    NotRun(String),
}

fn deny(checks: &[&str]) -> Result<parts::Count, Trouble> {
    let tool = cargo_deny()?;
    let mut deny = command(tool, &["--offline", "--log-level", "error", "check", "--hide-inclusion-graph"]);
    let finished = run(deny.args(checks), Duration::from_mins(5))?;
    let report = if finished.success { String::new() } else { finished.tail(80) };
    Ok(parts::Count::one(finished.success, report))
}

/// Known vulnerabilities; needs the advisory database, which is a git
/// repository that some networks cannot reach.
fn advisories() -> Advisories {
    let tool = match cargo_deny() {
        Ok(tool) => tool,
        Err(trouble) => return Advisories::NotRun(trouble.to_string()),
    };
    let arguments = ["--log-level", "error", "check", "--hide-inclusion-graph", "advisories"];
    match run(&mut command(tool, &arguments), Duration::from_mins(3)) {
        Ok(finished) if finished.success => Advisories::Clean,
        Ok(finished) if finished.output.contains("error[") => Advisories::Found(finished.tail(80)),
        Ok(finished) => Advisories::NotRun(finished.tail(3)),
        Err(trouble) => Advisories::NotRun(trouble.to_string()),
    }
}

/// `cargo-deny`, from the path or installed below `target/tools`.
fn cargo_deny() -> Result<PathBuf, Trouble> {
    let tools = target().join("tools");
    let ours = tools.join("bin/cargo-deny");
    if ours.exists() {
        return Ok(ours);
    }
    if run(&mut command("cargo-deny", &["--version"]), Duration::from_mins(1))
        .is_ok_and(|found| found.success)
    {
        return Ok("cargo-deny".into());
    }
    eprintln!("installing cargo-deny into {} (once)", tools.display());
    let mut install = cargo(&["install", "--quiet", "cargo-deny", "--locked", "--root"]);
    run(install.arg(&tools), Duration::from_mins(30))?.required()?;
    Ok(ours)
}
