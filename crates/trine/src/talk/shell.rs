//! The command line's side of `trine peer ping|send|request|…`.

use std::io::{Read, Write};
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use serde::Serialize;

use super::copy::hash_of;
use super::words::{TalkAnswer, TalkRequest, TimingReport};
use crate::admin::client::AdminClient;
use crate::admin::protocol::{Answer, MAX_REQUEST_BYTES, Request};
use crate::cli::{NodeTarget, parse_duration};
use crate::failure::Failure;

/// How long the node waits for a message before it is asked again.
const WAIT_MS: u64 = 10_000;

/// Messages through a running node.
#[derive(Debug, Subcommand)]
pub enum TalkCommand {
    /// Let a node send some bytes back, and print T = `T_c` + `T_m`: connecting, message.
    Ping {
        /// The node: its number (n3 or 3), name, or the first characters of its id.
        node: String,
        /// How many bytes.
        #[arg(long, value_name = "N", default_value_t = 16)]
        bytes: u32,
        /// How often.
        #[arg(long, value_name = "N", default_value_t = 10)]
        count: u32,
        /// Over a connection that is not kept open, to see what connecting takes.
        #[arg(long)]
        cold: bool,
        /// Which node asks.
        #[command(flatten)]
        from: NodeTarget,
    },
    /// Give a message to the subscribers at one node.
    Send {
        /// The node.
        node: String,
        /// Subject.
        subject: String,
        /// Text; `-` reads standard input.
        text: String,
        /// How it is sent.
        #[command(flatten)]
        how: How,
    },
    /// Ask who subscribed to a subject, and print the reply.
    Request {
        /// Subject.
        subject: String,
        /// Text; `-` reads standard input.
        text: String,
        /// Ask the subscribers at this node only.
        #[arg(long, value_name = "NODE")]
        node: Option<String>,
        /// How long to wait for the reply.
        #[arg(long, value_name = "TIME", default_value = "5s", value_parser = parse_duration)]
        timeout: Duration,
        /// How often, one after the other.
        #[arg(long, value_name = "N", default_value_t = 1)]
        count: u32,
        /// How it is sent.
        #[command(flatten)]
        how: How,
    },
    /// Publish a message to subscribers on all nodes.
    Publish {
        /// Subject.
        subject: String,
        /// Text; `-` reads standard input.
        text: String,
        /// How it is sent.
        #[command(flatten)]
        how: How,
    },
    /// Print messages as they come, until Ctrl-C.
    Subscribe {
        /// Filter: a subject, in which * is any token and a last > any more of them.
        filter: String,
        /// Share the messages with the other members of this queue group.
        #[arg(long, value_name = "NAME")]
        queue: Option<String>,
        /// End after so many messages.
        #[arg(long, value_name = "N")]
        count: Option<u64>,
        /// Which node to ask.
        #[command(flatten)]
        from: NodeTarget,
    },
    /// Send a file to a node's inbox folder (DATA/inbox); goes on where it stopped.
    Copy {
        /// The file.
        file: PathBuf,
        /// The node and the path below its inbox folder.
        #[arg(value_name = "NODE:PATH")]
        to: String,
        /// Which node sends; it reads the file.
        #[command(flatten)]
        from: NodeTarget,
    },
}

/// How a message is sent.
#[derive(Debug, Args)]
pub struct How {
    /// Print T = `T_c` + `T_m`: connecting, message.
    #[arg(long)]
    pub timing: bool,
    /// Which node sends.
    #[command(flatten)]
    pub from: NodeTarget,
}

/// Runs the command.
///
/// # Errors
/// No node runs here, or it refuses.
pub async fn run(command: TalkCommand, json: bool) -> Result<(), Failure> {
    match command {
        TalkCommand::Ping { node, bytes, count, cold, from } => {
            let answer = ask(&from, TalkRequest::Ping { node, bytes, count, cold }).await?;
            let TalkAnswer::Pinged(timing) = answer else { return Err(unexpected(&answer)) };
            if json { print_json(&timing) } else { print(&times(&timing)) }
        }
        TalkCommand::Send { node, subject, text, how } => {
            let request = TalkRequest::Send { node, subject, payload: payload(text)? };
            taken(ask(&how.from, request).await?, &how, json)
        }
        TalkCommand::Publish { subject, text, how } => {
            let request = TalkRequest::Publish { subject, payload: payload(text)? };
            taken(ask(&how.from, request).await?, &how, json)
        }
        TalkCommand::Request { subject, text, node, timeout, count, how } => {
            let patience_ms = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
            let payload = payload(text)?;
            let request = TalkRequest::Request { node, subject, payload, patience_ms, count };
            let answer = ask(&how.from, request).await?;
            let TalkAnswer::Replied(report) = answer else { return Err(unexpected(&answer)) };
            if json {
                return print_json(&report);
            }
            if how.timing {
                eprint!("{}", times(&report.timing));
            }
            print(&(report.reply.payload + "\n"))
        }
        TalkCommand::Subscribe { filter, queue, count, from } => {
            subscribe(&from, filter, queue, count, json).await
        }
        TalkCommand::Copy { file, to, from } => copy(&from, file, &to, json).await,
    }
}

async fn ask(target: &NodeTarget, what: TalkRequest) -> Result<TalkAnswer, Failure> {
    talk(&mut AdminClient::find(target)?, what).await
}

async fn talk(client: &mut AdminClient, what: TalkRequest) -> Result<TalkAnswer, Failure> {
    match client.ask(&Request::Talk { talk: what }).await? {
        Answer::Talk(answer) => Ok(answer),
        other => Err(Failure::new(format!("the node answered something else: {other:?}"))),
    }
}

fn unexpected(answer: &TalkAnswer) -> Failure {
    Failure::new(format!("the node answered something else: {answer:?}"))
}

/// The text, or what standard input says.
fn payload(text: String) -> Result<String, Failure> {
    let most = MAX_REQUEST_BYTES as u64 / 2;
    let mut read = text;
    if read == "-" {
        read.clear();
        std::io::stdin().take(most + 1).read_to_string(&mut read).map_err(Failure::new)?;
    }
    if read.len() as u64 > most {
        return Err(Failure::new(format!("a message from the command line has at most {most} bytes"))
            .hint("send a file with `trine peer copy`, or use a NATS client"));
    }
    Ok(read)
}

fn taken(answer: TalkAnswer, how: &How, json: bool) -> Result<(), Failure> {
    let TalkAnswer::Taken(report) = answer else { return Err(unexpected(&answer)) };
    if json {
        return print_json(&report);
    }
    if how.timing {
        eprint!("{}", times(&report.timing));
    }
    print(&format!("{} took it\n", report.receivers))
}

async fn subscribe(
    target: &NodeTarget,
    filter: String,
    queue: Option<String>,
    count: Option<u64>,
    json: bool,
) -> Result<(), Failure> {
    let mut client = AdminClient::find(target)?;
    let answer = talk(&mut client, TalkRequest::Subscribe { filter: filter.clone(), queue }).await?;
    let TalkAnswer::Subscribed { inbox } = answer else { return Err(unexpected(&answer)) };
    eprintln!("subscribed to {filter}");
    let mut left = count.unwrap_or(u64::MAX);
    while left > 0 {
        let answer = talk(&mut client, TalkRequest::Take { inbox, wait_ms: WAIT_MS }).await?;
        let TalkAnswer::Messages(messages) = answer else { return Err(unexpected(&answer)) };
        for message in messages.iter().take(usize::try_from(left).unwrap_or(usize::MAX)) {
            if json {
                print_json(message)?;
            } else {
                print(&format!("{}  {}\n", message.subject, message.payload))?;
            }
            left -= 1;
        }
    }
    Ok(())
}

async fn copy(target: &NodeTarget, file: PathBuf, to: &str, json: bool) -> Result<(), Failure> {
    let (node, path) =
        to.split_once(':').filter(|(node, path)| !node.is_empty() && !path.is_empty()).ok_or_else(|| {
            Failure::new(format!("`{to}` does not say where"))
                .hint("write NODE:PATH, like n2:reports/may.csv")
                .usage()
        })?;
    let cannot = |error: std::io::Error| Failure::new(format!("{} cannot be read: {error}", file.display()));
    let file = file.canonicalize().map_err(cannot)?;
    let bytes = file.metadata().map_err(cannot)?.len();
    let hash = blake3::Hash::from_bytes(hash_of(&file).map_err(cannot)?).to_hex().to_string();
    let mut client = AdminClient::find(target)?;
    loop {
        let request = TalkRequest::Copy {
            file: file.display().to_string(),
            node: node.to_owned(),
            path: path.to_owned(),
            hash: hash.clone(),
            bytes,
        };
        let answer = talk(&mut client, request).await?;
        let TalkAnswer::Copied(report) = answer else { return Err(unexpected(&answer)) };
        if report.done {
            return if json {
                print_json(&report)
            } else {
                print(&format!("{bytes} bytes, BLAKE3 {hash}\n"))
            };
        }
        eprintln!("{} of {bytes} bytes", report.there);
    }
}

fn times(timing: &TimingReport) -> String {
    let us = |ns: u64| format!("{}.{:01} µs", ns / 1_000, ns % 1_000 / 100);
    let total = timing.connection_ns + timing.median_ns;
    format!(
        "T = T_c + T_m: {} = {} connecting + {} message and answer\n\
         {} exchanges: fastest {}, median {}, p99 {}, slowest {}\n",
        us(total),
        us(timing.connection_ns),
        us(timing.median_ns),
        timing.count,
        us(timing.fastest_ns),
        us(timing.median_ns),
        us(timing.p99_ns),
        us(timing.slowest_ns)
    )
}

fn print(text: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(Failure::new)
}

fn print_json<T: Serialize>(data: &T) -> Result<(), Failure> {
    print(&(serde_json::to_string(data).map_err(Failure::new)? + "\n"))
}
