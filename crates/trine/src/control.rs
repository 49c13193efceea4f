//! Answers the admin socket's requests from the running node.

use std::collections::BTreeSet;
use std::time::Duration;

use futures::future::BoxFuture;
use tokio::time::Instant;
use trine_cluster::command::Refusal as Refused;
use trine_cluster::recover::{GroupRecovery, Recovery};
use trine_cluster::status::NodeSummary;
use trine_cluster::tokens::TokenRefused;
use trine_cluster::users::UserRefused;
use trine_cluster::{Cluster, ClusterError};
use trine_replication::{GroupStatus, Role};
use trine_storage::Space;
use trine_types::NodeNumber;

use crate::accounts;
use crate::admin::protocol::{
    Answer, Doors, GroupReport, NodeReport, PassReport, RecoveryOfGroup, RecoveryReport, Refusal,
    RefusalKind, RemovedReport, Request, StatusReport, TicketReport,
};
use crate::admin::server::Control;
use crate::node::Node;
use crate::talk::node::Talk;
use crate::topology::REDIS_DOOR;

/// How long a removal may take before the command line stops waiting for it.
const REMOVE_PATIENCE: Duration = Duration::from_secs(100);
/// Nodes that one ticket admits.
const TICKET_USES: u32 = 1;

/// See the module.
pub struct NodeControl {
    node: Node,
    doors: Doors,
    started: Instant,
    talk: Talk,
}

impl NodeControl {
    /// Answers for `node`, which listens at `doors`.
    pub fn new(node: Node, doors: Doors) -> Self {
        Self { talk: Talk::new(node.clone()), node, doors, started: Instant::now() }
    }

    fn status(&self) -> Result<StatusReport, Refusal> {
        let cluster = &self.node.cluster;
        let summary = cluster.summary().ok_or_else(not_heard)?;
        let groups = self.node.replication.status();
        let me = summary.nodes.iter().find(|node| node.number == summary.asked);
        let mut problems = problems(&groups, self.node.wal.space());
        if summary.tolerates == 0 {
            problems.push(summary.tolerance.clone());
        }
        // A group that this node should have and does not has not opened yet.
        let meta = cluster.meta().borrow().clone();
        let wanted = meta.assignments.iter().filter(|(_, row)| row.hosts(cluster.number()));
        let is_led = |group| groups.iter().any(|status| status.group == group && status.leader.is_some());
        let all_led = wanted.map(|(group, _)| *group).all(is_led);
        Ok(StatusReport {
            cluster: summary.cluster.to_string(),
            number: cluster.number().0,
            id: cluster.node_id().to_string(),
            name: me.map(|node| node.name.clone()).unwrap_or_default(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            incarnation: cluster.incarnation().0,
            uptime_ms: crate::demo::millis(self.started.elapsed()),
            doors: self.doors.clone(),
            ready: me.is_some() && all_led && summary.without_majority.is_empty(),
            nodes: summary.nodes.len(),
            unreachable: summary
                .nodes
                .iter()
                .filter(|node| !node.reachable)
                .map(|node| node.number.0)
                .collect(),
            partitions: summary.partitions,
            tolerates: summary.tolerates,
            problems,
        })
    }

    fn lost(&self, texts: &[String]) -> Result<BTreeSet<NodeNumber>, Refusal> {
        texts.iter().map(|text| self.node.cluster.find_node(text).map_err(|error| refusal(&error))).collect()
    }
}

impl Control for NodeControl {
    fn answer<'a>(&'a self, who: &'a str, request: Request) -> BoxFuture<'a, Result<Answer, Refusal>> {
        Box::pin(async move {
            let cluster = &self.node.cluster.by(who);
            Ok(match request {
                Request::Status {} => Answer::Status(Box::new(self.status()?)),
                Request::Nodes {} => Answer::Nodes(nodes(cluster)),
                Request::Groups {} => Answer::Groups(groups(&self.node.replication.status())),
                Request::Peers {} => {
                    let view = self.node.peers.view().borrow().clone();
                    Answer::Peers(crate::peer::reports(&view))
                }
                Request::PeerEvents { after } => {
                    Answer::PeerEvents(crate::peer::events(&self.node.peers, after).await)
                }
                Request::Talk { talk } => Answer::Talk(self.talk.answer(talk).await?),
                Request::Pass {} => {
                    Answer::Pass(PassReport { token: self.node.logins.pass(), doors: self.doors.clone() })
                }
                Request::Ticket { valid_s } => Answer::Ticket(ticket(cluster, valid_s).await?),
                Request::RemoveNode { node } => Answer::Removed(remove(cluster, &node).await?),
                request @ (Request::Users {}
                | Request::AddUser { .. }
                | Request::RotateUser { .. }
                | Request::RemoveUser { .. }
                | Request::Tokens {}
                | Request::AddToken { .. }
                | Request::RotateToken { .. }
                | Request::RemoveToken { .. }
                | Request::Audit { .. }) => {
                    accounts::answer(cluster, &self.node.hashing, &*self.node.entropy, request).await?
                }
                Request::RecoverPlan { lost } => {
                    let plan =
                        cluster.plan_recovery(&self.lost(&lost)?).await.map_err(|error| refusal(&error))?;
                    Answer::Recovery(recovery(&plan, false))
                }
                Request::Recover { lost } => {
                    let done = cluster.recover(&self.lost(&lost)?).await.map_err(|error| refusal(&error))?;
                    Answer::Recovery(recovery(&done, true))
                }
            })
        })
    }
}

async fn ticket(cluster: &Cluster, valid_s: u64) -> Result<TicketReport, Refusal> {
    let ticket = cluster.issue_ticket(Duration::from_secs(valid_s), TICKET_USES).await;
    let ticket = ticket.map_err(|error| refusal(&error))?;
    Ok(TicketReport { not_after_ms: ticket.not_after_ms, ticket: ticket.to_string() })
}

async fn remove(cluster: &Cluster, text: &str) -> Result<RemovedReport, Refusal> {
    let number = cluster.find_node(text).map_err(|error| refusal(&error))?;
    let name = cluster.meta().borrow().nodes.get(&number).map(|node| node.name.clone()).unwrap_or_default();
    cluster.remove_node(number, false, REMOVE_PATIENCE).await.map_err(|error| refusal(&error))?;
    Ok(RemovedReport { number: number.0, name })
}

fn not_heard() -> Refusal {
    Refusal::new("this node has not heard from its cluster yet")
        .hint("wait, and look whether the other nodes run and can be reached")
        .kind(RefusalKind::Unavailable)
}

pub(crate) fn refusal(error: &ClusterError) -> Refusal {
    let refusal = Refusal::new(error).kind(kind(error));
    match error {
        ClusterError::NoSuchNode(_) => refusal.hint("`trine nodes` lists the nodes"),
        ClusterError::Propose(_) | ClusterError::Query(_) => {
            refusal.hint("`trine status` says whether a majority of nodes can be reached")
        }
        ClusterError::WouldLoseMajority { .. } => {
            refusal.hint("`trine nodes` shows which nodes are not heard")
        }
        _ => refusal,
    }
}

fn kind(error: &ClusterError) -> RefusalKind {
    match error {
        ClusterError::NoSuchNode(_)
        | ClusterError::Refused(
            Refused::User(UserRefused::None(_)) | Refused::Token(TokenRefused::None(_)),
        ) => RefusalKind::NotFound,
        ClusterError::Refused(_)
        | ClusterError::WouldLoseMajority { .. }
        | ClusterError::StillMoving { .. }
        | ClusterError::NotLost(_) => RefusalKind::Conflict,
        ClusterError::Propose(_)
        | ClusterError::Query(_)
        | ClusterError::NoIssuer(_)
        | ClusterError::Stopping => RefusalKind::Unavailable,
        ClusterError::Answer(_) | ClusterError::NotRecovered { .. } => RefusalKind::Failed,
    }
}

/// What should worry the operator.
fn problems(groups: &[GroupStatus], space: Space) -> Vec<String> {
    let mut problems = Vec::new();
    if space != Space::Ok {
        problems.push(
            "the disk is nearly full: writes that grow the data are refused, deletes still work".into(),
        );
    }
    problems.extend(problems_of_groups(groups));
    problems
}

/// Of these, what is about groups.
pub(crate) fn problems_of_groups(groups: &[GroupStatus]) -> impl Iterator<Item = String> {
    groups.iter().filter_map(|group| match &group.stopped {
        Some(reason) => Some(format!("{} has stopped here: {reason}", group.group)),
        None if group.leader.is_none() => Some(format!("{} has no leader", group.group)),
        None => None,
    })
}

/// Replicas as they are reported.
pub(crate) fn groups(statuses: &[GroupStatus]) -> Vec<GroupReport> {
    statuses.iter().map(group).collect()
}

fn nodes(cluster: &Cluster) -> Vec<NodeReport> {
    let me = cluster.number();
    let report = |node: NodeSummary| NodeReport {
        number: node.number.0,
        id: node.id.to_string(),
        name: node.name,
        peer: node.addresses.iter().map(ToString::to_string).collect(),
        redis: node.clients.get(REDIS_DOOR).map(ToString::to_string),
        reachable: node.reachable,
        asked: node.number == me,
        voter_of: node.groups + usize::from(node.votes),
    };
    cluster.nodes().into_iter().map(report).collect()
}

fn group(status: &GroupStatus) -> GroupReport {
    let role = match status.role {
        Role::Leader => "leader",
        Role::Follower => "follower",
        Role::Candidate => "candidate",
        Role::Learner => "learner",
        Role::Stopped => "STOPPED",
    };
    GroupReport {
        group: status.group.to_string(),
        role: role.to_owned(),
        leader: status.leader.map(|leader| leader.0),
        term: status.term,
        voters: status.voters.keys().map(|voter| voter.0).collect(),
        learners: status.learners.keys().map(|learner| learner.0).collect(),
        log: status.last_index,
        committed: status.committed,
        applied: status.applied,
        digest: format!("{:016x}", status.digest),
        digest_at: status.applied,
        hibernating: status.hibernating,
    }
}

fn recovery(recovery: &Recovery, done: bool) -> RecoveryReport {
    let numbers = |list: &BTreeSet<NodeNumber>| list.iter().map(|number| number.0).collect::<Vec<_>>();
    let group = |group: &GroupRecovery| RecoveryOfGroup {
        group: group.name.clone(),
        voters: numbers(&group.voters),
        remaining: numbers(&group.remaining),
        log: group.last_index,
        committed: group.committed,
        may_miss: group.may_miss.clone(),
    };
    RecoveryReport {
        lost: numbers(&recovery.lost),
        groups: recovery.groups.iter().map(group).collect(),
        done,
    }
}
