//! How a data directory becomes a node's: it founds a cluster or joins one.
//! Either ends with one durable file, so that a crash before it leaves a
//! machine that may simply try again.

use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use trine_transport::{
    Admission, AdmissionCertificate, Identity, IssuingKey, JoinError, Ticket, Transport, Trust,
};
use trine_types::{Clock, ClusterId, Entropy, NodeId, NodeNumber};

use crate::codec;
use crate::config::Settings;
use crate::directory::{Directory, DirectoryError, Founding, Known, Membership};
use crate::nodes::Applicant;
use crate::state::{FEATURE_LEVEL, MetaState, PARTITIONS};

/// The bit of a certificate's roles that every full node has.
pub const ROLE_NODE: u32 = 1;

/// Certificates are valid this long before they are signed: clocks differ (ms).
const CERTIFICATE_LEEWAY_MS: u64 = 60_000;

/// Why a directory did not become a node's. It can be tried again, unless the
/// message says otherwise.
#[derive(Debug, thiserror::Error)]
pub enum MembershipError {
    /// The directory cannot be used.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// What the node says about itself is not acceptable.
    #[error("{0}")]
    Bad(String),
    /// The cluster did not admit it, or could not be reached.
    #[error(transparent)]
    Join(#[from] JoinError),
    /// The contact's answer is not understood.
    #[error("the contact's answer is not understood: is it a newer version?")]
    Answer,
}

/// What a joiner gets from the node that it joins through.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct JoinReply {
    /// Its number.
    pub number: NodeNumber,
    /// Its name, perhaps with a number appended.
    pub name: String,
    /// Its certificate.
    pub certificate: Vec<u8>,
    /// Whom to dial first.
    pub known: Known,
}

/// The node's key.
pub fn identity(directory: &Directory) -> Identity {
    Identity::from_seed(directory.identity_seed())
}

/// What a node says about itself, with this binary's features.
pub fn applicant(directory: &Directory, name: &str) -> Applicant {
    Applicant {
        id: identity(directory).node_id(),
        name: name.to_owned(),
        zone: String::new(),
        weight: crate::nodes::DEFAULT_WEIGHT,
        addresses: Vec::new(),
        features: FEATURE_LEVEL,
    }
}

/// Signs a certificate that begins now.
pub fn certify(
    key: &IssuingKey,
    cluster: ClusterId,
    node: NodeId,
    (number, name): (NodeNumber, &str),
    now_ms: u64,
    settings: &Settings,
) -> AdmissionCertificate {
    let life_ms = u64::try_from(settings.values().certificate_life.as_millis()).unwrap_or(u64::MAX);
    let admission = Admission {
        cluster,
        node,
        number,
        name: name.to_owned(),
        roles: ROLE_NODE,
        not_before_ms: now_ms.saturating_sub(CERTIFICATE_LEEWAY_MS),
        not_after_ms: now_ms.saturating_add(life_ms),
    };
    AdmissionCertificate::issue(admission, key)
}

/// Whether less than a third of a certificate's life is left.
pub fn is_due(certificate: &AdmissionCertificate, now_ms: u64) -> bool {
    let admission = &certificate.admission;
    let life_ms = admission.not_after_ms.saturating_sub(admission.not_before_ms);
    admission.not_after_ms.saturating_sub(now_ms) < life_ms / 3
}

/// Founds a cluster: this directory becomes its first node's. Blocking.
///
/// # Errors
/// [`MembershipError`]; the directory belongs to no cluster then.
pub fn found(
    directory: &mut Directory,
    founder: &Applicant,
    partitions: u16,
    (clock, entropy): (&dyn Clock, &dyn Entropy),
    settings: &Settings,
) -> Result<(), MembershipError> {
    if let Some(member) = directory.membership() {
        return Err(DirectoryError::AlreadyMember(member.cluster).into());
    }
    founder.check().map_err(MembershipError::Bad)?;
    if !PARTITIONS.contains(&partitions) {
        let (least, most) = (PARTITIONS.start(), PARTITIONS.end());
        return Err(MembershipError::Bad(format!("{partitions} partitions: choose {least} to {most}")));
    }
    let mut cluster = ClusterId::default();
    entropy.fill(&mut cluster.0);
    let key = IssuingKey::generate(entropy);
    let number = NodeNumber(1);
    let node = identity(directory).node_id();
    let certificate = certify(&key, cluster, node, (number, &founder.name), clock.wall_ms(), settings);
    directory.store_issuing_seed(Some(*key.seed()))?;
    directory.store_known(&Known {
        issuers: vec![key.public()],
        voters: vec![number],
        ..Known::default()
    })?;
    let founding = Founding { partitions, zone: founder.zone.clone(), weight: founder.weight };
    directory.store_membership(Membership {
        cluster,
        number,
        name: founder.name.clone(),
        certificate: certificate.encode(),
        founding: Some(founding),
    })?;
    Ok(())
}

/// Joins the cluster of `ticket`. A node that belongs to it already gets a
/// fresh certificate (its own may have run out while it was off).
///
/// # Errors
/// [`MembershipError`]; the directory is as before.
pub async fn join(
    directory: &mut Directory,
    transport: &Arc<dyn Transport>,
    ticket: Ticket,
    applicant: Applicant,
) -> Result<(), MembershipError> {
    directory.expect_cluster(ticket.cluster)?;
    applicant.check().map_err(MembershipError::Bad)?;
    let cluster = ticket.cluster;
    let reply = transport.join(ticket, codec::encode(&applicant)).await?;
    let reply: JoinReply = codec::decode(&reply, "join reply").map_err(|_| MembershipError::Answer)?;
    let certificate =
        AdmissionCertificate::decode(&reply.certificate).map_err(|_| MembershipError::Answer)?;
    let admission = &certificate.admission;
    if admission.node != applicant.id || admission.cluster != cluster || admission.number != reply.number {
        return Err(MembershipError::Answer);
    }
    directory.store_known(&reply.known)?;
    let JoinReply { number, name, certificate, .. } = reply;
    directory.store_membership(Membership { cluster, number, name, certificate, founding: None })?;
    Ok(())
}

/// Signs this node's own certificate afresh when it is due and the issuing key
/// is here: voters of `meta` come back after any time off. Blocking.
///
/// # Errors
/// [`DirectoryError`].
pub fn renew_by_own_key(
    directory: &mut Directory,
    clock: &dyn Clock,
    settings: &Settings,
) -> Result<(), DirectoryError> {
    let Some(member) = directory.membership().cloned() else { return Ok(()) };
    let Some(seed) = directory.issuing_seed()? else { return Ok(()) };
    let key = IssuingKey::from_seed(seed);
    let now_ms = clock.wall_ms();
    let own = AdmissionCertificate::decode(&member.certificate).ok();
    let due = own.as_ref().is_none_or(|own| is_due(own, now_ms));
    if !due || !directory.known()?.issuers.contains(&key.public()) {
        return Ok(());
    }
    let node = identity(directory).node_id();
    let fresh = certify(&key, member.cluster, node, (member.number, &member.name), now_ms, settings);
    // Of another issuer's words, those that lead to this key still count.
    let words = own.map(|own| own.endorsements().to_vec()).unwrap_or_default();
    directory.store_membership(Membership { certificate: fresh.endorsed(words).encode(), ..member })
}

/// What the transport shall trust before `meta` is followed. Blocking.
///
/// # Errors
/// [`DirectoryError`].
pub fn trust(directory: &Directory) -> Result<Trust, DirectoryError> {
    let Some(member) = directory.membership() else { return Ok(Trust::default()) };
    let known = directory.known()?;
    Ok(Trust {
        cluster: Some(member.cluster),
        issuers: known.issuers.into_iter().collect(),
        revoked: known.revoked.into_iter().collect(),
        certificate: AdmissionCertificate::decode(&member.certificate).ok(),
    })
}

/// What another node, or the next start of this one, must know of `meta`.
pub fn known(meta: &MetaState) -> Known {
    let peer = |node: &crate::nodes::NodeRow| {
        let peer = crate::directory::KnownPeer { id: node.id, addresses: node.addresses.clone() };
        (node.number, peer)
    };
    Known {
        peers: meta.nodes.values().map(peer).collect(),
        revoked: meta.revoked.keys().copied().collect(),
        issuers: meta.issuers.keys().copied().collect(),
        voters: meta.replicas_of(trine_types::GroupId::META),
    }
}

/// Bytes of a [`JoinReply`].
pub fn encode_reply(reply: &JoinReply) -> Bytes {
    codec::encode(reply)
}
