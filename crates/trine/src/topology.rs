//! What the database shows to cluster-aware clients: `meta`'s nodes and
//! placement, with the leaders that this node's replicas know of.

use trine_cluster::Cluster;
use trine_database::topology::{Node, Partition, Topology, View};
use trine_replication::Replication;
use trine_types::GroupId;

/// Name of the Redis door in `meta`.
pub const REDIS_DOOR: &str = "redis";

/// See the module.
pub struct NodeTopology {
    cluster: Cluster,
    replication: Replication,
}

impl NodeTopology {
    /// The topology as `cluster` and `replication` know it.
    pub fn new(cluster: Cluster, replication: Replication) -> Self {
        Self { cluster, replication }
    }
}

impl Topology for NodeTopology {
    fn snapshot(&self) -> View {
        let meta = self.cluster.meta().borrow().clone();
        let me = self.cluster.number();
        let suspects = self.replication.suspects().borrow().clone();
        let node = |row: &trine_cluster::nodes::NodeRow| Node {
            number: row.number,
            id: row.id,
            name: row.name.clone(),
            redis: row.clients.get(REDIS_DOOR).copied(),
            connected: row.number == me || !suspects.contains(&row.number),
        };
        let partition = |partition: u16| {
            let group = GroupId::partition(partition);
            let replicas = meta.replicas_of(group);
            // Without a replica here, the preferred leader is the best guess.
            let leader = match self.replication.group_status(group) {
                Some(status) => status.leader,
                None => replicas.first().copied(),
            };
            Partition { leader, replicas }
        };
        View {
            me,
            epoch: meta.revision(),
            nodes: meta.nodes.values().map(node).collect(),
            partitions: (0..meta.partitions()).map(partition).collect(),
        }
    }
}
