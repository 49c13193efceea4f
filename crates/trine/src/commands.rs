//! From a parsed command line to what happens: commands that ask a running
//! node are here; `start`, `dev`, `demo` and `db` have files of their own.

use std::io::{BufRead, IsTerminal, Write};
use std::process::ExitCode;

use serde::Serialize;

use crate::admin::client::AdminClient;
use crate::admin::protocol::{Answer, RecoveryReport, Request};
use crate::admin::report;
use crate::cli::{Cli, Command, NodeCommand, RecoverArgs, RemoveArgs, TicketArgs};
use crate::failure::Failure;

pub(crate) mod logins;

/// Runs the command and turns its outcome into an exit code; failures go to
/// standard error, as JSON when that was asked for.
pub fn run(cli: Cli) -> ExitCode {
    let json = cli.json;
    match dispatch(cli) {
        Ok(code) => ExitCode::from(code),
        Err(failure) => {
            if json {
                let line =
                    serde_json::json!({"error": {"message": failure.what(), "hint": failure.advice()}});
                eprintln!("{line}");
            } else {
                eprintln!("error: {failure}");
            }
            ExitCode::from(failure.code())
        }
    }
}

fn dispatch(cli: Cli) -> Result<u8, Failure> {
    let json = cli.json;
    let done = match cli.command {
        // Their exit code says how many tasks failed.
        Command::Run(args) => return on_this_thread(crate::run::run(*args, json)),
        Command::Plan(args) => return on_this_thread(crate::run::pilot::run(*args, json)),
        Command::Job(command) => return on_this_thread(crate::run::job::run(command, json)),
        Command::Engine(command) => return on_this_thread(crate::engine::run(command, json)),
        Command::Start(args) => crate::start::run(&args),
        Command::Launcher => trine_compute::launch::launcher::serve().map_err(Failure::new),
        Command::Dev(args) => on_this_thread(crate::dev::run(&args, json)),
        Command::Demo(args) => on_this_thread(crate::demo::run(&args, json)),
        Command::Db(command) => on_this_thread(crate::db::run(command, json)),
        Command::Peer(command) => on_this_thread(crate::peer::run(command, json)),
        asking => on_this_thread(ask(asking, json)),
    };
    done.map(|()| 0)
}

/// Commands run on the main thread: children that are to die with their parent
/// die with the thread that started them.
fn on_this_thread<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(format!("cannot start: {error}")))?
        .block_on(work)
}

async fn ask(command: Command, json: bool) -> Result<(), Failure> {
    match command {
        Command::Status(target) => {
            let status = AdminClient::find(&target)?.status().await?;
            print(json, &status, report::status)
        }
        Command::Nodes(target) => {
            let nodes = AdminClient::find(&target)?.nodes().await?;
            print(json, &nodes, |nodes| report::nodes(nodes))
        }
        Command::Groups(target) => {
            let groups = AdminClient::find(&target)?.groups().await?;
            print(json, &groups, |groups| report::groups(groups))
        }
        Command::Ticket(args) => ticket(&args, json).await,
        Command::Node(NodeCommand::Remove(args)) => remove(&args, json).await,
        Command::Recover(args) => recover(&args, json).await,
        Command::User(command) => logins::user(command, json).await,
        Command::Token(command) => logins::token(command, json).await,
        Command::Audit(args) => logins::audit(&args, json).await,
        Command::Start(_)
        | Command::Dev(_)
        | Command::Demo(_)
        | Command::Db(_)
        | Command::Peer(_)
        | Command::Run(_)
        | Command::Plan(_)
        | Command::Job(_)
        | Command::Engine(_)
        | Command::Launcher => Ok(()),
    }
}

fn print<T: Serialize>(json: bool, data: &T, text: impl FnOnce(&T) -> String) -> Result<(), Failure> {
    let out = if json { serde_json::to_string(data).map_err(Failure::new)? + "\n" } else { text(data) };
    std::io::stdout().write_all(out.as_bytes()).map_err(Failure::new)
}

async fn ticket(args: &TicketArgs, json: bool) -> Result<(), Failure> {
    let ticket = AdminClient::find(&args.node)?.ticket(args.valid).await?;
    print(json, &ticket, |ticket| ticket.ticket.clone() + "\n")?;
    eprintln!("good for one machine, once, for {} s: trine start --join @FILE", args.valid.as_secs());
    Ok(())
}

async fn remove(args: &RemoveArgs, json: bool) -> Result<(), Failure> {
    confirm(
        args.yes,
        &format!("Remove {} for good? Its key is revoked; it can only come back as a new node.", args.name),
    )?;
    let answer = AdminClient::find(&args.node)?.ask(&Request::RemoveNode { node: args.name.clone() }).await?;
    match answer {
        Answer::Removed(report) => {
            print(json, &report, |report| format!("removed n{} {}\n", report.number, report.name))
        }
        other => Err(Failure::new(format!("the node answered something else: {other:?}"))),
    }
}

async fn recover(args: &RecoverArgs, json: bool) -> Result<(), Failure> {
    let mut client = AdminClient::find(&args.node)?;
    let plan = recovery(client.ask(&Request::RecoverPlan { lost: args.i_lost.clone() }).await?)?;
    eprint!("{}", report::recovery(&plan));
    confirm(
        args.yes,
        "Writes that only the lost nodes had are lost for good, and the lost nodes may never come back. Do it?",
    )?;
    let done = recovery(client.ask(&Request::Recover { lost: args.i_lost.clone() }).await?)?;
    let names = done.lost.iter().map(|n| format!("n{n}")).collect::<Vec<_>>().join(", ");
    print(json, &done, |done| format!("gave up {names}; {} groups go on without them\n", done.groups.len()))
}

fn recovery(answer: Answer) -> Result<RecoveryReport, Failure> {
    match answer {
        Answer::Recovery(report) => Ok(report),
        other => Err(Failure::new(format!("the node answered something else: {other:?}"))),
    }
}

/// Asks on the terminal, unless `--yes` was given; without a terminal nothing
/// is done.
fn confirm(yes: bool, question: &str) -> Result<(), Failure> {
    if yes {
        return Ok(());
    }
    let refused =
        || Failure::new("not confirmed, nothing was changed").hint("add --yes to say so on the command line");
    if !std::io::stdin().is_terminal() {
        return Err(refused());
    }
    eprint!("{question} Type yes: ");
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer).map_err(Failure::new)?;
    if answer.trim() == "yes" { Ok(()) } else { Err(refused()) }
}
