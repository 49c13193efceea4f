//! [`Cluster`]: what the binary and the other rooms hold.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::future::Either;
use futures::stream::FuturesUnordered;
use tokio::sync::{mpsc, watch};
use trine_transport::{Contact, Secret, Ticket};
use trine_types::{ClusterId, GroupId, Incarnation, NodeId, NodeNumber};

use crate::calls::{Ask, Told};
use crate::command::{Answer, Command, Query, Refusal};
use crate::context::Context;
use crate::controller;
use crate::error::{ClusterError, Fatal};
use crate::run::Event;
use crate::state::MetaState;
use crate::status::{self, GroupSummary, NodeSummary, ReplicaReport, Summary};
use crate::tickets::TicketId;

/// Most contacts that a ticket names.
const CONTACTS: usize = 3;

/// This node's view of the cluster and the way to change it. Cheap to clone.
#[derive(Clone)]
pub struct Cluster {
    context: Arc<Context>,
    events: mpsc::Sender<Event>,
    must_stop: watch::Receiver<Option<Fatal>>,
    actor: Arc<str>,
}

/// Who acts, for the audit log, if nothing else is said: whoever may use this
/// node's own files.
const OPERATOR: &str = "operator";

impl Cluster {
    pub(crate) fn new(
        context: Arc<Context>,
        events: mpsc::Sender<Event>,
        must_stop: watch::Receiver<Option<Fatal>>,
    ) -> Self {
        Self { context, events, must_stop, actor: Arc::from(OPERATOR) }
    }

    pub(crate) fn context(&self) -> &Arc<Context> {
        &self.context
    }

    /// The same, for somebody: the audit log names `actor` for what is changed
    /// through it.
    #[must_use]
    pub fn by(&self, actor: &str) -> Self {
        Self { actor: Arc::from(actor), ..self.clone() }
    }

    /// Puts an action of an administrator into the log of `meta`.
    pub(crate) async fn act(&self, command: Command) -> Result<Answer, ClusterError> {
        let who = format!("{} at {}", self.actor, self.context.number);
        self.context.propose(&Command::Audited { who, command: Box::new(command) }).await
    }

    /// Which cluster.
    pub fn id(&self) -> ClusterId {
        self.context.cluster
    }

    /// This node's number.
    pub fn number(&self) -> NodeNumber {
        self.context.number
    }

    /// This node's key.
    pub fn node_id(&self) -> NodeId {
        self.context.id
    }

    /// Which start of this node's data directory this process is.
    pub fn incarnation(&self) -> Incarnation {
        self.context.start.incarnation
    }

    /// The state of `meta` as this node has it, now and whenever it changes.
    /// It may be behind; it is never ahead.
    pub fn meta(&self) -> watch::Receiver<Arc<MetaState>> {
        self.context.meta.clone()
    }

    /// `meta` once this node has everything of it that was acknowledged anywhere
    /// before this call. Give it a limit: it may never be.
    ///
    /// # Errors
    /// [`ClusterError`].
    pub async fn caught_up(&self) -> Result<Arc<MetaState>, ClusterError> {
        let revision: u64 = self.context.query(&Query::Revision).await?;
        let mut meta = self.context.meta.clone();
        let meta = meta.wait_for(|meta| meta.revision() >= revision).await;
        meta.map(|meta| meta.clone()).map_err(|_| ClusterError::Stopping)
    }

    /// The nodes that may hold a partition, the preferred leader first.
    pub fn partition_replicas(&self, partition: u16) -> Vec<NodeNumber> {
        self.context.meta.borrow().replicas_of(GroupId::partition(partition))
    }

    /// Waits until this process must stop, and says why: it was removed, it is
    /// a copy, its disk failed.
    pub async fn must_stop(&self) -> Fatal {
        let mut must_stop = self.must_stop.clone();
        loop {
            if let Some(fatal) = must_stop.borrow_and_update().clone() {
                return fatal;
            }
            if must_stop.changed().await.is_err() {
                // The agent ended because the node is stopping anyway.
                return std::future::pending().await;
            }
        }
    }

    /// Ends this room's task on this node.
    pub async fn shutdown(&self) {
        // If nobody takes it, the task has ended already.
        let _ = self.events.send(Event::Stop).await;
    }

    /// Issues a ticket that admits `uses` nodes within `life`. Its contacts
    /// are this node and voters of `meta`.
    ///
    /// # Errors
    /// [`ClusterError`]; no ticket is open unless the outcome is unknown, and
    /// that one's secret is lost.
    pub async fn issue_ticket(&self, life: Duration, uses: u32) -> Result<Ticket, ClusterError> {
        let secret = Secret::generate(&*self.context.entropy);
        let command = Command::IssueTicket {
            id: TicketId(secret.id()),
            verifier: secret.verifier(),
            life_ms: u64::try_from(life.as_millis()).unwrap_or(u64::MAX),
            uses,
        };
        let Answer::Ticket { not_after_ms } = self.act(command).await? else {
            return Err(Refusal::Bad("meta gave another answer".to_owned()).into());
        };
        // Not this node's replica: it may know nobody yet.
        let meta = self.context.meta_now().await?;
        let mut numbers = vec![self.context.number];
        numbers.extend(meta.replicas_of(GroupId::META));
        numbers.extend(meta.nodes.keys());
        let mut contacts: Vec<Contact> = Vec::new();
        for row in numbers.iter().filter_map(|number| meta.nodes.get(number)) {
            if let Some(&address) = row.addresses.first()
                && contacts.iter().all(|contact| contact.node != row.id)
                && contacts.len() < CONTACTS
            {
                contacts.push(Contact { address, node: row.id });
            }
        }
        Ok(Ticket { cluster: self.context.cluster, contacts, secret, not_after_ms })
    }

    /// The node that people call this: name, number, or start of the id.
    ///
    /// # Errors
    /// [`ClusterError::NoSuchNode`].
    pub fn find_node(&self, text: &str) -> Result<NodeNumber, ClusterError> {
        let meta = self.context.meta();
        let node = meta.node_by_text(text).map(|node| node.number);
        node.ok_or_else(|| ClusterError::NoSuchNode(text.to_owned()))
    }

    /// Removes a node for good: its replicas move away, then its key is
    /// revoked and its connections are cut. With `force` it is revoked at once
    /// and its replicas are replaced afterwards. Waits at most `patience`.
    ///
    /// # Errors
    /// [`ClusterError::WouldLoseMajority`] unless forced;
    /// [`ClusterError::StillMoving`] when `patience` ends first (it goes on).
    pub async fn remove_node(
        &self,
        number: NodeNumber,
        force: bool,
        patience: Duration,
    ) -> Result<(), ClusterError> {
        let meta = self.context.meta_now().await?;
        if !meta.nodes.contains_key(&number) {
            return Err(Refusal::NoSuchNode(number).into());
        }
        if force {
            self.act(Command::Remove { number, force }).await?;
            return Ok(());
        }
        let suspects = self.context.replication.suspects().borrow().clone();
        if let Some(danger) = controller::danger(&meta, number, &suspects) {
            let controller::Danger { group, answering, of } = danger;
            return Err(ClusterError::WouldLoseMajority { number, group, answering, of });
        }
        self.act(Command::Leave { number }).await?;
        let mut followed = self.context.meta.clone();
        let gone = followed.wait_for(|meta| meta.cluster.is_some() && !meta.nodes.contains_key(&number));
        // If this node itself was removed, it hears of it before the rest.
        let own = async {
            if number == self.context.number {
                drop(self.must_stop().await);
            } else {
                std::future::pending::<()>().await;
            }
        };
        let gone = async {
            match futures::future::select(Box::pin(own), Box::pin(gone)).await {
                Either::Left(((), _)) => Ok(()),
                Either::Right((gone, _)) => gone.map(drop),
            }
        };
        match tokio::time::timeout(patience, gone).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(ClusterError::Stopping),
            Err(_) => {
                let meta = self.context.meta();
                let groups = meta.assignments.values().filter(|row| row.hosts(number)).count();
                Err(ClusterError::StillMoving { number, groups })
            }
        }
    }

    /// Takes back a removal that is still moving replicas away.
    ///
    /// # Errors
    /// [`ClusterError`].
    pub async fn keep_node(&self, number: NodeNumber) -> Result<(), ClusterError> {
        self.act(Command::Stay { number }).await.map(drop)
    }

    /// Lets the features of `level` be used from now on; no node with an older
    /// binary may start any more.
    ///
    /// # Errors
    /// [`ClusterError`].
    pub async fn raise_feature_level(&self, level: u32) -> Result<(), ClusterError> {
        self.act(Command::RaiseLevel { to: level }).await.map(drop)
    }

    /// The cluster in one screen, as this node sees it; `None` until it has
    /// heard of the cluster at all.
    pub fn summary(&self) -> Option<Summary> {
        let suspects = self.context.replication.suspects().borrow().clone();
        status::summary(&self.context.meta(), self.context.number, &suspects)
    }

    /// The nodes, as this node sees them.
    pub fn nodes(&self) -> Vec<NodeSummary> {
        let suspects = self.context.replication.suspects().borrow().clone();
        status::nodes(&self.context.meta(), &suspects)
    }

    /// The groups, gathered from every node that answers.
    pub async fn groups(&self) -> Vec<GroupSummary> {
        status::groups(&self.context.meta(), &self.replicas_everywhere().await)
    }

    /// What every node that answers says about its replicas.
    pub(crate) async fn replicas_everywhere(&self) -> BTreeMap<NodeNumber, Vec<ReplicaReport>> {
        let meta = self.context.meta();
        let mut answers: FuturesUnordered<_> = meta
            .nodes
            .values()
            .map(|node| {
                let (number, id) = (node.number, node.id);
                async move { (number, self.context.ask(id, &Ask::Replicas).await) }
            })
            .collect();
        let mut reports = BTreeMap::from([(self.context.number, self.context.replicas())]);
        while let Some((number, answer)) = answers.next().await {
            if let Ok(Told::Replicas(replicas)) = answer {
                reports.insert(number, replicas);
            }
        }
        reports
    }

    /// Waits until every group has the members that it should have and at
    /// least `nodes` nodes are admitted.
    pub async fn settled(&self, nodes: usize) {
        let mut meta = self.context.meta.clone();
        let done = |meta: &Arc<MetaState>| {
            meta.nodes.len() >= nodes
                && controller::target(meta).iter().all(|(group, wanted)| {
                    let wanted: BTreeSet<_> = wanted.iter().copied().collect();
                    meta.assignments.get(group).is_some_and(|row| row.settled() && row.members == wanted)
                })
        };
        // An error means that the node is stopping: there is nothing to wait for.
        let _ = meta.wait_for(done).await;
    }
}
