//! `sim broadcast`: redundancy at rest, and repair after half of the members
//! are gone.

use clap::Args;
use trine_mesh::broadcast::MessageId;
use trine_mesh::broadcast::machine::ROUND;

use super::net::Net;

/// Messages after which the tree has formed.
const WARM_UP: u32 = 10;
/// Messages over which redundancy is measured.
const MEASURED: u32 = 20;
/// Rounds of repair that are watched.
const WATCHED: u32 = 6;

/// What to simulate.
#[derive(Debug, Clone, Args)]
pub struct Options {
    /// How many members.
    #[arg(long, default_value_t = 10_000)]
    members: usize,
    /// The first seed.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many seeds.
    #[arg(long, default_value_t = 3)]
    seeds: u64,
}

/// What one seed showed.
#[derive(Clone, Debug, Default)]
pub struct Shown {
    /// Copies of a message that each member got beside the first, on average,
    /// when one member sends, and when a random one does.
    pub redundancy: (f64, f64),
    /// Everything else that was sent, per member and message.
    pub control: f64,
    /// The same from many members: messages that not all got.
    pub incomplete: usize,
    /// Most links that a message crossed, and its time to the last member in s.
    pub hops: u16,
    /// See `hops`.
    pub seconds: f64,
    /// For messages sent 0, 1, 2, … rounds after the crash: the share of
    /// survivors that had it one round later, and in the end.
    pub repair: Vec<(f64, f64)>,
    /// Seconds after the crash until all survivors had the message that was
    /// sent in that moment; nothing if not all got it.
    pub first_complete: Option<f64>,
    /// Survivors without a neighbour in the end.
    pub isolated: usize,
}

/// Runs and prints.
pub fn run(options: &Options) {
    println!(
        "{} members, links of 10 to 50 ms, a loss is noticed after 250 to 500 ms, rounds of {} ms",
        options.members,
        ROUND.as_millis()
    );
    for seed in options.seed..options.seed + options.seeds {
        let shown = measure(options.members, seed);
        println!(
            "seed {seed}: redundancy (RMR) {:.3} with one sender, {:.3} with random senders; {:.2} small messages \
             per member and message; at most {} hops, {:.2} s to the last; {} messages incomplete",
            shown.redundancy.0,
            shown.redundancy.1,
            shown.control,
            shown.hops,
            shown.seconds,
            shown.incomplete
        );
        for (round, (soon, finally)) in shown.repair.iter().enumerate() {
            println!(
                "  half crash; sent {round} rounds later: {:7.3} % of survivors one round later, {:7.3} % in the end",
                soon * 100.0,
                finally * 100.0
            );
        }
        match shown.first_complete {
            Some(seconds) => println!("  the message sent at the crash was everywhere after {seconds:.2} s"),
            None => println!("  the message sent at the crash did not reach all"),
        }
        println!("  survivors without a neighbour: {}", shown.isolated);
    }
}

/// Runs one seed.
#[must_use]
pub fn measure(members: usize, seed: u64) -> Shown {
    let round = u64::try_from(ROUND.as_micros()).unwrap_or(u64::MAX);
    let mut net = Net::new(members, seed);
    let mut shown = Shown::default();
    net.run(30 * round);
    for _ in 0..WARM_UP {
        net.publish_from(0);
        net.run(5 * round);
    }
    shown.redundancy.0 = redundancy(&mut net, &mut shown, |net| net.publish_from(0));
    for _ in 0..WARM_UP {
        net.publish();
        net.run(5 * round);
    }
    shown.redundancy.1 = redundancy(&mut net, &mut shown, Net::publish);
    net.crash_half();
    let crashed = net.now();
    let others = net.running() - 1;
    let mut sent = Vec::new();
    for _ in 0..WATCHED {
        let id = net.publish();
        net.run(round);
        sent.push((id, share(reached(&net, id), others)));
    }
    net.run(15 * round);
    shown.repair = sent.iter().map(|(id, soon)| (*soon, share(reached(&net, *id), others))).collect();
    if let Some(reach) = sent.first().and_then(|(id, _)| net.reach.get(id))
        && reach.members == others
    {
        shown.first_complete = Some(seconds(reach.last - crashed));
    }
    shown.isolated = net.isolated();
    shown
}

fn redundancy(net: &mut Net, shown: &mut Shown, mut publish: impl FnMut(&mut Net) -> MessageId) -> f64 {
    let round = u64::try_from(ROUND.as_micros()).unwrap_or(u64::MAX);
    let (before, others) = (net.traffic, net.running() - 1);
    for _ in 0..MEASURED {
        let id = publish(net);
        net.run(5 * round);
        let reach = net.reach.get(&id).copied().unwrap_or_default();
        shown.incomplete += usize::from(reach.members < others);
        shown.hops = shown.hops.max(reach.hops);
        shown.seconds = shown.seconds.max(seconds(reach.last - reach.sent));
    }
    let all = f64::from(MEASURED) * float(others as u64);
    shown.control = float(net.traffic.control - before.control) / all;
    float(net.traffic.pushes - before.pushes) / all - 1.0
}

fn reached(net: &Net, id: MessageId) -> usize {
    net.reach.get(&id).map_or(0, |reach| reach.members)
}

fn share(part: usize, whole: usize) -> f64 {
    float(part as u64) / float(whole as u64)
}

fn seconds(micros: u64) -> f64 {
    float(micros / 1_000) / 1_000.0
}

fn float(count: u64) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redundancy_is_low_and_half_of_all_gone_is_repaired() {
        let shown = measure(300, 3);
        assert_eq!(shown.incomplete, 0, "{shown:?}");
        assert!(shown.redundancy.0 <= 0.1 && shown.redundancy.1 <= 0.1, "{shown:?}");
        let whole = |round: usize| shown.repair.get(round).is_some_and(|(_, finally)| *finally >= 1.0);
        assert!(whole(3), "{shown:?}");
    }
}
