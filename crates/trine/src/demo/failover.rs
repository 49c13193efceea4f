//! The kill: the node that leads the measured keys dies by SIGKILL under load;
//! how long writes stop, what is missing (nothing), and how the node catches
//! up once it is back.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;
use tokio::time::Instant;

use super::departure::{Knew, Watchers};
use super::ledger::{self, Audit};
use super::load::{self, Load};
use super::{millis, spinner};
use crate::admin::protocol::GroupReport;
use crate::failure::Failure;
use crate::local::NodeProcess;
use crate::resp::{Client, Value};

/// How long a restarted node may take to catch up.
const CATCH_UP_LIMIT: Duration = Duration::from_mins(1);
/// Pause between two comparisons of replicas.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// What the kill showed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FailoverReport {
    /// Node that led the measured keys and was killed, from 1.
    pub killed: u16,
    /// When each other node knew that it was gone.
    pub knew: Vec<Knew>,
    /// How long no write was acknowledged; absent: for the rest of the load.
    pub outage_ms: Option<u64>,
    /// Writes and increments per second before the kill.
    pub rate_before: u64,
    /// And from one second after it.
    pub rate_after: u64,
    /// What surviving nodes hold, compared with what clients know.
    pub audit: Audit,
    /// The same, asked through the restarted node.
    pub audit_restarted: Audit,
    /// From the restart until the node served again.
    pub restart_ms: u64,
    /// From the restart until its replicas were equal to the others'; absent:
    /// not in time.
    pub caught_up_ms: Option<u64>,
    /// Replicas compared by applied index and digest.
    pub groups_compared: usize,
}

/// Shows it.
///
/// # Errors
/// A node does something that it should not: does not start, does not answer.
pub async fn show(nodes: &mut [NodeProcess], load_time: Duration) -> Result<FailoverReport, Failure> {
    let victim = leader_of_measured(nodes).await?;
    let killed = nodes[victim].spec.n;
    let survivors: Vec<_> =
        nodes.iter().filter(|node| node.spec.n != killed).map(|node| node.spec.redis).collect();
    let bar = spinner("load: writes and increments through the other two nodes");
    let load = Load::start(&survivors);
    tokio::time::sleep(load_time).await;
    bar.set_message(format!("killing node {killed}, which leads the measured keys"));
    let watchers = Watchers::start(nodes, victim).await?;
    let (kill, killed_at) = (load.elapsed(), Instant::now());
    nodes[victim].kill().await?;
    tokio::time::sleep(load_time).await;
    let end = load.elapsed();
    let ledgers = load.finish().await?;
    let knew = watchers.finish(killed_at).await?;
    bar.set_message("comparing what was acknowledged with what is there");
    let audit = load::audit(&ledgers, survivors[0]).await?;
    bar.set_message(format!("restarting node {killed}"));
    let began = Instant::now();
    nodes[victim] = NodeProcess::spawn(nodes[victim].spec.clone(), None).await?;
    nodes[victim].wait_ready().await?;
    let restart_ms = millis(began.elapsed());
    let groups_compared = caught_up(nodes).await?;
    let caught_up_ms = groups_compared.map(|_| millis(began.elapsed()));
    let audit_restarted = load::audit(&ledgers, nodes[victim].spec.redis).await?;
    bar.finish_and_clear();
    let outage_ms = ledger::outage(&ledgers, kill).map(millis);
    eprintln!("node {killed} killed; writes unavailable for {} ms", outage_ms.unwrap_or(u64::MAX));
    Ok(FailoverReport {
        killed,
        knew,
        outage_ms,
        rate_before: ledger::rate(&ledgers, Duration::from_millis(500).min(kill), kill),
        rate_after: ledger::rate(&ledgers, kill + Duration::from_secs(1), end),
        audit,
        audit_restarted,
        restart_ms,
        caught_up_ms,
        groups_compared: groups_compared.unwrap_or(0),
    })
}

/// Which node (by position) leads the partition of the measured keys, as the
/// slot map says that cluster-aware clients use.
async fn leader_of_measured(nodes: &[NodeProcess]) -> Result<usize, Failure> {
    let mut client = Client::connect(nodes[0].spec.redis).await.map_err(Failure::new)?;
    let slot =
        match client.command(&[b"CLUSTER", b"KEYSLOT", load::TAG.as_bytes()]).await.map_err(Failure::new)? {
            Value::Integer(slot) => slot,
            other => return Err(Failure::new(format!("CLUSTER KEYSLOT answered {other:?}"))),
        };
    let slots = client.command(&[b"CLUSTER", b"SLOTS"]).await.map_err(Failure::new)?;
    let port = leader_port(&slots, slot)
        .ok_or_else(|| Failure::new(format!("the slot map names no leader for slot {slot}: {slots:?}")))?;
    let position = nodes.iter().position(|node| i64::from(node.spec.redis.port()) == port);
    position.ok_or_else(|| {
        Failure::new(format!("the slot map names a node on port {port}, which is none of ours"))
    })
}

/// `CLUSTER SLOTS`: `[[from, to, [host, port, id, ...], ...], ...]`.
fn leader_port(slots: &Value, slot: i64) -> Option<i64> {
    let Value::Array(ranges) = slots else { return None };
    ranges.iter().find_map(|range| match range {
        Value::Array(parts) => match parts.as_slice() {
            [Value::Integer(from), Value::Integer(to), Value::Array(leader), ..]
                if (*from..=*to).contains(&slot) =>
            {
                match leader.get(1) {
                    Some(Value::Integer(port)) => Some(*port),
                    _ => None,
                }
            }
            _ => None,
        },
        _ => None,
    })
}

/// Waits until all replicas of all groups agree in applied index and digest;
/// returns how many groups were compared, or `None` when time was up.
pub(super) async fn caught_up(nodes: &[NodeProcess]) -> Result<Option<usize>, Failure> {
    let deadline = Instant::now() + CATCH_UP_LIMIT;
    while Instant::now() < deadline {
        let mut views = Vec::new();
        for node in nodes {
            views.push(node.admin()?.groups().await?);
        }
        if let Some(groups) = equal_groups(&views) {
            return Ok(Some(groups));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    Ok(None)
}

/// How many groups there are, if all replicas of each agree.
fn equal_groups(views: &[Vec<GroupReport>]) -> Option<usize> {
    let mut groups: BTreeMap<&str, Vec<&GroupReport>> = BTreeMap::new();
    for group in views.iter().flatten() {
        groups.entry(&group.group).or_default().push(group);
    }
    let agree = |replicas: &Vec<&GroupReport>| {
        let first = replicas[0];
        replicas.len() == views.len()
            && replicas.iter().all(|other| {
                (other.applied, &other.digest, other.digest_at)
                    == (first.applied, &first.digest, first.digest_at)
            })
    };
    (!groups.is_empty() && groups.values().all(agree)).then_some(groups.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(applied: u64, digest: &str) -> GroupReport {
        GroupReport {
            group: "meta".into(),
            role: "voter".into(),
            leader: Some(1),
            term: 1,
            voters: vec![1, 2, 3],
            learners: vec![],
            log: applied,
            committed: applied,
            applied,
            digest: digest.into(),
            digest_at: applied,
            hibernating: false,
        }
    }

    #[test]
    fn replicas_are_equal_only_in_index_and_digest() {
        let view = |applied, digest| vec![group(applied, digest)];
        assert_eq!(equal_groups(&[view(5, "a"), view(5, "a")]), Some(1));
        assert_eq!(equal_groups(&[view(5, "a"), view(4, "a")]), None);
        assert_eq!(equal_groups(&[view(5, "a"), view(5, "b")]), None);
        assert_eq!(equal_groups(&[view(5, "a"), vec![]]), None);
    }

    #[test]
    fn the_slot_map_names_the_leader_first() {
        let node = |port| Value::Array(vec![Value::Bulk("127.0.0.1".into()), Value::Integer(port)]);
        let range = |from, to, port| {
            Value::Array(vec![Value::Integer(from), Value::Integer(to), node(port), node(1)])
        };
        let slots = Value::Array(vec![range(0, 99, 6379), range(100, 199, 6389)]);
        assert_eq!(leader_port(&slots, 99), Some(6379));
        assert_eq!(leader_port(&slots, 100), Some(6389));
        assert_eq!(leader_port(&slots, 200), None);
    }
}
