//! What a change of `meta` means for this process: whom to trust, where they
//! are, who holds what, what to remember for the next start.

use std::sync::Arc;

use trine_transport::{AdmissionCertificate, IssuingKey};
use trine_types::{GroupId, NodeId};

use super::{Agent, Work, jobs};
use crate::directory::{DirectoryError, Membership};
use crate::error::Fatal;
use crate::membership::known;
use crate::nodes::StartRefused;
use crate::state::MetaState;

impl Agent {
    /// Applies a new state of `meta` to this process.
    pub(super) async fn follow(&mut self, meta: &Arc<MetaState>) {
        if meta.cluster.is_none() {
            return;
        }
        if let Some(refused) = self.refused_by(meta) {
            return self.stop(refused.into());
        }
        let known = known(meta);
        self.trust(meta);
        for (number, peer) in &known.peers {
            let before = self.followed.peers.get(number);
            if *number != self.context.number && before != Some(peer) {
                self.context.endpoint.set_addresses(peer.id, peer.addresses.clone());
            }
        }
        let before = std::mem::take(&mut self.followed.revoked);
        for &revoked in known.revoked.iter().filter(|id| !before.contains(id)) {
            let context = self.context.clone();
            self.start(Work::Words, jobs::farewell(context, revoked));
        }
        self.context.replication.peers(meta.peers());
        for (&group, row) in &meta.assignments {
            let hosts = row.hosting();
            if self.hinted.get(&group) != Some(&hosts) {
                self.context.replication.hint(group, row.preferred_leader(), hosts.clone());
                self.hinted.insert(group, hosts);
            }
        }
        if known.voters != self.followed.voters {
            let me = self.context.number;
            if self.followed.voters.contains(&me) && !known.voters.contains(&me) {
                self.take_issuing_key(None).await;
            }
        }
        if known != self.followed || before != known.revoked {
            let (directory, known) = (self.directory.clone(), known.clone());
            self.write(move || directory.store_known(&known)).await;
        }
        self.followed = known;
    }

    /// Whether another process, or nobody, is this node by now.
    fn refused_by(&self, meta: &MetaState) -> Option<StartRefused> {
        let (number, start) = (self.context.number, self.context.start);
        if meta.revoked.contains_key(&self.context.id) {
            return Some(StartRefused::NotANode(number));
        }
        let row = meta.nodes.get(&number)?;
        let other = row.incarnation > start.incarnation
            || (row.incarnation == start.incarnation && row.boot != start.boot);
        other.then_some(StartRefused::OldIncarnation {
            number,
            recorded: row.incarnation.0,
            reported: start.incarnation.0,
        })
    }

    fn trust(&self, meta: &MetaState) {
        self.outside.trust.send_if_modified(|trust| {
            let issuers = meta.issuers.keys().copied().collect();
            let news = trust.issuers != issuers;
            trust.issuers = issuers;
            news
        });
    }

    /// Lets a removed node in no more, and ends what is open to it.
    pub(super) fn cut(&self, node: NodeId) {
        self.outside.trust.send_if_modified(|trust| trust.revoked.insert(node));
        self.context.endpoint.cut(node);
        self.context.endpoint.set_addresses(node, Vec::new());
    }

    pub(super) async fn take_certificate(&mut self, certificate: Vec<u8>) {
        let Ok(decoded) = AdmissionCertificate::decode(&certificate) else { return };
        let Some(member) = self.directory.membership().cloned() else { return };
        self.store(Membership { certificate, ..member }).await;
        // Who signed it is part of what a node reports.
        self.presence.report.issuer = decoded.issuer;
        self.presence.accepted = false;
        self.outside.trust.send_modify(|trust| trust.certificate = Some(decoded));
    }

    pub(super) async fn note_founded(&mut self) {
        if let Some(member) = self.directory.membership().cloned() {
            self.store(Membership { founding: None, ..member }).await;
        }
    }

    async fn store(&mut self, membership: Membership) {
        let mut directory = self.directory.clone();
        let written = self
            .write(move || {
                directory.store_membership(membership)?;
                Ok(directory)
            })
            .await;
        if let Some(directory) = written {
            self.directory = directory;
        }
    }

    pub(super) async fn take_issuing_key(&mut self, seed: Option<[u8; 32]>) {
        let directory = self.directory.clone();
        if self.write(move || directory.store_issuing_seed(seed)).await.is_some() {
            self.issuing = seed.map(|seed| Arc::new(IssuingKey::from_seed(seed)));
            self.keyed.clear();
            tracing::info!(kept = seed.is_some(), group = %GroupId::META, "issuing key");
        }
    }

    /// Writes a node file off this task; a failure stops the node.
    async fn write<T: Send + 'static>(
        &self,
        write: impl FnOnce() -> Result<T, DirectoryError> + Send + 'static,
    ) -> Option<T> {
        match self.context.workers.run(write).await {
            Ok(Ok(value)) => Some(value),
            Ok(Err(error)) => {
                self.stop(Fatal::Storage(error.to_string()));
                None
            }
            Err(error) => {
                self.stop(Fatal::Storage(error.to_string()));
                None
            }
        }
    }
}
