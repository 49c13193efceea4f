//! What nodes know of each other's subscriptions while a link between them is
//! cut, and after: at NATS's doors of real nodes on hosts of their own.

use std::io;
use std::time::{Duration, Instant};

use super::cluster::Cluster;
use crate::command::Trouble;
use crate::hosts::{enter, nats_door};
use crate::nats::{Client, Heard};

/// The node that is cut off, and one that stays with the others.
const LONE: usize = 3;
const OTHER: usize = 1;
/// How long a client waits for a door.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long anything may take here before the trial is given up.
const GIVE_UP: Duration = Duration::from_secs(20);
/// Pause between two looks.
const LOOK_AGAIN: Duration = Duration::from_millis(5);
/// Where answers would go.
const INBOX: &str = "_INBOX.xtask.interest";

/// What one cut showed.
#[derive(Debug)]
pub(crate) struct Healed {
    /// How long the link was cut.
    pub(crate) cut_for: Duration,
    /// From the cut until the others no longer forwarded to the lone node;
    /// none if they still did when it ended.
    pub(crate) given_up: Option<Duration>,
    /// From the end of the cut until both sides knew what had changed during
    /// it; none if they never did.
    pub(crate) right: Option<Duration>,
    /// Whether what was published then arrived on both sides.
    pub(crate) arrived: bool,
}

/// Cuts a node off for each of `lengths`.
pub(crate) fn partitions(lengths: &[Duration]) -> Result<Vec<Healed>, Trouble> {
    let cluster = Cluster::start()?;
    let mut shown = Vec::new();
    for (trial, length) in lengths.iter().enumerate() {
        // On a thread of its own: a thread that has entered a host stays there.
        let one = std::thread::scope(|threads| {
            let trial = threads.spawn(|| one(&cluster, trial, *length));
            trial.join().map_err(|_| Trouble::Unexpected("the trial panicked".to_owned()))
        });
        shown.push(one??);
        cluster.wait_until_whole()?;
    }
    Ok(shown)
}

/// One node, as its clients see it.
struct Side {
    host: String,
    asking: Client,
    /// Holds the only subscription of its node to a subject.
    holding: Client,
}

impl Side {
    fn open(host: String, subject: &str) -> Result<Self, Trouble> {
        let mut asking = client(&host)?;
        asking.subscribe(INBOX).map_err(Trouble::at("subscribe"))?;
        let holding = holder(&host, subject)?;
        Ok(Self { host, asking, holding })
    }

    fn is_wanted(&mut self, subject: &str) -> Result<bool, Trouble> {
        self.asking.is_wanted(subject, INBOX).map_err(Trouble::at("ask"))
    }

    /// Publishes to `subject` and lets `other` read it.
    fn reaches(&mut self, other: &mut Self, subject: &str) -> io::Result<bool> {
        self.asking.publish(subject, "", b"after")?;
        loop {
            match other.holding.next()? {
                Heard::Message { payload, .. } if payload == b"after" => return Ok(true),
                Heard::Error(_) => return Ok(false),
                _ => {}
            }
        }
    }
}

fn client(host: &str) -> Result<Client, Trouble> {
    enter(host)?;
    Client::open(nats_door(), PATIENCE).map_err(Trouble::at("NATS door"))
}

fn holder(host: &str, subject: &str) -> Result<Client, Trouble> {
    let mut holder = client(host)?;
    holder.subscribe(subject).and_then(|()| holder.flush()).map_err(Trouble::at("subscribe"))?;
    Ok(holder)
}

fn one(cluster: &Cluster, trial: usize, length: Duration) -> Result<Healed, Trouble> {
    let subject = |side: &str, when: &str| format!("interest.{trial}.{side}.{when}");
    let links = cluster.links();
    let mut lone = Side::open(links.name(LONE), &subject("lone", "before"))?;
    let mut other = Side::open(links.name(OTHER), &subject("other", "before"))?;
    let known = until(GIVE_UP, || {
        Ok(other.is_wanted(&subject("lone", "before"))? && lone.is_wanted(&subject("other", "before"))?)
    })?;
    known.ok_or_else(|| Trouble::Unexpected("interest does not spread before the cut".to_owned()))?;
    let begin = Instant::now();
    links.cut(LONE)?;
    let given_up = until(length, || Ok(!other.is_wanted(&subject("lone", "before"))?))?;
    // What both sides want changes while neither can tell.
    lone.holding = holder(&lone.host, &subject("lone", "after"))?;
    other.holding = holder(&other.host, &subject("other", "after"))?;
    std::thread::sleep(length.saturating_sub(begin.elapsed()));
    let cut_for = begin.elapsed();
    links.heal(LONE)?;
    let right = until(GIVE_UP, || {
        Ok(other.is_wanted(&subject("lone", "after"))?
            && lone.is_wanted(&subject("other", "after"))?
            && !other.is_wanted(&subject("lone", "before"))?
            && !lone.is_wanted(&subject("other", "before"))?)
    })?;
    let arrived = right.is_some()
        && other.reaches(&mut lone, &subject("lone", "after")).unwrap_or(false)
        && lone.reaches(&mut other, &subject("other", "after")).unwrap_or(false);
    Ok(Healed { cut_for, given_up, right, arrived })
}

/// Looks until it holds; how long that took, none if it did not within `limit`.
fn until(
    limit: Duration,
    mut holds: impl FnMut() -> Result<bool, Trouble>,
) -> Result<Option<Duration>, Trouble> {
    let begin = Instant::now();
    loop {
        if holds()? {
            return Ok(Some(begin.elapsed()));
        }
        if begin.elapsed() >= limit {
            return Ok(None);
        }
        std::thread::sleep(LOOK_AGAIN);
    }
}
