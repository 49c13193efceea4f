//! Which figures a node has, and who counted them.

use tokio::time::Instant;
use trine_database::measure::BOUNDS_MICROS;
use trine_replication::{GroupStatus, Role};
use trine_storage::Space;
use trine_transport::Passed;

use super::{Family, Figure, Labels};
use crate::http::api::Measured;
use crate::node::Node;

/// What a running node has counted.
pub struct NodeMeasures {
    node: Node,
    started: Instant,
    resident_bytes: fn() -> u64,
    surfaces: Vec<(&'static str, Connections)>,
}

/// Says how many connections a surface has now.
pub type Connections = Box<dyn Fn() -> usize + Send + Sync>;

impl NodeMeasures {
    /// The figures of `node`, and of its surfaces by their names.
    pub fn new(node: Node, resident_bytes: fn() -> u64, surfaces: Vec<(&'static str, Connections)>) -> Self {
        Self { node, started: Instant::now(), resident_bytes, surfaces }
    }

    fn process(&self) -> Vec<Family> {
        let connections = self
            .surfaces
            .iter()
            .map(|(surface, open)| (vec![("surface", (*surface).to_owned())], level(open())));
        let version = vec![("version", env!("CARGO_PKG_VERSION").to_owned())];
        vec![
            Family::new("trine_build", "The program; always 1").with(version, Figure::Level(1.0)),
            Family::one(
                "trine_uptime_seconds",
                "Time since this process served",
                Figure::Level(self.started.elapsed().as_secs_f64()),
            ),
            Family::one(
                "trine_resident_bytes",
                "Resident memory of the process",
                wide((self.resident_bytes)()),
            ),
            Family::new("trine_connections", "Open connections of clients").with_all(connections),
        ]
    }

    fn cluster(&self) -> Vec<Family> {
        let Some(summary) = self.node.cluster.summary() else { return Vec::new() };
        let unheard = summary.nodes.iter().filter(|node| !node.reachable).count();
        vec![
            Family::one("trine_nodes", "Nodes of the cluster", level(summary.nodes.len())),
            Family::one("trine_nodes_unreachable", "Nodes that this one does not hear from", level(unheard)),
            Family::one(
                "trine_tolerated_failures",
                "How many more nodes may fail before some data cannot be reached",
                level(summary.tolerates),
            ),
        ]
    }

    fn database(&self) -> Vec<Family> {
        let measures = self.node.database.measures();
        let histograms = measures.histograms().into_iter().map(|times| {
            let labels: Labels = vec![
                ("access", times.access.to_owned()),
                ("executed", times.executed.to_owned()),
                ("part", times.part.to_owned()),
            ];
            let bounds = BOUNDS_MICROS.iter().map(|bound| seconds(*bound)).chain([f64::INFINITY]);
            let buckets = bounds.zip(times.counts).collect();
            (labels, Figure::Histogram { sum: seconds(times.sum_micros), buckets })
        });
        vec![
            Family::one("trine_commands", "Commands taken", Figure::Count(measures.commands())),
            Family::one(
                "trine_commands_refused",
                "Commands answered with an error",
                Figure::Count(measures.refusals()),
            ),
            Family::one(
                "trine_commands_forwarded",
                "Commands passed to another node",
                Figure::Count(measures.forwards()),
            ),
            Family::new(
                "trine_command_seconds",
                "T = T_r + T_c of commands on keys: processing at the owner, passing between nodes",
            )
            .with_all(histograms),
        ]
    }

    fn log(&self) -> Vec<Family> {
        let stats = self.node.wal.stats();
        let pace = self.node.wal.sync_pace();
        let full = self.node.wal.space() != Space::Ok;
        vec![
            Family::one(
                "trine_log_bytes",
                "Bytes written to the log, with framing",
                Figure::Count(stats.bytes),
            ),
            Family::one("trine_log_entries", "Entries written to the log", Figure::Count(stats.entries)),
            Family::one("trine_log_syncs", "Syncs of the log", Figure::Count(stats.syncs)),
            Family::one(
                "trine_log_sync_seconds",
                "Time spent in syncs of the log",
                Figure::Spent(seconds(stats.sync_nanos / 1_000)),
            ),
            Family::new(
                "trine_log_sync_latency_seconds",
                "How long a sync of the log takes lately; far more than at other nodes: it hands leaderships over",
            )
            .with_all(pace.map(|pace| (Vec::new(), Figure::Level(pace.latency.as_secs_f64())))),
            Family::one(
                "trine_log_operations",
                "Operations completed by the log; by syncs, the size of a batch",
                Figure::Count(stats.operations),
            ),
            Family::one("trine_log_segments", "Files of the log in use", wide(stats.segments)),
            Family::one("trine_log_cached_bytes", "Recent entries kept in memory", wide(stats.cached_bytes)),
            Family::one(
                "trine_disk_low",
                "1 when the disk is so full that growing writes are refused",
                flag(full),
            ),
        ]
    }

    fn lanes(&self) -> Vec<Family> {
        let traffic = self.node.endpoint.traffic();
        let each = |name, help, figure: fn(Passed) -> u64| {
            let samples = traffic.iter().flat_map(|lane| {
                [("sent", lane.sent), ("received", lane.received)].map(|(direction, passed)| {
                    let name = format!("{:?}", lane.lane).to_lowercase();
                    let labels = vec![("lane", name), ("direction", direction.to_owned())];
                    (labels, Figure::Count(figure(passed)))
                })
            });
            Family::new(name, help).with_all(samples)
        };
        vec![
            each("trine_lane_frames", "Frames between nodes", |passed| passed.frames),
            each("trine_lane_bytes", "Bytes of frames between nodes, without TLS", |passed| passed.bytes),
        ]
    }

    fn groups(&self) -> Vec<Family> {
        let groups = self.node.replication.status();
        let each = |name, help, figure: fn(&GroupStatus) -> Figure| {
            let sample = |status: &GroupStatus| (vec![("group", status.group.to_string())], figure(status));
            Family::new(name, help).with_all(groups.iter().map(sample))
        };
        vec![
            each("trine_group_term", "Raft term", |status| wide(status.term)),
            each("trine_group_leader", "1 where this node leads", |status| flag(status.role == Role::Leader)),
            each("trine_group_led", "1 where a leader is known", |status| flag(status.leader.is_some())),
            each("trine_group_voters", "Voters", |status| level(status.voters.len())),
            each("trine_group_last_index", "Last entry in the log here", |status| wide(status.last_index)),
            each("trine_group_committed_index", "Last entry known to be on a majority of disks", |status| {
                wide(status.committed)
            }),
            each("trine_group_applied_index", "Last entry whose effect is in the state here", |status| {
                wide(status.applied)
            }),
        ]
    }
}

impl Measured for NodeMeasures {
    fn families(&self) -> Vec<Family> {
        [self.process(), self.cluster(), self.database(), self.log(), self.lanes(), self.groups()].concat()
    }
}

fn flag(holds: bool) -> Figure {
    Figure::Level(f64::from(u8::from(holds)))
}

fn level(count: usize) -> Figure {
    wide(count as u64)
}

#[expect(clippy::cast_precision_loss, reason = "figures for charts: 53 bits are enough")]
fn wide(count: u64) -> Figure {
    Figure::Level(count as f64)
}

#[expect(clippy::cast_precision_loss, reason = "figures for charts: 53 bits are enough")]
fn seconds(micros: u64) -> f64 {
    micros as f64 / 1e6
}
