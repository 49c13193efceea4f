//! Whom a node lets in: pure rules over what the cluster said last. A valid
//! certificate that is not revoked is enough, so that stale membership can
//! never lock a majority out.

use std::collections::BTreeSet;

use trine_types::{ClusterId, NodeId};

use crate::certificate::AdmissionCertificate;
use crate::error::RefusalReason;

/// How far a peer's clock may be ahead when it issues a certificate, in ms.
pub const CLOCK_LEEWAY_MS: u64 = 60_000;

/// What a node knows about who belongs. Handed to a transport through a
/// `watch` channel; each new value is applied to open connections at once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trust {
    /// The node's cluster. Without one it can only join.
    pub cluster: Option<ClusterId>,
    /// Public halves of the issuing keys whose certificates are valid.
    pub issuers: BTreeSet<[u8; 32]>,
    /// Keys that were nodes and are no longer, whatever certificate they show.
    pub revoked: BTreeSet<NodeId>,
    /// What this node shows to others.
    pub certificate: Option<AdmissionCertificate>,
}

impl Trust {
    /// Whether `peer`, who proved its key and shows `certificate`, may connect
    /// at `now_ms`.
    ///
    /// # Errors
    /// Why not.
    pub fn admit(
        &self,
        peer: NodeId,
        certificate: &AdmissionCertificate,
        now_ms: u64,
    ) -> Result<(), RefusalReason> {
        let admission = &certificate.admission;
        if self.cluster != Some(admission.cluster) {
            return Err(RefusalReason::OtherCluster);
        }
        if self.revoked.contains(&peer) {
            return Err(RefusalReason::Revoked);
        }
        if admission.node != peer {
            return Err(RefusalReason::OtherKey);
        }
        if !self.knows_issuer(certificate) || !certificate.is_signed() {
            return Err(RefusalReason::BadCertificate);
        }
        if now_ms.saturating_add(CLOCK_LEEWAY_MS) < admission.not_before_ms || now_ms > admission.not_after_ms
        {
            return Err(RefusalReason::Expired);
        }
        Ok(())
    }

    /// Whether the certificate's issuer is valid here, or follows one that is.
    fn knows_issuer(&self, certificate: &AdmissionCertificate) -> bool {
        let endorsements = certificate.endorsements();
        let mut key = certificate.issuer;
        for _ in 0..=endorsements.len() {
            if self.issuers.contains(&key) {
                return true;
            }
            let earlier = endorsements.iter().find(|word| word.of == key && word.is_signed());
            let Some(earlier) = earlier else { return false };
            key = earlier.by;
        }
        false
    }

    /// Whether a connection that was admitted by `certificate` may stay.
    /// Expiry is not asked again: the peer may have renewed meanwhile.
    #[must_use]
    pub fn keeps(&self, peer: NodeId, certificate: &AdmissionCertificate) -> bool {
        !self.revoked.contains(&peer) && self.knows_issuer(certificate)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::certificate::tests::admission;
    use crate::endorsement::Endorsement;
    use crate::identity::IssuingKey;

    const ANN: NodeId = NodeId([1; 32]);
    const BOB: NodeId = NodeId([2; 32]);

    fn trust(issuer: &IssuingKey) -> Trust {
        Trust {
            cluster: Some(ClusterId([5; 16])),
            issuers: BTreeSet::from([issuer.public()]),
            ..Trust::default()
        }
    }

    #[test]
    fn each_thing_that_is_wrong_has_its_reason() {
        let issuer = IssuingKey::from_seed([7; 32]);
        let mut trust = trust(&issuer);
        let good = AdmissionCertificate::issue(admission(ANN), &issuer);
        assert_eq!(trust.admit(ANN, &good, 1_500), Ok(()));
        assert_eq!(trust.admit(BOB, &good, 1_500), Err(RefusalReason::OtherKey));
        assert_eq!(trust.admit(ANN, &good, 2_001), Err(RefusalReason::Expired));
        let stranger = IssuingKey::from_seed([8; 32]);
        let forged = AdmissionCertificate::issue(admission(ANN), &stranger);
        assert_eq!(trust.admit(ANN, &forged, 1_500), Err(RefusalReason::BadCertificate));
        let mut elsewhere = admission(ANN);
        elsewhere.cluster = ClusterId([6; 16]);
        let elsewhere = AdmissionCertificate::issue(elsewhere, &issuer);
        assert_eq!(trust.admit(ANN, &elsewhere, 1_500), Err(RefusalReason::OtherCluster));
        trust.revoked.insert(ANN);
        assert_eq!(trust.admit(ANN, &good, 1_500), Err(RefusalReason::Revoked));
        assert!(!trust.keeps(ANN, &good));
    }

    #[test]
    fn who_knows_only_an_old_key_believes_those_that_it_endorsed() {
        let [old, newer, newest] = [7, 8, 9].map(|seed| IssuingKey::from_seed([seed; 32]));
        let trust = trust(&old);
        let signed = || AdmissionCertificate::issue(admission(ANN), &newest);
        let words =
            || vec![Endorsement::give(&newer, newest.public()), Endorsement::give(&old, newer.public())];
        assert_eq!(trust.admit(ANN, &signed().endorsed(words()), 1_500), Ok(()));
        assert!(trust.keeps(ANN, &signed().endorsed(words())) && !trust.keeps(ANN, &signed()));
        let refused = Err(RefusalReason::BadCertificate);
        assert_eq!(trust.admit(ANN, &signed(), 1_500), refused, "nobody vouches");
        assert_eq!(trust.admit(ANN, &signed().endorsed(words().split_off(1)), 1_500), refused, "a gap");
        let mut forged = words();
        forged[1] = Endorsement { by: old.public(), ..Endorsement::give(&newer, newer.public()) };
        assert_eq!(trust.admit(ANN, &signed().endorsed(forged), 1_500), refused, "a forged word");
        let circle =
            vec![Endorsement::give(&newer, newest.public()), Endorsement::give(&newest, newer.public())];
        assert_eq!(trust.admit(ANN, &signed().endorsed(circle), 1_500), refused, "a circle");
    }

    #[test]
    fn a_certificate_of_a_clock_slightly_ahead_is_valid() {
        let issuer = IssuingKey::from_seed([7; 32]);
        let mut early = admission(ANN);
        early.not_before_ms = 100_000;
        early.not_after_ms = 900_000;
        let early = AdmissionCertificate::issue(early, &issuer);
        assert_eq!(trust(&issuer).admit(ANN, &early, 99_000), Ok(()));
        assert_eq!(trust(&issuer).admit(ANN, &early, 39_000), Err(RefusalReason::Expired));
    }

    #[test]
    fn who_has_no_cluster_admits_nobody() {
        let issuer = IssuingKey::from_seed([7; 32]);
        let good = AdmissionCertificate::issue(admission(ANN), &issuer);
        assert_eq!(Trust::default().admit(ANN, &good, 1_500), Err(RefusalReason::OtherCluster));
    }
}
