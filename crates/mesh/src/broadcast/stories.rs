//! Stories of a few dozen members; the simulator does the same with ten
//! thousand.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use trine_types::NodeNumber;

use super::machine::{Broadcast, Effect, ROUND};
use super::message::{Message, MessageId};

const STEP: Duration = Duration::from_millis(10);

struct World {
    now: Duration,
    members: BTreeMap<NodeNumber, Broadcast>,
    under_way: Vec<(NodeNumber, NodeNumber, Message)>,
    delivered: BTreeMap<MessageId, BTreeSet<NodeNumber>>,
    pushes: usize,
}

impl World {
    /// Members that joined one after the other, through the first.
    fn of(count: u64) -> Self {
        let mut world = Self {
            now: Duration::ZERO,
            members: BTreeMap::new(),
            under_way: Vec::new(),
            delivered: BTreeMap::new(),
            pushes: 0,
        };
        for number in (1..=count).map(NodeNumber) {
            let mut member = Broadcast::new(world.now, number, number.0);
            if number.0 > 1 {
                member.join(world.now, NodeNumber(1 + number.0 % (number.0 - 1)));
            }
            world.members.insert(number, member);
            world.run(STEP * 4);
        }
        world.run(ROUND * 20);
        world
    }

    fn run(&mut self, length: Duration) {
        let end = self.now + length;
        while self.now < end {
            self.now += STEP;
            let now = self.now;
            for (from, to, message) in std::mem::take(&mut self.under_way) {
                match self.members.get_mut(&to) {
                    Some(member) => member.receive(now, from, message),
                    None => {
                        if let Some(sender) = self.members.get_mut(&from) {
                            sender.unreachable(now, to);
                        }
                    }
                }
            }
            for (number, member) in &mut self.members {
                if member.wake_at() <= now {
                    member.tick(now);
                }
                for effect in member.effects() {
                    match effect {
                        Effect::Send { to, message } => {
                            self.pushes += usize::from(matches!(message, Message::Push { .. }));
                            self.under_way.push((*number, to, message));
                        }
                        Effect::Deliver { id, .. } => {
                            assert!(self.delivered.entry(id).or_default().insert(*number), "once each");
                        }
                    }
                }
            }
        }
    }

    fn publish(&mut self, from: u64) -> MessageId {
        let now = self.now;
        let member = self.members.get_mut(&NodeNumber(from)).expect("runs");
        member.publish(now, &Bytes::from_static(b"news"))
    }

    fn reached(&self, id: MessageId) -> usize {
        self.delivered.get(&id).map_or(0, BTreeSet::len)
    }
}

#[test]
fn everybody_gets_a_message_once_and_later_ones_along_a_tree() {
    let mut world = World::of(40);
    for from in 1..=10 {
        let id = world.publish(from);
        world.run(ROUND * 3);
        assert_eq!(world.reached(id), 39);
    }
    world.pushes = 0;
    for _ in 0..5 {
        let id = world.publish(3);
        world.run(ROUND * 3);
        assert_eq!(world.reached(id), 39);
    }
    assert!(world.pushes <= 5 * 39 * 11 / 10, "{} pushes", world.pushes);
}

#[test]
fn half_of_all_gone_is_repaired_in_three_rounds() {
    let mut world = World::of(60);
    for from in 1..=5 {
        world.publish(from);
        world.run(ROUND * 2);
    }
    world.members.retain(|number, _| number.0 % 2 == 1);
    world.run(ROUND * 3);
    let id = world.publish(1);
    world.run(ROUND * 3);
    assert_eq!(world.reached(id), 29);
}

#[test]
fn views_are_symmetric_at_rest() {
    let world = World::of(50);
    for (number, member) in &world.members {
        for neighbour in member.views().active() {
            assert!(world.members[neighbour].views().active().contains(number), "{number} {neighbour}");
        }
        assert!(!member.views().active().is_empty());
    }
}
