//! The fault plan: which faults strike when, drawn from the seed before the
//! run. Each seed allows a random part of the kinds only (swarm testing: a
//! fault that is always there hides what happens in its absence).

use trine_types::NodeNumber;

use crate::random::Rng;

/// Which frames a partition stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// Both ways.
    Both,
    /// Frames that come from the cut-off side.
    Out,
    /// Frames that go to the cut-off side.
    In,
}

/// One fault. Nodes are positions in the list of the scenario's nodes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// The process and its machine die: unsynced data is lost, the last write
    /// may be torn; it starts again after a while.
    Crash {
        /// Which node.
        node: NodeNumber,
        /// For how long, in milliseconds.
        down_ms: u64,
    },
    /// Whoever leads most groups at that moment crashes, and may be back before
    /// the others have elected another.
    Behead {
        /// For how long, in milliseconds.
        down_ms: u64,
    },
    /// All nodes lose power at once.
    CrashAll {
        /// For how long, in milliseconds.
        down_ms: u64,
    },
    /// The next sync fails: the node must stop by itself.
    FailSync {
        /// Which node.
        node: NodeNumber,
    },
    /// The disk is full for a while.
    FillDisk {
        /// Which node.
        node: NodeNumber,
        /// For how long, in milliseconds.
        ms: u64,
    },
    /// The process stands still (SIGSTOP), then its clock jumps forward.
    Pause {
        /// Which node.
        node: NodeNumber,
        /// For how long, in milliseconds.
        ms: u64,
    },
    /// Some nodes are cut off from the others.
    Partition {
        /// The cut-off side.
        side: Vec<NodeNumber>,
        /// Which frames are stopped.
        direction: Direction,
        /// For how long, in milliseconds.
        ms: u64,
    },
    /// All connections between two nodes break.
    Break {
        /// One end.
        a: NodeNumber,
        /// The other end.
        b: NodeNumber,
    },
    /// Frames between two nodes take longer.
    SlowLink {
        /// One end.
        a: NodeNumber,
        /// The other end.
        b: NodeNumber,
        /// How much longer, in milliseconds.
        delay_ms: u64,
        /// For how long, in milliseconds.
        ms: u64,
    },
    /// The wall clock of whoever leads most groups at that moment is ahead for
    /// a while, by less than what costs it the lead, then right again.
    ClockJump {
        /// By how much, in milliseconds.
        by_ms: i64,
        /// For how long, in milliseconds.
        ms: u64,
    },
    /// The wall clock is off by this much from now on.
    Skew {
        /// Which node.
        node: NodeNumber,
        /// Ahead of the world's time, in milliseconds.
        by_ms: i64,
    },
}

/// A fault and its time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Strike {
    /// World time, in milliseconds.
    pub at_ms: u64,
    /// What happens.
    pub fault: Fault,
}

/// Where and when faults may strike.
#[derive(Debug, Clone)]
pub struct PlanShape {
    /// The nodes.
    pub nodes: Vec<NodeNumber>,
    /// First and last moment, in milliseconds.
    pub window_ms: (u64, u64),
    /// Mean pause between faults, in milliseconds.
    pub pause_ms: u64,
}

/// The kinds that a seed allows, as draw functions.
type Draw = fn(&PlanShape, &mut Rng) -> Option<Fault>;

const KINDS: [Draw; 11] = [
    crash, behead, crash_all, fail_sync, fill_disk, pause, partition, break_link, slow_link, skew, clock_jump,
];

/// The faults of `seed`, in order of time.
#[must_use]
pub fn draw(seed: u64, shape: &PlanShape) -> Vec<Strike> {
    let mut rng = Rng::new(seed, "plan");
    let mut allowed = rng.some_of(&KINDS, 50);
    if allowed.is_empty() {
        allowed.push(crash);
    }
    let mut strikes = Vec::new();
    let mut at_ms = shape.window_ms.0;
    loop {
        at_ms += rng.between(1, shape.pause_ms * 2);
        if at_ms >= shape.window_ms.1 {
            return strikes;
        }
        let fault = rng.pick(&allowed).copied().and_then(|kind| kind(shape, &mut rng));
        strikes.extend(fault.map(|fault| Strike { at_ms, fault }));
    }
}

fn node(shape: &PlanShape, rng: &mut Rng) -> Option<NodeNumber> {
    rng.pick(&shape.nodes).copied()
}

fn pair(shape: &PlanShape, rng: &mut Rng) -> Option<(NodeNumber, NodeNumber)> {
    let a = node(shape, rng)?;
    let others: Vec<_> = shape.nodes.iter().copied().filter(|n| *n != a).collect();
    Some((a, rng.pick(&others).copied()?))
}

fn crash(shape: &PlanShape, rng: &mut Rng) -> Option<Fault> {
    let down_ms = if rng.percent(60) { rng.between(1, 300) } else { rng.between(300, 3_000) };
    Some(Fault::Crash { node: node(shape, rng)?, down_ms })
}

#[allow(clippy::unnecessary_wraps)] // the shape that all draws have
fn behead(_shape: &PlanShape, rng: &mut Rng) -> Option<Fault> {
    Some(Fault::Behead { down_ms: rng.between(1, 300) })
}

fn crash_all(shape: &PlanShape, rng: &mut Rng) -> Option<Fault> {
    // Rare even where allowed: it heals everything else by its nature.
    if rng.percent(70) {
        return crash(shape, rng);
    }
    Some(Fault::CrashAll { down_ms: rng.between(1, 200) })
}

fn fail_sync(shape: &PlanShape, rng: &mut Rng) -> Option<Fault> {
    Some(Fault::FailSync { node: node(shape, rng)? })
}

fn fill_disk(shape: &PlanShape, rng: &mut Rng) -> Option<Fault> {
    Some(Fault::FillDisk { node: node(shape, rng)?, ms: rng.between(100, 1_500) })
}

fn pause(shape: &PlanShape, rng: &mut Rng) -> Option<Fault> {
    Some(Fault::Pause { node: node(shape, rng)?, ms: rng.between(20, 2_000) })
}

fn partition(shape: &PlanShape, rng: &mut Rng) -> Option<Fault> {
    let mut side = rng.some_of(&shape.nodes, 40);
    if side.is_empty() || side.len() == shape.nodes.len() {
        side = vec![node(shape, rng)?];
    }
    let direction = match rng.below(4) {
        0 => Direction::Out,
        1 => Direction::In,
        _ => Direction::Both,
    };
    Some(Fault::Partition { side, direction, ms: rng.between(50, 2_500) })
}

fn break_link(shape: &PlanShape, rng: &mut Rng) -> Option<Fault> {
    let (a, b) = pair(shape, rng)?;
    Some(Fault::Break { a, b })
}

fn slow_link(shape: &PlanShape, rng: &mut Rng) -> Option<Fault> {
    let (a, b) = pair(shape, rng)?;
    Some(Fault::SlowLink { a, b, delay_ms: rng.between(5, 300), ms: rng.between(100, 2_000) })
}

fn clock_jump(_shape: &PlanShape, rng: &mut Rng) -> Option<Fault> {
    let by_ms = i64::try_from(rng.between(200, 450)).ok()?;
    Some(Fault::ClockJump { by_ms, ms: rng.between(20, 80) })
}

fn skew(shape: &PlanShape, rng: &mut Rng) -> Option<Fault> {
    let reach = if rng.percent(80) { 400 } else { 5_000 };
    let by_ms = i64::try_from(rng.below(2 * reach + 1)).ok()? - i64::try_from(reach).ok()?;
    Some(Fault::Skew { node: node(shape, rng)?, by_ms })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape() -> PlanShape {
        let nodes = (1..=3).map(NodeNumber).collect();
        PlanShape { nodes, window_ms: (1_000, 9_000), pause_ms: 400 }
    }

    #[test]
    fn a_seed_has_one_plan() {
        assert_eq!(draw(5, &shape()), draw(5, &shape()));
        assert_ne!(draw(5, &shape()), draw(6, &shape()));
    }

    #[test]
    fn faults_stay_in_their_window_and_all_kinds_occur() {
        let mut kinds = std::collections::BTreeSet::new();
        for seed in 0..200 {
            for strike in draw(seed, &shape()) {
                assert!((1_000..9_000).contains(&strike.at_ms));
                kinds.insert(format!("{:?}", strike.fault).split(' ').next().map(str::to_owned));
            }
        }
        assert_eq!(kinds.len(), KINDS.len(), "{kinds:?}");
    }
}
