//! Clients that ask for much: the node's memory stays bounded, and clients
//! beside them notice little.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::accept::Line;
use crate::accept::cost::resident_mib;
use crate::command::{Trouble, product};
use crate::nats::{Client, Heard, Pair};
use crate::servers::Dev;

/// Growth of a node's memory that counts as bounded, in MiB: the outboxes of
/// the clients that are slow, and what the allocator keeps.
const GROWTH_MIB: u64 = 128;
/// 99 of 100 requests of a client beside the load are answered within this,
/// on a machine whose cores the load shares.
const BESIDE: Duration = Duration::from_millis(20);
/// The second that a subscriber which takes nothing may hold up a publisher,
/// the quarter by which it may be seen late, and as much again for the machine.
const HELD_UP: Duration = Duration::from_millis(2_500);
/// How long the slow subscriber does not read.
const SLOW_FOR: Duration = Duration::from_secs(20);
const SUBSCRIPTIONS: usize = 10_000;
const CONNECTIONS_PER_SECOND: u32 = 1_000;
const CONNECTIONS_FOR: Duration = Duration::from_mins(1);
/// The same in short.
const CONNECTIONS_IN_SHORT: Duration = Duration::from_secs(5);
/// Threads that open and drop connections.
const OPENERS: u32 = 4;
/// How long that client is measured before the load.
const QUIET_FOR: Duration = Duration::from_secs(2);
/// Pause between two requests of the client beside the load.
const ASK_EVERY: Duration = Duration::from_millis(10);

/// One node and the port of its NATS door.
struct Place {
    port: u16,
    pid: u32,
    _dev: Dev,
}

impl Place {
    fn start() -> Result<Option<Self>, Trouble> {
        let dev = Dev::start(&product()?, 1)?;
        let place = dev.doors.first().and_then(|door| Some((door.nats?, door.pid)));
        Ok(place.map(|(port, pid)| Self { port, pid, _dev: dev }))
    }
}

/// What a client beside the load saw.
struct Beside {
    times: Vec<Duration>,
    unanswered: Option<String>,
}

impl Beside {
    fn p99(&self) -> Duration {
        let mut times = self.times.clone();
        times.sort_unstable();
        times.get(times.len().saturating_sub(1) * 99 / 100).copied().unwrap_or(Duration::MAX)
    }

    fn figure(&self) -> String {
        let count = self.times.len();
        match &self.unanswered {
            None => format!("beside it {count} requests, p99 {:.2?}", self.p99()),
            Some(error) => format!("beside it {count} requests, then: {error}"),
        }
    }

    fn is_unaffected(&self) -> bool {
        self.unanswered.is_none() && !self.times.is_empty() && self.p99() < BESIDE
    }
}

/// Asks beside the load until it is over.
fn beside(port: u16, over: &AtomicBool) -> Beside {
    let mut seen = Beside { times: Vec::new(), unanswered: None };
    let asked = (|| -> io::Result<()> {
        let mut pair = Pair::open(port, port, "beside")?;
        while !over.load(Ordering::Relaxed) {
            seen.times.push(pair.ask()?);
            std::thread::sleep(ASK_EVERY);
        }
        Ok(())
    })();
    seen.unanswered = asked.err().map(|error| error.to_string());
    seen
}

/// What the same client sees when nobody else is there.
fn quiet(port: u16) -> Beside {
    let over = AtomicBool::new(false);
    std::thread::scope(|threads| {
        let asking = threads.spawn(|| beside(port, &over));
        std::thread::sleep(QUIET_FOR);
        over.store(true, Ordering::Relaxed);
        asking.join().unwrap_or(Beside { times: Vec::new(), unanswered: None })
    })
}

/// Runs `load` with a client beside it and compares the node's memory.
fn under(
    name: &str,
    load: impl FnOnce(u16) -> Result<(bool, String), Trouble>,
) -> Result<Vec<Line>, Trouble> {
    let Some(place) = Place::start()? else {
        return Ok(vec![Line::not_run(name, "trine dev has no NATS door")]);
    };
    let calm = quiet(place.port);
    let before = resident_mib(place.pid);
    let over = AtomicBool::new(false);
    let (loaded, seen) = std::thread::scope(|threads| {
        let asking = threads.spawn(|| beside(place.port, &over));
        let loaded = load(place.port);
        over.store(true, Ordering::Relaxed);
        let nothing = Beside { times: Vec::new(), unanswered: Some("the thread ended".to_owned()) };
        (loaded, asking.join().unwrap_or(nothing))
    });
    let after = resident_mib(place.pid);
    let grown = after.saturating_sub(before);
    let (good, figure) = loaded?;
    Ok(vec![
        Line::of(good, name, figure),
        Line::of(
            after > 0 && grown < GROWTH_MIB,
            &format!("{name}: memory stays bounded"),
            format!("{before} MiB before, {after} MiB after"),
        ),
        Line::of(seen.unanswered.is_none(), &format!("{name}: another client is served"), seen.figure()),
        Line::timed(
            seen.is_unaffected(),
            &format!("{name}: other clients are unaffected"),
            format!("{}; p99 before {:.2?}", seen.figure(), calm.p99()),
        ),
    ])
}

/// One subscriber stops reading while another gets everything.
pub(super) fn slow_subscriber() -> Result<Vec<Line>, Trouble> {
    let name = "a slow subscriber costs the others nothing that was sent";
    let mut longest = Duration::MAX;
    let mut lines = under(name, |port| {
        let shown = slow(port).map_err(Trouble::at("NATS door"))?;
        longest = shown.longest;
        let figure = format!("{} messages sent, {} of them read in order beside it", shown.sent, shown.read);
        Ok((shown.sent == shown.read, figure))
    })?;
    let figure = format!("its publisher waited at most {longest:.2?}");
    lines.push(Line::timed(longest < HELD_UP, "a slow subscriber holds up nobody for long", figure));
    Ok(lines)
}

/// What came of a slow subscriber.
struct Slow {
    sent: u64,
    read: u64,
    /// The publisher's longest wait.
    longest: Duration,
}

fn slow(port: u16) -> io::Result<Slow> {
    let payload = vec![b'x'; 1_024];
    let (sent, over) = (AtomicU64::new(0), AtomicBool::new(false));
    let mut sleeper = Client::local(port)?;
    sleeper.subscribe("slow.>")?;
    sleeper.flush()?;
    let mut reader = Client::local(port)?;
    reader.subscribe("slow.>")?;
    reader.flush()?;
    std::thread::scope(|threads| {
        let publishing = threads.spawn(|| -> io::Result<Duration> {
            let mut publisher = Client::local(port)?;
            let mut longest = Duration::ZERO;
            while !over.load(Ordering::Relaxed) {
                let begin = Instant::now();
                let number = sent.load(Ordering::Relaxed);
                let mut message = number.to_be_bytes().to_vec();
                message.extend_from_slice(&payload);
                publisher.publish("slow.one", "", &message)?;
                sent.store(number + 1, Ordering::Relaxed);
                longest = longest.max(begin.elapsed());
            }
            publisher.flush()?;
            Ok(longest)
        });
        let read = read_in_order(&mut reader, &sent, &over);
        over.store(true, Ordering::Relaxed);
        let published = publishing.join().unwrap_or_else(|_| Err(io::Error::other("the publisher ended")));
        let (longest, read) = (published?, read?);
        Ok(Slow { sent: sent.load(Ordering::Relaxed), read, longest })
    })
}

/// Reads for [`SLOW_FOR`], then until everything sent has come; how many.
fn read_in_order(reader: &mut Client, sent: &AtomicU64, over: &AtomicBool) -> io::Result<u64> {
    let deadline = Instant::now() + SLOW_FOR;
    let mut read = 0;
    loop {
        if Instant::now() > deadline {
            over.store(true, Ordering::Relaxed);
        }
        if over.load(Ordering::Relaxed) && read >= sent.load(Ordering::Relaxed) {
            // One more may be between the door and us.
            std::thread::sleep(Duration::from_millis(200));
            if read >= sent.load(Ordering::Relaxed) {
                return Ok(read);
            }
        }
        match reader.next()? {
            Heard::Message { payload, .. } => {
                let number = payload.first_chunk().map(|bytes| u64::from_be_bytes(*bytes));
                if number != Some(read) {
                    return Err(io::Error::other(format!("message {number:?} came instead of {read}")));
                }
                read += 1;
            }
            Heard::Pong | Heard::Nobody => {}
            Heard::Error(error) => return Err(io::Error::other(error)),
        }
    }
}

/// Ten thousand subscriptions of one client, each of which works.
pub(super) fn subscriptions() -> Result<Vec<Line>, Trouble> {
    under("10,000 subscriptions, each gets its message", |port| {
        let failed = Trouble::at("NATS door");
        subscribe_many(port).map_err(failed)
    })
}

fn subscribe_many(port: u16) -> io::Result<(bool, String)> {
    let begin = Instant::now();
    let mut subscriber = Client::local(port)?;
    for n in 0..SUBSCRIPTIONS {
        subscriber.subscribe(&format!("many.{n}.*"))?;
    }
    subscriber.flush()?;
    let took = begin.elapsed();
    let mut publisher = Client::local(port)?;
    let begin = Instant::now();
    let mut got = 0;
    for n in 0..SUBSCRIPTIONS {
        publisher.publish(&format!("many.{n}.x"), "", b"m")?;
        if n % 100 == 99 {
            publisher.flush()?;
            while got <= n {
                match subscriber.next()? {
                    Heard::Message { subject, .. } if subject == format!("many.{got}.x") => got += 1,
                    other => return Err(io::Error::other(format!("{other:?} instead of message {got}"))),
                }
            }
        }
    }
    let figure = format!(
        "subscribed in {took:.2?}, {got} messages to one subscription each in {:.2?}",
        begin.elapsed()
    );
    Ok((got == SUBSCRIPTIONS, figure))
}

/// A thousand connections a second, opened and dropped, for a minute.
pub(super) fn connections() -> Result<Vec<Line>, Trouble> {
    connections_for("1,000 connections opened and dropped each second for a minute", CONNECTIONS_FOR)
}

/// The same for a few seconds.
pub(super) fn some_connections() -> Result<Vec<Line>, Trouble> {
    connections_for("1,000 connections opened and dropped each second for 5 s", CONNECTIONS_IN_SHORT)
}

fn connections_for(name: &str, length: Duration) -> Result<Vec<Line>, Trouble> {
    let mut took = Duration::ZERO;
    let mut lines = under(name, |port| {
        let (opened, failed) = (AtomicU64::new(0), AtomicU64::new(0));
        let begin = Instant::now();
        std::thread::scope(|threads| {
            for _ in 0..OPENERS {
                threads.spawn(|| open_and_drop(port, (begin, length), &opened, &failed));
            }
        });
        let (opened, failed) = (opened.into_inner(), failed.into_inner());
        took = begin.elapsed();
        let wanted = u64::from(CONNECTIONS_PER_SECOND) * length.as_secs();
        let figure = format!("{opened} connections in {took:.1?}, {failed} refused or broken");
        Ok((opened == wanted && failed == 0, figure))
    })?;
    let in_time = took < length + Duration::from_secs(3);
    lines.push(Line::timed(in_time, &format!("{name}: at that rate"), format!("took {took:.1?}")));
    Ok(lines)
}

/// One thread's share of the connections, on time as long as it can.
fn open_and_drop(port: u16, (begin, length): (Instant, Duration), opened: &AtomicU64, failed: &AtomicU64) {
    let every = Duration::from_secs(1) * OPENERS / CONNECTIONS_PER_SECOND;
    let mut next = begin;
    while next < begin + length {
        std::thread::sleep(next.saturating_duration_since(Instant::now()));
        next += every;
        let went = Client::local(port).and_then(|mut client| {
            client.subscribe("fleeting.>")?;
            client.drop_hard()
        });
        let counter = if went.is_ok() { opened } else { failed };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}
