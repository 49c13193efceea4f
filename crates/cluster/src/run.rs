//! The agent: one task per node that follows `meta` and does what it asks of
//! this node. It owns all of this room's state on the node; slow work runs in
//! jobs that report back, at most one per group.

mod follow;
mod jobs;
pub(crate) mod service;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;
use trine_replication::Role;
use trine_transport::{AdmissionCertificate, IssuingKey, Trust};
use trine_types::{GroupId, NodeId, NodeNumber};

use crate::calls::{Ask, Told};
use crate::command::Command;
use crate::context::Context;
use crate::controller::{self, OutOfReach};
use crate::directory::{Directory, Known};
use crate::error::Fatal;
use crate::membership;
use crate::nodes::{StartRefused, StartReport};
use crate::reconcile::{self, Action, Lead, LocalGroup};
use crate::state::MetaState;

/// A leader of `meta` looks around this long before it changes anything: it
/// must first learn who is out of reach.
const CONTROLLER_REST: Duration = Duration::from_secs(1);

/// Questions of other nodes that may wait for the agent.
pub(crate) const EVENTS: usize = 256;

/// What reaches the agent from outside.
pub(crate) enum Event {
    /// A question that only the agent can answer.
    Asked {
        /// Who asks.
        from: NodeId,
        /// What.
        ask: Ask,
        /// Where the answer goes.
        reply: oneshot::Sender<Told>,
    },
    /// The node is stopping.
    Stop,
}

/// What at most one job at a time works on.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Work {
    /// A replica of this node.
    Group(GroupId),
    /// Rewriting the members of a replica of this node; meanwhile it is closed
    /// and nothing else may open it.
    Recovery(GroupId),
    /// The next step of the whole cluster.
    Controller,
    /// Putting the founder's decisions into the log.
    Genesis,
    /// Reporting this start.
    Report,
    /// A fresh certificate.
    Certificate,
    /// Fetching, replacing or handing out the issuing key.
    IssuingKey,
    /// Asking around whether this node was removed.
    Inquiry,
    /// Words to other nodes; any number of them.
    Words,
}

/// How a job ended.
pub(crate) enum Outcome {
    /// Nothing for the agent to note.
    Done,
    /// This leader has changed the members of its group.
    Changed,
    /// These nodes keep the issuing key now.
    Keyed(Vec<NodeNumber>),
    /// The start is accepted.
    Started,
    /// The process must stop.
    MustStop(Fatal),
    /// The founder's decisions are in the log.
    Founded,
    /// A fresh certificate for this node.
    Certificate(Vec<u8>),
    /// The issuing key.
    Key([u8; 32]),
    /// A removed node was told; cut it off.
    Cut(NodeId),
}

/// What a job reports.
pub(crate) struct Finished {
    work: Work,
    outcome: Outcome,
}

/// Since when this node leads a group, in one term.
struct Leading {
    term: u64,
    since: Instant,
    fresh: bool,
}

/// How the agent speaks to the rest of the process.
pub(crate) struct Outside {
    pub(crate) trust: watch::Sender<Trust>,
    pub(crate) fatal: watch::Sender<Option<Fatal>>,
    pub(crate) suspects: watch::Receiver<BTreeSet<NodeNumber>>,
}

/// How far this process has got with presenting itself.
pub(crate) struct Presence {
    report: StartReport,
    accepted: bool,
}

/// See the module.
pub(crate) struct Agent {
    context: Arc<Context>,
    directory: Directory,
    issuing: Option<Arc<IssuingKey>>,
    outside: Outside,
    presence: Presence,
    jobs: JoinSet<Finished>,
    busy: BTreeSet<Work>,
    leading: BTreeMap<GroupId, Leading>,
    keyed: BTreeSet<NodeNumber>,
    silent_since: BTreeMap<NodeNumber, Instant>,
    followed: Known,
    hinted: BTreeMap<GroupId, Vec<NodeNumber>>,
}

impl Agent {
    pub(crate) fn new(
        context: Arc<Context>,
        directory: Directory,
        issuing: Option<IssuingKey>,
        outside: Outside,
        report: StartReport,
    ) -> Self {
        Self {
            context,
            directory,
            issuing: issuing.map(Arc::new),
            outside,
            presence: Presence { report, accepted: false },
            jobs: JoinSet::new(),
            busy: BTreeSet::new(),
            leading: BTreeMap::new(),
            keyed: BTreeSet::new(),
            silent_since: BTreeMap::new(),
            followed: Known::default(),
            hinted: BTreeMap::new(),
        }
    }

    /// Starts the agent's task.
    pub(crate) fn spawn(self, events: mpsc::Receiver<Event>) {
        tokio::spawn(self.run(events));
    }

    /// Runs until the handle and the door are gone, or the node must stop.
    async fn run(mut self, mut events: mpsc::Receiver<Event>) {
        let mut meta = self.context.meta.clone();
        meta.mark_changed();
        let look_every = self.context.settings.values().look_every;
        let mut next_look = Instant::now();
        while self.outside.fatal.borrow().is_none() {
            tokio::select! {
                biased;
                event = events.recv() => match event {
                    Some(Event::Asked { from, ask, reply }) => self.answer(from, ask, reply),
                    Some(Event::Stop) | None => break,
                },
                Some(finished) = self.jobs.join_next(), if !self.jobs.is_empty() => {
                    match finished {
                        Ok(finished) => self.finish(finished).await,
                        Err(error) => tracing::error!(%error, "a job of the cluster room failed"),
                    }
                    self.look();
                }
                Ok(()) = meta.changed() => {
                    let state = meta.borrow_and_update().clone();
                    self.follow(&state).await;
                    self.look();
                }
                Ok(()) = self.outside.suspects.changed() => self.look(),
                () = tokio::time::sleep_until(next_look) => {
                    next_look = self.context.endpoint.grid().line(Instant::now() + look_every, look_every);
                    self.look();
                }
            }
        }
        self.jobs.shutdown().await;
    }

    /// Starts `job` unless one is at the same work already.
    fn start(&mut self, work: Work, job: impl Future<Output = Result<Outcome, String>> + Send + 'static) {
        if work != Work::Words && !self.busy.insert(work) {
            return;
        }
        let pause = self.context.settings.values().look_every;
        self.jobs.spawn(async move {
            let outcome = match job.await {
                Ok(outcome) => outcome,
                Err(reason) => {
                    tracing::debug!(?work, reason, "will be tried again");
                    tokio::time::sleep(pause).await;
                    Outcome::Done
                }
            };
            Finished { work, outcome }
        });
    }

    async fn finish(&mut self, finished: Finished) {
        self.busy.remove(&finished.work);
        match finished.outcome {
            Outcome::Done => {}
            Outcome::Changed => {
                if let Work::Group(group) = finished.work
                    && let Some(leading) = self.leading.get_mut(&group)
                {
                    leading.fresh = true;
                }
            }
            Outcome::Keyed(nodes) => self.keyed.extend(nodes),
            Outcome::Started => self.presence.accepted = true,
            Outcome::MustStop(fatal) => self.stop(fatal),
            Outcome::Founded => self.note_founded().await,
            Outcome::Certificate(certificate) => self.take_certificate(certificate).await,
            Outcome::Key(seed) => self.take_issuing_key(Some(seed)).await,
            Outcome::Cut(node) => self.cut(node),
        }
    }

    /// The process must not go on.
    fn stop(&self, fatal: Fatal) {
        tracing::error!(%fatal, "this node must stop");
        self.outside.fatal.send_replace(Some(fatal));
    }

    /// Compares what is with what should be, and starts what is missing.
    fn look(&mut self) {
        let meta = self.context.meta();
        let suspects = self.outside.suspects.borrow().clone();
        let out = self.out_of_reach(&suspects);
        let local = self.local_groups();
        let leads_meta = local.get(&GroupId::META).and_then(|replica| replica.leads.clone());
        let voting = local.get(&GroupId::META).map(|replica| replica.voters.clone()).unwrap_or_default();
        let mut unfit = self.context.replication.slow_disks();
        unfit.extend(&suspects);
        for action in reconcile::actions(&meta, self.context.number, &local, &unfit) {
            self.act(action, &voting);
        }
        self.present(&meta, leads_meta.is_some());
        // A leader that is not heard of may be one that does not want to speak
        // to this node any more; a replica remembers it over restarts.
        if self.context.replication.leader(GroupId::META).is_none_or(|leader| suspects.contains(&leader)) {
            let context = self.context.clone();
            self.start(Work::Inquiry, jobs::inquire(context));
        }
        let Some(own) = leads_meta else {
            self.keyed.clear();
            return;
        };
        self.tend_issuing_key(&meta);
        let alone = meta.nodes.len() == 1;
        if (alone || own.lasted >= CONTROLLER_REST)
            && let Some(command) = controller::next(&meta, &out, self.context.settings.pace())
        {
            let context = self.context.clone();
            self.start(Work::Controller, jobs::change(context, command));
        }
    }

    fn out_of_reach(&mut self, suspects: &BTreeSet<NodeNumber>) -> OutOfReach {
        let now = Instant::now();
        self.silent_since.retain(|node, _| suspects.contains(node));
        for &node in suspects {
            self.silent_since.entry(node).or_insert(now);
        }
        let patience = self.context.settings.values().give_up_after;
        let long = self.silent_since.iter().filter(|(_, since)| now - **since >= patience);
        OutOfReach { now: suspects.clone(), long: long.map(|(&node, _)| node).collect() }
    }

    fn local_groups(&mut self) -> BTreeMap<GroupId, LocalGroup> {
        let now = Instant::now();
        let mut local = BTreeMap::new();
        for status in self.context.replication.status() {
            let group = status.group;
            let leading = status.role == Role::Leader;
            if !leading {
                self.leading.remove(&group);
            } else if self.leading.get(&group).is_none_or(|known| known.term != status.term) {
                self.leading.insert(group, Leading { term: status.term, since: now, fresh: false });
            }
            let leads = self.leading.get(&group).map(|known| Lead {
                lasted: now - known.since,
                fresh: known.fresh,
                lag: status.lag,
            });
            let replica = LocalGroup {
                initialised: !status.voters.is_empty(),
                leads,
                voters: status.voters.into_keys().collect(),
                learners: status.learners.into_keys().collect(),
                changing: status.changing,
            };
            local.insert(group, replica);
        }
        self.leading.retain(|group, _| local.contains_key(group));
        local
    }

    /// What the leader of `meta` owes the other voters: the newest issuing key.
    fn tend_issuing_key(&mut self, meta: &MetaState) {
        let Some(cluster) = &meta.cluster else { return };
        let context = self.context.clone();
        match self.issuing.clone().filter(|key| Some(key.public()) == meta.newest_issuer()) {
            None => self.start(Work::IssuingKey, jobs::fetch_key(context)),
            Some(key) if cluster.rotation_due => {
                self.start(Work::IssuingKey, jobs::rotate_key(context, Some(key)));
            }
            Some(key) => {
                let mut voters = meta.replicas_of(GroupId::META);
                voters.retain(|n| *n != context.number && !self.keyed.contains(n));
                if !voters.is_empty() {
                    self.start(Work::IssuingKey, jobs::hand_out_key(context, key, voters));
                }
            }
        }
    }

    /// Starts one action; `voting` are the voters that `meta` has now.
    fn act(&mut self, action: Action, voting: &BTreeSet<NodeNumber>) {
        let work = Work::Group(action.group());
        if self.busy.contains(&work) || self.busy.contains(&Work::Recovery(action.group())) {
            return;
        }
        let context = self.context.clone();
        match action {
            Action::ChangeMembers { group: GroupId::META, voters, learners } => {
                // Nobody gets a vote before it has the issuing key.
                if voters.iter().all(|n| voting.contains(n) || self.keyed.contains(n)) {
                    self.start(work, jobs::change_members(context, GroupId::META, voters, learners));
                }
            }
            Action::ChangeMembers { group, voters, learners } => {
                self.start(work, jobs::change_members(context, group, voters, learners));
            }
            Action::Transfer { group, to } => {
                if let Some(leading) = self.leading.get_mut(&group) {
                    // Once per change of members; then it rests.
                    (leading.fresh, leading.since) = (false, Instant::now());
                }
                self.start(work, jobs::transfer(context, group, to));
            }
            Action::Open(group) => self.start(work, jobs::open(context, group)),
            Action::Initialise(group) => self.start(work, jobs::initialise(context, group)),
            Action::Destroy(group) => self.start(work, jobs::destroy(context, group)),
            Action::Settle { group, revision, members } => {
                self.start(work, jobs::change(context, Command::Settle { group, revision, members }));
            }
        }
    }

    /// Founding, the start report, the certificate: what this node still owes.
    fn present(&mut self, meta: &MetaState, leads_meta: bool) {
        let context = self.context.clone();
        let member = self.directory.membership();
        let certificate = member.and_then(|m| AdmissionCertificate::decode(&m.certificate).ok());
        let renewal_due = certificate.is_none_or(|own| {
            let newest = meta.newest_issuer().unwrap_or(own.issuer);
            own.issuer != newest || membership::is_due(&own, context.clock.wall_ms())
        });
        if let Some((member, founding)) = member.and_then(|m| Some((m, m.founding.as_ref()?))) {
            if leads_meta && self.issuing.is_some() {
                let issuer = self.issuing.as_ref().map_or([0; 32], |key| key.public());
                let founder = crate::start::founder(&self.directory, member, founding, &self.presence.report);
                let (cluster, partitions) = (member.cluster, founding.partitions);
                let command = Command::Genesis { cluster, partitions, issuer, founder };
                self.start(Work::Genesis, jobs::genesis(context, command));
            }
            return;
        }
        if !self.presence.accepted {
            let report = self.presence.report.clone();
            self.start(Work::Report, jobs::report(context.clone(), report));
        }
        if renewal_due {
            self.start(Work::Certificate, jobs::renew(context));
        }
    }

    fn answer(&mut self, from: NodeId, ask: Ask, reply: oneshot::Sender<Told>) {
        let context = self.context.clone();
        match ask {
            Ask::Sign { node } => match self.issuing.clone() {
                Some(key) => self.start(Work::Words, jobs::sign(context, key, node, reply)),
                None => jobs::tell(reply, Told::No("this node does not keep the issuing key".to_owned())),
            },
            Ask::KeepIssuingKey { seed } => {
                let key = IssuingKey::from_seed(seed);
                if self.outside.trust.borrow().issuers.contains(&key.public()) {
                    self.start(Work::Words, jobs::keep_key(context, self.directory.clone(), seed, reply));
                    self.issuing = Some(Arc::new(key));
                } else {
                    jobs::tell(reply, Told::No("this is not an issuing key of the cluster".to_owned()));
                }
            }
            Ask::GiveIssuingKey => {
                let meta = context.meta();
                let number = meta.node_by_id(&from).map(|row| row.number);
                let votes = number.is_some_and(|n| meta.replicas_of(GroupId::META).contains(&n));
                jobs::tell(
                    reply,
                    match self.issuing.as_ref().filter(|_| votes) {
                        Some(key) => Told::IssuingKey(*key.seed()),
                        None => Told::No("not for you, or not here".to_owned()),
                    },
                );
            }
            Ask::Recover { group, lost } => {
                self.start(Work::Recovery(group), jobs::recover(context, group, lost, reply));
            }
            Ask::Farewell => {
                let meta = context.meta();
                let number = meta.node_by_id(&from).map(|row| row.number);
                jobs::tell(reply, Told::Yes);
                if number.is_some_and(|n| meta.replicas_of(GroupId::META).contains(&n)) {
                    self.stop(StartRefused::NotANode(context.number).into());
                }
            }
            Ask::Who | Ask::MayStart { .. } | Ask::Replicas | Ask::Known { .. } => {
                jobs::tell(reply, Told::No("answered at the door".to_owned()));
            }
        }
    }
}
