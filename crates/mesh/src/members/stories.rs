//! Stories: a handful of members on a perfect or broken network, told in a few
//! lines each. The simulator (`sim members`) does the same with thousands.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use proptest::prelude::*;
use trine_types::NodeNumber;

use super::life::{Belief, Life, State};
use super::machine::{Change, Effect, Event, Members, Myself};
use super::message::{Kind, Message, Update};
use super::roster::Roster;
use super::timing::Timing;

/// One way through the network.
const HOP: Duration = Duration::from_millis(1);
/// The grain of time of these stories.
const STEP: Duration = Duration::from_millis(1);

struct World {
    now: Duration,
    members: BTreeMap<NodeNumber, Members>,
    under_way: Vec<(Duration, NodeNumber, NodeNumber, Message)>,
    cut: BTreeSet<(NodeNumber, NodeNumber)>,
    /// Whether what is sent over a cut path arrives once it is whole again, as
    /// over TCP, and what waits for that.
    holds: bool,
    held: Vec<(NodeNumber, NodeNumber, Message)>,
    asleep: BTreeSet<NodeNumber>,
    events: Vec<(NodeNumber, Event)>,
}

fn n(number: u64) -> NodeNumber {
    NodeNumber(number)
}

fn member(now: Duration, number: NodeNumber, start: u64, of: u64) -> Members {
    let me = Myself {
        number,
        life: Life { start, refuted: 0 },
        load: 7,
        profile: format!("profile of {number}").into_bytes(),
    };
    let size = usize::try_from(of).unwrap_or(usize::MAX);
    Members::new(now, me, Roster::new((1..=of).map(n)), Timing::of(size), number.0 * 31 + start)
}

impl World {
    fn of(count: u64) -> Self {
        let members = (1..=count).map(|i| (n(i), member(Duration::ZERO, n(i), 1, count))).collect();
        Self {
            now: Duration::ZERO,
            members,
            under_way: Vec::new(),
            cut: BTreeSet::new(),
            holds: false,
            held: Vec::new(),
            asleep: BTreeSet::new(),
            events: Vec::new(),
        }
    }

    fn run(&mut self, millis: u64) {
        let end = self.now + Duration::from_millis(millis);
        while self.now < end {
            self.now += STEP;
            let now = self.now;
            for (number, member) in &mut self.members {
                if !self.asleep.contains(number) && member.wake_at().is_some_and(|at| at <= now) {
                    member.tick(now);
                }
            }
            let asleep = self.asleep.clone();
            let due = |at: &Duration, to: &NodeNumber| *at <= now && !asleep.contains(to);
            let (arrived, later): (Vec<_>, Vec<_>) =
                self.under_way.drain(..).partition(|(at, _, to, _)| due(at, to));
            self.under_way = later;
            for (_, from, to, message) in arrived {
                if let Some(member) = self.members.get_mut(&to) {
                    member.receive(now, from, message);
                }
            }
            self.collect();
        }
    }

    fn collect(&mut self) {
        for (number, member) in &mut self.members {
            for effect in member.effects() {
                match effect {
                    Effect::Tell(event) => self.events.push((*number, event)),
                    Effect::Send { to, message } => {
                        if !self.cut.contains(&(*number, to)) {
                            self.under_way.push((self.now + HOP, *number, to, message));
                        } else if self.holds {
                            self.held.push((*number, to, message));
                        }
                    }
                }
            }
        }
    }

    fn crash(&mut self, number: u64) {
        self.members.remove(&n(number));
    }

    fn cut_off(&mut self, number: u64) {
        for other in self.members.keys() {
            self.cut.insert((n(number), *other));
            self.cut.insert((*other, n(number)));
        }
    }

    fn heal(&mut self) {
        self.cut.clear();
        let at = self.now + HOP;
        self.under_way.extend(self.held.drain(..).map(|(from, to, message)| (at, from, to, message)));
    }

    /// What everybody else believes of a member, if they agree.
    fn all_believe(&self, number: u64) -> Option<State> {
        let others = self.members.iter().filter(|(other, _)| **other != n(number));
        let states: BTreeSet<State> = others.map(|(_, member)| member.belief(n(number)).state).collect();
        states.first().copied().filter(|_| states.len() == 1)
    }

    fn count(&self, change: Change) -> usize {
        self.events.iter().filter(|(_, event)| event.change == change).count()
    }
}

#[test]
fn members_meet_and_nobody_is_doubted() {
    let mut world = World::of(5);
    world.run(20_000);
    assert_eq!(world.count(Change::Join), 20, "each heard of each other");
    assert_eq!(world.events.len(), 20);
    for member in world.members.values() {
        for other in member.roster().iter().filter(|other| *other != member.me().number) {
            let measured = member.measured().of(other).expect("probed in 20 s");
            assert_eq!(measured.round_trip, Some(2 * HOP));
            assert_eq!(measured.load, Some(7));
            assert_eq!(measured.profile, Some(format!("profile of {other}").into_bytes()));
        }
    }
}

#[test]
fn a_crash_is_known_to_all_in_time() {
    for count in [2, 3, 5, 20] {
        let mut world = World::of(count);
        world.run(5_000);
        world.crash(2);
        world.run(1_500);
        assert_eq!(world.all_believe(2), Some(State::Failed), "{count} members");
        assert_eq!(world.count(Change::Fail), usize::try_from(count).expect("small") - 1);
    }
}

#[test]
fn a_broken_link_makes_it_faster() {
    let mut world = World::of(3);
    world.run(5_000);
    world.crash(2);
    let now = world.now;
    world.members.values_mut().for_each(|member| member.doubt(now, n(2)));
    world.run(650);
    assert_eq!(world.all_believe(2), Some(State::Failed));
}

#[test]
fn a_member_that_slept_is_forgiven_and_forgives() {
    let mut world = World::of(4);
    world.run(5_000);
    world.asleep.insert(n(3));
    world.run(4_000);
    assert_eq!(world.all_believe(3), Some(State::Failed));
    world.asleep.clear();
    world.run(2_000);
    assert_eq!(world.all_believe(3), Some(State::Alive), "it contradicted");
    let accused: Vec<NodeNumber> = world
        .events
        .iter()
        .filter(|(at, event)| *at == n(3) && event.change == Change::Fail)
        .map(|(_, event)| event.member)
        .collect();
    assert_eq!(accused, [], "the sleeper believed nothing bad of the others");
}

#[test]
fn a_cut_off_member_is_failed_and_returns_after_healing() {
    let mut world = World::of(5);
    world.run(5_000);
    world.cut_off(4);
    world.run(10_000);
    assert_eq!(world.all_believe(4), Some(State::Failed));
    assert!(world.members[&n(4)].belief(n(1)).state.is_present(), "it doubts itself first");
    world.run(60_000);
    assert_eq!(world.members[&n(4)].belief(n(1)).state, State::Failed, "but not for ever");
    world.cut.clear();
    world.run(10_000);
    for number in 1..=5 {
        assert_eq!(world.all_believe(number), Some(State::Alive), "{number}");
    }
}

#[test]
fn answers_that_a_cut_path_held_back_make_nobody_slow() {
    let mut world = World::of(3);
    world.holds = true;
    world.run(10_000);
    for length in [700, 2_700, 3_000, 6_000, 15_000, 2_700] {
        world.cut_off(3);
        world.run(length.min(2_500));
        if length > 2_500 {
            assert_eq!(world.all_believe(3), Some(State::Failed), "{length}");
            world.run(length - 2_500);
        }
        world.heal();
        world.run(3_000);
        assert_eq!(world.all_believe(3), Some(State::Alive), "{length}");
    }
}

#[test]
fn one_broken_path_is_no_failure() {
    let mut world = World::of(5);
    world.run(5_000);
    world.cut.extend([(n(1), n(2)), (n(2), n(1))]);
    world.run(30_000);
    assert_eq!(world.count(Change::Fail), 0, "the others reach both");
}

#[test]
fn goodbye_is_no_failure_and_a_restart_joins() {
    let mut world = World::of(3);
    world.run(5_000);
    let now = world.now;
    world.members.get_mut(&n(3)).expect("runs").leave(now);
    world.collect();
    world.crash(3);
    world.run(20);
    assert_eq!(world.all_believe(3), Some(State::Left));
    world.run(5_000);
    assert_eq!(world.count(Change::Fail) + world.count(Change::Suspect), 0);
    world.members.insert(n(3), member(world.now, n(3), 2, 3));
    world.events.clear();
    world.run(1_000);
    assert_eq!(world.all_believe(3), Some(State::Alive));
    assert_eq!(world.count(Change::Join), 4, "two see it again, it sees two");
}

#[test]
fn a_removed_member_is_forgotten_and_not_listened_to() {
    let mut world = World::of(3);
    world.run(2_000);
    for number in [1, 2] {
        let member = world.members.get_mut(&n(number)).expect("runs");
        member.set_roster(Roster::new([n(1), n(2)]), Timing::of(2));
    }
    world.events.clear();
    world.run(5_000);
    let about_it = world.events.iter().filter(|(at, event)| at.0 != 3 && event.member == n(3)).count();
    assert_eq!(about_it, 0);
    assert_eq!(world.members[&n(1)].heard(n(3)), None);
}

#[test]
fn a_member_alone_does_nothing() {
    let alone = member(Duration::ZERO, n(1), 1, 1);
    assert_eq!(alone.wake_at(), None);
}

#[derive(Clone, Debug)]
enum Step {
    Tick(u64),
    Hear(u64, Update),
    Doubt(u64),
}

fn belief() -> impl Strategy<Value = Belief> {
    let states = vec![State::Alive, State::Suspect, State::Failed, State::Left];
    (0..3_u64, 0..3_u32, prop::sample::select(states))
        .prop_map(|(start, refuted, state)| Belief { life: Life { start, refuted }, state })
}

fn step() -> impl Strategy<Value = Step> {
    let update = (0..7_u64, belief(), prop::collection::vec((0..9_u64).prop_map(n), 0..5))
        .prop_map(|(member, belief, by)| Update { member: n(member), belief, by });
    prop_oneof![
        (0..900_u64).prop_map(Step::Tick),
        (0..7_u64, update).prop_map(|(from, update)| Step::Hear(from, update)),
        (0..7_u64).prop_map(Step::Doubt),
    ]
}

proptest! {
    /// Whatever arrives: beliefs only grow, this member never gives itself up,
    /// and every timer lies ahead once it was handled.
    #[test]
    fn beliefs_only_grow(steps in prop::collection::vec(step(), 0..60)) {
        let mut now = Duration::ZERO;
        let mut machine = member(now, n(1), 1, 5);
        let mut before: BTreeMap<NodeNumber, Belief> = BTreeMap::new();
        for step in steps {
            match step {
                Step::Tick(millis) => {
                    now += Duration::from_millis(millis);
                    machine.tick(now);
                    prop_assert!(machine.wake_at().is_some_and(|at| at > now));
                }
                Step::Hear(from, update) => {
                    let life = Life { start: 1, refuted: 0 };
                    let message = Message { life, load: 0, kind: Kind::Gossip, updates: vec![update] };
                    machine.receive(now, n(from), message);
                }
                Step::Doubt(member) => machine.doubt(now, n(member)),
            }
            machine.effects();
            for number in 2..=5 {
                let belief = machine.belief(n(number));
                let old = before.insert(n(number), belief).unwrap_or_default();
                prop_assert!(belief >= old, "{:?} after {:?}", belief, old);
            }
            prop_assert_eq!(machine.heard(n(1)), None);
            prop_assert_eq!(machine.me().life.start, 1);
        }
    }

    /// The order in which beliefs arrive, and how often, changes nothing.
    #[test]
    fn members_that_heard_the_same_believe_the_same(
        beliefs in prop::collection::vec(belief(), 1..8), seed in any::<u64>(),
    ) {
        let mut shuffled = beliefs.clone();
        let mut chance = super::roster::Chance::new(seed);
        for i in (1..shuffled.len()).rev() {
            shuffled.swap(i, chance.below(i + 1));
        }
        shuffled.push(beliefs[0]);
        let end = |beliefs: Vec<Belief>| {
            let mut machine = member(Duration::ZERO, n(1), 1, 3);
            for belief in beliefs {
                let update = Update { member: n(2), belief, by: vec![n(3)] };
                let life = Life { start: 1, refuted: 0 };
                let message = Message { life, load: 0, kind: Kind::Gossip, updates: vec![update] };
                machine.receive(Duration::ZERO, n(3), message);
            }
            machine.belief(n(2))
        };
        prop_assert_eq!(end(beliefs), end(shuffled));
    }
}
