//! `trine peer`: the members of the cluster as one node sees them, and what
//! happens to them. The node's side of the answers is here too, so that a
//! report and how it is shown stand together.

use std::io::Write;
use std::time::Duration;

use trine_mesh::members::machine::Change;
use trine_mesh::members::view::{Happening, MemberView, View};
use trine_mesh::members::{Life, Peers};

use crate::admin::client::AdminClient;
use crate::admin::protocol::{Answer, PeerEvent, PeerEvents, PeerReport, Request};
use crate::admin::report;
use crate::cli::{NodeTarget, PeerCommand};
use crate::failure::Failure;

/// How long a node waits for something to happen before it answers that
/// nothing did; the one who watches asks again.
const WATCH_PATIENCE: Duration = Duration::from_secs(20);
const HOUR_MS: u64 = 60 * 60 * 1_000;

/// Runs the command.
///
/// # Errors
/// No node runs here, or it stops.
pub async fn run(command: PeerCommand, json: bool) -> Result<(), Failure> {
    match command {
        PeerCommand::Ls(target) => list(&target, json).await,
        PeerCommand::Watch(target) => watch(&target, json).await,
        PeerCommand::Talk(command) => crate::talk::shell::run(command, json).await,
    }
}

async fn list(target: &NodeTarget, json: bool) -> Result<(), Failure> {
    let peers = match AdminClient::find(target)?.ask(&Request::Peers {}).await? {
        Answer::Peers(peers) => peers,
        other => return Err(Failure::new(format!("the node answered something else: {other:?}"))),
    };
    let text = if json { serde_json::to_string(&peers).map_err(Failure::new)? + "\n" } else { table(&peers) };
    print(&text)
}

async fn watch(target: &NodeTarget, json: bool) -> Result<(), Failure> {
    let mut client = AdminClient::find(target)?;
    let mut after = None;
    loop {
        let events = match client.ask(&Request::PeerEvents { after }).await? {
            Answer::PeerEvents(events) => events,
            other => return Err(Failure::new(format!("the node answered something else: {other:?}"))),
        };
        after = Some(events.last);
        if events.missed > 0 {
            eprintln!("{} earlier events are no longer known", events.missed);
        }
        for event in &events.events {
            let line = if json { serde_json::to_string(event).map_err(Failure::new)? } else { line(event) };
            print(&(line + "\n"))?;
        }
    }
}

fn print(text: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(Failure::new)
}

fn table(peers: &[PeerReport]) -> String {
    let heading = ["NODE", "NAME", "STATE", "ADDRESS", "RTT", "LOAD", "VERSION", "INCARNATION", "TAGS"];
    let mut rows = vec![heading.map(str::to_owned).to_vec()];
    let unknown = || "-".to_owned();
    for peer in peers {
        let tags: Vec<String> = peer.tags.iter().map(|(name, value)| format!("{name}={value}")).collect();
        rows.push(vec![
            format!("n{}", peer.number),
            peer.name.clone(),
            if peer.asked { format!("{} (this node)", peer.state) } else { peer.state.clone() },
            peer.address.clone().unwrap_or_else(unknown),
            peer.rtt_us.map_or_else(unknown, round_trip),
            peer.load.map_or_else(unknown, |load| format!("{load:.2}")),
            peer.version.clone().unwrap_or_else(unknown),
            incarnation(peer.incarnation, peer.refuted),
            tags.join(" "),
        ]);
    }
    report::table(&rows)
}

fn round_trip(us: u64) -> String {
    if us < 1_000 { format!("{us} µs") } else { format!("{}.{} ms", us / 1_000, us % 1_000 / 100) }
}

fn incarnation(start: u64, refuted: u32) -> String {
    if refuted == 0 { start.to_string() } else { format!("{start}.{refuted}") }
}

fn line(event: &PeerEvent) -> String {
    let day_ms = event.at_ms % (24 * HOUR_MS);
    let (hour, rest) = (day_ms / HOUR_MS, day_ms % HOUR_MS);
    let (minute, second, ms) = (rest / 60_000, rest / 1_000 % 60, rest % 1_000);
    format!(
        "{hour:02}:{minute:02}:{second:02}.{ms:03} UTC  n{} {}  {}  (incarnation {})",
        event.number,
        event.name,
        event.event,
        incarnation(event.incarnation, event.refuted)
    )
}

/// The members as they are reported.
pub fn reports(view: &View) -> Vec<PeerReport> {
    view.members.iter().map(member).collect()
}

fn member(member: &MemberView) -> PeerReport {
    let Life { start, refuted } = member.life;
    PeerReport {
        number: member.number.0,
        id: member.id.to_string(),
        name: member.name.clone(),
        asked: member.own,
        state: member.state.map_or("unheard", |state| state.name()).to_owned(),
        address: member.address.map(|address| address.to_string()),
        rtt_us: member.round_trip.map(|took| u64::try_from(took.as_micros()).unwrap_or(u64::MAX)),
        load: member.load.map(|load| f64::from(load) / 100.0),
        version: member.profile.as_ref().map(|profile| profile.version.clone()),
        incarnation: start,
        refuted,
        tags: member.profile.as_ref().map(|profile| profile.tags.clone()).unwrap_or_default(),
    }
}

/// What happened after `after`, or from now on; waits a while for the first.
pub async fn events(peers: &Peers, after: Option<u64>) -> PeerEvents {
    let mut view = peers.view();
    let after = after.unwrap_or_else(|| view.borrow().serial);
    let happened = view.wait_for(|view| view.serial > after);
    // In vain: nothing happened, or the node is stopping.
    let view = match tokio::time::timeout(WATCH_PATIENCE, happened).await {
        Ok(Ok(view)) => view.clone(),
        _ => peers.view().borrow().clone(),
    };
    let events: Vec<PeerEvent> = view.since(after).map(event).collect();
    let known = u64::try_from(events.len()).unwrap_or(u64::MAX);
    let missed = view.serial.saturating_sub(after).saturating_sub(known);
    PeerEvents { events, missed, last: view.serial.max(after) }
}

fn event(happening: &Happening) -> PeerEvent {
    let event = match happening.change {
        Change::Join => "join",
        Change::Suspect => "suspect",
        Change::AliveAgain => "alive-again",
        Change::Leave => "leave",
        Change::Fail => "fail",
    };
    PeerEvent {
        serial: happening.serial,
        at_ms: happening.at_ms,
        event: event.to_owned(),
        number: happening.number.0,
        name: happening.name.clone(),
        incarnation: happening.life.start,
        refuted: happening.life.refuted,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_one_line() {
        let event = PeerEvent {
            serial: 1,
            at_ms: 13 * HOUR_MS + 5 * 60_000 + 7_089,
            event: "fail".into(),
            number: 2,
            name: "b".into(),
            incarnation: 4,
            refuted: 1,
        };
        assert_eq!(line(&event), "13:05:07.089 UTC  n2 b  fail  (incarnation 4.1)");
        assert_eq!((round_trip(950), round_trip(12_340)), ("950 µs".into(), "12.3 ms".into()));
    }
}
