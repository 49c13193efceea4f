//! Stories of the rules of `meta`.

use super::*;
use crate::nodes::StartRefused;
use crate::nodes::tests::{applicant, report};
use crate::tickets::{TicketId, TicketRefused};

pub(crate) const CLUSTER: ClusterId = ClusterId([5; 16]);

pub(crate) fn created(partitions: u16) -> MetaState {
    let mut meta = MetaState::default();
    let answer = meta.apply(1_000, genesis(CLUSTER, partitions));
    assert_eq!(answer, Answer::Admitted { number: NodeNumber(1), name: "host1".into() });
    meta
}

fn genesis(cluster: ClusterId, partitions: u16) -> Command {
    Command::Genesis { cluster, partitions, issuer: [8; 32], founder: applicant(1) }
}

fn ticket(meta: &mut MetaState, n: u8, uses: u32) -> TicketId {
    let id = TicketId([n; 8]);
    let answer = meta.apply(2_000, Command::IssueTicket { id, verifier: [n; 32], life_ms: 10_000, uses });
    assert_eq!(answer, Answer::Ticket { not_after_ms: 12_000 });
    id
}

pub(crate) fn join(meta: &mut MetaState, n: u8) -> Answer {
    let ticket = ticket(meta, n, 1);
    meta.apply(3_000, Command::Admit { ticket, applicant: applicant(n) })
}

fn refused(answer: Answer) -> Refusal {
    match answer {
        Answer::Refused(refusal) => refusal,
        other => panic!("not refused: {other:?}"),
    }
}

#[test]
fn a_cluster_is_created_once() {
    let mut meta = created(4);
    assert_eq!(meta.assignments.len(), 6, "meta, jobs and four partitions");
    let before = meta.clone();
    assert!(matches!(meta.apply(1_500, genesis(CLUSTER, 4)), Answer::Admitted { .. }), "a lost answer");
    assert_eq!(refused(meta.apply(1_500, genesis(ClusterId([6; 16]), 4))), Refusal::AlreadyCreated);
    assert_eq!(meta, before);
}

#[test]
fn a_ticket_admits_one_node_and_its_retries() {
    let mut meta = created(1);
    let ticket = ticket(&mut meta, 2, 1);
    let admit = |n: u8| Command::Admit { ticket, applicant: applicant(n) };
    let second = Answer::Admitted { number: NodeNumber(2), name: "host2".into() };
    assert_eq!(meta.apply(3_000, admit(2)), second);
    assert_eq!(meta.apply(3_100, admit(2)), second);
    assert_eq!(refused(meta.apply(3_200, admit(3))), Refusal::Ticket(TicketRefused::Used));
    assert_eq!(refused(meta.apply(99_000, admit(2))), Refusal::Ticket(TicketRefused::Expired));
    assert_eq!(meta.nodes.len(), 2);
}

#[test]
fn a_removed_node_stays_out_and_its_number_is_not_reused() {
    let mut meta = created(1);
    join(&mut meta, 2);
    assert_eq!(meta.apply(4_000, Command::Remove { number: NodeNumber(2), force: false }), Answer::Done);
    let ticket = ticket(&mut meta, 9, 1);
    let again = Command::Admit { ticket, applicant: applicant(2) };
    assert_eq!(refused(meta.apply(4_500, again)), Refusal::Revoked);
    assert_eq!(join(&mut meta, 3), Answer::Admitted { number: NodeNumber(3), name: "host3".into() });
    let gone = refused(meta.apply(5_000, Command::Start(report(2, 9, 9))));
    assert_eq!(gone, Refusal::Start(StartRefused::NotANode(NodeNumber(2))));
    assert_eq!(meta.certifiable(&NodeId([2; 32])), None);
}

#[test]
fn a_node_with_replicas_is_removed_only_by_force() {
    let mut meta = created(1);
    join(&mut meta, 2);
    let group = GroupId::partition(0);
    let both = vec![NodeNumber(2), NodeNumber(1)];
    assert_eq!(meta.apply(4_000, Command::Assign { changes: vec![(group, 1, both.clone())] }), Answer::Done);
    assert_eq!(
        refused(meta.apply(4_000, Command::Assign { changes: vec![(group, 1, both)] })),
        Refusal::Outdated
    );
    let remove = |force| Command::Remove { number: NodeNumber(2), force };
    assert_eq!(
        refused(meta.apply(4_000, remove(false))),
        Refusal::StillHolds { number: NodeNumber(2), groups: 1 }
    );
    assert_eq!(meta.apply(4_000, remove(true)), Answer::Done);
    assert_eq!(meta.assignments[&group].replicas, [NodeNumber(1)]);
    assert_eq!(meta.assignments[&group].revision, 3);
}

#[test]
fn the_last_node_stays() {
    let mut meta = created(1);
    let number = NodeNumber(1);
    assert_eq!(refused(meta.apply(4_000, Command::Leave { number })), Refusal::LastNode(number));
    assert_eq!(
        refused(meta.apply(4_000, Command::Remove { number, force: true })),
        Refusal::LastNode(number)
    );
}

#[test]
fn the_feature_level_rises_when_all_nodes_know_it() {
    let mut meta = created(1);
    join(&mut meta, 2);
    meta.nodes.get_mut(&NodeNumber(1)).expect("founder").features = 2;
    assert!(matches!(meta.apply(4_000, Command::RaiseLevel { to: 2 }), Answer::Refused(_)));
    meta.nodes.get_mut(&NodeNumber(2)).expect("second").features = 2;
    assert_eq!(meta.apply(4_000, Command::RaiseLevel { to: 2 }), Answer::Done);
    assert!(matches!(meta.apply(4_000, Command::RaiseLevel { to: 1 }), Answer::Refused(_)));
}

#[test]
fn the_issuing_key_is_replaced_when_a_node_that_had_it_is_removed() {
    let mut meta = created(1);
    join(&mut meta, 2);
    meta.apply(4_000, Command::Start(report(1, 1, 1)));
    assert_eq!(meta.apply(4_000, Command::Remove { number: NodeNumber(2), force: false }), Answer::Done);
    assert!(!meta.cluster.as_ref().expect("created").rotation_due, "it never voted in meta");
    join(&mut meta, 3);
    let voters = vec![NodeNumber(1), NodeNumber(3)];
    meta.apply(4_000, Command::Assign { changes: vec![(GroupId::META, 1, voters)] });
    assert_eq!(meta.apply(4_000, Command::Remove { number: NodeNumber(3), force: true }), Answer::Done);
    assert!(meta.cluster.as_ref().expect("created").rotation_due);
    let word = |by, of| EndorsedBy { by: [by; 32], of: [of; 32], signature: vec![by; 64] };
    let rotate = |by, of| Command::RotateIssuer { key: [of; 32], endorsement: Some(word(by, of)) };
    assert_eq!(meta.apply(4_000, rotate(8, 9)), Answer::Done);
    let mut again = meta.clone();
    assert_eq!(again.apply(4_000, rotate(9, 10)), Answer::Done);
    let chain: Vec<_> = again.endorsements(&[10; 32]).iter().map(|word| (word.by[0], word.of[0])).collect();
    assert_eq!(chain, [(9, 10), (8, 9)], "who knows 8 finds the way to 10");
    assert_eq!((meta.newest_issuer(), meta.retired_issuer()), (Some([9; 32]), None));
    let mut renewed = report(1, 1, 1);
    renewed.issuer = [9; 32];
    meta.apply(4_000, Command::Start(renewed));
    assert_eq!(meta.retired_issuer(), Some([8; 32]));
    assert_eq!(meta.apply(4_000, Command::RetireIssuer { key: [8; 32] }), Answer::Done);
    assert!(matches!(meta.apply(4_000, Command::RetireIssuer { key: [9; 32] }), Answer::Refused(_)));
}

#[test]
fn only_lost_groups_are_recreated() {
    let mut meta = created(2);
    join(&mut meta, 2);
    let group = GroupId::partition(0);
    let recreate = Command::Recreate { groups: vec![group] };
    let settle = Command::Settle { group, revision: 1, members: BTreeSet::from([NodeNumber(1)]) };
    assert_eq!(meta.apply(4_000, settle), Answer::Done);
    assert!(matches!(meta.apply(4_000, recreate.clone()), Answer::Refused(_)));
    assert_eq!(meta.apply(4_000, Command::Remove { number: NodeNumber(1), force: true }), Answer::Done);
    assert_eq!(meta.apply(4_000, recreate), Answer::Done);
    let row = &meta.assignments[&group];
    assert!(row.unborn && row.replicas == [NodeNumber(2)], "{row:?}");
}

#[test]
fn nodes_are_found_by_what_people_type() {
    let mut meta = created(1);
    join(&mut meta, 2);
    let key = NodeId([2; 32]).short();
    for text in ["host2", "2", "n2", &key] {
        assert_eq!(meta.node_by_text(text).map(|n| n.number), Some(NodeNumber(2)), "{text}");
    }
    assert_eq!(meta.node_by_text("3"), None);
}
