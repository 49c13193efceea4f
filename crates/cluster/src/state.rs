//! Everything `meta` knows, as a value; and the rules that change it. The
//! rules see no rows and no log: [`crate::machine`] loads the value, applies a
//! command and stores what differs.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use trine_transport::Endorsement;
use trine_transport::endorsement::MAX_ENDORSEMENTS;
use trine_types::limits::MAX_NODES;
use trine_types::{ClusterId, GroupId, NodeId, NodeNumber};

use crate::assignments::{Assignment, Assignments, MAX_REPLICAS};
use crate::audit::{self, Audit};
use crate::command::{Answer, Certifiable, Command, Refusal};
use crate::nodes::{self, Applicant, NodeRow, NodeState};
use crate::tickets::{self, Tickets};
use crate::tokens::{self, Tokens};
use crate::users::{self, Users};

/// The feature level of this binary.
pub const FEATURE_LEVEL: u32 = 1;
/// Fewest and most database partitions of a cluster.
pub const PARTITIONS: std::ops::RangeInclusive<u16> = 1..=1024;
/// A revocation is remembered this long: no certificate lives longer (ms).
pub const REVOCATION_LIFE_MS: u64 = 400 * 24 * 3600 * 1000;
/// Most issuing keys that may be valid at once.
pub const MAX_ISSUERS: usize = 4;

/// The cluster as a whole.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ClusterRow {
    /// Its identity.
    pub id: ClusterId,
    /// State time of its creation.
    pub created_ms: u64,
    /// Number of database partitions.
    pub partitions: u16,
    /// Features up to this level may be used.
    pub feature_level: u32,
    /// The number that the next node gets.
    pub next_number: u64,
    /// A node that had the issuing key was removed: replace the key.
    pub rotation_due: bool,
    /// Counts the commands that changed anything.
    pub revision: u64,
}

/// A key that is no longer welcome.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct RevokedRow {
    /// The number that it had.
    pub number: NodeNumber,
    /// The name that it had.
    pub name: String,
    /// State time of its removal.
    pub at_ms: u64,
}

/// An issuing key whose certificates are valid.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct IssuerRow {
    /// State time of its addition.
    pub added_ms: u64,
    /// The words of the keys before it, newest first: nodes that were off
    /// meanwhile know only one of those.
    pub endorsed: Vec<EndorsedBy>,
}

/// One issuing key's word for another, as it is stored.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct EndorsedBy {
    /// Public half of the earlier key.
    pub by: [u8; 32],
    /// Public half of the later one.
    pub of: [u8; 32],
    /// By the earlier one.
    pub signature: Vec<u8>,
}

/// Everything `meta` knows.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct MetaState {
    /// The cluster; `None` before genesis.
    pub cluster: Option<ClusterRow>,
    /// Admitted nodes.
    pub nodes: BTreeMap<NodeNumber, NodeRow>,
    /// Open tickets.
    pub tickets: Tickets,
    /// Removed nodes.
    pub revoked: BTreeMap<NodeId, RevokedRow>,
    /// Valid issuing keys.
    pub issuers: BTreeMap<[u8; 32], IssuerRow>,
    /// Where the groups are.
    pub assignments: Assignments,
    /// Who may log in.
    pub users: Users,
    /// Secrets with rights of their own.
    pub tokens: Tokens,
    /// Who changed what.
    pub audit: Audit,
}

impl MetaState {
    /// Counts the commands that changed anything; 0 before genesis.
    pub fn revision(&self) -> u64 {
        self.cluster.as_ref().map_or(0, |c| c.revision)
    }

    /// Number of database partitions; 0 before genesis.
    pub fn partitions(&self) -> u16 {
        self.cluster.as_ref().map_or(0, |c| c.partitions)
    }

    /// The node with this key.
    pub fn node_by_id(&self, id: &NodeId) -> Option<&NodeRow> {
        self.nodes.values().find(|node| node.id == *id)
    }

    /// The node that people call this: its name, number (`3` or `n3`), or the
    /// first characters of its key.
    pub fn node_by_text(&self, text: &str) -> Option<&NodeRow> {
        let by_number =
            text.strip_prefix('n').unwrap_or(text).parse().ok().and_then(|n| self.nodes.get(&NodeNumber(n)));
        self.nodes.values().find(|node| node.name == text).or(by_number).or_else(|| {
            let mut hits =
                self.nodes.values().filter(|n| text.len() >= 4 && n.id.to_string().starts_with(text));
            hits.next().filter(|_| hits.next().is_none())
        })
    }

    /// Numbers and keys of all nodes.
    pub fn peers(&self) -> BTreeMap<NodeNumber, NodeId> {
        self.nodes.values().map(|node| (node.number, node.id)).collect()
    }

    /// The nodes that may hold a group: wanted and actual replicas.
    pub fn replicas_of(&self, group: GroupId) -> Vec<NodeNumber> {
        self.assignments.get(&group).map(Assignment::hosting).unwrap_or_default()
    }

    /// The nodes that take replicas.
    pub fn active(&self) -> impl Iterator<Item = &NodeRow> {
        self.nodes.values().filter(|node| node.takes_replicas())
    }

    /// The key that signs certificates now.
    pub fn newest_issuer(&self) -> Option<[u8; 32]> {
        self.issuers.iter().max_by_key(|(key, row)| (row.added_ms, **key)).map(|(key, _)| *key)
    }

    /// What a certificate that `issuer` signs carries.
    pub fn endorsements(&self, issuer: &[u8; 32]) -> Vec<Endorsement> {
        let stored = self.issuers.get(issuer).map(|row| row.endorsed.as_slice()).unwrap_or_default();
        let word = |word: &EndorsedBy| {
            let signature = word.signature.as_slice().try_into().ok()?;
            Some(Endorsement { by: word.by, of: word.of, signature })
        };
        stored.iter().filter_map(word).collect()
    }

    /// A key that signed no certificate in use any more.
    pub fn retired_issuer(&self) -> Option<[u8; 32]> {
        let newest = self.newest_issuer()?;
        let renewed = self.nodes.values().all(|node| node.issuer == newest);
        self.issuers.keys().copied().find(|key| renewed && *key != newest)
    }

    /// Whether this key may have a certificate.
    pub fn certifiable(&self, id: &NodeId) -> Option<Certifiable> {
        let node = self.node_by_id(id).filter(|_| !self.revoked.contains_key(id))?;
        Some(Certifiable { number: node.number, name: node.name.clone() })
    }

    /// Applies one command at state time `now_ms`. A refusal changes nothing.
    pub fn apply(&mut self, now_ms: u64, command: Command) -> Answer {
        let mut next = self.clone();
        match next.change(now_ms, command) {
            Ok(answer) => {
                if next != *self {
                    if let Some(cluster) = next.cluster.as_mut() {
                        cluster.revision += 1;
                    }
                    *self = next;
                }
                answer
            }
            Err(refusal) => Answer::Refused(refusal),
        }
    }

    fn change(&mut self, now_ms: u64, command: Command) -> Result<Answer, Refusal> {
        if let Command::Genesis { cluster, partitions, issuer, founder } = command {
            return self.genesis(now_ms, cluster, partitions, issuer, founder);
        }
        let level = self.cluster.as_ref().ok_or(Refusal::NotCreated)?.feature_level;
        match command {
            Command::Genesis { .. } => Err(Refusal::AlreadyCreated),
            Command::Audited { who, command } => self.audited(now_ms, &who, *command),
            Command::PutUser { .. }
            | Command::RemoveUser { .. }
            | Command::AddToken { .. }
            | Command::RotateToken { .. }
            | Command::RemoveToken { .. } => self.change_logins(now_ms, command),
            Command::IssueTicket { id, verifier, life_ms, uses } => {
                let not_after_ms = tickets::issue(&mut self.tickets, id, verifier, life_ms, uses, now_ms)?;
                Ok(Answer::Ticket { not_after_ms })
            }
            Command::Admit { ticket, applicant } => {
                let node = applicant.id;
                if self.revoked.contains_key(&node) {
                    return Err(Refusal::Revoked);
                }
                tickets::burn(&mut self.tickets, ticket, node, now_ms)?;
                self.admit(applicant, now_ms)
            }
            Command::Start(report) => {
                let number = report.number;
                let gone = nodes::StartRefused::NotANode(number);
                self.nodes.get_mut(&number).ok_or(gone)?.start(report, level)?;
                Ok(Answer::Done)
            }
            Command::Leave { number } => self.leave(number),
            Command::Stay { number } => {
                self.nodes.get_mut(&number).ok_or(Refusal::NoSuchNode(number))?.state = NodeState::Active;
                Ok(Answer::Done)
            }
            Command::Remove { number, force } => self.remove(number, force, now_ms),
            Command::Assign { changes } => self.assign(changes),
            Command::Settle { group, revision, members } => self.settle(group, revision, members),
            Command::Recreate { groups } => self.recreate(&groups),
            Command::RaiseLevel { to } => self.raise(to),
            Command::RotateIssuer { key, endorsement } => self.rotate_issuer(key, endorsement, now_ms),
            Command::RetireIssuer { key } => {
                if self.issuers.len() <= 1 {
                    return Err(Refusal::Bad(
                        "the only issuing key cannot be retired; add another first".into(),
                    ));
                }
                self.issuers.remove(&key);
                Ok(Answer::Done)
            }
        }
    }

    fn audited(&mut self, now_ms: u64, who: &str, command: Command) -> Result<Answer, Refusal> {
        if matches!(command, Command::Audited { .. }) {
            return Err(Refusal::Bad("one actor at a time".into()));
        }
        let what = audit::describe(self, &command);
        let answer = self.change(now_ms, command)?;
        audit::note(&mut self.audit, now_ms, who, &what);
        Ok(answer)
    }

    fn change_logins(&mut self, now_ms: u64, command: Command) -> Result<Answer, Refusal> {
        // Every change has a revision of its own, so no number is given twice.
        let fresh = (self.revision() + 1, now_ms);
        tokens::prune(&mut self.tokens, now_ms);
        match command {
            Command::PutUser { name, spec, based, cut } => {
                users::put(&mut self.users, (name, spec), (based, cut), fresh)?;
            }
            Command::RemoveUser { name } => users::remove(&mut self.users, &name)?,
            Command::AddToken { name, rights, secret } => {
                let not_after_ms = tokens::add(&mut self.tokens, name, rights, &secret, fresh)?;
                return Ok(Answer::Token { not_after_ms });
            }
            Command::RotateToken { name, secret } => {
                let not_after_ms = tokens::rotate(&mut self.tokens, &name, &secret, now_ms)?;
                return Ok(Answer::Token { not_after_ms });
            }
            Command::RemoveToken { name } => tokens::remove(&mut self.tokens, &name)?,
            other => return Err(Refusal::Bad(format!("{other:?} is not about logins"))),
        }
        Ok(Answer::Done)
    }

    fn genesis(
        &mut self,
        now_ms: u64,
        id: ClusterId,
        partitions: u16,
        issuer: [u8; 32],
        founder: Applicant,
    ) -> Result<Answer, Refusal> {
        if let Some(cluster) = &self.cluster {
            // The founder asks again: its first answer was lost.
            return match self.node_by_id(&founder.id) {
                Some(node) if cluster.id == id => {
                    Ok(Answer::Admitted { number: node.number, name: node.name.clone() })
                }
                _ => Err(Refusal::AlreadyCreated),
            };
        }
        if !PARTITIONS.contains(&partitions) {
            let (least, most) = (PARTITIONS.start(), PARTITIONS.end());
            return Err(Refusal::Bad(format!("{partitions} partitions: choose {least} to {most}")));
        }
        founder.check().map_err(Refusal::Bad)?;
        self.cluster = Some(ClusterRow {
            id,
            created_ms: now_ms,
            partitions,
            feature_level: founder.features.min(FEATURE_LEVEL),
            next_number: 1,
            rotation_due: false,
            revision: 0,
        });
        self.issuers.insert(issuer, IssuerRow { added_ms: now_ms, endorsed: Vec::new() });
        let answer = self.admit(founder, now_ms)?;
        let first = NodeNumber(1);
        for node in self.nodes.values_mut() {
            (node.issuer, node.knows_issuing_key) = (issuer, true);
        }
        let mut meta = Assignment::unborn(first);
        meta.settle(BTreeSet::from([first]));
        self.assignments.insert(GroupId::META, meta);
        let partitions = (0..partitions).map(GroupId::partition);
        for group in [GroupId::JOBS].into_iter().chain(partitions) {
            self.assignments.insert(group, Assignment::unborn(first));
        }
        Ok(answer)
    }

    fn admit(&mut self, applicant: Applicant, now_ms: u64) -> Result<Answer, Refusal> {
        applicant.check().map_err(Refusal::Bad)?;
        let cluster = self.cluster.as_mut().ok_or(Refusal::NotCreated)?;
        if applicant.features < cluster.feature_level {
            let (known, required) = (applicant.features, cluster.feature_level);
            return Err(nodes::StartRefused::TooOld { known, required }.into());
        }
        if let Some(node) = self.nodes.values_mut().find(|node| node.id == applicant.id) {
            // It joins again: a lost answer, or a certificate that ran out.
            node.addresses = applicant.addresses;
            return Ok(Answer::Admitted { number: node.number, name: node.name.clone() });
        }
        if self.nodes.len() >= MAX_NODES {
            return Err(Refusal::Full);
        }
        let number = NodeNumber(cluster.next_number);
        cluster.next_number += 1;
        let name = nodes::free_name(&self.nodes, &applicant.name);
        self.nodes.insert(number, applicant.into_row(number, name.clone(), now_ms));
        Ok(Answer::Admitted { number, name })
    }

    fn leave(&mut self, number: NodeNumber) -> Result<Answer, Refusal> {
        let others = self.active().filter(|node| node.number != number).count();
        let node = self.nodes.get_mut(&number).ok_or(Refusal::NoSuchNode(number))?;
        if others == 0 {
            return Err(Refusal::LastNode(number));
        }
        node.state = NodeState::Leaving;
        Ok(Answer::Done)
    }

    fn remove(&mut self, number: NodeNumber, force: bool, now_ms: u64) -> Result<Answer, Refusal> {
        let groups = self.assignments.values().filter(|a| a.hosts(number)).count();
        if !force && groups > 0 {
            return Err(Refusal::StillHolds { number, groups });
        }
        if self.nodes.len() <= 1 {
            return Err(Refusal::LastNode(number));
        }
        let node = self.nodes.remove(&number).ok_or(Refusal::NoSuchNode(number))?;
        self.revoked.retain(|_, row| row.at_ms.saturating_add(REVOCATION_LIFE_MS) > now_ms);
        self.revoked.insert(node.id, RevokedRow { number, name: node.name, at_ms: now_ms });
        for assignment in self.assignments.values_mut() {
            assignment.forget(number);
        }
        if let Some(cluster) = self.cluster.as_mut().filter(|_| node.knows_issuing_key) {
            cluster.rotation_due = true;
        }
        Ok(Answer::Done)
    }

    fn rotate_issuer(
        &mut self,
        key: [u8; 32],
        endorsement: Option<EndorsedBy>,
        now_ms: u64,
    ) -> Result<Answer, Refusal> {
        let before = endorsement.as_ref().and_then(|word| self.issuers.get(&word.by));
        let earlier = before.map(|row| row.endorsed.clone()).unwrap_or_default();
        let endorsed = endorsement.into_iter().chain(earlier).take(MAX_ENDORSEMENTS).collect();
        // Keys that signed no certificate in use need not stay valid.
        self.issuers.retain(|old, _| self.nodes.values().any(|node| node.issuer == *old));
        if self.issuers.len() >= MAX_ISSUERS {
            return Err(Refusal::Bad(format!(
                "{MAX_ISSUERS} issuing keys are in use; let nodes renew first"
            )));
        }
        // Newer than every other, whatever the clock says.
        let latest_ms = self.issuers.values().map(|row| row.added_ms + 1).max().unwrap_or(0);
        self.issuers.insert(key, IssuerRow { added_ms: now_ms.max(latest_ms), endorsed });
        if let Some(cluster) = self.cluster.as_mut() {
            cluster.rotation_due = false;
        }
        let voters = self.replicas_of(GroupId::META);
        for node in self.nodes.values_mut() {
            node.knows_issuing_key = voters.contains(&node.number);
        }
        Ok(Answer::Done)
    }

    fn assign(&mut self, changes: Vec<(GroupId, u64, Vec<NodeNumber>)>) -> Result<Answer, Refusal> {
        for (group, revision, replicas) in changes {
            let distinct: BTreeSet<_> = replicas.iter().collect();
            let known = replicas.iter().all(|n| self.nodes.contains_key(n));
            if replicas.is_empty()
                || replicas.len() > MAX_REPLICAS
                || distinct.len() != replicas.len()
                || !known
            {
                return Err(Refusal::Bad(format!("{group} cannot be held by {replicas:?}")));
            }
            let row = self.assignments.get_mut(&group).filter(|row| row.revision == revision);
            if group == GroupId::META {
                for node in self.nodes.values_mut().filter(|node| replicas.contains(&node.number)) {
                    node.knows_issuing_key = true;
                }
            }
            row.ok_or(Refusal::Outdated)?.assign(replicas);
        }
        Ok(Answer::Done)
    }

    fn settle(
        &mut self,
        group: GroupId,
        revision: u64,
        members: BTreeSet<NodeNumber>,
    ) -> Result<Answer, Refusal> {
        let row = self.assignments.get_mut(&group).filter(|row| row.revision == revision);
        row.ok_or(Refusal::Outdated)?.settle(members);
        Ok(Answer::Done)
    }

    fn recreate(&mut self, groups: &[GroupId]) -> Result<Answer, Refusal> {
        let first = self.active().next().map(|node| node.number);
        for group in groups {
            let row = self
                .assignments
                .get_mut(group)
                .filter(|row| row.members.is_empty() && *group != GroupId::META);
            let row = row.ok_or_else(|| Refusal::Bad(format!("{group} still has members")))?;
            row.unborn = true;
            if let Some(first) = first.filter(|_| row.replicas.is_empty()) {
                row.assign(vec![first]);
            }
        }
        Ok(Answer::Done)
    }

    fn raise(&mut self, to: u32) -> Result<Answer, Refusal> {
        let lowest = self.nodes.values().map(|node| node.features).min().unwrap_or(0);
        let cluster = self.cluster.as_mut().ok_or(Refusal::NotCreated)?;
        if to > lowest || to < cluster.feature_level {
            let now = cluster.feature_level;
            return Err(Refusal::Bad(format!("feature level {to} is not between {now} and {lowest}")));
        }
        cluster.feature_level = to;
        Ok(Answer::Done)
    }
}

#[cfg(test)]
pub(crate) mod tests;
