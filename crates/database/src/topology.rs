//! The seam through which the database learns who is there, and CLUSTER's
//! replies about it. Pure.
//!
//! Any node takes any command, so that these replies are hints: they let a
//! cluster-aware client skip a hop.

use std::fmt::Write as _;
use std::net::SocketAddr;

use trine_types::{NodeId, NodeNumber};

use crate::resp::Value;
use crate::slots::{Partitions, SLOTS};

/// Offset of the port that Redis nodes use among themselves. Trine's nodes
/// use none, but the text form of CLUSTER NODES has a place for it.
const BUS_PORT_OFFSET: u16 = 10_000;

/// Where the database asks for the topology.
pub trait Topology: Send + Sync + 'static {
    /// The topology as this node knows it now.
    fn snapshot(&self) -> View;
}

/// The topology at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct View {
    /// This node.
    pub me: NodeNumber,
    /// Grows with each change of nodes or placement.
    pub epoch: u64,
    /// All nodes.
    pub nodes: Vec<Node>,
    /// The partitions, by number.
    pub partitions: Vec<Partition>,
}

/// One node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Its number.
    pub number: NodeNumber,
    /// Its key.
    pub id: NodeId,
    /// Its name, if people gave it one.
    pub name: String,
    /// Where it takes commands, if it does.
    pub redis: Option<SocketAddr>,
    /// Whether this node can reach it now.
    pub connected: bool,
}

/// One partition.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Partition {
    /// Who leads it, as far as this node knows.
    pub leader: Option<NodeNumber>,
    /// Who has a replica of it.
    pub replicas: Vec<NodeNumber>,
}

/// A run of slots with the same nodes, leader first.
struct Range<'a> {
    first: u16,
    last: u16,
    nodes: Vec<&'a Node>,
}

impl View {
    fn node(&self, number: NodeNumber) -> Option<&Node> {
        self.nodes.iter().find(|node| node.number == number)
    }

    fn reachable(&self, number: NodeNumber) -> Option<&Node> {
        self.node(number).filter(|node| node.redis.is_some())
    }

    /// Leader first, then the other replicas. Without a known leader the
    /// first replica stands in: it takes the command as any node does.
    fn serving(&self, partition: &Partition) -> Vec<&Node> {
        let leader = partition.leader.and_then(|leader| self.reachable(leader));
        let others = partition.replicas.iter().filter(|replica| Some(**replica) != partition.leader);
        leader.into_iter().chain(others.filter_map(|replica| self.reachable(*replica))).collect()
    }

    fn ranges(&self) -> Vec<Range<'_>> {
        let count = u16::try_from(self.partitions.len()).unwrap_or(SLOTS);
        let partitions = Partitions::new(count);
        let mut ranges: Vec<Range<'_>> = Vec::new();
        for (number, partition) in partitions.all().zip(&self.partitions) {
            let (first, last) = partitions.slots(number);
            let nodes = self.serving(partition);
            match ranges.last_mut() {
                Some(range) if range.nodes == nodes => range.last = last,
                _ => ranges.push(Range { first, last, nodes }),
            }
        }
        ranges.retain(|range| !range.nodes.is_empty());
        ranges
    }

    /// CLUSTER SLOTS
    pub fn slots(&self) -> Value {
        let one = |range: &Range<'_>| {
            let mut items = vec![Value::Integer(range.first.into()), Value::Integer(range.last.into())];
            items.extend(range.nodes.iter().map(|node| slots_node(node)));
            Value::Array(items)
        };
        Value::Array(self.ranges().iter().map(one).collect())
    }

    /// CLUSTER SHARDS: one shard per leader, since slots go with leaders.
    pub fn shards(&self) -> Value {
        let ranges = self.ranges();
        let mut shards = Vec::new();
        for leader in &self.nodes {
            let led: Vec<_> = ranges.iter().filter(|range| range.nodes[0].number == leader.number).collect();
            if led.is_empty() {
                continue;
            }
            let slots = led.iter().flat_map(|range| [range.first, range.last]);
            let mut nodes = vec![shard_node(leader, "master")];
            let follows = |node: &&Node| {
                node.number != leader.number && led.iter().any(|range| range.nodes.contains(node))
            };
            nodes.extend(self.nodes.iter().filter(follows).map(|node| shard_node(node, "replica")));
            shards.push(Value::Map(vec![
                (Value::text("slots"), Value::Array(slots.map(|slot| Value::Integer(slot.into())).collect())),
                (Value::text("nodes"), Value::Array(nodes)),
            ]));
        }
        Value::Array(shards)
    }

    /// CLUSTER NODES: every node is a master with the slots that it leads.
    pub fn nodes_text(&self) -> String {
        let ranges = self.ranges();
        let mut text = String::new();
        for node in &self.nodes {
            let Some(address) = node.redis else { continue };
            let myself = if node.number == self.me { "myself," } else { "" };
            let link = if node.connected || node.number == self.me { "connected" } else { "disconnected" };
            let bus = address.port().saturating_add(BUS_PORT_OFFSET);
            let _ = write!(
                text,
                "{} {}:{}@{bus} {myself}master - 0 0 {} {link}",
                hex_id(&node.id),
                address.ip(),
                address.port(),
                self.epoch
            );
            for range in ranges.iter().filter(|range| range.nodes[0].number == node.number) {
                let _ = if range.first == range.last {
                    write!(text, " {}", range.first)
                } else {
                    write!(text, " {}-{}", range.first, range.last)
                };
            }
            text.push('\n');
        }
        text
    }

    /// CLUSTER INFO
    pub fn info_text(&self) -> String {
        let served: u32 = self.ranges().iter().map(|range| u32::from(range.last - range.first) + 1).sum();
        let led = self.partitions.iter().all(|partition| partition.leader.is_some());
        let state = if led && served == u32::from(SLOTS) { "ok" } else { "fail" };
        let leaders = self
            .nodes
            .iter()
            .filter(|node| self.partitions.iter().any(|partition| partition.leader == Some(node.number)));
        format!(
            "cluster_enabled:1\r\ncluster_state:{state}\r\ncluster_slots_assigned:{served}\r\n\
             cluster_slots_ok:{served}\r\ncluster_slots_pfail:0\r\ncluster_slots_fail:0\r\n\
             cluster_known_nodes:{}\r\ncluster_size:{}\r\ncluster_current_epoch:{}\r\ncluster_my_epoch:{}\r\n\
             cluster_stats_messages_sent:0\r\ncluster_stats_messages_received:0\r\n",
            self.nodes.len(),
            leaders.count(),
            self.epoch,
            self.epoch,
        )
    }

    /// CLUSTER MYID
    pub fn my_id(&self) -> String {
        self.node(self.me).map_or_else(|| "0".repeat(40), |node| hex_id(&node.id))
    }

    /// Where this node takes commands.
    pub fn my_address(&self) -> Option<SocketAddr> {
        self.node(self.me).and_then(|node| node.redis)
    }

    /// Nodes beside the leader that have every acknowledged write on disk.
    pub fn majority_beside_leader(&self) -> usize {
        self.partitions.iter().map(|partition| partition.replicas.len() / 2).min().unwrap_or(0)
    }
}

/// A node id in the 40 hexadecimal digits that Redis's clients expect.
fn hex_id(id: &NodeId) -> String {
    id.0.iter().take(20).fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn slots_node(node: &Node) -> Value {
    let (ip, port) =
        node.redis.map_or((String::new(), 0), |address| (address.ip().to_string(), address.port()));
    Value::Array(vec![
        Value::bulk(ip),
        Value::Integer(port.into()),
        Value::bulk(hex_id(&node.id)),
        Value::Array(Vec::new()),
    ])
}

fn shard_node(node: &Node, role: &'static str) -> Value {
    let (ip, port) =
        node.redis.map_or((String::new(), 0), |address| (address.ip().to_string(), address.port()));
    let health = if node.connected { "online" } else { "fail" };
    Value::Map(vec![
        (Value::text("id"), Value::bulk(hex_id(&node.id))),
        (Value::text("port"), Value::Integer(port.into())),
        (Value::text("ip"), Value::bulk(ip.clone())),
        (Value::text("endpoint"), Value::bulk(ip)),
        (Value::text("role"), Value::text(role)),
        (Value::text("replication-offset"), Value::Integer(0)),
        (Value::text("health"), Value::text(health)),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::stories::shown;

    fn view() -> View {
        let node = |number: u8| Node {
            number: NodeNumber(number.into()),
            id: NodeId([number; 32]),
            name: format!("n{number}"),
            redis: Some(SocketAddr::from(([127, 0, 0, 1], 6369 + 10 * u16::from(number)))),
            connected: true,
        };
        let partition = |leader: u64| Partition {
            leader: Some(NodeNumber(leader)),
            replicas: [1, 2].map(NodeNumber).to_vec(),
        };
        View {
            me: NodeNumber(1),
            epoch: 7,
            nodes: vec![node(1), node(2)],
            partitions: vec![partition(1), partition(1), partition(2), partition(1)],
        }
    }

    #[test]
    fn neighbours_with_the_same_nodes_are_one_range() {
        let text = shown(&view().slots());
        assert!(text.starts_with("[[:0, :8191, [127.0.0.1, :6379, 0101"), "{text}");
        assert!(text.contains("[:8192, :12287, [127.0.0.1, :6389, 0202"), "{text}");
        assert!(text.contains("[:12288, :16383, [127.0.0.1, :6379, 0101"), "{text}");
    }

    #[test]
    fn nodes_are_listed_with_the_slots_that_they_lead() {
        let text = view().nodes_text();
        let lines: Vec<_> = text.lines().collect();
        assert!(
            lines[0].ends_with("127.0.0.1:6379@16379 myself,master - 0 0 7 connected 0-8191 12288-16383")
        );
        assert!(lines[1].ends_with("127.0.0.1:6389@16389 master - 0 0 7 connected 8192-12287"));
    }

    #[test]
    fn without_a_leader_a_replica_stands_in_and_the_state_says_fail() {
        let mut view = view();
        view.partitions[2].leader = None;
        assert!(shown(&view.slots()).starts_with("[[:0, :16383, "), "{}", shown(&view.slots()));
        assert!(view.info_text().contains("cluster_state:fail"));
        assert!(view.info_text().contains("cluster_slots_assigned:16384"));
        assert!(self::view().info_text().contains("cluster_state:ok"));
    }

    #[test]
    fn a_shard_is_what_one_node_leads() {
        let Value::Array(shards) = view().shards() else { panic!("an array") };
        assert_eq!(shards.len(), 2);
        assert_eq!(view().majority_beside_leader(), 1);
        assert_eq!(view().my_id(), "01".repeat(20));
    }
}
