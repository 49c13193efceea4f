//! Who belongs to the cluster: one row per admitted node, and the rules by
//! which rows appear, change and go. A node is known by its key; its addresses
//! and its incarnation are only what its running process last reported.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};
use trine_types::{Incarnation, NodeId, NodeNumber};

/// Longest name of a node, in bytes.
pub const MAX_NAME_BYTES: usize = 63;
/// Longest name of a zone, in bytes.
pub const MAX_ZONE_BYTES: usize = 63;
/// Most addresses a node may report for its peers.
pub const MAX_ADDRESSES: usize = 8;
/// Most client doors (`redis`, …) a node may report.
pub const MAX_CLIENT_DOORS: usize = 16;
/// Longest name of a client door, in bytes.
pub const MAX_DOOR_BYTES: usize = 32;
/// The weight of a node that was given none.
pub const DEFAULT_WEIGHT: u16 = 100;
/// Largest weight: a node may hold at most a hundred times the default share.
pub const MAX_WEIGHT: u16 = 10_000;

/// Where a node is in its life in the cluster.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum NodeState {
    /// Holds replicas.
    Active,
    /// Is being emptied; it is revoked when the last replica has moved away.
    Leaving,
}

/// One admitted node.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct NodeRow {
    /// The small integer that Raft counts votes by. Never reused.
    pub number: NodeNumber,
    /// The node's public key.
    pub id: NodeId,
    /// What people call it; unique in the cluster.
    pub name: String,
    /// Which failure domain it stands in; replicas spread over zones.
    pub zone: String,
    /// Its share of replicas relative to the other nodes'.
    pub weight: u16,
    /// Where its peers reach it, best first.
    pub addresses: Vec<SocketAddr>,
    /// Where clients reach it, by door (`redis`, …).
    pub clients: BTreeMap<String, SocketAddr>,
    /// The last start that `meta` accepted; 0 before the first.
    pub incarnation: Incarnation,
    /// Which process that was.
    pub boot: BootId,
    /// Highest feature level that this process understands.
    pub features: u32,
    /// The issuing key that signed the certificate it shows.
    pub issuer: [u8; 32],
    /// Whether it has had the issuing key that is in use: it voted in `meta`.
    pub knows_issuing_key: bool,
    /// Active or leaving.
    pub state: NodeState,
    /// State time of its admission, in ms since the epoch.
    pub admitted_ms: u64,
}

/// A number that one process draws at random when it starts. It tells a
/// process that asks again from another one that carries the same key.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct BootId(pub u64);

/// What a node says about itself when it asks to be admitted.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Applicant {
    /// Its public key, proven in the handshake.
    pub id: NodeId,
    /// The name it would like; a number is appended when it is taken.
    pub name: String,
    /// Its failure domain; may be empty.
    pub zone: String,
    /// Its share of replicas.
    pub weight: u16,
    /// Where its peers reach it.
    pub addresses: Vec<SocketAddr>,
    /// Highest feature level that it understands.
    pub features: u32,
}

/// What a process reports when it starts.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct StartReport {
    /// Which node it is.
    pub number: NodeNumber,
    /// How often its data directory has been started.
    pub incarnation: Incarnation,
    /// Which process it is.
    pub boot: BootId,
    /// Where its peers reach it now.
    pub addresses: Vec<SocketAddr>,
    /// Where its clients reach it now.
    pub clients: BTreeMap<String, SocketAddr>,
    /// Highest feature level that it understands.
    pub features: u32,
    /// The issuing key that signed the certificate it shows.
    pub issuer: [u8; 32],
}

/// Why a start is not accepted. The process must stop.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, thiserror::Error)]
pub enum StartRefused {
    /// The node is not (or no longer) a node of this cluster.
    #[error(
        "{0} is not a node of this cluster: it was removed; to bring the machine back, \
         start it with an empty data directory and a fresh ticket"
    )]
    NotANode(NodeNumber),
    /// Another start of the same directory was accepted with this number.
    #[error(
        "this data directory is a copy, or was rolled back to an older state: the cluster has already seen \
         start {recorded} of {number}, and this is start {reported}; two processes with one identity can lose \
         data, so this one stops. Remove the node and join again with an empty data directory"
    )]
    OldIncarnation {
        /// Which node.
        number: NodeNumber,
        /// What `meta` has recorded.
        recorded: u64,
        /// What the process reported.
        reported: u64,
    },
    /// A process with the same key is running right now.
    #[error(
        "another process is running as {0} right now (same key, other process): its data directory was copied; \
         two processes with one identity can lose data, so this one stops"
    )]
    AlreadyRunning(NodeNumber),
    /// It is older than the level that the cluster runs at.
    #[error(
        "this binary is too old for the cluster: it knows feature level {known}, the cluster runs at {required}"
    )]
    TooOld {
        /// What the binary knows.
        known: u32,
        /// What the cluster runs at.
        required: u32,
    },
    /// Its addresses or doors are too many or too long.
    #[error("the addresses that the node reports are not acceptable: {0}")]
    BadReport(String),
}

/// Whether `text` may be the name of a node, zone or door: letters, digits,
/// `-`, `_` and `.`, at most `max` bytes.
pub fn is_name(text: &str, max: usize) -> bool {
    !text.is_empty()
        && text.len() <= max
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
}

impl Applicant {
    /// Checks the application.
    ///
    /// # Errors
    /// What is wrong with it, for people.
    pub fn check(&self) -> Result<(), String> {
        if !is_name(&self.name, MAX_NAME_BYTES - 4) {
            return Err(format!("the name {:?} is not 1 to 59 letters, digits, '-', '_' or '.'", self.name));
        }
        if !self.zone.is_empty() && !is_name(&self.zone, MAX_ZONE_BYTES) {
            return Err(format!("the zone {:?} is not 1 to 63 letters, digits, '-', '_' or '.'", self.zone));
        }
        if self.weight == 0 || self.weight > MAX_WEIGHT {
            return Err(format!("the weight {} is not between 1 and {MAX_WEIGHT}", self.weight));
        }
        check_addresses(&self.addresses)
    }

    /// The row of the node, once it has a number and a free name.
    pub fn into_row(self, number: NodeNumber, name: String, now_ms: u64) -> NodeRow {
        NodeRow {
            number,
            id: self.id,
            name,
            zone: self.zone,
            weight: self.weight,
            addresses: self.addresses,
            clients: BTreeMap::new(),
            incarnation: Incarnation(0),
            boot: BootId(0),
            features: self.features,
            issuer: [0; 32],
            knows_issuing_key: false,
            state: NodeState::Active,
            admitted_ms: now_ms,
        }
    }
}

fn check_addresses(addresses: &[SocketAddr]) -> Result<(), String> {
    if addresses.len() > MAX_ADDRESSES {
        return Err(format!("{} addresses are more than {MAX_ADDRESSES}", addresses.len()));
    }
    Ok(())
}

/// A name that no node has: `wanted`, or `wanted-2`, `wanted-3`, …
pub fn free_name(nodes: &BTreeMap<NodeNumber, NodeRow>, wanted: &str) -> String {
    let taken = |name: &str| nodes.values().any(|node| node.name == name);
    if !taken(wanted) {
        return wanted.to_owned();
    }
    // One of the first `nodes.len() + 1` candidates is free.
    let mut suffix = 2_u64;
    loop {
        let candidate = format!("{wanted}-{suffix}");
        if !taken(&candidate) {
            return candidate;
        }
        suffix += 1;
    }
}

impl NodeRow {
    /// Accepts a start, or says why the process must stop. Asking again with
    /// the same boot id changes only what the process says about itself.
    ///
    /// # Errors
    /// [`StartRefused`]; the row is unchanged.
    pub fn start(&mut self, report: StartReport, level: u32) -> Result<(), StartRefused> {
        let same_process = report.incarnation == self.incarnation && report.boot == self.boot;
        if !same_process && report.incarnation <= self.incarnation {
            return Err(StartRefused::OldIncarnation {
                number: self.number,
                recorded: self.incarnation.0,
                reported: report.incarnation.0,
            });
        }
        if report.features < level {
            return Err(StartRefused::TooOld { known: report.features, required: level });
        }
        check_addresses(&report.addresses).map_err(StartRefused::BadReport)?;
        if report.clients.len() > MAX_CLIENT_DOORS
            || report.clients.keys().any(|door| !is_name(door, MAX_DOOR_BYTES))
        {
            return Err(StartRefused::BadReport(
                "too many client doors, or one has no proper name".to_owned(),
            ));
        }
        self.incarnation = report.incarnation;
        self.boot = report.boot;
        self.features = report.features;
        self.issuer = report.issuer;
        self.addresses = report.addresses;
        self.clients = report.clients;
        Ok(())
    }

    /// Whether placement may give it replicas.
    pub fn takes_replicas(&self) -> bool {
        self.state == NodeState::Active
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn applicant(n: u8) -> Applicant {
        Applicant {
            id: NodeId([n; 32]),
            name: format!("host{n}"),
            zone: String::new(),
            weight: DEFAULT_WEIGHT,
            addresses: vec![SocketAddr::from(([127, 0, 0, 1], 7000 + u16::from(n)))],
            features: 1,
        }
    }

    pub(crate) fn report(number: u64, incarnation: u64, boot: u64) -> StartReport {
        StartReport {
            number: NodeNumber(number),
            incarnation: Incarnation(incarnation),
            boot: BootId(boot),
            addresses: vec![SocketAddr::from(([127, 0, 0, 1], 9000))],
            clients: BTreeMap::new(),
            features: 1,
            issuer: [8; 32],
        }
    }

    fn row() -> NodeRow {
        applicant(1).into_row(NodeNumber(1), "host1".into(), 5)
    }

    #[test]
    fn a_node_comes_back_under_a_new_address() {
        let mut row = row();
        row.start(report(1, 1, 10), 1).expect("first start");
        let mut second = report(1, 2, 20);
        second.addresses = vec![SocketAddr::from(([10, 0, 0, 9], 1))];
        row.start(second.clone(), 1).expect("a later start");
        assert_eq!(row.addresses, second.addresses);
    }

    #[test]
    fn asking_again_is_harmless_but_a_copy_is_refused() {
        let mut row = row();
        row.start(report(1, 4, 10), 1).expect("first");
        row.start(report(1, 4, 10), 1).expect("the same process asks again");
        let copy = row.start(report(1, 4, 11), 1).expect_err("another process, same count");
        assert!(copy.to_string().contains("copy"), "{copy}");
        let old = row.start(report(1, 3, 12), 1).expect_err("rolled back");
        assert_eq!(old, StartRefused::OldIncarnation { number: NodeNumber(1), recorded: 4, reported: 3 });
    }

    #[test]
    fn a_binary_below_the_feature_level_is_refused() {
        let error = row().start(report(1, 1, 1), 2).expect_err("level 1 < 2");
        assert_eq!(error, StartRefused::TooOld { known: 1, required: 2 });
    }

    #[test]
    fn names_are_made_unique() {
        let mut nodes = BTreeMap::from([(NodeNumber(1), row())]);
        assert_eq!(free_name(&nodes, "other"), "other");
        assert_eq!(free_name(&nodes, "host1"), "host1-2");
        nodes.insert(NodeNumber(2), applicant(2).into_row(NodeNumber(2), "host1-2".into(), 0));
        assert_eq!(free_name(&nodes, "host1"), "host1-3");
    }

    #[test]
    fn applications_are_checked() {
        assert_eq!(applicant(1).check(), Ok(()));
        for bad in ["", "a b", "ä", &"x".repeat(64)] {
            let mut wrong = applicant(1);
            wrong.name = bad.to_owned();
            assert!(wrong.check().is_err(), "{bad:?}");
        }
        let mut heavy = applicant(1);
        heavy.weight = 0;
        assert!(heavy.check().is_err());
    }
}
