//! Starts that must be refused, each with a clear error and without a panic.

use std::path::Path;
use std::time::Duration;

use rustix::process::Signal;

use super::Line;
use crate::command::{Trouble, command, product, run};
use crate::redis::Connection;
use crate::servers::{Dev, Server, folder, free_ports, wait_for};

/// How long a refusal may take.
const LIMIT: Duration = Duration::from_secs(20);

pub(super) fn refusals() -> Result<Vec<Line>, Trouble> {
    let trine = product()?;
    let folder = folder("refusals")?;
    let place = folder.path();
    let file = |name: &str, text: &str| -> Result<String, Trouble> {
        let path = place.join(name);
        std::fs::write(&path, text).map_err(Trouble::at(name.to_owned()))?;
        Ok(path.display().to_string())
    };
    let unknown = file("unknown.toml", "no_such_setting = 1\n")?;
    let broken = file("broken.toml", "this is = = not TOML\n")?;
    let range = file("range.toml", "partitions = 70000\n")?;
    let garbage = file("garbage.ticket", "trine-nonsense\n")?;
    let mut lines = Vec::new();
    let mut refuse = |name: &str, words: &[&str]| lines.push(refused(&trine, place, name, words));
    refuse("an unknown setting is refused", &["--config", &unknown]);
    refuse("a broken configuration file is refused", &["--config", &broken]);
    refuse("a setting out of range is refused", &["--config", &range]);
    refuse("a flag out of range is refused", &["--partitions", "0"]);
    refuse("a data door beyond loopback is refused", &["--redis", "0.0.0.0:0"]);
    refuse("a ticket that is none is refused", &["--join", &format!("@{garbage}")]);
    let dev = Dev::start(&trine, 1)?;
    let ask = |valid: &str| -> Result<String, Trouble> {
        let mut ask = command(&trine, &["ticket", "--valid", valid, "--data"]);
        let output = run(ask.arg(&dev.doors[0].data), LIMIT)?.required()?;
        Ok(output.lines().find(|line| line.contains("trine-")).unwrap_or_default().to_owned())
    };
    let expired = file("expired.ticket", &ask("1s")?)?;
    std::thread::sleep(Duration::from_millis(1_500));
    refuse("an expired ticket is refused", &["--join", &format!("@{expired}")]);
    let once = file("once.ticket", &ask("1h")?)?;
    let joined = Node::start(&trine, &place.join("joined"), Some(&once))?;
    refuse("a used ticket is refused", &["--join", &format!("@{once}")]);
    let founded = Node::start(&trine, &place.join("a-data-directory-of-another-cluster-is-refused"), None)?;
    drop(founded);
    let foreign = file("foreign.ticket", &ask("1h")?)?;
    refuse("a data directory of another cluster is refused", &["--join", &format!("@{foreign}")]);
    // Two nodes have no majority without either: it was needed until here.
    drop(joined);
    let newer = place.join("a-newer-format-is-refused");
    drop(Node::start(&trine, &newer, None)?);
    std::fs::write(newer.join("node/format"), NEWER_FORMAT).map_err(Trouble::at("node/format"))?;
    refuse("a newer format is refused", &[]);
    Ok(lines)
}

/// `node/format` of a version 99, as a node would write it.
const NEWER_FORMAT: &[u8] = b"TRINEF\0\x01\x01\0\0\0\xc7\x33\xeb\x20c";

/// A node that serves; ended when dropped.
struct Node(Server);

impl Node {
    fn start(trine: &Path, data: &Path, ticket: Option<&str>) -> Result<Self, Trouble> {
        let ports = free_ports(2)?;
        let any = "127.0.0.1:0";
        let mut start = command(trine, &["start", "--data"]);
        start.arg(data).args(["--redis", &format!("127.0.0.1:{}", ports[0])]);
        start.args(["--peer", &format!("127.0.0.1:{}", ports[1]), "--nats", any, "--admin", any]);
        if let Some(ticket) = ticket {
            start.args(["--join", &format!("@{ticket}")]);
        }
        let node = Server::start(&mut start, &data.with_extension("log"), false)?;
        let serves = wait_for(LIMIT, || {
            let open = Connection::local(ports[0]);
            open.is_ok_and(|mut open| open.call(&["SET", "a", "b"]).is_ok_and(|reply| reply.is_ok()))
        });
        if serves { Ok(Self(node)) } else { Err(Trouble::Unexpected(node.last_words())) }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.0.stop(Signal::TERM);
    }
}

/// One start that must end with an error.
fn refused(trine: &Path, place: &Path, name: &str, words: &[&str]) -> Line {
    let ports = match free_ports(2) {
        Ok(ports) => ports,
        Err(trouble) => return Line::of(false, name, trouble.to_string()),
    };
    let data = place.join(name.replace(' ', "-"));
    let mut start = command(trine, &["start", "--data"]);
    start.arg(data).args(["--peer", &format!("127.0.0.1:{}", ports[0]), "--admin", "127.0.0.1:0"]);
    start.args(["--nats", "127.0.0.1:0"]);
    if !words.contains(&"--redis") {
        start.args(["--redis", &format!("127.0.0.1:{}", ports[1])]);
    }
    match run(start.args(words), LIMIT) {
        Ok(finished) => {
            let clear =
                !finished.success && !finished.output.contains("panicked") && !finished.output.is_empty();
            Line::of(clear, name, finished.tail(2).replace('\n', " / "))
        }
        Err(trouble) => Line::of(false, name, trouble.to_string()),
    }
}
